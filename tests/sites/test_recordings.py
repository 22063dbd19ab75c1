"""Real recordings of every kind, and made ones, are opened with the sites that they hold."""

import json

import numpy as np
import pytest
import soundfile

from core.errors import DataError, InputError
from core.sites.names import clean_names, is_no_brain_signal
from core.sites.recordings import open_site_recording


@pytest.fixture(scope="module")
def small(shared_data):
    return shared_data("meg_small")


def test_the_real_eeg_gets_its_names_and_places_from_the_montage(small):
    import mne

    path = small / "eeg" / "test_edf_overlapping_annotations.edf"
    with open_site_recording(path, "standard_1005") as recording:
        assert (recording.format, len(recording.sites), recording.sampling_rate) == ("EDF", 64, 128.0)
        assert recording.sites.names[:2] == ("FC5", "FC3")  # the file says "Fc5."
        assert recording.sites.kinds == ("eeg",) * 64
        assert np.isfinite(recording.sites.positions).all()
        mine = recording.sites.positions[recording.sites.names.index("C3")]
        values = recording.read(1000, 1128)
    # MNE's own way to the same place and the same values.
    raw = mne.io.read_raw(path, verbose="ERROR")
    raw.rename_channels(lambda name: name.strip(".").upper())
    raw.set_montage("standard_1005", match_case=False, verbose="ERROR")
    np.testing.assert_allclose(mine, raw.info["chs"][raw.ch_names.index("C3")]["loc"][:3], atol=1e-7)
    np.testing.assert_array_equal(values, raw.get_data(start=1000, stop=1128))
    assert mine[0] < -0.05  # left of the middle, in metres


def test_without_positions_a_warning_names_the_remedy(small):
    recording = open_site_recording(small / "eeg" / "test_edf_overlapping_annotations.edf")
    assert np.isnan(recording.sites.positions).all()
    assert any("--montage" in one for one in recording.warnings)


@pytest.mark.parametrize(
    ("name", "n", "located", "gone"),
    [
        ("eeg/test.bdf", 66, 0, ("EXG1", "REOG")),
        ("eeg/test.vhdr", 26, 0, ()),
        ("eeg/bv_dig_raw.fif", 64, 64, ("ECG", "HEOG", "VEOG")),
        ("ecog/tiny_test.edf", 104, 0, ("EKGL", "TRIG", "Pleth")),
        ("ecog/sample_ecog_ieeg.fif", 394, 394, ()),
        ("elekta306/141027_cropped_90Hz_raw.fif", 306, 306, ()),
        ("elekta306/sample_audvis_trunc_raw_sss.fif", 306, 306, ()),
        ("ctf/testdata_ctf_short_discontinuous.ds", 273, 273, ()),
    ],
)
def test_real_files(small, name, n, located, gone):
    with open_site_recording(small / name) as recording:
        assert len(recording.sites) == len(set(recording.sites.names)) == n
        assert np.isfinite(recording.sites.positions).all(1).sum() == located
        assert np.nanmax(np.abs(recording.sites.positions), initial=0) < 0.2
        assert set(gone) <= set(recording.left_out)
        assert all(name not in recording.sites.names for name in recording.left_out)
        assert recording.read(3, 10).shape == (n, 7)


def test_contacts_that_are_typed_keep_names_that_look_like_auxiliary_inputs(small):
    recording = open_site_recording(small / "ecog" / "sample_ecog_ieeg.fif")
    assert {"DC1", "G1"} <= set(recording.sites.names)
    assert recording.sites.kinds.count("seeg") == 74


def test_positions_in_other_units_are_not_believed(small):
    recording = open_site_recording(small / "eeg" / "egi_dig_raw.fif")  # its montage is in centimetres
    assert np.isnan(recording.sites.positions).all()
    assert any("13.8 m" in one for one in recording.warnings)


def test_one_family_at_a_time(small):
    path = small / "elekta306" / "sample_audvis_trunc_raw_sss.fif"
    assert any("60 EEG channels beside" in one for one in open_site_recording(path).warnings)
    eeg = open_site_recording(path, family="eeg")
    assert set(eeg.sites.kinds) == {"eeg"}
    assert any("306 MEG channels beside" in one for one in eeg.warnings)


def test_marked_channels_of_a_made_file(tmp_path):
    import mne

    values = np.random.default_rng(0).normal(size=(4, 500)) * 1e-5
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 100.0, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(values, info, verbose="ERROR")
    raw.info["bads"] = ["Cz"]
    raw.set_annotations(mne.Annotations([1.0], [0.5], ["BAD_move"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    with open_site_recording(tmp_path / "a_raw.fif", "standard_1020") as recording:
        assert recording.sites.names == ("Fz", "Pz", "Oz")
        assert recording.left_out == {"Cz": "marked as bad in the file"}
        assert any("Cz" in one for one in recording.warnings)
        assert recording.bad_spans == ((1.0, 1.5),)
        np.testing.assert_allclose(recording.read(0, 500), values[[0, 2, 3]], rtol=1e-5)


def test_sound_of_several_channels(tmp_path):
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 3)).astype(np.float32)
    soundfile.write(tmp_path / "three.wav", values, 8000, subtype="FLOAT")
    with open_site_recording(tmp_path / "three.wav") as recording:
        assert recording.sites.kinds == ("audio",) * 3
        np.testing.assert_array_equal(recording.read(100, 300), values[100:300].T)
        assert recording.n_times == 8000


def test_arrays_with_and_without_a_sidecar(tmp_path):
    values = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match="--numpy-rate"):
        open_site_recording(tmp_path / "a.npy")
    assert open_site_recording(tmp_path / "a.npy", numpy_rate=10).sites.names == ("channel 1", "channel 2", "channel 3")
    said = {
        "sampling_rate": 20,
        "names": ["u", "v", "w"],
        "kinds": ["ecog"] * 3,
        "positions": [[0, 0, 0.1], None, [0.02, 0, 0]],
        "regions": ["a", "b", ""],
    }
    (tmp_path / "a.json").write_text(json.dumps(said))
    recording = open_site_recording(tmp_path / "a.npy")
    assert (recording.sampling_rate, recording.sites.kinds[0], recording.regions) == (20.0, "ecog", ("a", "b", ""))
    assert np.isnan(recording.sites.positions[1]).all()
    assert recording.sites.positions[0, 2] == 0.1
    np.testing.assert_array_equal(recording.read(1, 3), values[:, 1:3])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"names": ["a", "b"]}, "2 names"),
        ({"names": ["a", "a", "b"], "sampling_rate": 1}, "two rows"),
        ({"kinds": ["hat"] * 3, "sampling_rate": 1}, "hat"),
        ({"rate": 3}, "rate"),
        ({"positions": [[0, 0], None, None], "sampling_rate": 1}, "metres"),
        ({"positions": [[80, 0, 0], None, None], "sampling_rate": 1}, "more than 1 m away.*millimetres"),
    ],
)
def test_sidecars_that_do_not_fit(tmp_path, said, words):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    (tmp_path / "a.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=words):
        open_site_recording(tmp_path / "a.npy")


def test_bad_requests(tmp_path, small):
    with pytest.raises(InputError, match="There is no"):
        open_site_recording(tmp_path / "none.edf")
    with pytest.raises(InputError, match="standard_1005"):
        open_site_recording(small / "eeg" / "test.bdf", "standart_1005")
    (tmp_path / "broken.edf").write_bytes((small / "eeg" / "test.edf").read_bytes()[:300])
    with pytest.raises(DataError, match=r"broken\.edf"):
        open_site_recording(tmp_path / "broken.edf")


def test_names_of_laboratories():
    known = ("FC5", "Fp1", "Cz", "T7")
    assert clean_names(["Fc5.", "EEG FP1-REF", "cz", "X 9.."], known) == ("FC5", "Fp1", "Cz", "X 9")
    # Two that would become one keep their own.
    assert clean_names(["Fc5.", "FC5", "Cz"], known) == ("Fc5.", "FC5", "Cz")
    assert clean_names(["a.", "a"]) == ("a.", "a")
    assert [
        name
        for name in ("EOG left", "VEOG", "ECG", "STI 014", "Status", "Cz", "PO8", "P10")
        if is_no_brain_signal(name)
    ] == ["EOG left", "VEOG", "ECG", "STI 014", "Status"]


def test_an_array_with_a_helmets_rows_is_meg(tmp_path):
    np.save(tmp_path / "helmet.npy", np.random.default_rng(0).normal(size=(306, 300)) * 1e-12)
    recording = open_site_recording(tmp_path / "helmet.npy", numpy_rate=250)
    assert (recording.sites.kinds.count("mag"), recording.sites.kinds.count("grad")) == (102, 204)
    assert np.isfinite(recording.sites.positions).all()
    assert any("neuromag306" in one for one in recording.warnings)


def test_the_hash_is_of_all_files_of_a_recording(tmp_path, small):
    for suffix in ("vhdr", "eeg", "vmrk"):
        (tmp_path / f"test.{suffix}").write_bytes((small / "eeg" / f"test.{suffix}").read_bytes())
    before = open_site_recording(tmp_path / "test.vhdr").sha256
    assert before == open_site_recording(small / "eeg" / "test.vhdr").sha256
    content = bytearray((tmp_path / "test.eeg").read_bytes())
    content[100] ^= 1
    (tmp_path / "test.eeg").write_bytes(content)
    assert open_site_recording(tmp_path / "test.vhdr").sha256 != before
