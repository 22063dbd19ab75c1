"""Whether sites of one kind have each other for nearest neighbours: hemispheres and regions from embeddings alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.analysis.scores import confusion, uar
from core.analysis.sites import unit_sites
from core.sites.table import SAME_PLACE_METRES

MIDLINE_SHARE = 0.05
"""Of the largest distance from the midline, below which a site belongs to neither side: 4 mm on a head."""

SHUFFLES_AT_ONCE = 500
QUANTILES = (0.25, 0.5, 0.95)


@dataclass(frozen=True)
class Vote:
    """What a leave-one-out kNN finds, and what it finds with shuffled labels.

    Attributes:
        accuracy: Balanced: mean over classes of the share that was recognised.
        shuffled: (3,) lower quartile, median and 95th percentile of the same with shuffled labels.
        p: (1 + shuffles that do as well) / (1 + shuffles).
        n: Sites that count.
        classes: Their names, sorted.
    """

    accuracy: float
    shuffled: tuple[float, float, float]
    p: float
    n: int
    classes: tuple[str, ...]


def hemispheres(positions: np.ndarray) -> np.ndarray:
    """Name the side of each site by the sign of x, which points to the right in MNE's head and device frames.

    Args:
        positions: (sites, 3) metres.

    Returns:
        (sites,) ``left``, ``right``, or empty: not known, or on the midline (within MIDLINE_SHARE of the farthest).
    """
    x = positions[:, 0]
    reach = float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
    least = MIDLINE_SHARE * reach
    return np.select([x < -least, x > least], ["left", "right"], "")


def places_of(positions: np.ndarray) -> np.ndarray:
    """Number places (sites,): sensors closer than SAME_PLACE_METRES share one; a site without position has its own."""
    from scipy.sparse.csgraph import connected_components

    gaps = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    return np.asarray(connected_components(np.nan_to_num(gaps, nan=np.inf) <= SAME_PLACE_METRES, directed=False)[1])


def learnable_labels(labels: np.ndarray, places: np.ndarray, k: int) -> np.ndarray:
    """Which sites count, (sites,) bool: those of classes in which most of k neighbours can be of one's own class.

    That takes sites at other places than one's own; empty labels are unknown.
    """
    kept = np.zeros(len(labels), dtype=bool)
    for name in np.unique(labels[labels != ""]):
        own = labels == name
        sizes = np.bincount(places[own])
        if own.sum() - sizes.max() > k // 2:
            kept |= own
    return kept if len(np.unique(labels[kept])) > 1 else np.zeros(len(labels), dtype=bool)


def recover(
    embeddings: np.ndarray,
    labels: np.ndarray,
    places: np.ndarray,
    k: int = 5,
    shuffles: int = 10_000,
    seed: int = 0,
) -> Vote | None:
    """Recover the labels of sites from their embeddings by leave-one-out kNN with cosine.

    Sensors at one place (a MEG triplet) are left out of each other's neighbours: they would name each other whatever
    the model knows of the rest of the head. Labels are shuffled among places for the same reason, where the sites of
    each place share theirs.

    Args:
        embeddings: (sites, dim).
        labels: (sites,) text; empty ones do not count, nor do classes that are too small (:func:`learnable_labels`).
        places: (sites,) numbers of places.
        k: Neighbours; fewer where there are fewer. Ties go to the class of the nearer ones.
        shuffles: Of the labels.
        seed: Of the shuffles.

    Returns:
        None where fewer than two classes count.
    """
    kept = learnable_labels(labels, places, k)
    if not kept.any():
        return None
    classes, codes = np.unique(labels[kept], return_inverse=True)
    near = _neighbours(embeddings[kept], places[kept], k)
    accuracy = float(uar(confusion(codes, _votes(near, codes[None], len(classes))[0], len(classes))))
    chance = np.concatenate(list(_shuffled(near, codes, _units(codes, places[kept]), (shuffles, seed))))
    low, middle, high = np.quantile(chance, QUANTILES) if shuffles else [float("nan")] * 3
    # Equal shares of recognised sites may differ in their last digit.
    p = (1 + int((chance >= accuracy - 1e-12).sum())) / (1 + shuffles)
    return Vote(accuracy, (float(low), float(middle), float(high)), p, len(codes), tuple(map(str, classes)))


def _neighbours(embeddings: np.ndarray, places: np.ndarray, k: int) -> np.ndarray:
    """Number the k most similar sites at other places, (sites, k), most similar first; -1 where there are fewer."""
    units = unit_sites(embeddings)
    similarity = units @ units.T
    similarity[places[:, None] == places[None, :]] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(places) - 1)]
    return np.where(np.isfinite(np.take_along_axis(similarity, order, axis=1)), order, -1)


def _votes(near: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Class that most neighbours have, (draws, sites), for labels (draws, sites)."""
    k = near.shape[1]
    weights = (1 + 1e-3 * 0.5 ** np.arange(k)) * (near >= 0)
    said = codes[:, near]
    scores = np.stack([(weights * (said == one)).sum(axis=2) for one in range(n_classes)], axis=2)
    return np.asarray(scores.argmax(axis=2))


def _units(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Number what labels are shuffled among: places, or single sites where sites of one place have several labels."""
    _, numbers = np.unique(places, return_inverse=True)
    _, first = np.unique(places, return_index=True)
    return numbers if np.array_equal(codes[first][numbers], codes) else np.arange(len(codes))


def _shuffled(near: np.ndarray, codes: np.ndarray, units: np.ndarray, draws: tuple[int, int]) -> Iterator[np.ndarray]:
    """Balanced accuracies with shuffled labels, some draws at once."""
    n_shuffles, seed = draws
    rng, n_classes = np.random.default_rng(seed), int(codes.max()) + 1
    labels = codes[np.unique(units, return_index=True)[1]]
    yield np.empty(0)
    for begin in range(0, n_shuffles, SHUFFLES_AT_ONCE):
        many = min(SHUFFLES_AT_ONCE, n_shuffles - begin)
        truth = rng.permuted(np.tile(labels, (many, 1)), axis=1)[:, units]
        yield uar(_tables(truth, _votes(near, truth, n_classes), n_classes))


def _tables(truth: np.ndarray, said: np.ndarray, n_classes: int) -> np.ndarray:
    """Count each draw's sites: (draws, classes, classes), rows the truth, of labels (draws, sites)."""
    cells = (np.arange(len(truth))[:, None] * n_classes + truth) * n_classes + said
    counts = np.bincount(cells.ravel(), minlength=len(truth) * n_classes**2)
    return counts.reshape(len(truth), n_classes, n_classes)
