"""Training in a process of its own, that whoever started it may leave: a folder for each run, and nothing else.

:class:`Runs` is the side that starts and watches, :class:`RunFolder` the side that works. Between them are files:

- ``process.json``: the command, and the process that works on it;
- ``log.txt``: what it printed;
- ``metrics.jsonl``: a line for each measurement;
- ``progress.json``: how far it is;
- ``exit.json``: how it ended; written by the process itself, so that it is known to an app that was started again;
- ``stopping``: it was asked to stop.

The process is a session of its own, so that it lives on when the app ends. It is told from another one that was given
the same number later by the time at which it began.
"""

import json
import logging
import math
import os
import re
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from core.arrays import Progress
from core.errors import InputError, OutputError

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

STATES = ("running", "finished", "failed", "stopped")
STOPPED = 128 + signal.SIGTERM
"""Exit code of a verb that was asked to stop, has saved what it had, and can go on later."""

PROGRESS_SECONDS = 0.2
"""Least time between two writings of the progress, unless its stage changes or ends."""

# A process's beginning is measured against the time of boot, which a correction of the clock shifts a little.
SAME_START_SECONDS = 5.0
TAIL_BYTES = 16_384
_ID = re.compile(r"[0-9a-f]{32}")
_ROOT = Path(__file__).resolve().parents[2]


class Stopped(Exception):
    """The work was asked to stop; what it had done is kept, and the same command goes on with it."""


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        id: Unguessable, and the folder's name.
        name: What people call it.
        folder: Where all its files are.
        command: What comes after the program; ``--run FOLDER`` is its end.
        created: Seconds since 1970 at which it was first started.
    """

    id: str
    name: str
    folder: Path
    command: tuple[str, ...]
    created: float


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Attributes:
        state: One of STATES.
        exit_code: None while it runs, and where the process was killed and could not say.
        error: The last line it printed, where it failed.
    """

    state: str
    exit_code: int | None = None
    error: str = ""


# ------------------------------------------------------------------------------------------------- who starts it


class Runs:
    """All runs below one folder.

    Args:
        root: Made where it is not there.
        module: What runs the commands, as ``python -m MODULE COMMAND... --run FOLDER``.
    """

    def __init__(self, root: Path, module: str = "core") -> None:
        self.root, self.module = root.absolute(), module
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], name: str) -> Run:
        """Start a command in a process of its own.

        Args:
            command: A verb and its options; ``--run FOLDER`` is added.
            name: What people shall call the run.

        Raises:
            OutputError: the folder cannot be written.
        """
        number = secrets.token_hex(16)
        folder = self.root / number
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(
                f"{self.root} cannot hold runs ({error.strerror}). Choose a folder that can be written."
            ) from error
        run = Run(number, name, folder, (*command, "--run", str(folder)), time.time())
        self._spawn(run, Path.cwd())
        return run

    def get(self, number: str) -> Run:
        """Find a run by its id.

        Raises:
            InputError: there is none.
        """
        content = _read_json(self.root / number / "process.json") if _ID.fullmatch(number) else None
        if content is None:
            raise InputError(f"There is no run {number!r}. It may have been removed; start a new one.")
        return Run(number, content["name"], self.root / number, tuple(content["command"]), content["created"])

    def list(self) -> tuple[Run, ...]:
        """All runs, the newest first."""
        found = [path.parent.name for path in self.root.glob("*/process.json") if _ID.fullmatch(path.parent.name)]
        return tuple(sorted(map(self.get, found), key=lambda run: run.created, reverse=True))

    def status(self, run: Run) -> RunStatus:
        """How the run stands."""
        if _process(run) is not None:
            return RunStatus("running")
        ended = _read_json(run.folder / "exit.json")
        code = ended["code"] if ended else None
        if code == 0:
            return RunStatus("finished", 0)
        if code == STOPPED or (run.folder / "stopping").exists():
            return RunStatus("stopped", code)
        said = (ended or {}).get("error") or _last_line(run.folder / "log.txt") or "The process was killed."
        return RunStatus("failed", code, said)

    def metrics(self, run: Run, since: int = 0) -> Rows:
        """Measurements from number ``since`` on; a line that is only half written comes the next time."""
        return read_metrics(run.folder / "metrics.jsonl")[since:]

    def progress(self, run: Run) -> Progress | None:
        """How far it is; None before it says anything."""
        content = _read_json(run.folder / "progress.json")
        return None if content is None else Progress(**content)

    def log(self, run: Run) -> str:
        """The end of what it printed."""
        return _tail(run.folder / "log.txt")

    def stop(self, run: Run, kill_after: float | None = None) -> None:
        """Ask the run to save what it has and to end.

        Args:
            run: Nothing happens where it has ended.
            kill_after: Seconds to wait for its end before it is killed; None only asks, and does not wait.
        """
        process = _process(run)
        if process is None:
            return
        (run.folder / "stopping").touch()
        _signal(process.pid, signal.SIGTERM)
        if kill_after is None:
            return
        end = time.monotonic() + kill_after
        while _process(run) is not None and time.monotonic() < end:
            time.sleep(0.02)
        if _process(run) is not None:
            _signal(process.pid, signal.SIGKILL, group=True)

    def resume(self, run: Run) -> None:
        """Give the same command again; it goes on with what the folder holds.

        Raises:
            InputError: it runs.
        """
        with self._lock:
            if _process(run) is not None:
                raise InputError(f"The run {run.name!r} is at work already. Wait for its end, or stop it first.")
            before = _read_json(run.folder / "process.json") or {}
            for name in ("exit.json", "stopping"):
                (run.folder / name).unlink(missing_ok=True)
            self._spawn(run, Path(before.get("cwd", Path.cwd())))

    def remove(self, run: Run) -> None:
        """Delete the run's folder with all that is in it.

        Raises:
            InputError: it runs.
        """
        if _process(run) is not None:
            raise InputError(f"The run {run.name!r} is at work. Stop it before you remove it.")
        shutil.rmtree(run.folder, ignore_errors=True)

    def _spawn(self, run: Run, cwd: Path) -> None:
        """Start the process, and note which one it is."""
        import psutil

        program = (sys.executable, "-m", __name__, str(run.folder), self.module, *run.command)
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        with (run.folder / "log.txt").open("ab") as output:
            child = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
                env=environ,
            )
        began = psutil.Process(child.pid).create_time()  # it is there, as a zombie at least: nobody has waited for it
        # Someone has to wait for a child's end, or it stays in the table of processes.
        threading.Thread(target=child.wait, name=f"wait for {run.id[:8]}", daemon=True).start()
        who = {"pid": child.pid, "began": began, "cwd": str(cwd)}
        _write_json(
            run.folder / "process.json", {"name": run.name, "command": run.command, "created": run.created} | who
        )


def _process(run: Run) -> Any:
    """The process of a run as psutil sees it; None where it has ended."""
    import psutil

    content = _read_json(run.folder / "process.json")
    if content is None:
        return None
    try:
        process = psutil.Process(content["pid"])
        same = abs(process.create_time() - content["began"]) < SAME_START_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _signal(pid: int, number: int, *, group: bool = False) -> None:
    """Send a signal to a process, or to it and all it has started; one that has ended is left in peace."""
    try:
        (os.killpg if group else os.kill)(pid, number)
    except ProcessLookupError:
        log.info("Process %d had ended before signal %d.", pid, number)


def read_metrics(path: Path) -> Rows:
    """Read a file of one JSON object a line; what is no whole line of that kind is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [row for line in lines if line.endswith("\n") and (row := _parse(line)) is not None]


def _parse(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file or it is not whole."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write so that a reader finds the old content or the new, never a part."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


def _tail(path: Path) -> str:
    """The last lines of a text file; empty where there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _last_line(path: Path) -> str:
    """The last line that says something; a progress bar's lines end with a carriage return."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _tail(path)) if line.strip()]
    return lines[-1] if lines else ""


# ------------------------------------------------------------------------------------------------------ who works


@contextmanager
def stop_requests(stop_file: Path) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or SIGINT came or ``stop_file`` exists; an old file is removed."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    stop_file.unlink(missing_ok=True)
    previous = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received) or stop_file.exists()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class RunFolder:
    """The side of a run that works: whoever does the training tells here how it goes.

    It needs no :class:`Runs`: the same folder serves a command that a person gave.

    Args:
        path: Made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._metrics = path / "metrics.jsonl"
        _drop_half_line(self._metrics)
        self._told: Progress | None = None
        self._told_at = -math.inf

    def log(self, metrics: dict[str, Any]) -> None:
        """Append a line of measurements; a number that is not finite becomes null, which every reader knows."""
        row = {name: None if _is_not_finite(value) else value for name, value in metrics.items()}
        with self._metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    def metrics(self) -> Rows:
        """What was logged so far, by this process and by earlier ones."""
        return read_metrics(self._metrics)

    def progress(self, progress: Progress) -> None:
        """Tell how far it is; most reports in quick succession are not written."""
        before, now = self._told, time.monotonic()
        news = before is None or progress.stage != before.stage or progress.done >= progress.total
        if news or now - self._told_at >= PROGRESS_SECONDS:
            _write_json(self.path / "progress.json", asdict(progress))
            self._told, self._told_at = progress, now

    @contextmanager
    def stop_requests(self) -> Iterator[Callable[[], bool]]:
        """Give a function that tells whether to stop: SIGTERM, SIGINT, or a file ``stop`` in the folder."""
        with stop_requests(self.path / "stop") as should_stop:
            yield should_stop

    def finish(self, code: int, error: str = "") -> None:
        """Note how the process ended; ``STOPPED`` for one that was asked to stop and can go on."""
        _write_json(self.path / "exit.json", {"code": code, "error": error})


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _drop_half_line(path: Path) -> None:
    """Cut off what a killed process left of its last line: the next one would be appended to it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def work(folder: Path, module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m module`` in this process, and leave its exit code in the folder, whatever happens."""
    run, code, error = RunFolder(folder), 1, ""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code, error = _exit_code(end)
    except Stopped:
        code = STOPPED
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise
    finally:
        run.finish(code, error)
    return code


def _exit_code(end: SystemExit) -> tuple[int, str]:
    """What the interpreter makes of an exit: a number, nothing for success, or a text that is a failure."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0, ""
    print(end.code, file=sys.stderr)
    return 1, str(end.code)


if __name__ == "__main__":
    from core.training import runs  # what is raised as its ``Stopped`` is not this module's, which is ``__main__``

    sys.exit(runs.work(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
