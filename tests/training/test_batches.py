"""Windows by number: the same whoever asks, each as often as it is long, and never two parts mixed."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.meg.window_data import Segment
from core.models.masking import MaskRule, masked_count
from core.training.batches import Batches, BatchPlan
from core.training.meg_windows import TrainingWindows, WindowReader, WindowShape, held_out_windows
from tests.training.pretrain_fakes import FakeData, noise, noise_data

SHAPE = WindowShape(500, 12, MaskRule(0.1, 4, 5))
LENGTHS = (1000, 2500, 400, 500)


def reader(shape=SHAPE, data=None):
    data = data or noise_data()
    windows = TrainingWindows([one.n_times for one in data.segments("train")], shape.n_times, 7)
    return WindowReader(data, "train", windows, shape)


def test_an_epoch_gives_each_segment_as_often_as_windows_fit_into_it():
    windows = TrainingWindows(LENGTHS, 500, seed=1)
    assert (windows.per_epoch, windows.left_out) == (8, 1)
    for epoch in range(3):
        seen = [windows[epoch * 8 + i] for i in range(8)]
        assert Counter(one.segment for one in seen) == {0: 2, 1: 5, 3: 1}
        assert all(0 <= one.start <= LENGTHS[one.segment] - 500 for one in seen)
    orders = [tuple(windows[epoch * 8 + i].segment for i in range(8)) for epoch in range(3)]
    assert len(set(orders)) > 1


def test_windows_begin_anywhere_in_a_segment():
    windows = TrainingWindows((1500,), 500, seed=0)
    starts = np.array([windows[number].start for number in range(600)])
    assert starts.min() < 30 and starts.max() > 970
    assert np.all(np.histogram(starts, 4, (0, 1000))[0] > 100)  # 150 each are expected


def test_a_window_depends_on_seed_and_number_alone():
    windows = TrainingWindows(LENGTHS, 500, seed=1)
    forwards = [windows[number] for number in range(40)]
    again = TrainingWindows(LENGTHS, 500, seed=1)
    assert [again[number] for number in reversed(range(40))] == forwards[::-1]
    assert [TrainingWindows(LENGTHS, 500, seed=2)[number] for number in range(40)] != forwards
    assert len({one.seed for one in forwards}) == 40


def test_windows_longer_than_any_segment_are_refused_with_both_lengths():
    with pytest.raises(InputError, match=r"3,000 samples.*longest of 4.*2,500.*window_seconds"):
        TrainingWindows(LENGTHS, 3000, seed=1)
    with pytest.raises(InputError):
        TrainingWindows((), 3000, seed=1)


PLANS = [BatchPlan(8), BatchPlan(2, 4), BatchPlan(4, 1, 2), BatchPlan(2, 2, 2), BatchPlan(1, 8)]


@pytest.mark.parametrize("plan", PLANS)
def test_every_way_of_dealing_gives_the_same_global_batch(plan):
    assert plan.windows == 8
    for step in (0, 5):
        dealt = [
            number
            for rank in range(plan.processes)
            for micro in range(plan.micro_batches)
            for number in replace(plan, rank=rank).numbers(step, micro)
        ]
        assert sorted(dealt) == list(range(step * 8, step * 8 + 8))


def test_values_masks_and_negatives_of_a_window_are_the_same_in_any_batch():
    whole = reader().batch(range(8))
    assert whole.values.dtype == torch.float32 and whole.values.shape == (8, 4, 500)
    assert whole.mask.sum(1).tolist() == [masked_count(12, 0.1, 4)] * 8
    parts = [reader().batch(range(first, first + 2)) for first in (0, 2, 4, 6)]
    assert torch.equal(whole.values, torch.cat([part.values for part in parts]))
    assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))
    shifted = torch.cat([part.negatives + 12 * 2 * i for i, part in enumerate(parts)])
    assert torch.equal(whole.negatives[whole.mask], shifted[whole.mask])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_from_any_step_on_are_those_of_a_run_from_the_beginning(num_workers):
    plan = BatchPlan(2, micro_batches=2)
    straight = Batches(reader(), plan)
    expected = [[batch.values for batch in straight.of_step(step)] for step in range(4)]
    late = Batches(reader(), plan, num_workers)
    for step in (2, 3):
        got = [batch.values for batch in late.of_step(step)]
        assert len(got) == 2 and all(map(torch.equal, got, expected[step]))


def test_reading_leaves_the_random_state_of_the_training_alone():
    batches = Batches(reader(), BatchPlan(2))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(batches.of_step(0))
    assert torch.equal(before, torch.get_rng_state())


def test_waiting_is_measured():
    class Slow(FakeData):
        def read(self, segment, start, stop):
            import time

            time.sleep(0.02)
            return super().read(segment, start, stop)

    batches = Batches(reader(data=Slow([noise(4)])), BatchPlan(1))
    assert batches.wait_share == 0.0
    for step in range(4):
        list(batches.of_step(step))
    assert batches.wait_share > 0.8


def test_channels_of_other_recordings_are_padded_and_masked():
    data = FakeData([noise(4, 3), noise(4, 5)], native=True)
    batch = reader(replace(SHAPE, with_sensors=True), data).batch(range(4))
    assert batch.values.shape == (4, 5, 500)
    counts = batch.where["sensors"].mask.sum(1)
    assert sorted(counts.tolist()) == [3, 3, 5, 5]
    for values, count in zip(batch.values, counts, strict=True):
        assert values[:count].std() > 0.5 and not values[count:].any()


# ------------------------------------------------------------------------------------------------------------ held out


def segments(*seconds_by_recording):
    return [
        Segment(f"{name}-{i}", f"recording {name}", n) for name, lengths in seconds_by_recording for i, n in lengths
    ]


def test_held_out_windows_lie_side_by_side_and_are_spread_over_recordings():
    held = segments(("a", [(0, 5000), (1, 5000)]), ("b", [(0, 1000)]), ("c", [(0, 10_000)]))
    windows = held_out_windows(held, 500, 12, seed=0)
    by_recording = Counter(held[one.segment].recording for one in windows)
    assert by_recording == {"recording a": 5, "recording b": 2, "recording c": 5}
    assert all(one.start % 500 == 0 for one in windows) and len(set(windows)) == 12
    long = sorted(one.start for one in windows if held[one.segment].recording == "recording c")
    assert long[0] < 2000 and long[-1] >= 8000
    assert {one.segment for one in windows} == {0, 1, 2, 3}


def test_held_out_windows_are_the_same_every_time_and_no_more_than_there_are():
    held = segments(("a", [(0, 1600)]), ("b", [(0, 400)]))
    windows = held_out_windows(held, 500, 64, seed=0)
    assert [(one.segment, one.start) for one in windows] == [(0, 0), (0, 500), (0, 1000)]
    assert held_out_windows(held, 500, 64, seed=0) == windows
    assert [one.seed for one in held_out_windows(held, 500, 64, seed=1)] != [one.seed for one in windows]
    assert held_out_windows(held, 500, 0, seed=0) == () == held_out_windows([], 500, 64, seed=0)


def test_no_held_out_mask_is_one_that_training_sees():
    train = {TrainingWindows(LENGTHS, 500, seed=0)[number].seed for number in range(200)}
    held = held_out_windows(segments(("a", [(0, 100_000)])), 500, 200, seed=0)
    assert len({one.seed for one in held}) == 200 and not train & {one.seed for one in held}


def test_the_plan_goes_on_without_end():
    steps = list(islice(BatchPlan(2, 2).from_step(3), 4))
    assert steps == [[12, 13], [14, 15], [16, 17], [18, 19]]
