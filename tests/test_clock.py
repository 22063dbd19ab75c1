"""The clock against torch's own convolutions and the document's arithmetic; window plans for thousands of lengths."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.clock import FrameClock, plan_windows
from core.errors import DataError, InputError

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
WAV2VEC2 = FrameClock.from_convolutions(KERNELS, STRIDES, 16_000)
HOUR = 3600 * 16_000


def frames_of_a_real_stack(kernels, strides, n):
    hidden = torch.zeros(1, 1, n)
    for kernel, stride in zip(kernels, strides, strict=True):
        if hidden.shape[-1] < kernel:
            return 0
        hidden = torch.nn.functional.conv1d(hidden, torch.ones(1, 1, kernel), stride=stride)
    return hidden.shape[-1]


def test_wav2vec2_has_hop_320_and_field_400():
    assert (WAV2VEC2.hop, WAV2VEC2.field, WAV2VEC2.min_samples) == (320, 400, 400)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 30_000))
@example(399)
@example(400)
@example(719)
@example(720)
def test_the_frame_count_is_that_of_real_convolutions(n):
    assert WAV2VEC2.n_frames(n) == frames_of_a_real_stack(KERNELS, STRIDES, n)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=5), st.integers(0, 3000))
def test_any_stack_counts_as_torch_does(stack, n):
    kernels, strides = zip(*stack, strict=True)
    clock = FrameClock.from_convolutions(kernels, strides, 16_000)
    assert clock.n_frames(n) == frames_of_a_real_stack(kernels, strides, n)


def test_frame_i_sees_exactly_its_field():
    signal = torch.zeros(1, 1, 4000, requires_grad=True)
    hidden = signal
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        hidden = torch.nn.functional.conv1d(hidden, torch.ones(1, 1, kernel), stride=stride)
    hidden[0, 0, 7].backward()
    seen = torch.nonzero(signal.grad[0, 0]).flatten()
    assert (int(seen[0]), int(seen[-1]) + 1) == WAV2VEC2.samples_of(7, 8) == (7 * 320, 7 * 320 + 400)


def test_onset_and_centre_are_twelve_and_a_half_milliseconds_apart():
    assert WAV2VEC2.onset(1000) == 20.0
    assert WAV2VEC2.centre(1000) == 20.0125


def test_the_last_frame_of_an_hour_is_where_the_hour_ends_and_the_documents_axis_is_not():
    n_frames = WAV2VEC2.n_frames(HOUR)
    assert 0 <= 3600 - (WAV2VEC2.onset(n_frames - 1) + 400 / 16_000) < WAV2VEC2.stride_seconds
    # The document encodes chunks of 20 s alone: 999 frames each, on an axis that believes in 1,000.
    per_chunk = WAV2VEC2.n_frames(20 * 16_000)
    assert per_chunk == 999
    lost = 3600 - 180 * per_chunk * 0.02
    assert lost == pytest.approx(3.6)


@settings(max_examples=3000, deadline=None)
@given(st.integers(0, 3_000), st.integers(1, 1500), st.integers(0, 400))
@example(20_000, 1, 400)
@example(20_000, 999, 50)
def test_windows_tile_every_recording_once_with_full_context(n_frames, chunk, context):
    windows = plan_windows(n_frames, chunk, context)
    kept = [frame for window in windows for frame in (window.keep_start, window.keep_stop)]
    assert kept[1:-1:2] == kept[2::2]
    assert n_frames == 0 or (kept[0], kept[-1]) == (0, n_frames)
    assert len({window.stop - window.start for window in windows}) <= 1
    for window in windows:
        assert 0 <= window.start <= window.keep_start < window.keep_stop <= window.stop <= n_frames
        assert window.keep_start - window.start >= min(context, window.keep_start)
        assert window.stop - window.keep_stop >= min(context, n_frames - window.keep_stop)


def test_a_short_tail_is_computed_in_a_full_window():
    last = plan_windows(1003, 500, 50)[-1]
    assert (last.start, last.stop) == (403, 1003)


def test_too_short_says_how_long_it_must_be():
    with pytest.raises(DataError, match=r"tiny.wav holds 399 samples .* at least 400 \(0.0250 s\)"):
        WAV2VEC2.require_frames(399, "tiny.wav")
    assert WAV2VEC2.require_frames(400, "tiny.wav") == 1


@pytest.mark.parametrize("arguments", [(10, 0, 0), (10, 5, -1)])
def test_impossible_windows_are_refused(arguments):
    with pytest.raises(InputError):
        plan_windows(*arguments)


def test_a_stack_without_strides_is_refused_not_guessed():
    with pytest.raises(InputError, match="7 kernels and 0 strides"):
        FrameClock.from_convolutions(KERNELS, (), 16_000)


def test_times_keep_their_precision_over_a_day():
    frames = np.arange(0, 50 * 86_400, 50)
    np.testing.assert_array_equal(WAV2VEC2.onset(frames), np.arange(86_400, dtype=np.float64))
