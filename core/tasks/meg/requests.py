"""What the MEG tasks are asked and what they return: frozen records that both doors fill in and read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.sensors import Preparation
from core.training.pretrain_settings import PretrainResult, PretrainSettings

__all__ = [
    "PrepareRequest",
    "PrepareSummary",
    "PretrainRequest",
    "PretrainResult",
    "PretrainSettings",
    "ProbeFindings",
    "ProbeRequest",
    "ProbeScore",
    "SimulateRequest",
    "Simulation",
]


@dataclass(frozen=True)
class SimulateRequest:
    """A recording to simulate.

    Attributes:
        output: The ``.fif`` to write.
        seconds: Its length.
        seed: Of everything in it.
        subject: Another one has another head position and other source places, and the same labels.
        sampling_rate: Hz.
        force: Whether a file that is there may be replaced.
    """

    output: Path
    seconds: float = 120.0
    seed: int = 0
    subject: int = 0
    sampling_rate: float = 250.0
    force: bool = False


@dataclass(frozen=True)
class Simulation:
    """What was simulated: the file, how often each label occurs, and facts (sources, noise levels, versions)."""

    path: Path
    labels: Mapping[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PrepareRequest:
    """Recordings to prepare for pre-training.

    Attributes:
        inputs: Folders (searched with their sub-folders for ``file_pattern``) and recordings.
        output_dir: Gets ``meg_%06d_%03d.npy``, ``train.txt``, ``eval.txt`` and ``manifest.json``.
        file_pattern: Of recordings in folders.
        segment_length: Samples of a segment, at the prepared rate; the last segment of a recording is dropped where
            it is shorter, and how much was dropped is recorded.
        split_ratio: Share of the recordings (of the subjects with ``split_by`` subject; of the blocks where there is
            one recording) that train.
        preparation: Filters, rate, layout.
        numpy_rate: Sampling rate of ``.npy`` recordings that have no ``.json`` beside them.
        gap_seconds: Left out between blocks of one recording that go to different parts.
        seed: Of the split.
        workers: Processes; 0 takes as many as there are cores.
        force: Whether files of another preparation in ``output_dir`` may be replaced.
        split_by: What goes to one part as a whole: ``recording``, or ``subject`` with all its recordings.
    """

    inputs: tuple[Path, ...]
    output_dir: Path
    file_pattern: str = "*.fif"
    segment_length: int = 5000
    split_ratio: float = 0.9
    preparation: Preparation = field(default_factory=Preparation)
    numpy_rate: float | None = None
    gap_seconds: float = 5.0
    seed: int = 0
    workers: int = 0
    force: bool = False
    split_by: str = "recording"


@dataclass(frozen=True)
class PrepareSummary:
    """What a prepared folder holds.

    Attributes:
        folder: The output folder.
        segments: By part: ``{"train": 90, "eval": 10}``.
        seconds: By part.
        recordings: For each recording: name, part(s), segments, how its channels were fitted, bads, warnings.
        warnings: Sentences.
        skipped: Recordings that were prepared before and did not have to be done again.
    """

    folder: Path
    segments: Mapping[str, int]
    seconds: Mapping[str, float]
    recordings: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...] = ()
    skipped: int = 0


@dataclass(frozen=True)
class PretrainRequest:
    """A run of pre-training.

    Attributes:
        settings: All settings; see :class:`core.training.pretrain_settings.PretrainSettings`.
        output_dir: Of the run.
        resume: Whether to go on with what ``output_dir`` holds; without it a folder that holds a run is refused.
        until: Stop with a checkpoint after so many steps, without changing the schedule; None goes to the end.
    """

    settings: PretrainSettings
    output_dir: Path
    resume: bool = False
    until: int | None = None


@dataclass(frozen=True)
class ProbeRequest:
    """A linear probe of labels in recordings.

    Attributes:
        model: Bundled name or folder of a trained Meg2Vec.
        recordings: With annotations; at least two, for folds of whole recordings.
        target: ``label`` (the annotations), ``subject`` or ``session`` (from the recordings: the leakage probe).
        window_seconds: Of each example: from the annotation's onset on, and side by side in longer annotations; or the
            windows that a leakage probe cuts.
        layers: As in ``embed``.
        controls: Of ``random`` (same architecture, random weights), ``band-power``, ``riemann`` (tangent space).
        seed: Of the random weights and of the bootstrap.
        numpy_rate: Sampling rate of ``.npy`` recordings that have no ``.json`` beside them.
    """

    model: str
    recordings: tuple[Path, ...]
    target: str = "label"
    window_seconds: float = 0.5
    layers: str = "all"
    controls: tuple[str, ...] = ("random", "band-power", "riemann")
    device: str = "auto"
    seed: int = 0
    numpy_rate: float | None = None


@dataclass(frozen=True)
class ProbeScore:
    """Balanced accuracy of one kind of features, with its 95 % interval over recordings.

    Attributes:
        name: ``model``, ``random``, ``band-power``, ``riemann``.
        layer: Chosen on training recordings only; None for features without layers.
        score: Over all held-out recordings.
        interval: By bootstrap over recordings.
        by_layer: Held-out score of each layer, for the curve; empty without layers.
        note: A sentence, such as why a control could not be computed.
    """

    name: str
    layer: int | None
    score: float
    interval: tuple[float, float]
    by_layer: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ProbeFindings:
    """What a probe found: the scores, the classes, examples by class, recordings, folds, chance, and warnings."""

    target: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    recordings: tuple[str, ...]
    folds: int
    chance: float
    scores: tuple[ProbeScore, ...]
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
