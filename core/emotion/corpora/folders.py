"""A folder of recordings whose names say everything: which scheme names them, and what it says of each."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.embed.inputs import CorpusItem
from core.emotion.corpora.classes import CODES
from core.emotion.corpora.files import Place, problem_of, recordings
from core.emotion.corpora.names import EXAMPLES, NAMES, Named
from core.emotion.corpora.rows import Reading, Row
from core.errors import InputError

# Share of the files that a scheme has to name before it is taken for the corpus's own.
NEARLY_ALL = 0.9
REMEDY = "Write a CSV manifest with the columns file,speaker,emotion"


def read_folder(name: str, place: Place, scheme: str) -> Reading:
    """Read a folder by the names of its files; those that do not fit are failures.

    Raises:
        InputError: There is no recording, or no scheme names nearly all of them.
    """
    items = recordings(place.folder)
    if not items:
        raise InputError(
            f"{place.folder} holds no recording, and no list of any. Give the folder that holds the corpus."
        )
    files = [item.source for item in items if item.error is None]
    scheme = detect(place.folder, files) if scheme == "auto" else scheme
    named = {path: NAMES[scheme](path) for path in files}
    if not any(named.values()):
        raise InputError(
            f"No file of {place.folder} is named as in {scheme} ({EXAMPLES[scheme]}), for example {_examples(files)}. "
            f"{REMEDY}, or let the scheme be found (auto)."
        )
    kept, notes = _one_of_each({path: found for path, found in named.items() if found})
    rows = tuple(_row(path, found, place) for path, found in kept.items())
    return Reading(name, scheme, rows, CODES[scheme], _failures(items, named, scheme), tuple(notes))


def detect(folder: Path, files: list[Path]) -> str:
    """Find the scheme that names nearly all of the files.

    Raises:
        InputError: None does.
    """
    counts = {scheme: sum(parse(path) is not None for path in files) for scheme, parse in NAMES.items()}
    best = max(counts, key=lambda scheme: counts[scheme])
    if counts[best] >= NEARLY_ALL * len(files) and files:
        return best
    tried = ", ".join(f"{scheme} {count}" for scheme, count in counts.items())
    raise InputError(
        f"The names of the {len(files)} recordings in {folder} follow no scheme that is known (files that each one "
        f"names: {tried}), for example {_examples(files)}. {REMEDY}, or say which scheme to read."
    )


def _examples(files: list[Path]) -> str:
    """Two file names, from either end, so that they are not of one kind."""
    return " and ".join(dict.fromkeys(path.name for path in (files[0], files[-1]))) if files else "none"


def _one_of_each(named: Mapping[Path, Named]) -> tuple[dict[Path, Named], list[str]]:
    """Keep one file of each recording, no pictures without sound, and no songs beside speech."""
    notes = []
    sounding = {path: found for path, found in named.items() if found.form != "video"}
    if len(sounding) < len(named):
        notes.append(f"{_count(len(named) - len(sounding), 'silent video')} left out.")
    speech = {path: found for path, found in sounding.items() if found.form == "speech"}
    if speech and len(speech) < len(sounding):
        notes.append(f"{_count(len(sounding) - len(speech), 'song')} left out: singing is not speech.")
    takes: dict[str, list[Path]] = defaultdict(list)
    for path, found in (speech or sounding).items():
        takes[found.take].append(path)
    if doubled := [paths for paths in takes.values() if len(paths) > 1]:
        first, second = doubled[0][:2]
        notes.append(
            f"{_count(len(doubled), 'recording')} there more than once under one name (such as {first.name} in "
            f"{first.parent.name} and {second.name} in {second.parent.name}); each counts once."
        )
    # With sound alone before video with sound; of equals the first.
    best = [max(paths, key=lambda path: named[path].rank) for paths in takes.values()]
    return {path: named[path] for path in sorted(best)}, notes


def _count(n: int, noun: str) -> str:
    return f"1 {noun} is" if n == 1 else f"{n} {noun}s are"


def _row(path: Path, named: Named, place: Place) -> Row:
    return Row(
        path.name, path, named.speaker, named.given, path.name, text=named.text,
        problem=problem_of(path),
    )  # fmt: skip


def _failures(
    items: Iterable[CorpusItem], named: Mapping[Path, Named | None], scheme: str
) -> tuple[dict[str, str], ...]:
    failures = [{"file": str(item.source), "error": item.error} for item in items if item.error is not None]
    unfit = [path for path, found in named.items() if found is None]
    error = f"The name is not one of {scheme} ({EXAMPLES[scheme]})."
    return (*failures, *({"file": str(path), "error": error} for path in unfit))


def fits(files: Iterable[str]) -> str:
    """Say which scheme names all of these files; empty if none does."""
    paths = [Path(file) for file in files]
    return next((scheme for scheme, parse in NAMES.items() if paths and all(map(parse, paths))), "")
