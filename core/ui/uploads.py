"""Files sent together: recordings, alignments, and lists that say who speaks in which recording."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.alignment.names import same_name
from core.alignment.read import is_alignment
from core.alignment.tables import DELIMITERS, read_text
from core.embed.recordings import AUDIO_SUFFIXES
from core.errors import DataError, InputError
from core.meg.reader import MEG_SUFFIXES

ALIGNMENTS = (".textgrid", ".ctm", ".json")
"""Suffixes of the files that can only say what was said when."""

TABLES = (".csv", ".tsv")
"""Suffixes of the files that may be an alignment or a list; everything else that is sent is a recording."""

MARKS = ("speaker", "label")
"""Columns of a list beside ``file``."""

Marks = Mapping[Path, Mapping[str, str]]
"""Speaker and label of recordings, those that are known."""


@dataclass(frozen=True)
class Uploads:
    """What was sent: recordings, the alignments among the files, and lists of speakers or labels."""

    recordings: tuple[Path, ...]
    alignments: tuple[Path, ...] = ()
    lists: tuple[Path, ...] = ()

    @property
    def aligned(self) -> tuple[Path, ...]:
        """Recordings that have an alignment by name."""
        stems = {path.stem for path in self.alignments}
        return tuple(path for path in self.recordings if path.stem in stems)

    def marks(self) -> Marks:
        """Read the lists.

        Raises:
            StrataError: a list that cannot be read, names none of the recordings, or one of them in two ways.
        """
        found: dict[Path, dict[str, str]] = {}
        for path in self.lists:
            told = _read_list(path)
            known = {_without_suffix(name): marks for name, marks in told.items()} | told
            matched = {recording: known[name] for recording in self.recordings for name in _names(recording, known)}
            if not matched:
                raise InputError(_matches_none(path, told, self.recordings))
            for recording, marks in matched.items():
                found.setdefault(recording, {}).update(marks)
        return found


def sort_uploads(paths: Sequence[str] | None) -> Uploads:
    """Tell recordings, alignments and lists apart by suffix, and CSVs by their columns: a list has no times."""
    files = [Path(path) for path in paths or ()]
    tables = [path for path in files if path.suffix.lower() in TABLES]
    lists = tuple(path for path in tables if not is_alignment(path))
    alignments = tuple(
        path for path in files if path.suffix.lower() in ALIGNMENTS or (path in tables and path not in lists)
    )
    return Uploads(tuple(path for path in files if path not in (*alignments, *lists)), alignments, lists)


def about_marks(marks: Marks, n: int) -> str:
    """Say how many of n recordings the lists know: ``speakers of 9 of 10 recordings``; empty where there is no list."""
    known = {mark: sum(mark in one for one in marks.values()) for mark in MARKS}
    return ", ".join(f"{mark}s of {count} of {n} recordings" for mark, count in known.items() if count)


def write_manifest(recordings: Sequence[Path], marks: Marks, path: Path) -> Path:
    """Write the recordings with what is known of them as a manifest that ``core.embed.inputs`` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", *MARKS], restval="")
        writer.writeheader()
        writer.writerows({"file": str(one.absolute()), **marks.get(one, {})} for one in recordings)
    return path


def _read_list(path: Path) -> dict[str, dict[str, str]]:
    """Read what a list says of each file name."""
    try:
        return _by_name(path, read_text(path))
    except (OSError, csv.Error) as error:
        raise DataError(f"The list {path.name} cannot be read: {error}.") from error


def _by_name(path: Path, text: str) -> dict[str, dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]))
    columns = [name.strip().casefold() for name in reader.fieldnames or ()]
    _check_columns(path, columns)
    reader.fieldnames = columns
    named: dict[str, dict[str, str]] = {}
    for row in reader:
        marks = {mark: text for mark in MARKS if (text := (row.get(mark) or "").strip())}
        name = _file_name(row["file"] or "")
        if name and named.setdefault(name, marks) != marks:
            raise DataError(f"The list {path.name} names {name} twice, in different ways. Leave one of the rows.")
    return named


def _delimiter(head: str) -> str:
    """Choose the delimiter by which the first line has a column ``file``; the comma where none has."""
    split = {mark: [name.strip(' "').casefold() for name in head.split(mark)] for mark in DELIMITERS}
    return next((mark for mark, names in split.items() if "file" in names), DELIMITERS[0])


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if "file" not in columns or not set(MARKS) & set(columns):
        raise InputError(
            f"{path.name} has the columns {', '.join(columns) or 'nothing'}; expected file with speaker or label, for "
            "a list of recordings, or start, stop and label (or phone, or word), for an alignment."
        )


def _file_name(text: str) -> str:
    """Return a file's name without folders."""
    return same_name(text.strip().replace("\\", "/").rpartition("/")[2])


def _without_suffix(name: str) -> str:
    """Return a recording's name without its suffix; another name as it is."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.casefold() in (*AUDIO_SUFFIXES, *MEG_SUFFIXES) else name


def _names(recording: Path, told: Mapping[str, object]) -> list[str]:
    """Return the name by which a list knows a recording, the whole one first; empty where it does not."""
    return [name for name in (same_name(recording.name), same_name(recording.stem)) if name in told][:1]


def _matches_none(path: Path, told: Mapping[str, object], recordings: Sequence[Path]) -> str:
    named = ", ".join(list(told)[:3]) or "no file"
    sent = ", ".join(recording.name for recording in recordings[:3]) or "none yet"
    return f"{path.name} names none of the recordings: it names {named}; the recordings are {sent}. Use their names."
