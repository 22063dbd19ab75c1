"""Canonical correlation of two sets of variables, measured on rows that it was not fitted on; from second moments.

In sample, CCA finds strong correlations in pure noise as soon as dims are not few against rows (PWCCA .39 at 768 dims).
Here directions and weights come from one fold and correlations from another, so that noise gives 0 at any size.
Means and scatter matrices are all that is needed: they add up over blocks, folds and recordings.
"""

from dataclasses import dataclass

import numpy as np

RANK_TOLERANCE = 1e-10
"""Principal axes with less than this share of the largest axis' variance are rounding."""


@dataclass(frozen=True)
class CcaSettings:
    """How a fit is kept from learning noise.

    Attributes:
        variance_kept: Principal axes of each side are kept up to this share of its variance (SVCCA, Raghu et al. 2017):
            axes that hardly vary carry rounding and noise, which whitening would blow up to the size of the rest.
        rows_per_axis: At least so many training rows for each axis kept. With p axes a side and n rows, noise alone
            reaches correlations near 2 sqrt(p / n) in sample, and directions are lost in it.
    """

    variance_kept: float = 0.99
    rows_per_axis: float = 5.0


@dataclass(frozen=True)
class JointMoments:
    """Means and scatter of two sets of variables over the same rows.

    Attributes:
        n: Rows.
        mean_x: (dim_x,) float64.
        mean_y: (dim_y,) float64.
        xx: (dim_x, dim_x) float64, sum over rows of products of deviations from the mean.
        yy: (dim_y, dim_y) float64.
        xy: (dim_x, dim_y) float64.
    """

    n: int
    mean_x: np.ndarray
    mean_y: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray

    @classmethod
    def from_arrays(cls, x: np.ndarray, y: np.ndarray) -> "JointMoments":
        """Take the moments of rows in memory.

        Args:
            x: (n, dim_x).
            y: (n, dim_y), the same rows.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) == 0:
            raise ValueError(f"two arrays (n, dim) of the same n >= 1 rows are needed, got {x.shape} and {y.shape}")
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        x, y = x - mean_x, y - mean_y
        return cls(len(x), mean_x, mean_y, x.T @ x, y.T @ y, x.T @ y)

    def __add__(self, other: "JointMoments") -> "JointMoments":
        """Moments of the rows of both (Chan, Golub & LeVeque 1983)."""
        n = self.n + other.n
        step_x, step_y, scale = other.mean_x - self.mean_x, other.mean_y - self.mean_y, self.n * other.n / n
        return JointMoments(
            n,
            self.mean_x + step_x * (other.n / n),
            self.mean_y + step_y * (other.n / n),
            self.xx + other.xx + scale * np.outer(step_x, step_x),
            self.yy + other.yy + scale * np.outer(step_y, step_y),
            self.xy + other.xy + scale * np.outer(step_x, step_y),
        )


@dataclass(frozen=True)
class Whitening:
    """One side made ready for CCA.

    Attributes:
        matrix: (dim, p) float64; the rows' projections on its columns have unit variance and are uncorrelated.
        loadings: (dim, p) float64, covariance of each variable with each of these projections.
    """

    matrix: np.ndarray
    loadings: np.ndarray


@dataclass(frozen=True)
class CcaFit:
    """Canonical directions, fitted; strongest first. All are empty where a side does not vary.

    Attributes:
        directions_x: (dim_x, k) float64, k = the lesser number of axes kept; training variates have unit variance.
        directions_y: (dim_y, k) float64.
        correlations: (k,) float64, in sample: optimistic.
        weights_x: (k,) float64, projection weights from the side of x; their sum is 1 (Morcos et al. 2018, eq. 3).
        weights_y: (k,) float64, from the side of y.
    """

    directions_x: np.ndarray
    directions_y: np.ndarray
    correlations: np.ndarray
    weights_x: np.ndarray
    weights_y: np.ndarray


DEFAULT = CcaSettings()


def whiten(scatter: np.ndarray, n: int, settings: CcaSettings = DEFAULT) -> Whitening:
    """Keep the principal axes that the settings allow and scale each to unit variance.

    Args:
        scatter: (dim, dim), sum of products of deviations over the n training rows.
        n: Training rows, at least 2.
        settings: What to keep.
    """
    from scipy.linalg import eigh

    values, axes = eigh(scatter / max(1, n - 1))
    return whiten_axes(values[::-1], axes[:, ::-1], n, settings)


def whiten_axes(values: np.ndarray, axes: np.ndarray, n: int, settings: CcaSettings = DEFAULT) -> Whitening:
    """Do :func:`whiten` where the covariance's eigenvalues, descending, and axes (dim, any number) are known."""
    kept = axes_kept(values, n, settings)
    scale, axes = np.sqrt(values[:kept]), axes[:, :kept]
    return Whitening(axes / scale, axes * scale)


def axes_kept(values: np.ndarray, n: int, settings: CcaSettings = DEFAULT) -> int:
    """Count the principal axes that enter a fit on n rows; ``values`` are all eigenvalues, descending."""
    positive = np.clip(values, 0.0, None)
    total = positive.sum()
    if total <= 0.0:
        return 0
    enough = int(np.searchsorted(np.cumsum(positive) / total, settings.variance_kept - 1e-12)) + 1
    real = int((positive > RANK_TOLERANCE * positive[0]).sum())
    return max(1, min(enough, real, int((n - 1) / settings.rows_per_axis), n - 1))


def fit_cca(train: JointMoments, settings: CcaSettings = DEFAULT) -> CcaFit:
    """Fit CCA on the training rows' moments.

    Principal axes of each side are whitened; the singular vectors of what is left of the cross-covariance are the
    canonical directions (Björck & Golub 1973). Safe where dims exceed rows or a side is rank deficient.
    """
    x, y = whiten(train.xx, train.n, settings), whiten(train.yy, train.n, settings)
    return join(x, y, train.xy / max(1, train.n - 1))


def join(x: Whitening, y: Whitening, cross: np.ndarray) -> CcaFit:
    """Fit CCA on two sides that are white already.

    Args:
        x: One side.
        y: The other.
        cross: (dim_x, dim_y), cross-covariance of the training rows.
    """
    from scipy.linalg import svd

    left, correlations, right = svd(x.matrix.T @ cross @ y.matrix, full_matrices=False)
    return CcaFit(
        x.matrix @ left,
        y.matrix @ right.T,
        np.clip(correlations, 0.0, 1.0),
        _projection_weights(x.loadings @ left),
        _projection_weights(y.loadings @ right.T),
    )


def _projection_weights(loadings: np.ndarray) -> np.ndarray:
    """Weigh each variate by the summed size of its covariances with the original variables; the sum is 1."""
    sizes = np.abs(loadings).sum(axis=0)
    return sizes / sizes.sum() if sizes.size else sizes


def held_out_correlations(fit: CcaFit, test: JointMoments) -> np.ndarray:
    """Correlate each pair of fitted variates on rows that were not fitted.

    Returns:
        (k,) float64 within [-1, 1]; 0 where a variate does not vary in the test rows.
    """
    cross = np.einsum("ik,ij,jk->k", fit.directions_x, test.xy, fit.directions_y, optimize=True)
    size_x = np.einsum("ik,ij,jk->k", fit.directions_x, test.xx, fit.directions_x, optimize=True)
    size_y = np.einsum("ik,ij,jk->k", fit.directions_y, test.yy, fit.directions_y, optimize=True)
    size = np.sqrt(np.clip(size_x, 0.0, None) * np.clip(size_y, 0.0, None))
    return np.clip(np.divide(cross, size, out=np.zeros_like(cross), where=size > 0), -1.0, 1.0)


def pwcca(fit: CcaFit, test: JointMoments, side: str = "both") -> float:
    """Weigh the held-out correlations by how much of a side's variables each variate accounts for.

    Args:
        fit: Directions and weights, from the training rows.
        test: Moments of other rows.
        side: ``x`` or ``y``, whose variables weigh (Morcos et al. 2018 take one side, so theirs is not symmetric);
            ``both`` takes the mean of the two and is symmetric.

    Returns:
        About 0 for noise (it may be slightly negative), 1 for an invertible linear map; 0 where a side does not vary.
    """
    weights = {"x": fit.weights_x, "y": fit.weights_y, "both": (fit.weights_x + fit.weights_y) / 2}[side]
    return float(weights @ held_out_correlations(fit, test))


def fit_white(
    x: Whitening, y: Whitening, fitted: np.ndarray, test: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit CCA and measure it where rows are white coordinates already, which makes all pairs of many layers cheap.

    Args:
        x: One side.
        y: The other.
        fitted: (p_x, p_y) cross-covariance of the white training rows.
        test: Scatter of the white test rows: xx, yy, xy.

    Returns:
        Weights (k,), the mean of both sides'; held-out correlations (k,); directions of x (p_x, k) and of y (p_y, k).
    """
    white_x = Whitening(np.eye(x.matrix.shape[1]), x.loadings)
    white_y = Whitening(np.eye(y.matrix.shape[1]), y.loadings)
    fit = join(white_x, white_y, fitted)
    nothing = np.zeros(0)
    correlations = held_out_correlations(fit, JointMoments(0, nothing, nothing, *test))
    return (fit.weights_x + fit.weights_y) / 2, correlations, fit.directions_x, fit.directions_y


def mean_cca(fit: CcaFit, test: JointMoments) -> float:
    """Average the held-out correlations of all fitted directions; 0 where a side does not vary."""
    correlations = held_out_correlations(fit, test)
    return float(correlations.mean()) if correlations.size else 0.0
