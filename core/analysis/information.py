"""Mutual information of labels and clusters of features, without what too many clusters would add.

Pasad et al. (2021, https://arxiv.org/abs/2107.04734, section 3.3) cluster the rows of a layer with k-means and take the
mutual information of clusters and labels, over the labels' entropy. Counted on few rows that figure is inflated: with
a hundred clusters, independent labels "share" a fifth of their entropy at 2,500 rows, and all of it with as many
clusters as rows. Here clusters are fitted on some groups and counted on others, and what shuffled labels would give at
the same counts is subtracted (adjusted for chance, Vinh, Epps & Bailey 2010, with the labels' entropy as the upper
bound):

    (I - E[I of shuffled labels]) / (H(label) - E[I of shuffled labels])

1 where the clusters determine the labels, 0 in the mean where they know nothing of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROWS_A_CLUSTER = 25
MOST_CLUSTERS = 500
"""As many as Pasad et al. use for phones; reached at 12,500 training rows."""


@dataclass(frozen=True)
class Information:
    """Share of the labels' entropy that clusters know.

    Attributes:
        value: Adjusted for chance, at most 1; slightly negative values are noise.
        shuffled: Mean of the same over shuffles of the labels that ``value`` was not adjusted with.
        inflation: What was subtracted, over the labels' entropy: the figure that shuffled labels would have had.
    """

    value: float
    shuffled: float
    inflation: float


def n_clusters(n_train: int, n_classes: int) -> int:
    """One cluster for 25 training rows, but no fewer than classes, no more than 500 and than half the rows."""
    return max(2, min(max(n_train // ROWS_A_CLUSTER, n_classes), MOST_CLUSTERS, n_train // 2))


def cluster_centres(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Fit k-means on rows (n, dim): centres (k, dim)."""
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(min(k, len(rows)), n_init=1, batch_size=1_024, random_state=seed).fit(rows)
    return np.asarray(fitted.cluster_centers_)


def nearest(centres: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Number of the centre (k, dim) that each of the rows (n, dim) is nearest to."""
    return np.asarray((rows @ centres.T - np.square(centres).sum(axis=1) / 2).argmax(axis=1))


def refined(centres: np.ndarray, rows: np.ndarray, steps: int = 2) -> np.ndarray:
    """Fit centres on to other rows, by a few of Lloyd's steps: what a few rows less change, without another start."""
    for _ in range(steps):
        found = nearest(centres, rows)
        counts = np.bincount(found, minlength=len(centres))[:, None]
        sums = np.eye(len(centres), dtype=rows.dtype)[found].T @ rows
        centres = np.where(counts > 0, sums / np.maximum(counts, 1).astype(rows.dtype), centres)
    return centres


def entropy(codes: np.ndarray) -> float:
    """Entropy of a list of small non-negative integers, in nats, from their counts."""
    from scipy.special import entr

    return float(entr(np.bincount(codes) / max(1, len(codes))).sum())


def mutual_information(labels: np.ndarray, others: np.ndarray) -> float:
    """Mutual information of two lists of small non-negative integers, in nats, from their joint counts."""
    joint = labels.astype(np.int64) * (int(others.max(initial=0)) + 1) + others
    return entropy(labels) + entropy(others) - entropy(joint)


def information_share(labels: np.ndarray, found: np.ndarray, nulls: Sequence[np.ndarray]) -> Information:
    """Compare the labels of held-out rows with their clusters.

    Args:
        labels: (n,) class numbers.
        found: (n,) cluster numbers, of clusters fitted on other groups.
        nulls: Shuffled ``labels``, at least two: the first half gives what is subtracted, the other the control.
    """
    half = len(nulls) // 2
    expected, others = list(nulls[:half]), list(nulls[half:])
    value, inflation = _adjusted(labels, found, expected)
    control = [_adjusted(null, found, expected)[0] for null in others]
    return Information(value, float(np.mean(control)), inflation)


def _adjusted(labels: np.ndarray, found: np.ndarray, nulls: Sequence[np.ndarray]) -> tuple[float, float]:
    """The share, adjusted for chance, and the share of entropy that was subtracted."""
    whole = entropy(labels)
    chance = float(np.mean([mutual_information(null, found) for null in nulls]))
    # As many clusters as rows leave nothing to know beyond chance.
    if whole - chance <= 1e-9 * max(whole, 1.0):
        return 0.0, chance / whole if whole > 0 else 0.0
    return (mutual_information(labels, found) - chance) / (whole - chance), chance / whole
