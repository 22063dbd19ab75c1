"""Where nothing is to be found: the same evaluation with labels shuffled."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from core.analysis.intervals import t_interval
from core.emotion.head import Examples
from core.scoring import Estimate, Evaluation

N_SHUFFLES = 5
"""Shuffles that the control is made of: a single one lies outside of its own interval once in twenty times."""


def shuffled_within_speakers(examples: Examples, seed: int = 0) -> Examples:
    """Shuffle labels among the clips of each speaker, who keeps as many of each class.

    Shuffling between speakers as well would take away what speakers differ in, and a fold's training speakers would
    lack what the tested one has more of, so that guessing would score below chance. But where every speaker has one
    class alone, whole speakers change theirs, since nothing would be shuffled within.

    Args:
        examples: All clips; in the order of their names, as a corpus has them, the same are shuffled alike.
        seed: Of the shuffle.
    """
    rng = np.random.default_rng(seed)
    codes = examples.codes.copy()
    names, first, who = np.unique(examples.speakers, return_index=True, return_inverse=True)
    own = codes[first]  # of each speaker, if it is but one
    if (codes == own[who]).all():
        return replace(examples, codes=rng.permutation(own)[who])
    for speaker in names:
        rows = np.flatnonzero(examples.speakers == speaker)
        codes[rows] = examples.codes[rng.permutation(rows)]
    return replace(examples, codes=codes)


def where_shuffles_fall(shuffles: Sequence[Evaluation]) -> Evaluation:
    """Sum up evaluations with differently shuffled labels.

    Returns:
        The first, but with UAR, WA and macro F1 as the mean of all, and for ends the range in which 95 % of shuffles
        fall (a prediction interval, not one of the mean): what lies above it is no accident.
    """
    uar, wa, macro_f1 = (_range([getattr(one, name).value for one in shuffles]) for name in ("uar", "wa", "macro_f1"))
    return replace(shuffles[0], uar=uar, wa=wa, macro_f1=macro_f1)


def _range(values: Sequence[float]) -> Estimate:
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean)
    spread = float(np.std(values, ddof=1) * np.sqrt(1 + 1 / n))
    low, high = t_interval(mean, spread, n - 1, (0.0, 1.0))
    return Estimate(mean, float(low), float(high))
