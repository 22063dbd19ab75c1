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
from typing import TypeVar

from core.errors import InputError

Kept = TypeVar("Kept")


class Stopped(Exception):
    """The visitor stopped the run, or closed the page."""


@dataclass
class Run:
    """One computation that a page asked for in one of its tabs: its folder, and what came of it."""

    id: str
    tab: str
    folder: Path
    begun: float
    stop: threading.Event = field(default_factory=threading.Event)
    problem: str = ""
    _kept: dict[type, object] = field(default_factory=dict)

    def keep(self, result: object) -> None:
        """Keep a result; one of each type."""
        self._kept[type(result)] = result

    def result(self, kind: type[Kept]) -> Kept:
        """Return the result of a type, or raise InputError where there is none."""
        found = self._kept.get(kind)
        if not isinstance(found, kind):
            raise InputError("This run has no result. Start it again.")
        return found


class Sessions:
    """The runs of all open pages.

    A tab's older runs go when it starts a new one, but not before ``keep_seconds``: a program that sends one recording
    after the other still has to fetch the last one's files. For as long, results outlive a page that closed.
    """

    def __init__(self, root: Path, keep_seconds: float = 600) -> None:
        self.root = root
        self._keep_seconds = keep_seconds
        self._runs: dict[str, list[Run]] = {}
        self._caches: dict[str, Path] = {}
        self._leaving: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def start(self, page: str, tab: str) -> Run:
        """Open a fresh folder for a tab of the page."""
        token, now = secrets.token_urlsafe(16), time.monotonic()
        run = Run(token, tab, self.root / token, now)
        run.folder.mkdir(parents=True)
        with self._lock:
            self._stay(page)
            runs = self._runs.get(page, [])
            old = [one for one in runs if one.tab == tab and now - one.begun > self._keep_seconds]
            self._runs[page] = [*(one for one in runs if one not in old), run]
        _drop(old)
        return run

    def get(self, page: str, run_id: str) -> Run:
        """Return one of the page's runs, or raise InputError where it is gone."""
        with self._lock:
            self._stay(page)
            found = [run for run in self._runs.get(page, []) if run.id == run_id]
        if not found:
            raise InputError("This result is no longer kept: the page was closed, or it is too old. Start again.")
        return found[0]

    def current(self, page: str, tab: str) -> Run | None:
        """Return the last run of a tab of the page, if it has one."""
        runs = [run for run in self._runs.get(page, []) if run.tab == tab]
        return runs[-1] if runs else None

    def cache(self, page: str) -> Path:
        """Return the page's own folder for what its next run can use again; it goes with the page."""
        with self._lock:
            folder = self._caches.setdefault(page, self.root / secrets.token_urlsafe(16))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stop(self, page: str, tab: str | None = None) -> None:
        """Ask the runs of a tab of the page, or of all of its tabs, to end at their next report of progress."""
        for run in self._runs.get(page, []):
            if tab in (None, run.tab):
                run.stop.set()

    def leave(self, page: str) -> None:
        """The page closed: end its runs now, and remove their folders after a while, unless the page comes back."""
        self.stop(page)
        timer = threading.Timer(self._keep_seconds, self._remove, [page])
        timer.daemon = True
        with self._lock:
            self._stay(page)
            self._leaving[page] = timer
        timer.start()

    def _remove(self, page: str) -> None:
        with self._lock:
            self._leaving.pop(page, None)
            runs, cache = self._runs.pop(page, []), self._caches.pop(page, None)
        _drop(runs)
        if cache is not None:
            shutil.rmtree(cache, ignore_errors=True)

    def _stay(self, page: str) -> None:
        timer = self._leaving.pop(page, None)
        if timer is not None:
            timer.cancel()


def _drop(runs: Iterable[Run]) -> None:
    for run in runs:
        run.stop.set()
        shutil.rmtree(run.folder, ignore_errors=True)
