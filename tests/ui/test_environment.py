"""A stopped server leaves nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ui.conftest import ROOT

WAITING = """
import os, time
from core.ui.environment import prepare
prepare()
print(os.environ["GRADIO_TEMP_DIR"], flush=True)
open(os.environ["GRADIO_TEMP_DIR"] + "/upload.wav", "w").close()
print(os.environ["GRADIO_ANALYTICS_ENABLED"], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_uploads_are_private_and_go_with_the_server(number, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        folder = Path(server.stdout.readline().strip())
        assert server.stdout.readline().strip() == "False"
        assert folder.stat().st_mode & 0o777 == 0o700
        server.send_signal(number)
        assert server.wait(timeout=30) != 0
    assert not folder.exists()


def test_a_folder_that_was_named_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    code = "from core.ui.environment import prepare; prepare(); import os; print(os.environ['GRADIO_TEMP_DIR'])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(tmp_path)
    assert tmp_path.is_dir()
