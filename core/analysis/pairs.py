"""What every comparison of two layers needs."""

from collections.abc import Sequence

import numpy as np

from core.errors import DataError, InputError

Pair = tuple[int, int]


def folds(recording: np.ndarray) -> np.ndarray:
    """Divide rows into two folds for what is fitted on one and measured on the other.

    Whole recordings go to the fold that has fewer rows, longest first, so that no recording stands on both sides. Where
    one recording has over two thirds of the rows, the sequence is cut into four stretches that take turns, with 2 % of
    the rows left out between two, since neighbours are alike.

    Args:
        recording: (n,) index of the recording of each row, in the order of the rows.

    Returns:
        (n,) int64: 0, 1, or -1 for rows left out.
    """
    n, (numbers, counts) = len(recording), np.unique(recording, return_counts=True)
    if counts.max(initial=0) > n * 2 / 3:
        place = np.arange(n) * 4 / n
        return np.where((place % 1 < 0.08) & (place >= 1), -1, place.astype(np.int64) % 2)
    filled, chosen = np.zeros(2, dtype=np.int64), np.zeros(len(numbers), dtype=np.int64)
    for at in np.argsort(-counts, kind="stable"):
        chosen[at] = filled[1] < filled[0]
        filled[chosen[at]] += counts[at]
    return chosen[np.searchsorted(numbers, recording)]


def inverse_root(hsic: float, scatter: float) -> float:
    """1 / sqrt(HSIC_1(K, K)), or 0 where there is nothing but rounding: HSIC_1 is near scatter^2 / dim or larger."""
    return hsic**-0.5 if hsic > 1e-10 * scatter**2 > 0 else 0.0


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Scale each row of (n, dim) to length one, float32; rows of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("kd,kd->k", values, values, dtype=np.float64))[:, None]
    return np.divide(
        values, lengths, out=np.zeros(values.shape, dtype=np.float32), where=lengths > 0, casting="same_kind"
    )


def sorted_pair(a: int, b: int) -> Pair:
    """Order two column numbers as :class:`core.analysis.moments.CrossMoments` keeps them."""
    return (a, b) if a <= b else (b, a)


def require_rows(n: int, fewest: int, what: str) -> None:
    """Raise a DataError where there are fewer rows than ``what`` needs."""
    if n < fewest:
        raise DataError(f"{n} rows are too few: {what} needs at least {fewest}; add recordings or longer ones")


def require_one_dim(dims: Sequence[int]) -> None:
    """Raise an InputError where columns have different dims: values that stand for different things have no cosine."""
    if len(set(dims)) > 1:
        found = " and ".join(str(dim) for dim in sorted(set(dims)))
        raise InputError(f"cosine compares layers dim by dim, and these have {found} dims; use similarity cka")
