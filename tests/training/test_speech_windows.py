"""Crops of speech by number: whole stretches of one voice, and batches that their numbers decide."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.models.masking import MaskRule
from core.training.batches import EVAL, TRAIN
from core.training.corpus import Clip, Corpus, joined
from core.training.speech_windows import CropPlan, CropReader

PLAN = CropPlan(n_frames=24, rule=MaskRule(), seed=0, part=TRAIN)


def clip(number, group, start, n_samples, corpus="a", speed=1.0):
    return Clip(f"c{number}", corpus, group, str(number), start, n_samples, speed)


@pytest.fixture(scope="module")
def corpus():
    """Each sample's value says whose voice it is: 1 to 3, in thousands; the noise below says where."""
    clips = (clip(0, "x", 0, 6_000), clip(1, "x", 6_000, 6_000), clip(2, "y", 12_000, 9_000, corpus="b"))
    voices = np.repeat([1, 1, 2], [6_000, 6_000, 9_000])
    return Corpus(clips, (10_000 * voices + np.random.default_rng(0).integers(1_000, size=21_000)).astype(np.int16))


def test_neighbours_of_one_voice_become_one_clip(corpus):
    first, second, other = corpus.clips
    assert [(one.start, one.n_samples) for one in joined(corpus.clips)] == [(0, 12_000), (12_000, 9_000)]
    assert len(joined([first, other])) == 2
    assert len(joined([first, clip(9, "x", 6_000, 10, speed=0.9)])) == 2
    assert len(joined([first, clip(9, "x", 6_001, 10)])) == 2
    assert joined([second, first]) == joined([first, second])


def test_the_number_decides_crop_mask_and_negatives(corpus):
    reader = CropReader(corpus, joined(corpus.clips), PLAN)
    batch, again = reader.batch([5, 6]), CropReader(corpus, joined(corpus.clips), PLAN).batch([6, 5])
    assert torch.equal(batch.values, again.values.flip(0)) and torch.equal(batch.mask, again.mask.flip(0))
    assert batch.values.shape == (2, 23 * 320 + 400) and batch.mask.shape == (2, reader.n_tokens)
    assert batch.mask.sum(dim=1).tolist() == [reader.n_masked] * 2
    assert not torch.equal(batch.values[0], batch.values[1])
    held = CropReader(corpus, joined(corpus.clips), CropPlan(24, MaskRule(), 0, EVAL)).batch([5, 6])
    assert not torch.equal(held.values, batch.values)
    torch.testing.assert_close(batch.values.mean(dim=1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.values.var(dim=1, unbiased=False), torch.ones(2), atol=5e-3, rtol=0)


def test_a_crop_is_of_one_voice_and_corpora_count_as_told(corpus):
    stretches = joined(corpus.clips)
    reader = CropReader(corpus, stretches, PLAN)
    voices = [set(np.round(reader[n][0] * 3.2).astype(int).tolist()) for n in range(100)]
    assert all(len(one) == 1 for one in voices)
    share = np.mean([one == {2} for one in voices])
    assert share == pytest.approx(9 / 21, abs=0.13)
    weighed = CropReader(corpus, stretches, PLAN, {"b": 12.0})
    assert np.mean([round(float(weighed[n][0].mean()) * 3.2) == 2 for n in range(100)]) == pytest.approx(0.9, abs=0.08)


def test_clips_shorter_than_a_crop_are_left_out(corpus):
    reader = CropReader(corpus, corpus.clips, PLAN)
    assert {round(float(reader[n][0].mean()) * 3.2) for n in range(20)} == {2}
    with pytest.raises(InputError, match="none of 2 clips"):
        CropReader(corpus, corpus.clips[:2], PLAN)
