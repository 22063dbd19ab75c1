"""Import the heavy libraries while the visitor looks at the page, so that the first click is quick."""

import importlib
import logging
import threading

MODULES = (
    "scipy.sparse.linalg",
    "scipy.cluster.hierarchy",
    "scipy.fft",
    "soundfile",
    "torch",
    "transformers",
    "transformers.audio_utils",
    "openvino",
    "scipy.io",
)
"""In the order in which a first run meets them; what is not installed is left out."""

_ONE_AT_A_TIME = threading.Lock()


def warm_up() -> threading.Thread:
    """Start importing in the background and return the thread."""
    thread = threading.Thread(target=import_all, name="warm-up", daemon=True)
    thread.start()
    return thread


def import_all() -> None:
    """Import the modules, or wait until another thread has: transformers cannot be imported by two threads at once."""
    with _ONE_AT_A_TIME:
        for name in MODULES:
            try:
                importlib.import_module(name)
            except Exception:
                # Whoever needs it says so, in a message for the visitor.
                logging.getLogger("strata.ui").info("could not import %s ahead of time", name, exc_info=True)
