"""A training from the command line, of any model: who speaks, what is printed, how it ends."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.cli import console

if TYPE_CHECKING:
    from core.arrays import OnProgress
    from core.training.pretrain_settings import PretrainResult

log = logging.getLogger(__name__)


def trained(train: "Callable[[OnProgress], PretrainResult]", *, as_json: bool) -> int:
    """Train, print the checkpoint's folder or the whole result, and return the exit code.

    Of several processes that train together the first speaks.

    Args:
        train: Does it, and tells what it is handed of its progress.
        as_json: Whether to print the result.
    """
    from core import tasks
    from core.arrays import ignore_progress
    from core.embed.team import is_main_process
    from core.records import to_plain
    from core.training.runs import STOPPED

    speaks = is_main_process()
    if not speaks:
        logging.getLogger("core").setLevel(logging.ERROR)  # what the first process says is said once
    result = train(console.progress() if speaks else ignore_progress)
    if not speaks:
        return 0
    if as_json:
        console.emit_json(to_plain(result))
    else:
        console.emit_paths([tasks.trained_checkpoint(result)])
    if result.facts.get("stopped"):
        log.error("Stopped after step %d; --resume goes on with it.", result.step)
        return STOPPED
    return 0
