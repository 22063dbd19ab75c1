"""Files of the MEG floor: what is in them as a hash, and writing them whole or not at all."""

import hashlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from core.errors import OutputError

_BLOCK = 1 << 20


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the bytes of one or several files in the order given; of folders with all files in them, by name."""
    digest = hashlib.sha256()
    for path in paths:
        inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for one in inside:
            with one.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()


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
