import tempfile
from dataclasses import replace

import mne
import numpy as np
import pytest

from core.errors import DataError, InputError
from core.meg import filtering
from core.meg.filtering import design_filter
from core.meg.preprocess import Moments, fit_weights, prepare_raw, standardise, statistics_of
from core.sensors import Preparation, Sensors, Statistics
from tests.meg.recordings import Planted, make_raw, meg_file

NATIVE = Preparation(layout="native")
SOME = 6  # channels: four gradiometers and two magnetometers


@pytest.fixture
def prepared():
    """A function from a recording to what comes out: the record, and (channels, times) values."""
    with tempfile.TemporaryFile() as store:

        def run(raw, preparation=NATIVE):
            store.truncate(0)
            recording = prepare_raw(meg_file(raw), preparation, store)
            return recording, recording.samples.read(0, recording.samples.n_times)

        yield run


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few filter lengths, so that a short recording has several."""
    monkeypatch.setattr(filtering, "BLOCK_VALUES", 1)


def tones(rate, seconds, *frequencies):
    """One tone of amplitude 1e-12 in each channel."""
    times = np.arange(round(rate * seconds)) / rate
    return np.stack([1e-12 * np.sin(2 * np.pi * frequency * times) for frequency in frequencies])


def decibels(values, middle=slice(500, -500)):
    return 20 * np.log10(values[:, middle].std(axis=1) / (1e-12 / np.sqrt(2)))


# --- filter


def test_tones_in_the_band_pass_and_those_outside_are_suppressed(prepared):
    values = tones(1000.0, 20, 0.1, 10.0, 30.0, 50.0, 60.0, 120.0)
    _, out = prepared(make_raw(Planted(channels=SOME, rate=1000.0), values))
    levels = decibels(out, slice(1000, -1000))
    assert np.abs(levels[1:3]).max() < 0.1
    assert levels[0] < -30
    assert levels[3:].max() < -50


@pytest.mark.parametrize("rate", [1000.0, 600.0, 678.17])
def test_what_lies_above_the_new_nyquist_does_not_come_back_as_another_tone(prepared, rate):
    # 210 Hz at 250 Hz would be 40 Hz, 240 Hz 10 Hz, 130 Hz 120 Hz: decimation alone keeps all three at full height.
    values = tones(rate, 20, 210.0, 240.0, 130.0, 245.0, 235.0, 10.0)
    preparation = replace(NATIVE, h_freq=110.0)
    _, out = prepared(make_raw(Planted(channels=SOME, rate=rate), values), preparation)
    levels = decibels(out)
    assert levels[:5].max() < -50
    assert abs(levels[5]) < 0.1
    assert decibels(values[:, :: round(rate / 250)])[:5].min() > -0.1  # the control: without the low-pass


def test_without_an_upper_edge_a_lower_rate_still_does_not_alias(prepared):
    values = tones(1000.0, 20, 210.0, 240.0, 130.0, 126.0, 90.0, 10.0)
    _, out = prepared(make_raw(Planted(channels=SOME, rate=1000.0), values), replace(NATIVE, h_freq=None))
    levels = decibels(out)
    assert levels[:4].max() < -50
    assert np.abs(levels[4:]).max() < 0.1


@pytest.mark.parametrize("rate", [250.0, 600.0, 1000.0])
def test_a_tone_keeps_its_phase(prepared, rate):
    _, out = prepared(make_raw(Planted(channels=1, rate=rate), tones(rate, 20, 10.0)))
    times = np.arange(out.shape[1]) / 250
    np.testing.assert_allclose(out[0, 500:-500], 1e-12 * np.sin(2 * np.pi * 10 * times)[500:-500], atol=1e-14)


def test_filtering_in_blocks_is_mne_s_filter_of_the_whole(prepared, small_blocks):
    raw = make_raw(Planted(seconds=30, channels=SOME))
    _, out = prepared(raw)
    expected = raw.copy().filter(1.0, 40.0, verbose=False).get_data()
    np.testing.assert_allclose(out, expected, atol=1e-6 * expected.std(), rtol=1e-6)


@pytest.mark.parametrize("rate", [500.0, 600.0])
def test_values_do_not_depend_on_the_blocks(prepared, monkeypatch, rate):
    raw = make_raw(Planted(seconds=20, channels=3, rate=rate))
    _, whole = prepared(raw)
    monkeypatch.setattr(filtering, "BLOCK_VALUES", 1)
    _, cut = prepared(raw)
    assert whole.shape == (3, 5000)
    np.testing.assert_allclose(cut, whole, atol=1e-6 * whole.std())


def test_notches_are_mne_s_and_only_where_the_low_pass_leaves_something(prepared):
    preparation = replace(NATIVE, h_freq=100.0)
    raw = make_raw(Planted(seconds=30, channels=SOME, rate=500.0))
    recording, out = prepared(raw, preparation)
    assert recording.facts["notch_hz"] == [50.0, 100.0]
    band = raw.copy().filter(1.0, 100.0, verbose=False).get_data()
    expected = mne.filter.notch_filter(band, 500.0, [50.0, 100.0], verbose=False)[:, ::2]
    inner = slice(1700, -1700)  # two paddings are not one at the ends
    np.testing.assert_allclose(out[:, inner], expected[:, inner], atol=1e-6 * expected.std())
    assert design_filter(500.0, NATIVE, 50.0).notches == ()  # 1 to 40 Hz ends before


@pytest.mark.parametrize(
    ("notch", "line", "expected"),
    [
        ("auto", 60.0, (60.0,)),
        ("auto", None, ()),
        ("none", 50.0, ()),
        ("50", 60.0, (50.0, 100.0)),
        ("30", None, (30.0, 60.0, 90.0)),
    ],
)
def test_notch_is_the_file_s_line_frequency_a_number_or_none(notch, line, expected):
    design = design_filter(500.0, replace(NATIVE, h_freq=90.0, notch=notch), line)
    assert design.notches == expected
    assert bool(design.note) == (notch == "auto" and line is None)


@pytest.mark.parametrize("notch", ["mains", "-50", "nan"])
def test_a_notch_that_is_none_is_refused(notch):
    with pytest.raises(InputError, match="auto, none, or a frequency"):
        design_filter(500.0, replace(NATIVE, notch=notch), 50.0)


@pytest.mark.parametrize("rate", [250.0, 600.0, 1000.0])
def test_an_impulse_reaches_no_further_than_stated(prepared, rate):
    values = np.zeros((1, round(20 * rate)))
    values[0, round(10 * rate)] = 1.0
    recording, out = prepared(make_raw(Planted(channels=1, rate=rate), values))
    touched = np.flatnonzero(np.abs(out[0]) > 1e-8 * np.abs(out).max()) / 250 - 10
    assert np.abs(touched).max() <= recording.reach_seconds
    assert np.abs(touched).max() > 0.6 * recording.reach_seconds


# --- refusals


def test_a_recording_shorter_than_the_filter_is_told_how_long_it_has_to_be(prepared):
    with pytest.raises(DataError, match=r"planted_raw.fif is 2.00 s long; its filter needs at least 3.30 s"):
        prepared(make_raw(Planted(seconds=2, channels=1)))
    prepared(make_raw(Planted(seconds=3.3, channels=1)))


def test_a_rate_below_the_wanted_one_is_refused_with_the_remedy(prepared):
    with pytest.raises(DataError, match=r"at 90 Hz; expected at least 250 Hz.*--sfreq 90"):
        prepared(make_raw(Planted(seconds=10, rate=90.0, channels=1)))


def test_values_that_are_not_finite_are_named_by_file_seconds_and_channel(prepared, small_blocks):
    raw = make_raw(Planted(seconds=20, channels=SOME))
    raw._data[3, 4000:4100] = np.nan
    with pytest.raises(DataError, match=r"planted_raw.fif .* in 1 of 6 MEG channels, at 16.000 to 16.400 s"):
        prepared(raw)


@pytest.mark.parametrize("rest", [np.nan, 0.0])
def test_a_channel_that_is_marked_as_bad_may_hold_anything(prepared, rest):
    """What the error about NaN says to do has to help; nothing that comes out rests on the channel."""
    planted = Planted(seconds=8, channels=40, bads=(3,))
    expected = prepared(make_raw(planted))[1]
    raw = make_raw(planted)
    raw._data[3, 100:] = rest
    recording, values = prepared(raw)
    np.testing.assert_array_equal(values, expected)
    assert recording.report.interpolated_bads == (raw.ch_names[3],) and "flat" not in " ".join(recording.warnings)
    with pytest.raises(DataError, match="1 of 40 MEG channels"):
        raw._data[3, 100:] = np.nan
        prepared(raw, replace(NATIVE, bads="keep"))


def test_bad_annotations_become_spans(prepared):
    marks = ((2.0, 1.0, "BAD_jump"), (5.0, 0.0, "bad"), (6.0, 1.0, "BAD_ACQ_SKIP"), (4.0, 1.0, "tone"))
    recording, _ = prepared(make_raw(Planted(seconds=12, channels=1, annotations=marks)))
    reach = 412  # half of 825 taps
    assert recording.bad_spans == ((500, 750), (1500 - reach, 1750 + reach), (1250, 1251))


# --- channels


@pytest.mark.parametrize("bads", [(), (0, 30)])
def test_fitting_commutes_with_filtering(prepared, bads):
    from core.meg.channels import fit_channels

    preparation = NATIVE if bads else Preparation()  # with few channels interpolating is quick
    raw = make_raw(Planted(seconds=5, bads=bads, channels=40 if bads else 306))
    shuffled = raw.copy().reorder_channels(list(np.random.default_rng(0).permutation(raw.ch_names)))
    _, out = prepared(shuffled, preparation)
    first, report = fit_channels(shuffled, meg_file(shuffled).sensors, preparation)
    expected = first.filter(1.0, 40.0, picks="meg", verbose=False).get_data()
    np.testing.assert_allclose(out, expected, atol=1e-6 * expected.std())
    assert len(report.interpolated_bads) == len(bads)


def test_weights_by_name_are_a_permutation():
    raw = make_raw(Planted(seconds=1))
    shuffled = raw.copy().reorder_channels(raw.ch_names[::-1])
    weights, sensors, _ = fit_weights(meg_file(shuffled), Preparation())
    assert np.array_equal(np.array(shuffled.ch_names)[weights.argmax(axis=1)], sensors.names)
    assert weights.sum() == 306
    assert np.count_nonzero(weights) == 306


@pytest.mark.parametrize("name", ["elekta306/141027_cropped_90Hz_raw.fif", "elekta306/neuromag122_test_file-raw.fif"])
def test_real_recordings_come_out_as_mne_s_filter_and_the_fit_of_the_whole(shared_data, name):
    from core.meg.channels import fit_channels
    from core.meg.reader import open_raw

    file = open_raw(shared_data("meg_small") / name)
    rate = min(250, round(file.raw.info["sfreq"]))
    with tempfile.TemporaryFile() as store:
        recording = prepare_raw(file, Preparation(sampling_rate=rate, l_freq=None, h_freq=rate / 4), store)
        out = recording.samples.read(0, recording.samples.n_times)
    whole = file.raw.copy().pick(list(file.sensors.names)).load_data()
    whole.filter(None, rate / 4, h_trans_bandwidth=max(rate / 16, 2.0), verbose=False)
    fitted, report = fit_channels(whole, file.sensors, Preparation())
    expected = fitted.get_data()[:, :: round(whole.info["sfreq"] / rate)]
    assert report == recording.report
    assert out.shape == (306, recording.samples.n_times)
    for kind in ("mag", "grad"):
        rows = recording.sensors.of_kind(kind)
        np.testing.assert_allclose(out[rows], expected[rows], atol=1e-5 * expected[rows].std(), rtol=1e-5)


def test_no_more_than_a_block_is_read_at_a_time(prepared, small_blocks, monkeypatch):
    raw = make_raw(Planted(seconds=60, channels=2))
    lengths, get_data = [], raw.get_data

    def counted(picks, start, stop, verbose):
        lengths.append(stop - start)
        return get_data(picks=picks, start=start, stop=stop)

    monkeypatch.setattr(raw, "get_data", counted)
    prepared(raw)
    assert max(lengths) <= 3 * 825  # two filter lengths, and half of one on each side
    assert sum(lengths) < 2 * raw.n_times


# --- statistics


def test_moments_of_blocks_are_numpy_s_of_the_whole():
    values = np.random.default_rng(0).standard_normal((4, 1000)) * 1e-13 + 1e-9
    moments, second = Moments(4), Moments(4)
    for block in np.array_split(values[:, :700], 7, axis=1):
        moments.add(block)
    second.add(values[:, 700:])
    moments.merge(second)
    moments.add(values[:, :0])
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(axis=1), rtol=1e-6)


def test_moments_by_kind_pool_channels():
    values = np.random.default_rng(0).standard_normal((4, 1000)) + np.arange(4)[:, None]
    moments = Moments(4)
    moments.add(values)
    pooled = moments.by_kind(("grad", "mag", "grad", "grad"))
    np.testing.assert_allclose(pooled.mean, [values[1].mean(), values[[0, 2, 3]].mean()])
    np.testing.assert_allclose(pooled.std, [values[1].std(), values[[0, 2, 3]].std()])
    only = moments.by_kind(("grad",) * 4)
    assert np.isnan(statistics_of(only).mean).tolist() == [True, False]


def sensors_of(kinds):
    n = len(kinds)
    return Sensors(tuple(f"MEG{i}" for i in range(n)), tuple(kinds), np.zeros((n, 3)), np.zeros((n, 3)))


def scored(values, kinds, clip=20.0):
    moments = Moments(len(values))
    moments.add(values)
    return standardise(values, statistics_of(moments), sensors_of(kinds), clip)


def test_scores_of_tesla_have_unit_variance_where_the_documented_epsilon_leaves_none():
    values = np.random.default_rng(0).standard_normal((4, 4000)) * np.array([1e-13, 2e-13, 3e-12, 1e-12])[:, None]
    documented = (values - values.mean()) / (values.std(axis=1, keepdims=True) + 1e-8)
    assert documented.std() < 1e-3
    scores = scored(values, ("mag", "mag", "grad", "grad"))
    np.testing.assert_allclose(scores.std(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(scores.mean(axis=1), 0, atol=1e-5)
    assert scores.dtype == np.float32


def test_a_flat_channel_comes_out_as_zero_and_its_noise_is_not_blown_up():
    values = np.random.default_rng(0).standard_normal((5, 4000)) * 1e-12
    values[1] = 3e-11
    values[2] *= 1e-6  # what rounding leaves of a flat one
    scores = scored(values, ("grad",) * 5)
    assert np.abs(scores[1]).max() < 1e-4
    assert np.abs(scores[2]).max() < 1e-3
    np.testing.assert_allclose(scores[[0, 3, 4]].std(axis=1), 1, atol=1e-5)


def test_a_flat_channel_stays_flat_through_the_filter(prepared):
    for l_freq in (1.0, None):
        raw = make_raw(Planted(seconds=10, channels=SOME, rate=500.0))
        raw._data[2] = 7.7e-11
        _, out = prepared(raw, replace(NATIVE, l_freq=l_freq))
        assert np.ptp(out[2]) == 0.0


def test_a_kind_that_is_flat_throughout_stays_zero():
    values = np.random.default_rng(0).standard_normal((3, 400)) * 1e-12
    values[:2] = 0.0
    assert not scored(values, ("mag", "mag", "grad"))[:2].any()


def test_scores_are_cut():
    values = np.random.default_rng(0).standard_normal((1, 4000))
    values[0, 7] = 1e4
    assert scored(values, ("mag",)).max() == 20.0
    assert scored(values, ("mag",), clip=5.0).max() == 5.0


def test_native_channels_take_their_kind_s_statistics():
    statistics = Statistics(np.array([1.0, np.nan]), np.array([2.0, np.nan]))
    scores = standardise(np.full((3, 2), 5.0), statistics, sensors_of(("mag",) * 3), 20.0, native=True)
    assert (scores == 2.0).all()
    with pytest.raises(DataError, match="no grad sensors"):
        standardise(np.zeros((1, 2)), statistics, sensors_of(("grad",)), 20.0, native=True)


def test_another_number_of_channels_is_refused():
    statistics = Statistics(np.zeros(4), np.ones(4))
    with pytest.raises(DataError, match="Got 3 channels; expected 4"):
        standardise(np.zeros((3, 2)), statistics, sensors_of(("mag",) * 3), 20.0)
