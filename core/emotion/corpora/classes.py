"""One table of what corpora call their classes, so that a class has one name wherever it comes from; and mappings."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.emotion.corpora.rows import some
from core.errors import DataError, InputError

# Class: what corpora and their makers call it.
WORDS: dict[str, tuple[str, ...]] = {
    "amusement": ("amused",),
    "anger": ("angry", "mad", "ang"),
    "anxiety": ("anxious",),
    "boredom": ("bored", "boredem", "bor"),
    "calm": ("calmness",),
    "contempt": ("contemptuous", "con"),
    "disgust": ("disgusted", "dis"),
    "excitement": ("excited", "exc"),
    "fear": ("fearful", "afraid", "scared", "anxiety/fear", "fear/anxiety", "fea"),
    "frustration": ("frustrated", "fru"),
    "happiness": ("happy", "joy", "joyful", "hap"),
    "neutral": ("neutrality", "neu"),
    "sadness": ("sad",),
    "surprise": ("surprised", "pleasant surprise", "pleasant surprised", "pleasantly surprised", "sur"),
}
CLASSES: dict[str, str] = {word: name for name, words in WORDS.items() for word in (name, *words)}

# What the letters and numbers in file names stand for.
CODES: dict[str, dict[str, str]] = {
    "ravdess": {
        **{"neutral": "neutral", "calm": "calm", "happy": "happiness", "sad": "sadness"},
        **{"angry": "anger", "fearful": "fear", "disgust": "disgust", "surprised": "surprise"},
    },
    "emodb": {
        **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
        **{"F": "happiness", "T": "sadness", "N": "neutral"},
    },
    "crema-d": {
        **{"ANG": "anger", "DIS": "disgust", "FEA": "fear"},
        **{"HAP": "happiness", "NEU": "neutral", "SAD": "sadness"},
    },
    "tess": {
        **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness"},
        **{"neutral": "neutral", "ps": "surprise", "sad": "sadness"},
    },
    "savee": {
        **{"a": "anger", "d": "disgust", "f": "fear", "h": "happiness"},
        **{"n": "neutral", "sa": "sadness", "su": "surprise"},
    },
    "nemo": {
        **{"anger": "anger", "fear": "fear", "happiness": "happiness"},
        **{"neutral": "neutral", "sadness": "sadness", "surprised": "surprise"},
    },
    "urdu": {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"},
}


def class_of(label: str) -> str:
    """Say what this project calls a class that goes by another word; an unknown word stays as it is."""
    words = " ".join(label.replace("_", " ").split())
    return CLASSES.get(words.casefold(), words)


def suggest_mapping(labels: Iterable[str]) -> dict[str, str]:
    """Give each label the name that this project has for its class; where the word is unknown it keeps its own."""
    return {label: class_of(label) for label in sorted(set(labels))}


def read_mapping(text: str | Path) -> dict[str, str]:
    """Read a mapping of labels: ``angry=anger,sad=sadness``, or a CSV (columns ``from,to``) or JSON file.

    A label that is mapped to nothing (``calm=``) is left out of the corpus.

    Raises:
        InputError: The file cannot be read, or what is given is no mapping, or a label is mapped twice.
    """
    given = str(text).strip()
    if isinstance(text, Path) or Path(given).suffix.lower() in (".csv", ".tsv", ".json"):
        return _read_file(Path(given))
    pairs = [part.partition("=") for part in given.split(",") if part.strip()]
    if not pairs or not all(equals and label.strip() for label, equals, _ in pairs):
        raise InputError(f"Got the mapping {given!r}; expected label=class,label=class, or a CSV or JSON file.")
    return _unique(((label, name) for label, _, name in pairs), given)


def apply_mapping(
    labels: Iterable[str], classes: Mapping[str, str], mapping: Mapping[str, str] | None
) -> dict[str, str]:
    """Give each label of the data its class.

    Args:
        labels: As the data calls them.
        classes: What codes stand for.
        mapping: The user's, of labels as the data calls them or, failing that, of the classes these stand for;
            None for none.

    Returns:
        Class of each label; empty for what is left out.

    Raises:
        DataError: The user's mapping does not name a label.
    """
    known = {label: classes.get(label, label) for label in sorted(set(labels))}
    if mapping is None:
        return known
    chosen = {label: mapping.get(label, mapping.get(name)) for label, name in known.items()}
    unknown = [
        label if label == name else f"{label} ({name})" for label, name in known.items() if chosen[label] is None
    ]
    if unknown:
        raise DataError(
            f"The mapping does not name {some(unknown, 20)}; it names {some(sorted(mapping), 20)}. Add a class for "
            "each, or map it to nothing (label=) to leave its clips out."
        )
    return {label: (name or "").strip() for label, name in chosen.items()}


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The mapping {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"The mapping {path} is no text in UTF-8: {error}.") from error
    return _from_json(text, path) if path.suffix.lower() == ".json" else _from_csv(text, path)


def _from_json(text: str, path: Path) -> dict[str, str]:
    try:
        mapping = json.loads(text)
    except ValueError as error:
        raise InputError(f"The mapping {path} is no JSON: {error}.") from error
    if not isinstance(mapping, dict) or not mapping or not all(isinstance(name, str) for name in mapping.values()):
        raise InputError(f'The mapping {path} is no object of labels and classes; expected {{"angry": "anger", ...}}.')
    return _unique(mapping.items(), str(path))


def _from_csv(text: str, path: Path) -> dict[str, str]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"The mapping {path} is no CSV file: {error}.") from error
    columns = [cell.strip().casefold() for cell in rows[0]] if rows else []
    if columns[:2] != ["from", "to"] or len(rows) < 2:
        raise InputError(
            f"The mapping {path} has the columns {some(columns) or 'none'}; expected from,to and a row each."
        )
    return _unique(((row[0], row[1] if len(row) > 1 else "") for row in rows[1:]), str(path))


def _unique(pairs: Iterable[tuple[str, str]], given: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for label, name in ((label.strip(), name.strip()) for label, name in pairs):
        if mapping.get(label, name) != name:
            raise InputError(f"The mapping {given} gives {label!r} two classes: {mapping[label]!r} and {name!r}.")
        mapping[label] = name
    return mapping
