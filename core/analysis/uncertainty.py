"""How far a similarity of layers can be trusted: bootstrap over recordings, and noise floors that keep time's grain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.analysis.cca import Whitening, fit_white, whiten
from core.analysis.intervals import t_interval
from core.analysis.pairs import folds, inverse_root, require_one_dim, require_rows, sorted_pair, unit_rows
from core.analysis.projection import evenly
from core.errors import InputError
from core.findings import SIMILARITIES, Points

DRAWS = 500
"""Bootstrap draws: their spread, which is all that is taken from them, is then known to 3 %."""

MOST_GROUPS = 64
"""Recordings that a bootstrap tells apart; more are joined with their neighbours, which costs nothing but degrees of
freedom that a t quantile no longer notices."""

FLOOR_FLOPS = 1e11
"""Work that a noise floor may cost, if FEWEST_SHIFTS allow: under a second on two cores."""

FEWEST_SHIFTS, MOST_SHIFTS = 40, 300

SQUARED_MASS = 0.995
"""Share of the squared eigenvalues that the axes of a CKA's noise floor must hold; CKA sees only squares."""

TILE_ROWS = 512

PWCCA_ROWS = 2_000
PWCCA_SHIFTS = 60
"""Rows that PWCCA's interval and floor are taken from at most, and shifts of the floor: each is a fit."""


@dataclass(frozen=True)
class Uncertainty:
    """What is known of a similarity's reliability, from rows in memory.

    Attributes:
        matrix: (n_rows, n_columns) float64, the similarity of these very rows.
        spread: (n_rows, n_columns), standard error over recordings; None where too few recordings tell it.
        bias: (n_rows, n_columns), how far draws lie above ``matrix`` on the mean; None with ``spread``.
        freedom: Degrees of freedom of ``spread``.
        noise_floor: See :class:`core.findings.Similarity`.
        n: Rows.
        n_recordings: Recordings that have rows.
    """

    matrix: np.ndarray
    spread: np.ndarray | None
    bias: np.ndarray | None
    freedom: int
    noise_floor: float
    n: int
    n_recordings: int

    def interval(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Low and high ends of the 95 % interval around ``matrix``, or None and None."""
        if self.spread is None or self.bias is None:
            return None, None
        return t_interval(matrix, self.spread, self.freedom, bias=self.bias)


def intervals_and_floor(points_a: Points, points_b: Points | None, kind: str, seed: int = 0) -> Uncertainty:
    """Bootstrap over recordings, and measure what is noise.

    Rows of one recording belong together, so whole recordings are drawn. An interval reaches a t quantile (recordings
    - 1 degrees of freedom) of the standard deviation of DRAWS draws to both sides of the estimate and of the estimate
    less its bias. The percentiles of the draws are no interval here: a draw holds copies of recordings, whose rows are
    alike, so draws of CKA lie above the estimate, as the estimate of few recordings lies above that of all; and few
    recordings spread too little. In simulations with recording effects (3 to 20 recordings) 95 % percentile intervals
    held the truth in 14 % to 75 % of cases, these in 84 % to 98 %. With 2 recordings they are so wide that they say
    little, which is what 2 recordings can say.

    PWCCA's directions are not fitted again for a draw: its interval is that of the held-out correlations, and needs two
    recordings in each fold.

    The floor is the .95 quantile of the absolute similarity of pairs of layers, one of them shifted in time, around the
    end, by a quarter to three quarters of all rows: whatever is alike then is chance, and frames stay as similar to
    their neighbours as speech makes them. For cosine it is no chance but what all rows share: the mean, outlier dims.

    Args:
        points_a: Rows of one model.
        points_b: The same rows of another; None to compare the first with itself.
        kind: ``cka``, ``cosine`` or ``pwcca``.
        seed: Of draws and shifts.

    Raises:
        DataError: If there are fewer than four rows (PWCCA: eight).
        InputError: If ``kind`` is unknown, the two have different rows, or cosine has different dims to compare.
    """
    if kind not in SIMILARITIES:
        raise InputError(f"unknown similarity {kind!r}; expected one of {', '.join(SIMILARITIES)}")
    if points_b is not None and points_b.values.shape[1] != points_a.values.shape[1]:
        shapes = f"{points_a.values.shape[1]} and {points_b.values.shape[1]}"
        raise InputError(f"the two models have {shapes} rows; expected the same frames of the same recordings")
    columns = [*points_a.values, *(points_b.values if points_b is not None else ())]
    first = range(len(points_a.values))
    second = first if points_b is None else range(len(first), len(columns))
    measure: Callable[[_Sample], Uncertainty] = {"cka": _cka, "cosine": _cosine, "pwcca": _pwcca}[kind]
    return measure(_Sample(columns, first, second, points_a.table.recording, np.random.default_rng(seed)))


@dataclass(frozen=True)
class _Sample:
    """Rows to measure: columns (n, dim), numbers of those compared, (n,) recordings, and where chance comes from."""

    columns: Sequence[np.ndarray]
    first: Sequence[int]
    second: Sequence[int]
    recording: np.ndarray
    chance: np.random.Generator

    @property
    def n(self) -> int:
        return len(self.recording)

    @property
    def groups(self) -> np.ndarray:
        """(n,) int64 group that each row is drawn with: its recording, or its neighbours' too where there are many."""
        _, group = np.unique(self.recording, return_inverse=True)
        n_groups = int(group.max()) + 1
        return group if n_groups <= MOST_GROUPS else group * MOST_GROUPS // n_groups

    def shifts(self, n: int, most: int) -> list[tuple[int, int, int]]:
        """Draw (column, other column, shift of the other's n rows)."""
        found = self.chance.choice(self.first, most), self.chance.choice(self.second, most)
        low = max(1, n // 4)
        return list(zip(*found, self.chance.integers(low, max(low + 1, n - low + 1), most), strict=True))

    def uncertainty(
        self, matrix: np.ndarray, draws: np.ndarray | None, freedom: int, floor: list[float]
    ) -> Uncertainty:
        spread = bias = None
        if draws is not None and freedom > 0:
            spread, bias = draws.std(axis=0, ddof=1), draws.mean(axis=0) - matrix
        level = float(np.quantile(np.abs(floor), 0.95))
        return Uncertainty(matrix, spread, bias, freedom, level, self.n, len(np.unique(self.recording)))


def _draw(chance: np.random.Generator, n_groups: int) -> np.ndarray:
    """How often each group is drawn: (DRAWS, n_groups) float64."""
    return chance.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=DRAWS).astype(np.float64)


def _cosine(sample: _Sample) -> Uncertainty:
    require_one_dim([column.shape[1] for column in sample.columns])
    groups, size = sample.groups, len(sample.columns)
    units = [unit_rows(column) for column in sample.columns]
    n_groups = int(groups.max()) + 1
    sums, counts = np.zeros((n_groups, size, size)), np.bincount(groups).astype(np.float64)
    stacked = np.stack(units, axis=1)
    for group in range(n_groups):
        rows = stacked[groups == group]
        sums[group] = (rows @ rows.transpose(0, 2, 1)).sum(axis=0, dtype=np.float64)
    sums = sums[:, sample.first][:, :, sample.second]
    draws = None
    if n_groups > 1:
        times = _draw(sample.chance, n_groups)
        draws = np.tensordot(times, sums, axes=1) / (times @ counts)[:, None, None]
    floor = [
        float(np.vdot(units[a], np.roll(units[b], shift, axis=0))) / sample.n
        for a, b, shift in sample.shifts(sample.n, 200)
    ]
    return sample.uncertainty(np.clip(sums.sum(axis=0) / sample.n, -1, 1), draws, n_groups - 1, floor)


# CKA: Gram matrices in tiles, of which only sums by pairs of recordings are kept.


@dataclass(frozen=True)
class _GramSums:
    """Sums of the centred Gram matrices K~ of all columns, diagonals left out.

    Attributes:
        products: (n_columns, n_columns, n_groups, n_groups), sum of K~_ij L~_ij over rows i, j of two groups.
        totals: (n_columns, n_groups, n_groups), sum of K~_ij.
        row_sums: (n_columns, n, n_groups), sum of K~_ij over the rows j of a group.
        groups: (n,) group of each row.
        scatter: (n_columns,), sum of the diagonal.
    """

    products: np.ndarray
    totals: np.ndarray
    row_sums: np.ndarray
    groups: np.ndarray
    scatter: np.ndarray


def _gram_sums(columns: Sequence[np.ndarray], groups: np.ndarray) -> _GramSums:
    """Go through the tiles of all Gram matrices: n^2 dim multiplications a column, and no n x n matrix in memory."""
    order = np.argsort(groups, kind="stable")
    groups, n_groups = groups[order], int(groups.max()) + 1
    centred = [(column - column.mean(axis=0, dtype=np.float64)).astype(np.float32)[order] for column in columns]
    products = np.zeros((len(columns), len(columns), n_groups, n_groups))
    tiles = [rows[at : at + TILE_ROWS] for rows in _rows_of(groups) for at in range(0, len(rows), TILE_ROWS)]
    for at, left in enumerate(tiles):
        for right in tiles[at:]:
            r, s = groups[left[0]], groups[right[0]]
            sums = _tile(centred, left, right)
            products[:, :, r, s] += sums
            if left is not right:
                products[:, :, s, r] += sums
    row_sums = np.stack([_row_sums(rows, groups, n_groups) for rows in centred])
    member = np.eye(n_groups)[groups]
    totals = np.stack([member.T @ sums for sums in row_sums])
    scatter = np.array([np.einsum("kd,kd->", rows, rows, dtype=np.float64) for rows in centred])
    return _GramSums(products, totals, row_sums, groups, scatter)


def _rows_of(groups: np.ndarray) -> list[np.ndarray]:
    return np.split(np.arange(len(groups)), np.flatnonzero(np.diff(groups)) + 1)


def _tile(centred: Sequence[np.ndarray], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sum K~_ij L~_ij over the rows i of one tile and j of another: (n_columns, n_columns)."""
    grams = np.empty((len(centred), len(left), len(right)), dtype=np.float32)
    rows, others = slice(left[0], left[-1] + 1), slice(right[0], right[-1] + 1)
    for gram, column in zip(grams, centred, strict=True):
        np.matmul(column[rows], column[others].T, out=gram)
        if left is right:
            np.fill_diagonal(gram, 0.0)
    flat = grams.reshape(len(centred), -1)
    return flat @ flat.T


def _row_sums(rows: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    member = np.eye(n_groups)[groups]
    exact = rows.astype(np.float64)
    return np.asarray(exact @ (exact.T @ member) - np.einsum("kd,kd->k", exact, exact)[:, None] * member)


def _cka(sample: _Sample) -> Uncertainty:
    require_rows(sample.n, 4, "CKA")
    groups = sample.groups
    grams, n_groups = _gram_sums(sample.columns, groups), int(groups.max()) + 1
    hsic = _hsic(grams)
    matrix = _normalised(hsic, grams.scatter)[np.ix_(sample.first, sample.second)]
    draws = None
    if n_groups > 1:
        found = [_normalised(_drawn_hsic(grams, times), grams.scatter) for times in _draw(sample.chance, n_groups)]
        draws = np.stack(found)[:, sample.first][:, :, sample.second]
    return sample.uncertainty(matrix, draws, n_groups - 1, _cka_floor(sample, np.diag(hsic)))


def _hsic(grams: _GramSums) -> np.ndarray:
    """HSIC_1 of all pairs of columns, times n (n - 3): (n_columns, n_columns)."""
    n = grams.row_sums.shape[1]
    both, totals, rows = grams.products.sum(axis=(2, 3)), grams.totals.sum(axis=(1, 2)), grams.row_sums.sum(axis=2)
    return np.asarray(both + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 * (rows @ rows.T) / (n - 2))


def _drawn_hsic(grams: _GramSums, times: np.ndarray) -> np.ndarray:
    """HSIC of all pairs where group g counts ``times[g]`` times: (n_columns, n_columns).

    The same row of two copies is no pair of rows: it stays left out.
    """
    weights = times[grams.groups]
    n = weights.sum()
    both = np.einsum("abrs,r,s->ab", grams.products, times, times, optimize=True)
    totals = np.einsum("ars,r,s->a", grams.totals, times, times, optimize=True)
    rows = grams.row_sums @ times
    return np.asarray(both + np.outer(totals, totals) / n**2 - 2 * ((rows * weights) @ rows.T) / n)


def _normalised(hsic: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    scales = np.array([inverse_root(own, size) for own, size in zip(np.diag(hsic), scatter, strict=True)])
    return np.clip(hsic * np.outer(scales, scales), -1.0, 1.0)


def _cka_floor(sample: _Sample, own: np.ndarray) -> list[float]:
    """CKA of pairs of columns shifted against each other, on the axes that hold nearly all of the squared spectrum."""
    n, chance = sample.n, np.random.default_rng(int(sample.chance.integers(2**31)))
    short = [_leading(column, chance) for column in sample.columns]
    lengths = [np.einsum("kd,kd->k", rows, rows, dtype=np.float64) for rows in short]
    sizes = [_pair_hsic(rows, rows, k, k) for rows, k in zip(short, lengths, strict=True)]
    scales = [inverse_root(size, k.sum()) for size, k in zip(sizes, lengths, strict=True)]
    flops = 2.0 * n * float(np.mean([rows.shape[1] for rows in short])) ** 2
    found = []
    for a, b, shift in sample.shifts(n, int(np.clip(FLOOR_FLOPS / flops, FEWEST_SHIFTS, MOST_SHIFTS))):
        hsic = _pair_hsic(short[a], np.roll(short[b], shift, axis=0), lengths[a], np.roll(lengths[b], shift))
        found.append(hsic * scales[a] * scales[b])
    return found


def _leading(column: np.ndarray, chance: np.random.Generator, most: int = 128) -> np.ndarray:
    """Centre a column and turn it to its leading axes (Halko et al. 2011), where those hold enough of it."""
    centred = (column - column.mean(axis=0, dtype=np.float64)).astype(np.float32)
    if centred.shape[1] <= most:
        return centred
    covariance = centred.T @ centred
    start = chance.standard_normal((len(covariance), most), dtype=np.float32)
    axes = np.linalg.qr(covariance @ np.linalg.qr(covariance @ start)[0])[0]
    short = centred @ axes
    whole = np.vdot(covariance, covariance)
    return short if whole > 0 and np.linalg.norm(short.T @ short) ** 2 >= SQUARED_MASS * whole else centred


def _pair_hsic(x: np.ndarray, y: np.ndarray, lengths_x: np.ndarray, lengths_y: np.ndarray) -> float:
    """HSIC_1 of centred rows, times n (n - 3): :meth:`CrossMoments.hsic` where the sums of rows are zero."""
    n, cross = len(x), x.T @ y
    both, products = float(np.vdot(cross, cross)), float(lengths_x @ lengths_y)
    totals = float(lengths_x.sum() * lengths_y.sum())
    return both - products + totals / ((n - 1) * (n - 2)) - 2 * products / (n - 2)


# PWCCA: variates of the held-out rows, of which only sums by recording are kept.


@dataclass(frozen=True)
class _Side:
    """A column in white coordinates: what it was whitened with, and its training and test rows, (n, p), centred."""

    white: Whitening
    train: np.ndarray
    test: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        return np.asarray(self.test.T @ self.test)


def _pwcca(sample: _Sample) -> Uncertainty:
    few = _thin(sample)
    require_rows(few.n, 8, "PWCCA")
    fold, groups = folds(few.recording), few.groups
    halves = [(fold == train, fold == 1 - train) for train in (0, 1)]
    pairs = sorted({sorted_pair(a, b) for a in few.first for b in few.second})
    values, draws, floor = np.zeros(len(pairs)), np.zeros((DRAWS, len(pairs))), np.zeros(PWCCA_SHIFTS)
    shifts = few.shifts(few.n // 2, PWCCA_SHIFTS)
    for train, test in halves:
        sides = [_side(column, train, test) for column in few.columns]
        _, members = np.unique(groups[test], return_inverse=True)
        times = _draw(few.chance, int(members.max()) + 1) if members.max() else None
        for at, (a, b) in enumerate(pairs):
            weights, of_all, of_draws = _drawn_pwcca(sides[a], sides[b], members, times)
            values[at] += weights @ of_all / 2
            draws[:, at] += of_draws @ weights / 2
        floor += [_shifted_pwcca(sides[a], sides[b], shift) / 2 for a, b, shift in shifts]
    order = {pair: at for at, pair in enumerate(pairs)}
    places = np.array([[order[sorted_pair(a, b)] for b in few.second] for a in few.first])
    told = all(len(np.unique(groups[test])) > 1 for _, test in halves)
    freedom = len(np.unique(groups)) - 2
    return few.uncertainty(values[places], draws[:, places] if told else None, freedom, list(floor))


def _thin(sample: _Sample) -> _Sample:
    """Keep PWCCA_ROWS rows, evenly spread: fits of all pairs cost as much as dims cubed, and grow with the rows."""
    kept = evenly(sample.n, PWCCA_ROWS)
    columns = [np.asarray(column[kept]) for column in sample.columns]
    return replace(sample, columns=columns, recording=sample.recording[kept])


def _side(column: np.ndarray, train: np.ndarray, test: np.ndarray) -> _Side:
    fitted, held = column[train].astype(np.float64), column[test].astype(np.float64)
    fitted, held = fitted - fitted.mean(axis=0), held - held.mean(axis=0)
    white = whiten(fitted.T @ fitted, len(fitted))
    return _Side(white, fitted @ white.matrix, held @ white.matrix)


def _drawn_pwcca(
    x: _Side, y: _Side, groups: np.ndarray, times: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (k,), held-out correlations (k,), and the same for each draw of the test rows' groups, (DRAWS, k)."""
    test = x.spread, y.spread, x.test.T @ y.test
    weights, correlations, left, right = fit_white(x.white, y.white, x.train.T @ y.train / (len(x.train) - 1), test)
    if times is None:
        return weights, correlations, np.zeros((DRAWS, len(weights)))
    u, v = x.test @ left, y.test @ right
    member = np.eye(times.shape[1])[groups]
    n = (times @ member.sum(axis=0))[:, None]
    mean_u, mean_v, uu, vv, uv = (times @ (member.T @ values) / n for values in (u, v, u * u, v * v, u * v))
    size = np.sqrt(np.clip(uu - mean_u**2, 0.0, None) * np.clip(vv - mean_v**2, 0.0, None))
    drawn = np.divide(uv - mean_u * mean_v, size, out=np.zeros_like(size), where=size > 0)
    return weights, correlations, np.clip(drawn, -1.0, 1.0)


def _shifted_pwcca(x: _Side, y: _Side, shift: int) -> float:
    """PWCCA where the rows of y are shifted in time within each fold."""
    train, test = np.roll(y.train, shift, axis=0), np.roll(y.test, shift, axis=0)
    shared = x.spread, y.spread, x.test.T @ test
    weights, correlations, *_ = fit_white(x.white, y.white, x.train.T @ train / (len(train) - 1), shared)
    return float(weights @ correlations)
