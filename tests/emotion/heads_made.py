"""Heads with made numbers: every part of a head is there, and none of them is what it is by default."""

from itertools import pairwise

import numpy as np

from core.emotion.head import Affine, Head, Reference
from core.emotion.head_files import EncoderFacts

ENCODER = EncoderFacts("tiny", "ab" * 32, "cd" * 32, 16_000)
LABELS = ("anger", "joy", "neutral", "sadness")


def make_head(
    layers=(0, 1, 3),
    dim=6,
    n_classes=4,
    hidden=(),
    pooling="mean_std",
    mixture="concatenated",
    reference=True,
    seed=0,
):
    """A head of any form; ``dim`` is that of a pooled layer."""
    generator = np.random.default_rng((seed, 11))
    mixed = dim * (len(layers) if mixture == "concatenated" else 1)
    widths = (mixed, *hidden, n_classes)
    maps = tuple(
        Affine(generator.normal(size=(outer, inner)) / inner**0.5, generator.normal(size=outer))
        for inner, outer in pairwise(widths)
    )
    axes, _ = np.linalg.qr(generator.normal(size=(mixed, 2)))
    return Head(
        layers=layers,
        pooling=pooling,
        mean=generator.normal(size=(len(layers), dim)),
        scale=generator.uniform(0.5, 2.0, (len(layers), dim)),
        layer_weights=generator.uniform(0.1, 1.0, len(layers)),
        mixture=mixture,
        maps=maps,
        temperature=1.7,
        threshold=0.3,
        reference=Reference(generator.normal(size=mixed), axes, np.array([1.5, 0.7]), 0.4, 2.5) if reference else None,
        attention=generator.normal(size=dim) if pooling == "learned" else None,
    )
