"""Groups of neighbouring layers."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

LEAST_EXPLAINED = 0.6
"""Share of what distance leaves that clusters must explain: planted borders explain .6 to 1; layers that drift apart at
an uneven pace, without a border, mostly less."""

LEAST_STEP = 0.01
"""Differences of similarity below this make no cluster, however regular they are."""


ALL_ALIKE = 0.95
"""Similarity of the least similar layers from which layers are called all alike; random weights mostly reach .99."""


def all_alike(matrix: np.ndarray) -> bool:
    """Say whether all layers are alike, so that there is nothing to divide; no value that is none is alike."""
    return bool((matrix >= ALL_ALIKE).all())


def layer_clusters(matrix: np.ndarray, layers: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Divide the layers into groups of neighbours that are more alike than their distance explains.

    Layers that are near are alike in any deep network; that alone makes no cluster. So each similarity is taken less
    the mean of all pairs of layers as far apart (as modularity takes edges less the expected, Newman 2006), and the
    groups are those whose inner pairs have the largest sum: exactly, by dynamic programming over all divisions. Their
    number is the one of least BIC, a border counting as two parameters (its place and its level), among those that
    explain LEAST_EXPLAINED of what distance leaves. So a matrix without borders, flat or fading evenly with the
    distance, is one cluster.

    Args:
        matrix: (n_layers, n_layers), symmetric.
        layers: Layer numbers; None for positions from 0 on.
    """
    size = len(matrix)
    numbers = tuple(range(size) if layers is None else layers)
    surplus = _surplus(matrix)
    whole = (0.0, _bic(surplus, 1, 0.0), (0, size))
    found = [(*_judge(surplus, borders), borders) for borders in _divisions(surplus)[1:]]
    *_, borders = min([whole, *(one for one in found if one[0] >= LEAST_EXPLAINED)], key=lambda one: one[1])
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


def _judge(surplus: np.ndarray, borders: tuple[int, ...]) -> tuple[float, float]:
    """Share of the surplus' squares that one step for pairs inside a group explains, and the BIC of that."""
    group = np.searchsorted(borders, np.arange(len(surplus)), side="right")
    above = np.triu_indices(len(surplus), 1)
    values, inside = surplus[above], _surplus((group[:, None] == group[None, :]).astype(np.float64))[above]
    size = float((inside @ inside) * (values @ values))
    explained = float(values @ inside) ** 2 / size if size > 1e-12 else 0.0
    return explained, _bic(surplus, len(borders) - 1, explained)


def _bic(surplus: np.ndarray, n_groups: int, explained: float) -> float:
    values = surplus[np.triu_indices(len(surplus), 1)]
    n = max(1, len(values))
    left = float(values @ values) * (1.0 - explained)
    return n * float(np.log(max(left, 0.0) / n + LEAST_STEP**2)) + 2 * (n_groups - 1) * float(np.log(n))
