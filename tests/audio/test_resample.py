"""Resampling keeps time, length and values, against soxr in one shot, SciPy, closed forms and the ffmpeg program."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from core.audio.resample import QUALITY, resample_blocks, resampled_length
from core.errors import InputError
from tests.audio.making import ffmpeg

RATES = [(44100, 16000), (11025, 16000), (8000, 16000), (4000, 16000), (192000, 16000), (22050, 24000), (7919, 16000)]


def cut(samples, sizes):
    """The samples in blocks of the given sizes, over and over."""
    start, index, blocks = 0, 0, []
    while start < len(samples):
        blocks.append(samples[start : start + sizes[index % len(sizes)]])
        start, index = start + sizes[index % len(sizes)], index + 1
    return blocks


def resample(samples, from_rate, to_rate, sizes=(4096,)):
    return np.concatenate([np.zeros(0, np.float32), *resample_blocks(cut(samples, sizes), from_rate, to_rate)])


def bursts(rate, seconds=2.0):
    """Band-limited below 2 kHz: three Gaussian tone bursts, (n,) float32, as a function of time alone."""
    time = np.arange(round(rate * seconds)) / rate
    shape = [(0.4, 300.0), (1.0003, 900.0), (1.55, 1500.0)]
    bands = [np.exp(-(((time - at) / 0.01) ** 2)) * np.cos(2 * np.pi * tone * (time - at)) for at, tone in shape]
    return np.sum(bands, axis=0).astype(np.float32) / 2


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_the_waveform_is_that_of_the_same_moments(from_rate, to_rate):
    """Closed form: the same function of time, sampled at the new rate. A delay of one sample would show as 0.1."""
    got, truth = resample(bursts(from_rate), from_rate, to_rate), bursts(to_rate)
    assert len(got) == len(truth)
    # At 4 kHz the highest burst touches the edge of the pass band.
    np.testing.assert_allclose(got, truth, atol=2e-6 if from_rate > 4000 else 0.02)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_an_impulse_stays_in_place(from_rate, to_rate):
    samples = np.zeros(from_rate, np.float32)
    samples[from_rate // 4 * 3] = 1
    peak = int(np.argmax(np.abs(resample(samples, from_rate, to_rate))))
    assert abs(peak / to_rate - from_rate // 4 * 3 / from_rate) <= 0.5 / min(from_rate, to_rate)


@settings(max_examples=60, deadline=None)
@given(
    rates=st.sampled_from(RATES),
    n_samples=st.integers(1, 30000),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5),
)
def test_blocks_of_any_sizes_equal_one_shot(rates, n_samples, sizes):
    samples = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
    got = resample(samples, *rates, sizes=sizes)
    assert np.array_equal(got, soxr.resample(samples, *rates, quality=QUALITY))
    assert len(got) == resampled_length(n_samples, *rates)


@given(st.integers(0, 10**10), st.integers(1, 400000), st.integers(1, 400000))
def test_length_is_the_rounded_ratio(n_samples, from_rate, to_rate):
    exact = n_samples * to_rate / from_rate
    assert resampled_length(n_samples, from_rate, to_rate) == pytest.approx(exact, abs=0.5 + 1e-9 * exact)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES[:4])
def test_scipy_agrees_on_band_limited_sound(from_rate, to_rate):
    samples = bursts(from_rate) * (0.2 if from_rate == 4000 else 1)
    divisor = np.gcd(from_rate, to_rate)
    truth = resample_poly(samples.astype(np.float64), to_rate // divisor, from_rate // divisor, window=("kaiser", 12.0))
    np.testing.assert_allclose(resample(samples, from_rate, to_rate), truth[: len(truth)], atol=0.01)


def test_the_ffmpeg_program_agrees(tmp_path):
    bursts(44100).tofile(tmp_path / "a.raw")
    raw = ("-f", "f32le", "-ac", "1")
    out = ffmpeg("-ar", 44100, *raw, "-i", tmp_path / "a.raw", "-ar", 16000, *raw, "-")
    truth = np.frombuffer(out, np.float32)
    got = resample(bursts(44100), 44100, 16000)
    assert abs(len(got) - len(truth)) <= 1
    n = min(len(got), len(truth))
    np.testing.assert_allclose(got[:n], truth[:n], atol=1e-3)


def test_what_lies_above_the_new_nyquist_frequency_goes():
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 11000 * time).astype(np.float32)
    assert np.abs(resample(tone, 48000, 16000)[200:-200]).max() < 1e-5


def test_equal_rates_pass_through_untouched():
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(resample(samples, 16000, 16000, sizes=(7,)), samples)


@pytest.mark.parametrize("rates", [(0, 16000), (16000, 0), (-1, 16000)])
def test_rates_below_one_are_refused(rates):
    with pytest.raises(InputError, match="at least 1 Hz"):
        resample(np.zeros(10, np.float32), *rates)
