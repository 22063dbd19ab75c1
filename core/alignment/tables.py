"""Alignments that are tables: CTM (NIST), CSV (MFA's and others'), and SpeechBrain's JSON."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.alignment.names import kind_of, kind_of_file, same_name
from core.alignment.segments import Entry, RawRecording, RawTier, Segment
from core.errors import DataError

SPEECHBRAIN_RATE = 16_000
"""Hz of the sample numbers in SpeechBrain's JSON; the format comes from TIMIT and names no rate."""

ENDS = "ground_truth_phn_ends"
DELIMITERS = (",", "\t", ";")
# Names of columns, compared without case; the first that a table has is taken.
COLUMNS = {
    "start": ("start", "begin", "start_time", "begin_time", "xmin", "tmin"),
    "stop": ("stop", "end", "stop_time", "end_time", "xmax", "tmax"),
    "label": ("label", "text", "mark"),
    "phone": ("phone", "phoneme", "phn"),
    "word": ("word", "wrd"),
    "tier": ("tier", "type", "kind"),
    "file": ("file", "filename", "recording", "utterance"),
}


def read_text(path: Path) -> str:
    """Read a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 ({error}). Save it in UTF-8.") from error


# ---- CTM ----


def read_ctm(path: Path) -> list[RawRecording]:
    """Read a CTM: file, channel, start, duration, label and maybe a confidence a line; ``;;`` begins a comment.

    The format does not say whether labels are phones. They are words, as NIST means it, unless the name of the file or
    of its folder speaks of phones.
    """
    kind = kind_of_file(path) or "word"
    taken = f"{kind}s from a CTM" + ("" if kind_of_file(path) else ", which holds words unless its name says phones")
    recordings: dict[str, list[Entry]] = {}
    channels: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        where = f"line {number}"
        if len(fields) < 5:
            raise DataError(
                f"{path}, {where}: got {line.strip()!r}; expected file, channel, start, duration and label."
            )
        name = same_name(fields[0])
        if channels.setdefault(name, fields[1]) != fields[1]:
            raise DataError(
                f"{path}, {where}: {name} has the channels {channels[name]} and {fields[1]}; expected one. Split the "
                "file by channel."
            )
        start, duration = (_seconds(path, where, text) for text in fields[2:4])
        recordings.setdefault(name, []).append(Entry(Segment(start, start + duration, fields[4]), where))
    return [RawRecording(name, [RawTier(kind, taken, entries)]) for name, entries in recordings.items()]


def _seconds(path: Path, where: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{path}, {where}: got the time {text!r}; expected seconds, such as 1.25.") from None


# ---- CSV ----


def columns_of(header: Iterable[str]) -> dict[str, str]:
    """Which columns of a table hold what: start, stop, label, phone, word, tier, file."""
    names = {name.strip().casefold(): name for name in header}
    return {
        what: next(names[name] for name in wanted if name in names)
        for what, wanted in COLUMNS.items()
        if any(name in names for name in wanted)
    }


def is_table(columns: Mapping[str, str]) -> bool:
    """Whether these are the columns of an alignment."""
    return {"start", "stop"} <= columns.keys() and bool({"label", "phone", "word"} & columns.keys())


def open_table(text: str) -> tuple[csv.DictReader, dict[str, str]]:
    """Find the delimiter by which the first line has the columns of an alignment; the comma where none has."""
    first = text.partition("\n")[0]
    header = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in DELIMITERS}
    chosen = next((mark for mark, names in header.items() if is_table(columns_of(names))), DELIMITERS[0])
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=chosen)
    return reader, columns_of(reader.fieldnames or ())


def read_table(path: Path) -> list[RawRecording]:
    """Read a CSV with the columns start, stop (or end) and label, phone or word, and maybe tier and file.

    MFA's own (Begin, End, Label, Type, Speaker) is one of them.
    """
    reader, columns = open_table(read_text(path))
    if not is_table(columns):
        got = ", ".join(reader.fieldnames or ()) or "nothing"
        raise DataError(
            f"{path} has the columns {got}; expected start, stop and label (or phone, or word), in seconds."
        )
    found: dict[tuple[str | None, str], list[Entry]] = {}
    kinds = _row_kinds(path, columns)
    try:
        for row in reader:
            for kind, label in kinds(row):
                entry = _table_entry(path, row, columns, label, f"line {reader.line_num}")
                found.setdefault((_file_of(row, columns), kind), []).append(entry)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}. Save it as plain CSV.") from error
    names = dict.fromkeys(name for name, _ in found)
    return [RawRecording(name, list(_table_tiers(name, found, columns))) for name in names]


def _row_kinds(path: Path, columns: Mapping[str, str]) -> Any:
    """Say how to tell of a row which kind it is and which column labels it: from the tier, the columns or the name."""
    if "tier" in columns and "label" in columns:

        def by_tier(row: Mapping[str, str | None]) -> list[tuple[str, str]]:
            kind = kind_of(row[columns["tier"]] or "")
            return [(kind, "label")] if kind else []

        return by_tier
    # A phone's row may carry its word as well, but not where that word begins and ends.
    named = next((kind for kind in ("phone", "word") if kind in columns), None)
    kind = named or kind_of_file(path)
    if kind is None:
        raise DataError(
            f"{path} does not say whether {columns['label']!r} holds phones or words. Call the column phone or word, "
            "add a column tier, or call the file NAME.phones.csv or NAME.words.csv."
        )
    return lambda _: [(kind, named or "label")]


def _table_entry(
    path: Path, row: Mapping[str, str | None], columns: Mapping[str, str], label: str, where: str
) -> Entry:
    text = row[columns[label]]
    if text is None:
        raise DataError(f"{path}, {where}: the row has no {columns[label]!r}; expected a cell for each column.")
    start, stop = (_seconds(path, where, row[columns[side]]) for side in ("start", "stop"))
    return Entry(Segment(start, stop, text.strip()), where)


def _file_of(row: Mapping[str, str | None], columns: Mapping[str, str]) -> str | None:
    value = (row[columns["file"]] or "").strip() if "file" in columns else ""
    return same_name(value) if value else None


def _table_tiers(
    name: str | None, found: Mapping[tuple[str | None, str], list[Entry]], columns: Mapping[str, str]
) -> Iterator[RawTier]:
    for (other, kind), entries in found.items():
        if other == name:
            yield RawTier(kind, f"{kind}s from the columns {', '.join(columns.values())}", entries)


# ---- SpeechBrain's JSON ----


def read_speechbrain(path: Path) -> list[RawRecording]:
    """Read SpeechBrain's JSON: by recording, ``phn`` (phones) and the samples at 16 kHz at which they end.

    Words (``wrd``) have no times there and are not taken.
    """
    content = load_json(path)
    if not is_speechbrain(content):
        raise DataError(
            f"{path} is no alignment: expected SpeechBrain's JSON, with phn and {ENDS} by recording. Check the file."
        )
    return [_speechbrain_recording(path, name, facts) for name, facts in content.items() if ENDS in facts]


def load_json(path: Path) -> Any:
    """Read JSON; raises DataError for what is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}). Check the file.") from error


def is_speechbrain(content: Any) -> bool:
    """Whether this is a table of recordings of which some have phones with times."""
    facts = list(content.values()) if isinstance(content, dict) else []
    return bool(facts) and all(isinstance(one, dict) for one in facts) and any(ENDS in one for one in facts)


def _speechbrain_recording(path: Path, name: str, facts: Mapping[str, Any]) -> RawRecording:
    phones, ends = str(facts.get("phn", "")).split(), str(facts[ENDS]).split()
    if len(phones) != len(ends):
        raise DataError(f"{path}, {name}: {len(phones)} phones and {len(ends)} ends; expected as many of each.")
    times = [_seconds(path, name, end) / SPEECHBRAIN_RATE for end in ends]
    entries = [
        Entry(Segment(start, stop, label), f"{name}, phone {number}")
        for number, (start, stop, label) in enumerate(zip([0.0, *times], times, phones, strict=False), 1)
    ]
    taken = f"phones from phn and {ENDS}, taken for samples at {SPEECHBRAIN_RATE} Hz; words have no times there"
    return RawRecording(same_name(name), [RawTier("phone", taken, entries)])
