"""What the emotion tasks are asked and what they return: frozen records that both doors fill in and read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.arrays import EmbedSettings
from core.scoring import CorpusSettings, EmbeddingMap, EmotionFindings, HeadSettings, LabelledCorpus

BASELINES = ("log-mel", "egemaps")


@dataclass(frozen=True)
class EmotionRequest:
    """Labelled recordings, and what is to be made of them.

    Attributes:
        data: A folder, a zip, a CSV list, an audformat folder or an EmoBox jsonl.
        features_dir: Folder that keeps the clips' features.
        corpus: How ``data`` is read.
        embed: The encoder and how it runs and hears; its ``layers`` are not used.
        head: How a head is trained.
        folds: ``auto`` (leave one speaker out up to 10 speakers, groups of speakers beyond), ``loso``, ``split`` (the
            data's own) or a number.
        test: A second corpus: trained on one, tested on the other, both ways.
        test_mapping: Class of each label that the second corpus gives.
        baseline: One of BASELINES.
        shuffled: Whether to evaluate a linear head with shuffled labels as well.
        bandwidth: Kilobits a second of a codec's quantised output, which is then the layer; None for its encoder's.
        confined: Whether a list may only name files below its own folder, as for one that a stranger sent.
        card: What only a person can say of a head that is trained; see ``core.checkpoints.head_card``.
    """

    data: Path
    features_dir: Path
    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    folds: str = "auto"
    test: Path | None = None
    test_mapping: Mapping[str, str] | None = None
    baseline: str = "log-mel"
    shuffled: bool = True
    bandwidth: float | None = None
    confined: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifySettings:
    """How a recording is classified.

    Attributes:
        window_seconds: Length of the windows of the timeline.
        hop_seconds: From one window's beginning to the next's.
        threshold: Confidence below which nothing is said; None takes the head's own.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        engine: ``auto``, ``torch`` or ``openvino``.
        precision: ``fp32`` or ``bf16``; ``auto`` takes what the head was trained with, and float32 where that is not to
            be had.
        channel: Channel to take, from 1 on; None averages all channels.
        max_seconds: Longest recording accepted; None for any length.
        loudness: ``keep`` or ``normalise``; ``auto`` takes what the head was trained with.
    """

    window_seconds: float = 2.0
    hop_seconds: float = 0.5
    threshold: float | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    channel: int | None = None
    max_seconds: float | None = None
    loudness: str = "auto"


@dataclass(frozen=True)
class TrainedHead:
    """A head on disk, and what its kind was found to be worth on speakers that were held out."""

    folder: Path
    labels: tuple[str, ...]
    findings: EmotionFindings


@dataclass(frozen=True)
class EmotionEmbeddings:
    """Clip embeddings: ``files`` by name (``embeddings``, ``labels``, ``sources`` and tables), and their map."""

    files: Mapping[str, Path]
    map: EmbeddingMap
    corpus: LabelledCorpus
