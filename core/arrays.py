"""The frozen records that travel between floors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.clock import FrameClock


@dataclass(frozen=True)
class Progress:
    """How far a long task is: ``done`` of ``total`` in ``unit``; ``stage`` names what is being done."""

    stage: str
    done: float
    total: float
    unit: str = "s"


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """Take a progress report and do nothing."""


@dataclass(frozen=True)
class EmbedSettings:
    """What to compute.

    Attributes:
        model: Bundled name, local folder in transformers' format, or hub id.
        layers: ``last``, ``all`` or numbers such as ``0,6,12`` (0 = the transformer's input, N =
            ``last_hidden_state``).
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        engine: ``auto``, ``torch`` or ``openvino``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        chunk_seconds: Seconds that a window keeps; memory grows with it.
        context_seconds: Seconds of context on each side of a window; None takes the default for the model.
        channel: Channel to take, from 1 on; None averages all channels.
        max_seconds: Longest recording accepted; None for any length.
        loudness: ``keep``, or ``normalise`` to bring every recording to one root mean square before the model hears it.
        numpy_rate: Sampling rate, in Hz, of MEG in ``.npy`` files that have no ``.json`` beside them.
    """

    model: str = ""
    layers: str = "last"
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    chunk_seconds: float = 20.0
    context_seconds: float | None = None
    channel: int | None = None
    max_seconds: float | None = None
    loudness: str = "keep"
    numpy_rate: float | None = None


@dataclass(frozen=True)
class OutputSettings:
    """Where results go: ``folder/base.suffix`` for each format; ``base`` None takes the input's stem."""

    folder: Path
    base: str | None = None
    formats: tuple[str, ...] = ("npy", "mat", "json")
    force: bool = False


@dataclass(frozen=True)
class EmbeddingInfo:
    """What a set of embeddings is, before and beside its values.

    Attributes:
        clock: Times of the frames.
        layers: Layer numbers, in the order of the array's first axis.
        n_frames: Frames of the whole recording.
        dim: Values a frame.
        metadata: JSON-ready facts: model, device, engine, precision, versions, hashes, settings.
    """

    clock: FrameClock
    layers: tuple[int, ...]
    n_frames: int
    dim: int
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def squeezed(self) -> bool:
        """Whether files hold (n_frames, dim) instead of (n_layers, n_frames, dim): only one layer was asked for."""
        return len(self.layers) == 1


@dataclass(frozen=True)
class EmbedResult:
    """What an embed task left on disk: ``files`` by format, ``problems`` by format, and the metadata of the JSON."""

    source: Path
    files: dict[str, Path]
    info: EmbeddingInfo
    problems: dict[str, str] = field(default_factory=dict)
    skipped: bool = False

    @property
    def onset(self) -> np.ndarray:
        """Seconds at which each frame begins, (n_frames,) float64."""
        return self.info.clock.onset(np.arange(self.info.n_frames))

    @property
    def centre(self) -> np.ndarray:
        """Seconds at each frame's middle, (n_frames,) float64."""
        return self.info.clock.centre(np.arange(self.info.n_frames))

    def embeddings(self) -> np.ndarray:
        """Open the ``.npy`` as a read-only memory map: (n_frames, dim); several layers: (n_layers, n_frames, dim)."""
        return np.load(self.files["npy"], mmap_mode="r", allow_pickle=False)
