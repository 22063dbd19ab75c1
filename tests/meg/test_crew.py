import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.arrays import ignore_progress
from core.errors import DataError, OutputError
from core.meg import crew as module
from core.meg.crew import crew_of
from tests.meg.crew_work import work


class Stopped(Exception):
    pass


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_errors_keep_their_words(workers):
    told = []
    with crew_of(workers, told.append) as crew:
        first, bad, last = crew.do(work, ["a", "bad", "b"], "stage")
        with pytest.raises(OutputError, match="disk is full"):
            crew.do(work, ["a", "full"], "stage")
    assert (first == os.getpid()) == (last == os.getpid()) == (workers == 1)
    assert isinstance(bad, DataError)
    assert str(bad) == "bad.fif is bad."
    assert [(one.done, one.total) for one in told[:4] if one.done == int(one.done)] == [(n, 3) for n in range(4)]


def test_a_stop_does_not_wait_for_the_work():
    def stop(progress):
        if progress.done == 1:
            raise Stopped

    before, began = set(multiprocessing.active_children()), time.monotonic()
    with pytest.raises(Stopped), crew_of(2, stop) as crew:
        crew.do(work, ["long", "a"], "stage")
    assert time.monotonic() - began < 50
    assert set(multiprocessing.active_children()) <= before


def test_a_process_that_dies_is_told_instead_of_waited_for():
    with pytest.raises(OutputError, match="fewer --workers"), crew_of(2, ignore_progress) as crew:
        crew.do(work, ["die", "a"], "stage")


SCRIPT = """
from core.arrays import ignore_progress
from core.errors import OutputError
from core.meg.crew import crew_of
from tests.meg.crew_work import work
{guard}
try:
    with crew_of(2, ignore_progress) as crew:
        crew.do(work, ["a", "b"], "stage")
except OutputError as error:
    print(error)
"""


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    """The script is run anew by each process that it starts; Python ends that one with a trace of its own."""
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.format(guard=""))
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith(f"A process ended at once: {script} has no if __name__")
    assert not module._is_guarded(Path(__file__).with_name("crew_work.py"))
    script.write_text(SCRIPT.format(guard='if __name__ != "__main__": raise SystemExit'))
    assert module._is_guarded(script)
