"""One rule for all 95 % intervals: a t quantile of a spread over groups (speakers, recordings), never percentiles.

Rows of a group belong together, so groups are what is counted, and there are few of them: percentiles of a bootstrap
over a handful of groups, or 1.96 standard errors, hold the truth in half to four fifths of cases only.
"""

import numpy as np

FEWEST_GROUPS = 5
"""Groups that an interval of a property needs; with fewer, their spread is hardly known."""

MOST_GROUPS = 20
"""Groups that a jackknife leaves out one after the other; more are joined with their neighbours."""


def t_interval(
    estimate: np.ndarray | float,
    spread: np.ndarray | float,
    freedom: int,
    bounds: tuple[float, float] = (-1.0, 1.0),
    bias: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends of a 95 % interval.

    Args:
        estimate: Of any shape.
        spread: Its standard error over groups.
        freedom: Degrees of freedom of ``spread``, at least 1: groups less one.
        bounds: Least and largest value that is possible.
        bias: How far draws lie above the estimate; the interval then holds the estimate with and without it.
    """
    from scipy.stats import t

    half, put_right = t.ppf(0.975, freedom) * spread, estimate - bias
    low, high = np.minimum(estimate, put_right) - half, np.maximum(estimate, put_right) + half
    return np.clip(low, *bounds), np.clip(high, *bounds)


def joined_groups(groups: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
    """Number the groups from 0, joining neighbours to at most MOST_GROUPS.

    Args:
        groups: (n,) of each row.
        folds: (n,) the fold that each row is tested in: groups of one fold become neighbours, so that leaving joined
            ones out changes as few fits as possible.

    Returns:
        (n,) int64.
    """
    keys = np.stack([np.zeros(len(groups), dtype=np.int64) if folds is None else folds, groups])
    numbers = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
    count = int(numbers.max(initial=-1)) + 1
    return numbers if count <= MOST_GROUPS else numbers * MOST_GROUPS // count


def jackknife_interval(
    estimate: float, left_out: np.ndarray, bounds: tuple[float, float] = (-1.0, 1.0)
) -> tuple[float, float] | None:
    """95 % interval of what was computed once more without each group in turn (Efron & Stein 1981).

    The jackknife rather than the bootstrap: rows drawn twice would make any joint counts look more alike than they are,
    and would stand on both sides of a fit.

    Args:
        estimate: From all groups.
        left_out: (n_groups,) without each; NaN where nothing can be computed then.
        bounds: Least and largest value that is possible.

    Returns:
        None with fewer than FEWEST_GROUPS groups, or where one of them cannot be left out.
    """
    count = len(left_out)
    if count < FEWEST_GROUPS or np.isnan(left_out).any():
        return None
    spread = float(np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum()))
    low, high = t_interval(estimate, spread, count - 1, bounds)
    return float(low), float(high)
