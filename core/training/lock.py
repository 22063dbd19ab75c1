"""One run at a time in a folder: a lock of the operating system, which ends with the process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import InputError, OutputError

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this thread; whoever holds it may ask again.

    Args:
        folder: Made where it is not there.

    Raises:
        InputError: another process or thread holds it.
        OutputError: it cannot be made or written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.absolute() / NAME, timeout=0, is_singleton=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"Another run is at work in {folder}; expected a folder of its own for each. Wait for its end, stop it, "
            "or name another folder."
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot hold a run ({error.strerror or error}). Choose a folder that can be written."
        ) from error
    try:
        yield
    finally:
        lock.release()
