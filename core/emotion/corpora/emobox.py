"""EmoBox's lists: JSON lines with a recording and its class; who speaks stands in the recordings' names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.emotion.corpora.classes import class_of
from core.emotion.corpora.files import Place
from core.emotion.corpora.folders import fits
from core.emotion.corpora.lists import split_of
from core.emotion.corpora.names import NAMES, Named
from core.emotion.corpora.rows import Reading, Row
from core.errors import DataError, InputError

SUFFIX = ".jsonl"
FILE_KEYS = ("wav", "audio")
CLASS_KEYS = ("emo", "label")
SPEAKER_KEYS = ("speaker", "spk")
LABEL_MAP = "label_map.json"
# Folders above a list in which the paths in it may begin.
MOST_PARENTS = 6

Line = Mapping[str, Any]


def lists_in(folder: Path) -> list[Path]:
    """Find EmoBox's lists right in a folder."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.name[0] != "." and _is_emobox(path)]


def read_emobox(name: str, paths: Sequence[Path], place: Place) -> Reading:
    """Read lists of one corpus, such as the two of a fold.

    Paths in the lists are looked for from the lists' folder and the folders above it, and then by name.

    Raises:
        InputError: A list cannot be read.
        DataError: A line that cannot be used, or nothing says who speaks.
    """
    lines = [(path, line) for path in paths for line in _lines(path)]
    if not lines:
        raise InputError(f"{paths[0]} names no recording. Add a line for each.")
    named = _named([line for _, line in lines], paths[0])
    folder = paths[0].absolute().parent
    roots = (folder,) if place.confined else (folder, *list(folder.parents)[:MOST_PARENTS])
    rows: dict[Row, None] = {}
    for (path, line), facts in zip(lines, named, strict=True):
        file, given = _value(line, FILE_KEYS), _value(line, CLASS_KEYS)
        source, problem = place.find(file, roots)
        # A fold may be there twice, under two spellings of its name.
        row = Row(file, source, facts.speaker, given, "", split=_split(path), text=facts.text, problem=problem)
        rows.setdefault(row)
    words = _label_map(folder)
    classes = {row.given: class_of(words.get(row.given, row.given)) for row in rows}
    return Reading(name, "emobox", tuple(rows), classes)


def _is_emobox(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = json.loads(file.readline(65_536))
    except (OSError, ValueError):
        return False
    return isinstance(line, dict) and bool(_value(line, FILE_KEYS) and _value(line, CLASS_KEYS))


def _lines(path: Path) -> list[Line]:
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is no text in UTF-8: {error}.") from error
    return [_line(text, f"{path.name}, line {number}") for number, text in enumerate(texts, 1) if text.strip()]


def _line(text: str, where: str) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}.") from error
    if not isinstance(line, dict) or not _value(line, FILE_KEYS) or not _value(line, CLASS_KEYS):
        raise DataError(f"{where}: expected an object with {' or '.join(FILE_KEYS)}, and {' or '.join(CLASS_KEYS)}.")
    return line


def _value(line: Line, keys: Sequence[str]) -> str:
    return next((str(line[key]).strip() for key in keys if line.get(key) not in (None, "")), "")


def _split(path: Path) -> str:
    """EmoBox's files are called ``ravdess_train_fold_1.jsonl``."""
    return next(filter(None, (split_of(part) for part in path.stem.split("_"))), "")


def _named(lines: Sequence[Line], path: Path) -> list[Named]:
    """Say of each line who speaks: as it says itself, or by the scheme that names the corpus's files."""
    files = [_value(line, FILE_KEYS) for line in lines]
    if all(_value(line, SPEAKER_KEYS) for line in lines):
        return [Named(_value(line, SPEAKER_KEYS), "", "", "") for line in lines]
    known = {scheme.replace("-", ""): scheme for scheme in NAMES}
    corpus = str(lines[0].get("dataset", "")).casefold().replace("-", "").replace("_", "")
    scheme = known.get(corpus) or fits(files)
    named = [NAMES[scheme](Path(file)) if scheme else None for file in files]
    if unknown := [file for file, found in zip(files, named, strict=True) if found is None]:
        raise DataError(
            f"{path.name} does not say who speaks, and the name of {unknown[0]} does not either"
            f"{f' (read as {scheme})' if scheme else ''}. Add a key speaker to each line, or write a CSV manifest with "
            "the columns file,speaker,emotion."
        )
    return [found for found in named if found is not None]


def _label_map(folder: Path) -> Mapping[str, str]:
    """EmoBox's own words for its classes, beside the list or, for a fold, a folder above."""
    for path in (folder / LABEL_MAP, folder.parent / LABEL_MAP):
        try:
            words = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            continue
        if isinstance(words, dict):
            return {str(label): str(word) for label, word in words.items()}
    return {}
