"""Groups of neighbouring layers."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

LEAST_STEP = 0.01
"""Differences of similarity below this make no cluster, however regular they are."""


def layer_clusters(matrix: np.ndarray, layers: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Divide the layers into groups of neighbours that are more alike than their distance explains.

    Layers that are near are alike in any deep network; that alone makes no cluster. So each similarity is taken less
    the mean of all pairs of layers as far apart (as modularity takes edges less the expected, Newman 2006), and the
    groups are those whose inner pairs have the largest sum: exactly, by dynamic programming over all divisions. Their
    number is the one of least BIC, a border counting as two parameters (its place and its level). So a
    matrix without borders, flat or fading evenly with the distance, is one cluster.

    Args:
        matrix: (n_layers, n_layers), symmetric.
        layers: Layer numbers; None for positions from 0 on.
    """
    size = len(matrix)
    numbers = tuple(range(size) if layers is None else layers)
    borders = min(_divisions(_surplus(matrix)), key=lambda borders: _bic(matrix, borders), default=(0, size))
    return tuple(numbers[begin:end] for begin, end in pairwise(borders))


def _surplus(matrix: np.ndarray) -> np.ndarray:
    """Take each entry less the mean of its diagonal."""
    size = len(matrix)
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    means = np.array([np.diagonal(matrix, offset).mean() for offset in range(size)])
    return np.asarray(matrix - means[apart])


def _divisions(surplus: np.ndarray) -> list[tuple[int, ...]]:
    """Borders (0, ..., n_layers) of the best division into each number of groups, by dynamic programming."""
    size = len(surplus)
    upper = np.triu(surplus, 1).cumsum(axis=0).cumsum(axis=1)
    whole = np.pad(upper, ((1, 0), (1, 0)))
    # Sum over pairs begin <= i < j < end; those with i < begin and j in the group are above it.
    inner = np.array(
        [[whole[e, e] - whole[b, e] - whole[e, b] + whole[b, b] for e in range(size + 1)] for b in range(size)]
    )
    best: dict[int, tuple[float, tuple[int, ...]]] = {end: (inner[0, end], (0, end)) for end in range(1, size + 1)}
    found: list[tuple[int, ...]] = [best[size][1]] if size else []
    for groups in range(2, size + 1):
        best = {
            end: max((best[at][0] + inner[at, end], (*best[at][1], end)) for at in range(groups - 1, end))
            for end in range(groups, size + 1)
        }
        found.append(best[size][1])
    return found


def _bic(matrix: np.ndarray, borders: tuple[int, ...]) -> float:
    """BIC of: a level for each distance, and a step for pairs inside a group (both less their diagonal's mean)."""
    size, n_groups = len(matrix), len(borders) - 1
    group = np.searchsorted(borders, np.arange(size), side="right")
    above = np.triu_indices(size, 1)
    values = _surplus(matrix)[above]
    inside = _surplus((group[:, None] == group[None, :]).astype(np.float64))[above]
    size_inside = inside @ inside
    left = values @ values - ((values @ inside) ** 2 / size_inside if size_inside > 1e-12 else 0.0)
    n = max(1, len(values))
    return n * float(np.log(max(left, 0.0) / n + LEAST_STEP**2)) + 2 * (n_groups - 1) * float(np.log(n))
