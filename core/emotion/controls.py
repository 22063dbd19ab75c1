"""Where nothing is to be found: the same evaluation with labels shuffled."""

from dataclasses import replace

import numpy as np

from core.emotion.head import Examples


def shuffled_within_speakers(examples: Examples, clips: tuple[str, ...], seed: int = 0) -> Examples:
    """Shuffle labels among the clips of each speaker, who keeps as many of each class.

    Shuffling between speakers as well would take away what speakers differ in, and a fold's training speakers would
    lack what the tested one has more of, so that guessing would score below chance.

    Args:
        examples: All clips.
        clips: Name of each clip; shuffled in their order, so that the order of the examples does not matter.
        seed: Of the shuffle.
    """
    rng = np.random.default_rng(seed)
    codes = examples.codes.copy()
    in_order = np.argsort(np.array(clips, dtype=str), kind="stable")
    for speaker in np.unique(examples.speakers):
        rows = in_order[examples.speakers[in_order] == speaker]
        codes[rows] = examples.codes[rng.permutation(rows)]
    return replace(examples, codes=codes)
