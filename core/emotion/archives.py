"""Zip archives from strangers: nothing leaves the folder, and what is really written is counted and capped."""

import errno
import lzma
import re
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.embed.recordings import AUDIO_SUFFIXES
from core.errors import DataError, InputError, OutputError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".yaml", ".parquet")
CHUNK = 1 << 20
# Of one part of a path and of the whole below the folder, in bytes: what every file system takes.
LONGEST_PART = 200
LONGEST_PATH = 1_000
# Names that Windows keeps for devices, whatever follows their first dot.
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
JUNK_FOLDER = "__MACOSX"
# Any other method may inflate a small piece into gigabytes at once, before a single byte can be counted.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What reading a damaged or dishonest archive can end in.
BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError),
    *(NotImplementedError, ValueError, struct.error),
)


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold.

    Attributes:
        max_files: Entries of any kind.
        max_bytes: Of all files together, unpacked.
    """

    max_files: int = 20_000
    max_bytes: int = 8 << 30


@dataclass(frozen=True)
class Listing:
    """What an archive says that it holds, checked but not yet believed.

    Attributes:
        wanted: Files to unpack: the entry, and its path below the folder.
        left_out: Names of files that are neither recordings nor tables.
    """

    wanted: tuple[tuple[zipfile.ZipInfo, str], ...]
    left_out: tuple[str, ...]


def is_junk(path: str) -> bool:
    """Whether a path (with forward slashes) is what an operating system left behind: hidden, or macOS's doubles."""
    return any(part.startswith(".") or part == JUNK_FOLDER for part in path.split("/"))


def list_zip(path: Path, limits: ArchiveLimits) -> Listing:
    """Read the table of contents and check every name in it; nothing is written.

    Raises:
        InputError: The file cannot be opened.
        DataError: It is no zip archive, is damaged or encrypted, holds too much, or a name in it would leave the
            folder, or is no name on some system.
    """
    with _opened(path) as archive:
        return _listing(path, archive, limits)


def unpack_zip(path: Path, folder: Path, limits: ArchiveLimits) -> Path:
    """Unpack recordings and tables into a folder that is not there yet, or is empty.

    The folder appears when everything is in it; where something goes wrong, nothing remains. Archives inside the
    archive are not opened.

    Args:
        path: The archive.
        folder: Where its files go.
        limits: How much it may hold.

    Returns:
        The folder, or the one folder that holds all the archive has.

    Raises:
        InputError: The archive cannot be opened, or the folder holds something.
        DataError: As for :func:`list_zip`, or more comes out than the limits allow or the archive says.
        OutputError: The folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is there and not empty; {path.name} is unpacked into a new or an empty folder only."
        )
    with _opened(path) as archive:
        listing = _listing(path, archive, limits)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror}.") from error
        try:
            _write_all(path, archive, listing, fresh, limits)
            _put_in_place(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return top_folder(folder)


def top_folder(folder: Path) -> Path:
    """Go down while a folder holds nothing but one folder."""
    while True:
        inside = [entry for entry in folder.iterdir() if not is_junk(entry.name)]
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].is_symlink():
            return folder
        folder = inside[0]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever its content makes the library raise becomes one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BROKEN as error:
        why = str(error) or type(error).__name__
        raise DataError(f"{path.name} is no zip archive, or it is damaged: {why}. Pack the folder again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _listing(path: Path, archive: zipfile.ZipFile, limits: ArchiveLimits) -> Listing:
    entries = archive.infolist()
    if len(entries) > limits.max_files:
        raise DataError(f"{path.name} holds {len(entries)} files; at most {limits.max_files} are unpacked. Split it.")
    wanted, left_out = [], []
    for entry in entries:
        below = _safe_path(path.name, entry)
        if entry.is_dir() or is_junk(below):
            continue
        if Path(below).suffix.lower() in (*AUDIO_SUFFIXES, *TABLE_SUFFIXES):
            _check_readable(path.name, entry)
            wanted.append((entry, below))
        else:
            left_out.append(below)
    _check_distinct(path.name, [below for _, below in wanted])
    _check_size(path.name, sum(entry.file_size for entry, _ in wanted), limits)
    return Listing(tuple(wanted), tuple(left_out))


def _safe_path(archive: str, entry: zipfile.ZipInfo) -> str:
    r"""Make an entry's name a path below the folder, with forward slashes; ``\`` counts as a slash, as on Windows."""
    # The library cuts a name at a zero byte and keeps the whole of it beside.
    name = entry.orig_filename
    problem = _name_problem(name) or _kind_problem(entry)
    if problem:
        raise DataError(f"{archive} has an entry {name[:200]!r}: {problem}. Nothing of it was unpacked.")
    return "/".join(part for part in re.split(r"[\\/]", name) if part not in ("", "."))


def _name_problem(name: str) -> str:
    """Say why a name cannot be trusted; empty where it can."""
    parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts or not parts:
        return "a path that leaves the folder"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "a name with control characters"
    if any(DEVICES.fullmatch(part) for part in parts):
        return "a name that Windows keeps for a device"
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    too_long = max(sizes) > LONGEST_PART or sum(sizes) + len(sizes) > LONGEST_PATH
    return f"a name of more than {LONGEST_PART} bytes, or a path of more than {LONGEST_PATH}" if too_long else ""


def _kind_problem(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a symbolic link; pack the file itself"
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "neither a file nor a folder"


def _check_readable(archive: str, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & 0x1:
        raise DataError(f"{archive} is encrypted ({entry.filename}). Pack it again without a password.")
    if entry.compress_type not in METHODS:
        raise DataError(
            f"{archive} packs {entry.filename} with method {entry.compress_type}; "
            "expected the ordinary one (deflate) or none. Pack it again."
        )


def _check_distinct(archive: str, paths: Sequence[str]) -> None:
    """Refuse two files that some file system takes for one, and a file that another one has as its folder."""
    seen: dict[str, str] = {}
    for path in paths:
        key = _key(path)
        if key in seen:
            raise DataError(f"{archive} holds both {seen[key]} and {path}, which are one file on some systems.")
        seen[key] = path
    for path in paths:
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            above = seen.get(_key("/".join(parents[:depth])))
            if above:
                raise DataError(f"{archive} holds {above} as a file, and {path} below it.")


def _key(path: str) -> str:
    """What a file system may compare: without case, accents spelt one way, no blanks or dots at a part's end."""
    return "/".join(unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in path.split("/"))


def _check_size(archive: str, size: int, limits: ArchiveLimits) -> None:
    if size > limits.max_bytes:
        raise DataError(f"{archive} unpacks to more than {limits.max_bytes / 2**20:.0f} MiB, the most that is allowed.")


def _write_all(path: Path, archive: zipfile.ZipFile, listing: Listing, folder: Path, limits: ArchiveLimits) -> None:
    left = limits.max_bytes
    for entry, below in listing.wanted:
        target = folder / below
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("xb") as file:
                left -= _copy(source, file, left)
        if left < 0:
            _check_size(path.name, limits.max_bytes - left, limits)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Tell a disk that is full from an archive that cannot be read."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or str(error)
        raise OutputError(f"{target.name} cannot be unpacked to {target.parent}: {why}.") from error


def _copy(source: IO[bytes], file: IO[bytes], most: int) -> int:
    """Copy until the end, or until more than ``most`` bytes were read; returns how many."""
    size = 0
    while size <= most and (chunk := source.read(min(CHUNK, most - size + 1))):
        file.write(chunk)
        size += len(chunk)
    return size


def _put_in_place(fresh: Path, folder: Path) -> None:
    try:
        if folder.is_dir():
            folder.rmdir()
        fresh.chmod(0o755)  # a temporary folder is its owner's alone
        fresh.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error
