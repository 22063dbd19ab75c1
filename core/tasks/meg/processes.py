"""The same work on many recordings, here or in several processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

from core.arrays import OnProgress, Progress
from core.errors import OutputError, StrataError

Job = TypeVar("Job")
Result = TypeVar("Result")

Work = Callable[[Job, OnProgress], Result]
"""Does one job; a function of a module, so that another process finds it."""


def run_all(
    work: Work[Job, Result], jobs: Sequence[Job], workers: int, report: OnProgress, stage: str
) -> list[Result | StrataError]:
    """Do all jobs.

    Args:
        work: Does one.
        jobs: In order.
        workers: Processes; 1 works in this one.
        report: Told of the stage in recordings. Where it raises, all work ends.
        stage: Its name.

    Returns:
        For each job its result, or the error that the recording is to blame for.
    """
    if workers == 1 or len(jobs) < 2:
        return [_here(work, job, _nth(number, len(jobs), report, stage)) for number, job in enumerate(jobs)]
    return _in_processes(work, jobs, min(workers, len(jobs)), report, stage)


def _nth(number: int, total: int, report: OnProgress, stage: str) -> OnProgress:
    """Turn the progress within one job into that of all."""

    def within(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else 0.0
        report(Progress(stage, number + share, total, "recordings"))

    return within


def _here(work: Work[Job, Result], job: Job, on_progress: OnProgress) -> Result | StrataError:
    try:
        result = work(job, on_progress)
        on_progress(Progress("", 1, 1))
        return result
    except OutputError:
        raise  # a full disk is no recording's fault, and the next would fail alike
    except StrataError as error:
        return error


def _in_processes(
    work: Work[Job, Result], jobs: Sequence[Job], workers: int, report: OnProgress, stage: str
) -> list[Result | StrataError]:
    # Spawned: a forked copy of a process with threads (torch, the page's server) can hang.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        futures = [pool.submit(work, job, _silent) for job in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            if isinstance(error := future.exception(), OutputError | BrokenProcessPool):
                raise error
            report(Progress(stage, done, len(jobs), "recordings"))
        return [_outcome(future.result) for future in futures]
    except BrokenProcessPool as error:
        raise OutputError(
            f"One of {workers} processes ended without a word, mostly for lack of memory. Use fewer --workers; what is "
            "done is kept."
        ) from error
    except BaseException:
        # Nothing half written counts, so there is nothing to wait for.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(result: Callable[[], Result]) -> Result | StrataError:
    try:
        return result()
    except StrataError as error:
        return error


def _silent(_: Progress) -> None:
    pass


def _begin() -> None:
    """In a new process: leave Ctrl-C to the first process, and end with it even where that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
