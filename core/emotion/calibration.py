"""Confidence that means what it says: one temperature for all classes, so that what is said stays the same."""

from dataclasses import replace

import numpy as np

from core.emotion.head import Head

WIDEST = 1e4
"""A temperature lies within this factor of the logits' own spread, on either side."""


def calibrated(head: Head) -> Head:
    """Set the temperature from what held-out training speakers got; without those, leave it as it is."""
    if head.held_out is None or not len((known := head.held_out.complete).codes):
        return head
    return replace(head, temperature=fit_temperature(known.logits, known.codes))


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The temperature with the least mean negative log likelihood.

    The truth is taken to be a little less than certain, one clip in n + 2 (Platt 1999): where few clips are all right,
    they ask for a confidence of (n + 1) / (n + 2) rather than of 1. Clips count alike, as in the calibration error.

    Args:
        logits: (n, classes); a clip with a class that cannot be said, -inf, does not count.
        codes: (n,) the truth.

    Returns:
        1.0 where the logits do not differ or nothing is known.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    known = np.isfinite(logits).all(axis=1)
    logits, codes = logits[known], codes[known]
    if not len(codes) or not (spread := float(np.std(logits - logits.mean(axis=1, keepdims=True)))):
        return 1.0
    n, n_classes = logits.shape
    wanted = np.full((n, n_classes), 1 / ((n + 2) * (n_classes - 1)))
    wanted[np.arange(n), codes] = (n + 1) / (n + 2)
    met = float((wanted * logits).sum())

    def loss(log_inverse: float) -> float:
        """Convex in the inverse temperature, so it has one minimum on any scale of it."""
        inverse = float(np.exp(log_inverse))
        return float(logsumexp(inverse * logits, axis=1).sum()) - inverse * met

    bounds = (-np.log(WIDEST * spread), np.log(WIDEST / spread))
    return float(np.exp(-minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))
