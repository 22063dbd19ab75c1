"""Masks: as many frames as the paper masks, the same in each row, spans of the paper's length, everywhere alike."""

import numpy as np
import pytest
import torch

from core.clock import FrameClock
from core.errors import InputError
from core.models.masking import (
    MaskRule,
    compute_mask_indices,
    least_frames,
    mask_noise,
    mask_noise_columns,
    masked_count,
    masked_fraction,
    sample_negative_indices,
)

PAPER_FRACTION = 0.49
PAPER_SPAN = 14.7  # Baevski et al. 2020: "mean span length of 14.7 timesteps" at p = .065 and M = 10
CLOCK = FrameClock(hop=40, field=60, sampling_rate=250)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spans(mask):
    """Lengths of all runs of masked frames."""
    padded = np.pad(mask.numpy().astype(int), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    return np.argwhere(steps == -1)[:, 1] - np.argwhere(steps == 1)[:, 1]


@pytest.mark.parametrize("rate", [250, 1000])
@pytest.mark.parametrize("seconds", [2, 3, 5, 8, 10, 13, 20])
def test_half_of_every_row_is_masked(rate, seconds):
    n_frames = FrameClock(hop=40, field=60, sampling_rate=rate).n_frames(rate * seconds)
    mask = compute_mask_indices((500, n_frames), generator=generator())
    assert mask.shape == (500, n_frames)
    assert mask.dtype == torch.bool
    assert set(mask.sum(dim=1).tolist()) == {masked_count(n_frames)}  # also: no row without a mask
    assert abs(mask.float().mean() - PAPER_FRACTION) < 0.02


@pytest.mark.parametrize("n_frames", range(11, 130))
def test_the_count_is_the_nearest_whole_frame(n_frames):
    assert abs(masked_count(n_frames) - masked_fraction(0.065, 10) * n_frames) <= 0.5


def test_the_fraction_is_that_of_spans_which_start_by_chance():
    """Planted truth: spans drawn one by one, as the paper describes them."""
    starts = np.random.default_rng(0).random((200, 2000)) < 0.065
    covered = np.array([np.convolve(row, np.ones(10))[:2000] > 0 for row in starts])
    assert abs(covered[:, 10:].mean() - masked_fraction(0.065, 10)) < 0.003


@pytest.mark.parametrize(("n_frames", "tolerance"), [(499, 1.0), (3000, 0.4)])
def test_spans_are_as_long_as_in_the_paper(n_frames, tolerance):
    lengths = spans(compute_mask_indices((60, n_frames), generator=generator()))
    assert abs(lengths.mean() - PAPER_SPAN) < tolerance
    assert np.mean(lengths >= 10) > 0.9  # shorter: cut off at an end, or the one that was cut to the count


@pytest.mark.parametrize(("n_frames", "tolerance"), [(12, 0.04), (24, 0.05), (61, 0.03), (124, 0.025)])
def test_the_ends_are_masked_as_often_as_the_middle(n_frames, tolerance):
    share = compute_mask_indices((20_000, n_frames), generator=generator()).float().mean(dim=0)
    assert (share - masked_count(n_frames) / n_frames).abs().max() < tolerance


def test_another_chance_and_length_are_followed():
    lengths = spans(compute_mask_indices((50, 2000), 0.02, 5, generator=generator()))
    assert masked_count(2000, 0.02, 5) == round(2000 * (1 - 0.98**5))
    assert np.median(lengths) == 5


def test_a_seed_gives_one_mask():
    one, two, other = (compute_mask_indices((4, 60), generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert len({tuple(row.tolist()) for row in one}) == 4


@pytest.mark.parametrize("n_frames", [1, 5, 10])
def test_a_window_too_short_says_how_long_it_must_be(n_frames):
    with pytest.raises(InputError, match=rf"{n_frames} frames .* at least {least_frames(10)} frames"):
        compute_mask_indices((2, n_frames))
    assert compute_mask_indices((2, least_frames(10))).any(dim=1).all()


@pytest.mark.parametrize(("prob", "length"), [(0.0, 10), (1.0, 10), (-0.1, 10), (0.065, 0)])
def test_a_mask_of_nothing_or_everything_is_refused(prob, length):
    with pytest.raises(InputError, match="expected a chance between 0 and 1"):
        compute_mask_indices((2, 50), prob, length)


@pytest.mark.parametrize("num_negatives", [1, 7, 24, 100])
def test_negatives_are_other_masked_frames_of_the_same_row(num_negatives):
    mask = compute_mask_indices((6, 50), generator=generator())
    negatives = sample_negative_indices(mask, num_negatives, generator=generator())
    assert negatives.shape == (6, 50, min(num_negatives, masked_count(50) - 1))
    assert negatives.dtype == torch.int64
    rows = torch.arange(6)[:, None, None]
    assert (negatives // 50 == rows).all()  # the document's code took all of them from row 0
    assert mask.flatten()[negatives[mask]].all()
    own = (rows * 50 + torch.arange(50)[None, :, None]).expand_as(negatives)
    assert (negatives != own)[mask].all()
    assert all(len(set(one.tolist())) == len(one) for one in negatives[mask])


def test_every_other_masked_frame_is_as_likely():
    """Closed form: each of 9 others is among 3 negatives with chance 1/3."""
    mask = torch.zeros(3000, 20, dtype=torch.bool)
    mask[:, 2::2] = True
    mask[:, 0] = True
    negatives = sample_negative_indices(mask, 3, generator=generator()) % 20
    for frame in (0, 2, 18):
        share = torch.bincount(negatives[:, frame].flatten(), minlength=20)[::2] / 3000
        others = [index for index in range(10) if 2 * index != frame]
        assert share[frame // 2] == 0
        assert (share[others] - 1 / 3).abs().max() < 0.03


def test_rows_of_different_counts_share_the_smallest():
    mask = torch.zeros(3, 30, dtype=torch.bool)
    mask[0, :20], mask[1, 5:9], mask[2, ::3] = True, True, True
    negatives = sample_negative_indices(mask, 100, generator=generator())
    assert negatives.shape == (3, 30, 3)
    assert mask.flatten()[negatives[mask]].all()
    assert (negatives // 30 == torch.arange(3)[:, None, None]).all()


def test_a_row_without_another_masked_frame_is_refused():
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[0, :20], mask[1, 4] = True, True
    with pytest.raises(InputError, match="a row with 1 masked frames"):
        sample_negative_indices(mask)


def test_a_windows_mask_does_not_depend_on_the_others_in_its_batch():
    rule = MaskRule(negatives=5)
    mask, negatives = rule.draw([3, 1, 4, 1], 40)
    alone, own = rule.draw([4], 40)
    assert torch.equal(mask[2], alone[0])
    assert torch.equal(negatives[2] - 2 * 40, own[0])
    assert torch.equal(mask[1], mask[3])
    assert not torch.equal(mask[0], mask[1])


def test_noise_is_uniform_and_reproducible():
    noise = mask_noise(range(2000), mask_noise_columns(12, 10))
    assert noise.shape == (2000, 22)
    assert noise.dtype == torch.float32
    assert 0 <= noise.min() < 0.001 < 0.999 < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.005
    assert torch.equal(noise[7], mask_noise([7], 22)[0])
