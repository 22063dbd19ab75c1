"""One run at a time in a folder, and the lock ends with the process."""

import os
import subprocess
import sys
import threading

import pytest

from core.errors import InputError, OutputError
from core.training.lock import locked
from core.training.loop import Hooks, train
from tests.training.test_loop import SETTINGS, make_model, step

HOLDER = """
import sys, time
from pathlib import Path
from core.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InputError, match=f"Another run is at work in {tmp_path}"):
                train(make_model(), step, SETTINGS, tmp_path)
            assert not (tmp_path / "metrics.jsonl").exists()
        finally:
            holder.kill()
    train(make_model(), step, SETTINGS, tmp_path)


def test_a_folder_is_held_as_long_as_its_run(tmp_path):
    found = []

    def look(progress):
        def other():
            try:
                train(make_model(), step, SETTINGS, tmp_path)
            except InputError as error:
                found.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    with locked(tmp_path):  # whoever holds it may train in it
        train(make_model(), step, SETTINGS, tmp_path, Hooks(on_update=look))
    assert len(found) == SETTINGS.updates
    assert all("Another run is at work" in said for said in found)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold a run"), locked(tmp_path / "file" / "run"):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="wants a folder that this user cannot write")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot hold a run"), locked(tmp_path):
        pass
