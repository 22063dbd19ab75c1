"""t-SNE that can be watched, stopped and followed from layer to layer.

The optimiser is openTSNE's (Poličar, Stražar & Zupan 2024, Journal of Statistical Software 109:3) with Barnes-Hut
repulsion (van der Maaten 2014); neighbours are exact. What is decided here: few iterations at a large learning rate
(n / exaggeration, Belkina et al. 2019), a start from PCA (Kobak & Berens 2019), and from one layer to the next a start
from the map before, so that points move instead of jump.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.analysis.neighbours import neighbour_chance, neighbour_preservation
from core.analysis.projection import principal_axes
from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NEIGHBOURS_PER_PERPLEXITY = 3
"""Neighbours that attract a point, as in every t-SNE by trees; farther ones weigh nothing."""

LEAST_PERPLEXITY = 2.0
"""Below it a point has one neighbour that counts, and there is no map to draw."""

INITIAL_STD = 1e-4
"""Standard deviation of the start's first axis: so small that every point can still go anywhere."""

WARM_SHRINK = 0.9
"""Size to which the map before is drawn in for the next layer: what a map grows by in the iterations that follow."""

LEAST_FIT = 0.1
"""Share of neighbours, above chance, that the map before must keep of a layer to be its start.

Below it, the layers have nothing to do with each other. From a map at full size points then find no way past each
other: on shuffled rows such a map kept .16 fewer neighbours than a fresh one.
"""

THETA = 0.8
"""Angle of Barnes-Hut's approximation while points move; .5 costs 1.6 times as much and keeps no more neighbours."""

FINAL_THETA = 0.2
"""Angle for the divergence that is reported: within .001 of the exact one."""


@dataclass(frozen=True)
class Phase:
    """Iterations with one strength of attraction.

    With few rows exaggeration is bounded by n / (3 perplexity), how many times more often than by chance a row is a
    neighbour: attraction beyond it draws all points into one, which they do not leave.
    """

    iterations: int
    exaggeration: float
    momentum: float


FRESH = (Phase(150, 12.0, 0.5), Phase(350, 1.0, 0.8))
"""From PCA: groups gather first, then spread."""

WARM = (Phase(50, 3.0, 0.5), Phase(250, 1.0, 0.8))
"""From the map before: enough to regroup. Neighbouring layers of speech keep as many neighbours as fresh maps (.01)."""


@dataclass(frozen=True)
class TsneSettings:
    """What to compute.

    Attributes:
        perplexity: How many neighbours a point has, softly; below a third of the rows.
        n_axes: Principal axes that the rows are reduced to before.
        every: Iterations from one state to the next.
        seed: Of what is drawn at random: the tie-break of rows that are equal.
    """

    perplexity: float = 30.0
    n_axes: int = 50
    every: int = 25
    seed: int = 0


@dataclass(frozen=True)
class TsneState:
    """A map on its way; every one of them is a valid map.

    Attributes:
        iteration: Iterations done.
        total: Iterations in all.
        points: (n, 2) float32.
        kl: Kullback-Leibler divergence, nats; some per cent low until the last state, as the optimiser estimates it.
    """

    iteration: int
    total: int
    points: np.ndarray
    kl: float


@dataclass(frozen=True)
class TsneMap:
    """A finished map.

    Attributes:
        points: (n, 2) float32.
        perplexity: It was made with.
        kl: Kullback-Leibler divergence, nats.
        kept: Share of each row's 10 nearest neighbours that are among the 10 nearest on the map.
        chance: The same of a map that knows nothing.
    """

    points: np.ndarray
    perplexity: float
    kl: float
    kept: float
    chance: float

    @property
    def note(self) -> str:
        """How the map was made and how good it is, in a line."""
        return (
            f"perplexity {self.perplexity:g}, n = {len(self.points):,}, KL {self.kl:.2f}, "
            f"10 nearest neighbours kept {self.kept:.2f} (chance {self.chance:.3f})"
        )


def check_perplexity(perplexity: float, n: int) -> None:
    """Refuse a perplexity that n rows cannot have.

    Each point is attracted by its ``3 * perplexity`` nearest others, so there must be more rows than that: 91 for a
    perplexity of 30, 28 for 9.

    Raises:
        InputError: with the largest perplexity that n rows allow.
    """
    largest = (n - 1) // NEIGHBOURS_PER_PERPLEXITY
    if largest < LEAST_PERPLEXITY:
        raise InputError(f"Got {n} rows; t-SNE needs at least 7. Add recordings, or leave t-SNE out.")
    if not perplexity >= LEAST_PERPLEXITY:
        raise InputError(f"Got a perplexity of {perplexity:g}; expected {LEAST_PERPLEXITY:g} or more, such as 30 or 9.")
    if NEIGHBOURS_PER_PERPLEXITY * perplexity >= n:
        raise InputError(
            f"Got a perplexity of {perplexity:g} for {n:,} rows; expected less than a third of the rows (30 needs 91 "
            f"rows, 9 needs 28). Set it to {largest} or less, or add recordings."
        )


def tsne_steps(rows: np.ndarray, settings: TsneSettings, initial: np.ndarray | None = None) -> Iterator[TsneState]:
    """Lay out the rows on a map, step by step; stop taking states to stop the work.

    The same rows and settings give the same states. One thread works: those of the optimiser wait actively for each
    other, which on a machine that others use takes many times what they save.

    Args:
        rows: (n, dim), one layer.
        settings: What to compute.
        initial: (n, 2), the map of the layer before. The new one starts from it and takes fewer iterations, unless it
            keeps none of this layer's neighbours. Each state is turned, mirrored and shifted onto it; never scaled: how
            far a map spreads is the optimiser's finding.

    Yields:
        The start, then a state each ``settings.every`` iterations and at the end.

    Raises:
        InputError: the perplexity is too large for the rows; raised by the first step.
    """
    check_perplexity(settings.perplexity, len(rows))
    if initial is not None and initial.shape != (len(rows), 2):
        raise ValueError(f"Got a start of shape {initial.shape}; expected {(len(rows), 2)}.")
    reduced = reduce_rows(rows, settings.n_axes)
    start, phases = _beginning(reduced, initial, settings.seed)
    layout = _Layout(start, affinities(reduced, settings), settings)
    total, done = sum(phase.iterations for phase in phases), 0
    yield TsneState(0, total, layout.points(initial), layout.divergence())
    for phase, iterations in _pieces(phases, settings.every):
        kl = layout.advance(phase, iterations)
        done += iterations
        yield TsneState(done, total, layout.points(initial), layout.divergence() if done == total else kl)


def tsne_sequence(
    values: np.ndarray, settings: TsneSettings, on_progress: OnProgress = ignore_progress
) -> tuple[TsneMap, ...]:
    """Map layer after layer, each from the map before, so that points move instead of jump.

    Args:
        values: (n_layers, n, dim), the same rows in every layer.
        settings: What to compute.
        on_progress: Told of the layers done, each iteration being a part of one.

    Raises:
        InputError: the perplexity is too large for the rows.
    """
    check_perplexity(settings.perplexity, values.shape[1])
    maps: list[TsneMap] = []
    for index, rows in enumerate(values):
        for state in tsne_steps(rows, settings, maps[-1].points if maps else None):
            on_progress(Progress("t-SNE", index + state.iteration / state.total, len(values), "layer"))
        maps.append(finished_map(rows, state, settings))
    return tuple(maps)


def finished_map(rows: np.ndarray, state: TsneState, settings: TsneSettings) -> TsneMap:
    """Judge a map by the neighbours it keeps of its rows, (n, dim)."""
    kept = neighbour_preservation(rows, state.points, seed=settings.seed)
    return TsneMap(state.points, settings.perplexity, state.kl, kept, neighbour_chance(len(rows)))


def align_map(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Turn, mirror and shift a map onto another, (n, 2) each, with the least squared distance (Schönemann 1966)."""
    from scipy.linalg import orthogonal_procrustes

    centre, target = points.mean(axis=0), onto.mean(axis=0)
    turn, _ = orthogonal_procrustes(points - centre, onto - target)
    return (points - centre) @ turn + target


def reduce_rows(rows: np.ndarray, n_axes: int) -> np.ndarray:
    """Express rows, (n, dim), on their first principal axes, (n, at most n_axes); distances shrink the least so."""
    mean, axes, _ = principal_axes(rows, min(n_axes, len(rows) - 1, rows.shape[1]))
    return (np.asarray(rows, dtype=np.float64) - mean) @ axes


def fresh_start(reduced: np.ndarray, seed: int) -> np.ndarray:
    """Place rows on their first two principal axes, small (Kobak & Berens 2019), with a hundredth of jitter.

    Without jitter rows on one line would stay on it, and equal rows would never part. Each axis points where the longer
    tail is, so that a rotated copy of a layer starts the same.

    Args:
        reduced: (n, n_axes), on principal axes.
        seed: Of the jitter.
    """
    start = np.zeros((len(reduced), 2))
    start[:, : min(2, reduced.shape[1])] = reduced[:, :2]
    start *= np.where((start**3).sum(axis=0) < 0, -1.0, 1.0)
    spread = start[:, 0].std() or 1.0
    jitter = np.random.default_rng(seed).normal(0.0, 0.01, start.shape)
    return INITIAL_STD * (start / spread + jitter)


def affinities(reduced: np.ndarray, settings: TsneSettings) -> "csr_matrix":
    """Joint probabilities of neighbours, sparse, (n, n), from exact distances between reduced rows, (n, n_axes)."""
    from openTSNE.affinity import joint_probabilities_nn
    from sklearn.neighbors import NearestNeighbors

    n_neighbours = int(NEIGHBOURS_PER_PERPLEXITY * settings.perplexity)
    search = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(reduced)
    distances, numbers = search.kneighbors()
    return joint_probabilities_nn(numbers, distances, [settings.perplexity], n_jobs=1)


class _Layout:
    """Points on their way, with openTSNE's optimiser."""

    def __init__(self, start: np.ndarray, joint: "csr_matrix", settings: TsneSettings) -> None:
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PrecomputedAffinities

        self.joint, self.most = joint, len(start) / (NEIGHBOURS_PER_PERPLEXITY * settings.perplexity)
        self.embedding = TSNEEmbedding(
            start,
            PrecomputedAffinities(joint, normalize=False),
            negative_gradient_method="bh",
            theta=THETA,
            n_jobs=1,
        )

    def advance(self, phase: Phase, iterations: int) -> float:
        """Go on for some iterations; return the divergence as the optimiser estimates it."""
        # openTSNE's own exaggeration multiplies in place and divides after: rounding that grows to other maps.
        exaggeration = min(phase.exaggeration, self.most)
        self.embedding.affinities.P = self.joint * exaggeration
        rate = len(self.embedding) / exaggeration
        self.embedding.optimize(iterations, learning_rate=rate, momentum=phase.momentum, inplace=True)
        return float(self.embedding.kl_divergence) / exaggeration - math.log(exaggeration)

    def divergence(self) -> float:
        """Kullback-Leibler divergence where the points stand."""
        self.embedding.affinities.P = self.joint
        self.embedding.optimize(0, theta=FINAL_THETA, inplace=True)
        return float(self.embedding.kl_divergence)

    def points(self, onto: np.ndarray | None) -> np.ndarray:
        """Copy the points, (n, 2) float32, aligned to the map before where there is one."""
        points = np.array(self.embedding, dtype=np.float64)
        return (points if onto is None else align_map(points, onto)).astype(np.float32)


def _beginning(reduced: np.ndarray, initial: np.ndarray | None, seed: int) -> tuple[np.ndarray, tuple[Phase, ...]]:
    """Where points start and what then happens: from the map before, if it knows more than chance of this layer."""
    if initial is not None:
        chance = neighbour_chance(len(reduced))
        kept = neighbour_preservation(reduced, initial, most=500, seed=seed)
        if kept - chance >= LEAST_FIT * (1.0 - chance):
            return WARM_SHRINK * (initial - initial.mean(axis=0)), WARM
    return fresh_start(reduced, seed), FRESH


def _pieces(phases: tuple[Phase, ...], every: int) -> Iterator[tuple[Phase, int]]:
    """Cut phases into pieces of ``every`` iterations at most."""
    for phase in phases:
        for begin in range(0, phase.iterations, every):
            yield phase, min(every, phase.iterations - begin)
