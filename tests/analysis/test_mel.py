"""Log-mel rows: blocks of any size, means over exactly the frames inside, and tones at their times."""

import numpy as np
import pytest

from core.analysis.mel import (
    FLOOR,
    N_MELS,
    MelFrames,
    log_mel_frames,
    mel_clock,
    mel_filters,
    mel_rows,
    mel_source,
    of_middle_thirds,
    signal_mel_rows,
)
from core.audio.signal import Signal
from core.clock import FrameClock
from core.findings import RowTable

RATE = 16_000
CLOCK = mel_clock(RATE)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).standard_normal(RATE).astype(np.float32)


def frames_of(samples, sizes=(), clock=CLOCK):
    return np.concatenate(list(log_mel_frames(np.split(samples, np.cumsum(sizes)), clock)))


def test_frames_equal_the_direct_transform(noise):
    frames = frames_of(noise)
    assert frames.shape == (CLOCK.n_frames(RATE), N_MELS) == (98, 80)
    window = noise[160 * 7 : 160 * 7 + 400] * np.hanning(402)[1:-1]
    power = np.abs(np.fft.rfft(window, 512)) ** 2 @ mel_filters(512, RATE)[0]
    np.testing.assert_allclose(frames[7], np.log(power + FLOOR), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(1, 399, 1, 3_000), tuple([37] * 400)])
def test_the_size_of_the_blocks_does_not_matter(noise, sizes):
    np.testing.assert_allclose(frames_of(noise, sizes), frames_of(noise), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clock", [FrameClock(320, 400, RATE), FrameClock(320, 320, 24_000)])
def test_frames_stand_on_the_clock_asked_for(noise, clock):
    assert len(frames_of(noise, clock=clock)) == clock.n_frames(RATE)


def test_too_few_samples_give_one_padded_frame(noise):
    assert frames_of(noise[:50]).shape == (1, N_MELS)


def test_a_hop_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match="hop of 500"):
        MelFrames.at(RATE, 400, 500)


def test_rows_are_means_of_the_frames_whose_middle_lies_inside(noise):
    frames = frames_of(noise)
    centres = CLOCK.centre(np.arange(98))
    start, stop = np.array([0.1, 0.3, 0.30, 0.0, 0.2]), np.array([0.25, 0.9, 0.304, 1.0, 0.22])
    rows = mel_rows(np.split(frames, [3, 20, 21, 60]), CLOCK, 98, start, stop)
    for row, begin, end in zip(rows, start, stop, strict=True):
        inside = (centres >= begin) & (centres < end)
        wanted = frames[inside] if inside.any() else frames[[np.abs(centres - (begin + end) / 2).argmin()]]
        np.testing.assert_allclose(row, wanted.mean(axis=0), rtol=1e-5)


def test_rows_outside_take_the_nearest_frame(noise):
    frames = frames_of(noise)
    rows = mel_rows([frames], CLOCK, 98, np.array([-0.2, 0.9999]), np.array([-0.1, 2.0]))
    np.testing.assert_allclose(rows, frames[[0, 97]], rtol=1e-6)


def test_a_lost_frame_is_noticed(noise):
    with pytest.raises(ValueError, match="Got 97 log-mel frames; expected 98"):
        mel_rows([frames_of(noise)[:97]], CLOCK, 98, np.array([0.0]), np.array([1.0]))


def test_loudness_does_not_matter_and_silence_has_energies(noise):
    with Signal.from_array(noise / 8, RATE) as loud, Signal.from_array(noise / 80, RATE) as soft:
        one, two = (signal_mel_rows(signal, np.array([0.2]), np.array([0.4])) for signal in (loud, soft))
    np.testing.assert_allclose(one, two, atol=1e-4)
    with Signal.from_array(np.zeros(RATE, np.float32), RATE) as silent:
        rows = signal_mel_rows(silent, np.array([0.2]), np.array([0.4]))
    np.testing.assert_allclose(rows, np.log(FLOOR), rtol=1e-4)


def test_a_source_opens_each_recording_for_its_own_rows():
    """Two tones in two recordings: each row is loudest in its own tone's band."""
    tones = {"low": 300.0, "high": 4_000.0}
    opened = []

    def open_recording(name):
        opened.append(name)
        return Signal.from_array(np.sin(2 * np.pi * tones[name] * np.arange(RATE) / RATE).astype(np.float32), RATE)

    recording = np.array([0, 0, 1, 1, 1], dtype=np.int32)
    start = np.array([0.1, 0.3, 0.2, 0.4, 0.6])
    values = mel_source(open_recording)(RowTable(("low", "high", "unused"), recording, start, start + 0.1))
    hertz = mel_filters(512, RATE)[1]
    assert values.shape == (5, N_MELS)
    assert opened == ["low", "high"]
    for row, number in zip(values, recording, strict=True):
        assert hertz[row.argmax()] == pytest.approx((300, 4_000)[number], rel=0.1)


def test_the_middle_third_of_a_phone_is_taken():
    """A tone that holds for the middle third alone, between two others."""
    time = np.arange(RATE) / RATE
    hertz = np.where(time < 0.4, 300, np.where(time < 0.5, 4_000, 1_000))
    samples = np.sin(2 * np.pi * hertz * time).astype(np.float32)
    source = mel_source(lambda name: Signal.from_array(samples, RATE))
    given = RowTable(("r",), np.zeros(1, np.int32), np.array([0.3]), np.array([0.6]))
    with Signal.from_array(samples, RATE) as signal:
        wanted = signal_mel_rows(signal, np.array([0.4]), np.array([0.5]))
    np.testing.assert_allclose(of_middle_thirds(source)(given), wanted, atol=1e-4)
    assert np.abs(source(given) - wanted).max() > 1
