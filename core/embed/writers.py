"""Write embeddings to disk in several formats: in constant memory, under a temporary name, renamed at the end.

The blocks are spooled into the ``.npy`` as they come; every other format is derived from it, block by block. Nothing
has its final name before everything is on disk, and the ``.json`` comes last: where it lies, the rest is complete.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.arrays import EmbeddingInfo, OnProgress, OutputSettings, Progress, ignore_progress
from core.embed.formats import complete_metadata, json_bytes, parquet_bytes, write_npz, write_parquet
from core.embed.mat5 import SMALL_BYTES, mat_note, mat_problem, write_mat
from core.embed.spool import HEADER_BYTES, Spool, array_bytes
from core.errors import InputError, MissingPackage, OutputError

log = logging.getLogger(__name__)

FORMATS = ("npy", "mat", "json", "npz", "parquet")
FAILED = ".mat.failed"
# What a file system's name may have, in bytes (ext4, APFS, NTFS alike), and the longest suffix appended to a base.
NAME_BYTES = 255
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DERIVED: dict[str, Callable[[BinaryIO, Spool], None]] = {"mat": write_mat, "npz": write_npz, "parquet": write_parquet}


def output_path(output: OutputSettings, base: str, suffix: str) -> Path:
    """Append a format's suffix to the base name: ``run.v1`` becomes ``run.v1.npy``, never ``run.npy``."""
    return output.folder / f"{base}.{suffix}"


def check_target(output: OutputSettings, base: str, size: EmbeddingInfo | int | None = None) -> list[str]:
    """Find out before any model runs whether the results can be written.

    Args:
        output: Folder, formats and whether files may be replaced.
        base: Name without suffix.
        size: What will be written, the bytes of its float32 values, or None where it is not known yet.

    Returns:
        What the user should know before the run: formats that this size will not fit.

    Raises:
        InputError: Unknown format, or a base name that is no file name.
        MissingPackage: A format needs a package that is not installed.
        OutputError: Folder not writable, files already there, too little disk, or nothing could be written.
    """
    check_formats(output.formats)
    check_base(base)
    check_folder(output.folder)
    _check_existing(output, base)
    if size is None:
        return []
    _check_space(output, size)
    return _size_notes(output, size)


def check_formats(formats: Iterable[str]) -> None:
    """Refuse unknown formats, an empty list, and a format whose package is missing."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not set(formats):
        raise InputError(f"Got {', '.join(unknown) or 'no format'}; the formats are {', '.join(FORMATS)}.")
    if "parquet" in formats and not _installed("pyarrow"):
        raise MissingPackage("The .parquet format needs pyarrow, which is not installed: pip install pyarrow.")


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def check_base(base: str) -> None:
    """Refuse a base name that is empty, would leave the folder, or is too long for a file name."""
    separators = {"/", os.sep, os.altsep or os.sep, "\0"}
    if base in ("", ".", "..") or any(mark in base for mark in separators):
        raise InputError(f"Got the output base name {base!r}; expected a file name without folders. Set --output-base.")
    if len(os.fsencode(base + FAILED)) > NAME_BYTES:
        raise InputError(
            f"The output base name has {len(os.fsencode(base))} bytes; a file name holds {NAME_BYTES} with its suffix. "
            "Set a shorter one with --output-base."
        )


def check_folder(folder: Path) -> None:
    """Try to write into the folder, or into the closest parent that exists: permissions alone do not tell."""
    parent = next((path for path in (folder, *folder.absolute().parents) if _exists(path)), folder)
    if not parent.is_dir():
        raise OutputError(f"Cannot make the output folder {folder}: {parent} is a file. Choose another --output.")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(f"Cannot write into {parent}: {error.strerror}. Choose another --output.") from error


def _exists(path: Path) -> bool:
    """Whether something is there; a path below a file counts as not there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OutputError(f"Cannot look at {path}: {error.strerror}. Choose another --output.") from error
    return True


def _check_existing(output: OutputSettings, base: str) -> None:
    """Refuse to replace files without ``force``, and a folder in a file's place with it."""
    paths = [output_path(output, base, suffix) for suffix in output.formats]
    there = [path for path in (*paths, *_stale_json(output, base)) if _exists(path)]
    if there and not output.force:
        names = ", ".join(path.name for path in there)
        raise OutputError(f"{output.folder} already holds {names}. Use --force to replace, or another --output-base.")
    folders = [path for path in there if path.is_dir()]
    if folders:
        raise OutputError(f"{folders[0]} is a folder; a file of that name is to be written. Use another --output-base.")


def _stale_json(output: OutputSettings, base: str) -> list[Path]:
    """The ``.json`` of an earlier run, where files that it describes are written now and it is not.

    Left there it would tell of other values, and a corpus would take them for its own.
    """
    path = output_path(output, base, "json")
    try:
        described = set() if "json" in output.formats else set(json.loads(path.read_bytes())["paths"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
        return []
    return [path] if described & set(output.formats) else []


def needed_bytes(output: OutputSettings, size: EmbeddingInfo | int) -> int:
    """Bytes that all formats take together at the end of the run; the spool is the ``.npy`` itself."""
    values = size if isinstance(size, int) else array_bytes(size)
    total = values + HEADER_BYTES
    if "mat" in output.formats and (isinstance(size, int) or mat_problem(size) is None):
        total += values + SMALL_BYTES + (0 if isinstance(size, int) else 16 * size.n_frames)
    if "npz" in output.formats:
        total += values + SMALL_BYTES
    if "parquet" in output.formats:
        total += values if isinstance(size, int) else parquet_bytes(size)
    return total


def _check_space(output: OutputSettings, size: EmbeddingInfo | int) -> None:
    needed, free = needed_bytes(output, size), _free_bytes(output.folder)
    if needed > free:
        raise OutputError(
            f"The results need {_readable(needed)} in {output.folder}; {_readable(free)} are free. "
            "Free some space, choose another --output, or ask for fewer --formats or --layers."
        )


def _free_bytes(folder: Path) -> int:
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(parent).free


def _readable(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"


def _size_notes(output: OutputSettings, size: EmbeddingInfo | int) -> list[str]:
    """What of the formats will not fit; an error where nothing else was asked for."""
    if "mat" not in output.formats or isinstance(size, int):
        return []
    problem = mat_problem(size)
    if problem and not _array_formats(output) - {"mat"}:
        raise OutputError(f"{problem} No other format was asked for: add npy to --formats.")
    note = mat_note(size)
    return [text for text in (f"No .mat will be written. {problem}" if problem else None, note) if text]


def _array_formats(output: OutputSettings) -> set[str]:
    return set(output.formats) - {"json"}


class _Parts:
    """Files under temporary names in the target folder; those left when the block ends are removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}

    def __enter__(self) -> "_Parts":
        _remove_leftovers(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self.paths.values():
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def open(self, suffix: str) -> Iterator[BinaryIO]:
        """Make a part and see it onto the disk at the end; hidden, so that no listing takes it for a result."""
        self.paths[suffix] = self.folder / f".strata-{_process_mark()}-{uuid.uuid4().hex}.{suffix}.part"
        file = self.paths[suffix].open("xb+")
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # closing flushes once more, and fails once more on a full disk
                file.close()
            raise
        file.close()

    def drop(self, suffix: str) -> None:
        """Remove a part that came to nothing."""
        self.paths.pop(suffix).unlink(missing_ok=True)


def _host_mark() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _process_mark() -> str:
    """Name the process that writes: a folder may be shared by machines."""
    return f"{_host_mark()}-{os.getpid()}"


def _remove_leftovers(folder: Path) -> None:
    """Remove the parts of this machine's processes that were killed: a long recording's take gigabytes."""
    if os.name != "posix":  # elsewhere signal 0 is no question but a real signal
        return
    for path in folder.glob(f".strata-{_host_mark()}-*.part"):
        number = path.name.split("-")[2]
        if number.isdecimal() and not _is_running(int(number)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


class _OutsideError(Exception):
    """Carries an OSError of the blocks (a recording that cannot be read) past the words for a failing disk."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _from_outside(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    try:
        yield from blocks
    except OSError as error:
        raise _OutsideError(error) from error


@contextlib.contextmanager
def _disk_errors(output: OutputSettings, size: EmbeddingInfo) -> Iterator[None]:
    """Say a failing disk in one sentence."""
    try:
        yield
    except _OutsideError as wrapped:
        raise wrapped.error from wrapped.error.__cause__
    except OSError as error:
        free, needed = _readable(_free_bytes(output.folder)), _readable(needed_bytes(output, size))
        reason = error.strerror or str(error)
        room = f" {needed} are needed, {free} are free." if error.errno in DISK_FULL else ""
        raise OutputError(
            f"Cannot write into {output.folder}: {reason}.{room} Nothing of this run was kept."
        ) from error


def write_embeddings(
    blocks: Iterable[np.ndarray],
    info: EmbeddingInfo,
    output: OutputSettings,
    base: str,
    on_progress: OnProgress = ignore_progress,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write all formats in constant memory, all or nothing.

    ``info.metadata`` is read after the last block, so that what is known only then (warnings, seconds) is in it.

    Args:
        blocks: (n_layers, k, dim) float32 in frame order; their k add up to ``info.n_frames``.
        info: What the embeddings are.
        output: Folder, formats, and whether files may be replaced.
        base: Name without suffix.
        on_progress: Told which format is being written.

    Returns:
        Files by format, and the reason by format for those that could not be written.

    Raises:
        OutputError: Nothing was written, and what was there before is as it was.
    """
    for note in check_target(output, base, info):
        log.warning("%s", note)
    with _disk_errors(output, info):
        output.folder.mkdir(parents=True, exist_ok=True)
    with _Parts(output.folder) as parts:
        problems = _write_arrays(parts, blocks, info, output, on_progress)
        files = {name: output_path(output, base, name) for name in output.formats if name not in problems}
        with _disk_errors(output, info):
            _finish(parts, info, output, base, files, problems)
    if not files.keys() & _array_formats(output) and _array_formats(output):
        raise OutputError(f"No embeddings were written: {' '.join(problems.values())}")
    return files, problems


def _write_arrays(
    parts: _Parts, blocks: Iterable[np.ndarray], info: EmbeddingInfo, output: OutputSettings, on_progress: OnProgress
) -> dict[str, str]:
    """Spool the blocks, derive the other formats, and return what went wrong with them."""
    problems: dict[str, str] = {}
    with _disk_errors(output, info), parts.open("npy") as file:
        spool = Spool(file, info)
        for block in _from_outside(blocks):
            spool.append(block)
        spool.finish()
        wanted = [name for name in DERIVED if name in output.formats]
        for index, name in enumerate(wanted):
            on_progress(Progress(f"writing .{name}", index, len(wanted), "formats"))
            _derive(parts, name, spool, problems)
    if "npy" not in output.formats:
        parts.drop("npy")
    return problems


def _derive(parts: _Parts, name: str, spool: Spool, problems: dict[str, str]) -> None:
    """Write one format from the spool; its failure is noted and the others go on, but a full disk ends everything."""
    problem = mat_problem(spool.info) if name == "mat" else None
    if problem is None:
        try:
            with parts.open(name) as file:
                DERIVED[name](file, spool)
            return
        except Exception as error:  # the document: whatever goes wrong with one format, the others are kept
            _raise_disk_error(error)
            log.debug("writing .%s failed", name, exc_info=True)
            parts.drop(name)
            problem = f"{type(error).__name__}: {error}"
    problems[name] = problem


def _raise_disk_error(error: BaseException | None) -> None:
    """Raise the OSError behind an error, if any: a library that cleans up on a full disk may hide it behind its own."""
    while error is not None:
        if isinstance(error, OSError):
            raise error
        error = error.__cause__ or error.__context__


def _finish(
    parts: _Parts,
    info: EmbeddingInfo,
    output: OutputSettings,
    base: str,
    files: Mapping[str, Path],
    problems: Mapping[str, str],
) -> None:
    """Write the small files, then give everything its final name, the ``.json`` last."""
    final = {name: path for name, path in files.items() if name != "json"}
    if "mat" in problems:
        text = f"The .mat file was not written. {problems['mat']}\n"
        with parts.open(FAILED) as file:
            file.write(text.encode("utf-8", "replace"))
        final[FAILED] = output.folder / (base + FAILED)
    if "json" in files:
        content = json_bytes(complete_metadata(info, files, problems))
        with parts.open("json") as file:
            file.write(content)
        final["json"] = files["json"]
    _check_existing(output, base)  # someone else may have written meanwhile
    _commit([(parts.paths[name], path) for name, path in final.items()], _obsolete(output, base))


def _obsolete(output: OutputSettings, base: str) -> list[Path]:
    """Files of an earlier run that this one replaces, the ``.json`` first: without it the rest is not complete."""
    names = sorted(output.formats, key=lambda name: name != "json")
    marker = [output.folder / (base + FAILED)] if "mat" in output.formats else []
    paths = (*_stale_json(output, base), *(output_path(output, base, name) for name in names), *marker)
    return [path for path in paths if _exists(path)]


def _commit(moves: list[tuple[Path, Path]], obsolete: list[Path]) -> None:
    """Swap the new files for the old ones; where a rename fails, put everything back."""
    aside = [(path, path.with_name(f".strata-{uuid.uuid4().hex}.old")) for path in obsolete]
    try:
        for source, target in (*aside, *moves):
            source.replace(target)
    except BaseException:
        for source, target in reversed((*aside, *moves)):
            if not _exists(source) and _exists(target):
                target.replace(source)
        raise
    for _, path in aside:
        path.unlink(missing_ok=True)
    _sync_folder(moves[0][1].parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file of our own whole or not at all, in place of an earlier one."""
    try:
        with _Parts(path.parent) as parts:
            with parts.open("json") as file:
                file.write(content)
            parts.paths["json"].replace(path)
            _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}. Choose another --output.") from error


def _sync_folder(folder: Path) -> None:
    """See the new names onto the disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
