"""How alike layers are: unbiased linear CKA, cosine row by row, and PWCCA held out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from core.analysis.cca import Whitening, fit_white, whiten
from core.analysis.clusters import layer_clusters
from core.analysis.moments import CrossMoments
from core.analysis.pairs import Pair, folds, inverse_root, require_one_dim, require_rows, sorted_pair, unit_rows
from core.analysis.uncertainty import TILE_ROWS, Uncertainty, intervals_and_floor
from core.findings import Points, Similarity


def cka_matrix(
    cross: CrossMoments, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None
) -> np.ndarray:
    """Unbiased linear CKA of layers: HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)).

    HSIC_1 (Song et al. 2012, eq. 5) leaves out what a row has in common with itself, so that unrelated layers are at 0
    however few the rows are (Nguyen et al. 2021); the biased estimate gives .94 for noise of 768 dims in 50 rows. 1
    for a layer and its rotated, scaled copy. Slightly negative values are noise. A layer that does not vary is like
    no layer: 0, with itself as well. Variance counts: unrelated layers that share one dim with most of the variance
    are alike by CKA too.

    Args:
        cross: Sums over all rows.
        rows: Column numbers of ``cross`` for the rows of the matrix; None for all.
        columns: The same for its columns.

    Returns:
        (n_rows, n_columns) float64.

    Raises:
        DataError: If there are fewer than four rows of data.
    """
    require_rows(cross.n, 4, "CKA")
    rows, columns = _both(cross, rows, columns)
    own = {c: cross.hsic(c, c) for c in {*rows, *columns}}
    scales = {c: inverse_root(own[c], cross.scatter(c)) for c in own}
    values = {pair: cross.hsic(*pair) for pair in {sorted_pair(a, b) for a in rows for b in columns}}
    return np.array([[_bounded(values[sorted_pair(a, b)] * scales[a] * scales[b]) for b in columns] for a in rows])


def pwcca_matrix(
    cross: CrossMoments, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None
) -> np.ndarray:
    """Projection-weighted CCA of layers (Morcos et al. 2018), held out.

    Directions and weights come from one fold and correlations from the other; both ways are averaged. Morcos' weights
    are of one side, which is not symmetric; the mean of both sides' is. Each side keeps the principal axes with .99 of
    its variance, and one axis for five training rows at most (see :class:`core.analysis.cca.CcaSettings`). About 0 for
    noise; 1 for an invertible map as far as the axes kept hold the layer; 0 for a layer that does not vary.

    Args:
        cross: Sums over two folds.
        rows: Column numbers of ``cross`` for the rows of the matrix; None for all.
        columns: The same for its columns.

    Raises:
        DataError: If a fold has fewer than four rows of data.
    """
    rows, columns = _both(cross, rows, columns)
    pairs = sorted({sorted_pair(a, b) for a in rows for b in columns})
    total = np.zeros(len(pairs))
    for train, test in ((0, 1), (1, 0)):
        require_rows(cross.n_of(train), 4, "PWCCA, in each of two folds,")
        total += _held_out_pwcca(cross, pairs, train, test)
    values = dict(zip(pairs, total / 2, strict=True))
    return np.array([[values[sorted_pair(a, b)] for b in columns] for a in rows])


def _held_out_pwcca(cross: CrossMoments, pairs: Sequence[Pair], train: int, test: int) -> np.ndarray:
    n = cross.n_of(train)
    sides = {c: whiten(cross.joint(c, c, train).xx, n) for c in {c for pair in pairs for c in pair}}
    spread = {c: _squeeze(side, cross.joint(c, c, test).xx, side) for c, side in sides.items()}
    values = np.zeros(len(pairs))
    for at, (a, b) in enumerate(pairs):
        fitted = _squeeze(sides[a], cross.joint(a, b, train).xy, sides[b]) / (n - 1)
        shared = _squeeze(sides[a], cross.joint(a, b, test).xy, sides[b])
        weights, correlations, *_ = fit_white(sides[a], sides[b], fitted, (spread[a], spread[b], shared))
        values[at] = weights @ correlations
    return values


def _squeeze(x: Whitening, scatter: np.ndarray, y: Whitening) -> np.ndarray:
    return np.asarray(x.matrix.T @ scatter @ y.matrix)


class CosineSums:
    """Cosine of layers, row by row, summed over blocks of rows.

    Args:
        dims: Dims of each column.

    Raises:
        InputError: If the columns have different dims: values that do not stand for the same thing have no cosine.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        require_one_dim(dims)
        self.n = 0
        self._sums = np.zeros((len(dims), len(dims)))

    def add(self, columns: Sequence[np.ndarray]) -> None:
        """Take the next rows: one array (k, dim) a column. A row of zeros has no direction and counts as 0."""
        for begin in range(0, len(columns[0]), TILE_ROWS):
            units = np.stack([unit_rows(column[begin : begin + TILE_ROWS]) for column in columns], axis=1)
            self._sums += (units @ units.transpose(0, 2, 1)).sum(axis=0, dtype=np.float64)
        self.n += len(columns[0])

    def matrix(self, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> np.ndarray:
        """Mean cosine of the rows of two layers, (n_rows, n_columns) float64; not centred, so outlier dims rule it."""
        require_rows(self.n, 1, "cosine")
        every = range(len(self._sums))
        found = self._sums[np.ix_(every if rows is None else rows, every if columns is None else columns)]
        return np.clip(found / self.n, -1.0, 1.0)


def cosine_matrix(
    columns: Sequence[np.ndarray], rows: Sequence[int] | None = None, others: Sequence[int] | None = None
) -> np.ndarray:
    """Mean cosine of the rows of layers in memory, one array (n, dim) a column; see :class:`CosineSums`."""
    sums = CosineSums([column.shape[1] for column in columns])
    sums.add(columns)
    return sums.matrix(rows, others)


def _both(
    cross: CrossMoments, rows: Sequence[int] | None, columns: Sequence[int] | None
) -> tuple[Sequence[int], Sequence[int]]:
    every = range(len(cross.dims))
    return every if rows is None else rows, every if columns is None else columns


def _bounded(value: float) -> float:
    return float(min(1.0, max(-1.0, value)))


_MEANING = {
    "cka": "Unbiased linear CKA: 1 for layers that are rotated and scaled copies, 0 for unrelated ones",
    "cosine": "Mean cosine of the same row in two layers, dim by dim: blind to rotations, ruled by outlier dims",
    "pwcca": "Projection-weighted CCA, fitted on one half of the {halves} and measured on the other: 1 for layers that "
    "are linear maps of each other, about 0 for unrelated ones",
}


def similarity_within(
    model: str, points: Points, kind: str, matrix: np.ndarray | None = None, n: int | None = None, seed: int = 0
) -> Similarity:
    """Compare the layers of one model with each other.

    Args:
        model: Its name.
        points: Rows for interval and noise floor.
        kind: ``cka``, ``cosine`` or ``pwcca``.
        matrix: The similarities of more rows than ``points`` (see :func:`cka_matrix`, :class:`CosineSums`,
            :func:`pwcca_matrix`); None takes those of ``points``.
        n: Rows of ``matrix``.
        seed: Of draws and shifts.
    """
    found = intervals_and_floor(points, None, kind, seed)
    record = _record(found, kind, (model, model), (points, points), matrix, n)
    return replace(record, clusters=layer_clusters(record.matrix, points.layers))


def similarity_between(
    models: tuple[str, str],
    points: tuple[Points, Points],
    kind: str,
    matrix: np.ndarray | None = None,
    n: int | None = None,
    seed: int = 0,
) -> Similarity:
    """Compare the layers of one model, in rows, with those of another, in columns, over the same rows of data.

    Args:
        models: Their names.
        points: The same rows of both, for interval and noise floor.
        kind: ``cka``, ``cosine`` (same dims only) or ``pwcca``.
        matrix: As for :func:`similarity_within`.
        n: Rows of ``matrix``.
        seed: Of draws and shifts.
    """
    found = intervals_and_floor(*points, kind, seed)
    return _record(found, kind, models, points, matrix, n)


def _record(
    found: Uncertainty,
    kind: str,
    models: tuple[str, str],
    points: tuple[Points, Points],
    matrix: np.ndarray | None,
    n: int | None,
) -> Similarity:
    if matrix is None:
        matrix, n = found.matrix, found.n
    low, high = found.interval(matrix)
    rows = n if n is not None else found.n
    layers = points[0].layers, points[1].layers
    meaning = _MEANING[kind].format(halves=_halves(points[0].table.recording))
    note = f"{meaning}. From {rows:,} rows. {_interval_note(found, kind)} {_floor_note(found, kind)}"
    return Similarity(kind, models, *layers, matrix, low, high, rows, found.noise_floor, found.n, note=note)


def _halves(recording: np.ndarray) -> str:
    """Name what :func:`folds` divides: whole recordings, or stretches where one holds most of the rows."""
    fold = folds(recording)
    both = set(recording[fold == 0].tolist()) & set(recording[fold == 1].tolist())
    return f"stretches of the recording{'s' * (len(np.unique(recording)) > 1)}" if both else "recordings"


def _interval_note(found: Uncertainty, kind: str) -> str:
    few = found.n_recordings
    if found.spread is None:
        fewest = 4 if kind == "pwcca" else 2
        return f"No intervals: {few} recording{'s' * (few != 1)}, and it takes {fewest} for what differs between them."
    fixed = ", directions fixed" if kind == "pwcca" else ""
    wide = f"; they are wide because {few} recordings say little about others" if few < 5 else ""
    return f"Intervals (95 %): bootstrap over {few} recordings at {found.n:,} rows, t quantile{fixed}{wide}."


def _floor_note(found: Uncertainty, kind: str) -> str:
    shared = "; it is what rows share whenever they were spoken" if kind == "cosine" else ""
    return (
        f"Noise floor {found.noise_floor:.3f}: layers shifted against each other in time stay below it in 95 % of "
        f"cases at {found.n:,} rows{shared}."
    )
