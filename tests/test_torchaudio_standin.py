"""Each case runs in a fresh process, because a module is imported only once in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *path: Path) -> subprocess.CompletedProcess:
    """Run Python code with ``path`` before everything else and the project after it."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


def made_up_torchaudio(folder: Path, extension: str) -> Path:
    """Write a package ``torchaudio`` whose ``_extension`` runs the given code."""
    package = folder / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "__init__.py").write_text("from torchaudio import _extension\n")
    (package / "_extension" / "__init__.py").write_text(extension)
    return folder


def test_encodec_and_transformers_import_and_run_beside_this_torch():
    script = (
        "import core, encodec, torch, transformers\n"
        "from torchaudio import _extension\n"
        "codec = encodec.EncodecModel.encodec_model_24khz(pretrained=False).eval()\n"
        "with torch.no_grad(): print(tuple(codec.encoder(torch.zeros(1, 1, 24000)).shape))\n"
        "transformers.Wav2Vec2Model, transformers.EncodecModel\n"
        "print(_extension._IS_TORCHAUDIO_EXT_AVAILABLE, getattr(_extension, 'STANDIN_REASON', ''))\n"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    shape, extension = done.stdout.splitlines()
    assert shape == "(1, 128, 75)"
    assert extension.startswith("True") or "lib" in extension


def test_what_fails_without_the_stand_in_is_what_it_records():
    without = run("import torchaudio")
    if without.returncode == 0:
        pytest.skip("torchaudio's extension loads beside this torch, so nothing stands in for it")
    recorded = run("import core; from torchaudio import _extension; print(_extension.STANDIN_REASON)")
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout.strip() in without.stderr


@pytest.mark.parametrize("error", ["OSError", "ImportError"])
def test_a_library_that_does_not_load_is_replaced_and_says_why(tmp_path, error):
    package = made_up_torchaudio(tmp_path, f"PARTLY = 1\nraise {error}('libcudart.so.13: cannot open')\n")
    script = (
        "import core, torchaudio._extension as e\n"
        "print(e.STANDIN_REASON, e._IS_TORCHAUDIO_EXT_AVAILABLE, e._IS_ALIGN_AVAILABLE)\n"
        "def forced_align(): pass\n"
        "try: e.fail_if_no_align(forced_align)()\n"
        "except RuntimeError as error: print(error)\n"
    )
    done = run(script, package)
    assert done.returncode == 0, done.stderr
    reason, refusal = done.stdout.splitlines()
    assert reason == "libcudart.so.13: cannot open False False"
    assert "forced_align" in refusal and "Install a torchaudio built for the same torch" in refusal


def test_an_extension_that_loads_is_left_alone(tmp_path):
    package = made_up_torchaudio(tmp_path, "_IS_TORCHAUDIO_EXT_AVAILABLE = True\nMARK = 'the real one'\n")
    done = run("import core, torchaudio._extension as e; print(e.MARK, sorted(vars(e))[-2:])", package)
    assert done.stdout.strip() == "the real one ['__path__', '__spec__']", done.stderr


def test_other_errors_of_the_extension_are_not_hidden(tmp_path):
    package = made_up_torchaudio(tmp_path, "raise ValueError('a bug')\n")
    done = run("import core, torchaudio", package)
    assert done.returncode != 0 and "ValueError: a bug" in done.stderr


def test_the_app_imports_and_ignores_a_thread_count_that_is_none(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "auto")
    done = run("import app, os; print(type(app.demo).__name__, 'MKL_NUM_THREADS' in os.environ)")
    assert done.stdout.split() == ["Blocks", "False"], done.stderr
    assert "MKL_NUM_THREADS='auto' is no thread count" in done.stderr


def test_importing_core_imports_neither_torch_nor_torchaudio():
    done = run("import sys, core; print({'torch', 'torchaudio', 'transformers'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr
