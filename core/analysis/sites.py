"""How alike sites are by their learned embeddings: cosine, hierarchical order, nearest sites, and flat maps.

Row i of every array is site i + 1: row 0 of a model's table belongs to no site, is zero, and is not handed in (the
shared document "Spatial Embedding Guide for Wav2Vec2_2D" has it in its matrix, with a cosine of 0 with itself).
"""

from collections.abc import Sequence

import numpy as np

from core.analysis.projection import principal_axes
from core.analysis.tsne import TsneSettings, tsne_steps
from core.errors import DataError

FEWEST_MAPPED = 10
"""Sites from which a t-SNE map is drawn; among fewer there are hardly neighbours to tell apart."""

LARGEST_PERPLEXITY = 30.0
SITES_PER_PERPLEXITY = 6
"""A sixth of the sites is the perplexity: 10 of 64 EEG electrodes, an electrode's ring or two."""


def unit_sites(embeddings: np.ndarray) -> np.ndarray:
    """Scale each site's embedding to length one.

    Args:
        embeddings: (sites, dim), without the row of id 0.

    Returns:
        (sites, dim) float64.

    Raises:
        DataError: A site whose row is zero or not finite: it has no direction, and so no cosine with any other.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~((lengths[:, 0] > 0) & np.isfinite(lengths[:, 0])))
    if len(wrong):
        raise DataError(
            f"Got an embedding of zeros, or without finite numbers, for site {wrong[0] + 1} ({len(wrong)} such of "
            f"{len(rows)}); expected a direction for each. Train the model again, or restore its weights."
        )
    return np.asarray(rows / lengths)


def site_similarity_matrix(embeddings: np.ndarray) -> np.ndarray:
    """Cosine of each two sites, (sites, sites) float64, of embeddings (sites, dim); exactly 1 on the diagonal.

    Random rows of d numbers are not at 0 but about ``1 / sqrt(d)`` from it: draw the untrained table's beside it.

    Raises:
        DataError: As :func:`unit_sites`.
    """
    units = unit_sites(embeddings)
    found = np.clip(units @ units.T, -1.0, 1.0)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def hierarchical_order(similarity: np.ndarray) -> np.ndarray:
    """Order sites so that alike ones stand side by side.

    Average linkage on 1 - cosine; the leaves are then turned so that neighbours are as alike as the tree allows
    (Bar-Joseph et al. 2001).

    Args:
        similarity: (sites, sites).

    Returns:
        (sites,) int64, places of the sites.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(similarity) < 3:
        return np.arange(len(similarity))
    apart = np.clip(1.0 - similarity, 0.0, None)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), method="average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.int64)


def nearest_sites(
    similarity: np.ndarray, names: Sequence[str], most: int = 5
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Name the ``most`` most similar other sites of each site, best first, with their similarity."""
    alone = np.array(similarity, dtype=np.float64)
    np.fill_diagonal(alone, -np.inf)
    order = np.argsort(-alone, axis=1, kind="stable")[:, : min(most, len(names) - 1)]
    return {
        name: tuple((names[other], float(similarity[row, other])) for other in order[row])
        for row, name in enumerate(names)
    }


def site_distances(positions: np.ndarray) -> np.ndarray:
    """Straight distance of each two sites, (sites, sites), in the unit of ``positions`` (sites, 3); NaN if unknown."""
    return np.asarray(np.linalg.norm(positions[:, None] - positions[None, :], axis=-1))


def site_maps(embeddings: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Lay sites out so that those of alike direction lie close.

    All maps are of rows of length one: their squared distances are 2 - 2 cosine, so that a map shows what the matrix
    does.

    Args:
        embeddings: (sites, dim), without the row of id 0.
        seed: Of t-SNE.

    Returns:
        ``pca2`` (sites, 2), ``pca3`` (sites, 3) and from FEWEST_MAPPED sites on ``tsne2`` (sites, 2). Principal axes
        that few sites or dims lack are zero.
    """
    units = unit_sites(embeddings)
    mean, axes, _ = principal_axes(units, min(3, len(units) - 1, units.shape[1]))
    points = np.zeros((len(units), 3))
    points[:, : axes.shape[1]] = (units - mean) @ axes
    maps = {"pca2": points[:, :2].copy(), "pca3": points}
    if len(units) >= FEWEST_MAPPED:
        perplexity = float(min(LARGEST_PERPLEXITY, max(2, len(units) // SITES_PER_PERPLEXITY)))
        *_, last = tsne_steps(units, TsneSettings(perplexity=perplexity, seed=seed, every=500))
        maps["tsne2"] = np.asarray(last.points, dtype=np.float64)
    return maps
