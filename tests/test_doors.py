"""The same recording through the app, the command line and README's example gives the same array."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file

from tests.ui.conftest import serve

ROOT = Path(__file__).resolve().parents[1]
RECORDING = ROOT / "assets" / "examples" / "one_sentence.flac"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("app") / "log", "app.py", "--port", HF_HUB_OFFLINE="1")


def test_tab_command_line_and_readme_agree_to_the_bit(address, tmp_path):
    client = Client(address, download_files=tmp_path / "app", verbose=False)
    files, facts = client.predict(
        handle_file(RECORDING), "", "last", "auto", "auto", "auto", ["npy", "json"], api_name="/embed"
    )
    tab = np.load(next(path for path in files if path.endswith(".npy")), allow_pickle=False)

    command = [sys.executable, "-m", "core", "embed", str(RECORDING), "--output", str(tmp_path / "cli")]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    line = np.load(next(path for path in printed.split() if path.endswith(".npy")), allow_pickle=False)

    example, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    shutil.copytree(ROOT / "assets" / "examples", tmp_path / "assets" / "examples")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environ, check=True)
    readme = np.load(tmp_path / "outputs" / "from_python.npy", allow_pickle=False)

    assert facts["num_frames"] == len(tab)
    np.testing.assert_array_equal(tab, line)
    np.testing.assert_array_equal(line, readme)
