"""What has to be set before Gradio and torch are imported, which read some of it at that moment."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading

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
            # So that stopping the server by a signal cleans up as Ctrl-C does.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
