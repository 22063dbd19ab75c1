"""What a visitor sees when something fails."""

import functools
import html
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from core.errors import StrataError
from core.ui.sessions import Stopped

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("strata.ui")


def shown_errors(callback: Callable[P, R]) -> Callable[P, R]:
    """Turn what a callback raises into a message on the page: a StrataError into its sentence, a bug into an apology.

    The trace of a bug goes to the server's log; plain exceptions would reach the page as a blank.
    """
    if inspect.isgeneratorfunction(callback):

        @functools.wraps(callback)
        def generated(*args: P.args, **kwargs: P.kwargs) -> Any:
            with _as_messages():
                yield from callback(*args, **kwargs)

        return generated

    @functools.wraps(callback)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _as_messages():
            return callback(*args, **kwargs)

    return wrapped


@contextmanager
def _as_messages() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except Stopped as error:
        raise gr.Error("Stopped.", visible=False, print_exception=False) from error
    except Exception as error:
        raise gr.Error(
            html.escape(explain(error), quote=False), title="It did not work", duration=12, print_exception=False
        ) from error


def explain(error: Exception) -> str:
    """Put an error into a sentence; log the trace where it is a bug."""
    if isinstance(error, Stopped):
        return "Stopped."
    if isinstance(error, StrataError):
        return without_folders(str(error))
    log.error("a callback failed", exc_info=error)
    return (
        f"Something went wrong that should not have: {type(error).__name__}: {without_folders(str(error))[:300]} "
        "The server's log has the details; please report it."
    )


def without_folders(message: str) -> str:
    """Cut the upload folder out of paths: a visitor knows the file by its name."""
    root = re.escape(str(Path(get_upload_folder()).resolve()))
    return re.sub(root + r"/(?:[\w-]+/)*", "", message)
