"""What the tasks on sites are asked and what they return: frozen records that both doors fill in and read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.sensors import Sensors
from core.training.site_settings import SiteSettings

__all__ = [
    "Agreement",
    "CompareFindings",
    "CompareRequest",
    "Recovery",
    "SimilarityRequest",
    "SiteDescription",
    "SiteSettings",
    "SiteSimilarity",
    "SiteTrainRequest",
    "SiteUploads",
]


@dataclass(frozen=True)
class SiteUploads:
    """Files that were sent together: the recordings among them, and a table of sites (None where there is none)."""

    recordings: tuple[Path, ...]
    table: Path | None = None


@dataclass(frozen=True)
class SiteDescription:
    """What is in a recording of sites.

    Attributes:
        path: The file or folder.
        format: Such as ``EDF``.
        sites: Names, kinds, and positions in metres (NaN where unknown).
        flat: (n, 2) seen from above; NaN where unknown.
        regions: Of the sites; empty where unknown.
        sampling_rate: Hz.
        seconds: Its length.
        left_out: Channels that are no sites, with the reason.
        simulated: Whether no brain has produced it.
        warnings: Sentences.
    """

    path: str
    format: str
    sites: Sensors
    flat: np.ndarray
    regions: tuple[str, ...]
    sampling_rate: float
    seconds: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def n_placed(self) -> int:
        """Sites whose position is known."""
        return int(np.isfinite(self.sites.positions).all(axis=1).sum())


@dataclass(frozen=True)
class SiteTrainRequest:
    """A training on sites.

    Attributes:
        data: Recordings: what MNE reads (EEG, ECoG, sEEG, MEG), audio of several channels, numpy (channels, times).
        output_dir: Of the run: ``metrics.jsonl``, ``best/`` and ``last/``.
        settings: All settings of the model and of its training.
        sites: ``channels`` takes each channel for a site, ``places`` those at one place (the triplets of a Neuromag
            helmet), ``auto`` places where all recordings have such; else a table (.tsv or .csv) with the columns
            ``name`` and, as far as they are known, ``x``, ``y``, ``z`` in metres, ``region`` and ``site`` (several
            channels may be one site's).
        montage: Name of one of MNE's montages, for recordings that have no positions of their own; empty for none.
        numpy_rate: Sampling rate of ``.npy`` recordings that have no ``.json`` beside them.
        resume: Whether to go on with what ``output_dir`` holds.
        until: Stop with a checkpoint after so many steps; None goes to the end.
    """

    data: tuple[Path, ...]
    output_dir: Path
    settings: SiteSettings
    sites: str = "auto"
    montage: str = ""
    numpy_rate: float | None = None
    resume: bool = False
    until: int | None = None


@dataclass(frozen=True)
class SimilarityRequest:
    """What a model learned of its sites.

    Attributes:
        model: Bundled name or folder of a trained model.
        output_dir: Gets matrix, order and figures; None writes nothing.
        permutations: Of the Mantel test and of shuffled labels.
        neighbours: k of the kNN recovery.
        seed: Of permutations.
        force: Whether files of an earlier analysis may be replaced.
    """

    model: str
    output_dir: Path | None = None
    permutations: int = 10_000
    neighbours: int = 5
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Agreement:
    """How far a similarity of sites goes with another measure of theirs, over pairs of sites.

    Attributes:
        spearman: Rank correlation.
        p: Of Mantel's permutation test, one-sided: (1 + at least as large) / (1 + permutations).
        n_pairs: Pairs of sites.
    """

    spearman: float
    p: float
    n_pairs: int


@dataclass(frozen=True)
class Recovery:
    """Whether sites of one kind have each other for nearest neighbours: leave-one-out kNN, balanced accuracy.

    Attributes:
        what: ``hemisphere`` (left and right) or ``region``.
        accuracy: Of the learned embeddings.
        shuffled: (3,) lower quartile, median and 95th percentile of the same with shuffled labels.
        p: Share of shuffles that do as well, one-sided.
        n: Sites that count.
        classes: Their names.
    """

    what: str
    accuracy: float
    shuffled: tuple[float, float, float]
    p: float
    n: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class SiteSimilarity:
    """What a model learned of its sites.

    Attributes:
        model: Its name.
        names: Of the sites, (n,).
        ids: Of the sites, (n,), from 1 on.
        similarity: (n, n) float64, cosine of the learned embeddings.
        untrained: (n, n) the same before training.
        order: (n,) places in ``names``, leaves of the hierarchical clustering.
        nearest: For each site the names of its most similar ones with their similarity, best first.
        positions: (n, 3) metres; NaN where unknown.
        flat: (n, 2) projected for a flat map; NaN where unknown.
        regions: (n,) empty where unknown.
        kinds: (n,).
        distance: Of learned similarity with minus the distance; None without positions.
        untrained_distance: The same of the similarity before training.
        signal: Of learned similarity with the correlation of the raw signals; None where that is unknown.
        signal_distance: Of the raw signals' correlation with minus the distance.
        recoveries: Of hemisphere and of region, as far as they are known.
        maps: Flat pictures of the embeddings: ``pca2`` (n, 2) and ``pca3`` (n, 3), ``tsne2`` (n, 2) from 10 sites on.
        excluded: Sites left out of the statistics of distance, with the reason: ``{"T9": "no position"}``.
        unseen: Sites that no training grid held.
        files: What was written, by kind.
        warnings: Sentences.
        facts: What a report needs beside.
    """

    model: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    similarity: np.ndarray
    untrained: np.ndarray
    order: np.ndarray
    nearest: Mapping[str, tuple[tuple[str, float], ...]]
    positions: np.ndarray
    flat: np.ndarray
    regions: tuple[str, ...]
    kinds: tuple[str, ...]
    distance: Agreement | None
    untrained_distance: Agreement | None
    signal: Agreement | None
    signal_distance: Agreement | None
    recoveries: tuple[Recovery, ...]
    maps: Mapping[str, np.ndarray]
    excluded: Mapping[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompareRequest:
    """The same input under two sites.

    Attributes:
        model: Bundled name or folder.
        recording: Where the input comes from.
        sites: Two sites, by name or by id ("1").
        source: Site whose signal is shown to the model; empty takes the first of ``sites``.
        start_seconds: Where the grid begins.
        montage: As in :class:`SiteTrainRequest`.
        numpy_rate: As there.
        output_dir: Gets the map and figures; None writes nothing.
    """

    model: str
    recording: Path
    sites: tuple[str, str]
    source: str = ""
    start_seconds: float = 0.0
    montage: str = ""
    numpy_rate: float | None = None
    output_dir: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class CompareFindings:
    """By how much the states differ when the same input is said to come from another site, in eval and without mask.

    Attributes:
        model: Its name.
        sites: The two, by name.
        source: Whose signal it is.
        mean_difference: The document's: mean of the absolute differences of the last states over tokens and dimensions.
        by_layer: (layers + 1,) the same of each layer.
        same_site: The same of the first site with itself: exactly 0.
        relative: ``mean_difference`` over the mean absolute state.
        map: (rows, columns) float64, mean absolute difference of each token of the last states.
        grid: (height, width) float32, the input.
        frequencies: (rows,) Hz, centre of each token row.
        times: (columns,) seconds in the recording, centre of each token column.
        files: What was written.
        warnings: Sentences.
    """

    model: str
    sites: tuple[str, str]
    source: str
    mean_difference: float
    by_layer: tuple[float, ...]
    same_site: float
    relative: float
    map: np.ndarray
    grid: np.ndarray
    frequencies: np.ndarray
    times: np.ndarray
    files: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
