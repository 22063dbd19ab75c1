"""The files that make up one MEG recording, and one hash of all of them."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from core.meg.reader import bti_parts

_BIDS_SPLIT = re.compile(r"_split-(\d+)_")


def recording_files(path: Path) -> tuple[Path, ...]:
    """List all files whose content a recording is read from.

    A CTF ``.ds`` is a folder; MNE writes long ``.fif`` files in parts (``a.fif``, ``a-1.fif``, or BIDS's
    ``a_split-01_meg.fif``); BTi has its configuration and head shape beside it, ``.npy`` a ``.json``.
    """
    bti = bti_parts(path)
    if bti is not None:
        return tuple(part for part in bti if part is not None)
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    beside = (file for file in _beside(path) if file != path and file.is_file())
    return (path, *dict.fromkeys(beside))


def hash_recording(path: Path) -> str:
    """SHA-256 of a recording: of its bytes where it is one file, else of the names and hashes of all its files.

    Raises:
        OSError: a file cannot be read.
    """
    files = recording_files(path)
    if files == (path,):
        return _hash_file(path)
    digest = hashlib.sha256()
    for file in files:
        # The recording's own name does not count: the same one elsewhere is the same.
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name.removeprefix(path.stem)
        digest.update(f"{name}\0{_hash_file(file)}\n".encode())
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of all files of a recording.

    Raises:
        OSError: a file cannot be looked at.
    """
    return sum(file.stat().st_size for file in recording_files(path))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Iterator[Path]:
    """Paths of files that may belong to a recording."""
    if path.name.lower().endswith((".fif", ".fif.gz")):
        yield from _parts(path)
    elif path.suffix.lower() == ".npy":
        yield path.with_suffix(".json")


def _parts(path: Path) -> Iterator[Path]:
    """Further parts of a split ``.fif``, in order, as far as they are there without a gap."""
    stem, dot, suffixes = path.name.partition(".fif")
    split = _BIDS_SPLIT.search(path.name)
    number = int(split[1]) if split else 0
    while True:
        number += 1
        name = f"{stem}-{number}{dot}{suffixes}"
        if split:
            name = path.name.replace(split[0], f"_split-{number:0{len(split[1])}d}_")
        part = path.with_name(name)
        if not part.is_file():
            return
        yield part
