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

MOST_CLIPS = 1_000
"""Clips that the reference is made of, drawn evenly over the speakers: by then axes and threshold are known, and the
work grows with the third power of their number."""

SPACE = 64
"""Principal axes of all clips among which each fit without some speakers looks for its own."""


def with_reference(head: Head, examples: Examples, seed: int = 0, folds: tuple[Fold, ...] | None = None) -> Head:
    """Set where the training clips lie; with one speaker or a handful of clips it stays open, for lack of any others.

    Args:
        head: Trained on ``examples``.
        examples: Training clips.
        seed: Of the clips that are drawn, and of which speakers are held out together.
        folds: Whom the distances come from, where not all speakers can be held out in turn: an encoder that was trained
            on some of them knows their voices.
    """
    drawn = drawn_evenly(examples.speakers, MOST_CLIPS, seed)
    if folds is None:
        folds = speaker_folds(examples.speakers[drawn], examples.codes[drawn], MOST_FOLDS, seed)
    else:
        folds = tuple(Fold(_places(fold.train, drawn), _places(fold.test, drawn)) for fold in folds)
    if not folds or min(len(fold.train) for fold in folds) < CLIPS_AN_AXIS:
        return head
    space = _Space.of(head.mixed(examples.features[:, drawn]))
    distances = np.concatenate([space.distances(space.fit(fold.test), fold.test) for fold in folds])
    # One of the clips, the next above: with few clips it is the farthest.
    threshold = float(np.quantile(distances, STAYS_BELOW, method="higher"))
    return replace(head, reference=space.reference(max(threshold, 1e-12)))


def _places(rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Places among the drawn clips of those rows that were drawn."""
    return np.flatnonzero(np.isin(drawn, rows))


def drawn_evenly(speakers: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Numbers of at most so many clips, ascending: a first one of each speaker, then a second one, and so on."""
    if len(speakers) <= most:
        return np.arange(len(speakers))
    order = np.random.default_rng(seed).permutation(len(speakers))
    counts = np.unique(speakers, return_counts=True)[1]
    together = order[np.argsort(speakers[order], kind="stable")]
    turn = np.empty(len(speakers), dtype=np.int64)
    turn[together] = np.concatenate([np.arange(count) for count in counts])
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


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
class _Space:
    """Clips in the few directions in which they differ most, so that fits without some of them cost next to nothing.

    Attributes:
        rows: (n, dim), their mean taken away; float32 where they are longer than many, which six digits are enough for.
        mean: (dim,) that was taken away.
        axes: (dim, k) orthonormal; they span the largest principal axes of the rows.
        places: (n, k) of the rows along them.
        squares: (n,) squared lengths of the rows.
    """

    rows: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    places: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "_Space":
        """Find the axes of rows (n, dim), by their products with each other or by those of the dims."""
        from scipy.linalg import eigh, qr

        mean = rows.mean(axis=0)
        wide = rows.shape[1] > len(rows)
        rows = (rows - mean).astype(np.float32 if wide else np.float64)
        products = rows @ rows.T if wide else rows.T @ rows
        size = len(products)
        powers, vectors = eigh(products, subset_by_index=(max(0, size - SPACE), size - 1))
        vectors = vectors[:, powers > np.finfo(products.dtype).eps * size * max(float(powers[-1]), 1e-30)]
        axes = qr(rows.T @ vectors, mode="economic")[0] if wide else vectors
        return cls(
            rows, mean, axes, (rows @ axes).astype(np.float64), np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        )

    def fit(self, left: np.ndarray) -> "_Span":
        """Find the principal axes of all rows but those numbered ``left``."""
        n = len(self.rows) - len(left)
        mean = -self.rows[left].sum(axis=0, dtype=np.float64) / n  # all rows add up to nothing
        squared = float(mean @ mean)
        centred = np.delete(self.places, left, axis=0) - mean @ self.axes
        total = max(float(np.delete(self.squares, left).sum()) - n * squared, 1e-30)
        count = int(np.clip(n // CLIPS_AN_AXIS, 1, MOST_AXES))
        powers, turn = np.linalg.eigh(centred.T @ centred)
        kept = np.flatnonzero(powers > 1e-9 * total)[::-1][:count]
        powers, turn = powers[kept], turn[:, kept]
        least = total * 1e-6 / (n - 1)  # nothing left over must not be divided by
        rest = max((total - float(powers.sum())) / (n - 1), least)
        return _Span(mean, turn, np.sqrt(powers / (n - 1)), float(np.sqrt(rest)))

    def distances(self, span: "_Span", rows: np.ndarray) -> np.ndarray:
        """Distances of some rows, by their numbers; the dims that are left count as one."""
        along = (self.places[rows] - span.mean @ self.axes) @ span.turn
        lengths = self.squares[rows] - 2 * self.rows[rows] @ span.mean + span.mean @ span.mean
        away = np.maximum(lengths - np.square(along).sum(axis=1), 0.0)
        n_axes = along.shape[1]
        return _distances(along, away, span.deviations, span.rest, (1 + n_axes, n_axes))

    def reference(self, threshold: float) -> Reference:
        """Take the axes of all rows."""
        span = self.fit(np.arange(0))
        rest = span.rest / np.sqrt(max(1, len(self.mean) - span.turn.shape[1]))
        return Reference(self.mean, self.axes.astype(np.float64) @ span.turn, span.deviations, rest, threshold)


@dataclass(frozen=True)
class _Span:
    """Principal axes of some rows.

    Attributes:
        mean: (dim,) of these rows, from that of all.
        turn: (k, axes) the axes, on those of the space.
        deviations: (axes,) standard deviations along them.
        rest: Standard deviation that is left, over all dims together.
    """

    mean: np.ndarray
    turn: np.ndarray
    deviations: np.ndarray
    rest: float
