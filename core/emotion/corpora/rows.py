"""What every reader of a corpus returns: rows as the data has them, before files are looked for and labels mapped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of a list, or one file of a folder.

    Attributes:
        file: The recording as the data names it.
        source: Where it should be; it may be missing.
        speaker: Who speaks; empty where the data does not say.
        given: The class as the data calls it.
        where: Where the row stands, for messages.
        start: Seconds; None for the recording's beginning.
        stop: Seconds; None for its end.
        split: ``train``, ``validation``, ``test`` or empty.
        text: Which sentence is spoken, as a code or as words.
        problem: Why the recording cannot be found; empty where nothing is known against it.
    """

    file: str
    source: Path
    speaker: str
    given: str
    where: str
    start: float | None = None
    stop: float | None = None
    split: str = ""
    text: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Reading:
    """A corpus as it was read.

    Attributes:
        name: What the corpus is called.
        scheme: How it was read.
        rows: One for each clip.
        classes: Class of labels that are only codes, or another word for it; a label that is not named keeps its own.
        failures: ``{"file", "error"}`` for files that are no clip of this corpus.
        notes: What the reader of a score should know of how it was read, as sentences.
    """

    name: str
    scheme: str
    rows: tuple[Row, ...]
    classes: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def some(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Name the first few."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
