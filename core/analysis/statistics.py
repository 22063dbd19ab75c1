"""One layer in numbers: spread, direction, outlier dims and rank."""

from collections.abc import Sequence

import numpy as np

from core.analysis.moments import LayerMoments
from core.errors import DataError
from core.findings import LayerStatistics

OUTLIER_FACTOR = 25.0
"""A dim is an outlier where its root mean square is over 5 times the median one of the dims that are not zero.

Kovaleva et al. (2021) call a dim an outlier beyond three standard deviations, which the outliers themselves inflate;
the median they cannot move. Root mean squares of ordinary dims lie within a factor of about 1.6 of their median, and 5
is more than three such steps away (1.6^3 = 4.1). Such a dim weighs over 25 times an ordinary one in a cosine, which is
what makes it rogue (Timkey & van Schijndel 2021)."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def layer_statistics(
    moments: LayerMoments, spectra: Sequence[np.ndarray], n_used: int, layers: Sequence[int]
) -> tuple[LayerStatistics, ...]:
    """Describe each layer.

    Args:
        moments: Of all rows.
        spectra: Of each layer, the eigenvalues of its covariance over ``n_used`` rows, (dim,).
        n_used: Rows of the spectra. A covariance of n rows has n - 1 axes at most, so the two ranks cannot exceed
            n_used - 1: with n_used not well over dim they say little about the layer.
        layers: Layer numbers, in the order of ``moments`` and ``spectra``.

    Raises:
        DataError: If there are fewer than two rows.
    """
    if moments.n < 2:
        raise DataError(f"{moments.n} row(s) have no variance; expected at least 2: add recordings or longer ones")
    shares = zip(layers, spectra, strict=True)
    return tuple(_describe(moments, at, layer, values, n_used) for at, (layer, values) in enumerate(shares))


def _describe(moments: LayerMoments, at: int, layer: int, eigenvalues: np.ndarray, n_used: int) -> LayerStatistics:
    n, means, squares = moments.n, moments.mean[at], moments.squares[at]
    variances = squares / (n - 1)
    quantiles = np.quantile(variances, QUANTILES)
    return LayerStatistics(
        index=layer,
        n=n,
        mean=float(means.mean()),
        std=float(np.sqrt((squares / n).mean() + means.var())),
        variances=variances,
        variance_quantiles={f"{q:g}": float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        anisotropy=anisotropy(moments.units[at], int(moments.n_units[at])),
        outlier_dimensions=outlier_dimensions(moments.mean_squares[at]),
        effective_rank=effective_rank(eigenvalues),
        participation_ratio=participation_ratio(eigenvalues),
        n_used=n_used,
    )


def anisotropy(units: np.ndarray, n: int) -> float:
    """Mean cosine of two different rows, exact over all n (n - 1) / 2 pairs (Ethayarajh 2019).

    Args:
        units: (dim,) sum of n rows of length one. Its squared length is the sum of all n^2 cosines, n of which are 1.
        n: Rows; fewer than two have no pair, and give 0.
    """
    return float((units @ units - n) / (n * (n - 1))) if n > 1 else 0.0


def outlier_dimensions(mean_squares: np.ndarray) -> tuple[int, ...]:
    """Dims whose mean square is over OUTLIER_FACTOR times the median dim's, largest first; from (dim,).

    Dims that are zero throughout are not counted: where they are the most, every other dim would be an outlier.
    """
    alive = mean_squares[mean_squares > 0]
    found = np.flatnonzero(mean_squares > OUTLIER_FACTOR * np.median(alive)) if len(alive) else np.zeros(0, dtype=int)
    return tuple(found[np.argsort(-mean_squares[found], kind="stable")].tolist())


def effective_rank(eigenvalues: np.ndarray) -> float:
    """Exponential of the entropy of the normalised eigenvalues (Roy & Vetterli 2007); 0 where nothing varies."""
    positive = eigenvalues[eigenvalues > 0]
    shares = positive / positive.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(positive) else 0.0


def participation_ratio(eigenvalues: np.ndarray) -> float:
    """(sum of eigenvalues)^2 / sum of squares; 0 where nothing varies."""
    squares = float(np.square(eigenvalues).sum())
    return float(eigenvalues.sum() ** 2 / squares) if squares > 0 else 0.0
