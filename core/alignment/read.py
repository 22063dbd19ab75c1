"""Find and read the alignments of recordings, whatever their format."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from core.alignment.names import same_name
from core.alignment.segments import Alignment, RawRecording, finish
from core.alignment.tables import (
    is_speechbrain,
    is_table,
    load_json,
    open_table,
    read_ctm,
    read_speechbrain,
    read_table,
    read_text,
)
from core.alignment.textgrid import read_textgrid
from core.errors import DataError, InputError

READERS: dict[str, Callable[[Path], list[RawRecording]]] = {
    ".textgrid": read_textgrid,
    ".ctm": read_ctm,
    ".csv": read_table,
    ".tsv": read_table,
    ".json": read_speechbrain,
}
_T = TypeVar("_T")
FORMATS = "TextGrid, CTM, CSV or SpeechBrain's JSON"
# Praat's files by their first bytes, in ASCII and in UTF-16 of both orders.
_PRAAT = (b"File type", b"ooBinaryFile", b"\xef\xbb\xbfFile type", b"\xff\xfeF\0i\0", b"\xfe\xff\0F\0i")


def read_alignment(path: Path, recording: str | None = None) -> Alignment:
    """Read the alignment of one recording: Praat TextGrid, CTM, CSV or SpeechBrain's JSON.

    Which tiers or columns were taken for phones and words stands in ``Alignment.taken``. Silence is left out, labels
    stay as they are.

    Args:
        path: The file; its format follows from its suffix, a TextGrid of any name from its content.
        recording: The recording's base name, by which a file of several recordings is searched; None where the file
            holds one.

    Raises:
        InputError: Another format.
        DataError: A file that cannot be read, holds no phones or words with times, other recordings only, or segments
            that overlap or are out of order.
    """
    return finish(path, _pick(path, _read(path), recording))


def read_alignments(folder: Path, names: Sequence[str]) -> dict[str, Alignment]:
    """Read the alignments of many recordings, each file once; those without one are missing from the result.

    A recording ``s1/u`` is matched by its path first (``s1/u.TextGrid``, or ``s1/u`` inside a file of several
    recordings), and else by its base name ``u``, if there is one recording and one alignment of that name.

    Args:
        folder: Searched with its sub-folders (MFA has one for each speaker); a single file is taken as well.
        names: Of the recordings, each once: the path below the folder of recordings, with forward slashes and without
            suffix.

    Returns:
        By the names as given, in their order.

    Raises:
        InputError: There is no such folder.
        DataError: Two files could be of one recording, or one of two; a file cannot be read, two recordings have one
            name, or none of them has an alignment.
    """
    search = _Search(folder, names)
    found = {name: path for name in names if (path := search.find(name)) is not None}
    if names and not found:
        raise DataError(search.nothing_for(names))
    return {name: finish(path, _pick(path, search.content(path), name)) for name, path in found.items()}


@dataclass(frozen=True)
class _Candidate:
    """What may be the alignment of a recording: a file by its path, or what a file of several recordings names.

    Attributes:
        path: The file.
        names: Full names under which a recording finds it.
    """

    path: Path
    names: tuple[str, ...]


class _Search:
    """The alignments below a folder; files of several recordings are read only when no file's name answers."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        wanted = [same_name(name) for name in names]
        _check_once(wanted)
        self._wanted = frozenset(wanted)
        self._sharing = _grouped((_stem(name), name) for name in wanted)
        top = folder.parent if folder.is_file() else folder
        self._files = [_Candidate(path, (_path_name(path, top),)) for path in _list_files(folder)]
        self._by_path = _grouped((name, file) for file in self._files for name in file.names)
        self._by_stem = _grouped((_stem(file.names[0]), file) for file in self._files)
        self._content: dict[Path, list[RawRecording]] = {}

    def find(self, name: str) -> Path | None:
        """Choose the file of a recording, or None."""
        name = same_name(name)
        exact = _alignments_of(self._by_path.get(name, []))
        if exact:
            return self._only([name], exact)
        sharing = self._sharing[_stem(name)]
        files = _alignments_of(self._untaken(self._by_stem.get(_stem(name), [])))
        if len(sharing) > 1 or not files:  # what a table names fully decides between recordings of one base name
            named = [one for one in self._held.get(_stem(name), []) if name in one.names]
            if named:
                return self._only([name], named)
            files = files or self._untaken(self._held.get(_stem(name), []))
        return self._only(sharing, files) if files else None

    def _untaken(self, candidates: Iterable[_Candidate]) -> list[_Candidate]:
        """Leave out what another recording finds by its full name or by the path of the file."""
        return [one for one in candidates if self._wanted.isdisjoint(one.names)]

    def _only(self, sharing: Sequence[str], candidates: Sequence[_Candidate]) -> Path:
        """Return the one file, or say between what there is no telling."""
        files = ", ".join(dict.fromkeys(str(one.path) for one in candidates[:4]))
        if len(sharing) > 1:
            paths = " and ".join(str(self.folder / f"{name}.TextGrid") for name in sharing[:2])
            raise DataError(
                f"{files} could be the alignment of several recordings with the same base name: "
                f"{', '.join(sharing[:4])}. Give each its own, at its path below the folder: {paths}."
            )
        if len(candidates) > 1:
            raise DataError(
                f"Several files could be the alignment of {sharing[0]}: {files}. Leave one of them in {self.folder}, "
                f"or call the right one {self.folder / sharing[0]}, with its suffix."
            )
        return candidates[0].path

    def content(self, path: Path) -> list[RawRecording]:
        """Read all recordings of a file, once."""
        if path not in self._content:
            self._content[path] = _read(path)
        return self._content[path]

    def nothing_for(self, names: Sequence[str]) -> str:
        """Say that no recording has an alignment, and what there is instead."""
        stems = (stem for stem, files in self._by_stem.items() if _alignments_of(files))
        held = sorted(set(self._held) or set(stems))
        found = f"found {', '.join(held[:5])}{', ...' if len(held) > 5 else ''}" if held else "found none at all"
        wanted = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"{self.folder} holds no alignment ({FORMATS}) of {wanted}; {found}. Name each like its recording."

    @cached_property
    def _held(self) -> dict[str, list[_Candidate]]:
        """Read all files that may hold several recordings: what they name, by base name."""
        tables = [file for file in self._files if file.path.suffix.lower() != ".textgrid"]
        return _grouped(
            (_stem(raw.name), _Candidate(file.path, _names_of(file, raw.name)))
            for file in _alignments_of(tables)
            for raw in self.content(file.path)
            if raw.name is not None
        )


def _check_once(names: Sequence[str]) -> None:
    twice = next((name for name, given in Counter(names).items() if given > 1), None)
    if twice is not None:
        raise DataError(
            f"Two recordings are called {twice}, so that their alignments cannot be told apart. Give each a name of "
            "its own."
        )


def _grouped(pairs: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    groups: dict[str, list[_T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _alignments_of(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    return [one for one in candidates if is_alignment(one.path)]


def _path_name(path: Path, top: Path) -> str:
    """The name of the recording that a file is of: its path below the folder, without suffix."""
    return same_name(path.relative_to(top).with_name(_base_name(path)).as_posix())


def _names_of(file: _Candidate, inner: str) -> tuple[str, ...]:
    """Full names under which a recording finds what a file holds; its path, if the file is called like it."""
    own = file.names if _stem(file.names[0]) == _stem(inner) else ()
    return (*_full_names(inner), *own)


def is_alignment(path: Path) -> bool:
    """Whether a file is one of the formats; other CSV and JSON files may lie beside."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return is_speechbrain(load_json(path))
        if suffix in (".csv", ".tsv"):
            return is_table(open_table(read_text(path))[1])
    except (DataError, OSError, csv.Error):
        return False
    return suffix in READERS


def _list_files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise InputError(f"The folder of alignments {folder} does not exist. Check --alignments.")
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in READERS and not hidden and path.is_file():
            yield path


def _base_name(path: Path) -> str:
    """The name of the recording that a file is of: ``rec.phones.csv`` is of rec."""
    stem = same_name(path.stem)
    head, _, last = stem.rpartition(".")
    return head if head and last.casefold() in ("phones", "words", "phone", "word") else stem


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"The alignment {path} cannot be read: {error.strerror or error}.") from error


def _read(path: Path) -> list[RawRecording]:
    """Read all recordings of a file."""
    with _readable(path):
        with path.open("rb") as file:
            praat = file.read(16).startswith(_PRAAT)
        reader = read_textgrid if praat else READERS.get(path.suffix.lower())
        if reader is None:
            raise InputError(f"{path} is no alignment that Strata reads; expected {FORMATS}.")
        recordings = reader(path)
    if not any(tier.entries for raw in recordings for tier in raw.tiers):
        raise DataError(f"{path} holds no phones or words with times. Check the file.")
    return recordings


def _pick(path: Path, recordings: Sequence[RawRecording], wanted: str | None) -> RawRecording:
    """Choose a recording of a file."""
    if wanted is None and len(recordings) == 1:
        return recordings[0]
    full = [raw for raw in recordings if wanted is not None and raw.name and same_name(wanted) in _full_names(raw.name)]
    named = full or [
        raw for raw in recordings if raw.name is None or wanted is None or _stem(raw.name) == _stem(wanted)
    ]
    if len(named) == 1:
        return named[0]
    held = sorted(str(raw.name) for raw in recordings)
    listed = f"{', '.join(held[:5])}{', ...' if len(held) > 5 else ''}"
    said = "name one of them" if wanted is None else f"expected {wanted} once"
    raise DataError(f"{path} holds {len(held)} recordings ({listed}); {said}.")


_AUDIO = frozenset({"wav", "flac", "mp3", "ogg", "opus", "m4a", "sph", "aac", "aiff", "wma"})


def _full_names(name: str) -> tuple[str, str]:
    """A recording's name as a table gives it, and the same without an audio suffix; folders are kept."""
    path = same_name(name).replace("\\", "/").removeprefix("./")
    head, dot, suffix = path.rpartition(".")
    return path, head if dot and head and suffix.casefold() in _AUDIO else path


def _stem(name: str) -> str:
    """The base name of a recording, without folders and audio suffix."""
    return _full_names(name)[1].rpartition("/")[2]
