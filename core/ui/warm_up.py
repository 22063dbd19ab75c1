"""Import the heavy libraries and load the default model while the visitor looks at the page: a quick first click."""

import importlib
import logging
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core.arrays import EmbedSettings, OutputSettings
from core.ui.theme import ASSETS

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
    """Start importing and rehearsing in the background and return the thread."""
    thread = threading.Thread(target=_warm_up, name="warm-up", daemon=True)
    thread.start()
    return thread


def import_all() -> None:
    """Import the modules, or wait until another thread has: transformers cannot be imported by two threads at once.

    A rehearsal under way is waited for as well: it loads the model that the visitor most likely wants.
    """
    with _ONE_AT_A_TIME:
        _import_modules()


def rehearse() -> None:
    """Embed an example with the default settings, so that the default model lies in memory, compiled."""
    from core import tasks

    with tempfile.TemporaryDirectory() as folder:
        output = OutputSettings(Path(folder), formats=("npy",))
        tasks.embed(ASSETS / "examples" / "two_voices.flac", EmbedSettings(), output)


def _warm_up() -> None:
    with _ONE_AT_A_TIME:
        _import_modules()
        _try("could not rehearse with the default model", rehearse)


def _import_modules() -> None:
    for name in MODULES:
        _try(f"could not import {name} ahead of time", partial(importlib.import_module, name))


def _try(what_failed: str, action: Callable[[], object]) -> None:
    """Do without what fails: whoever needs it says so, in a message for the visitor."""
    try:
        action()
    except Exception:
        logging.getLogger("strata.ui").info(what_failed, exc_info=True)
