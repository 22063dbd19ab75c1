"""Crops of speech by number, and the batches that a contrastive encoder is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.errors import InputError
from core.models.masking import MaskRule
from core.training.batches import Batch, Reader
from core.training.corpus import Clip, Corpus
from core.training.distill import STUDENT_CLOCK, n_student_samples, normalise


@dataclass(frozen=True)
class CropPlan:
    """What all crops of a run have in common.

    Attributes:
        n_frames: Of each.
        rule: How they are masked.
        seed: Of where they lie, of their masks and negatives.
        part: Tells training from held-out crops of the same seed.
    """

    n_frames: int
    rule: MaskRule
    seed: int
    part: int


class CropReader(Reader):
    """Reads the endless sequence of crops: a pure function of seed and number.

    Args:
        corpus: Holds the audio.
        clips: To take crops from; those that are shorter than a crop are left out.
        plan: Of all crops.
        corpus_weights: Multiplies the share that a corpus has by its duration.

    Raises:
        InputError: No clip is as long as a crop.
    """

    def __init__(
        self, corpus: Corpus, clips: Sequence[Clip], plan: CropPlan, corpus_weights: Mapping[str, float] | None = None
    ) -> None:
        self._corpus, self._plan = corpus, plan
        self._samples = n_student_samples(plan.n_frames)
        self._clips = [clip for clip in clips if clip.n_samples >= self._samples]
        if not self._clips:
            raise InputError(
                f"Got crops of {self._samples / STUDENT_CLOCK.sampling_rate:.2f} s, but none of {len(clips)} clips is "
                "as long. Use shorter crops."
            )
        weights = corpus_weights or {}
        shares = np.array([clip.n_samples * weights.get(clip.corpus, 1.0) for clip in self._clips])
        self._shares = shares / shares.sum()

    @property
    def n_tokens(self) -> int:
        """Frames of each crop."""
        return self._plan.n_frames

    @property
    def n_masked(self) -> int:
        """Masked frames of each crop."""
        return self._plan.rule.count(self._plan.n_frames)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        """Samples (time,) float32, and the seed of the mask."""
        random = np.random.default_rng([self._plan.seed, self._plan.part, number])
        clip = self._clips[random.choice(len(self._clips), p=self._shares)]
        start = int(random.integers(clip.n_samples - self._samples + 1))
        return self._corpus.samples(clip, start, self._samples), int(random.integers(2**63))

    def together(self, items: Sequence[tuple[np.ndarray, int]]) -> Batch:
        """Make a batch (batch, time), each crop of zero mean and unit variance."""
        mask, negatives = self._plan.rule.draw([seed for _, seed in items], self._plan.n_frames)
        audio = normalise(np.stack([samples for samples, _ in items]))
        return Batch(torch.from_numpy(audio), mask, negatives)
