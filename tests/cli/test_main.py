"""The command line: arguments, exit codes, stdout and stderr, interruptions, and the speed of --help."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

import core
from core.arrays import EmbedSettings, OutputSettings, Progress
from core.cli import console
from core.cli.main import main, normalise
from tests.cli import fake_tasks

ROOT = Path(__file__).parents[2]
# The command line in a process of its own, over the trivial encoder.
RUNNER = (
    "import sys, signal, core, tests.cli.fake_tasks as fake; core.tasks = sys.modules['core.tasks'] = fake\n"
    "import core.__main__ as entry; signal.signal(signal.SIGTERM, entry._end); sys.exit(entry.main())"
)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(core, "tasks", fake_tasks, raising=False)
    monkeypatch.setitem(sys.modules, "core.tasks", fake_tasks)
    fake_tasks.CALLS.clear()
    return fake_tasks.CALLS


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "in" / "a b ü.wav"
    path.parent.mkdir()
    path.write_bytes(b"sound")
    return path


def spawn(*args: object, **kwargs) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | kwargs
    return subprocess.Popen([sys.executable, "-c", RUNNER, *map(str, args)], cwd=ROOT, **pipes)


def call(*args: object, **kwargs) -> tuple[int, str, str]:
    with spawn(*args, **kwargs) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# ---- arguments ----


def test_defaults_are_the_settings_own(fake, sound, tmp_path):
    assert main(["embed", str(sound), "--output", str(tmp_path / "out")]) == 0
    assert fake == [(EmbedSettings(), OutputSettings(tmp_path / "out"))]


def test_every_flag_arrives(fake, sound, tmp_path):
    line = "--model m --device cpu --engine torch --precision fp32 --chunk-seconds 5 --context-seconds 0.5 "
    line += "--layers 0,6,12 --channel 2 --output-base run.v1 --formats npy,.JSON,npy --force"
    assert main(["embed", str(sound), "--output", str(tmp_path), *line.split()]) == 0
    what = EmbedSettings("m", "0,6,12", "cpu", "torch", "fp32", 5.0, 0.5, 2)
    assert fake == [(what, OutputSettings(tmp_path, "run.v1", ("npy", "json"), True))]
    assert (tmp_path / "run.v1.npy").exists()


@pytest.mark.parametrize("underscores", [False, True])
def test_the_documents_own_line_works(fake, sound, tmp_path, underscores):
    line = f"embed --audio|{sound}|--output|{tmp_path}|--model|facebook/wav2vec2-large-xlsr-53|--device|auto"
    line += "|--chunk-seconds|20|--output-base|wav2vec2_embeddings"
    words = line.replace("embed ", "embed|").split("|")
    if underscores:
        words = [word.replace("-", "_").replace("__", "--", 1) if word.startswith("--") else word for word in words]
    assert main(words) == 0
    assert {path.name for path in tmp_path.glob("wav2vec2_embeddings.*")} == {
        "wav2vec2_embeddings.npy", "wav2vec2_embeddings.mat", "wav2vec2_embeddings.json",
    }  # fmt: skip


def test_only_option_names_are_normalised():
    assert normalise(["embed", "a_b", "--output_base=x_y", "-a_b", "--", "--c_d"]) == [
        "embed", "a_b", "--output-base=x_y", "-a_b", "--", "--c_d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["embed", "x.wav"],
        ["embed", "x.wav", "--output", "o", "--device", "tpu"],
        ["embed", "x.wav", "--output", "o", "--channel", "0"],
        ["embed", "x.wav", "--output", "o", "--chunk-seconds", "nan"],
        ["embed", "x.wav", "--output", "o", "--context-seconds", "-1"],
        ["embed", "x.wav", "--output", "o", "--form", "npy"],
    ],
)
def test_usage_errors_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1


# ---- results and errors ----


def test_paths_on_stdout_and_nothing_else(sound, tmp_path):
    code, out, err = call("embed", sound, "--output", tmp_path / "out")
    assert (code, out.splitlines()) == (0, [str(tmp_path / "out" / f"a b ü.{name}") for name in ("npy", "mat", "json")])
    assert "storm" not in err and "Traceback" not in err
    assert np.load(out.splitlines()[0])[:, 0].astype(np.uint8).tobytes() == b"sound"


def test_json_on_stdout(sound, tmp_path):
    code, out, _ = call("embed", sound, "--output", tmp_path / "out", "--json")
    content = json.loads(out)
    assert code == 0 and content["source"] == str(sound) and content["problems"] == {} and content["skipped"] is False
    assert content["files"]["npy"] == str(tmp_path / "out" / "a b ü.npy") and content["metadata"]["odd"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gone.wav", "--output", "{out}"], "gone.wav does not exist. Name a file that does."),
        (
            ["{sound}", "--output", "{out}", "--formats", "npy,hdf5"],
            "hdf5; the formats are npy, mat, json, npz, parquet",
        ),
        (["{sound}", "--output", "{out}", "--formats", ","], "no format"),
        (["{sound}", "--output", "{out}", "--output-base", "../x"], "--output-base"),
        (["{sound}", "--output", "{sound}"], "is a file"),
        (["--output", "{out}"], "no recording"),
        (["{sound}", "{sound}", "--output", "{out}", "--output-base", "x"], "several recordings"),
        (["{folder}/empty.csv", "--output", "{out}"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(sound, tmp_path, words, reason):
    out_folder = tmp_path / "out"
    code, out, err = call("embed", *(word.format(sound=sound, out=out_folder, folder=tmp_path) for word in words))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and err.startswith("error: ") and reason in err
    assert not out_folder.exists()


def test_existing_files_are_refused_then_forced(sound, tmp_path):
    words = ["embed", sound, "--output", tmp_path / "out"]
    assert call(*words)[0] == 0
    code, _, err = call(*words)
    assert code == 2 and "--force" in err and "a b ü.npy" in err
    assert call(*words, "--force")[0] == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_trace(tmp_path, place):
    words = ["embed", "gone.wav", "--output", tmp_path]
    code, _, err = call(*(["--debug", *words] if place == "before" else [*words, "--debug"]))
    assert code == 2 and "Traceback" in err and "DataError" in err


def test_a_bug_is_1_with_its_trace(sound, tmp_path):
    sound.write_bytes(b"bug")
    code, out, err = call("embed", sound, "--output", tmp_path / "out")
    assert (code, out) == (1, "") and "ZeroDivisionError: a bug" in err and "bug in Strata" in err


# ---- corpora ----


def test_a_folder_gives_a_summary_and_2_if_one_failed(sound, tmp_path):
    (sound.parent / "deep").mkdir()
    (sound.parent / "deep" / "bad.wav").write_bytes(b"bad")
    out_folder = tmp_path / "out"
    code, out, err = call("embed", sound.parent, "--output", out_folder, "--formats", "npy,json")
    assert code == 2 and "1 done, 0 skipped, 1 failed" in err and "is bad" in err
    assert out.splitlines() == [str(out_folder / name) for name in ("a b ü.npy", "a b ü.json", "summary.json")]
    code, out, _ = call("embed", sound, sound, "--output", out_folder, "--formats", "npy,json", "--json")
    content = json.loads(out)
    assert code == 0 and (content["n_skipped"], content["n_done"], content["failures"]) == (1, 0, [])


def test_a_manifests_channel_is_used(fake, sound, tmp_path):
    (tmp_path / "list.csv").write_text(f"file,channel,base\n{sound},2,two\n{sound},,all\n", encoding="utf-8")
    assert main(["embed", str(tmp_path / "list.csv"), "--output", str(tmp_path / "out"), "--channel", "1"]) == 0
    assert [(what.channel, where.base) for what, where in fake] == [(2, "two"), (1, "all")]


# ---- models, version, help ----


def test_models_as_table_and_json(fake, capfdbinary):
    assert main(["models"]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["name", "where", "architecture", "blocks", "dim", "Hz", "MB", "note"]
    assert lines[1].split() == ["small", "bundled", "wav2vec2", "4", "64", "16000", "10"]
    assert main(["models", "--json"]) == 0
    content = json.loads(capfdbinary.readouterr().out)
    assert [entry["path"] for entry in content["models"]] == ["/x", None]


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"strata {core.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["embed", "--help"], ["models", "--help"]])
def test_help_is_quick_and_imports_nothing_heavy(words):
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "core", *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - began)
        assert "usage: python -m core" in done.stdout and done.stderr == ""
    assert min(times) < 0.5
    code = f"import sys; from core.cli.main import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
    code += "print([name for name in ('numpy', 'torch', 'scipy', 'transformers', 'tqdm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- interruptions ----


@pytest.mark.parametrize(("how", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_half_written(sound, tmp_path, how, expected):
    sound.write_bytes(b"slow" * 100)
    out_folder = tmp_path / "out"
    with spawn("embed", sound, "--output", out_folder) as process:
        deadline = time.monotonic() + 30
        while not (out_folder.is_dir() and list(out_folder.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.suffix for path in out_folder.iterdir()] == [".part"]
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    assert process.returncode == expected and out == "" and "Traceback" not in err
    assert list(out_folder.iterdir()) == []


def test_a_reader_that_has_gone_is_no_error(sound, tmp_path):
    read, write = os.pipe()
    os.close(read)
    with spawn("embed", sound, "--output", tmp_path / "out", stdout=write) as process:
        os.close(write)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "BrokenPipe" not in err and "Exception" not in err
    assert (tmp_path / "out" / "a b ü.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_stdout_on_a_full_disk_is_said(sound, tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        code, _, err = call("embed", sound, "--output", tmp_path / "out", stdout=full)
    assert code == 2 and err == "error: The results are written, but stdout takes no text: No space left on device.\n"


def test_a_closed_stdout_is_no_error(sound, tmp_path):
    code, _, err = call("embed", sound, "--output", tmp_path / "out", stdout=None, preexec_fn=lambda: os.close(1))
    assert (code, err) == (0, "") and (tmp_path / "out" / "a b ü.json").exists()


def test_names_that_are_not_unicode_come_out_as_their_bytes(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.write_bytes(b"sound")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    with spawn("embed", path, "--output", tmp_path / "out", text=False) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.splitlines()[0].endswith(b"/out/caf\xe9.npy")


def test_a_bad_thread_count_is_removed_and_said(sound, tmp_path):
    code, _, err = call("embed", sound, "--output", tmp_path / "out", env=os.environ | {"MKL_NUM_THREADS": "auto"})
    assert code == 0 and "MKL_NUM_THREADS='auto'" in err


# ---- progress ----


def test_a_short_run_is_quiet_without_a_terminal(sound, tmp_path):
    assert call("embed", sound, "--output", tmp_path / "out")[2] == ""


def test_lines_tell_the_time_left(monkeypatch, caplog):
    caplog.set_level("INFO", "core")
    now = [0.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    lines = console.Lines()
    for second, done in ((0, 0), (1, 100), (10, 150), (41, 151), (45, 200), (60, 252), (1000, 1000)):
        now[0] = second
        lines(Progress("embed", done, 1000))
    lines(Progress("writing", 1, 1))
    assert [record.getMessage() for record in caplog.records] == [
        "embed: 15 % (150 of 1000 s), 0:00:57 left",
        "embed: 15 % (151 of 1000 s), 0:03:51 left",
        "embed: 25 % (252 of 1000 s), 0:02:58 left",
        "embed: 100 % (1000 of 1000 s), 0:00:00 left",
    ]


@pytest.mark.parametrize("columns", [0, 100])
def test_bars_on_a_terminal(sound, tmp_path, columns):
    """On a terminal stderr carries bars with the time left; stdout stays the result alone."""
    (sound.parent / "second.wav").write_bytes(b"sound")
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with spawn("embed", sound.parent, "--output", tmp_path / "out", stderr=child) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                piece = os.read(parent, 4096)
            except OSError:  # Linux says that a terminal's other end has closed by an error
                break
            if not piece:
                break
            shown += piece
        out, _ = process.communicate(timeout=60)
    os.close(parent)
    text = shown.decode()
    assert process.returncode == 0 and "left" in text and "100 %" in text and "files: " in text and "embed: " in text
    assert len(out.splitlines()) == 7
