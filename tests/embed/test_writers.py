"""Writers against plain numpy, scipy and pyarrow readers; failing disks; memory; what a kill leaves behind."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.io import loadmat

from core.arrays import EmbeddingInfo, OutputSettings
from core.clock import FrameClock
from core.embed import spool as spool_module
from core.embed import writers
from core.embed.mat5 import mat_note, mat_problem
from core.embed.writers import check_target, write_embeddings
from core.errors import InputError, OutputError

CLOCK = FrameClock(hop=320, field=400, sampling_rate=16000)
ALL = writers.FORMATS


def make_info(n_frames: int, dim: int, layers: tuple[int, ...] = (12,), **metadata) -> EmbeddingInfo:
    return EmbeddingInfo(
        CLOCK, layers, n_frames, dim, {"model_name": "some/model", "recording_path": "/a/ü.wav", **metadata}
    )


def make_values(info: EmbeddingInfo, seed: int = 0) -> np.ndarray:
    shape = (len(info.layers), info.n_frames, info.dim)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def in_blocks(values: np.ndarray, cuts: list[int]) -> Iterator[np.ndarray]:
    edges = [0, *sorted(cut % (values.shape[1] + 1) for cut in cuts), values.shape[1]]
    for first, stop in itertools.pairwise(edges):
        yield values[:, first:stop]


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


@given(
    n_frames=st.integers(1, 60),
    dim=st.integers(1, 9),
    layers=st.lists(st.integers(0, 24), min_size=1, max_size=4, unique=True).map(tuple),
    cuts=st.lists(st.integers(0, 1000), max_size=5),
    block_bytes=st.integers(1, 700),
)
@settings(max_examples=25, deadline=None)
def test_every_format_reads_back_the_same_values(n_frames, dim, layers, cuts, block_bytes):
    info = make_info(n_frames, dim, layers)
    values = make_values(info)
    expected = values[0] if len(layers) == 1 else values
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "BLOCK_BYTES", block_bytes)
        output = OutputSettings(Path(name) / "new" / "folder", formats=ALL)
        files, problems = write_embeddings(in_blocks(values, cuts), info, output, "a b ü.v1")
        assert problems == {}
        assert {path.name for path in output.folder.iterdir()} == {f"a b ü.v1.{suffix}" for suffix in ALL}
        assert files == {suffix: output.folder / f"a b ü.v1.{suffix}" for suffix in ALL}

        array = np.load(files["npy"], allow_pickle=False)
        assert array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected)
        mat = loadmat(files["mat"])
        assert mat["embeddings"].dtype == np.float32
        np.testing.assert_array_equal(mat["embeddings"], expected)
        onset = np.arange(n_frames) * 0.02
        np.testing.assert_allclose(mat["time_axis"], onset[None], rtol=1e-15)
        np.testing.assert_allclose(mat["time_centre"], onset[None] + 0.0125, rtol=1e-14)
        with np.load(files["npz"], allow_pickle=False) as archive:
            assert archive.files == [f"layer_{layer}" for layer in layers]
            for index, layer in enumerate(layers):
                np.testing.assert_array_equal(archive[f"layer_{layer}"], values[index])
        table = parquet.read_table(files["parquet"])
        got = np.stack(table["embedding"].to_pylist()).astype(np.float32)
        np.testing.assert_array_equal(got, values.reshape(-1, dim))
        np.testing.assert_array_equal(table["frame"], np.tile(np.arange(n_frames), len(layers)))
        assert ("layer" in table.column_names) == (len(layers) > 1)
        if len(layers) > 1:
            np.testing.assert_array_equal(table["layer"], np.repeat(layers, n_frames))
        json.loads(files["json"].read_text("utf-8"))


def test_mat_holds_the_documents_variables(tmp_path):
    info = make_info(5, 3, (0, 6, 12), model_name="häuser/wav2vec2")
    files, _ = write_embeddings([make_values(info)], info, OutputSettings(tmp_path), "x")
    mat = loadmat(files["mat"])
    assert mat["model_name"][0] == "häuser/wav2vec2"
    assert mat["sample_rate"] == [[16000]] and mat["frame_stride"] == [[0.02]]
    assert mat["layers"].tolist() == [[0, 6, 12]]
    assert [name for name in mat if not name.startswith("__")] == [
        "model_name", "sample_rate", "frame_stride", "layers", "time_axis", "time_centre", "embeddings",
    ]  # fmt: skip


def test_json_is_strict_complete_and_sparse(tmp_path):
    info = make_info(
        2501, 2, (12,), odd=[float("nan"), np.float32(1.5), np.arange(2), Path("p"), {"inf": float("inf")}]
    )
    files, _ = write_embeddings([make_values(info)], info, OutputSettings(tmp_path), "x")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not strict JSON")

    content = json.loads(files["json"].read_bytes().decode("utf-8"), parse_constant=refuse)
    assert content["odd"] == [None, 1.5, [0, 1], "p", {"inf": None}]
    assert content["time_axis_seconds"] == pytest.approx([0, 20, 40, 50])
    assert content["time_centre_seconds"] == pytest.approx([0.0125, 20.0125, 40.0125, 50.0125])
    assert (content["num_frames"], content["hidden_size"], content["shape"]) == (2501, 2, [2501, 2])
    assert (content["sample_rate"], content["frame_stride"], content["layers"]) == (16000, 0.02, [12])
    assert content["embeddings_path"] == str(files["npy"].absolute()) and content["mat_path"] == str(
        files["mat"].absolute()
    )
    assert content["model_name"] == "some/model"


def test_json_keeps_paths_that_are_not_unicode(tmp_path):
    odd = os.fsdecode(b"/data/caf\xe9.wav")
    info = make_info(3, 2, recording_path=odd)
    files, problems = write_embeddings([make_values(info)], info, OutputSettings(tmp_path, formats=ALL), "x")
    assert problems == {}
    assert os.fsencode(json.loads(files["json"].read_bytes())["recording_path"]) == b"/data/caf\xe9.wav"
    assert parquet.read_table(files["parquet"])["file"][0].as_py() == "/data/caf\ufffd.wav"


def test_metadata_known_only_after_the_last_block_is_written(tmp_path):
    info = make_info(4, 2)

    def blocks():
        yield make_values(info)
        info.metadata["seconds_taken"] = 1.25

    files, _ = write_embeddings(blocks(), info, OutputSettings(tmp_path), "x")
    assert json.loads(files["json"].read_bytes())["seconds_taken"] == 1.25


@pytest.mark.parametrize(
    "block", [np.zeros((1, 3, 2), np.float64), np.zeros((2, 3, 2), np.float32), np.zeros((3, 2), np.float32)]
)
def test_a_block_of_another_shape_or_kind_is_a_bug(tmp_path, block):
    with pytest.raises(AssertionError, match="expected float32"):
        write_embeddings([block], make_info(3, 2), OutputSettings(tmp_path), "x")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("count", [2, 4])
def test_too_few_or_too_many_frames_are_a_bug(tmp_path, count):
    with pytest.raises(AssertionError, match="announced"):
        write_embeddings([np.zeros((1, count, 2), np.float32)], make_info(3, 2), OutputSettings(tmp_path), "x")
    assert listing(tmp_path) == {}


# ---- what is there already ----


def test_existing_files_are_named_and_kept_without_force(tmp_path):
    info = make_info(3, 2)
    write_embeddings([make_values(info)], info, OutputSettings(tmp_path), "x")
    before = listing(tmp_path)
    with pytest.raises(OutputError, match=r"x\.npy, x\.mat, x\.json.*--force"):
        check_target(OutputSettings(tmp_path), "x", info)
    with pytest.raises(OutputError, match="--force"):
        write_embeddings([make_values(info, 1)], info, OutputSettings(tmp_path), "x")
    assert listing(tmp_path) == before
    assert check_target(OutputSettings(tmp_path, formats=("npz",)), "x", info) == []


def test_force_replaces_and_the_marker_of_an_earlier_failure_goes(tmp_path):
    info = make_info(3, 2)
    output = OutputSettings(tmp_path, force=True)
    write_embeddings([make_values(info)], info, output, "x")
    (tmp_path / "x.mat.failed").write_text("earlier")
    files, _ = write_embeddings([make_values(info, 1)], info, output, "x")
    np.testing.assert_array_equal(np.load(files["npy"]), make_values(info, 1)[0])
    assert set(listing(tmp_path)) == {"x.npy", "x.mat", "x.json"}


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    info = make_info(3, 2)

    def blocks():
        yield make_values(info)
        (tmp_path / "x.mat").write_text("someone else's")

    with pytest.raises(OutputError, match=r"x\.mat"):
        write_embeddings(blocks(), info, OutputSettings(tmp_path), "x")
    assert listing(tmp_path) == {"x.mat": b"someone else's"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OutputError])
def test_an_error_in_the_middle_leaves_the_earlier_result(tmp_path, error):
    info = make_info(6, 2)
    output = OutputSettings(tmp_path, formats=ALL, force=True)
    write_embeddings([make_values(info)], info, output, "x")
    before = listing(tmp_path)

    def blocks():
        yield make_values(info, 1)[:, :4]
        assert any(name.endswith(".part") for name in listing(tmp_path))
        raise error("boom")

    with pytest.raises(error):
        write_embeddings(blocks(), info, output, "x")
    assert listing(tmp_path) == before


def test_an_unreadable_recording_is_not_called_a_failing_disk(tmp_path):
    def blocks():
        yield np.zeros((1, 1, 2), np.float32)
        raise OSError(errno.EIO, "the recording's disk")

    with pytest.raises(OSError, match="the recording's disk"):
        write_embeddings(blocks(), make_info(3, 2), OutputSettings(tmp_path), "x")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("nth", range(10))
@pytest.mark.parametrize("after", [False, True])
def test_a_rename_that_fails_is_undone(tmp_path, monkeypatch, nth, after):
    info = make_info(3, 2)
    output = OutputSettings(tmp_path, formats=ALL, force=True)
    write_embeddings([make_values(info)], info, output, "x")
    before, real, calls = listing(tmp_path), Path.replace, []

    def failing(self, target):
        calls.append(target)
        if len(calls) == nth + 1:
            if after:
                real(self, target)
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(KeyboardInterrupt):
        write_embeddings([make_values(info, 1)], info, output, "x")
    assert listing(tmp_path) == before


# ---- names, folders and formats ----


@pytest.mark.parametrize("base", ["", ".", "..", "a/b", "/abs", "a\0b", "x" * 250, "ü" * 125])
def test_base_names_that_are_no_file_names_are_refused(tmp_path, base):
    with pytest.raises(InputError, match="--output-base"):
        check_target(OutputSettings(tmp_path), base)


@pytest.mark.parametrize("base", ["run.v1", "a b ü", "x" * 244, ".hidden", "-x"])
def test_base_names_that_work(tmp_path, base):
    info = make_info(2, 2)
    files, _ = write_embeddings([make_values(info)], info, OutputSettings(tmp_path), base)
    assert files["npy"].name == base + ".npy" and files["npy"].exists()


@pytest.mark.parametrize("formats", [("npy", "hdf5"), ()])
def test_unknown_formats_are_refused_with_those_known(tmp_path, formats):
    with pytest.raises(InputError, match="npy, mat, json, npz, parquet"):
        check_target(OutputSettings(tmp_path, formats=formats), "x")


def test_only_what_was_asked_for_is_left(tmp_path):
    info = make_info(3, 2)
    files, _ = write_embeddings([make_values(info)], info, OutputSettings(tmp_path, formats=("npz", "npz")), "x")
    assert set(listing(tmp_path)) == {"x.npz"} and set(files) == {"npz"}


def test_a_file_in_the_folders_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_target(OutputSettings(tmp_path / "file" / "below"), "x")


def test_a_folder_in_a_files_place_is_said(tmp_path):
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_target(OutputSettings(tmp_path, force=True), "x")


def test_checking_leaves_nothing_behind(tmp_path):
    check_target(OutputSettings(tmp_path / "new" / "deep"), "x", make_info(10, 10))
    assert listing(tmp_path) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that refuses new files whoever asks: Linux's /proc")
def test_a_folder_that_refuses_files_is_said_even_to_root():
    with pytest.raises(OutputError, match="Cannot write into"):
        check_target(OutputSettings(Path("/proc/self")), "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders: permissions do not bind it")
def test_a_read_only_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_target(OutputSettings(tmp_path / "new"), "x")


def test_a_read_only_folder_is_said_to_a_user_without_privileges(tmp_path):
    """As root: the same check in a child process that gave up its privileges."""
    if os.geteuid() != 0:
        pytest.skip("covered by the test above")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        code = (
            "import os, sys; from pathlib import Path; from core.arrays import OutputSettings\n"
            "from core.embed.writers import check_target; from core.errors import OutputError\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: check_target(OutputSettings(Path(sys.argv[1])), 'x')\n"
            "except OutputError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Permission denied" in done.stdout


# ---- sizes ----


def test_too_little_disk_is_said_before_the_run(tmp_path, monkeypatch):
    info = make_info(1000, 1000)  # 4 MB of values
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 7_900_000))
    assert check_target(OutputSettings(tmp_path, formats=("npy", "json")), "x", info) == []
    with pytest.raises(OutputError, match=r"need 8\.02 MB.*7\.90 MB are free"):
        check_target(OutputSettings(tmp_path), "x", info)
    with pytest.raises(OutputError, match="need"):
        check_target(OutputSettings(tmp_path, formats=("npz",)), "x", 4_000_000)


def test_too_little_disk_ends_it_before_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(1000))

    def blocks():
        raise AssertionError("the model was run")
        yield

    with pytest.raises(OutputError, match="are free"):
        write_embeddings(blocks(), make_info(1000, 10), OutputSettings(tmp_path / "new"), "x")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("formats", [("npy",), ("mat",), ("npz",), ("parquet",), ALL])
@pytest.mark.parametrize("layers", [(3,), tuple(range(13))])
def test_the_announced_need_covers_what_is_written(tmp_path, formats, layers):
    info = make_info(400, 16, layers)
    output = OutputSettings(tmp_path, formats=formats)
    files, _ = write_embeddings([make_values(info)], info, output, "x")
    written = sum(path.stat().st_size for name, path in files.items() if name != "json")
    assert written <= writers.needed_bytes(output, info) <= 2.2 * written + (1 << 17)


def test_mat_limit_is_the_formats():
    dim = 1024
    frames = 2**32 // (4 * dim)
    assert mat_problem(make_info(frames - 1, dim)) is None
    assert "4 GiB" in mat_problem(make_info(frames, dim))
    assert "2 GiB" in mat_note(make_info(frames // 2, dim)) and mat_note(make_info(frames // 2 - 1, dim)) is None
    assert mat_note(make_info(frames, dim)) is None


def test_a_mat_that_cannot_be_is_announced_and_an_error_where_it_is_all(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(10**15))
    info = make_info(2**20, 1024)
    (note,) = check_target(OutputSettings(tmp_path), "x", info)
    assert "No .mat" in note and "4.00 GiB" in note
    with pytest.raises(OutputError, match="No other format"):
        check_target(OutputSettings(tmp_path, formats=("mat", "json")), "x", info)


def test_a_failed_mat_leaves_its_reason_and_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("core.embed.mat5.MAX_ELEMENT_BYTES", 200)
    info = make_info(30, 2)
    (tmp_path / "x.mat").write_text("old")
    files, problems = write_embeddings([make_values(info)], info, OutputSettings(tmp_path, force=True), "x")
    assert set(listing(tmp_path)) == {"x.npy", "x.json", "x.mat.failed"} and set(files) == {"npy", "json"}
    assert "4 GiB" in problems["mat"] and problems["mat"] in (tmp_path / "x.mat.failed").read_text()
    content = json.loads(files["json"].read_bytes())
    assert content["mat_path"] is None and content["problems"] == problems


def test_a_failing_library_costs_its_format_only(tmp_path, monkeypatch):
    def broken(file, spool):
        file.write(b"half")
        raise TypeError("cannot say that")

    monkeypatch.setitem(writers.DERIVED, "mat", broken)
    info = make_info(3, 2)
    _, problems = write_embeddings([make_values(info)], info, OutputSettings(tmp_path), "x")
    assert problems == {"mat": "TypeError: cannot say that"}
    assert set(listing(tmp_path)) == {"x.npy", "x.json", "x.mat.failed"}
    with pytest.raises(OutputError, match=r"No embeddings were written.*cannot say that"):
        write_embeddings([make_values(info)], info, OutputSettings(tmp_path, formats=("mat", "json")), "y")


# ---- a failing disk, a kill, and memory: in processes of their own ----

ROOT = Path(__file__).parents[2]

WORKER = """
import resource, sys, time
from pathlib import Path
import numpy as np
from core.arrays import EmbeddingInfo, OutputSettings
from core.clock import FrameClock
from core.embed import writers
from core.errors import StrataError

def info_of(n_frames, dim, layers):
    return EmbeddingInfo(FrameClock(320, 400, 16000), tuple(range(layers)), n_frames, dim, {"model_name": "m"})

def blocks(info, pause=0.0):
    rng = np.random.default_rng(0)
    for first in range(0, info.n_frames, 500):
        time.sleep(pause)
        yield rng.standard_normal((len(info.layers), min(500, info.n_frames - first), info.dim), dtype=np.float32)
"""


def run_worker(code: str, *args: object, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WORKER + code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **kwargs)


FULL_DISK = """
info = info_of(2000, 64, 1)  # 512 kB
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    output = OutputSettings(Path(sys.argv[1]), formats=(sys.argv[3],), force=True)
    writers.write_embeddings(blocks(info), info, output, "x")
except StrataError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("limit", [100_000, 512_100])
def test_a_disk_that_fails_leaves_nothing(tmp_path, suffix, limit):
    """The limit on a file's size fails writes as a full disk does: in the spool, or in the format derived from it."""
    (tmp_path / f"x.{suffix}").write_text("earlier")
    done = run_worker(FULL_DISK, tmp_path, limit, suffix)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OutputError Cannot write into") and "needed" in done.stdout
    assert listing(tmp_path) == {f"x.{suffix}": b"earlier"}


@pytest.mark.parametrize("suffix", ["npy", "mat", "npz", "parquet"])
def test_no_space_left_is_said_with_numbers(tmp_path, monkeypatch, suffix):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    info = make_info(3, 2)
    with pytest.raises(OutputError, match=r"No space left on device\. .* are needed, .* are free"):
        write_embeddings([make_values(info)], info, OutputSettings(tmp_path, formats=(suffix,)), "x")
    assert listing(tmp_path) == {}


KILLED = """
info = info_of(20000, 64, 2)
writers.write_embeddings(blocks(info, 0.05), info, OutputSettings(Path(sys.argv[1]), formats=writers.FORMATS), "x")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_leaves_nothing_that_looks_complete(tmp_path, how):
    command = [sys.executable, "-c", WORKER + KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not any(path.stat().st_size > 1000 for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(how)
        process.wait()
    left = list(tmp_path.iterdir())
    assert [path for path in left if not path.name.startswith(".")] == []
    if how == signal.SIGINT:
        assert left == []
    # What a kill left hidden goes with the next run; a part of a process that lives, or of another machine, stays.
    others = [
        tmp_path / left_name
        for left_name in (f".strata-{writers._process_mark()}-x.npy.part", ".strata-y-1-z.npy.part")
    ]
    for path in others:
        path.write_text("other")
    info = make_info(3, 2)
    write_embeddings([make_values(info)], info, OutputSettings(tmp_path), "x")
    assert set(tmp_path.iterdir()) == {*others, *(tmp_path / f"x.{suffix}" for suffix in ("npy", "mat", "json"))}


MEMORY = """
layers, *megabytes = map(int, sys.argv[2:])
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1000
for size in megabytes:
    info = info_of(size * 10**6 // (layers * 256 * 4), 256, layers)
    files, problems = writers.write_embeddings(
        blocks(info), info, OutputSettings(Path(sys.argv[1]), formats=writers.FORMATS, force=True), "x")
    assert not problems and files["mat"].stat().st_size > size * 10**6 * 0.99, problems
    print(peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("small_and_large", [(1, 24, 120), (13, 110, 190)])
def test_memory_does_not_grow_with_the_recording(tmp_path, small_and_large):
    """Layers, then megabytes of values; the small size fills each format's block of 8 MiB a layer."""
    done = run_worker(MEMORY, tmp_path, *small_and_large)
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split())
    assert large - small < 40, f"peak grew from {small:.0f} to {large:.0f} MB"
