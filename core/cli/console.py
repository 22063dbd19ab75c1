"""What the command line says and where: results on stdout, log and progress on stderr."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.device import sanitise_threads
from core.errors import OutputError

if TYPE_CHECKING:
    from tqdm import tqdm

    from core.arrays import OnProgress, Progress

log = logging.getLogger(__name__)

# Stage that counts a corpus's recordings; its bar stays while the bars of each recording come and go below it.
OUTER_STAGE = "files"
# Without a terminal: a line this often in percent or in seconds, but none sooner than that after the last.
STEP_PERCENT = 10
STEP_SECONDS = 30.0
QUIET_SECONDS = 2.0
# Columns of a bar on a terminal that does not say how wide it is.
WIDTH = 80


class StderrHandler(logging.Handler):
    """Writes plain lines to stderr, above the progress bars where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if sys.stderr is None:
            return
        try:
            mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
            line = mark + self.format(record)
            bars = sys.modules.get("tqdm")
            if bars is not None:
                bars.tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr)
        except Exception:
            self.handleError(record)


def configure(debug: bool) -> None:
    """Set up logging and quieten third parties; the only place where the command line does either."""
    logging.basicConfig(
        handlers=[StderrHandler()], level=logging.INFO if debug else logging.ERROR, format="%(message)s"
    )
    logging.getLogger("core").setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
    sanitise_threads(os.environ)


# ---- results ----


def emit(content: bytes) -> None:
    """Write the result to stdout; a reader that has gone (``| head``), or a closed stdout, is no error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"The results are written, but stdout takes no text: {error.strerror}.") from error


def emit_paths(paths: Iterable[Path | str]) -> None:
    """Write paths, one a line, in the file system's own bytes."""
    emit(b"".join(os.fsencode(path) + b"\n" for path in paths))


def emit_json(content: Mapping[str, Any]) -> None:
    """Write one JSON object, as strict as the files'."""
    from core.embed.formats import json_bytes

    emit(json_bytes(content))


# ---- progress ----


def progress() -> "OnProgress":
    """Choose bars on a terminal and plain lines elsewhere."""
    return Bars() if sys.stderr is not None and sys.stderr.isatty() else Lines()


def _columns() -> int:
    """Width of the terminal; 0 where it does not say (a container's), for which tqdm would draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


class Bars:
    """tqdm's bars with the time left: one for a corpus, and below it one for what is being done now."""

    def __init__(self) -> None:
        self.outer: tqdm | None = None
        self.inner: tqdm | None = None
        self.stage = ""

    def __call__(self, report: "Progress") -> None:
        """Move the bar of the report's stage."""
        if report.stage == OUTER_STAGE:
            self.outer = self._moved(self.outer or self._new(report, 0), report)
            return
        if self.inner is None or report.stage != self.stage:
            self._close_inner()
            self.inner, self.stage = self._new(report, int(self.outer is not None)), report.stage
        self._moved(self.inner, report)
        if report.done >= report.total:
            self._close_inner()

    def _close_inner(self) -> None:
        if self.inner is not None:
            self.inner.close()
        self.inner = None

    def _new(self, report: "Progress", position: int) -> "tqdm":
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f} %|{bar}| {n:.0f}/{total:.0f} {unit}, {remaining} left"
        return tqdm(
            total=report.total,
            desc=report.stage,
            unit=report.unit,
            position=position,
            bar_format=form,
            leave=report.stage == OUTER_STAGE,
            file=sys.stderr,
            dynamic_ncols=_columns() > 0,
            ncols=None if _columns() > 0 else WIDTH,
        )

    def _moved(self, bar: "tqdm", report: "Progress") -> "tqdm":
        bar.total = report.total
        bar.update(report.done - bar.n)
        if report.stage == OUTER_STAGE and report.done >= report.total:
            self._close_inner()
            bar.close()
        return bar


class Lines:
    """Plain lines for logs: one every tenth or half minute, with the time left; a stage of seconds needs none."""

    def __init__(self) -> None:
        self.stage = ""
        self.began = self.said = 0.0
        self.first = self.percent = 0.0

    def __call__(self, report: "Progress") -> None:
        """Write a line where enough has happened since the last; a stage of one step has nothing to count."""
        if report.total == 1:
            return
        now = monotonic()
        percent = 100 * report.done / report.total if report.total else 100.0
        if report.stage != self.stage or percent < self.percent:
            self.stage, self.began, self.said = report.stage, now, now
            self.first = self.percent = percent
        since = now - self.said
        if (since >= QUIET_SECONDS and percent >= self.percent + STEP_PERCENT) or since >= STEP_SECONDS:
            self.percent, self.said = percent, now
            log.info("%s", self._line(report, percent, now - self.began))

    def _line(self, report: "Progress", percent: float, elapsed: float) -> str:
        line = f"{report.stage}: {percent:.0f} % ({report.done:.0f} of {report.total:.0f} {report.unit})"
        if percent <= self.first:
            return line
        left = round(elapsed * (100 - percent) / (percent - self.first))
        return f"{line}, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
