"""Corpora: what is listed under which name, resuming, bad files, and two real processes."""

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import EmbeddingInfo, EmbedResult, EmbedSettings, OutputSettings
from core.clock import FrameClock
from core.embed import inputs
from core.embed.corpus import CorpusItem, deal, is_corpus, is_done, list_inputs, run_corpus, settings_fingerprint
from core.embed.writers import write_embeddings
from core.errors import CheckpointError, DataError, InputError, OutputError

ROOT = Path(__file__).parents[2]


def make_files(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return [root / name for name in names]


def names_of(items: list[CorpusItem]) -> list[str]:
    return ["/".join(filter(None, (item.folder, item.base))) for item in items]


def write_manifest(path: Path, rows: list[dict[str, str]], **kwargs) -> Path:
    with path.open("w", newline="", encoding=kwargs.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), **kwargs)
        writer.writeheader()
        writer.writerows(rows)
    return path


# ---- listing ----


def test_a_folder_is_listed_recursively_and_sorted_without_hidden_and_other_files(tmp_path):
    make_files(
        tmp_path, "b/x.wav", "a/x.wav", "a/deep/y.FLAC", "z.opus", "notes.txt", ".hidden.wav", ".git/q.wav", "._z.wav"
    )
    items = list_inputs([tmp_path])
    assert names_of(items) == ["z", "a/x", "a/deep/y", "b/x"]
    assert [item.source for item in items] == [tmp_path / f for f in ("z.opus", "a/x.wav", "a/deep/y.FLAC", "b/x.wav")]
    assert not any(item.error for item in items)


def test_linked_folders_are_followed_once(tmp_path):
    make_files(tmp_path, "real/x.wav", "corpus/y.wav")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "real")
    (tmp_path / "corpus/loop").symlink_to(tmp_path / "corpus")
    assert names_of(list_inputs([tmp_path / "corpus"])) == ["y", "linked/x"]


def test_same_stem_keeps_the_suffix_in_the_name(tmp_path):
    make_files(tmp_path, "x.wav", "x.flac", "y.wav", "x.wav.mp3")
    assert sorted(names_of(list_inputs([tmp_path]))) == ["x.flac", "x.wav", "x.wav.mp3", "y"]


def test_files_of_one_name_from_two_inputs_take_their_folders(tmp_path):
    first, second = make_files(tmp_path, "a/x.wav", "b/x.wav")
    assert names_of(list_inputs([first, second])) == ["a/x", "b/x"]
    assert names_of(list_inputs([tmp_path / "b", tmp_path / "a"])) == ["b/x", "a/x"]


def test_a_recording_called_summary_leaves_that_name_to_the_corpus(tmp_path):
    make_files(tmp_path, "Summary.wav", "deep/summary.wav")
    assert names_of(list_inputs([tmp_path])) == ["Summary.wav", "deep/summary"]


def test_one_file_in_two_inputs_is_done_once(tmp_path):
    (path,) = make_files(tmp_path, "a/x.wav")
    manifest = write_manifest(tmp_path / "list.csv", [{"file": "a/x.wav"}, {"file": "./a/../a/x.wav"}])
    (tmp_path / "link.wav").symlink_to(path)
    items = list_inputs([tmp_path / "a", path, manifest, tmp_path / "link.wav"])
    assert names_of(items) == ["x"]


LETTERS = st.text("aAbé" + "e\u0301" + ".", min_size=1, max_size=3).filter(lambda name: name.strip("."))
PATHS = st.lists(
    st.tuples(st.lists(LETTERS, max_size=2), LETTERS, st.sampled_from(inputs.AUDIO_SUFFIXES[:3])), min_size=1
)


@given(PATHS, st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_names_are_unique_on_every_file_system(paths, cut):
    """No two recordings share a name, also where case and the two spellings of an accent are the same."""
    root = Path("/data")
    sources = dict.fromkeys(root.joinpath(*folders, stem + suffix) for folders, stem, suffix in paths)
    found = [inputs._Found(source, root if index < cut % 5 else source.parent) for index, source in enumerate(sources)]
    items = inputs._named(found)
    assert [item.source for item in items] == list(sources) and not any(item.error for item in items)
    keys = [unicodedata.normalize("NFC", name).casefold() for name in names_of(items)]
    assert len(set(keys)) == len(keys) and "summary" not in keys
    assert not any(".." in Path(name).parts or Path(name).is_absolute() for name in names_of(items))


# ---- manifests ----


def test_a_manifest_names_files_folders_bases_and_channels(tmp_path):
    make_files(tmp_path, "set/audio/x.wav", "set/audio/y é.wav", "elsewhere/z.wav")
    rows = [
        {"file": "audio/x.wav", "output": "", "base": "", "channel": ""},
        {"file": "audio/y é.wav", "output": "left", "base": "y.v1", "channel": "1"},
        {"file": "audio/y é.wav", "output": "right", "base": "", "channel": "2"},
        {"file": str(tmp_path / "elsewhere/z.wav"), "output": "", "base": "last", "channel": ""},
    ]
    items = list_inputs([write_manifest(tmp_path / "set/list.csv", rows, encoding="utf-8-sig")])
    assert names_of(items) == ["audio/x", "left/y.v1", "right/y é", "last"]
    assert [item.channel for item in items] == [None, 1, 2, None]
    assert items[1].settings(EmbedSettings(channel=5)).channel == 1
    assert items[0].settings(EmbedSettings(channel=5)).channel == 5
    output = items[1].output(OutputSettings(tmp_path / "out", formats=("npy",)))
    assert output == OutputSettings(tmp_path / "out" / "left", "y.v1", ("npy",))


def test_a_manifest_says_who_speaks_and_what_a_recording_is_labelled_with(tmp_path):
    make_files(tmp_path, "x.wav", "y.wav", "z.wav")
    rows = [
        {"file": "x.wav", "speaker": " anna ", "label": "joy"},
        {"file": "y.wav", "speaker": "bo", "label": ""},
        {"file": "gone.wav", "speaker": "bo", "label": "fear"},
    ]
    manifest = write_manifest(tmp_path / "list.csv", rows)
    marks = [(item.base, item.speaker, item.label) for item in list_inputs([manifest])]
    assert marks == [("x", "anna", "joy"), ("y", "bo", ""), ("gone", "bo", "fear")]
    # A folder beside the manifest of its files: what the manifest knows is kept, whichever comes first.
    for inputs_given in ([tmp_path, manifest], [manifest, tmp_path]):
        items = {item.base: (item.speaker, item.label) for item in list_inputs(inputs_given)}
        assert items == {"x": ("anna", "joy"), "y": ("bo", ""), "z": ("", ""), "gone": ("bo", "fear")}


def test_two_channels_of_one_file_without_names_do_not_collide(tmp_path):
    make_files(tmp_path, "x.wav")
    rows = [{"file": "x.wav", "channel": "1"}, {"file": "x.wav", "channel": "2"}]
    assert names_of(list_inputs([write_manifest(tmp_path / "l.csv", rows)])) == ["x.wav_channel1", "x.wav_channel2"]


def test_rows_that_cannot_be_used_are_failed_items(tmp_path):
    make_files(tmp_path, "x.wav", "dir/y.wav")
    rows = [
        {"file": "x.wav", "output": "", "base": "", "channel": ""},
        {"file": "gone.wav", "output": "", "base": "", "channel": ""},
        {"file": "", "output": "a", "base": "", "channel": ""},
        {"file": "dir", "output": "", "base": "", "channel": ""},
        {"file": "dir/y.wav", "output": "../../etc", "base": "", "channel": ""},
        {"file": "dir/y.wav", "output": "", "base": "a/b", "channel": ""},
        {"file": "dir/y.wav", "output": "", "base": "", "channel": "left"},
        {"file": "dir/y.wav", "output": "", "base": "", "channel": "0"},
        {"file": "dir/y.wav", "output": "", "base": "Same", "channel": ""},
        {"file": "x.wav", "output": "", "base": "same", "channel": "1"},
    ]
    errors = [item.error for item in list_inputs([write_manifest(tmp_path / "l.csv", rows)])]
    words = [
        None,
        "gone.wav does not exist",
        "is empty",
        "is no file",
        "output",
        "base",
        "channel",
        "channel",
        None,
        "taken",
    ]
    assert len(errors) == len(words)
    for error, word, line in zip(errors, words, range(2, 20), strict=False):
        assert (error is None) == (word is None)
        if word:
            assert word in error and (word == "taken" or f"line {line}" in error)


def test_tab_separated_manifests_work(tmp_path):
    make_files(tmp_path, "a,b.wav")
    assert names_of(list_inputs([write_manifest(tmp_path / "l.tsv", [{"file": "a,b.wav"}], delimiter="\t")])) == ["a,b"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "column named file"),
        (b"path;base\nx.wav;y\n", "columns path;base"),
        (b"file\n", "names no file"),
        (b"file\n\xff\xfe\xfa.wav\n", "UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_manifest_that_is_none_is_one_error(tmp_path, content, word):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        list_inputs([path])


def test_a_folder_without_recordings_is_an_error(tmp_path):
    make_files(tmp_path, "notes.txt")
    with pytest.raises(InputError, match="holds no recording"):
        list_inputs([tmp_path])


@pytest.mark.parametrize("name", ["gone.wav", "x" * 300 + ".wav"])
def test_a_missing_file_is_a_failed_item(tmp_path, name):
    (item,) = list_inputs([tmp_path / name])
    assert item.error and name in item.error


def test_what_is_a_corpus(tmp_path):
    (path,) = make_files(tmp_path, "x.wav")
    assert not is_corpus([path]) and not is_corpus([tmp_path / "gone.wav"])
    assert is_corpus([path, path]) and is_corpus([tmp_path]) and is_corpus([Path("list.CSV")])


# ---- running ----

CLOCK = FrameClock(320, 400, 16000)
FINGERPRINT = settings_fingerprint(EmbedSettings(), ("npy", "json"), "model")


def embed_bytes(item: CorpusItem, output: OutputSettings) -> EmbedResult:
    """A cheap encoder: frames are the bytes of the file; a file that begins with 'bad' is refused."""
    content = item.source.read_bytes()
    if content.startswith(b"bad"):
        raise DataError(f"{item.source} is bad.")
    if content.startswith(b"bug"):
        raise ZeroDivisionError("a bug")
    metadata = {"input_sha256": hashlib.sha256(content).hexdigest(), "settings_fingerprint": FINGERPRINT}
    info = EmbeddingInfo(CLOCK, (0,), len(content), 1, metadata)
    values = np.frombuffer(content, np.uint8).astype(np.float32)[None, :, None]
    where = item.output(output)
    files, problems = write_embeddings([values], info, where, where.base)
    return EmbedResult(item.source, files, info, problems)


def run(root: Path, output: OutputSettings, seen: list | None = None):
    def embed_one(item):
        if seen is not None:
            seen.append(item.base)
        return embed_bytes(item, output)

    def done(item):
        return is_done(item.source, item.output(output), FINGERPRINT)

    reports = []
    summary = run_corpus(list_inputs([root]), embed_one, output, done, reports.append)
    assert [(report.done, report.total) for report in reports] == [(i, reports[0].total) for i in range(len(reports))]
    return summary


@pytest.fixture
def output(tmp_path):
    return OutputSettings(tmp_path / "out", formats=("npy", "json"))


def test_one_bad_file_is_reported_and_the_others_go_on(tmp_path, output):
    make_files(tmp_path / "in", "a.wav", "bad.wav", "bug.wav", "d/e.wav")
    summary = run(tmp_path / "in", output)
    assert (summary.n_done, summary.n_skipped, len(summary.failures), summary.exit_code) == (2, 0, 2, 2)
    content = json.loads((tmp_path / "out/summary.json").read_bytes())
    assert content == json.loads(json.dumps(summary.to_json()))
    assert [failure["file"] for failure in content["failures"]] == [
        str(tmp_path / f"in/{n}.wav") for n in ("bad", "bug")
    ]
    assert (
        content["failures"][0]["error"].endswith("is bad.") and "ZeroDivisionError" in content["failures"][1]["error"]
    )
    assert (content["n_total"], content["n_failed"]) == (4, 2)
    assert [Path(path).relative_to(tmp_path / "out").as_posix() for path in content["files"]] == [
        "a.npy", "a.json", "d/e.npy", "d/e.json",
    ]  # fmt: skip
    assert np.load(tmp_path / "out/d/e.npy")[:, 0].astype(np.uint8).tobytes() == b"d/e.wav"


def test_a_second_run_does_only_what_changed(tmp_path, output):
    a, b, *_ = make_files(tmp_path / "in", "a.wav", "b.wav", "c.wav", "d.wav")
    assert run(tmp_path / "in", output).n_done == 4
    seen = []
    again = run(tmp_path / "in", output, seen)
    assert (again.n_done, again.n_skipped, again.exit_code, seen) == (0, 4, 0, [])
    assert len(again.files) == 8

    b.write_bytes(b"other content")
    (tmp_path / "out/c.npy").unlink()
    (tmp_path / "out/d.json").write_text("{half")
    summary = run(tmp_path / "in", output, seen)
    assert seen == ["b", "c", "d"]
    assert all("--force" in failure["error"] for failure in summary.failures) and len(summary.failures) == 3
    forced = run(tmp_path / "in", replace(output, force=True), seen)
    assert (forced.n_done, forced.n_skipped, forced.exit_code) == (4, 0, 0)
    assert a.exists()


def test_an_interrupted_run_is_resumed(tmp_path, output):
    make_files(tmp_path / "in", "a.wav", "b.wav", "c.wav")

    def interrupted(item):
        if item.base == "b":
            raise KeyboardInterrupt
        return embed_bytes(item, output)

    with pytest.raises(KeyboardInterrupt):
        run_corpus(list_inputs([tmp_path / "in"]), interrupted, output)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.npy"]
    seen = []
    assert run(tmp_path / "in", output, seen).n_skipped == 1 and seen == ["b", "c"]


def test_a_missing_model_ends_the_run(tmp_path, output):
    make_files(tmp_path / "in", "a.wav", "b.wav")

    def no_model(_):
        raise CheckpointError("no model")

    with pytest.raises(CheckpointError):
        run_corpus(list_inputs([tmp_path / "in"]), no_model, output)


def test_a_summary_of_someone_else_is_kept(tmp_path, output):
    make_files(tmp_path, "in/a.wav", "out/summary.json")
    with pytest.raises(OutputError, match="no corpus summary"):
        run(tmp_path / "in", output)
    assert (tmp_path / "out/summary.json").read_bytes() == b"out/summary.json"
    assert run(tmp_path / "in", replace(output, force=True)).n_done == 1


@pytest.mark.parametrize("wrong", [{"formats": ("npy", "hdf5")}, {"folder": Path(__file__)}])
def test_what_no_recording_could_get_past_ends_the_run(tmp_path, output, wrong):
    make_files(tmp_path / "in", "a.wav", "b.wav")
    with pytest.raises((InputError, OutputError), match=r"hdf5|is a file"):
        run(tmp_path / "in", replace(output, **wrong))


def test_a_failed_mat_counts_as_done(tmp_path, output, monkeypatch):
    monkeypatch.setattr("core.embed.mat5.MAX_ELEMENT_BYTES", 0)
    make_files(tmp_path / "in", "a.wav")
    output = replace(output, formats=("npy", "mat", "json"))
    first = run(tmp_path / "in", output)
    assert first.problems[0]["format"] == "mat" and first.exit_code == 0
    assert run(tmp_path / "in", output).n_skipped == 1


def test_the_fingerprint_knows_what_matters():
    base = EmbedSettings()
    same = [
        settings_fingerprint(base, ("json", "npy", "npy"), "model"),
        settings_fingerprint(replace(base, max_seconds=3.0, chunk_seconds=20), ("npy", "json"), "model"),
    ]
    assert set(same) == {FINGERPRINT}
    others = [
        settings_fingerprint(replace(base, layers="all"), ("npy", "json"), "model"),
        settings_fingerprint(replace(base, channel=1), ("npy", "json"), "model"),
        settings_fingerprint(base, ("npy",), "model"),
        settings_fingerprint(base, ("npy", "json"), "other"),
    ]
    assert len({FINGERPRINT, *others}) == 5


# ---- several processes ----


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_work_is_dealt_once_and_evenly(sizes, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.embed.corpus._size", lambda item: int(item.base))
        hands = deal([CorpusItem(Path("x"), str(size)) for size in sizes], count)
    assert sorted(index for hand in hands for index in hand) == list(range(len(sizes)))
    loads = [sum(sizes[index] + 1 for index in hand) for hand in hands]
    assert max(loads) - min(loads) <= max([0, *sizes]) + 1


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import core
from core.arrays import OutputSettings
from core.embed.corpus import list_inputs
from core.embed.team import is_main_process
from tests.embed.test_corpus import run
import os

# The second process sees other files, as in a folder that grows: what the first one sees counts.
folder = Path(sys.argv[1] + "-grown" if os.environ.get("RANK") == "1" else sys.argv[1])
seen = []
summary = run(folder, OutputSettings(Path(sys.argv[2]), formats=("npy", "json")), seen)
Path(sys.argv[2], f"seen-{{os.environ.get('RANK', '0')}}.txt").write_text(" ".join(seen))
if is_main_process():
    print(summary.n_done, summary.n_skipped, len(summary.failures))
"""


def start(script: Path, rank: int, port: int) -> subprocess.Popen:
    """Start what a launcher starts; tests/cli/test_embed.py runs accelerate's own."""
    team = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    environ = os.environ | team | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(script), str(script.parent / "in"), str(script.parent / "two")]
    return subprocess.Popen(command, env=environ, cwd=script.parent, stdout=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def test_two_processes_share_a_corpus(tmp_path):
    """Two real processes: the outputs of one process, no file done twice, one summary of both."""
    make_files(tmp_path / "in", "a.wav", "b.wav", "c/d.wav", "c/e.flac", "f.wav", "bad.wav")
    make_files(tmp_path / "in-grown", "a.wav", "late.wav")
    (tmp_path / "in/f.wav").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT)))
    port = free_port()
    pair = [start(tmp_path / "script.py", rank, port) for rank in (0, 1)]
    try:
        said = [process.communicate(timeout=240)[0] for process in pair]
    finally:
        for process in pair:
            process.kill()
            process.wait()
    assert [process.returncode for process in pair] == [0, 0]
    assert said == ["5 0 1\n", ""]
    seen = [(tmp_path / f"two/seen-{rank}.txt").read_text().split() for rank in (0, 1)]
    assert sorted(seen[0] + seen[1]) == ["a", "b", "bad", "d", "e", "f"]
    assert sorted(map(len, seen)) == [1, 5]  # f outweighs the rest together

    run(tmp_path / "in", OutputSettings(tmp_path / "one", formats=("npy", "json")))
    for path in (tmp_path / "one").rglob("*.npy"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert twin.read_bytes() == path.read_bytes()
    one, two = (json.loads((tmp_path / name / "summary.json").read_bytes()) for name in ("one", "two"))
    assert [path.replace("/one/", "/two/") for path in one["files"]] == two["files"]
    assert one["failures"] == two["failures"]
