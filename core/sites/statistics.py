"""Mean and spread of log power over the training time, for each site and row."""

from collections.abc import Callable, Sequence

import numpy as np

from core.sites.site_data import Stretch

FLOOR = 0.01
"""Of the median spread of a kind: a row that varies less is divided by this, so that it stays small."""

_BLOCK_VALUES = 1 << 20


def pooled_statistics(
    stretches: Sequence[Stretch],
    read: Callable[[Stretch, int, int], np.ndarray],
    kinds: Sequence[str],
    n_rows: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the training time.

    Args:
        stretches: That train.
        read: Gives log power (sites of the stretch, rows, columns) of its recording's columns ``[first, stop)``.
        kinds: Of all sites.
        n_rows: Rows of a site.

    Returns:
        (sites, rows) float64 each: mean, and what to divide by. A site that never trains gets those of the mean site
        of its kind (of all, where its whole kind never trains).
    """
    count = np.zeros(len(kinds))
    total, squares = np.zeros((2, len(kinds), n_rows))
    for stretch in stretches:
        step = max(1, _BLOCK_VALUES // (len(stretch.sites) * n_rows))
        sites = np.array(stretch.sites) - 1
        for first in range(stretch.start, stretch.stop, step):
            block = read(stretch, first, min(first + step, stretch.stop))
            count[sites] += block.shape[2]
            total[sites] += block.sum(axis=2)
            squares[sites] += np.square(block).sum(axis=2)
    n = np.maximum(count, 1)[:, None]
    # Logarithms are some ten times their spread: in float64 this difference costs two digits of fifteen.
    variance = np.maximum(squares / n - np.square(total / n), 0.0)
    return _completed(count > 0, total / n, np.sqrt(variance), np.array(kinds))


def _completed(
    trained: np.ndarray, mean: np.ndarray, std: np.ndarray, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    mean, std = mean.copy(), std.copy()
    for kind in np.unique(kinds):
        mine = kinds == kind
        like = mine & trained if (mine & trained).any() else trained
        mean[mine & ~trained] = mean[like].mean(axis=0)
        std[mine & ~trained] = std[like].mean(axis=0)
        alive = std[mine][std[mine] > 0]
        std[mine] = np.maximum(std[mine], FLOOR * np.median(alive) if len(alive) else 1.0)
    return mean, std
