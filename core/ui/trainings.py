"""Trainings that visitors started: each has a folder of its own that outlives the page.

Whoever knows a training's id may look at it, so ids cannot be guessed; the browser keeps its own. A visitor is a key
that this app gave to a browser, and that cannot be guessed either: what was started under it is what the tab "Runs"
lists. The process that trains is a run of :mod:`core.training.runs`; what it works on and leaves lies beside it.
"""

import atexit
import logging
import secrets
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from core.arrays import Progress
from core.errors import InputError
from core.training.runs import Run, Runs, RunStatus
from core.ui.progress import TimeLeft

log = logging.getLogger(__name__)


@dataclass
class KeptTraining(ABC):
    """What a page sent, and what was trained on it.

    Attributes:
        kind: What is trained, in a word or two.
        when_stopped: What is said of a run that was stopped.
        id: Cannot be guessed, and is the folder's name.
        folder: Where everything lies.
        sent: The uploads that the data came as.
        data: Where the data lie.
        visitor: Whose it is; empty for a program's.
        run: The process that was started last.
        attempts: Processes started so far; each has results of its own.
        results: Folder of the results of each process, by the id of its run.
        output: Where the last process writes.
        seen: Seconds of the steady clock at which a page last asked.
        words: Of its progress.
    """

    kind: ClassVar[str]
    when_stopped: ClassVar[str]
    id: str
    folder: Path
    sent: tuple[str, ...]
    data: Path = field(init=False)
    visitor: str = ""
    run: Run | None = None
    attempts: int = 0
    results: dict[str, Path] = field(default_factory=dict)
    output: Path = field(init=False)
    seen: float = field(default_factory=time.monotonic)
    words: TimeLeft = field(default_factory=TimeLeft)

    def __post_init__(self) -> None:
        self.data, self.output = self.folder / "data", self.folder / "training-0"

    @abstractmethod
    def outputs(self, run: Run) -> Mapping[str, Path]:
        """Return the files and folders that a run has left so far, by the names under which they are offered."""

    def checkpoint(self, run: Run) -> Path | None:
        """Return the best checkpoint of a pre-training, or the last one; None where there is none yet."""
        folders = (place / name for name in ("best", "last") for place in (self.results[run.id] / "model", run.folder))
        return next((folder for folder in folders if (folder / "model.safetensors").is_file()), None)

    @property
    def begun(self) -> Run:
        """The process that was started last, or InputError before that."""
        if self.run is None:
            raise InputError("No training was started yet. Start one.")
        return self.run


Kept = TypeVar("Kept", bound=KeptTraining)


@dataclass(frozen=True)
class KeptRun:
    """A run with what it is part of."""

    kept: "KeptTrainings[Any]"
    training: KeptTraining
    run: Run

    @property
    def status(self) -> RunStatus:
        """How it stands."""
        return self.kept.status(self.training, self.run)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All that it has measured so far."""
        return self.kept.metrics(self.training, self.run)

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return (self.run.folder / "stopping").exists()


class AllTrainings:
    """The trainings of all tabs: one is at work at a time, since two would not fit, nor be faster."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._parts: list[KeptTrainings[Any]] = []

    def add(self, part: "KeptTrainings[Any]") -> None:
        """Take the trainings of one more tab."""
        self._parts.append(part)

    def require_idle(self) -> None:
        """Raise InputError where one is under way."""
        if any(part.is_running(training) for part in self._parts for training in part.all()):
            raise InputError("Another training is under way on this machine. Start again when it has ended.")

    def of(self, visitor: str) -> list[KeptRun]:
        """Return the runs of a visitor, the newest first; looking at them keeps them."""
        mine = [
            KeptRun(part, training, run)
            for part in self._parts
            for training in part.all()
            if visitor and training.visitor == visitor
            for run in part.runs(training)
        ]
        for one in mine:
            one.training.seen = time.monotonic()
        return sorted(mine, key=lambda one: one.run.created, reverse=True)

    def get(self, number: str) -> KeptRun:
        """Find a run by its id, and note that a page looked at it.

        Raises:
            InputError: it is gone.
        """
        for part in self._parts:
            for training in part.all():
                if number in training.results:
                    training.seen = time.monotonic()
                    return KeptRun(part, training, part.run(training, number))
        raise InputError("There is no such run, or it is no longer kept. Start a new one.")

    def find(self, number: str) -> KeptRun | None:
        """Find a run by its id; None where it is gone."""
        try:
            return self.get(number)
        except InputError:
            return None


class KeptTrainings(ABC, Generic[Kept]):
    """The trainings of one tab, of all pages.

    On a machine that many share, a training goes ``keep_seconds`` after the last page that looked at it, running or
    not. On somebody's own machine what was started stays until the app ends; what was only sent goes as well.

    Args:
        root: Folder of all trainings.
        keep_seconds: See above.
        ends_unseen: Whether this is a machine that many share.
        module: What runs the commands.
        everything: The trainings of all tabs; None for these alone.
    """

    def __init__(
        self,
        root: Path,
        keep_seconds: float = 600,
        *,
        ends_unseen: bool = False,
        module: str = "core",
        everything: AllTrainings | None = None,
    ) -> None:
        self.root, self._keep_seconds, self._ends_unseen = root, keep_seconds, ends_unseen
        self._module = module
        self._known: dict[str, Kept] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None
        self.everything = everything or AllTrainings()
        self.everything.add(self)

    @abstractmethod
    def _new(self, number: str, folder: Path, sent: tuple[str, ...]) -> Kept:
        """Make the record of a training."""

    @abstractmethod
    def _gone(self) -> str:
        """Say what to do about a training that is not kept any more."""

    def open(self, sent: tuple[str, ...]) -> Kept:
        """Make a folder for what a page sent."""
        number = secrets.token_urlsafe(16)
        training = self._new(number, self.root / number, sent)
        training.data.mkdir(parents=True)
        with self._lock:
            self._known[number] = training
        self.sweep()
        return training

    def get(self, number: str | None) -> Kept:
        """Find a training, and note that a page looked at it.

        Raises:
            InputError: it is gone.
        """
        training = self._known.get(number or "")
        if training is None:
            raise InputError(self._gone())
        training.seen = time.monotonic()
        return training

    def find(self, number: str | None) -> Kept | None:
        """Find a training; None where it is gone."""
        return self.get(number) if number in self._known else None

    def all(self) -> list[Kept]:
        """Return all trainings, the oldest first."""
        return list(self._known.values())

    def latest(self, visitor: str) -> Kept | None:
        """Return what a visitor worked on last; None where nothing of it is kept."""
        mine = [training for training in self.all() if visitor and training.visitor == visitor]
        return mine[-1] if mine else None

    def claim(self, number: str, visitor: str) -> None:
        """Note whose training it is."""
        training = self.find(number)
        if training is not None:
            training.visitor = visitor

    def begin(self, training: Kept, command: Callable[[], Sequence[str]], name: str) -> None:
        """Start a process.

        Args:
            training: What it is part of.
            command: Called once the folder of the results is known.
            name: What people shall call the run.

        Raises:
            InputError: a training is under way.
        """
        with self.everything.lock:
            self.everything.require_idle()
            # A visitor who ends the app with Ctrl-C ends the trainings with it: their folder goes.
            atexit.unregister(self.end)
            atexit.register(self.end)
            training.attempts += 1
            training.output = training.folder / f"training-{training.attempts}"
            training.output.mkdir()
            training.run = self._runs(training).start(command(), name)
            training.results[training.run.id] = training.output
            training.words = TimeLeft()

    def resume(self, training: Kept, run: Run | None = None) -> None:
        """Go on with a run that was stopped, by default the last one.

        Raises:
            InputError: a training is under way, or there is none to go on with.
        """
        with self.everything.lock:
            self.everything.require_idle()
            run = run or training.begun
            self._runs(training).resume(run)
            training.run, training.output, training.words = run, training.results[run.id], TimeLeft()

    def stop(self, training: Kept, run: Run | None = None) -> None:
        """Ask a run to keep what it has and to end."""
        self._runs(training).stop(run or training.begun)

    def remove(self, training: Kept, run: Run) -> None:
        """Delete a run with all that it left.

        Raises:
            InputError: it is at work.
        """
        self._runs(training).remove(run)
        shutil.rmtree(training.results.pop(run.id), ignore_errors=True)
        if training.run is not None and training.run.id == run.id:
            training.run = None

    def runs(self, training: Kept) -> tuple[Run, ...]:
        """Return the runs of a training, the newest first."""
        return self._runs(training).list()

    def run(self, training: Kept, number: str) -> Run:
        """Return a run of a training by its id."""
        return self._runs(training).get(number)

    def status(self, training: Kept, run: Run | None = None) -> RunStatus:
        """Return how a run stands."""
        return self._runs(training).status(run or training.begun)

    def progress(self, training: Kept, run: Run | None = None) -> Progress | None:
        """Return how far a run is; None before it says anything."""
        return self._runs(training).progress(run or training.begun)

    def metrics(self, training: Kept, run: Run | None = None) -> list[dict[str, Any]]:
        """Return all that a run has measured so far."""
        return self._runs(training).metrics(run or training.begun)

    def printed(self, training: Kept, run: Run) -> str:
        """Return the end of what a run printed."""
        return self._runs(training).log(run)

    def is_running(self, training: Kept) -> bool:
        """Whether the process is at work."""
        return training.run is not None and self.status(training).state == "running"

    def sweep(self) -> None:
        """Remove what nobody has looked at for long; comes again by itself while there are trainings."""
        with self._lock:
            for training in self.all():
                self._sweep(training)
            if self._sweeper is not None:
                self._sweeper.cancel()
            self._sweeper = None
            if self._known:
                self._sweeper = threading.Timer(max(1.0, self._keep_seconds / 2), self.sweep)
                self._sweeper.daemon = True
                self._sweeper.start()

    def _sweep(self, training: Kept) -> None:
        if training.run is not None and not self._ends_unseen:
            return
        if time.monotonic() - training.seen <= self._keep_seconds:
            return
        log.info("Nobody looked at a training for %.0f s; it is removed.", self._keep_seconds)
        if training.run is not None:
            self._runs(training).stop(training.run, kill_after=5.0)
        del self._known[training.id]
        shutil.rmtree(training.folder, ignore_errors=True)

    def end(self) -> None:
        """End all processes: the app ends, and with it the folder that they work in."""
        for training in self.all():
            if training.run is not None:
                self._runs(training).stop(training.run, kill_after=2.0)

    def _runs(self, training: Kept) -> Runs:
        return Runs(training.folder / "runs", self._module)
