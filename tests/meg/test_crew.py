import multiprocessing
import os
import time

import pytest

from core.arrays import ignore_progress
from core.errors import DataError, OutputError
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
