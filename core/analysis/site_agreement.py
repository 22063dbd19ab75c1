"""How far the similarity of sites goes with another measure of theirs: Spearman over pairs, and Mantel's test.

Pairs of n sites are not independent, as each site stands in n - 1 of them: a p value that counts pairs is far too
small. Mantel (1967) permutes sites, rows and columns together, which keeps what belongs to one site together. Sensors
at one place, such as a MEG triplet, are no more independent than that: they are permuted together.
"""

from collections.abc import Sequence

import numpy as np

FEWEST_SITES = 4
"""Sites that a correlation over pairs needs: three have three pairs, and six orders in all."""


def spearman_over_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation over pairs of sites, ties at their mean rank.

    Args:
        first: (sites, sites), symmetric; what is above the diagonal counts.
        second: The same; pairs that are NaN in either are left out.

    Returns:
        NaN where one of them is the same for all pairs.
    """
    pairs = np.triu_indices(len(first), 1)
    known = np.isfinite(first[pairs]) & np.isfinite(second[pairs])
    x, y = (_centred_ranks(matrix[pairs][known]) for matrix in (first, second))
    size = float(np.sqrt(x @ x) * np.sqrt(y @ y))
    return float(x @ y) / size if size > 0 else float("nan")


def mantel(
    first: np.ndarray,
    second: np.ndarray,
    permutations: int = 10_000,
    seed: int = 0,
    places: np.ndarray | None = None,
) -> tuple[float, float]:
    """Spearman over pairs with Mantel's permutation test, one-sided: is ``second`` large where ``first`` is?

    Ranks are taken once and a permutation only exchanges sites among them. They are whole numbers here (twice the rank,
    centred), so that draws that equal the observed sum are counted exactly. A pair that is NaN (two sites that no
    recording holds both, or at one place) counts as a middle rank in the test, and not at all in the correlation.

    Sensors at one place feel the same field: exchanged one by one they would be torn apart in every permutation, and
    any similarity within places would count as geometry. Whole places are exchanged instead, those of as many sensors
    with each other, the sensors in their order.

    Args:
        first: (sites, sites), symmetric.
        second: The same.
        permutations: m, drawn at random.
        seed: Of the permutations.
        places: (sites,) numbers of places, those of one number exchanged together; None exchanges each site by itself.

    Returns:
        Spearman, and p = (1 + b) / (1 + m), b counting permutations whose correlation is at least the observed one.
        Both NaN where one matrix is the same for all pairs.
    """
    spearman = spearman_over_pairs(first, second)
    if not np.isfinite(spearman):
        return spearman, float("nan")
    fixed, moved = _rank_matrix(first), _rank_matrix(second)
    observed, rng = np.vdot(fixed, moved), np.random.default_rng(seed)
    blocks = place_blocks(np.arange(len(fixed)) if places is None else places)
    reached = sum(bool(_exchanged_sum(fixed, moved, blocks, rng) >= observed) for _ in range(permutations))
    return spearman, (1 + reached) / (1 + permutations)


def place_blocks(places: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sites of places that can be exchanged: for each number of sensors, (places, sensors) numbers of sites.

    >>> [block.tolist() for block in place_blocks(np.array([0, 1, 1, 2, 3, 3]))]
    [[[0], [3]], [[1, 2], [4, 5]]]
    """
    members = [np.flatnonzero(places == one) for one in np.unique(places)]
    sizes = sorted({len(own) for own in members})
    return tuple(np.array([own for own in members if len(own) == size]) for size in sizes)


def _exchanged_sum(
    fixed: np.ndarray, moved: np.ndarray, blocks: Sequence[np.ndarray], rng: np.random.Generator
) -> float:
    """Sum of products after the places of one matrix, rows and columns together, were exchanged."""
    order = np.arange(len(fixed))
    for block in blocks:
        order[block] = rng.permutation(block)
    return float(np.vdot(fixed, moved[order].take(order, axis=1)))


def _rank_matrix(matrix: np.ndarray) -> np.ndarray:
    """Symmetric matrix of centred ranks, zero on the diagonal and where a pair is not known."""
    pairs = np.triu_indices(len(matrix), 1)
    values = matrix[pairs]
    known = np.isfinite(values)
    ranks = np.zeros(len(values))
    ranks[known] = _centred_ranks(values[known])
    found = np.zeros(matrix.shape)
    found[pairs] = ranks
    return found + found.T


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the rank, less its mean: whole numbers, ties included."""
    from scipy.stats import rankdata

    return np.asarray(2 * rankdata(values) - (len(values) + 1))
