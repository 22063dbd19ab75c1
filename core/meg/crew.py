"""The same work on many recordings, here or in several processes."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import OutputError, StrataError

Job = TypeVar("Job")
Result = TypeVar("Result")

Work = Callable[[Job, OnProgress], Result]
"""Does one job; a function of a module, so that another process finds it."""


class Crew:
    """Who works: this process, or others. Made by :func:`crew_of`.

    Args:
        pool: The other processes; None works in this one.
        on_progress: Told of each stage in recordings; where it raises, all work ends.
    """

    def __init__(self, pool: ProcessPoolExecutor | None, on_progress: OnProgress) -> None:
        self._pool = pool
        self._on_progress = on_progress

    def do(self, work: Work[Job, Result], jobs: Sequence[Job], stage: str) -> list[Result | StrataError]:
        """Do all jobs of a stage.

        Returns:
            For each job its result, or the error that its recording is to blame for.

        Raises:
            OutputError: the disk is full, which the next job would find as well, or a process ended without a word.
        """
        if not jobs:
            return []
        self._on_progress(Progress(stage, 0, len(jobs), "recordings"))
        if self._pool is None or len(jobs) < 2:
            return [self._do_here(work, job, Progress(stage, n, len(jobs))) for n, job in enumerate(jobs)]
        return self._do_there(self._pool, work, jobs, stage)

    def _do_here(self, work: Work[Job, Result], job: Job, before: Progress) -> Result | StrataError:
        def within(progress: Progress) -> None:
            share = progress.done / progress.total if progress.total else 0.0
            self._on_progress(Progress(before.stage, before.done + share, before.total, "recordings"))

        result = _outcome(lambda: work(job, within))
        within(Progress("", 1, 1))
        return result

    def _do_there(
        self, pool: ProcessPoolExecutor, work: Work[Job, Result], jobs: Sequence[Job], stage: str
    ) -> list[Result | StrataError]:
        futures = [pool.submit(work, job, ignore_progress) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                _outcome(future.result)  # the disk's errors end the stage at once
                self._on_progress(Progress(stage, done, len(jobs), "recordings"))
        except BrokenProcessPool as error:
            raise OutputError(_why_it_ended()) from error
        return [_outcome(future.result) for future in futures]


def _why_it_ended() -> str:
    """What may have ended a process: memory, or a script that each process runs anew and that starts processes."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    by_name = getattr(sys.modules["__main__"], "__spec__", None) is not None  # python -m guards itself
    if script and not by_name and not _is_guarded(Path(script)):
        return (
            f'A process ended at once: {script} has no if __name__ == "__main__":, so that each process runs it from '
            "the beginning. Put what it does below such a line, or use workers=1."
        )
    return "A process ended without a word, mostly for lack of memory. Use fewer --workers; what is done is kept."


def _is_guarded(script: Path) -> bool:
    """Whether a script asks by which name it runs; what cannot be read is taken to."""
    try:
        return "__main__" in script.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return True


def _outcome(result: Callable[[], Result]) -> Result | StrataError:
    try:
        return result()
    except OutputError:
        raise
    except StrataError as error:
        return error


@contextmanager
def crew_of(workers: int, on_progress: OnProgress) -> Iterator[Crew]:
    """Start processes for a while.

    Args:
        workers: How many; 1 works in this process.
        on_progress: As in :class:`Crew`.
    """
    if workers == 1:
        yield Crew(None, on_progress)
        return
    # Spawned: a forked copy of a process with threads (torch, the page's server) can hang.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield Crew(pool, on_progress)
    except BaseException:
        # What is half written counts for nothing, so there is nothing to wait for.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """In a new process: leave Ctrl-C to the first process, and end with it even where that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
