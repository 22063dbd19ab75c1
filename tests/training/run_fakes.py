"""A small verb for tests of runs: counts, and goes on where it was. ``python -m tests.training.run_fakes N HOW``."""

import sys
import time
from pathlib import Path

from core.arrays import Progress
from core.training.runs import RunFolder, Stopped

LIMIT_SECONDS = 30.0  # a test that fails leaves nothing behind for long


def count(run: RunFolder, last: int, how: str) -> None:
    """Log the numbers from where it was up to ``last``; with ``wait`` only as long as a file ``go`` is not there."""
    end = time.monotonic() + LIMIT_SECONDS
    with run.stop_requests() as should_stop:
        for number in range(len(run.metrics()), last):
            run.log({"number": number, "loss": float("nan") if number == 1 else 1 / (number + 1)})
            run.progress(Progress("count", number + 1, last, "numbers"))
            while how == "wait" and number == 2 and not (run.path / "go").exists() and time.monotonic() < end:
                if should_stop():
                    raise Stopped
                time.sleep(0.01)


def main() -> None:
    """Read the command line."""
    last, how, flag, folder = sys.argv[1:]
    assert flag == "--run"
    if how == "refuse":
        print("Got nothing; expected something. Give something.", file=sys.stderr)
        sys.exit(2)
    if how == "raise":
        raise RuntimeError("no such luck")
    count(RunFolder(Path(folder)), int(last), how)


if __name__ == "__main__":
    main()
