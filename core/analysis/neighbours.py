"""How many neighbours a map keeps: the one number of a t-SNE that can be compared between maps."""

import numpy as np

MOST_QUERIES = 2_000
"""Rows whose neighbours are looked up at most; their mean is then known to about a hundredth at worst."""


def neighbour_preservation(
    rows: np.ndarray, points: np.ndarray, k: int = 10, most: int = MOST_QUERIES, seed: int = 0
) -> float:
    """Share of each row's k nearest other rows that are among the k nearest on the map, averaged over rows.

    Neighbours are exact (Euclidean) and looked for among all rows; 1 for a map that keeps all,
    :func:`neighbour_chance` for one that knows nothing.

    Args:
        rows: (n, dim), at least two.
        points: (n, n_axes), the same rows on the map.
        k: Neighbours; n - 1 where there are fewer.
        most: Rows asked at most; of more, so many are drawn.
        seed: Of the draw.
    """
    n = len(rows)
    if n != len(points) or n < 2:
        raise ValueError(f"Got {n} rows and {len(points)} points; expected as many points as rows, two at least.")
    k = min(k, n - 1)
    asked = np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    true, shown = nearest(rows, asked, k), nearest(points, asked, k)
    return float((true[:, :, None] == shown[:, None, :]).any(axis=2).mean())


def neighbour_chance(n: int, k: int = 10) -> float:
    """Preservation of a map that knows nothing of its n rows: k / (n - 1).

    >>> neighbour_chance(1_001)
    0.01
    """
    return min(k, n - 1) / (n - 1)


def nearest(rows: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    """Find the k nearest other rows of some rows.

    Args:
        rows: (n, dim).
        asked: (m,) numbers of the rows to look from.
        k: Neighbours, at most n - 1.

    Returns:
        (m, k) numbers of rows, nearest first.
    """
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows).kneighbors(rows[asked])[1]
    # A row is its own nearest, but for twins: with many of them it may not even be among those found.
    others = found != asked[:, None]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(len(asked), k)
