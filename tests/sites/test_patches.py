"""Power lands in the cell of its second and its frequency."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import spectrogram

from core.errors import DataError, InputError
from core.sites.patches import Plan, flat_channels, map_power, power_of, row_means
from core.sites.recordings import open_site_recording
from core.sites.site_input import PatchSettings

RATE = 200.0


def made(tmp_path, values, rate=RATE):
    path = tmp_path / "made.npy"
    np.save(path, values)
    return open_site_recording(path, numpy_rate=rate)


def noise(n_channels=3, seconds=20, rate=RATE):
    return np.random.default_rng(0).normal(size=(n_channels, int(seconds * rate)))


def test_rows_that_are_bins_equal_scipys_spectrogram():
    # Rows as wide as the window's own bins, whose means are trapezoids of scipy's densities.
    patches = PatchSettings(grid_height=10, l_freq=10, h_freq=30, window_seconds=0.5, hop_seconds=0.1)
    plan, values = Plan(patches, RATE), noise()
    starts = plan.starts(0, plan.n_columns(values.shape[1]))
    assert plan.n_fft > plan.window  # padded
    frequencies, times, density = spectrogram(
        values, RATE, "hann", plan.window, plan.window - 20, plan.n_fft, "constant"
    )
    mine = power_of(values, starts, plan)
    np.testing.assert_allclose(plan.times(len(starts)), times, atol=1e-9)
    fine = np.linspace(10, 12, 2001)
    for column in (0, 7, -1):
        expected = np.trapezoid(np.interp(fine, frequencies, density[1, :, column]), fine) / 2
        assert mine[column, 1, 0] == pytest.approx(expected, rel=1e-5)


def test_row_means_are_integrals_of_the_line_through_the_bins():
    power = np.array([0.0, 1.0, 3.0, 2.0])
    edges = np.array([0.5, 1.0, 2.5, 3.0])
    fine = np.linspace(0, 3, 300001)
    line = np.interp(fine, np.arange(4), power)
    expected = [line[(fine >= low) & (fine <= high)].mean() for low, high in pairwise(edges)]
    np.testing.assert_allclose(row_means(power, 1.0, edges), expected, rtol=1e-4)


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_a_burst_lands_in_its_cell(tmp_path, spacing):
    time = np.arange(20 * RATE) / RATE
    values = noise() * 1e-3
    values[1] += np.sin(2 * np.pi * 23 * time) * (np.abs(time - 7.3) < 0.25)
    patches = PatchSettings(grid_height=32, spacing=spacing, hop_seconds=0.0625)  # 12.5 samples: no whole number
    with map_power(made(tmp_path, values), Plan(patches, RATE)) as power:
        log = power.read(0, power.n_columns, np.arange(3))
        row, column = np.unravel_index(log[1].argmax(), log[1].shape)
        assert abs(power.times[column] - 7.3) <= 0.0625
        assert patches.edges[row] - 0.5 <= 23 <= patches.edges[row + 1] + 0.5
        assert log[0].max() < log[1].max() - 5
        # Times do not drift with a hop of 12.5 samples.
        np.testing.assert_allclose(np.diff(power.times).mean(), 0.0625, rtol=1e-3)


def test_blocks_do_not_show(tmp_path, monkeypatch):
    from core.sites import patches as module

    recording, plan = made(tmp_path, noise()), Plan(PatchSettings(grid_height=16, hop_seconds=0.0625), RATE)
    with map_power(recording, plan) as whole:
        expected = whole.read(0, whole.n_columns, np.arange(3))
        assert whole.n_columns == plan.n_columns(recording.n_times)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 3000)
    monkeypatch.setattr(
        module, "raw_blocks", lambda one: (one.read(at, min(at + 37, one.n_times)) for at in range(0, one.n_times, 37))
    )
    with map_power(recording, plan) as pieces:
        np.testing.assert_array_equal(pieces.read(0, pieces.n_columns, np.arange(3)), expected)


def test_a_resampled_recording_gives_the_same_power(tmp_path):
    time = np.arange(10 * 500) / 500.0
    values = np.stack([np.sin(2 * np.pi * 11 * time), np.sin(2 * np.pi * 30 * time)])
    patches = PatchSettings(grid_height=8, hop_seconds=0.1)
    recording = made(tmp_path, values, 500.0)
    with map_power(recording, Plan(patches, 500.0)) as own, map_power(recording, Plan(patches, 128.0)) as lower:
        n = min(own.n_columns, lower.n_columns)
        assert abs(own.n_columns - lower.n_columns) <= 1
        loudest = [one.read(5, n - 5, np.arange(2)).max(axis=1) for one in (own, lower)]
    np.testing.assert_allclose(loudest[0], loudest[1], atol=0.02)


def test_silence_has_a_floor_and_no_infinity(tmp_path):
    values = noise()
    values[0, 1000:3000] = 0.0
    with map_power(made(tmp_path, values), Plan(PatchSettings(grid_height=8), RATE)) as power:
        log = power.read(0, power.n_columns, np.arange(3))
    assert np.isfinite(log).all()
    middle = log[0][:, np.argmin(np.abs(power.times - 10))]
    np.testing.assert_allclose(middle, power.floor[0], rtol=1e-6)
    # 60 dB below the mean power of the whole channel.
    assert np.log(np.exp(log[0]).mean()) - middle[0] == pytest.approx(np.log(1e6), abs=1e-3)


def test_an_average_reference_takes_away_what_all_have(tmp_path):
    common = np.sin(2 * np.pi * 20 * np.arange(4000) / RATE)
    values = noise() * 0.1 + 100 * common
    read = []
    for reference in ("none", "average"):
        patches = PatchSettings(grid_height=4, reference=reference)
        with map_power(made(tmp_path, values), Plan(patches, RATE)) as power:
            read.append(power.read(0, power.n_columns, np.arange(3))[:, 1].mean())
    assert read[1] < read[0] - 10


def test_flat_and_broken_channels(tmp_path):
    values = noise()
    values[1] = 7.0
    assert flat_channels(made(tmp_path, values)).tolist() == [False, True, False]
    values[2, 900] = np.nan
    with pytest.raises(DataError, match=r"channel 3, first at 4\.500 s"):
        flat_channels(made(tmp_path, values))


def test_rows_above_nyquist():
    with pytest.raises(InputError, match="h_freq"):
        Plan(PatchSettings(), 60.0)
