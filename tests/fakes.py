"""A stand-in for ``core.tasks`` without a trained network: an encoder of random projections, honest about its frames.

It reads with core.audio and counts frames with core.clock, so that what the page shows of it can be checked; only the
numbers in the frames are made up (a fixed random projection of the power spectrum).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import EmbeddingInfo, EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress, ignore_progress
from core.audio.signal import Signal, open_signal
from core.clock import FrameClock
from core.errors import CheckpointError, InputError

CLOCK = FrameClock(hop=320, field=400, sampling_rate=16_000)
N_LAYERS = 4
DIM = 96


@dataclass(frozen=True)
class FakeModel:
    name: str
    where: str = "bundled"
    n_layers: int = N_LAYERS
    dim: int = DIM
    note: str = ""
    modality: str = "audio"


@dataclass(frozen=True)
class FakeTasks:
    """Attributes: ``slowness``, seconds that each tenth of a recording takes."""

    slowness: float = 0.0

    def list_models(self, *, ask_hub: bool = True) -> Sequence[FakeModel]:
        return [FakeModel("fake-encoder"), FakeModel("another-fake", n_layers=2)]

    def embed(
        self,
        source: Path,
        settings: EmbedSettings,
        output: OutputSettings,
        on_progress: OnProgress = ignore_progress,
    ) -> EmbedResult:
        if settings.model not in {"fake-encoder", "another-fake"}:
            raise CheckpointError(f"There is no model {settings.model!r}. Take 'fake-encoder'.")
        begun, layers = time.monotonic(), layer_numbers(settings.layers)
        with open_signal(source, 16_000, settings.channel, settings.max_seconds, on_progress) as signal:
            n_frames = CLOCK.require_frames(signal.n_samples, source.name)
            self._pretend(signal.duration_seconds, on_progress)
            values = np.stack([features(signal, n_frames, layer) for layer in layers])
        metadata = {
            "model_name": settings.model, "device": "cpu", "device_reason": "no GPU here", "engine": "fake",
            "engine_reason": "random numbers need no network", "precision": "fp32", "sample_rate": 16_000,
            "num_frames": n_frames, "hidden_size": DIM, "frame_stride": 0.02, "layers": list(layers), "channel": None,
            "duration_seconds": signal.duration_seconds, "seconds_taken": time.monotonic() - begun,
            "warnings": ["This encoder is random: it shows the page, not the sound."],
        }  # fmt: skip
        info = EmbeddingInfo(CLOCK, layers, n_frames, DIM, metadata)
        return EmbedResult(source, write(values, info, output, source.stem), info)

    def _pretend(self, seconds: float, on_progress: OnProgress) -> None:
        for tenth in range(11):
            on_progress(Progress("embed", seconds * tenth / 10, seconds))
            time.sleep(self.slowness)


def layer_numbers(text: str) -> tuple[int, ...]:
    if text == "last":
        return (N_LAYERS,)
    if text == "all":
        return tuple(range(N_LAYERS + 1))
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"Got layers {text!r}; expected last, all, or numbers such as 0,2.") from error


def features(signal: Signal, n_frames: int, layer: int) -> np.ndarray:
    """(n_frames, DIM) float32: random directions through the log spectrum, another set for each layer."""
    samples = signal.read(0, signal.n_samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, CLOCK.field)[:: CLOCK.hop][:n_frames]
    spectrum = np.log(np.abs(np.fft.rfft(windows * np.hanning(CLOCK.field), axis=1)) + 1e-3)
    directions = np.random.default_rng(layer).normal(size=(spectrum.shape[1], DIM)) / 14
    return np.tanh(spectrum @ directions).astype(np.float32)


def write(values: np.ndarray, info: EmbeddingInfo, output: OutputSettings, stem: str) -> dict[str, Path]:
    output.folder.mkdir(parents=True, exist_ok=True)
    base, squeezed = output.base or stem, values[0] if info.squeezed else values
    files = {kind: output.folder / f"{base}.{kind}" for kind in output.formats if kind in {"npy", "json", "npz", "mat"}}
    for kind, path in files.items():
        if kind == "npy":
            np.save(path, squeezed)
        elif kind == "npz":
            np.savez(path, **{f"layer_{n}": layer for n, layer in zip(info.layers, values, strict=True)})
        elif kind == "mat":
            from scipy.io import savemat

            savemat(path, {"embeddings": squeezed, "time_axis": info.clock.onset(np.arange(info.n_frames))})
        else:
            path.write_text(json.dumps(info.metadata), encoding="utf-8")
    return files
