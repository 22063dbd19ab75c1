"""Files of our own on the MEG floor: there as a whole or not at all."""

import os
import uuid
from pathlib import Path

from core.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it and rename it, so that nobody ever sees a part of it.

    Raises:
        OutputError: the disk is full or cannot be written; an earlier file of that name is as it was.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}. Choose another --output_dir.") from error
    finally:
        partial.unlink(missing_ok=True)
