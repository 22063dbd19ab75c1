"""MEG recordings of any system, opened without reading their samples.

What MNE reads: Neuromag's ``.fif`` (split files, Maxwell-filtered files, exports of other systems, MaxShield with a
warning), CTF ``.ds`` folders, KIT ``.con`` and ``.sqd``, BTi/4D folders; and numpy arrays (:mod:`core.meg.numpy_raw`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import DataError, InputError
from core.meg.layouts import sensors_of
from core.meg.quiet import quiet_mne
from core.sensors import Sensors

if TYPE_CHECKING:
    from mne.io import BaseRaw

MEG_SUFFIXES = (".fif", ".fif.gz", ".ds", ".con", ".sqd", ".npy")
"""BTi has none: its recordings are known by the ``config`` file beside them."""

SIMULATED = "Simulated by Strata"
"""How the description of a recording begins that :mod:`core.synthetic.meg` made."""

LEAST_SECONDS = 0.2

# MNE's naming conventions for files that are no continuous recordings.
_NOT_RAW = re.compile(r"[-_](ave|cov|trans|fwd|inv|epo|eve|proj|ica|src|bem|sol|dig|annot|stc)\.fif(\.gz)?$")
_LATER_PART = re.compile(r"(?:_split-(?!0*1_)\d+(?=_)|-\d+(?=\.fif))")


@dataclass(frozen=True)
class MegFile:
    """An open recording.

    Attributes:
        path: The file or folder.
        raw: MNE's object with all channels; samples are read when they are asked for.
        sensors: Its MEG channels in the file's order, bads included.
        format: Such as ``Neuromag .fif``.
        simulated: Whether the file says so itself.
        warnings: Sentences.
    """

    path: Path
    raw: BaseRaw
    sensors: Sensors
    format: str
    simulated: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelSpan:
    """A labelled stretch: seconds from the recording's first sample, seconds long (0 for an instant)."""

    onset: float
    duration: float
    label: str


def is_meg(path: Path) -> bool:
    """Whether a path is named like a MEG recording (for ``.npy``: whether the array has two dimensions)."""
    suffix = _suffix_of(path)
    if suffix == ".npy":
        return _has_two_dimensions(path)
    return bool(suffix) or bti_parts(path) is not None


def open_raw(path: Path, numpy_rate: float | None = None) -> MegFile:
    """Open a recording; its samples stay on disk.

    Args:
        path: File, or folder of CTF and BTi.
        numpy_rate: Sampling rate in Hz of a ``.npy`` that has no ``.json`` beside it.

    Raises:
        InputError: there is no such file, or it is of no known kind, or a numpy array lacks its rate or its sensors.
        DataError: it is damaged, no continuous recording, too short, or has no MEG channels.
    """
    path = Path(path)
    name, read = _format_of(path)
    with quiet_mne(path) as heard:
        raw, warnings = read(path, numpy_rate)
        end = raw.get_data(start=raw.n_times - 1)  # of a file that breaks off it cannot be read
    _check_content(path, raw)
    # MNE opens a .fif that breaks off between two buffers as a shorter one, and reads on in a KIT file as zeros.
    if any("Invalid tag" in one for one in heard) or (name.startswith("KIT") and not end.any()):
        raise DataError(f"{path} is truncated: its end is missing. Copy it again from its source.")
    description = str(raw.info["description"] or "")
    told = (*warnings, *map(_our_sentence, heard))
    return MegFile(path, raw, sensors_of(raw.info), name, description.startswith(SIMULATED), told)


def labels_of(file: MegFile) -> tuple[LabelSpan, ...]:
    """The annotations, in order; without those that mark a stretch as bad (``BAD...``, ``EDGE...``)."""
    raw = file.raw
    spans = [
        LabelSpan(float(one["onset"] - raw.first_time), float(one["duration"]), str(one["description"]))
        for one in raw.annotations
        if not str(one["description"]).upper().startswith(("BAD", "EDGE"))
    ]
    return tuple(sorted(spans, key=lambda span: (span.onset, span.label)))


def find_recordings(inputs: Iterable[Path], pattern: str) -> tuple[Path, ...]:
    """Recordings among files and folders; a recording that is split over several files counts once.

    Args:
        inputs: Recordings, and folders to search with all their sub-folders.
        pattern: Of recordings in folders, such as ``*.fif``. What is named like evoked data, covariances and other
            things that MNE keeps in ``.fif`` files is passed over.

    Raises:
        InputError: an input is not there, nothing was found, or a later part of a split recording was named without
            the first one.
    """
    places = [Path(one) for one in inputs]
    for place in places:
        _require(place)
    found: dict[Path, Path] = {}
    for place in places:
        for path in [place] if is_meg(place) or place.is_file() else _search(place, pattern):
            found.setdefault(path.resolve(), path)
    firsts = {path: _first_part(path) for path in found.values()}
    for path, first in firsts.items():
        if path in places and first is not None and first.resolve() not in found:
            raise InputError(f"{path} goes on where {first} stops. Give {first.name}: its parts are read with it.")
    whole = tuple(path for path, first in firsts.items() if first is None)
    if not whole:
        looked = ", ".join(map(str, places)) or "nothing"
        raise InputError(f"Found no MEG recording that matches {pattern!r} in {looked}. Give another --file_pattern.")
    return whole


def bti_parts(path: Path) -> tuple[Path, Path, Path | None] | None:
    """Data, configuration and (where there is one) head shape of a BTi recording, from its folder or its data file."""
    folder = path if path.is_dir() else path.parent
    if path.suffix in (".fif", ".gz", ".ds") or not folder.is_dir():
        return None
    if folder != path and not _is_bti_data(path):
        return None  # before its neighbours are listed: this is asked of every file of a large folder
    files = [one for one in sorted(folder.iterdir()) if one.is_file()]
    config = next((one for one in files if "config" in one.name.lower() and not one.suffix), None)
    data = next((one for one in files if _is_bti_data(one)), None) if path.is_dir() else path
    if config is None or data is None or not _is_bti_data(data):
        return None
    return data, config, next((one for one in files if re.search(r"hs_|^hs", one.name.lower())), None)


def _is_bti_data(path: Path) -> bool:
    """4D names its data like ``c,rfDC`` or ``e,rfhp1.0Hz``."""
    named = "pdf" in path.name.lower() and not path.suffix
    return named or bool(re.match(r"[a-z]{1,2},r[fh]", path.name))


def _suffix_of(path: Path) -> str:
    name = path.name.lower()
    return next((suffix for suffix in MEG_SUFFIXES if name.endswith(suffix)), "")


def _has_two_dimensions(path: Path) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r", allow_pickle=False).ndim == 2)
    except (OSError, ValueError, EOFError, AttributeError):
        return False


_Read = Callable[[Path, float | None], tuple["BaseRaw", tuple[str, ...]]]


def _format_of(path: Path) -> tuple[str, _Read]:
    _require(path)
    suffix = _suffix_of(path)
    formats: dict[str, tuple[str, _Read]] = {
        ".fif": ("Neuromag .fif", _read_fif),
        ".fif.gz": ("Neuromag .fif", _read_fif),
        ".ds": ("CTF .ds", _read_ctf),
        ".con": ("KIT .con", _read_kit),
        ".sqd": ("KIT .sqd", _read_kit),
        ".npy": ("numpy", _read_npy),
    }
    if suffix:
        return formats[suffix]
    if bti_parts(path):
        return "BTi", _read_bti
    inside = " Give the .ds folder that it lies in." if path.parent.name.endswith(".ds") else ""
    raise InputError(
        f"{path} is no MEG recording by its name; expected {', '.join(MEG_SUFFIXES)}, or a BTi folder with its config "
        f"file.{inside} (EEG and intracranial recordings go to python -m core sites.)"
    )


def _require(path: Path) -> None:
    if not path.exists():
        raise InputError(f"There is no {path}. Give an existing recording, or a folder with recordings.")


def _read_fif(path: Path, _: float | None) -> tuple[BaseRaw, tuple[str, ...]]:
    import mne

    return mne.io.read_raw_fif(path, allow_maxshield=True), ()


def _read_ctf(path: Path, _: float | None) -> tuple[BaseRaw, tuple[str, ...]]:
    import mne

    return mne.io.read_raw_ctf(path), ()


def _read_kit(path: Path, _: float | None) -> tuple[BaseRaw, tuple[str, ...]]:
    import mne

    return mne.io.read_raw_kit(path), ()


def _read_bti(path: Path, _: float | None) -> tuple[BaseRaw, tuple[str, ...]]:
    import mne

    parts = bti_parts(path)
    assert parts is not None  # _format_of asked
    data, config, shape = parts
    return mne.io.read_raw_bti(data, config, shape, convert=True), ()


def _read_npy(path: Path, rate: float | None) -> tuple[BaseRaw, tuple[str, ...]]:
    from core.meg.numpy_raw import read_numpy

    return read_numpy(path, rate)


def _check_content(path: Path, raw: BaseRaw) -> None:
    seconds = raw.n_times / raw.info["sfreq"]
    kinds = Counter(raw.get_channel_types())
    if not kinds["mag"] + kinds["grad"]:
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        raise DataError(
            f"{path} has no MEG channels, only {held}. Give a recording with magnetometers or gradiometers."
        )
    if seconds < LEAST_SECONDS:
        raise DataError(f"{path} lasts {seconds:.3f} s; expected at least {LEAST_SECONDS} s. Give a longer recording.")


def _our_sentence(heard: str) -> str:
    if "Internal Active Shielding" in heard:
        return (
            "Recorded with internal active shielding (MaxShield), whose field is still in the data: run "
            "mne.preprocessing.maxwell_filter on it first."
        )
    return f"MNE says: {heard}"


def _search(folder: Path, pattern: str) -> list[Path]:
    """Recordings below a folder; what lies inside a CTF folder belongs to that."""
    found = [path for path in sorted(folder.rglob(pattern)) if not any(up.suffix == ".ds" for up in path.parents)]
    return [path for path in found if is_meg(path) and not _NOT_RAW.search(path.name)]


def _first_part(path: Path) -> Path | None:
    """The first file of the recording of which a file is a later part, which that says in itself; else None."""
    firsts = {path.with_name(_LATER_PART.sub(new, path.name, count=1)) for new in ("", "_split-01")}
    for first in firsts - {path}:
        if first.is_file():
            with quiet_mne(first):
                parts = _read_fif(first, None)[0].filenames
            return first if path.resolve() in {Path(part).resolve() for part in parts} else None
    return None
