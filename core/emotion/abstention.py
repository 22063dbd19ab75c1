"""When to keep silent: a confidence below which nothing is said, set on training speakers."""

from dataclasses import replace

import numpy as np

from core.analysis.scores import coverage_curve
from core.emotion.head import Head
from core.scoring import Abstention

KEPT_ERROR = 0.5
"""Share of the error that may remain among the clips of which something is said."""

LEAST_COVERAGE = 0.5
"""Share of clips of which something is said at least, however unsure."""


def with_threshold(head: Head) -> Head:
    """Set the threshold from what held-out training speakers got; without those, leave it as it is."""
    from scipy.special import softmax

    if head.held_out is None or not len((known := head.held_out.complete).codes):
        return head
    confidence = softmax(known.logits / head.temperature, axis=1).max(axis=1)
    return replace(head, threshold=silence_threshold(confidence))


def silence_threshold(confidence: np.ndarray) -> float:
    """The least confidence at which half of the error is left, but half of the clips are answered.

    The error is what calibrated confidence says it is, not a count of wrong clips: with 25 clips that halves the
    scatter of the threshold, and the error that is left with speakers who were never heard is the same.

    Args:
        confidence: (n,) of the class that was said, after calibration.
    """
    descending = np.sort(confidence)[::-1]
    count = np.arange(1, len(descending) + 1)
    error = np.cumsum(1 - descending) / count  # ascends with coverage
    kept = count[error <= KEPT_ERROR * error[-1]].max(initial=0)
    return float(descending[max(kept, int(np.ceil(LEAST_COVERAGE * len(descending)))) - 1])


def abstention(
    confidence: np.ndarray,
    right: np.ndarray,
    thresholds: np.ndarray,
    head_of: np.ndarray | None = None,
    distances: np.ndarray | None = None,
) -> Abstention:
    """What is gained by keeping silent, where confidence is low and where a clip is unlike the training clips.

    Args:
        confidence: (n,) of the class that was said, after calibration.
        right: (n,) bool, whether it is the true one.
        thresholds: (heads,) of each head.
        head_of: (n,) number of the head that said it; None with a single one.
        distances: (n,) from its training clips, see :func:`core.emotion.domain.distance`; None knows of none.
    """
    unlike = np.zeros(len(confidence), dtype=bool) if distances is None else distances > 1
    sure = confidence >= thresholds[np.zeros(len(confidence), dtype=np.int64) if head_of is None else head_of]
    said = sure & ~unlike
    share = float(right[said].mean()) if said.any() else float("nan")
    curve = coverage_curve(confidence, right)
    return Abstention(float(np.median(thresholds)), float(said.mean()), share, curve, float(unlike.mean()))
