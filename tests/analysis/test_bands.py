"""Band powers of rows against planted rhythms and Parseval's theorem."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.signal

from core.analysis.bands import BANDS, band_rows, band_source, bands_within, power_spectrum
from core.findings import RowTable

RATE = 250
ALL = bands_within(None, None, RATE)
RHYTHMS = {"delta": 2.5, "theta": 6.0, "alpha": 10.0, "beta": 20.0, "low gamma": 38.0}


@dataclass
class Held:
    values: np.ndarray
    sampling_rate: int = RATE

    @property
    def n_samples(self):
        return self.values.shape[1]

    def read(self, start, stop):
        assert 0 <= start < stop <= self.n_samples
        return self.values[:, start:stop]


def rhythm(hertz, seconds, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("name", BANDS)
def test_a_rhythm_is_found_in_its_band_and_at_its_time(name):
    """Noise with the rhythm from 10 to 20 s of 30 s: only that band, only there."""
    values = 0.3 * np.random.default_rng(0).standard_normal((8, 30 * RATE))
    values[:, 10 * RATE : 20 * RATE] += rhythm(RHYTHMS[name], 10)
    starts = np.array([3.0, 14.0, 26.0])
    found = band_rows(Held(values), ALL, starts, starts + 2)
    rise = found[1] - found[[0, 2]].mean(axis=0)
    place = list(BANDS).index(name)
    assert rise[place] > 2
    assert np.abs(np.delete(rise, place)).max() < 1


def test_twice_the_amplitude_is_log_four():
    quiet, loud = (Held(np.tile(rhythm(10, 3, size), (2, 1))) for size in (1.0, 2.0))
    start, stop = np.array([1.0]), np.array([2.0])
    alpha = list(BANDS).index("alpha")
    difference = band_rows(loud, ALL, start, stop) - band_rows(quiet, ALL, start, stop)
    assert difference[0, alpha] == pytest.approx(np.log(4))


def test_the_spectrum_is_scipys():
    values = np.random.default_rng(1).standard_normal((3, 500)) + 7
    hertz, power = power_spectrum(values, RATE)
    expected = scipy.signal.periodogram(values, RATE, scipy.signal.windows.hann(500, sym=False), detrend="constant")
    np.testing.assert_allclose(hertz, expected[0])
    # scipy's is a density of one side: twice the bins between, over the rate and the window's mean square.
    scale = 2 / (RATE * np.mean(scipy.signal.windows.hann(500, sym=False) ** 2))
    np.testing.assert_allclose(power[:, 1:-1] * scale, expected[1][:, 1:-1], rtol=1e-9)


def test_short_rows_take_a_second_and_rows_at_the_ends_stay_inside():
    values = np.random.default_rng(2).standard_normal((4, 5 * RATE))
    found = band_rows(Held(values), ALL, np.array([0.0, 2.4, 4.9]), np.array([0.1, 2.5, 5.0]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], band_rows(Held(values), ALL, np.array([0.0]), np.array([1.0]))[0])
    short = band_rows(Held(values[:, : RATE // 2]), ALL, np.array([0.0]), np.array([0.1]))
    assert np.isfinite(short).all()


def test_bands_that_a_filter_leaves_nothing_of_are_left_out():
    assert list(bands_within(1.0, 40.0, RATE)) == list(BANDS)
    assert bands_within(1.0, 40.0, RATE)["low gamma"] == (30, 40.0)
    assert list(bands_within(5.0, 12.0, RATE)) == ["theta", "alpha"]
    assert list(bands_within(None, None, 50)) == ["delta", "theta", "alpha", "beta"]


def test_a_source_opens_each_recording_for_its_own_rows():
    loud, quiet = (Held(np.tile(rhythm(10, 4, size), (2, 1))) for size in (2.0, 1.0))
    held = {"loud": loud, "quiet": quiet}
    table = RowTable(("loud", "quiet"), np.array([0, 1, 0]), np.array([0.5, 0.5, 2]), np.array([1.5, 1.5, 3]))
    found = band_source(lambda name: nullcontext(held[name]), {"alpha": (8, 13)})(table)
    assert found.shape == (3, 1)
    assert found[0, 0] - found[1, 0] == pytest.approx(np.log(4), abs=1e-6)
