"""Ask a server for something, and never wait longer than a few seconds for an answer."""

import threading
from collections.abc import Callable
from typing import TypeVar

# One request may take this long; and all of an answer, a name server's silence included, this long.
REQUEST_SECONDS = 4.0
_ANSWER_SECONDS = 6.0
_HTTP_LIBRARIES = ("httpx2", "httpcore2", "httpx", "httpcore", "requests", "urllib3")

Answer = TypeVar("Answer")


def ask(question: Callable[[], Answer]) -> Answer:
    """Ask a server, and give up in a few seconds whatever hangs: the connection, its answer or the name server.

    Raises:
        TimeoutError: there was no answer in time. Errors of the question itself come through.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(question())
        except Exception as error:  # handed on to the caller
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="strata-ask-hub")
    thread.start()
    thread.join(_ANSWER_SECONDS)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer in {_ANSWER_SECONDS:g} s")
    return answers[0]


def is_network(error: BaseException) -> bool:
    """Whether an error came from the way to a server or the disk (the HTTP client's types change between releases)."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in _HTTP_LIBRARIES
