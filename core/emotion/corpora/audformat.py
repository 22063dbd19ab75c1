"""Databases in audformat: a header ``db.yaml`` with tables in CSV or Parquet beside it.

Read here and not by the package of that name, since that one prefers a pickled table where there is one, and leaves
pickles behind: what comes from a user is not unpickled, and nothing is written into the user's folder.
"""

import csv
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.emotion.corpora.classes import class_of
from core.emotion.corpora.files import Place
from core.emotion.corpora.lists import COLUMNS, split_of
from core.emotion.corpora.rows import Reading, Row, some
from core.errors import DataError, InputError

HEADER = "db.yaml"
# Tables with this word in their name hold what raters agreed on; they are taken before others.
GOLD = "gold"
# What a scheme's labels may call the class that a code stands for.
MEANINGS = ("emotion", "category", "meaning", "label", "name")
TIME = re.compile(r"(?:(\d+) days?,? ?)?(?:(\d+):(\d\d):(\d\d(?:\.\d+)?))?")

# A recording, with the beginning and end of a segment in seconds.
Key = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Its id in the header.
        split: ``train``, ``validation``, ``test`` or empty.
        schemes: The scheme of each column; empty for none.
        rows: Key and values of each row; values that are missing are empty.
    """

    name: str
    split: str
    schemes: Mapping[str, str]
    rows: tuple[tuple[Key, Mapping[str, str]], ...]


def read_audformat(name: str, folder: Path, place: Place) -> Reading:
    """Read a database: classes from the column or scheme ``emotion``, speakers likewise, from any of its tables.

    Raises:
        InputError: The header or a table cannot be read.
        DataError: No table names an emotion, or a speaker, or two tables contradict each other.
    """
    header = _header(folder / HEADER)
    tables = [_table(folder, called, table) for called, table in _tables(header).items()]
    chosen = _chosen(tables, folder)
    speakers, texts = _lookup(tables, "speaker"), _lookup(tables, "text")
    rows: dict[Key, Row] = {}
    unlabelled = 0
    for table in chosen:
        for key, values in table.rows:
            given = values[_column(table, "emotion")]
            unlabelled += not given
            if given:
                row = _row(key, given, table, (_find(speakers, key), _find(texts, key)), place)
                rows[key] = _agreed(rows.get(key), row)
    if not rows or not any(row.speaker for row in rows.values()):
        raise DataError(f"No table of {folder / HEADER} says who speaks. Add a column speaker to the table of files.")
    notes = [f"The classes are those of {some([table.name for table in chosen])}."]
    if unlabelled:
        notes.append(f"{unlabelled} rows name no class; left out.")
    return Reading(name, "audformat", tuple(rows.values()), _classes(header, chosen), notes=tuple(notes))


def _header(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        with path.open(encoding="utf-8-sig") as file:
            header = yaml.safe_load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no YAML: {error}.") from error
    if not isinstance(header, dict) or not _tables(header):
        raise InputError(f"{path} is no header of an audformat database: expected tables.")
    return header


def _tables(header: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    tables = header.get("tables")
    found = tables if isinstance(tables, dict) else {}
    return {str(name): table for name, table in found.items() if isinstance(table, dict)}


def _table(folder: Path, name: str, facts: Mapping[str, Any]) -> Table:
    if "/" in name or "\\" in name:
        raise InputError(f"Got a table called {name!r} in {folder / HEADER}; expected a name without slashes.")
    given = facts.get("columns")
    about = given if isinstance(given, dict) else {}
    columns = {str(column): entry if isinstance(entry, dict) else {} for column, entry in about.items()}
    schemes = {column: _word(entry.get("scheme_id")) for column, entry in columns.items()}
    lines = _lines(folder, name)
    rows = tuple((_key(line, f"{name}, row {number}"), line) for number, line in enumerate(lines, 1))
    filled = tuple((key, {column: line.get(column, "") for column in columns}) for key, line in rows)
    return Table(name, split_of(_word(facts.get("split_id"))), schemes, filled)


def _word(value: object) -> str:
    """A word of the header; a list there is none, and may be made of references to grow without end when printed."""
    return str(value) if isinstance(value, str | int) else ""


def _lines(folder: Path, name: str) -> list[dict[str, str]]:
    """Read a table's lines as texts; times of segments in seconds."""
    plain, packed = folder / f"db.{name}.csv", folder / f"db.{name}.parquet"
    try:
        if packed.is_file():
            return _parquet(packed)
        with plain.open(newline="", encoding="utf-8-sig") as file:
            return [{key: (value or "") for key, value in line.items() if key} for line in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} lacks the table {plain.name} (or {packed.name}). A pickled table is not read: save the database "
            "again with storage_format='csv' or 'parquet'."
        ) from error
    except OSError as error:
        raise InputError(f"The table {name} in {folder} cannot be read: {error}.") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"The table {name} in {folder} is damaged: {error}.") from error


def _parquet(path: Path) -> list[dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        for number, field in enumerate(table.schema):
            if pa.types.is_duration(field.type):
                # Nanoseconds have no place in Python's own durations.
                table = table.set_column(number, field.name, table.column(number).cast(pa.duration("us"), safe=False))
        return [{key: _text(value) for key, value in line.items()} for line in table.to_pylist()]
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Parquet file: {error}.") from error


def _text(value: object) -> str:
    if isinstance(value, datetime.timedelta):
        return repr(value.total_seconds())
    return "" if value is None else str(value)


def _key(line: Mapping[str, str], where: str) -> Key:
    if not (file := line.get("file", "").strip()):
        raise DataError(f"{where}: the column file is empty.")
    start, stop = (_seconds(line.get(column, ""), where, column) for column in ("start", "end"))
    # From the beginning to the end is the whole recording, however it is written.
    return file, None if start == 0 and stop is None else start, stop


def _seconds(text: str, where: str, column: str) -> float | None:
    """Read ``0 days 00:00:01.500000`` or plain seconds."""
    if text.strip() in ("", "NaT"):
        return None
    try:
        return float(text)
    except ValueError:
        match = TIME.fullmatch(text.strip())
    if match is None:
        raise DataError(f"{where}: got {column} {text!r}; expected a time such as 0 days 00:00:01.500000.")
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _column(table: Table, role: str) -> str:
    """Find a table's column by its name or its scheme; empty if there is none."""
    called = COLUMNS[role]
    by_name = (column for name in called for column in table.schemes if column.casefold() == name)
    by_scheme = (column for name in called for column, scheme in table.schemes.items() if scheme.casefold() == name)
    return next(by_name, "") or next(by_scheme, "")


def _chosen(tables: Sequence[Table], folder: Path) -> list[Table]:
    """Choose the tables that say the classes: those that raters agreed on if there are any, else all."""
    found = [table for table in tables if _column(table, "emotion")]
    if not found:
        raise DataError(
            f"No table of {folder / HEADER} has a column or scheme emotion; its tables are "
            f"{some([table.name for table in tables])}. Write a CSV manifest with the columns file,speaker,emotion."
        )
    return [table for table in found if GOLD in table.name.casefold()] or found


def _lookup(tables: Iterable[Table], role: str) -> Mapping[Key, str]:
    found: dict[Key, str] = {}
    for table in tables:
        if column := _column(table, role):
            for key, values in table.rows:
                if values[column]:
                    found.setdefault(key, values[column])
    return found


def _find(values: Mapping[Key, str], key: Key) -> str:
    """What is known of a segment, or else of its whole recording."""
    return values.get(key) or values.get((key[0], None, None), "")


def _row(key: Key, given: str, table: Table, facts: tuple[str, str], place: Place) -> Row:
    source, problem = place.find(key[0])
    where = f"{table.name}, {key[0]}"
    return Row(key[0], source, facts[0], given, where, key[1], key[2], table.split, facts[1], problem)


def _agreed(first: Row | None, row: Row) -> Row:
    """Join what two tables say of one clip."""
    if first is None:
        return row
    if first.given != row.given:
        raise DataError(
            f"{row.file} is {first.given!r} in one table and {row.given!r} in another ({first.where}; {row.where}). "
            "Write a CSV manifest with the columns file,speaker,emotion of the one to take."
        )
    return first if first.split else row


def _classes(header: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, str]:
    """Name the class of every label: the meaning that the scheme gives it, in this project's word."""
    classes: dict[str, str] = {}
    for table in tables:
        column = _column(table, "emotion")
        labels = _labels(header, table.schemes[column])
        classes.update({row[column]: class_of(labels.get(row[column], row[column])) for _, row in table.rows})
    return classes


def _labels(header: Mapping[str, Any], scheme: str) -> dict[str, str]:
    schemes = header.get("schemes")
    about = schemes.get(scheme) if isinstance(schemes, dict) else None
    labels = about.get("labels") if isinstance(about, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {str(code): meaning for code, facts in labels.items() if (meaning := _meaning(facts))}


def _meaning(facts: object) -> str:
    if isinstance(facts, str):
        return facts
    known = facts if isinstance(facts, dict) else {}
    return next((known[key] for key in MEANINGS if isinstance(known.get(key), str)), "")
