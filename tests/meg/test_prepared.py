import json

import numpy as np
import pytest

from core.errors import DataError, InputError, OutputError
from core.meg.prepared import (
    WORK,
    Manifest,
    RecordingRecord,
    SegmentRecord,
    check_folder,
    find_finished,
    finish,
    open_prepared,
    segment_name,
    write_segment,
)
from core.sensors import ModelInput, Preparation, Sensors, Statistics

LENGTH = 50


def make_folder(folder, request="asked", length=LENGTH):
    """Three segments of noise of two recordings with three channels each."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    segments = []
    for recording, number, part in ((0, 0, "train"), (0, 1, "train"), (1, 0, "eval")):
        name = segment_name(recording, number)
        written = write_segment(folder / name, generator.standard_normal((3, length)).astype(np.float32))
        start = length * number
        segments.append(SegmentRecord(name, *written, recording, part, start, (4 * start, 4 * (start + length))))
    sensors = Sensors(("a", "b", "c"), ("mag", "mag", "grad"), np.zeros((3, 3)), np.full((3, 3), np.nan))
    wanted = ModelInput(Preparation(), sensors, Statistics(np.zeros(3), np.ones(3)), True)
    records = tuple(RecordingRecord(f"{name}.fif", "00", "01", "", True, None, {"format": "fif"}) for name in "xy")
    finish(folder, Manifest(1, request, wanted, length, records, tuple(segments), {"seed": 0}, ("mind",)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "prepared")


def test_the_folder_is_the_documented_one(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "eval.txt",
        "manifest.json",
        "meg_000000_000.npy",
        "meg_000000_001.npy",
        "meg_000001_000.npy",
        "train.txt",
    ]
    # A line for each, where the documented list had a backslash and an n.
    assert (folder / "train.txt").read_bytes() == b"meg_000000_000.npy\nmeg_000000_001.npy\n"
    assert (folder / "eval.txt").read_bytes() == b"meg_000001_000.npy\n"


def test_what_was_written_is_read(folder):
    data = open_prepared(folder)
    first, second = data.segments("train")
    assert (first.name, first.recording, first.n_times) == ("meg_000000_000.npy", "x.fif", LENGTH)
    assert [one.recording for one in data.segments("eval")] == ["y.fif"]
    whole = np.load(folder / second.name)
    np.testing.assert_array_equal(data.read(second, 7, 19), whole[:, 7:19])
    assert data.read(second, 0, LENGTH).flags.writeable
    assert data.sensors(second).names == ("a", "b", "c")
    assert data.model_input.simulated
    assert data.facts["segments"] == {"train": 2, "eval": 1}
    assert json.dumps(data.facts, allow_nan=False)
    data.verify()


def test_the_fingerprint_is_of_the_content(folder, tmp_path):
    assert open_prepared(folder).fingerprint == open_prepared(make_folder(tmp_path / "again")).fingerprint
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"std": {', '"std":  {').replace('"clip": 20.0', '"clip": 19.0'))
    assert open_prepared(folder).fingerprint != open_prepared(tmp_path / "again").fingerprint


def test_parts_and_ranges_that_are_not_there_are_refused(folder):
    data = open_prepared(folder)
    with pytest.raises(InputError, match="train or eval"):
        data.segments("test")
    with pytest.raises(InputError, match="expected 0 to 50"):
        data.read(data.segments("eval")[0], 0, LENGTH + 1)


def test_without_a_manifest_nothing_is_complete(folder, tmp_path):
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no prepared recordings"):
        open_prepared(folder)
    (folder / WORK).mkdir()
    with pytest.raises(DataError, match="not finished"):
        open_prepared(folder)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_short_file_is_named_instead_of_read_as_zeros(folder, damage):
    path = folder / "meg_000000_001.npy"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"meg_000000_001.npy"):
        open_prepared(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(folder, value):
    data = open_prepared(folder)
    segment = data.segments("eval")[0]
    values = np.load(folder / segment.name)
    values[1, 30] = value
    np.save(folder / segment.name, values)
    assert np.isfinite(data.read(segment, 0, 30)).all()
    with pytest.raises(DataError, match=r"meg_000001_000.npy holds values that are not finite"):
        data.read(segment, 0, LENGTH)


def test_a_changed_value_is_found_by_its_hash(folder):
    data = open_prepared(folder)
    path = folder / "meg_000000_000.npy"
    np.save(path, np.load(path) + 1)
    assert open_prepared(folder)
    with pytest.raises(DataError, match=r"meg_000000_000.npy has changed"):
        data.verify()


def test_checking_tells_how_far_it_is_in_megabytes(folder):
    told = []
    open_prepared(folder).verify(told.append)
    size = sum(path.stat().st_size for path in folder.glob("*.npy")) / 1e6
    assert [one.done for one in told] == pytest.approx([0, size / 3, 2 * size / 3, size])
    assert {(one.stage, one.unit, one.total) for one in told} == {("check", "MB", size)}


def test_another_shape_or_a_pickle_is_refused(folder):
    data = open_prepared(folder)
    segment = data.segments("eval")[0]
    np.save(folder / segment.name, np.zeros((2, LENGTH), np.float32))
    with pytest.raises(DataError, match="expected float32"):
        data.read(segment, 0, 1)
    np.save(folder / segment.name, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"meg_000001_000.npy cannot be read") as error:
        data.read(segment, 0, 1)
    assert "allow_pickle" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"version": 1', '"version": 2', "is of version 2; expected 1"),
        ("{", "[", "is damaged"),
        ('"facts"', '"fatcs"', "no Manifest"),
        ("meg_000000_000.npy", "../meg_000000_000.npy", "cannot be its own"),
    ],
)
def test_a_manifest_of_another_version_or_damaged_is_refused(folder, old, new, told):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=told):
        open_prepared(folder)


def test_lists_that_do_not_agree_with_the_manifest_are_refused(folder):
    (folder / "train.txt").write_text("meg_000000_000.npy\\nmeg_000000_001.npy\\n")
    with pytest.raises(DataError, match=r"train.txt does not name"):
        open_prepared(folder)


def test_a_folder_that_holds_something_else_is_not_written_into(tmp_path, folder):
    check_folder(tmp_path / "new")
    check_folder(folder)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="is a file"):
        check_folder(file)
    (folder / "thesis.docx").touch()
    with pytest.raises(OutputError, match=r"holds thesis.docx"):
        check_folder(folder)
    # Segments of nobody: finishing would remove them.
    other = tmp_path / "other"
    other.mkdir()
    (other / "meg_000000_000.npy").touch()
    with pytest.raises(OutputError, match=r"holds meg_000000_000.npy"):
        check_folder(other)


def test_a_finished_preparation_is_found_if_whole_and_what_is_asked_for(folder, tmp_path):
    assert find_finished(tmp_path, "asked") is None
    assert find_finished(folder, "asked").folder == folder
    with pytest.raises(OutputError, match=r"other settings. Use --force"):
        find_finished(folder, "something else")
    (folder / "meg_000000_000.npy").unlink()
    assert find_finished(folder, "asked") is None


def test_segments_of_an_earlier_preparation_do_not_stay(folder):
    manifest = open_prepared(folder).manifest
    (folder / "meg_000009_000.npy").touch()
    finish(folder, manifest)
    assert not (folder / "meg_000009_000.npy").exists()
    open_prepared(folder)
