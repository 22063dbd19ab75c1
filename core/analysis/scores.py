"""How good predictions are: recalls, calibration and coverage, with 95 % intervals over whole speakers.

Scores come from tables of counts, ``(..., classes, classes)``, rows the truth and columns what was said: tables of
speakers add up, so a bootstrap over speakers is one matrix product.
"""

from collections.abc import Callable

import numpy as np

from core.analysis.intervals import FEWEST_GROUPS, t_interval
from core.scoring import Estimate, Reliability

N_BINS = 15
"""Bins of a calibration error, of alike numbers of clips."""

N_DRAWS = 2000
"""Draws of a bootstrap over speakers."""

CURVE_POINTS = 200
"""Thresholds of a coverage curve, at most."""

CALIBRATED_DRAWS = 400
"""Draws of what a calibrated classifier would have been measured to have."""

Score = Callable[[np.ndarray], np.ndarray]
"""Scores tables of counts ``(..., classes, classes)``; NaN where a table does not tell."""


# ---------------------------------------------------------------------------------------------------- labels as given


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of rows that were recognised."""
    return float(np.mean(labels == predictions))


def unweighted_recall(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean over the classes that occur of the share that was recognised (UAR)."""
    names, codes = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    truth, said = np.split(codes.reshape(-1), 2)
    return float(uar(confusion(truth, said, len(names))))


# -------------------------------------------------------------------------------------------------- tables of counts


def confusion(truth: np.ndarray, said: np.ndarray, n_classes: int) -> np.ndarray:
    """Count clips: (classes, classes) int64, rows the truth, columns what was said."""
    return np.bincount(truth * n_classes + said, minlength=n_classes**2).reshape(n_classes, n_classes)


def recalls(counts: np.ndarray) -> np.ndarray:
    """Share of each class that was recognised, (..., classes); NaN for a class that does not occur."""
    return _shares(_right(counts), counts.sum(axis=-1))


def uar(counts: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur (unweighted average recall), (...)."""
    return _mean_known(recalls(counts))


def wa(counts: np.ndarray) -> np.ndarray:
    """Share of clips that is right (weighted accuracy), (...)."""
    return _shares(_right(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur or were said, (...)."""
    return _mean_known(_shares(2 * _right(counts), counts.sum(axis=-1) + counts.sum(axis=-2)))


def _right(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return _shares(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


# ------------------------------------------------------------------------------------------- intervals over speakers


def tables_by_speaker(truth: np.ndarray, said: np.ndarray, speakers: np.ndarray, n_classes: int) -> np.ndarray:
    """Count each speaker's clips: (speakers, classes, classes), speakers in the order of their names."""
    names, numbers = np.unique(speakers, return_inverse=True)
    cells = (numbers * n_classes + truth) * n_classes + said
    return np.bincount(cells, minlength=len(names) * n_classes**2).reshape(len(names), n_classes, n_classes)


def speaker_bootstrap(score: Score, tables: np.ndarray, seed: int = 0, n_draws: int = N_DRAWS) -> Estimate:
    """Score with a 95 % interval, drawing whole speakers with replacement.

    Percentiles of so few speakers are too narrow (of five, they hold the truth in four fifths of cases). So the
    interval is the spread of the draws times a t quantile, on the scale of log odds, where it is even on both sides
    close to 1 as well. The spread is made up for the speakers' own mean, and is never less than clips that were drawn
    one by one would have: five speakers who are right throughout do not prove that nobody ever is wrong.

    Args:
        score: Scores tables that were added up.
        tables: (speakers, classes, classes); speakers without clips do not count.
        seed: Of the draws.
        n_draws: How many.

    Returns:
        Without ends where fewer than FEWEST_GROUPS speakers have clips; NaN without clips.
    """
    from scipy.special import expit, logit

    tables = tables[tables.any(axis=(1, 2))]
    n, n_speakers = float(tables.sum()), len(tables)
    value = float(score(tables.sum(axis=0))) if n else float("nan")
    if n_speakers < FEWEST_GROUPS:
        return Estimate(value)
    draws = score(_drawn_sums(tables, seed, n_draws))
    middle = (value * n + 2) / (n + 4)  # never 0 or 1, where log odds end (Agresti & Coull 1998)
    spread = max(_unbiased_spread(draws, n_speakers), float(np.sqrt(middle * (1 - middle) / (n + 4))))
    low, high = t_interval(logit(middle), spread / (middle * (1 - middle)), n_speakers - 1, (-np.inf, np.inf))
    return Estimate(value, min(value, float(expit(low))), max(value, float(expit(high))))


def paired_gain(score: Score, first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """How much better one classifier scores than another on the same clips, with its 95 % interval.

    The same speakers are drawn for both: what is hard in a voice is hard for both, so that the difference is known
    better than either score.

    Args:
        score: Scores tables that were added up.
        first: (speakers, classes, classes) of one classifier.
        second: (speakers, classes, classes) of the other, of the same speakers.
        seed: Of the draws.

    Returns:
        Without ends where fewer than FEWEST_GROUPS speakers have clips.
    """
    both = np.stack([first, second], axis=1)
    both = both[both.any(axis=(1, 2, 3))]
    total = both.sum(axis=0)
    value = float(score(total[0]) - score(total[1]))
    if len(both) < FEWEST_GROUPS:
        return Estimate(value)
    draws = _drawn_sums(both, seed, N_DRAWS)
    spread = _unbiased_spread(score(draws[:, 0]) - score(draws[:, 1]), len(both))
    low, high = t_interval(value, spread, len(both) - 1)
    return Estimate(value, float(low), float(high))


def recall_bootstrap(tables: np.ndarray, number: int, seed: int = 0) -> Estimate:
    """Recall of one class with its 95 % interval; speakers who have none of its clips do not count."""
    own = np.zeros((len(tables), 2, 2), dtype=tables.dtype)
    own[:, 0, 0] = tables[:, number, number]
    own[:, 0, 1] = tables[:, number].sum(axis=1) - own[:, 0, 0]
    return speaker_bootstrap(wa, own, seed)


def _drawn_sums(sums: np.ndarray, seed: int, n_draws: int) -> np.ndarray:
    """Add up the sums (speakers, ...) of drawn speakers: (draws, ...)."""
    count = len(sums)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n_draws)
    return (times.astype(np.float64) @ sums.reshape(count, -1)).reshape(n_draws, *sums.shape[1:])


def _unbiased_spread(draws: np.ndarray, count: int) -> float:
    """Standard error from draws of ``count`` groups, which vary about their own mean and so too little."""
    return float(np.nanstd(draws) * np.sqrt(count / (count - 1)))


# -------------------------------------------------------------------------------------------------------- calibration


def mass_bins(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Number bins of alike numbers of clips by confidence, (n,) from 0 on; the same confidence is never parted."""
    from scipy.stats import rankdata

    middle = rankdata(confidence) - 0.5
    return np.floor(middle * n_bins / max(1, len(confidence))).astype(np.int64)


def reliability(confidence: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> Reliability:
    """How confidence and being right agree, in bins of alike numbers of clips; bins without clips are left out.

    Args:
        confidence: (n,) probability of the class that was said.
        right: (n,) bool, whether it is the true one.
        n_bins: Bins, where there are clips enough.
    """
    bins = mass_bins(confidence, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    kept = counts > 0
    sums = [np.bincount(bins, weights=of, minlength=n_bins)[kept] for of in (confidence, right)]
    return Reliability(sums[0] / counts[kept], sums[1] / counts[kept], counts[kept])


def ece(bins: Reliability) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over bins, weighed by their clips.

    Chance moves both apart in every bin, so the estimate lies above the truth, the more so the fewer clips there are;
    nothing is taken away for that. See :func:`calibrated_ece` for what a calibrated classifier would have.
    """
    return float((np.abs(bins.accuracy - bins.confidence) * bins.counts).sum() / bins.counts.sum())


def ece_bootstrap(confidence: np.ndarray, right: np.ndarray, speakers: np.ndarray, seed: int = 0) -> Estimate:
    """Calibration error with a 95 % interval, drawing whole speakers with replacement; the bins stay where they are.

    What chance alone does to the bins, the draws show about their own mean; squares of error and chance add up. The
    interval holds the estimate with and without chance, so that it reaches 0 for a calibrated classifier.

    Args:
        confidence: (n,) probability of the class that was said.
        right: (n,) bool, whether it is the true one.
        speakers: (n,) who speaks.
        seed: Of the draws.

    Returns:
        Without ends where speakers are fewer than FEWEST_GROUPS.
    """
    value = ece(reliability(confidence, right))
    numbers = np.unique(speakers, return_inverse=True)[1]
    n_speakers = int(numbers.max()) + 1
    if n_speakers < FEWEST_GROUPS:
        return Estimate(value)
    cells = numbers * N_BINS + mass_bins(confidence)
    gaps = np.bincount(cells, weights=confidence - right, minlength=n_speakers * N_BINS).reshape(n_speakers, N_BINS)
    drawn = _drawn_sums(np.concatenate([gaps, np.bincount(numbers)[:, None]], axis=1), seed, N_DRAWS)
    shares = drawn[:, :-1] / drawn[:, -1:]
    draws = np.abs(shares).sum(axis=1)
    widened = np.sqrt(n_speakers / (n_speakers - 1))
    noise = np.abs(shares - gaps.sum(axis=0) / len(numbers)).sum(axis=1) * widened
    least, unbiased = (_without(value, float(part)) for part in (np.quantile(noise, 0.975), noise.mean()))
    spread = float(draws.std() * widened)
    low, high = t_interval(value, spread, n_speakers - 1, (0.0, 1.0), bias=value - unbiased)
    return Estimate(value, min(least, float(low)), float(high))


def _without(value: float, noise: float) -> float:
    """Take noise out of a mean of absolute values, as their squares add up."""
    return float(np.sqrt(max(0.0, value**2 - noise**2)))


def calibrated_ece(confidence: np.ndarray, seed: int = 0) -> float:
    """What a perfectly calibrated classifier with these confidences would be measured to have: the noise floor."""
    bins = mass_bins(confidence)
    rng = np.random.default_rng(seed)
    gaps = confidence - (rng.random((CALIBRATED_DRAWS, len(confidence))) < confidence)
    return float(np.abs(gaps @ np.eye(N_BINS)[bins]).sum(axis=1).mean() / len(confidence))


# ----------------------------------------------------------------------------------------------------------- coverage


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Coverage and accuracy by threshold.

    Args:
        confidence: (n,) probability of the class that was said.
        right: (n,) bool, whether it is the true one.

    Returns:
        (points, 3), thresholds ascending from 0, which covers all clips: threshold, share of clips whose confidence
        reaches it, share of those that is right. At most CURVE_POINTS points, the last the highest confidence.
    """
    order = np.argsort(confidence, kind="stable")
    ascending = confidence[order]
    first = np.flatnonzero(np.diff(ascending, prepend=-np.inf) > 0)  # of each confidence that occurs
    first = first[np.unique(np.linspace(0, len(first) - 1, CURVE_POINTS).round().astype(np.int64))]
    left = len(ascending) - first
    hits = np.cumsum(right[order][::-1])[::-1][first]
    return np.stack([np.where(first == 0, 0.0, ascending[first]), left / len(ascending), hits / left], axis=1)
