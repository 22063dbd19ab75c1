"""What a layerwise analysis is asked for and what it found: frozen records, from the analysis to both doors.

A *row* is what is counted: a frame, or the mean over a phone or a word (the span). ``n_frames`` always counts frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SPANS = ("frame", "phone", "word", "label")
SIMILARITIES = ("cka", "cosine", "pwcca")


@dataclass(frozen=True)
class LayersSettings:
    """What to analyse.

    Attributes:
        layers: ``all`` or numbers such as ``0,6,12``.
        span: ``frame``; ``phone`` (mean of the middle third) or ``word`` (mean of all its frames), which need
            alignments; ``label`` (mean of all its frames), an annotation of a MEG recording.
        alignments: Folder with an alignment for each recording, found by its name; None for none.
        num_files: Recordings to take at most, in their order; None for all.
        similarity: ``cka`` (unbiased, linear), ``cosine`` (row by row) or ``pwcca`` (held out).
        perplexity: Of the t-SNE; below a third of the points.
        max_points: Points drawn at most, and used for t-SNE, intervals, probes and the other properties.
        max_frames: Rows that similarities, ranks and principal axes are computed from at most, evenly spread; None
            for all. Means, deviations and variances are always of all rows.
        tsne: Whether to compute t-SNE.
        properties: Whether to compute what the layers hold: log-mel (of MEG band powers), phones, words, speakers.
        control: Whether to analyse the same architecture with random weights beside.
        seed: Of every draw.
    """

    layers: str = "all"
    span: str = "frame"
    alignments: Path | None = None
    num_files: int | None = None
    similarity: str = "cka"
    perplexity: float = 30.0
    max_points: int = 5_000
    max_frames: int | None = 5_000
    tsne: bool = True
    properties: bool = True
    control: bool = False
    seed: int = 0


@dataclass(frozen=True)
class RowTable:
    """Where rows come from; all arrays have one entry a row.

    Attributes:
        recordings: Names of all recordings of the analysis.
        recording: (n,) int32, index into ``recordings``.
        start: (n,) float64, seconds at which the row begins (a frame's onset, a segment's start).
        stop: (n,) float64, seconds at which it ends.
        labels: By kind (``phone``, ``word``, ``speaker``, ``label``): (n,) strings, empty where unknown.
        n_total: Rows that these were drawn from.
    """

    recordings: tuple[str, ...]
    recording: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    n_total: int = 0

    def __len__(self) -> int:
        return len(self.recording)

    def take(self, rows: np.ndarray) -> "RowTable":
        """Keep some rows, by index or by mask."""
        kept = {name: values[rows] for name, values in self.labels.items()}
        return RowTable(self.recordings, self.recording[rows], self.start[rows], self.stop[rows], kept, self.n_total)


@dataclass(frozen=True)
class Points:
    """Rows with their values, in memory.

    Attributes:
        layers: Layer numbers, ascending.
        values: (n_layers, n, dim) float32.
        table: Where each of the n rows comes from.
    """

    layers: tuple[int, ...]
    values: np.ndarray
    table: RowTable


@dataclass(frozen=True)
class LayerStatistics:
    """One layer over all rows of all recordings; nothing is ever padded.

    Attributes:
        index: The layer's number.
        n: Rows.
        mean: Of all values.
        std: Of all values (square root of the mean squared deviation from ``mean``).
        variances: (dim,) float64, variance of each dim over rows (n - 1 in the denominator).
        variance_quantiles: Of ``variances``: keys ``0``, ``0.05``, ``0.25``, ``0.5``, ``0.75``, ``0.95``, ``1``.
        anisotropy: Mean cosine of two different rows, exact over all pairs (Ethayarajh 2019).
        outlier_dimensions: Dims whose mean square is over ``OUTLIER_FACTOR`` times the median's of all dims that
            are not zero, largest first.
        effective_rank: Exponential of the entropy of the covariance's normalised eigenvalues (Roy & Vetterli 2007).
        participation_ratio: (sum of eigenvalues)^2 / sum of squares.
        n_used: Rows that the two ranks were computed from.
    """

    index: int
    n: int
    mean: float
    std: float
    variances: np.ndarray
    variance_quantiles: Mapping[str, float]
    anisotropy: float
    outlier_dimensions: tuple[int, ...]
    effective_rank: float
    participation_ratio: float
    n_used: int


@dataclass(frozen=True)
class Similarity:
    """How alike layers are: of one model with itself, or of one with another.

    Attributes:
        kind: ``cka``, ``cosine`` or ``pwcca``.
        models: Names of the model of the rows and of the columns.
        rows: Layer numbers.
        columns: Layer numbers.
        matrix: (n_rows, n_columns) float64.
        low: Lower end of the 95 % interval, bootstrap over recordings; None where there are fewer than two.
        high: Its upper end.
        n: Rows (frames or spans) that ``matrix`` was computed from.
        noise_floor: Size below which a value is noise: the .95 quantile of the absolute similarity of layers whose
            rows were shifted against each other in time, at ``n_floor`` rows.
        n_floor: Rows that the floor and the interval were computed from; with more rows the floor is lower.
        clusters: Neighbouring layers that belong together, within one model; empty for two models.
        note: What the numbers mean and what they were computed from, in a sentence.
    """

    kind: str
    models: tuple[str, str]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    matrix: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    n: int
    noise_floor: float
    n_floor: int
    clusters: tuple[tuple[int, ...], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class LayerProjection:
    """One layer's rows on few axes; the points are those of :attr:`ModelFindings.table`.

    Attributes:
        index: The layer's number.
        pca: (n, 3) float32; axes that do not exist are zero.
        explained: (10,) float64 or fewer, share of variance of each principal axis.
        noise_floor: As long: the share that the axis has where the same dims, with the same variances, are independent
            normal noise, at the same number of rows.
        n_fitted: Rows that the axes were fitted on.
        tsne: (n, 2) float32, or None.
        tsne_note: Perplexity, n, KL divergence and neighbours kept, or why there is none.
    """

    index: int
    pca: np.ndarray
    explained: np.ndarray
    noise_floor: np.ndarray
    n_fitted: int
    tsne: np.ndarray | None = None
    tsne_note: str = ""


@dataclass(frozen=True)
class Curve:
    """One property, a value a layer.

    Attributes:
        name: ``mel_cca`` (of MEG ``band_cca``), ``phone_cca``, ``word_cca``, ``phone_mi``, ``word_mi``,
            ``phone_accuracy``, ``speaker_accuracy`` or ``label_accuracy``.
        title: For people.
        measure: What is measured and in what unit, in a sentence.
        layers: Layer numbers.
        values: (n_layers,) float64.
        low: Lower end of the 95 % interval over groups, or None.
        high: Its upper end, or None.
        shuffled: (n_layers,) float64: the same with shuffled labels; None where there are none to shuffle.
        chance: Share of the most frequent class, or None.
        n: Rows.
        n_classes: Classes, or None.
        split: What never stands on both sides of a split: ``speaker``, ``recording`` or ``block``.
        note: What was left out and why.
    """

    name: str
    title: str
    measure: str
    layers: tuple[int, ...]
    values: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    shuffled: np.ndarray | None
    chance: float | None
    n: int
    n_classes: int | None
    split: str
    note: str = ""


@dataclass(frozen=True)
class ModelFindings:
    """All that was found about one model.

    Attributes:
        model: Its name; a control's is ``NAME (random weights)``.
        control: Whether these are random weights.
        fine_tuned: Whether the checkpoint was fine-tuned for a task (for transcription, say).
        facts: JSON-ready: architecture, hashes, clock, engine, precision, number of layers.
        layers: Layer numbers analysed, ascending.
        dim: Values a row.
        n_frames: Frames of all recordings.
        n_rows: Rows of all recordings: frames, phones or words.
        n_used: Rows that similarity and ranks were computed from.
        statistics: One a layer.
        similarity: Within the model.
        projections: One a layer.
        table: The rows that ``projections`` hold.
        curves: Properties; empty where none was asked for or none could be computed.
        skipped: Properties that could not be computed, with the reason.
    """

    model: str
    control: bool
    fine_tuned: bool
    facts: Mapping[str, Any]
    layers: tuple[int, ...]
    dim: int
    n_frames: int
    n_rows: int
    n_used: int
    statistics: tuple[LayerStatistics, ...]
    similarity: Similarity
    projections: tuple[LayerProjection, ...]
    table: RowTable
    curves: tuple[Curve, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LayersFindings:
    """All that an analysis found.

    Attributes:
        models: The model asked for, the one compared with, then the controls of each.
        cross: Layers of the first against layers of the second; None for one model.
        settings: As asked.
        recordings: JSON-ready facts of each recording: name, path, sha256, seconds, frames.
        failures: ``{"file", "error"}`` for each recording that could not be used.
        warnings: What the reader should know.
        versions: Of the packages that decide numbers.
        seconds: Wall-clock seconds by stage.
        created: UTC, ISO 8601.
    """

    models: tuple[ModelFindings, ...]
    cross: Similarity | None
    settings: LayersSettings
    recordings: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    created: str = ""

    @property
    def span(self) -> str:
        """What a row is: frame, phone, word or label."""
        return self.settings.span
