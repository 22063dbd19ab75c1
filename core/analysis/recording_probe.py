"""A linear probe of examples cut from recordings: what is held out is what stands for new data, whole recordings.

The probe is a ridge regression on the classes, each of which counts alike. Its strength and the layer it reads are
chosen inside the training part, by holding out parts of that once more; the held-out score of every layer is told
beside it, for the curve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.analysis.scores import confusion, paired_gain, speaker_bootstrap, tables_by_speaker, uar
from core.scoring import Estimate

STRENGTHS = np.logspace(0, 5, 11)
"""Of the ridge, for standardised features: from nearly none to nearly only the mean."""

MOST_FOLDS = 10
"""Recordings up to which each is left out in turn; more are left out in this many groups."""

INNER_FOLDS = 3
"""Parts of the training examples that strength and layer are chosen by."""

Fold = tuple[np.ndarray, np.ndarray]
"""Numbers of the examples to train on and to test."""

Rows = Callable[[np.ndarray], Sequence[np.ndarray]]
"""From the numbers of the training examples to the features of all: for each layer (n, dim). What is fitted, is fitted
on those."""


@dataclass(frozen=True)
class Examples:
    """Labelled examples without their features.

    Attributes:
        codes: (n,) int64, class numbers from 0 on.
        units: (n,) int64, what an interval draws: recordings, or stretches of them.
        parts: (n,) int64, what is held out together inside of a training part.
        folds: Who is trained on and who is tested.
        n_classes: Classes there are.
    """

    codes: np.ndarray
    units: np.ndarray
    parts: np.ndarray
    folds: tuple[Fold, ...]
    n_classes: int


@dataclass(frozen=True)
class Held:
    """What was said of examples that were held out.

    Attributes:
        layers: Place of the chosen layer in each fold.
        said: (n,) class numbers, -1 for examples that were never tested, by the chosen layer.
        by_layer: (layers, n), by each layer.
    """

    layers: tuple[int, ...]
    said: np.ndarray
    by_layer: np.ndarray


def leave_out(groups: np.ndarray, most: int = MOST_FOLDS) -> tuple[Fold, ...]:
    """Folds over whole groups (n,): each left out in turn, beyond ``most`` in that many sets."""
    from sklearn.model_selection import GroupKFold

    count = min(most, len(np.unique(groups)))
    return tuple(GroupKFold(count).split(groups, groups=groups))


class RidgePath:
    """Ridge regressions on one-hot classes of all STRENGTHS at once, from one decomposition.

    Features are standardised and classes weighted on the training examples, so that rare classes count as much as
    frequent ones; the offset is not penalised.

    Args:
        features: (n, dim) of the training examples.
        codes: (n,) their class numbers.
        n_classes: Classes there are; one without examples is never said.
    """

    def __init__(self, features: np.ndarray, codes: np.ndarray, n_classes: int) -> None:
        counts = np.bincount(codes, minlength=n_classes)
        weights = (1 / (np.count_nonzero(counts) * np.maximum(counts, 1)))[codes]
        self.mean = weights @ features
        spread = np.sqrt(weights @ np.square(features - self.mean))
        self.scale = np.where(spread > 1e-12 * np.abs(self.mean) + np.finfo(float).tiny, spread, np.inf)
        roots = np.sqrt(weights * len(codes))[:, None]
        wanted = np.eye(n_classes)[codes]
        self.offset = np.where(counts > 0, weights @ wanted, -np.inf)
        self._solve(self._standardised(features) * roots, (wanted - weights @ wanted) * roots)

    def _solve(self, rows: np.ndarray, wanted: np.ndarray) -> None:
        """Decompose the smaller of the two products of the rows with themselves."""
        tall = rows.shape[0] > rows.shape[1]
        powers, axes = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
        self.powers = np.maximum(powers, 0.0)
        self.left = axes if tall else rows.T @ axes
        self.right = axes.T @ (rows.T @ wanted if tall else wanted)

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.mean) / self.scale, dtype=np.float64)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores of examples (n, dim) by each strength: (strengths, n, classes)."""
        along = self._standardised(features) @ self.left
        shrunk = self.right / (self.powers + STRENGTHS[:, None])[:, :, None]
        return np.asarray(along @ shrunk + self.offset)

    def said(self, features: np.ndarray) -> np.ndarray:
        """Class numbers of examples (n, dim) by each strength: (strengths, n)."""
        return self.scores(features).argmax(axis=2)


def hold_out(rows: Rows, examples: Examples) -> Held:
    """Train and test in every fold.

    Args:
        rows: Features of all examples, fitted on the training examples where anything has to be.
        examples: Classes and folds.
    """
    from threadpoolctl import threadpool_limits

    chosen: list[int] = []
    said = np.full(len(examples.codes), -1)
    by_layer: np.ndarray | None = None
    with threadpool_limits(1):  # the fits are small: threads would wait for each other longer than they work
        for train, test in examples.folds:
            layers = rows(train)
            by_layer = np.full((len(layers), len(said)), -1) if by_layer is None else by_layer
            quality = np.array([_inner_scores(layer, train, examples) for layer in layers])
            for number, layer in enumerate(layers):
                path = RidgePath(layer[train], examples.codes[train], examples.n_classes)
                by_layer[number, test] = path.said(layer[test])[_best(quality[number])]
            chosen.append(int(quality.max(axis=1).argmax()))
            said[test] = by_layer[chosen[-1], test]
    assert by_layer is not None
    return Held(tuple(chosen), said, by_layer)


def _best(quality: np.ndarray) -> int:
    """The strongest ridge among those that do best."""
    return int(np.flatnonzero(quality == quality.max())[-1])


def _inner_scores(features: np.ndarray, train: np.ndarray, examples: Examples) -> np.ndarray:
    """Balanced accuracy of each strength, (strengths,), over held-out parts of the training examples."""
    codes, n_classes = examples.codes[train], examples.n_classes
    said = np.zeros((len(STRENGTHS), len(train)), dtype=np.int64)
    for inner, held in leave_out(examples.parts[train], INNER_FOLDS):
        said[:, held] = RidgePath(features[train[inner]], codes[inner], n_classes).said(features[train[held]])
    return np.array([uar(confusion(codes, row, n_classes)) for row in said])


# --------------------------------------------------------------------------------------------------------------- scores


def held_score(said: np.ndarray, examples: Examples, seed: int = 0) -> Estimate:
    """Balanced accuracy of what was said (n,), with its 95 % interval over units.

    With fewer than :data:`core.analysis.intervals.FEWEST_GROUPS` units there is none: their spread is hardly known.
    """
    return speaker_bootstrap(uar, _tables(said, examples), seed)


def held_gain(said: np.ndarray, other: np.ndarray, examples: Examples, seed: int = 0) -> Estimate:
    """By how much the balanced accuracy of one is above that of the other on the same examples, with its interval."""
    return paired_gain(uar, _tables(said, examples), _tables(other, examples), seed)


def _tables(said: np.ndarray, examples: Examples) -> np.ndarray:
    tested = said >= 0
    return tables_by_speaker(examples.codes[tested], said[tested], examples.units[tested], examples.n_classes)
