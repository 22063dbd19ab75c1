"""The same recording through the app, the command line and README's example gives the same array.

The app is a process of its own; that the other two are the same in processes of theirs, test_documentation.py says.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file

from core.cli.main import main
from tests.ui.conftest import serve

ROOT = Path(__file__).resolve().parents[1]
RECORDING = ROOT / "assets" / "examples" / "one_sentence.flac"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("app") / "log", "app.py", "--port", HF_HUB_OFFLINE="1")


def test_tab_command_line_and_readme_agree_to_the_bit(address, tmp_path, monkeypatch, capsys):
    client = Client(address, download_files=tmp_path / "app", verbose=False)
    files, facts = client.predict(
        handle_file(RECORDING), "", "last", "auto", "auto", "auto", ["npy", "json"], api_name="/embed"
    )
    tab = np.load(next(path for path in files if path.endswith(".npy")), allow_pickle=False)

    assert main(["embed", str(RECORDING), "--output", str(tmp_path / "cli")]) == 0
    printed = capsys.readouterr().out
    line = np.load(next(path for path in printed.split() if path.endswith(".npy")), allow_pickle=False)

    example, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    shutil.copytree(ROOT / "assets" / "examples", tmp_path / "assets" / "examples")
    monkeypatch.chdir(tmp_path)
    exec(example, {"__name__": "__main__"})
    readme = np.load(tmp_path / "outputs" / "from_python.npy", allow_pickle=False)

    assert facts["num_frames"] == len(tab)
    np.testing.assert_array_equal(tab, line)
    np.testing.assert_array_equal(line, readme)
