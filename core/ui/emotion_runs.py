"""Trainings that visitors started: each has a folder of its own that outlives the page, and goes some time after it.

Whoever knows a training's id may look at it, so ids cannot be guessed; the browser keeps its own. The process that
trains is a run of :mod:`core.training.runs`; what it works on and what it leaves lies beside it.
"""

import atexit
import logging
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.arrays import Progress
from core.errors import InputError
from core.scoring import CorpusSettings, EmotionFindings, LabelledCorpus
from core.tasks.emotion import EmotionRequest
from core.training.runs import Run, Runs, RunStatus
from core.ui.progress import TimeLeft

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voices:
    """What was read from what a page sent, and with which settings."""

    settings: CorpusSettings
    corpus: LabelledCorpus


@dataclass
class Training:
    """Labelled voices that a page sent, and what was trained on them.

    Attributes:
        id: Cannot be guessed, and is the folder's name.
        folder: Where everything lies: recordings, features, runs, heads.
        sent: The uploads that the voices came as.
        data: The voices, unpacked.
        read: Who speaks in which clip, and how; None before they were read.
        request: What was asked for last.
        run: The process that was started last.
        attempts: Processes started so far; each has results of its own.
        findings: What the last one found, once somebody has asked for it.
        seen: Seconds of the steady clock at which a page last asked.
        words: Of its progress.
    """

    id: str
    folder: Path
    sent: tuple[str, ...]
    data: Path
    read: Voices | None = None
    request: EmotionRequest | None = None
    run: Run | None = None
    attempts: int = 0
    findings: EmotionFindings | None = None
    seen: float = field(default_factory=time.monotonic)
    words: TimeLeft = field(default_factory=TimeLeft)

    @property
    def voices(self) -> Voices:
        """What was read, or InputError before that."""
        if self.read is None:
            raise InputError("There are no labelled voices yet. Send a zip, or recordings with a CSV list.")
        return self.read

    @property
    def features(self) -> Path:
        """Where the clips' features are kept."""
        return self.folder / "features"

    @property
    def head(self) -> Path:
        """Where the last process writes the head."""
        return self.folder / f"training-{self.attempts}" / "head"

    @property
    def report(self) -> Path:
        """Where the last process writes report, figures and tables."""
        return self.folder / f"training-{self.attempts}" / "report"


class Trainings:
    """The trainings of all pages.

    A training goes ``keep_seconds`` after the last page that looked at it, or after its end, whichever comes later.

    Args:
        root: Folder of all trainings.
        keep_seconds: See above.
        ends_unseen: Whether one that nobody looks at any more is stopped as well, as on a machine that many share.
        module: What runs the commands.
    """

    def __init__(
        self, root: Path, keep_seconds: float = 600, *, ends_unseen: bool = False, module: str = "core"
    ) -> None:
        self.root, self._keep_seconds, self._ends_unseen = root, keep_seconds, ends_unseen
        self._module = module
        self._known: dict[str, Training] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    def open(self, sent: tuple[str, ...]) -> Training:
        """Make a folder for the voices that a page sent."""
        number = secrets.token_urlsafe(16)
        training = Training(number, self.root / number, sent, self.root / number / "data")
        training.data.mkdir(parents=True)
        with self._lock:
            self._known[number] = training
        self.sweep()
        return training

    def get(self, number: str | None) -> Training:
        """Find a training, and note that a page looked at it.

        Raises:
            InputError: it is gone.
        """
        training = self._known.get(number or "")
        if training is None:
            raise InputError("There are no labelled voices here, or they are no longer kept. Send them under “Train”.")
        training.seen = time.monotonic()
        return training

    def find(self, number: str | None) -> Training | None:
        """Find a training; None where it is gone."""
        return self.get(number) if number in self._known else None

    def head(self, number: str | None) -> Path | None:
        """Return the folder of the head that a training wrote; None where there is none yet."""
        training = self.find(number)
        is_there = training is not None and training.run is not None and self.status(training).state == "finished"
        return training.head if training is not None and is_there else None

    def start(self, training: Training, request: EmotionRequest, mapping: str) -> None:
        """Start the training of a head.

        Args:
            training: The voices.
            request: What is asked.
            mapping: The mapping of ``request`` as the command line takes it; empty for none.

        Raises:
            InputError: this training or another one is under way.
        """
        with self._lock:
            self._require_idle()
            # A visitor who ends the app with Ctrl-C ends the trainings with it: their folder goes.
            atexit.unregister(self.end)
            atexit.register(self.end)
            training.attempts += 1
            training.head.parent.mkdir()
            training.run = self._runs(training).start(command_of(training, request, mapping), request.data.name)
            training.request, training.findings, training.words = request, None, TimeLeft()

    def resume(self, training: Training) -> None:
        """Go on with a training that was stopped.

        Raises:
            InputError: this training or another one is under way, or there is none to go on with.
        """
        with self._lock:
            self._require_idle()
            self._runs(training).resume(_begun(training))
            training.words = TimeLeft()

    def stop(self, training: Training) -> None:
        """Ask a training to keep what it has and to end."""
        self._runs(training).stop(_begun(training))

    def status(self, training: Training) -> RunStatus:
        """Return how a training stands."""
        return self._runs(training).status(_begun(training))

    def progress(self, training: Training) -> Progress | None:
        """Return how far a training is; None before it says anything."""
        return self._runs(training).progress(_begun(training))

    def metrics(self, training: Training) -> list[dict[str, Any]]:
        """Return all that a training has measured so far."""
        return self._runs(training).metrics(_begun(training))

    def is_running(self, training: Training) -> bool:
        """Whether the process is at work."""
        return training.run is not None and self.status(training).state == "running"

    def sweep(self) -> None:
        """Remove what nobody has looked at for long; comes again by itself while there are trainings."""
        with self._lock:
            for training in list(self._known.values()):
                self._sweep(training)
            if self._sweeper is not None:
                self._sweeper.cancel()
            self._sweeper = None
            if self._known:
                self._sweeper = threading.Timer(max(1.0, self._keep_seconds / 2), self.sweep)
                self._sweeper.daemon = True
                self._sweeper.start()

    def _sweep(self, training: Training) -> None:
        if self.is_running(training) and not self._ends_unseen:
            training.seen = time.monotonic()
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
        for training in list(self._known.values()):
            if training.run is not None:
                self._runs(training).stop(training.run, kill_after=2.0)

    def _require_idle(self) -> None:
        """Two trainings at once would not fit, nor be faster."""
        if any(self.is_running(training) for training in self._known.values()):
            raise InputError("Another training is under way on this machine. Start again when it has ended.")

    def _runs(self, training: Training) -> Runs:
        return Runs(training.folder / "runs", self._module)


def command_of(training: Training, request: EmotionRequest, mapping: str) -> list[str]:
    """Write a request as what the command line takes."""
    flags = {
        "data": request.data, "output": training.head, "report": training.report, "features-dir": request.features_dir,
        "scheme": request.corpus.scheme, "model": request.embed.model, "device": request.embed.device,
        "engine": request.embed.engine, "precision": request.embed.precision, "head": request.head.head,
        "layer": request.head.layer, "pooling": request.head.pooling, "folds": request.folds, "seed": request.head.seed,
        **({"mapping": mapping} if mapping else {}),
    }  # fmt: skip
    # With a sign of equality, a value that begins with a dash is no flag.
    given = [f"--{name}={value}" for name, value in flags.items()]
    return ["emotion", "train", *given, *(["--skip-missing"] if request.corpus.skip_missing else []), "--json"]


def _begun(training: Training) -> Run:
    if training.run is None:
        raise InputError("No training was started yet. Press “Train”.")
    return training.run
