"""What a description shows, against planted signals and another implementation."""

import mne
import numpy as np
import pytest

from core.errors import DataError
from core.meg.description import describe, keep_extremes
from core.meg.layouts import layout
from core.records import from_plain, to_plain
from core.sensors import MegDescription
from core.tasks.meg.describing import describe_meg
from tests.meg.recordings import Planted, make_raw, save_raw

RATE, SECONDS = 250.0, 30.0
NOISE = {"mag": 5e-14, "grad": 1e-12}
"""Of make_raw: standard deviations in tesla, and in tesla per metre."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """White noise with bads, stimuli, labels and a 40 Hz tone of 1e-10 T/m in one gradiometer, up to second 2."""
    raw = make_raw(Planted(SECONDS, RATE, channels=30, bads=(5,), annotations=((1.0, 0.5, "left"),) * 3))
    times = np.arange(int(2 * RATE)) / RATE
    raw._data[0, : len(times)] += 1e-10 * np.sin(2 * np.pi * 40 * times)
    stimuli = mne.io.RawArray(np.zeros((2, raw.n_times)), mne.create_info(["S1", "S2"], RATE, "stim"), verbose="ERROR")
    path = tmp_path_factory.mktemp("described") / "planted_raw.fif"
    raw.add_channels([stimuli], force_update_info=True).save(path, fmt="double", verbose="ERROR")
    return path


@pytest.fixture(scope="module")
def seen(planted):
    return describe(planted)


def test_a_description_says_what_is_in_the_file(seen):
    assert (seen.format, seen.sampling_rate, seen.seconds) == ("Neuromag .fif", RATE, SECONDS)
    assert (seen.bads, seen.other_channels, seen.labels) == (("MEG 0121",), {"stim": 2}, {"left": 3})
    assert seen.sensors.names == layout("neuromag306").names[:30]
    assert (seen.flat.shape, seen.simulated, seen.warnings) == ((30, 2), False, ())
    assert seen.facts["butterfly_seconds"] == [0.0, 10.0]
    assert seen.facts["spectrum_seconds"] == [0.0, 30.0]


def test_it_travels_as_json(seen):
    again = from_plain(MegDescription, to_plain(seen))
    np.testing.assert_array_equal(again.butterfly, seen.butterfly)
    assert again.sensors.fingerprint() == seen.sensors.fingerprint()


def test_the_butterfly_is_in_femtotesla_and_keeps_the_tone(seen):
    """1e-10 T/m are 1000 fT/cm, noise of 1e-12 T/m adds at most some 50; thinned out blindly, half of it would go."""
    assert seen.butterfly.shape == (30, 800)
    assert seen.butterfly.dtype == np.float32
    assert (np.diff(seen.times) > 0).all()
    assert seen.times[-1] < 10
    tone = seen.times < 2
    assert 980 < seen.butterfly[0, tone].max() < 1050
    assert -1050 < seen.butterfly[0, tone].min() < -980
    assert abs(seen.butterfly[0, ~tone]).max() < 60


def test_spectra_of_white_noise_are_flat_at_its_variance(seen):
    """Closed form: white noise of variance s^2 has the one-sided density 2 s^2 / rate."""
    inside = (seen.frequencies > 1) & (seen.frequencies < 120)
    for kind, unit in (("mag", 1e15), ("grad", 1e13)):
        lower, median, upper = seen.spectra[kind][:, inside]
        assert (lower <= median).all()
        assert (median <= upper).all()
        assert np.median(median) == pytest.approx(2 * (NOISE[kind] * unit) ** 2 / RATE, rel=0.05)
    assert seen.frequencies[1] == 0.5


def test_extremes_are_kept_in_the_order_in_which_they_came():
    values = np.random.default_rng(0).standard_normal((3, 10_000))
    values[1, 5000], values[1, 5001] = 50, -50
    times, kept = keep_extremes(values, 100.0, 400)
    centred = (values - values.mean(1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(kept.max(1), centred.max(1))
    np.testing.assert_array_equal(kept.min(1), centred.min(1))
    assert kept[1].argmax() < kept[1].argmin()
    assert times[kept[1].argmax()] == pytest.approx(50.0, abs=0.5)
    whole_times, whole = keep_extremes(values[:, :300], 100.0, 400)
    assert (whole.shape, whole_times[-1]) == ((3, 300), 2.99)


def test_a_long_recording_is_read_in_two_places_only(planted, monkeypatch):
    monkeypatch.setattr("core.meg.description.SPECTRUM_SECONDS", 4.0)
    monkeypatch.setattr("core.meg.description.BUTTERFLY_SECONDS", 2.0)
    seen = describe(planted)
    assert seen.facts["butterfly_seconds"] == [0.0, 2.0]
    assert seen.facts["spectrum_seconds"] == [13.0, 17.0]


def test_flat_channels_are_told_and_nan_is_refused(tmp_path):
    values = np.random.default_rng(0).standard_normal((306, 500)) * 1e-12
    values[5] = 0
    np.save(tmp_path / "a.npy", values)
    seen = describe_meg(tmp_path / "a.npy", RATE)
    assert any("1 of 306 MEG channels are flat: MEG 0121" in told for told in seen.warnings)
    assert np.isfinite(seen.spectra["mag"]).all()
    values[7, 100:200] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=r"1 of 306 MEG channels, at 0\.400 to 0\.800 s"):
        describe_meg(tmp_path / "a.npy", RATE)


def test_a_channel_that_is_marked_as_bad_may_hold_nan(tmp_path):
    planted = Planted(seconds=2, channels=6, bads=(3,))
    values = make_raw(planted).get_data()
    values[3, 100:200] = np.nan
    seen = describe(save_raw(tmp_path / "bad_raw.fif", planted, values))
    assert seen.bads == (seen.sensors.names[3],) and np.isfinite(seen.butterfly).all()


@pytest.mark.parametrize(
    "name", ["ctf/somMDYO-18av.ds", "bti", "kit/test.sqd", "elekta306/neuromag122_test_file-raw.fif"]
)
def test_real_recordings_are_described(shared_data, name):
    seen = describe_meg(shared_data("meg_small") / name)
    assert seen.butterfly.shape == (len(seen.sensors), len(seen.times))
    assert np.isfinite(seen.flat).all()
    # A helmet's channels differ by some hundred to some hundred thousand femtotesla.
    assert 1 < np.abs(seen.butterfly).max() < 1e6
    assert set(seen.spectra) == set(seen.sensors.kinds)
