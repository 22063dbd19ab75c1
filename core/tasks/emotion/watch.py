"""Who is told of a run, who may end it, and where its state is kept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.arrays import OnProgress, Progress, ignore_progress


@dataclass(frozen=True)
class Watch:
    """What the parts of a run share; without a folder nothing is kept.

    Attributes:
        on_progress: Told how far it is; raises ``Stopped`` where the run shall end.
        folder: Gets curves and state.
        stopped: Whether the run was asked to end.
        log: Takes a line of the curves.
    """

    on_progress: OnProgress = ignore_progress
    folder: Path | None = None
    stopped: Callable[[], bool] | None = None
    log: Callable[[dict[str, Any]], None] | None = None

    def should_stop(self) -> bool:
        """Whether the run was asked to end."""
        return self.stopped is not None and self.stopped()

    def place(self, name: str) -> Path | None:
        """Where a part of the run keeps its state; None where nothing is kept."""
        return None if self.folder is None else self.folder / name

    def tell(self, metrics: Mapping[str, Any]) -> None:
        """Add a line to the curves."""
        if self.log is not None:
            self.log(dict(metrics))


@contextmanager
def watched(folder: Path | None, on_progress: OnProgress = ignore_progress) -> Iterator[Watch]:
    """Watch a run: its progress and curves are written into ``folder``, and a request to stop ends it.

    Args:
        folder: Of the run, made where it is not there; a run that was stopped goes on with what it holds. None keeps
            nothing, and leaves it to the interpreter what a signal does.
        on_progress: Told as well.

    Raises:
        Stopped: within, where the run was asked to end.
    """
    from core.training.runs import RunFolder, Stopped

    if folder is None:
        yield Watch(on_progress)
        return
    run = RunFolder(folder)
    with run.stop_requests() as should_stop:

        def report(progress: Progress) -> None:
            on_progress(progress)
            run.progress(progress)
            if should_stop():
                raise Stopped

        yield Watch(report, folder, should_stop, run.log)
