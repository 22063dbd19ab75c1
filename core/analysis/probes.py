"""Linear probes on frozen features: how much a linear classifier can read off each layer, beside chance and controls.

Groups (speakers, recordings) never stand on both sides of a split, and whatever is fitted (scales, axes, the
classifier, the choice of a layer) is fitted on training groups only.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from core.analysis.intervals import FEWEST_GROUPS, jackknife_interval, joined_groups

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator
    from sklearn.pipeline import Pipeline


class Classifier(Protocol):
    """What a probe fits."""

    def fit(self, features: NDArray, labels: NDArray, /) -> Self:
        """Fit on features ``(n, dim)`` and labels ``(n,)``."""
        ...

    def predict(self, features: NDArray, /) -> NDArray:
        """Give each row a label."""
        ...


Measure = Callable[[NDArray, NDArray], float]
"""Scores labels ``(n,)`` against predictions ``(n,)``."""


@dataclass(frozen=True)
class Probe:
    """A labelled set, split by groups, and how it is scored."""

    title: str
    note: str
    measure: str
    score: Measure
    classifier: Callable[[], Classifier]
    folds: "BaseCrossValidator"


@dataclass(frozen=True)
class Outcome:
    """Scores ``(layers,)`` over all test folds, and predictions with the layer chosen inside each training set."""

    scores: list[float]
    chosen: float
    interval: tuple[float, float]


def balanced_logistic() -> "Pipeline":
    """Standardise, then a strongly regularised logistic regression with balanced classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))


class ShrunkenDiscriminant:
    """Linear discriminant analysis of standardised dims with a shrunken covariance: a classifier with a closed form.

    The same numbers as scikit-learn's ``StandardScaler`` and ``LinearDiscriminantAnalysis(solver="lsqr")``, which takes
    the covariance of each class by itself: a tenth of the time at fifty classes.

    Args:
        shrinkage: Share of the covariance that is replaced by its mean variance in all directions.
    """

    def __init__(self, shrinkage: float = 0.01) -> None:
        self.shrinkage = shrinkage

    def fit(self, features: NDArray, labels: NDArray) -> Self:
        """Fit on features ``(n, dim)`` and labels ``(n,)``."""
        self.mean, self.scale = _mean_and_scale(features)
        names, codes = np.unique(labels, return_inverse=True)
        rows = self._standardised(features)
        self.fit_sums(ClassSums.of(rows, codes, rows.T @ rows))
        self.classes = names
        return self

    def fit_sums(self, given: "ClassSums") -> Self:
        """Fit on what sums tell of standardised rows; classes are their numbers, those without rows left out."""
        self.classes = np.flatnonzero(given.counts)
        counts, n, dim = given.counts[self.classes], given.counts.sum(), len(given.scatter)
        means = given.sums[self.classes] / counts[:, None]
        within = given.scatter - (means.T * counts) @ means
        covariance = (1 - self.shrinkage) * within / n
        # Classes that explain all of the rows leave rounding behind, and must not be divided by it.
        least = max(self.shrinkage * within.trace(), 1e-9 * given.scatter.trace())
        covariance.flat[:: dim + 1] += least / (n * dim)
        self.weights = _solved(covariance, means.T)
        self.offsets = np.log(counts / n) - np.einsum("cd,dc->c", means, self.weights) / 2
        return self

    def predict(self, features: NDArray) -> NDArray:
        """Give the most likely label of each row, ``(n,)``."""
        return self.predict_standardised(self._standardised(features))

    def predict_standardised(self, rows: NDArray) -> NDArray:
        """Do the same for rows on the scale of those that were fitted."""
        return self.classes[(rows @ self.weights + self.offsets).argmax(axis=1)]

    def _standardised(self, features: NDArray) -> NDArray:
        return (features - self.mean) / self.scale


@dataclass(frozen=True)
class ClassSums:
    """What a discriminant is fitted from; it adds up over rows, so leaving rows out is a difference.

    Attributes:
        counts: (classes,) rows of each class.
        sums: (classes, dim) their sums.
        scatter: (dim, dim) sum of products of all rows.
    """

    counts: NDArray
    sums: NDArray
    scatter: NDArray

    @classmethod
    def of(cls, rows: NDArray, codes: NDArray, scatter: NDArray, n_classes: int = 0) -> "ClassSums":
        """Sum up rows ``(n, dim)`` by their class numbers; their ``scatter`` is the same for all labels."""
        counts = np.bincount(codes, minlength=n_classes)
        return cls(counts, np.eye(len(counts))[codes].T @ rows, scatter)

    def __sub__(self, other: "ClassSums") -> "ClassSums":
        """Leave some of the rows out."""
        return ClassSums(self.counts - other.counts, self.sums - other.sums, self.scatter - other.scatter)


@dataclass(frozen=True)
class StandardisedRows:
    """All rows on the scale of the training rows, with the scatter that fits on these share.

    Attributes:
        values: (n, dim) float64; mean 0 and variance 1 over the training rows.
        train: Numbers of the training rows.
        scatter: (dim, dim) of the training rows.
    """

    values: NDArray
    train: NDArray
    scatter: NDArray

    @classmethod
    def of(cls, features: NDArray, train: NDArray) -> "StandardisedRows":
        """Standardise features ``(n, dim)`` by the rows ``train``."""
        mean, scale = _mean_and_scale(features[train])
        values = (features - mean) / scale
        return cls(values, train, values[train].T @ values[train])

    def sums(self, rows: NDArray, labels: NDArray, n_classes: int = 0) -> ClassSums:
        """Sum up some training rows by the class numbers ``labels`` ``(n,)``."""
        values = self.values[rows]
        scatter = self.scatter if len(rows) == len(self.train) else values.T @ values
        return ClassSums.of(values, labels[rows], scatter, n_classes)


def _mean_and_scale(features: NDArray) -> tuple[NDArray, NDArray]:
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    return mean, np.where(spread > 0, spread, 1.0)


def _solved(covariance: NDArray, means: NDArray) -> NDArray:
    """Solve for the weights; least squares only where nothing varies, at twenty times the cost."""
    from scipy.linalg import LinAlgError, solve

    try:
        return np.asarray(solve(covariance, means, assume_a="pos"))
    except LinAlgError:
        return np.asarray(np.linalg.lstsq(covariance, means, rcond=None)[0])


def on_standardised_axes(values: NDArray, train: NDArray, n_axes: int) -> NDArray:
    """Put rows ``(n, dim)`` on the ``n_axes`` principal axes of the standardised dims of the rows ``train``.

    Many dims are made few enough for the rows there are; standardising first keeps a few dims of large variance from
    deciding alone. In float32 and by LAPACK's choice of the upper eigenvectors: a fifth of the time of a whole
    decomposition or of Lanczos iterations for 128 axes of 768, and axes for a probe need no more digits.

    Returns:
        ``(n, n_axes)`` float32; zeros on axes that do not vary.
    """
    from scipy.linalg import eigh

    rows = values.astype(np.float32)
    rows -= rows[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    fitted, dim = rows[train], rows.shape[1]
    scatter = fitted.T @ fitted
    scale = np.sqrt(np.where(np.diag(scatter) > 0, np.diag(scatter), 1.0) / len(fitted))
    powers, axes = eigh(scatter / np.outer(scale, scale), subset_by_index=(dim - n_axes, dim - 1))
    # What lies below is rounding; a classifier that standardises would blow it up to the size of the rest.
    axes[:, powers <= 1e-6 * max(float(powers[-1]), 1e-30)] = 0.0
    return rows @ (axes[:, ::-1] / scale[:, None])


def run_probe(probe: Probe, layers: NDArray, labels: NDArray, groups: NDArray) -> Outcome:
    """Probe every layer of ``layers`` ``(layers, n, dim)``; the layer is also chosen inside each training set."""
    from threadpoolctl import threadpool_limits

    if (n_groups := len(np.unique(groups))) < FEWEST_GROUPS:
        raise ValueError(f"Got {n_groups} groups; a probe's interval needs at least {FEWEST_GROUPS}.")
    predictions = np.empty((len(layers), len(labels)), dtype=labels.dtype)
    chosen = np.empty(len(labels), dtype=labels.dtype)
    with threadpool_limits(1):  # the fits are small: threads would wait for each other longer than they work
        for train, test in probe.folds.split(layers[0], labels, groups):
            for index, features in enumerate(layers):
                predictions[index, test] = fit_predict(probe.classifier, features, labels, train, test)
            best = _best_layer(probe, layers[:, train], labels[train], groups[train])
            chosen[test] = predictions[best, test]
    interval = score_interval(probe.score, labels, chosen, groups)
    assert interval is not None  # there are groups enough
    scores = [float(probe.score(labels, row)) for row in predictions]
    return Outcome(scores, float(probe.score(labels, chosen)), interval)


def fit_predict(
    classifier: Callable[[], Classifier], features: NDArray, labels: NDArray, train: NDArray, test: NDArray
) -> NDArray:
    """Fit on the rows ``train`` of ``features`` ``(n, dim)`` and predict the labels of the rows ``test``."""
    if (labels[train] == labels[train][0]).all():  # nothing to tell apart: scikit-learn refuses to fit
        return np.full(len(test), labels[train][0])
    return classifier().fit(features[train], labels[train]).predict(features[test])


def _best_layer(probe: Probe, layers: NDArray, labels: NDArray, groups: NDArray) -> int:
    """The layer that is best in three inner folds over the training groups."""
    from sklearn.model_selection import GroupKFold

    if len(layers) == 1:
        return 0
    scores = np.zeros(len(layers))
    for train, test in GroupKFold(3).split(layers[0], labels, groups):
        for index, features in enumerate(layers):
            scores[index] += probe.score(labels[test], fit_predict(probe.classifier, features, labels, train, test))
    return int(np.argmax(scores))


def score_interval(
    score: Measure, labels: NDArray, predictions: NDArray, groups: NDArray
) -> tuple[float, float] | None:
    """95 % interval of a score between 0 and 1, leaving out tested groups; None where they are too few to tell."""
    units = joined_groups(groups)
    kept = [units != unit for unit in range(int(units.max()) + 1)] if units.any() else []
    left_out = np.array([score(labels[rows], predictions[rows]) for rows in kept])
    return jackknife_interval(score(labels, predictions), left_out, (0.0, 1.0))


def chance_level(score: Measure, labels: NDArray) -> float:
    """Score of always giving the most frequent class."""
    return float(score(labels, np.full_like(labels, Counter(labels.tolist()).most_common(1)[0][0])))


# ------------------------------------------------------------------------------------------------ shuffled labels


def shifted_within(units: NDArray, rng: np.random.Generator) -> NDArray:
    """Row numbers ``(n,)`` that shift what belongs to the rows in time, each unit (a recording) within itself.

    The null of whatever changes inside a recording: every unit keeps its labels and their runs, only their places are
    lost. Exchanging single rows would break the runs of neighbouring rows, and noise that is as slow as the labels
    would look like knowledge. A unit's rows are shifted round by a quarter to three quarters of their number; units of
    a single row are shifted round among themselves.

    Args:
        units: (n,) of each row, in the order of time within each unit.
        rng: Where shifts are drawn from.
    """
    order = np.arange(len(units))
    _, inverse, counts = np.unique(units, return_inverse=True, return_counts=True)
    alone = counts[inverse] == 1
    pieces = [np.flatnonzero(inverse == unit) for unit in np.flatnonzero(counts > 1)]
    for rows in (*pieces, np.flatnonzero(alone)):
        if len(rows) > 1:
            quarter = max(1, len(rows) // 4)
            order[rows] = np.roll(rows, int(rng.integers(quarter, len(rows) - quarter + 1)))
    return order


def exchanged_units(codes: NDArray, units: NDArray, rng: np.random.Generator, draws: int) -> tuple[NDArray, ...]:
    """Labels ``(n,)`` exchanged between whole units (recordings, speakers), each of which has one label.

    The null of what is constant in a unit: exchanging single rows would make as many independent rows of one unit.
    A unit with several labels takes the most frequent of its partner. All draws part the units differently, from each
    other and from the labels given: a draw that only renames the classes would be as easy to tell as they are.

    Args:
        codes: (n,) class numbers.
        units: (n,) of each row.
        rng: Where exchanges are drawn from.
        draws: How many to return.

    Returns:
        Empty where the units cannot be parted in so many other ways: the mean over a handful of exchanges says more of
        which they are than of chance.
    """
    values, inverse = np.unique(units, return_inverse=True)
    tables = np.zeros((len(values), int(codes.max()) + 1), dtype=np.int64)
    np.add.at(tables, (inverse, codes), 1)
    given = tables.argmax(axis=1)
    if other_exchanges(np.bincount(given)) < draws:
        return ()
    seen, found = {_parting(given)}, list[NDArray]()
    while len(found) < draws:
        drawn = rng.permutation(given)
        if (parting := _parting(drawn)) not in seen:
            seen.add(parting)
            found.append(drawn[inverse])
    return tuple(found)


def other_exchanges(sizes: NDArray) -> int:
    """Ways to part units into unnamed classes of these ``sizes``, the given one left out."""
    sizes = sizes[sizes > 0]
    ways = math.factorial(int(sizes.sum()))
    for alike in (*sizes.tolist(), *Counter(sizes.tolist()).values()):
        ways //= math.factorial(alike)
    return ways - 1


def _parting(labels: NDArray) -> bytes:
    """Which units have the same label, whatever it is called."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].tobytes()
