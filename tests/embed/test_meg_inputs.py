"""What counts as one MEG recording: folders, split files, lists; and the hash of all that belongs to one."""

import shutil

import numpy as np
import pytest

from core.embed.inputs import is_corpus, list_inputs
from core.embed.recordings import modality_of
from core.errors import InputError
from core.meg.parts import hash_recording, recording_files


@pytest.fixture
def ctf(tmp_path):
    folder = tmp_path / "in" / "s1.ds"
    (folder / "sub").mkdir(parents=True)
    (folder / "s1.meg4").write_bytes(b"values")
    (folder / "sub" / "more").write_bytes(b"facts")
    return folder


@pytest.fixture
def bti(tmp_path):
    folder = tmp_path / "in" / "s2"
    folder.mkdir(parents=True)
    for name in ("e,rfhp1.0Hz", "config", "hs_file", "unrelated.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def names(items):
    return [(item.base, item.error) for item in items]


def test_folders_that_are_recordings_count_once(ctf, bti, tmp_path):
    assert not is_corpus([ctf])
    assert not is_corpus([bti])
    assert is_corpus([tmp_path / "in"])
    assert names(list_inputs([tmp_path / "in"], "meg")) == [("s1", None), ("s2", None)]
    assert names(list_inputs([ctf, bti], "meg")) == [("s1", None), ("s2", None)]


def test_lists_name_folders_too(ctf, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("file,base\nin/s1.ds,first\nin/gone.ds,second\n")
    items = list_inputs([manifest], "meg")
    assert items[0].base == "first"
    assert items[0].error is None
    assert "does not exist" in items[1].error


def test_sound_and_results_in_the_folder_are_passed_over(ctf, tmp_path):
    (tmp_path / "in" / "voice.wav").write_bytes(b"sound")
    np.save(tmp_path / "in" / "s1.npy", np.zeros((12, 32)))
    (tmp_path / "in" / "s1.json").write_text('{"settings_fingerprint": "x"}')
    assert names(list_inputs([tmp_path / "in"], "meg")) == [("s1", None)]
    assert names(list_inputs([tmp_path / "in"])) == [("voice", None)]


def test_a_folder_of_sound_with_a_pdf_and_a_config_is_no_recording(tmp_path):
    for name in ("paper.pdf", "config.json", "a.wav"):
        (tmp_path / name).write_bytes(b"x")
    assert modality_of(tmp_path) == "audio"
    assert names(list_inputs([tmp_path])) == [("a", None)]


def test_the_neighbours_of_a_sound_are_not_looked_at(tmp_path, monkeypatch):
    """Each of many files would list its whole folder."""
    for name in ("a.wav", "b.xyz"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda _: pytest.fail("the folder was listed"))
    assert {modality_of(tmp_path / name) for name in ("a.wav", "b.xyz")} == {"audio"}


def test_a_folder_without_meg_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"holds no MEG recording \(\.fif .*\)\.$"):
        list_inputs([tmp_path], "meg")
    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(InputError, match="What it holds is sound: choose a model that takes it"):
        list_inputs([tmp_path], "meg")


def test_a_folder_of_meg_alone_says_that_the_model_takes_sound(ctf, tmp_path):
    with pytest.raises(InputError, match=r"holds no recording .* What it holds is MEG"):
        list_inputs([tmp_path / "in"])


def test_the_hash_covers_every_file_of_a_recording_and_no_other(ctf, bti, tmp_path):
    for path, inside, outside in (
        (ctf, ctf / "sub" / "more", tmp_path / "in" / "beside.txt"),
        (bti, bti / "config", bti / "unrelated.txt"),
    ):
        before = hash_recording(path)
        outside.write_bytes(b"other")
        assert hash_recording(path) == before
        inside.write_bytes(b"other")
        assert hash_recording(path) != before


@pytest.mark.parametrize(
    ("first", "second", "beside"),
    [
        ("a_raw.fif", "a_raw-1.fif", "a_raw-3.fif"),
        ("s_split-01_meg.fif", "s_split-02_meg.fif", "s_split-04_meg.fif"),
        ("a.npy", "a.json", "b.json"),
    ],
)
def test_further_parts_belong_to_a_recording(tmp_path, first, second, beside):
    for name in (first, second, beside):
        (tmp_path / name).write_bytes(name.encode())
    assert recording_files(tmp_path / first) == (tmp_path / first, tmp_path / second)
    before = hash_recording(tmp_path / first)
    (tmp_path / second).write_bytes(b"other")
    assert hash_recording(tmp_path / first) != before


def test_the_same_recording_elsewhere_has_the_same_hash(ctf, tmp_path):
    shutil.copytree(ctf, tmp_path / "moved" / "renamed.ds")
    assert hash_recording(tmp_path / "moved" / "renamed.ds") == hash_recording(ctf)
