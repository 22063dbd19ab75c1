"""One way into every corpus: find out what it is, read it, look for its files, map its labels, and check it."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core.audio.signal import hash_file
from core.embed.inputs import MANIFESTS
from core.emotion.archives import ArchiveLimits, list_zip, top_folder, unpack_zip
from core.emotion.corpora.audformat import HEADER, read_audformat
from core.emotion.corpora.checks import check_clips, check_rows, warnings_of
from core.emotion.corpora.classes import apply_mapping
from core.emotion.corpora.emobox import SUFFIX as EMOBOX_SUFFIX
from core.emotion.corpora.emobox import lists_in, read_emobox
from core.emotion.corpora.files import Place
from core.emotion.corpora.folders import read_folder
from core.emotion.corpora.lists import list_in, read_list
from core.emotion.corpora.names import NAMES
from core.emotion.corpora.rows import Reading, Row, some
from core.errors import DataError, InputError, OutputError
from core.scoring import Clip, CorpusSettings, LabelledCorpus

LISTED = ("manifest", "emobox", "audformat")
SCHEMES = ("auto", *NAMES, *LISTED)
"""What CorpusSettings.scheme may say."""

# Characters of an archive's own name and of its hash in the name of the folder it is unpacked to.
NAME_LENGTH = 60
HASH_LENGTH = 16


def read_corpus(
    data: Path, settings: CorpusSettings, unpack_to: Path | None = None, *, confined: bool = False
) -> LabelledCorpus:
    """Read a corpus of clips with speakers and classes.

    Args:
        data: CSV or tab-separated list, EmoBox's JSON lines, a folder (names of files, a list in it, audformat), or a
            zip archive of such a folder.
        settings: How to read it.
        unpack_to: Folder that takes an archive's files, in a folder of its own; what is there already is used again.
        confined: Whether a list may name files below its own folder only; always so in an archive.

    Raises:
        InputError: What is given is no corpus, or not one of that scheme.
        DataError: A list or archive that cannot be used, missing recordings, a label that the mapping does not name,
            or a corpus with which nothing can be learnt or tested.
        OutputError: An archive cannot be unpacked there.
    """
    if settings.scheme not in SCHEMES:
        raise InputError(f"Got the scheme {settings.scheme!r}; expected one of {', '.join(SCHEMES)}.")
    reading = _read(data, settings.scheme, unpack_to, confined)
    check_rows(reading.rows)
    rows, failures = _present(reading, settings.skip_missing)
    mapping = apply_mapping((row.given for row in rows), reading.classes, settings.mapping)
    clips = _clips([row for row in rows if mapping[row.given]], mapping)
    check_clips(clips)
    warnings = (*reading.notes, *_left_out(rows, mapping), *warnings_of(clips))
    return LabelledCorpus(reading.name, reading.scheme, clips, mapping, failures, warnings)


def fingerprint(corpus: LabelledCorpus, hashes: Mapping[Path, str] | None = None) -> str:
    """Hash what a corpus teaches: each clip's name, speaker, class and stretch, and its recording's hash if given.

    Args:
        corpus: The corpus; where it lies, and in which order it was listed, does not count.
        hashes: SHA-256 of each recording's content.

    Returns:
        SHA-256, in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for clip in sorted(corpus.clips, key=lambda clip: clip.name):
        facts = (clip.name, clip.speaker, clip.label, clip.start, clip.stop, (hashes or {}).get(clip.source))
        digest.update(json.dumps(facts).encode() + b"\n")
    return digest.hexdigest()


def _read(given: Path, scheme: str, unpack_to: Path | None, confined: bool) -> Reading:
    # Without following links: the name that the user gave is the one to show.
    data = Path(os.path.abspath(given))  # noqa: PTH100
    try:
        is_folder, is_file = data.is_dir(), data.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"{data} cannot be looked at: {error}.") from error
    if is_folder:
        folder = _inside(data)
        return _read_folder(folder.name, Place(folder, whole=True, confined=confined), scheme)
    if not is_file:
        raise InputError(f"{data} does not exist. Give a folder, a zip archive, or a list of recordings.")
    if data.suffix.lower() == ".zip":
        return _read_zip(data, scheme, unpack_to)
    place = Place(data.parent, whole=False, confined=confined)
    if data.suffix.lower() in MANIFESTS:
        _allow(scheme, "manifest", data)
        return read_list(data.stem, data, place)
    if data.suffix.lower() == EMOBOX_SUFFIX:
        _allow(scheme, "emobox", data)
        return read_emobox(data.stem, [data], Place(data.parent, whole=True, confined=confined))
    raise InputError(f"Got {data}; expected a folder, a .zip archive, or a list (.csv, .tsv, {EMOBOX_SUFFIX}).")


def _allow(scheme: str, own: str, data: Path) -> None:
    if scheme not in ("auto", own):
        raise InputError(f"{data} is a list ({own}); it cannot be read as {scheme}. Give the folder of the recordings.")


def _inside(folder: Path) -> Path:
    try:
        return top_folder(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error


def _read_folder(name: str, place: Place, scheme: str) -> Reading:
    """Read a folder through its header or lists if it has any, else by the names of its files."""
    try:
        readers = _readers(name, place, scheme)
    except OSError as error:
        raise InputError(f"{place.folder} cannot be read: {error.strerror}.") from error
    if scheme in LISTED and scheme not in readers:
        raise InputError(f"{place.folder} holds no list that can be read as {scheme}.")
    chosen = next(iter(readers), None) if scheme == "auto" else scheme
    return readers[chosen]() if chosen in readers else read_folder(name, place, scheme)


def _readers(name: str, place: Place, scheme: str) -> dict[str, Callable[[], Reading]]:
    """Say which lists a folder can be read through, the most telling first."""
    readers: dict[str, Callable[[], Reading]] = {}
    if scheme in NAMES:
        return readers
    if (place.folder / HEADER).is_file():
        readers["audformat"] = lambda: read_audformat(name, place.folder, place)
        if scheme == "auto":
            return readers
    if (table := list_in(place.folder)) is not None:
        readers["manifest"] = lambda: read_list(name, table, place)
    if lists := lists_in(place.folder):
        readers["emobox"] = lambda: read_emobox(name, lists, place)
    return readers


def _read_zip(path: Path, scheme: str, unpack_to: Path | None) -> Reading:
    if unpack_to is None:
        raise InputError(f"{path} is an archive: unpack it, and give the folder.")
    limits = ArchiveLimits()
    left_out = list_zip(path, limits).left_out
    target = unpack_to / f"{path.stem[:NAME_LENGTH].strip(' .')}-{hash_file(path)[:HASH_LENGTH]}"
    if not target.is_dir():
        try:
            unpack_zip(path, target, limits)
        except OutputError:
            # Another process may have been faster, which is as good.
            if not target.is_dir():
                raise
    folder = top_folder(target)
    reading = _read_folder(path.stem, Place(folder, whole=True, confined=True), scheme)
    if not left_out:
        return reading
    note = f"{len(left_out)} files of the archive are neither recordings nor lists, and left out: {some(left_out)}."
    return Reading(
        reading.name, reading.scheme, reading.rows, reading.classes, reading.failures, (note, *reading.notes)
    )


def _present(reading: Reading, skip_missing: bool) -> tuple[list[Row], tuple[dict[str, str], ...]]:
    """Part the rows whose recordings are there from those whose are not."""
    absent = [row for row in reading.rows if row.problem]
    if absent and not skip_missing:
        raise DataError(
            f"{len(absent)} of {len(reading.rows)} recordings cannot be used: "
            f"{' '.join(dict.fromkeys(row.problem for row in absent[:3]))}"
            f"{' ...' if len(absent) > 3 else ''} Put them there, or leave them out (--skip-missing)."
        )
    failures = tuple({"file": row.file, "error": row.problem} for row in absent)
    return [row for row in reading.rows if not row.problem], (*reading.failures, *failures)


def _left_out(rows: Sequence[Row], mapping: Mapping[str, str]) -> list[str]:
    counts = Counter(row.given for row in rows if not mapping[row.given])
    if not counts:
        return []
    labels = some([f"{label} ({n})" for label, n in sorted(counts.items())])
    return [f"{counts.total()} clips are left out by the mapping: {labels}."]


def _clips(rows: Sequence[Row], mapping: Mapping[str, str]) -> tuple[Clip, ...]:
    clips = [
        Clip(
            row.source,
            name,
            row.speaker.strip(),
            mapping[row.given],
            row.given,
            row.start,
            row.stop,
            row.split,
            row.text,
        )
        for row, name in zip(rows, _names(rows), strict=True)
    ]
    return tuple(sorted(clips, key=lambda clip: clip.name))


def _names(rows: Sequence[Row]) -> list[str]:
    """Name the clips: stems if these differ, else paths below the common folder; parts by their times as well."""
    sources = list(dict.fromkeys(row.source for row in rows))
    top = Path(os.path.commonpath([path.parent for path in sources])) if sources else Path()
    below = [path.relative_to(top) for path in sources]
    kinds = (
        [path.stem for path in sources],
        [path.with_suffix("").as_posix() for path in below],
        [path.as_posix() for path in below],
    )
    names = dict(zip(sources, next(kind for kind in kinds if len(set(kind)) == len(sources)), strict=True))
    return [f"{names[row.source]}{_stretch(row)}" for row in rows]


def _stretch(row: Row) -> str:
    if row.start is None and row.stop is None:
        return ""
    return f" {row.start or 0.0!r}-{'' if row.stop is None else repr(row.stop)}"
