"""Where the app keeps what a visitor computed: one private folder a page, gone when the page is.

Pages are told apart by the hash that Gradio gives each one. The client chooses that hash, so it is only ever a key,
never part of a path; the folders have names of our own that cannot be guessed, because whoever knows a path may fetch
it.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Iterable
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
    begun: float
    stop: threading.Event = field(default_factory=threading.Event)
    result: EmbedResult | None = None
    signal: SignalView | None = None
    problem: str = ""


class Sessions:
    """The runs of all open pages.

    A page's older runs go when it starts a new one, but not before ``keep_seconds``: a program that sends one recording
    after the other still has to fetch the last one's files. For as long, results outlive a page that closed.
    """

    def __init__(self, root: Path, keep_seconds: float = 600) -> None:
        self.root = root
        self._keep_seconds = keep_seconds
        self._runs: dict[str, list[Run]] = {}
        self._leaving: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def start(self, session: str) -> Run:
        """Open a fresh folder for the page."""
        token, now = secrets.token_urlsafe(16), time.monotonic()
        run = Run(token, self.root / token, now)
        run.folder.mkdir(parents=True)
        with self._lock:
            self._stay(session)
            runs = self._runs.get(session, [])
            old = [earlier for earlier in runs if now - earlier.begun > self._keep_seconds]
            self._runs[session] = [*(earlier for earlier in runs if earlier not in old), run]
        _drop(old)
        return run

    def get(self, session: str, run_id: str) -> Run:
        """Return one of the page's runs, or raise InputError where it is gone."""
        with self._lock:
            self._stay(session)
            found = [run for run in self._runs.get(session, []) if run.id == run_id]
        if not found:
            raise InputError("This result is no longer kept: the page was closed, or it is too old. Embed again.")
        return found[0]

    def current(self, session: str) -> Run | None:
        """Return the page's last run, if it has one."""
        runs = self._runs.get(session)
        return runs[-1] if runs else None

    def stop(self, session: str) -> None:
        """Ask the page's runs to end at their next report of progress."""
        for run in self._runs.get(session, []):
            run.stop.set()

    def leave(self, session: str) -> None:
        """The page closed: end its runs now, and remove their folders after a while, unless the page comes back."""
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
            runs = self._runs.pop(session, [])
        _drop(runs)

    def _stay(self, session: str) -> None:
        timer = self._leaving.pop(session, None)
        if timer is not None:
            timer.cancel()


def _drop(runs: Iterable[Run]) -> None:
    for run in runs:
        run.stop.set()
        shutil.rmtree(run.folder, ignore_errors=True)
