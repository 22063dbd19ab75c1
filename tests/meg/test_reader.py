"""Real recordings of every system, and files that are none."""

import json
import shutil

import mne
import numpy as np
import pytest

from core.errors import DataError, InputError
from core.meg.checks import check_finite, flat_warnings
from core.meg.layouts import layout
from core.meg.reader import find_recordings, is_meg, labels_of, open_raw
from tests.meg.recordings import Planted, make_raw, names_and_kinds, save_raw

REAL = [
    ("elekta306/141027_cropped_90Hz_raw.fif", "Neuromag .fif", "neuromag306", 306, 90.0),
    ("elekta306/sample_audvis_trunc_raw_sss.fif", "Neuromag .fif", "neuromag306", 306, 300.3075),
    ("elekta306/triux_bmlhus_erm_raw_sss.fif", "Neuromag .fif", "neuromag306", 306, 1000.0),
    ("elekta306/test_move_anon_erm_raw.fif", "Neuromag .fif", "neuromag306", 306, 1200.0),
    ("elekta306/neuromag122_test_file-raw.fif", "Neuromag .fif", "neuromag122", 122, 1000.0),
    ("ctf/testdata_ctf_short_discontinuous.ds", "CTF .ds", "ctf273", 273, 1200.0),
    ("ctf/somMDYO-18av.ds", "CTF .ds", "ctf151", 151, 1250.0),
    ("ctf/test_ctf_comp_raw.fif", "Neuromag .fif", "ctf274", 274, 480.0),
    ("kit/010409_Motor_task_coregist-export_tiny_1s.con", "KIT .con", "kit151", 151, 2000.0),
    ("kit/MQKIT_125_2sec.con", "KIT .con", "kit125", 125, 1000.0),
    ("kit/test.sqd", "KIT .sqd", "kit157", 157, 1000.0),
    ("bti", "BTi", "bti248", 248, 1017.25),
    ("bti/test_pdf_linux", "BTi", "bti248", 248, 1017.25),
    ("bti/exported4D_solaris_raw.fif", "Neuromag .fif", "bti248", 248, 678.17),
]
RATE = 250.0


@pytest.fixture(scope="module")
def data(shared_data):
    return shared_data("meg_small")


@pytest.mark.parametrize(("name", "kind", "system", "count", "rate"), REAL)
def test_real_recordings_open_without_their_samples(data, capfd, name, kind, system, count, rate):
    assert is_meg(data / name)
    file = open_raw(data / name)
    assert (file.format, file.sensors.system, len(file.sensors)) == (kind, system, count)
    assert file.raw.info["sfreq"] == pytest.approx(rate, abs=1e-3)
    assert file.sensors.are_located
    assert not file.raw.preload
    assert not file.simulated
    assert capfd.readouterr() == ("", "")


def test_reference_channels_stimuli_and_eeg_are_no_meg(data):
    """The document takes the first 306 channels: of this file 273 MEG, 28 reference, 3 stimulus and 2 others."""
    file = open_raw(data / "ctf" / "testdata_ctf_short_discontinuous.ds")
    of = dict(zip(file.raw.ch_names, file.raw.get_channel_types(), strict=True))
    assert {of[name] for name in file.raw.ch_names[:306]} > {"mag", "ref_meg", "stim"}
    assert {of[name] for name in file.sensors.names} == {"mag"}
    assert len(file.sensors) == list(of.values()).count("mag")


def test_bad_channels_are_among_the_sensors(data):
    file = open_raw(data / "ctf" / "somMDYO-18av.ds")
    assert "MRT11-606" in file.raw.info["bads"]
    assert "MRT11-606" in file.sensors.names


def test_maxshield_is_opened_with_a_warning_that_says_what_to_do(data):
    (warning,) = open_raw(data / "elekta306" / "test_move_anon_erm_raw.fif").warnings
    assert "maxwell_filter" in warning


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elekta306/test-ave.fif.gz", "No raw data"),
        ("elekta306/test-cov.fif", "Could not find measurement data"),
        ("kit/test_mrk.sqd", "epochs"),
        ("eeg/egi_dig_raw.fif", "no MEG channels, only 257 eeg, 5 stim"),
    ],
)
def test_other_things_are_refused(data, name, message):
    with pytest.raises(DataError, match=message):
        open_raw(data / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eeg/test.edf", r"no MEG recording by its name; expected \.fif"),
        ("ctf/somMDYO-18av.ds/somMDYO-18av.meg4", "Give the .ds folder"),
        ("elekta306", "no MEG recording by its name"),
        ("nowhere_raw.fif", "There is no"),
    ],
)
def test_what_is_no_meg_by_its_name_is_refused(data, name, message):
    with pytest.raises(InputError, match=message):
        open_raw(data / name)


def test_a_folder_with_a_paper_and_a_configuration_is_no_bti(tmp_path):
    for name in ("paper.pdf", "config.json", "config.yaml"):
        (tmp_path / name).write_text("")
    assert not is_meg(tmp_path)
    assert not is_meg(tmp_path / "paper.pdf")


def test_truncated_and_damaged_files_are_refused(data, tmp_path):
    whole = (data / "elekta306" / "141027_cropped_90Hz_raw.fif").read_bytes()
    for name, content in (("cut_raw.fif", whole[:20_000]), ("text_raw.fif", b"not a recording"), ("no_raw.fif", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            open_raw(tmp_path / name)
    folder = tmp_path / "cut.ds"
    shutil.copytree(data / "ctf" / "somMDYO-18av.ds", folder)
    (folder / "somMDYO-18av.res4").write_bytes(b"MEG4")
    with pytest.raises(DataError, match=r"cut\.ds cannot be read"):
        open_raw(folder)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["elekta306/141027_cropped_90Hz_raw.fif", "kit/test.sqd"])
def test_recordings_that_break_off_are_refused(data, tmp_path, name, share):
    """MNE opens them: the .fif as a shorter recording, the KIT file at its full length, with zeros for the rest."""
    content = (data / name).read_bytes()
    if name.endswith("sqd"):
        share *= 0.99  # what stands behind the samples is not missed
    path = tmp_path / f"cut_raw{(data / name).suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="truncated"):
        open_raw(path)


def test_a_recording_that_breaks_off_between_two_buffers_is_refused(data, tmp_path):
    content = (data / "elekta306" / "141027_cropped_90Hz_raw.fif").read_bytes()
    (tmp_path / "cut_raw.fif").write_bytes(content[:662_016])  # where MNE says that the sixth buffer begins
    with pytest.raises(DataError, match="is truncated: its end is missing"):
        open_raw(tmp_path / "cut_raw.fif")


def test_a_recording_of_a_tenth_of_a_second_is_too_short(tmp_path):
    path = save_raw(tmp_path / "short_raw.fif", Planted(seconds=0.1))
    with pytest.raises(DataError, match=r"lasts 0\.100 s; expected at least 0\.2 s"):
        open_raw(path)


@pytest.mark.parametrize("naming", ["neuromag", "bids"])
def test_split_recordings_are_one(tmp_path, naming):
    raw = make_raw(Planted(seconds=10.0))
    raw.save(tmp_path / "long_meg.fif", split_size="2MB", split_naming=naming, buffer_size_sec=1, verbose="ERROR")
    assert len(list(tmp_path.iterdir())) > 1
    (found,) = find_recordings([tmp_path], "*.fif")
    assert open_raw(found).raw.n_times == raw.n_times
    first, *others = sorted(tmp_path.iterdir(), key=lambda path: path != found)
    assert find_recordings([*others, first], "*.fif") == (found,)
    for beside in ([], [save_raw(tmp_path / "rest_meg.fif", Planted(seconds=1.0))]):
        with pytest.raises(InputError, match=rf"{others[0].name} goes on where .* stops\. Give {found.name}"):
            find_recordings([*beside, others[0]], "*.fif")


@pytest.mark.filterwarnings("ignore:This filename")
def test_a_number_in_the_name_alone_makes_no_part(tmp_path):
    for name in ("rest_raw.fif", "rest_raw-1.fif"):
        save_raw(tmp_path / name, Planted(seconds=1.0, channels=6))
    assert len(find_recordings([tmp_path], "*.fif")) == 2


def test_folders_are_searched_for_recordings_only(data):
    found = find_recordings([data / "elekta306"], "*.fif")
    assert len(found) == 7
    assert not any("cov" in path.name or "trans" in path.name for path in found)
    assert [path.name for path in find_recordings([data / "ctf"], "*.ds")] == [
        "somMDYO-18av.ds",
        "testdata_ctf_short_discontinuous.ds",
    ]
    with pytest.raises(InputError, match=r"no MEG recording that matches '\*\.con'"):
        find_recordings([data / "ctf"], "*.con")
    with pytest.raises(InputError, match="There is no"):
        find_recordings([data / "nowhere"], "*.fif")


def test_labels_count_from_the_first_sample(tmp_path):
    raw = make_raw(Planted(seconds=4.0, channels=3, annotations=((1.5, 0.5, "left"), (2.5, 0.1, "BAD blink"))))
    raw.set_meas_date(0)
    raw.crop(1.0).save(tmp_path / "cropped_raw.fif", verbose="ERROR")
    (span,) = labels_of(open_raw(tmp_path / "cropped_raw.fif"))
    assert (span.label, span.onset, span.duration) == ("left", pytest.approx(0.5), 0.5)


def test_a_simulated_recording_says_so(tmp_path):
    raw = make_raw(Planted(seconds=1.0, channels=3))
    raw.info["description"] = "Simulated by Strata 0.1"
    raw.save(tmp_path / "made_raw.fif", verbose="ERROR")
    assert open_raw(tmp_path / "made_raw.fif").simulated


# numpy arrays


def save_array(path, values, **beside):
    np.save(path, values)
    if beside:
        path.with_suffix(".json").write_text(json.dumps(beside))
    return path


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((306, 200)) * 1e-12


def test_a_bare_array_is_taken_in_the_layouts_order_and_says_so(tmp_path, noise):
    file = open_raw(save_array(tmp_path / "a.npy", noise.astype(np.float32)), numpy_rate=RATE)
    assert file.sensors.fingerprint() == layout("neuromag306").fingerprint()
    assert not file.raw.preload
    np.testing.assert_allclose(file.raw.get_data(start=50, stop=60), noise[:, 50:60], rtol=1e-6)
    np.testing.assert_allclose(file.raw.get_data(picks=[7, 3], start=50, stop=60), noise[[7, 3], 50:60], rtol=1e-6)
    (warning,) = file.warnings
    assert "taken as the sensors of neuromag306, in its order (MEG 0113, MEG 0112, ...)" in warning


def test_rows_may_be_named(tmp_path, noise):
    names, kinds = names_and_kinds(12)
    backwards = names[::-1]
    file = open_raw(save_array(tmp_path / "a.npy", noise[:12], sampling_rate=RATE, names=backwards))
    assert (file.sensors.names, file.sensors.kinds, file.warnings) == (backwards, kinds[::-1], ())
    assert file.sensors.are_located
    assert file.raw.info["sfreq"] == RATE


def test_rows_of_an_unknown_system_need_kinds_and_have_no_places(tmp_path, noise):
    told = {"sampling_rate": 62.5, "names": ["A", "B", "C"]}
    with pytest.raises(InputError, match='put their "kinds"'):
        open_raw(save_array(tmp_path / "a.npy", noise[:3], **told))
    file = open_raw(save_array(tmp_path / "a.npy", noise[:3], **told, kinds=["mag", "grad", "mag"]))
    assert file.sensors.kinds == ("mag", "grad", "mag")
    assert not file.sensors.are_located


@pytest.mark.parametrize(
    ("values", "beside", "message"),
    [
        (np.zeros((306, 200)), {}, "does not say its sampling rate"),
        (np.zeros((200, 306)), {"sampling_rate": 250}, r"has 200 rows without names; expected .*Transpose it"),
        (np.zeros((306, 200)), {"sampling_rate": 250, "names": ["A"]}, "306 rows, but 1 names"),
        (np.zeros((1, 200)), {"sampling_rate": 250, "names": ["A"], "layout": "ctf275"}, "has no A"),
        (np.zeros((1, 200)), {"sampling_rate": 250, "layout": "brain"}, "Got layout 'brain'"),
    ],
)
def test_arrays_that_leave_something_open_are_refused(tmp_path, values, beside, message):
    with pytest.raises(InputError, match=message):
        open_raw(save_array(tmp_path / "a.npy", values, **beside))


@pytest.mark.parametrize(
    ("values", "beside", "message"),
    [
        (np.zeros(10), {"sampling_rate": 250}, r"float64 of shape \(10,\); expected real numbers"),
        (np.zeros((306, 9), complex), {"sampling_rate": 250}, "complex128"),
        (np.zeros((306, 200)), {"sampling_rat": 250}, "has sampling_rat; expected"),
        (np.zeros((306, 200)), {"sampling_rate": "fast"}, "Expected a number of Hz"),
        (
            np.zeros((1, 200)),
            {"sampling_rate": 250, "names": ["A"], "kinds": ["eeg"]},
            "kinds eeg; expected mag and grad",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, values, beside, message):
    with pytest.raises(DataError, match=message):
        open_raw(save_array(tmp_path / "a.npy", values, **beside))


def test_nothing_is_unpickled_and_truncated_arrays_are_refused(tmp_path, noise):
    np.save(tmp_path / "pickled.npy", np.array([[print]], dtype=object))
    (tmp_path / "words.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    for name in ("pickled", "words", "empty"):
        with pytest.raises(DataError, match="pickled objects are never opened") as error:
            open_raw(tmp_path / f"{name}.npy", numpy_rate=RATE)
        assert "allow_pickle" not in str(error.value)
    path = save_array(tmp_path / "cut.npy", noise)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cut\.npy cannot be read as a numpy array"):
        open_raw(path, numpy_rate=RATE)
    assert not is_meg(tmp_path / "pickled.npy")
    assert not is_meg(save_array(tmp_path / "vector.npy", noise[0]))


def test_values_that_are_no_tesla_are_remarked_on(tmp_path, noise):
    file = open_raw(save_array(tmp_path / "a.npy", noise * 1e12), numpy_rate=RATE)
    assert "far more than tesla" in file.warnings[1]


# values


def test_values_that_are_not_finite_are_located(tmp_path):
    values = np.zeros((4, 1000))
    values[1, 250:500] = np.nan
    values[2, 750] = np.inf
    with pytest.raises(DataError, match=r"2 of 4 MEG channels, at 11\.000 to 12\.000 s, 13\.000 to 13\.004 s\."):
        check_finite(values, RATE, tmp_path / "a.fif", first_second=10.0)
    check_finite(np.zeros((4, 10)), RATE, tmp_path / "a.fif")


def test_flat_channels_are_named_and_nothing_but_flat_ones_refused(tmp_path):
    sensors = layout("neuromag306").take([0, 1, 2])
    values = np.random.default_rng(0).standard_normal((3, 50))
    assert flat_warnings(values, sensors, tmp_path) == ()
    values[1] = 3e-12
    (warning,) = flat_warnings(values, sensors, tmp_path)
    assert "1 of 3 MEG channels are flat: MEG 0112" in warning
    with pytest.raises(DataError, match="All 3 MEG channels"):
        flat_warnings(np.ones((3, 50)), sensors, tmp_path)


def test_mne_is_as_loud_as_it_was(data):
    before = mne.set_log_level(return_old_level=True)
    open_raw(data / "kit" / "test.sqd")
    assert mne.set_log_level(before, return_old_level=True) == before
