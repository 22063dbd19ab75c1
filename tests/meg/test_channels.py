"""Channels of real helmets in the order of a layout: by name, by interpolation, and by the document's padding."""

import json

import mne
import numpy as np
import pytest

from core.errors import DataError, InputError
from core.meg.channels import fit_channels, fitted_sensors
from core.meg.layouts import layout, plain_name, sensors_of
from core.meg.reader import open_raw
from core.sensors import Preparation
from tests.meg.recordings import Planted, make_raw

TARGET = layout("neuromag306")
KINDS = np.array(TARGET.kinds)
NEUROMAG = [
    "141027_cropped_90Hz_raw.fif",
    "sample_audvis_trunc_raw_sss.fif",
    "triux_bmlhus_erm_raw_sss.fif",
    "test_move_anon_erm_raw.fif",
]
# And the centre of the head, in metres in the head frame: of the digitised points where there are enough.
SYSTEMS = {
    "elekta306/neuromag122_test_file-raw.fif": (0.0, 0.0, 0.04),
    "ctf/testdata_ctf_short_discontinuous.ds": (0.0, 0.0, 0.04),
    "kit/010409_Motor_task_coregist-export_tiny_1s.con": (-0.0043, -0.0184, 0.0281),
    "bti": (-0.0052, 0.0042, 0.0350),
}
N_REAL = 100


@pytest.fixture(scope="module")
def data(shared_data):
    return shared_data("meg_small")


def opened(path, seconds=0.2):
    file = open_raw(path)
    return file.raw.copy().crop(0, min(seconds, file.raw.times[-1])), file.sensors


def correlations(one, other):
    """Of each row with the other's, (channels,)."""
    one, other = (values - values.mean(1, keepdims=True) for values in (one, other))
    return (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))


def field(info, centre):
    """What 40 dipoles, 5 to 7 cm above and around the head's centre, make in each channel: (channels, 40), SI units."""
    rng = np.random.default_rng(0)
    ways = rng.standard_normal((40, 3)) * [1, 1, 0.7] + [0, 0, 0.7]
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    moments = np.cross(ways, rng.standard_normal((40, 3)))
    moments /= np.linalg.norm(moments, axis=1, keepdims=True)
    places = np.array(centre) + ways * rng.uniform(0.05, 0.07, (40, 1))
    dipoles = mne.Dipole(np.arange(40) / 100, places, np.full(40, 2e-8), moments, np.full(40, 100.0))
    sphere = mne.make_sphere_model(centre, 0.08, verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="ERROR")
    return forward["sol"]["data"] * 2e-8


@pytest.fixture(scope="module", params=SYSTEMS)
def brought(request, data):
    """A real recording, followed by fields of known dipoles as its own sensors measure them, brought to the layout."""
    raw, sensors = opened(data / request.param)
    raw.pick(list(sensors.names), verbose="ERROR").load_data(verbose="ERROR")
    known = raw.info["dev_head_t"]
    if known is None or np.allclose(known["trans"], np.eye(4)):
        raw.info["dev_head_t"] = mne.transforms.Transform("meg", "head", mne.transforms.translation(z=0.05))
    centre = SYSTEMS[request.param]
    bare = raw.info.copy()
    with bare._unlock():
        bare["comps"] = []
    values = np.hstack([raw.get_data()[:, :N_REAL], field(bare, centre)])
    fitted, report = fit_channels(mne.io.RawArray(values, bare, verbose="ERROR"), sensors, Preparation())
    return request.param, fitted, report, centre


def test_real_recordings_of_other_systems_come_out_in_the_layout(brought):
    _, fitted, report, _ = brought
    assert fitted.ch_names == list(TARGET.names)
    assert fitted.get_channel_types() == list(TARGET.kinds)
    assert (report.how, len(report.missing)) == ("interpolated", 306)
    values = fitted.get_data()[:, :N_REAL]
    assert np.isfinite(values).all()
    # KIT counts from a point 7 cm lower: taken as they are, its coordinates give magnetometers of up to 3e-8 T.
    assert values[KINDS == "mag"].std(1).max() < 2e-12
    assert values[KINDS == "grad"].std(1).max() < 1e-10


def test_interpolation_gives_what_the_layouts_sensors_would_measure(brought):
    """Witness: MNE's forward model of the same dipoles, for the recording's own sensors and for the layout's.

    Medians over magnetometers and gradiometers: Neuromag-122 .9995 and .9988, CTF .9999 and .9993, KIT .9997 and .9990,
    BTi .9999 and .9983. The worst sensors (KIT: .86) are those farthest from the recording's own.
    """
    _, fitted, _, centre = brought
    found = correlations(fitted.get_data()[:, N_REAL:], field(fitted.info, centre))
    for kind in ("mag", "grad"):
        assert np.median(found[kind == KINDS]) > 0.99


@pytest.mark.parametrize("name", NEUROMAG)
def test_rows_are_ordered_by_name(data, name):
    raw, sensors = opened(data / "elekta306" / name)
    before = list(raw.ch_names)
    fitted, report = fit_channels(raw, sensors, Preparation())
    assert (report.how, report.missing, report.dropped) == ("names", (), ())
    assert (fitted.ch_names, raw.ch_names, fitted.preload) == (list(TARGET.names), before, False)
    own = {plain_name(one): one for one in before}
    for row in (0, 17, 305):
        expected = raw.get_data(picks=[own[plain_name(TARGET.names[row])]])
        np.testing.assert_array_equal(fitted.get_data(picks=[row]), expected)


def test_two_machines_rows_are_the_same_sensors(data):
    """Taken as they come, as the document does, only 57 of these two files' 306 rows are the same sensor."""
    names = [
        [plain_name(one) for one in open_raw(data / "elekta306" / name).sensors.names]
        for name in ("triux_bmlhus_erm_raw_sss.fif", "sample_audvis_trunc_raw_sss.fif")
    ]
    assert sum(one == other for one, other in zip(*names, strict=True)) < 306
    fitted = [
        fit_channels(*opened(data / "elekta306" / name), Preparation())[0]
        for name in ("triux_bmlhus_erm_raw_sss.fif", "sample_audvis_trunc_raw_sss.fif")
    ]
    assert fitted[0].ch_names == fitted[1].ch_names
    for one, other in zip(fitted[0].info["chs"], fitted[1].info["chs"], strict=True):
        np.testing.assert_allclose(one["loc"][:3], other["loc"][:3], atol=1e-4)


@pytest.fixture(scope="module")
def filtered(data):
    """A real second of a Maxwell-filtered recording below 40 Hz."""
    raw, sensors = opened(data / "elekta306" / "sample_audvis_trunc_raw_sss.fif", 1.0)
    return raw.pick(list(sensors.names)).load_data(verbose="ERROR").filter(None, 40.0, verbose="ERROR"), sensors


def test_a_round_trip_over_another_helmet_keeps_a_real_recording(filtered):
    """Medians: magnetometers .9992, gradiometers .9954; what is not Maxwell-filtered carries noise that is lost."""
    raw, sensors = filtered
    there, _ = fit_channels(raw.copy(), sensors, Preparation(layout="ctf151"))
    back, _ = fit_channels(there, sensors_of(there.info), Preparation())
    own, _ = fit_channels(raw.copy(), sensors, Preparation())
    found = correlations(own.get_data(), back.get_data())
    assert np.median(found[KINDS == "mag"]) > 0.99
    assert np.median(found[KINDS == "grad"]) > 0.99


def test_bad_channels_come_back_from_their_neighbours(filtered):
    """Of eleven the median is .9991, the least .9859."""
    raw, sensors = filtered
    spoilt = raw.copy()
    spoilt.info["bads"] = list(raw.ch_names[2::30])
    rows = [raw.ch_names.index(name) for name in spoilt.info["bads"]]
    spoilt._data[rows] = np.random.default_rng(0).standard_normal((len(rows), raw.n_times)) * 1e-10
    fitted, report = fit_channels(spoilt, sensors, Preparation())
    assert report.interpolated_bads == tuple(raw.ch_names[row] for row in rows)
    assert fitted.info["bads"] == []
    found = correlations(raw.get_data(picks=rows), fitted.get_data(picks=list(report.interpolated_bads)))
    assert np.median(found) > 0.99


def test_bad_channels_may_be_kept(filtered):
    raw, sensors = filtered
    marked = raw.copy()
    marked.info["bads"] = list(raw.ch_names[:2])
    fitted, report = fit_channels(marked, sensors, Preparation(bads="keep"))
    assert (report.kept_bads, report.interpolated_bads) == (tuple(raw.ch_names[:2]), ())
    np.testing.assert_array_equal(fitted.get_data(picks=raw.ch_names[:2]), raw.get_data(picks=[0, 1]))
    assert "are marked as bad and were kept" in report.warnings[0]


def test_bad_channels_are_left_out_of_an_interpolation(data):
    raw, sensors = opened(data / "elekta306" / "neuromag122_test_file-raw.fif")
    flat = ["MEG 006", "MEG 026", "MEG 027", "MEG 079"]
    raw.load_data(verbose="ERROR").info["bads"] = flat
    rows = [raw.ch_names.index(name) for name in flat]
    raw._data[rows] = 1.0
    fitted, report = fit_channels(raw, sensors, Preparation())
    assert (report.interpolated_bads, report.kept_bads) == (tuple(flat), ())
    assert np.abs(fitted.get_data()).max() < 1e-9
    assert any("does not say where the head was" in told for told in report.warnings)
    assert report.facts["origin_from"] == "helmet"


def test_rows_of_an_array_are_ordered_without_reading_them(tmp_path):
    values = np.random.default_rng(0).standard_normal((306, 200)) * 1e-12
    np.save(tmp_path / "a.npy", values)
    told = {"sampling_rate": 250, "names": TARGET.names[::-1]}
    (tmp_path / "a.json").write_text(json.dumps(told))
    file = open_raw(tmp_path / "a.npy")
    fitted, _ = fit_channels(file.raw, file.sensors, Preparation())
    assert not fitted.preload
    np.testing.assert_array_equal(fitted.get_data(start=20, stop=50), values[::-1, 20:50])


def test_nothing_but_bad_channels_is_refused():
    raw = make_raw(Planted(1.0, channels=6))
    raw.info["bads"] = list(raw.ch_names)
    with pytest.raises(DataError, match="All 6 MEG channels"):
        fit_channels(raw, sensors_of(raw.info), Preparation())


def test_extra_channels_are_dropped_and_labels_stay():
    raw = make_raw(Planted(1.0, annotations=((0.5, 0.1, "left"),)))
    extra = mne.io.RawArray(np.zeros((1, raw.n_times)), mne.create_info(["MEG 9999"], 250.0, "mag"), verbose="ERROR")
    raw.add_channels([extra], force_update_info=True)
    fitted, report = fit_channels(raw, sensors_of(raw.info), Preparation(fit_channels="names"))
    assert (report.how, report.dropped, len(fitted.ch_names)) == ("names", ("MEG 9999",), 306)
    assert list(fitted.annotations.description) == ["left"]


def test_names_refuses_what_lacks_some():
    raw = make_raw(Planted(1.0, channels=300))
    with pytest.raises(InputError, match=r"lacks 6 channels \(MEG 2633, .*Use --fit-channels interpolate"):
        fit_channels(raw, sensors_of(raw.info), Preparation(fit_channels="names"))


def test_a_name_of_another_kind_is_another_channel():
    raw = make_raw(Planted(1.0))
    raw.rename_channels({"MEG 0111": "MEG 0112", "MEG 0112": "MEG 0111"})
    with pytest.raises(InputError, match="lacks 2 channels"):
        fit_channels(raw, sensors_of(raw.info), Preparation(fit_channels="names"))


def test_padding_puts_known_names_in_their_rows():
    raw = make_raw(Planted(1.0, annotations=((0.5, 0.1, "left"),))).pick(["MEG 0113", "MEG 2641"])
    values = raw.get_data()
    fitted, report = fit_channels(raw, sensors_of(raw.info), Preparation(fit_channels="pad"))
    rows = [TARGET.names.index(name) for name in ("MEG 0113", "MEG 2641")]
    np.testing.assert_array_equal(fitted.get_data()[rows], values)
    assert not np.delete(fitted.get_data(), rows, axis=0).any()
    assert (report.how, len(report.missing), list(fitted.annotations.description)) == ("padded", 304, ["left"])
    assert "304 of 306 rows are zeros" in report.warnings[-1]


@pytest.mark.parametrize(("count", "layout_name", "zeros", "dropped"), [(4, "ctf151", 147, 0), (306, "ctf151", 0, 155)])
def test_padding_takes_unknown_names_as_they_come(count, layout_name, zeros, dropped):
    """The document: zero rows for what is missing, the first N of too many."""
    raw = make_raw(Planted(1.0, channels=count))
    values = raw.get_data()
    wanted = Preparation(layout=layout_name, fit_channels="pad")
    fitted, report = fit_channels(raw, sensors_of(raw.info), wanted)
    assert (len(report.missing), len(report.dropped)) == (zeros, dropped)
    np.testing.assert_array_equal(fitted.get_data()[: min(count, 151)], values[:151])
    assert fitted_sensors(fitted, wanted).system == "ctf151"


def test_native_sensors_stay_as_they_are(data):
    raw, sensors = opened(data / "kit" / "test.sqd")
    wanted = Preparation(layout="native")
    fitted, report = fit_channels(raw, sensors, wanted)
    assert (report.how, fitted.ch_names) == ("native", list(sensors.names))
    assert fitted_sensors(fitted, wanted).fingerprint() == sensors.fingerprint()


def test_sensors_without_places_can_be_padded_only():
    values = np.random.default_rng(0).standard_normal((40, 250))
    raw = mne.io.RawArray(values, mne.create_info(40, 250.0, "mag"), verbose="ERROR")
    for wanted in (Preparation(), Preparation(layout="native")):
        with pytest.raises(InputError, match="does not say where its sensors are"):
            fit_channels(raw.copy(), sensors_of(raw.info), wanted)
    assert fit_channels(raw, sensors_of(raw.info), Preparation(fit_channels="pad"))[1].how == "padded"


def test_three_channels_are_too_few_to_interpolate_from(data):
    with pytest.raises(InputError, match=r"3 good MEG channels, and 261 of 306 .* none within 4 cm: too few"):
        fit_channels(*opened(data / "elekta306" / "test_elekta_3ch_raw.fif"), Preparation())
