"""List the recordings that a user means: files, folders and CSV manifests; each once, each under a name of its own."""

import csv
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.arrays import EmbedSettings, OutputSettings
from core.embed.recordings import AUDIO, AUDIO_SUFFIXES, MEG, TAKES
from core.embed.writers import check_base
from core.errors import InputError
from core.meg.reader import MEG_SUFFIXES, bti_parts, find_recordings, is_meg

MANIFESTS = {".csv": ",", ".tsv": "\t"}
# Base name at the top of the output folder that the corpus keeps for itself (summary.json).
KEPT_NAME = "summary"
# Last level of :func:`_name`; a name that carries a hash of the path needs no longer one.
LONGEST = 4


@dataclass(frozen=True)
class CorpusItem:
    """One recording and where its results go.

    Attributes:
        source: The recording.
        base: Name of the results without suffix.
        folder: Sub-folder of the output folder, with forward slashes; empty for the output folder itself.
        channel: Channel to take, from 1 on; None for what the settings say.
        error: Why it cannot be done, known before it was tried.
        speaker: Who speaks, as the manifest says; empty where it does not.
        label: What the recording is labelled with (an emotion, a class), as the manifest says; empty where it does not.
    """

    source: Path
    base: str
    folder: str = ""
    channel: int | None = None
    error: str | None = None
    speaker: str = ""
    label: str = ""

    def output(self, output: OutputSettings) -> OutputSettings:
        """Narrow a corpus's output settings down to this recording's folder and base name."""
        return replace(output, folder=output.folder / self.folder, base=self.base)

    def settings(self, settings: EmbedSettings) -> EmbedSettings:
        """Take the manifest's channel where it names one."""
        return settings if self.channel is None else replace(settings, channel=self.channel)


@dataclass(frozen=True)
class _Found:
    """A recording before it has a name; ``folder``, ``base``, ``channel``, ``speaker``, ``label`` are a manifest's."""

    source: Path
    root: Path
    folder: str | None = None
    base: str | None = None
    channel: int | None = None
    error: str | None = None
    speaker: str = ""
    label: str = ""


def is_corpus(inputs: Sequence[Path]) -> bool:
    """Whether these inputs are many recordings: more than one path, a folder, or a manifest."""
    return len(inputs) != 1 or _is_folder(inputs[0]) or inputs[0].suffix.lower() in MANIFESTS


def _is_folder(path: Path) -> bool:
    """Whether a folder of recordings is there: a CTF ``.ds`` is one recording; what cannot be looked at is none."""
    with suppress(OSError, ValueError):
        return path.is_dir() and not is_meg(path)
    return False


def _absolute(path: Path) -> Path:
    """Make a path absolute without following links: the name that the user gave is the one to show and to name by."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def list_inputs(inputs: Sequence[Path], modality: str = AUDIO) -> list[CorpusItem]:
    """List the recordings of files, folders (recursively, by suffix) and CSV manifests, each once, under unique names.

    A manifest has a column ``file`` (relative to its own folder) and optionally ``output`` (a sub-folder), ``base``,
    ``channel``, ``speaker`` and ``label``. A file that is missing becomes an item with an error.

    Args:
        inputs: What the user named.
        modality: Which recordings to look for in folders: ``audio`` or ``meg``; what is named is taken as it is.

    Raises:
        InputError: A manifest that cannot be read, or a folder without recordings.
    """
    found = [item for path in inputs for item in _look(_absolute(path), path, modality)]
    return _named(_once(found))


def _look(path: Path, given: Path, modality: str) -> list[_Found]:
    """Find what one input stands for; ``given`` is how the user wrote it."""
    if _is_folder(path):
        found = _in_folder(path, modality)
        if not found:
            raise InputError(_nothing_in(path, given, modality))
        return found
    if path.suffix.lower() in MANIFESTS:
        return _read_manifest(path, given)
    return [_Found(path, path.parent, error=_missing(path))]


def _missing(path: Path) -> str | None:
    """Say why there is no file to read, or None where there is one."""
    try:
        path.stat()
    except FileNotFoundError:
        return f"{path} does not exist."
    except (OSError, ValueError) as error:
        return f"{path} cannot be looked at: {getattr(error, 'strerror', None) or error}."
    return None if path.is_file() or is_meg(path) else f"{path} is no file."


def _in_folder(path: Path, modality: str) -> list[_Found]:
    return list(_walk(path)) if modality == AUDIO else _walk_meg(path)


def _nothing_in(path: Path, given: Path, modality: str) -> str:
    """Say that a folder holds no recording of a kind, and whether it holds some of the other one."""
    known, other = (AUDIO_SUFFIXES, MEG) if modality == AUDIO else (MEG_SUFFIXES, AUDIO)
    told = f"The folder {given} holds no {'MEG ' if modality == MEG else ''}recording ({' '.join(known)})."
    if not _in_folder(path, other):
        return told
    return f"{told} What it holds is {TAKES[other]}: choose a model that takes it."


def _walk(root: Path) -> Iterator[_Found]:
    """Go through a folder in sorted order, through linked folders once, and past hidden names."""
    seen: set[str] = set()
    problems: list[OSError] = []
    for folder, folders, files in os.walk(root, followlinks=True, onerror=problems.append):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            names = sorted(name for name in files if not name.startswith("."))
            yield from (_Found(Path(folder, name), root) for name in names if _is_audio(name))
        seen.add(real)
    for error in problems:
        yield _Found(Path(error.filename), root, error=f"The folder {error.filename} cannot be read: {error.strerror}.")


def _walk_meg(root: Path) -> list[_Found]:
    """Go through a folder; folders that are recordings and parts of one recording count once."""
    try:
        found = find_recordings([root], "*")
    except InputError:  # there are none
        return []
    inside = {parts[0] for path in found if path.is_dir() and (parts := bti_parts(path))}
    return [_Found(path, root) for path in found if path not in inside and not _is_result(path)]


def _is_result(path: Path) -> bool:
    """Whether an ``.npy`` holds embeddings that Strata wrote, which are no recording."""
    if path.suffix.lower() != ".npy":
        return False
    with suppress(OSError, ValueError):
        facts = json.loads(path.with_suffix(".json").read_bytes())
        return isinstance(facts, dict) and "settings_fingerprint" in facts
    return False


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_SUFFIXES


def _read_manifest(path: Path, given: Path) -> list[_Found]:
    """Read a CSV (or tab-separated) manifest."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=MANIFESTS[path.suffix.lower()])
            if "file" not in (reader.fieldnames or ()):
                got = ", ".join(reader.fieldnames or ()) or "nothing"
                raise InputError(f"The manifest {given} has the columns {got}; expected a column named file.")
            found = [_read_row(row, path.parent, f"{given}, line {reader.line_num}") for row in reader]
    except OSError as error:
        raise InputError(f"The manifest {given} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The manifest {given} is no CSV file in UTF-8: {error}.") from error
    if not found:
        raise InputError(f"The manifest {given} names no file. Add a row for each recording.")
    return found


def _read_row(row: dict[str, str | None], root: Path, where: str) -> _Found:
    """Make one row of a manifest an item; a row that cannot be used carries its error."""
    name, folder, base, channel = ((row.get(key) or "").strip() for key in ("file", "output", "base", "channel"))
    source = _absolute(root / name)
    error = _missing(source) if name else "The column file is empty."
    error = error or _row_problem(folder, base, channel)
    number = int(channel) if channel.isdecimal() else None
    speaker, label = ((row.get(key) or "").strip() for key in ("speaker", "label"))
    found = _Found(source, root, folder or None, base or None, number, speaker=speaker, label=label)
    return replace(found, error=f"{where}: {error}", folder=None, base=None) if error else found


def _row_problem(folder: str, base: str, channel: str) -> str | None:
    """Say what is wrong with a row's optional cells."""
    if channel and (not channel.isdecimal() or int(channel) < 1):
        return f"Got channel {channel!r}; expected a number from 1 on."
    if folder and (Path(folder).is_absolute() or ".." in Path(folder).parts):
        return f"Got output {folder!r}; expected a folder below the output folder."
    with suppress(InputError):
        if base:
            check_base(base)
        return None
    return f"Got base {base!r}; expected a file name without folders."


def _once(found: Iterable[_Found]) -> list[_Found]:
    """Drop what names the same file and channel again; a manifest's own output or base wins over none."""
    kept: dict[tuple, _Found] = {}
    for item in found:
        key = (_real(item), item.channel, item.folder, item.base, item.error)
        first = kept.get(key, item)
        # A folder and a manifest of its files: what only the manifest knows is kept, whichever was named first.
        kept[key] = replace(first, speaker=first.speaker or item.speaker, label=first.label or item.label)
    chosen = {(_real(item), item.channel) for item in kept.values() if item.folder or item.base}
    plain = [item.error is None and not (item.folder or item.base) for item in kept.values()]
    return [
        item
        for item, is_plain in zip(kept.values(), plain, strict=True)
        if not (is_plain and (_real(item), item.channel) in chosen)
    ]


def _real(item: _Found) -> str:
    """Where the file really lies, past every link."""
    try:
        return os.path.realpath(item.source)
    except ValueError:  # a zero byte in the name; its error says so
        return str(item.source)


def _named(found: list[_Found]) -> list[CorpusItem]:
    """Name every item that can be done, and leave the others with their errors."""
    good = [item for item in found if item.error is None]
    names = _unique(good)
    named = iter([_item(*facts) for facts in zip(good, names, _name_errors(good, names), strict=True)])
    return [next(named) if item.error is None else _item(item, ("", item.source.stem), item.error) for item in found]


def _item(item: _Found, name: tuple[str, str], error: str | None) -> CorpusItem:
    return CorpusItem(item.source, name[1], name[0], item.channel, error, item.speaker, item.label)


def _unique(found: list[_Found]) -> list[tuple[str, str]]:
    """Give names; those that collide get longer ones, all of them alike, so that no order matters."""
    top = Path(os.path.commonpath([item.source.parent for item in found])) if found else Path()
    levels = [0] * len(found)
    while True:
        names = [_name(item, level, top) for item, level in zip(found, levels, strict=True)]
        longer = [index for group in _clashes(names) for index in _to_lengthen(group, found, levels)]
        if not longer:
            return names
        for index in longer:
            levels[index] += 1


def _to_lengthen(group: list[int], found: list[_Found], levels: list[int]) -> list[int]:
    """Choose from items of one name those with the plainest kind of name; a base that a manifest gave stays."""
    movable = [index for index in group if found[index].base is None and levels[index] < LONGEST]
    plainest = min((levels[index] for index in movable), default=0)
    return [index for index in movable if levels[index] == plainest]


def _name(item: _Found, level: int, top: Path) -> tuple[str, str]:
    """Name an item, longer at each level: stem, file name, both below the common folder, and last a hash of its path.

    Returns:
        Sub-folder and base name.
    """
    if item.base is not None:
        return item.folder or "", item.base
    root = item.root if level < 2 and item.source.is_relative_to(item.root) else top
    below = item.source.relative_to(root) if level >= 2 or root == item.root else Path(item.source.name)
    folder = below.parent.as_posix() if item.folder is None else Path(item.folder).as_posix()
    base = item.source.name if level % 2 or level == LONGEST else item.source.stem
    if level and item.channel is not None:
        base += f"_channel{item.channel}"
    if level == LONGEST:
        base += "_" + hashlib.sha256(os.fsencode(item.source)).hexdigest()[:8]
    return "" if folder == "." else folder, base


def _clashes(names: list[tuple[str, str]]) -> list[list[int]]:
    """Group the indices of names that some file system would take for the same, or for the summary."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_key(name), []).append(index)
    return [group for key, group in groups.items() if len(group) > 1 or _is_kept(key)]


def _name_errors(found: list[_Found], names: list[tuple[str, str]]) -> list[str | None]:
    """Say which names cannot be had: one that a manifest asked for twice (the later rows), or the summary's."""
    errors: list[str | None] = [None] * len(found)
    for group in _clashes(names):
        name = "/".join(names[group[0]]).lstrip("/")
        for index in group[1:]:
            errors[index] = f"The name {name} is taken by {found[group[0]].source}. Choose another base."
        if _is_kept(names[group[0]]):
            errors[group[0]] = f"The name {name} is kept for {KEPT_NAME}.json. Choose another base."
    return errors


def _is_kept(name: tuple[str, str]) -> bool:
    return _key(name) == ("", KEPT_NAME)


def _key(name: tuple[str, str]) -> tuple[str, str]:
    """What a file system may compare: without case, and with accents spelt one way."""
    folder, base = (unicodedata.normalize("NFC", part).casefold() for part in name)
    return folder, base
