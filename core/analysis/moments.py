"""First and second moments of layers, accumulated over blocks of rows: memory does not depend on how many rows come."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.analysis.cca import JointMoments
from core.errors import DataError

CACHED_ROWS = 256
"""Rows worked on at a time by :class:`LayerMoments`: 0.8 MB at 768 dims stays in a core's cache."""

GATHERED_ROWS = 2_048
"""Rows that :class:`CrossMoments` gathers before it multiplies; as long as all fit in there, all is float64."""

HEAVY_DIMS = 8
"""Dims of each column, those of largest variance, whose products are always summed in float64. A speech model's few
outlier dims can hold most of a layer's variance; what float32 loses in them would not average out."""


class LayerMoments:
    """Moments of each dim of each layer in one pass over all rows.

    Blocks are merged by Chan, Golub & LeVeque (1983) around their own means, so that a large mean costs no digits.

    Attributes:
        layers: Layer numbers.
        n: Rows so far.
        mean: (n_layers, dim) float64.
        squares: (n_layers, dim) float64, sum over rows of the squared deviation from the mean.
        units: (n_layers, dim) float64, sum of all rows, each scaled to length one.
        n_units: (n_layers,) int64, rows in ``units``: rows of zeros have no direction.
    """

    def __init__(self, layers: Sequence[int], dim: int) -> None:
        self.layers = tuple(layers)
        shape = len(self.layers), dim
        self.n = 0
        self.mean, self.squares, self.units = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.n_units = np.zeros(len(self.layers), dtype=np.int64)

    def add(self, values: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Take the next rows.

        Args:
            values: (n_layers, k, dim) floats.
            rows: (k,) their numbers, for messages; by default they count on.

        Raises:
            DataError: If a value is NaN or infinite; the message names layer and row.
        """
        k = values.shape[1]
        for begin in range(0, k, CACHED_ROWS):
            for layer, block in enumerate(values[:, begin : begin + CACHED_ROWS]):
                self._add(layer, self.n + begin, block, rows[begin:] if rows is not None else None)
        self.n += k

    def _add(self, layer: int, before: int, block: np.ndarray, rows: np.ndarray | None) -> None:
        k, number = len(block), self.layers[layer]
        lengths = np.sqrt(np.einsum("kd,kd->k", block, block).astype(np.float64))
        if not np.isfinite(lengths).all():
            _require_finite(block, number, np.arange(before, before + k) if rows is None else rows)
            lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        scales = np.divide(1.0, lengths, out=np.zeros(k), where=lengths > 0)
        sums = np.stack([np.full(k, 1.0 / k), scales]).astype(block.dtype) @ block
        self.units[layer] += sums[1]
        self.n_units[layer] += np.count_nonzero(lengths)
        deviations = block - sums[0]
        # What rounding left of the mean is put right: the provisional one is float32 where the block is.
        left = np.ones(k, dtype=block.dtype) @ deviations
        squares = np.einsum("kd,kd->d", deviations, deviations).astype(np.float64) - left.astype(np.float64) ** 2 / k
        step = sums[0].astype(np.float64) + left / k - self.mean[layer]
        self.squares[layer] += squares + step**2 * (before * k / (before + k))
        self.mean[layer] += step * (k / (before + k))

    @property
    def mean_squares(self) -> np.ndarray:
        """(n_layers, dim) float64, mean of the squared values of each dim."""
        return self.squares / max(1, self.n) + self.mean**2


def _require_finite(block: np.ndarray, layer: int, rows: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        raise DataError(
            f"layer {layer} has NaN or infinite values at row {rows[bad[0]]}; "
            "expected finite features: compute them again, or leave this recording out"
        )


@dataclass
class _Sums:
    """Sums over the rows of one fold, all shifted by the same provisional mean.

    With k_a the squared length of a row of column a:

    Attributes:
        n: Rows.
        first: Of each column, (dim,), sum of rows.
        cross: Of each pair (a, b), (dim_a, dim_b), sum of products, in Fortran's order.
        heavy: Of each column, (dim, heavy dims of all columns), sum of products in float64; (dim, 0) where ``cross``
            is float64 already.
        lengths: (n_columns,), sum of k_a.
        products: (n_columns, n_columns), sum of k_a k_b.
        weighted: Of each column, (dim_a, n_columns), sum of rows of a times k_b.
    """

    n: int = 0
    first: list[np.ndarray] = field(default_factory=list)
    cross: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    heavy: list[np.ndarray] = field(default_factory=list)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0))
    products: np.ndarray = field(default_factory=lambda: np.zeros(0))
    weighted: list[np.ndarray] = field(default_factory=list)


class CrossMoments:
    """Second moments of pairs of columns, a column being a layer of one model or of another.

    What unbiased CKA, covariances and CCA need, exact at any number of rows. Memory: the pairs' (dim_a, dim_b) in
    float32 for each fold (13 layers of 768 dims: 184 MB), and some thousand rows.

    Products are taken in float32, those of the HEAVY_DIMS in float64; up to GATHERED_ROWS rows all is float64.
    Everything is shifted by the mean of the first rows: CKA and covariances do not change, and keep their digits.

    Args:
        dims: Dims of each column.
        pairs: Pairs of column numbers wanted, (a, b) with a < b; None for all. Each with itself always is there.
        n_folds: 2 where held-out CCA is wanted, which costs the memory of the pairs once more.
    """

    def __init__(self, dims: Sequence[int], pairs: Iterable[tuple[int, int]] | None = None, n_folds: int = 1) -> None:
        self.dims = tuple(dims)
        numbers = range(len(self.dims))
        wanted = set(pairs) if pairs is not None else {(a, b) for a in numbers for b in numbers if a < b}
        self.pairs = tuple(sorted(wanted | {(a, a) for a in numbers}))
        self._folds = [_Sums() for _ in range(n_folds)]
        self._waiting: list[list[list[np.ndarray]]] = [[] for _ in range(n_folds)]
        self._shift: list[np.ndarray] = []
        self._heavy: list[np.ndarray] = []
        self._precise = False

    @property
    def n(self) -> int:
        """Rows so far, of all folds."""
        return sum(sums.n + self._n_waiting(fold) for fold, sums in enumerate(self._folds))

    def add(self, columns: Sequence[np.ndarray], fold: int | np.ndarray = 0) -> None:
        """Take the next rows.

        Args:
            columns: One array (k, dim) a column, such as a block (n_layers, k, dim); finite.
            fold: Of these rows: a number, or (k,) numbers; rows below 0 are left out.
        """
        if isinstance(fold, np.ndarray):
            for number in np.unique(fold[fold >= 0]):
                rows = np.flatnonzero(fold == number)
                self.add([column[rows] for column in columns], int(number))
            return
        if any(column.shape[1] != dim for column, dim in zip(columns, self.dims, strict=True)):
            raise ValueError(f"columns of {self.dims} dims are needed, got {[column.shape for column in columns]}")
        # Copies: whoever reads blocks may reuse their memory.
        self._waiting[fold].append([np.array(column) for column in columns])
        if self._n_waiting(fold) >= GATHERED_ROWS:
            self._multiply(fold)

    def _n_waiting(self, fold: int) -> int:
        return sum(len(block[0]) for block in self._waiting[fold])

    def _settle(self) -> None:
        """Multiply whatever waits; all in float64 where nothing was multiplied yet."""
        if not self._shift:
            self._precise = True
        for fold in range(len(self._folds)):
            if self._waiting[fold]:
                self._multiply(fold)

    def _multiply(self, fold: int) -> None:
        blocks, self._waiting[fold] = self._waiting[fold], []
        columns = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        if not self._shift:
            self._learn(columns)
        exact = [column - shift for column, shift in zip(columns, self._shift, strict=True)]
        shifted = exact if self._precise else [rows.astype(np.float32) for rows in exact]
        sums = self._folds[fold]
        if not sums.first:
            self._begin(sums, shifted[0].dtype)
        self._add_lengths(sums, shifted)
        for a, b in self.pairs:
            _add_product(sums.cross[a, b], shifted[a], shifted[b])
        heavy = np.concatenate([rows[:, few] for rows, few in zip(exact, self._heavy, strict=True)], axis=1)
        for total, rows in zip(sums.heavy, exact, strict=True):
            total += rows.T @ heavy

    def _learn(self, columns: list[np.ndarray]) -> None:
        """Take the provisional means and the heavy dims from the first rows."""
        self._shift = [column.mean(axis=0, dtype=np.float64) for column in columns]
        most = 0 if self._precise else HEAVY_DIMS
        self._heavy = [np.argsort(-column.var(axis=0, dtype=np.float64))[:most] for column in columns]

    def _begin(self, sums: _Sums, kind: np.dtype) -> None:
        n_columns = len(self.dims)
        sums.first = [np.zeros(dim) for dim in self.dims]
        sums.lengths, sums.products = np.zeros(n_columns), np.zeros((n_columns, n_columns))
        sums.weighted = [np.zeros((dim, n_columns)) for dim in self.dims]
        for a, b in self.pairs:
            sums.cross[a, b] = np.zeros((self.dims[a], self.dims[b]), dtype=kind, order="F")
        sums.heavy = [np.zeros((dim, sum(map(len, self._heavy)))) for dim in self.dims]

    @staticmethod
    def _add_lengths(sums: _Sums, shifted: list[np.ndarray]) -> None:
        sums.n += len(shifted[0])
        lengths = np.stack([np.einsum("kd,kd->k", rows, rows, dtype=np.float64) for rows in shifted], axis=1)
        sums.lengths += lengths.sum(axis=0)
        sums.products += lengths.T @ lengths
        for column, rows in enumerate(shifted):
            sums.first[column] += rows.sum(axis=0, dtype=np.float64)
            sums.weighted[column] += rows.T @ lengths.astype(rows.dtype)

    def _total(self, pick: str, at: int | None = None) -> np.ndarray:
        parts = (getattr(sums, pick) for sums in self._folds if sums.n)
        return np.asarray(sum(part if at is None else part[at] for part in parts))

    def _cross(self, a: int, b: int, folds: Sequence[_Sums]) -> np.ndarray:
        """Sum of products of two columns, a <= b, over some folds: (dim_a, dim_b) float64."""
        parts = [sums for sums in folds if sums.n]
        total = parts[0].cross[a, b].astype(np.float64)
        for sums in parts[1:]:
            total += sums.cross[a, b]
        if not self._precise:
            bounds = np.cumsum([0, *map(len, self._heavy)])
            total[self._heavy[a]] = sum(part.heavy[b][:, bounds[a] : bounds[a + 1]].T for part in parts)
            total[:, self._heavy[b]] = sum(part.heavy[a][:, bounds[b] : bounds[b + 1]] for part in parts)
        return total

    def hsic(self, a: int, b: int) -> float:
        """Unbiased HSIC with linear kernels, HSIC_1 of Song et al. (2012), eq. 5, times n (n - 3).

        With X, Y the shifted rows, K = X X', K~ = K without its diagonal, k and l the diagonals of K and L:
        tr(K~ L~) = |X'Y|^2 - k'l;  1'K~1 = |X'1|^2 - 1'k;  1'K~ L~1 = (X'1)' X'Y (Y'1) - (X'1)' X'l - (Y'1)' Y'k + k'l.
        HSIC_1 is the same for any shift.
        """
        a, b = sorted((a, b))
        self._settle()
        n, cross, products = self.n, self._cross(a, b, self._folds), self._total("products")[a, b]
        first_a, first_b = self._total("first", a), self._total("first", b)
        lengths = self._total("lengths")
        both = np.vdot(cross, cross) - products
        sum_a, sum_b = first_a @ first_a - lengths[a], first_b @ first_b - lengths[b]
        mixed = first_a @ cross @ first_b + products
        mixed -= first_a @ self._total("weighted", a)[:, b] + first_b @ self._total("weighted", b)[:, a]
        return float(both + sum_a * sum_b / ((n - 1) * (n - 2)) - 2 * mixed / (n - 2))

    def scatter(self, column: int) -> float:
        """Sum over rows of a column's squared distance from its mean."""
        self._settle()
        first = self._total("first", column)
        return float(max(0.0, self._total("lengths")[column] - first @ first / self.n))

    def covariance(self, column: int) -> np.ndarray:
        """Covariance of a column's dims over all rows, (dim, dim) float64, n - 1 in the denominator."""
        self._settle()
        first = self._total("first", column)
        scatter = self._cross(column, column, self._folds) - np.outer(first, first) / self.n
        return scatter / max(1, self.n - 1)

    def mean(self, column: int) -> np.ndarray:
        """Mean of a column over all rows, (dim,) float64."""
        self._settle()
        return np.asarray(self._shift[column] + self._total("first", column) / self.n)

    def joint(self, a: int, b: int, fold: int) -> JointMoments:
        """Means and scatter of two columns, a <= b, over the rows of one fold."""
        self._settle()
        sums = self._folds[fold]
        first_a, first_b, n = sums.first[a], sums.first[b], sums.n
        return JointMoments(
            n,
            self._shift[a] + first_a / n,
            self._shift[b] + first_b / n,
            self._cross(a, a, [sums]) - np.outer(first_a, first_a) / n,
            self._cross(b, b, [sums]) - np.outer(first_b, first_b) / n,
            self._cross(a, b, [sums]) - np.outer(first_a, first_b) / n,
        )

    def n_of(self, fold: int) -> int:
        """Rows of one fold."""
        return self._folds[fold].n + self._n_waiting(fold)


def _add_product(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Add x'y to ``total`` (dim_x, dim_y), in place and without a copy where the types are the same."""
    from scipy.linalg.blas import get_blas_funcs

    if x is y:
        # numpy takes a product with itself in half the steps.
        total += x.T @ x
        return
    gemm = get_blas_funcs("gemm", (x, y))
    gemm(1.0, x.T, y.T, 1.0, total, trans_b=1, overwrite_c=1)


def spectrum(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decompose a covariance once, for principal axes, ranks and whitening.

    Args:
        covariance: (dim, dim), symmetric.

    Returns:
        Eigenvalues, descending, none below zero, (dim,) float64; and axes, (dim, dim), a column an axis. The largest
        entry of each axis is positive, so that a figure drawn again is the same figure.
    """
    from scipy.linalg import eigh

    values, axes = eigh(covariance, driver="evd")
    values, axes = np.clip(values[::-1], 0.0, None), axes[:, ::-1]
    return values, axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(values))])
