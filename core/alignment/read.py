"""Find and read the alignments of recordings, whatever their format."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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

    Args:
        folder: Searched with its sub-folders; a single file is taken as well.
        names: Base names of the recordings.

    Raises:
        InputError: There is no such folder.
        DataError: Two files could be of one recording, one cannot be read, or none of the recordings has one.
    """
    search = _Search(folder)
    found = {name: search.find(name) for name in names}
    if names and not any(found.values()):
        raise DataError(search.nothing_for(names))
    read: dict[Path, list[RawRecording]] = {}
    alignments = {}
    for name, path in found.items():
        if path is not None:
            raw = read[path] if path in read else read.setdefault(path, search.content(path))
            alignments[name] = finish(path, _pick(path, raw, name))
    return alignments


def find_alignment(folder: Path, name: str) -> Path:
    """Find the alignment of a recording: a file of its base name, or one of several recordings that holds it.

    Args:
        folder: Searched with its sub-folders (MFA has one for each speaker).
        name: The recording's base name.

    Raises:
        InputError: There is no such folder.
        DataError: No file, or several that could be meant.
    """
    search = _Search(folder)
    path = search.find(name)
    if path is None:
        raise DataError(search.nothing_for([name]))
    return path


class _Search:
    """The files of a folder by base name, and those of several recordings by what they hold, read when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = list(_list_files(folder))
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.files:
            self._by_stem.setdefault(_base_name(path), []).append(path)
        self._holders: dict[str, list[Path]] | None = None
        self._content: dict[Path, list[RawRecording]] = {}

    def find(self, name: str) -> Path | None:
        wanted = same_name(name)
        candidates = self._by_stem.get(wanted, [])
        found = [path for path in candidates if is_alignment(path)] or self._held().get(wanted, [])
        if len(found) > 1:
            listed = ", ".join(map(str, found[:4]))
            raise DataError(
                f"Several files could be the alignment of {name}: {listed}. Leave one of them in {self.folder}."
            )
        return found[0] if found else None

    def content(self, path: Path) -> list[RawRecording]:
        return self._content[path] if path in self._content else _read(path)

    def nothing_for(self, names: Sequence[str]) -> str:
        stems = (stem for stem, paths in self._by_stem.items() if any(map(is_alignment, paths)))
        held = sorted(set(self._held()) or set(stems))
        found = f"found {', '.join(held[:5])}{', ...' if len(held) > 5 else ''}" if held else "found none at all"
        wanted = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"{self.folder} holds no alignment ({FORMATS}) of {wanted}; {found}. Name each like its recording."

    def _held(self) -> dict[str, list[Path]]:
        """Read, once, all files that may hold several recordings."""
        if self._holders is None:
            self._holders = {}
            for path in self.files:
                if path.suffix.lower() != ".textgrid" and is_alignment(path):
                    self._content[path] = _read(path)
                    for raw in self._content[path]:
                        if raw.name is not None:
                            self._holders.setdefault(_spoken_name(raw.name), []).append(path)
        return self._holders


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
    named = [raw for raw in recordings if raw.name is None or wanted is None or _is_named(raw.name, wanted)]
    if len(named) == 1:
        return named[0]
    held = sorted(str(raw.name) for raw in recordings)
    listed = f"{', '.join(held[:5])}{', ...' if len(held) > 5 else ''}"
    said = "name one of them" if wanted is None else f"expected {wanted} once"
    raise DataError(f"{path} holds {len(held)} recordings ({listed}); {said}.")


def _spoken_name(name: str) -> str:
    """The base name of a recording that a table may give with folders and suffix."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and suffix.casefold() in _AUDIO else last


_AUDIO = frozenset({"wav", "flac", "mp3", "ogg", "opus", "m4a", "sph", "aac", "aiff", "wma"})


def _is_named(name: str, wanted: str) -> bool:
    return same_name(wanted) in (name, _spoken_name(name))
