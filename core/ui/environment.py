"""What has to be set before Gradio and torch are imported, which read some of it at that moment."""

import atexit
import os
import shutil
import signal
import tempfile
import threading
from functools import partial
from types import FrameType

from core.device import sanitise_threads


def prepare() -> None:
    """Silence Gradio's requests to other machines, and keep uploads and results in a folder of this user's own.

    Thread counts that are none are removed, with a warning.

    Gradio's default, ``/tmp/gradio``, is shared by all users of a machine and outlives the server. Ours can be read by
    this user only and goes with the process. A folder that GRADIO_TEMP_DIR already names is left to its owner.
    """
    sanitise_threads(os.environ)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if not os.environ.get("GRADIO_TEMP_DIR"):
        folder = tempfile.mkdtemp(prefix="strata-")
        os.environ["GRADIO_TEMP_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, partial(_remove_and_die, folder, os.getpid()))


def _remove_and_die(folder: str, owner: int, number: int, _: FrameType | None) -> None:
    """Clean up, then die of the signal as if it had not been caught: at once, whatever a model is computing."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
