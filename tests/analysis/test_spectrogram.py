"""The log-mel spectrogram against scipy's, against planted tones, and at its edges."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import spectrogram as scipy_spectrogram

from core.analysis.spectrogram import FLOOR_DB, N_MELS, SpectrogramBuilder, mel_filters


def spectrogram(samples, rate, sizes=(), **settings):
    builder = SpectrogramBuilder(len(samples), rate, **settings)
    for block in np.split(samples, np.cumsum(sizes)) if sizes else [samples]:
        builder.add(block)
    return builder.result()


@pytest.fixture
def noise():
    return np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)


def test_it_equals_the_mel_power_of_scipys_spectrogram(noise):
    taper = np.hanning(402)[1:-1]
    shape = {"nperseg": 400, "noverlap": 240, "nfft": 512, "detrend": False, "mode": "magnitude"}
    _, times, magnitude = scipy_spectrogram(noise, 16_000, taper, **shape)
    mels = mel_filters(512, 16_000)[0].T @ magnitude**2
    ours = spectrogram(noise, 16_000)
    np.testing.assert_allclose(ours.decibels, 10 * np.log10(mels / mels.max()), atol=1e-3)
    np.testing.assert_allclose(ours.times, times)


@pytest.mark.parametrize("hertz", [200, 440, 1_000, 3_150, 7_000])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_planted_tone_is_loudest_in_its_band_and_only_while_it_lasts(hertz, rate):
    samples = np.zeros(2 * rate, dtype=np.float32)
    samples[rate // 2 : rate] = np.sin(2 * np.pi * hertz * np.arange(rate // 2) / rate)
    shown = spectrogram(samples, rate)
    inside = (shown.times > 0.52) & (shown.times < 0.98)
    outside = (shown.times < 0.48) | (shown.times > 1.02)
    band = shown.decibels[:, inside].mean(axis=1).argmax()
    assert abs(shown.hertz[band] - hertz) <= max(40.0, 0.06 * hertz)
    assert shown.decibels[:, outside].max() == FLOOR_DB


def test_block_sizes_do_not_change_it(noise):
    whole = spectrogram(noise, 16_000)
    pieces = spectrogram(noise, 16_000, sizes=(1, 100, 399, 5_000, 7, 160))
    np.testing.assert_allclose(pieces.decibels, whole.decibels, atol=1e-3)


def test_columns_average_power_and_keep_their_times(noise):
    fine = spectrogram(noise, 16_000)
    coarse = spectrogram(noise, 16_000, most_columns=10)
    n = len(fine.times)
    assert coarse.windows_a_column == pytest.approx(n / 10)
    power = 10 ** (fine.decibels.astype(float) / 10)
    starts = np.linspace(0, n, 11).round().astype(int)
    means = np.stack([power[:, a:b].mean(axis=1) for a, b in pairwise(starts)], axis=1)
    np.testing.assert_allclose(coarse.decibels, 10 * np.log10(means / means.max()), atol=1e-2)
    times = [fine.times[a:b].mean() for a, b in pairwise(starts)]
    np.testing.assert_allclose(coarse.times, times)


def test_silence_is_at_the_floor():
    shown = spectrogram(np.zeros(8_000, dtype=np.float32), 16_000)
    assert np.all(shown.decibels == FLOOR_DB)


@pytest.mark.parametrize("n", [1, 399, 400, 401, 559, 560])
def test_shortest_recordings_have_one_column_or_two(n):
    shown = spectrogram(np.ones(n, dtype=np.float32), 16_000)
    assert shown.decibels.shape == (N_MELS, 2 if n == 560 else 1)
    assert np.isfinite(shown.decibels).all()


@pytest.mark.parametrize("rate", [4_000, 8_000, 16_000, 24_000, 48_000])
def test_every_mel_filter_holds_something(rate):
    filters, hertz = mel_filters(max(512, 1 << (round(0.025 * rate) - 1).bit_length()), rate)
    assert (filters.max(axis=0) > 0).all()
    assert np.all(np.diff(hertz) > 0)
    # Each triangle peaks at the bin next to its centre.
    bins = np.arange(len(filters)) * rate / 2 / (len(filters) - 1)
    assert np.all(np.abs(bins[filters.argmax(axis=0)] - hertz) <= bins[1])
