"""Recordings of many sites, opened without loading them: EEG, ECoG, sEEG and MEG, sound of several channels, arrays.

MEG goes through :mod:`core.meg.reader`, sound through :mod:`core.audio`, everything else through MNE. A recording gives
sites of one family at a time, because only those can be compared: what lies beside them is named and left out.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from core.errors import DataError, InputError, OutputError
from core.sensors import MEG_KINDS, Sensors
from core.sites.metres import FARTHEST
from core.sites.names import clean_names, is_no_brain_signal, listed

if TYPE_CHECKING:
    from mne.io import BaseRaw

    from core.meg.reader import MegFile

FAMILIES = {"meg": MEG_KINDS, "ieeg": ("ecog", "seeg", "dbs"), "eeg": ("eeg",)}
"""Kinds of channels that are taken together. Of several in one file the first in this order is taken."""

MNE_SUFFIXES = (
    *(".fif", ".fif.gz", ".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".mff", ".egi", ".cnt", ".eeg", ".lay"),
    *(".nxe", ".data", ".mef", ".ds", ".con", ".sqd"),
)
"""What is read by MNE; ``.npy`` is an array, and everything else is sound."""

_FAMILY_NAMES = {"meg": "MEG", "ieeg": "intracranial", "eeg": "EEG"}


@dataclass(frozen=True)
class SiteRecording:
    """An open recording. Close it, or use it in a ``with``.

    Attributes:
        path: The file or folder.
        format: Such as ``EDF``, ``Neuromag .fif`` or ``WAV``.
        sites: Its channels in the file's order. Positions in metres in the head's frame (MEG: the helmet's).
        sampling_rate: Hz; need not be whole.
        n_times: Samples of each channel.
        sha256: Of the content of all its files.
        regions: Of each channel; empty text where the file knows none.
        simulated: Whether the file says so itself.
        bad_spans: Seconds ``(start, stop)`` that annotations mark as bad.
        left_out: Channels that are no sites, with the reason.
        warnings: Sentences.
    """

    path: Path
    format: str
    sites: Sensors
    sampling_rate: float
    n_times: int
    sha256: str
    regions: tuple[str, ...]
    simulated: bool = False
    bad_spans: tuple[tuple[float, float], ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    values: Callable[[int, int], np.ndarray] = field(repr=False, kw_only=True)
    release: Callable[[], None] = field(default=lambda: None, repr=False, kw_only=True)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def seconds(self) -> float:
        """Length."""
        return self.n_times / self.sampling_rate

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) as a new (channels, stop - start) float64 array, in the file's units (SI from MNE).

        Raises:
            InputError: the range is reversed or reaches beyond the recording.
            DataError: it cannot be read.
        """
        if not 0 <= start <= stop <= self.n_times:
            raise InputError(f"Got samples {start} to {stop} of {self.name}; expected a range within {self.n_times}.")
        return np.asarray(self.values(start, stop), dtype=np.float64)

    def take(self, channels: Sequence[int] | np.ndarray) -> SiteRecording:
        """The same recording with some of its channels; closing one closes both."""
        order, values = [int(one) for one in channels], self.values
        regions = tuple(self.regions[one] for one in order)
        return replace(
            self, sites=self.sites.take(order), regions=regions, values=lambda start, stop: values(start, stop)[order]
        )

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_site_recording(
    path: Path | str, montage: str = "", numpy_rate: float | None = None, family: str = ""
) -> SiteRecording:
    """Open a recording of many sites.

    Args:
        path: File or folder.
        montage: Name of one of MNE's montages, for EEG without positions of its own; names are matched without case.
        numpy_rate: Sampling rate in Hz of a ``.npy`` that has no ``.json`` beside it.
        family: ``meg``, ``ieeg`` or ``eeg``; empty takes the first of these that the file holds.

    Raises:
        InputError: there is no such file, montage or family, or an array lacks its rate.
        DataError: it cannot be read, or has no channels of a brain or of sound.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no {path}. Give an existing recording.")
    if family not in ("", *FAMILIES):
        raise InputError(f"Got family {family!r}; expected {', '.join(FAMILIES)}.")
    if montage:
        _positions_of(montage)
    if path.suffix.lower() == ".npy":
        from core.sites.numpy_sites import open_numpy_sites

        return open_numpy_sites(path, numpy_rate)
    if path.is_dir() or path.name.lower().endswith(MNE_SUFFIXES) or _is_bti(path):
        return _open_mne(path, montage, family)
    return _open_audio(path)


def open_meg_sites(path: Path, numpy_rate: float | None = None) -> SiteRecording:
    """Open MEG of any system, by :func:`core.meg.reader.open_raw`."""
    from core.meg.reader import open_raw

    return _of_meg(open_raw(path, numpy_rate))


def _is_bti(path: Path) -> bool:
    from core.meg.reader import bti_parts

    return bti_parts(path) is not None


def _open_mne(path: Path, montage: str, family: str) -> SiteRecording:
    from core.meg.quiet import quiet_mne

    name = path.name.lower()
    if name.endswith((".ds", ".con", ".sqd")) or _is_bti(path):
        return open_meg_sites(path)
    import mne

    with quiet_mne(path) as heard:
        raw = mne.io.read_raw(path, preload=False)
        if raw.n_times:
            raw.get_data(start=raw.n_times - 1)  # of a file that breaks off it cannot be read
    if any("Invalid tag" in one for one in heard):
        raise DataError(f"{path} is truncated: its end is missing. Copy it again from its source.")
    chosen = family or _first_family(path, raw)
    if chosen == "meg":
        return open_meg_sites(path)
    return _of_raw(path, raw, chosen, montage, tuple(f"MNE says of {path.name}: {one}" for one in heard))


def _first_family(path: Path, raw: BaseRaw) -> str:
    kinds = set(raw.get_channel_types())
    found = next((name for name, members in FAMILIES.items() if kinds & set(members)), None)
    if found is None:
        raise DataError(
            f"{path} has no EEG, ECoG, sEEG or MEG channels, only {', '.join(sorted(kinds))}. Give a recording of a "
            "brain, or of several microphones."
        )
    return found


def _of_meg(file: MegFile) -> SiteRecording:
    from core.meg.layouts import plain_name

    raw, sensors = file.raw, file.sensors
    left_out = _left_out(raw, list(sensors.names))
    keep = [index for index, name in enumerate(sensors.names) if name not in left_out]
    # Picking by name costs MNE milliseconds a call.
    picks = [raw.ch_names.index(sensors.names[index]) for index in keep]
    _require_some(file.path, picks)
    sites = sensors.take(keep)
    plain = tuple(plain_name(name) for name in sites.names)
    sites = replace(sites, names=plain if len(set(plain)) == len(plain) else sites.names)
    warnings = (*file.warnings, *_beside(file.path, raw, MEG_KINDS))
    return _from_raw(file.path, raw, _Taken(file.format, picks, sites, left_out, warnings))


def _of_raw(path: Path, raw: BaseRaw, family: str, montage: str, told: tuple[str, ...]) -> SiteRecording:
    kinds = raw.get_channel_types()
    wanted = [index for index, kind in enumerate(kinds) if kind in FAMILIES[family]]
    left_out = _left_out(raw, [raw.ch_names[index] for index in wanted])
    picks = [index for index in wanted if raw.ch_names[index] not in left_out]
    _require_some(path, picks)
    places, warnings = _own_positions(path, raw, picks)
    names = [raw.ch_names[index] for index in picks]
    if not np.isfinite(places).any():
        names, places, more = _by_montage(path, names, montage)
        warnings = (*warnings, *more)
    else:
        names = list(clean_names(names))
        if montage:
            warnings = (*warnings, f"{path.name} has positions of its own; the montage {montage} is not used for it.")
    sites = Sensors(tuple(names), tuple(kinds[index] for index in picks), places, np.full((len(picks), 3), np.nan))
    warnings = (*told, *warnings, *_beside(path, raw, FAMILIES[family]))
    return _from_raw(path, raw, _Taken(_format_of(raw), picks, sites, left_out, warnings))


@dataclass(frozen=True)
class _Taken:
    """What is taken of a file: its format, channels by index, the sites they are, what is left out and said."""

    format: str
    picks: list[int]
    sites: Sensors
    left_out: dict[str, str]
    warnings: tuple[str, ...]


def _from_raw(path: Path, raw: BaseRaw, taken: _Taken) -> SiteRecording:
    def values(start: int, stop: int) -> np.ndarray:
        from core.meg.quiet import quiet_mne

        with quiet_mne(path):
            block: np.ndarray = raw.get_data(picks=taken.picks, start=start, stop=stop, verbose="ERROR")
        return block

    return SiteRecording(
        path=path,
        format=taken.format,
        sites=taken.sites,
        sampling_rate=float(raw.info["sfreq"]),
        n_times=int(raw.n_times),
        sha256=_hash_all(path, raw),
        regions=("",) * len(taken.sites),
        simulated=_says_simulated(raw),
        bad_spans=_bad_spans(raw),
        left_out=taken.left_out,
        warnings=(*taken.warnings, *_named(path, taken.left_out)),
        values=values,
        release=raw.close,
    )


def _require_some(path: Path, picks: list[int]) -> None:
    if not picks:
        raise DataError(f"{path}: all of its channels are marked as bad or are no brain signals. Correct their marks.")


def _left_out(raw: BaseRaw, names: list[str]) -> dict[str, str]:
    """Channels that are no sites, with the reason; those of other types are counted elsewhere."""
    bads, kinds = set(raw.info["bads"]), dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    # A type other than EEG was given by somebody; EEG is what formats without types call everything.
    untyped = (name for name in names if kinds[name] == "eeg" and is_no_brain_signal(name))
    no_brain = dict.fromkeys(untyped, "no brain signal by its name")
    return no_brain | {name: "marked as bad in the file" for name in names if name in bads}


def _named(path: Path, left_out: dict[str, str]) -> tuple[str, ...]:
    reasons = sorted(set(left_out.values()))
    return tuple(
        f"{path.name}: left out as {reason}: {listed([name for name, why in left_out.items() if why == reason])}."
        for reason in reasons
    )


def _beside(path: Path, raw: BaseRaw, taken: Sequence[str]) -> tuple[str, ...]:
    others = {
        name: sum(kind in members for kind in raw.get_channel_types())
        for name, members in FAMILIES.items()
        if not set(members) & set(taken)
    }
    told = " and ".join(f"{count} {_FAMILY_NAMES[name]}" for name, count in others.items() if count)
    return (f"{path.name} holds {told} channels beside, which are left out.",) if told else ()


def _bad_spans(raw: BaseRaw) -> tuple[tuple[float, float], ...]:
    spans = []
    for mark in raw.annotations:
        if str(mark["description"]).upper().startswith("BAD"):
            onset = float(mark["onset"] - raw.first_time)
            spans.append((onset, onset + float(mark["duration"])))
    return tuple(sorted(spans))


def _format_of(raw: BaseRaw) -> str:
    name = type(raw).__name__.removeprefix("Raw")
    return name or "Neuromag .fif"


def _says_simulated(raw: BaseRaw) -> bool:
    from core.meg.reader import SIMULATED

    return str(raw.info["description"] or "").startswith(SIMULATED)


def _hash_all(path: Path, raw: BaseRaw) -> str:
    """Hash of the recording's parts; BrainVision and others keep their samples in a file beside."""
    from core.meg.parts import hash_recording, recording_files

    parts = {Path(one).resolve() for one in raw.filenames if one is not None}
    beside = sorted(parts - {one.resolve() for one in recording_files(path)} - {path.resolve()})
    digests = [hash_recording(one) for one in (path, *(one for one in beside if one.is_file()))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


# ---- positions ----


def _own_positions(path: Path, raw: BaseRaw, picks: list[int]) -> tuple[np.ndarray, tuple[str, ...]]:
    places = np.array([raw.info["chs"][index]["loc"][:3] for index in picks], dtype=np.float64).reshape(-1, 3)
    places[~np.isfinite(places).all(1) | (places == 0).all(1)] = np.nan
    far = float(np.nanmax(np.abs(places), initial=0.0))
    if far > FARTHEST:
        places[:] = np.nan
        told = f"{path.name} places sites up to {far:.3g} m from the middle of the head; its positions are not used."
        return places, (told + " Correct their unit, or give a montage or a table.",)
    return places, ()


def _by_montage(path: Path, names: Sequence[str], montage: str) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Names as the montage writes them, (n, 3) positions, and what to say."""
    if not montage:
        told = f"{path.name} has no positions; distances cannot be told. Give --montage or a table of sites."
        return list(clean_names(names)), np.full((len(names), 3), np.nan), (told,)
    known = _positions_of(montage)
    cleaned = clean_names(names, known)
    places = np.array([known.get(name, np.full(3, np.nan)) for name in cleaned]).reshape(-1, 3)
    lacking = [name for name in cleaned if name not in known]
    told = f"{path.name}: {montage} has no position for {len(lacking)} of {len(names)} channels: {listed(lacking)}."
    return list(cleaned), places, (told,) if lacking else ()


def _positions_of(montage: str) -> dict[str, np.ndarray]:
    """Positions of a montage by name, metres in the head's frame.

    Raises:
        InputError: MNE has no such montage.
    """
    import warnings

    from mne import create_info
    from mne.channels import get_builtin_montages, make_standard_montage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that MNE has new names for some
            made = make_standard_montage(montage)
    except ValueError as error:
        known = ", ".join(("standard_1005", "standard_1020", *get_builtin_montages()))
        raise InputError(f"There is no montage {montage!r}; MNE has {known}.") from error
    info = create_info(made.ch_names, 1.0, "eeg", verbose="ERROR").set_montage(made, verbose="ERROR")
    return {channel["ch_name"]: np.array(channel["loc"][:3], dtype=np.float64) for channel in info["chs"]}


# ---- sound ----


def _open_audio(path: Path) -> SiteRecording:
    """Decode a sound of several channels into a temporary file that has no name."""
    from core.audio.reader import open_source
    from core.meg.parts import hash_recording
    from core.meg.samples import Samples

    with open_source(path) as source:
        info = source.info
        try:
            samples = Samples(tempfile.TemporaryFile(prefix="strata-"), info.n_channels)  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"Sound cannot be kept in a temporary file ({error}). Free some space.") from error
        try:
            for piece in source.pieces():
                samples.append(piece.T)
        except BaseException:
            samples.close()
            raise
    n = info.n_channels
    digits = len(str(n))
    nowhere = np.full((n, 3), np.nan)
    names = tuple(f"channel {number:0{digits}d}" for number in range(1, n + 1))
    told = f"{path.name} is sound: where its {n} microphones stood is unknown. Give a table of sites to say it."
    return SiteRecording(
        path=path,
        format=info.container,
        sites=Sensors(names, ("audio",) * n, nowhere, nowhere),
        sampling_rate=float(info.sampling_rate),
        n_times=samples.n_times,
        sha256=hash_recording(path),
        regions=("",) * n,
        warnings=(told,),
        values=samples.read,
        release=samples.close,
    )
