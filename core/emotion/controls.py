"""Where nothing is to be found: the same evaluation with labels shuffled."""

from dataclasses import replace

import numpy as np

from core.emotion.head import Examples


def shuffled_within_speakers(examples: Examples, seed: int = 0) -> Examples:
    """Shuffle labels among the clips of each speaker, who keeps as many of each class.

    Shuffling between speakers as well would take away what speakers differ in, and a fold's training speakers would
    lack what the tested one has more of, so that guessing would score below chance.

    Args:
        examples: All clips; in the order of their names, as a corpus has them, the same are shuffled alike.
        seed: Of the shuffle.
    """
    rng = np.random.default_rng(seed)
    codes = examples.codes.copy()
    for speaker in np.unique(examples.speakers):
        rows = np.flatnonzero(examples.speakers == speaker)
        codes[rows] = examples.codes[rng.permutation(rows)]
    return replace(examples, codes=codes)
