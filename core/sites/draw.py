"""Which sites a grid shows: drawn so that each site is seen about as often as every other."""

import numpy as np

from core.errors import InputError


def draw_sites(
    sites: tuple[int, ...], n: int, rng: np.random.Generator, counts: np.ndarray | None = None
) -> np.ndarray:
    """Draw different sites of a stretch, those first that were drawn least so far.

    Args:
        sites: Ids that the stretch holds.
        n: How many to draw.
        rng: Breaks ties.
        counts: (sites of the model,) how often each was drawn; None draws with equal chances.

    Returns:
        (n,) int64 ids in random order.

    Raises:
        InputError: the stretch holds fewer.
    """
    if n > len(sites):
        raise InputError(f"Got a stretch of {len(sites)} sites for a grid of {n}. Set sites_per_grid to fewer.")
    mixed = rng.permutation(np.array(sites, dtype=np.int64))
    if counts is not None:
        mixed = mixed[np.argsort(counts[mixed - 1], kind="stable")]
    return rng.permutation(mixed[:n])
