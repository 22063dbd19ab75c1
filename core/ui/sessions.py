"""Where the app keeps what a visitor computed: one private folder a page, gone when the page is.

Pages are told apart by the hash that Gradio gives each one. The client chooses that hash, so it is only ever a key,
never part of a path; the folders have names of our own that cannot be guessed, because whoever knows a path may fetch
it.
"""

import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from core.analysis.views import SignalView
from core.arrays import EmbedResult
from core.errors import InputError


class Stopped(Exception):
    """The visitor stopped the run, or closed the page."""


@dataclass
class Run:
    """One embedding that a page asked for: its folder, and what came of it."""

    id: str
    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    result: EmbedResult | None = None
    signal: SignalView | None = None
    problem: str = ""


class Sessions:
    """The runs of all open pages, one a page: a new run replaces the page's last."""

    def __init__(self, root: Path, keep_seconds: float = 600) -> None:
        self._root = root
        self._keep_seconds = keep_seconds
        self._runs: dict[str, Run] = {}
        self._leaving: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def start(self, session: str) -> Run:
        """Open a fresh folder for the page and drop its last run."""
        token = secrets.token_urlsafe(16)
        run = Run(token, self._root / token)
        run.folder.mkdir(parents=True)
        with self._lock:
            self._stay(session)
            last = self._runs.get(session)
            self._runs[session] = run
        _drop(last)
        return run

    def get(self, session: str, run_id: str) -> Run:
        """Return the page's run, or raise InputError where it is gone."""
        with self._lock:
            self._stay(session)
            run = self._runs.get(session)
        if run is None or run.id != run_id:
            raise InputError(
                "This result is no longer kept: the page was closed or another run replaced it. Embed again."
            )
        return run

    def current(self, session: str) -> Run | None:
        """Return the page's run, if it has one."""
        return self._runs.get(session)

    def stop(self, session: str) -> None:
        """Ask the page's run to end at its next report of progress."""
        run = self._runs.get(session)
        if run is not None:
            run.stop.set()

    def leave(self, session: str) -> None:
        """The page closed: end its run now, and remove its folder after a while, unless the page comes back."""
        self.stop(session)
        timer = threading.Timer(self._keep_seconds, self._remove, [session])
        timer.daemon = True
        with self._lock:
            self._stay(session)
            self._leaving[session] = timer
        timer.start()

    def _remove(self, session: str) -> None:
        with self._lock:
            self._leaving.pop(session, None)
            run = self._runs.pop(session, None)
        _drop(run)

    def _stay(self, session: str) -> None:
        timer = self._leaving.pop(session, None)
        if timer is not None:
            timer.cancel()


def _drop(run: Run | None) -> None:
    if run is not None:
        run.stop.set()
        shutil.rmtree(run.folder, ignore_errors=True)
