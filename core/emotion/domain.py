"""How unlike the training clips something is: noise, music and other rooms are no voices a head has learned from.

A clip's distance has two parts, each a root mean square of standard scores: along the principal axes of the training
clips (more of the same), and away from all of them (something else). It is told in units of the distance that 95 % of
the clips of speakers stay below whom the reference had not heard, so that a new voice alone is not strange.
"""

from dataclasses import dataclass, replace

import numpy as np

from core.emotion.folds import speaker_folds
from core.emotion.head import Examples, Head, Reference
from core.scoring import Fold

MOST_AXES = 32
"""Principal axes that are kept, at most."""

CLIPS_AN_AXIS = 8
"""Training clips for each axis, at least: the spread along it has to be known."""

STAYS_BELOW = 0.95
"""Share of the clips of held-out speakers that are not called unlike."""

MOST_FOLDS = 10
"""Fits with speakers held out."""


def with_reference(head: Head, examples: Examples, seed: int = 0, folds: tuple[Fold, ...] | None = None) -> Head:
    """Set where the training clips lie; with one speaker or a handful of clips it stays open, for lack of any others.

    Args:
        head: Trained on ``examples``.
        examples: Training clips.
        seed: Of which speakers are held out together.
        folds: Whom the distances come from, where not all speakers can be held out in turn: an encoder that was trained
            on some of them knows their voices.
    """
    if folds is None:
        folds = speaker_folds(examples.speakers, examples.codes, MOST_FOLDS, seed)
    rows = head.mixed(examples.features)
    if not folds or min(len(fold.train) for fold in folds) < CLIPS_AN_AXIS:
        return head
    products = rows @ rows.T
    distances = [_span(products, fold.train).distances(products, fold.test) for fold in folds]
    # One of the clips, the next above: with few clips it is the farthest.
    threshold = float(np.quantile(np.concatenate(distances), STAYS_BELOW, method="higher"))
    everything = np.arange(len(rows))
    return replace(head, reference=_span(products, everything).reference(rows, max(threshold, 1e-12)))


def distance(head: Head, features: np.ndarray) -> np.ndarray:
    """How far clips are from those that were trained on: above 1 they are unlike them.

    Args:
        head: With a reference.
        features: (n_layers, n, dim) pooled.

    Returns:
        (n,) in units of the threshold; zeros for a head without a reference.
    """
    known = head.reference
    if known is None:
        return np.zeros(features.shape[1])
    offset = head.mixed(features) - known.mean
    along = offset @ known.axes
    away = np.maximum(np.square(offset).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
    return _distances(along, away, known.deviations, known.rest, known.axes.shape) / known.threshold


def _distances(
    along: np.ndarray, away: np.ndarray, deviations: np.ndarray, rest: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Join coordinates (n, axes) on the axes and squared distances (n,) from them; ``shape`` is (dim, axes)."""
    dim, n_axes = shape
    inside = np.square(along / deviations).sum(axis=1) / max(1, n_axes)
    return np.asarray(np.sqrt(inside + away / (rest**2 * max(1, dim - n_axes))))


@dataclass(frozen=True)
class _Span:
    """Principal axes of some rows, by the products of all rows with each other: no fit touches the dims again.

    Attributes:
        fitted: (m,) numbers of the rows.
        weights: (m, axes) of the centred rows in each axis.
        deviations: (axes,) standard deviations along them.
        rest: Variance that is left, over all dims.
    """

    fitted: np.ndarray
    weights: np.ndarray
    deviations: np.ndarray
    rest: float

    def distances(self, products: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Distances of other rows; the dims that are left count as one."""
        inner = products[np.ix_(rows, self.fitted)]
        own = products[np.ix_(self.fitted, self.fitted)]
        middle = own.mean(axis=0)
        # The axes are sums of centred rows, so what is constant in a row of the products drops out.
        along = (inner - middle) @ (self.weights - self.weights.mean(axis=0))
        squares = np.diag(products)[rows] - 2 * inner.mean(axis=1) + own.mean()
        away = np.maximum(squares - np.square(along).sum(axis=1), 0.0)
        return _distances(along, away, self.deviations, self.rest, (1 + along.shape[1], along.shape[1]))

    def reference(self, rows: np.ndarray, threshold: float) -> Reference:
        """Spell the axes out on rows (m, dim)."""
        dim, n_axes = rows.shape[1], self.weights.shape[1]
        mean = rows.mean(axis=0)
        axes = (rows - mean).T @ self.weights
        rest = self.rest / np.sqrt(max(1, dim - n_axes))
        return Reference(mean, axes, self.deviations, rest, threshold)


def _span(products: np.ndarray, fitted: np.ndarray) -> _Span:
    """Find the axes of the rows ``fitted`` from the products (n, n) of all rows."""
    from scipy.linalg import eigh

    own = products[np.ix_(fitted, fitted)]
    middle = own.mean(axis=0)
    centred = own - middle - middle[:, None] + own.mean()
    count = int(np.clip(len(fitted) // CLIPS_AN_AXIS, 1, MOST_AXES))
    powers, weights = eigh(centred, subset_by_index=(len(fitted) - count, len(fitted) - 1))
    total, freedom = max(float(np.trace(centred)), 0.0), len(fitted) - 1
    kept = powers > 1e-9 * max(total, 1e-30)
    powers, weights = powers[kept][::-1], weights[:, kept][:, ::-1]
    least = max(total, 1e-30) * 1e-6 / freedom  # nothing left over must not be divided by
    rest = max((total - float(powers.sum())) / freedom, least)
    return _Span(fitted, weights / np.sqrt(powers), np.sqrt(powers / freedom), float(np.sqrt(rest)))
