"""Corpora as CSV or tab-separated lists: file, speaker, emotion, and if wanted start, end, split and text."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.embed.inputs import MANIFESTS
from core.emotion.corpora.files import Place
from core.emotion.corpora.rows import Reading, Row, some
from core.errors import DataError, InputError

# What lists call a column; the first that is there is taken.
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": ("file", "path", "filename", "file_id", "audio", "wav"),
    "speaker": ("speaker", "speaker_id", "spk", "actor"),
    "emotion": ("emotion", "label", "emo"),
    "start": ("start", "start_seconds"),
    "end": ("end", "stop", "end_seconds"),
    "split": ("split", "set", "subset"),
    "text": ("text", "text_code", "statement", "sentence", "transcription", "normalized_text"),
}
NEEDED = ("file", "speaker", "emotion")
SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"},
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development"), "validation"),
}
# Bytes that are read to see whether a table is a list of recordings.
HEAD = 65_536
FAVOURITES = ("labels", "manifest", "metadata", "data")


def list_in(folder: Path) -> Path | None:
    """Find the list that a folder is to be read through: one right in it with the columns that are needed.

    Raises:
        InputError: There are several, and none of them has a name that says that it is the one.
    """
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in MANIFESTS and path.name[0] != ".")
    found = [path for path in tables if _is_list(path)]
    chosen = [path for name in FAVOURITES for path in found if path.stem.lower() == name][:1] or found
    if len(chosen) > 1:
        names = some([path.name for path in chosen])
        raise InputError(
            f"{folder} holds several lists of recordings: {names}. Give the one to read instead of the folder."
        )
    return chosen[0] if chosen else None


def read_list(name: str, path: Path, place: Place) -> Reading:
    """Read a list; a file that it names is looked for as :meth:`Place.find` does.

    Raises:
        InputError: The list cannot be read, or lacks a column.
        DataError: A cell that cannot be used.
    """
    header, lines = _table(path)
    roles = _roles(header)
    if missing := [role for role in NEEDED if role not in roles]:
        raise InputError(
            f"{path} has the columns {some(header, 12) or 'none'}; expected {', '.join(NEEDED)} "
            f"(missing: {', '.join(missing)}), and if wanted start, end, split, text."
        )
    if not lines:
        raise InputError(f"{path} names no recording. Add a row for each.")
    splits = {cells[roles["split"]].strip() for _, cells in lines} if "split" in roles else set()
    rows = tuple(_row(cells, roles, f"{path.name}, line {number}", place) for number, cells in lines)
    return Reading(name, "manifest", rows, notes=tuple(_notes(header, splits)))


def _is_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            content = file.read(HEAD)
    except OSError:
        return False
    head = content.decode(_encoding(content), errors="ignore").partition("\n")[0]
    try:
        row = next(csv.reader([head], delimiter=_delimiter(path, head)), [])
    except csv.Error:
        return False
    return all(role in _roles(row) for role in NEEDED)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a table: its header, and its rows with their line numbers; lines without any value are passed over."""
    try:
        text = _decode(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text.partition("\n")[0]))
    try:
        header = next(reader, [])
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file: {error}.") from error
    for number, cells in lines:
        if len(cells) > len(header):
            raise DataError(
                f"{path.name}, line {number}: got {len(cells)} values for {len(header)} columns. "
                "Put a value that holds the separator into double quotes."
            )
    return header, [(number, cells + [""] * (len(header) - len(cells))) for number, cells in lines]


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no CSV file in UTF-8: {error}. Save it again as CSV UTF-8.") from error


def _encoding(content: bytes) -> str:
    return "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _delimiter(path: Path, head: str) -> str:
    """A tab for TSV; else whatever of comma, semicolon and tab the header has most of."""
    usual = MANIFESTS.get(path.suffix.lower(), ",")
    return usual if usual != "," else max(",;\t", key=head.count)


def _roles(header: Sequence[str]) -> dict[str, int]:
    """Say which column has which role."""
    names = [cell.strip().casefold() for cell in header]
    found = {role: next((name for name in called if name in names), None) for role, called in COLUMNS.items()}
    return {role: names.index(name) for role, name in found.items() if name is not None}


def _notes(header: Sequence[str], splits: set[str]) -> list[str]:
    names = [cell.strip().casefold() for cell in header]
    notes = []
    for role in NEEDED:
        taken, *others = [name for name in COLUMNS[role] if name in names]
        if others:
            notes.append(f"The column {taken} is read as the {role}; {', '.join(others)} is not read.")
    unknown = sorted(name for name in splits if name and name.casefold() not in SPLITS)
    if unknown:
        notes.append(f"The column split holds {some(unknown)}, which is neither train, validation nor test; not used.")
    return notes


def _row(cells: Sequence[str], roles: Mapping[str, int], where: str, place: Place) -> Row:
    value = {role: cells[column].strip() for role, column in roles.items()}
    if not value["file"]:
        raise DataError(f"{where}: the column file is empty. Name a recording, or delete the line.")
    source, problem = place.find(value["file"])
    return Row(
        value["file"], source, value["speaker"], value["emotion"], where,
        seconds(value.get("start", ""), where, "start"), seconds(value.get("end", ""), where, "end"),
        split_of(value.get("split", "")), value.get("text", ""), problem,
    )  # fmt: skip


def split_of(name: str) -> str:
    """Call a part of a corpus ``train``, ``validation`` or ``test``; anything else is none of them."""
    return SPLITS.get(name.strip().casefold(), "")


def seconds(text: str, where: str, column: str) -> float | None:
    """Read a time in seconds; an empty cell is none.

    Raises:
        DataError: It is no number from 0 on.
    """
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DataError(f"{where}: got {column} {text!r}; expected seconds from 0 on, or nothing.")
    return value
