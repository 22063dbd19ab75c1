"""``python -m core VERB``: the command line's entry."""

import signal
import sys
from types import FrameType

from core.cli.main import main

# What a shell reports for a program that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM


def _end(_signal: int, _frame: FrameType | None) -> None:
    """End like on Ctrl-C, so that a scheduler's SIGTERM leaves nothing half-written either."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
