"""Recordings of any kind as what a training on sites reads grids from: maps, sites, a split, statistics."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from core.arrays import OnProgress, ignore_progress
from core.errors import DataError, InputError
from core.meg.segments import first_of_each, short_names
from core.records import to_plain
from core.sites.correlation import BandSignal, Correlation
from core.sites.names import listed
from core.sites.patches import Plan, PowerMap, flat_channels, map_power, prepared_blocks
from core.sites.recordings import SiteRecording, open_site_recording
from core.sites.site_data import Stretch
from core.sites.site_input import PatchSettings, SiteInput
from core.sites.split import Columns, SplitPlan, split_columns
from core.sites.statistics import pooled_statistics
from core.sites.table import (
    Grouping,
    SiteTable,
    channels_as_sites,
    channels_by_place,
    known_as_sites,
    read_site_table,
    share_places,
)
from core.sites.union import Union, union_of

CLIP = 20.0
"""Standard deviations beyond which log power is cut, as for MEG."""

WORDS = ("auto", "channels", "places")
"""For ``sites``, beside the path of a table."""


@dataclass(frozen=True)
class SiteDataSettings:
    """What decides the data of a training on sites.

    Attributes:
        patches: The grids.
        sampling_rate: Hz that recordings are brought to; 0 takes the first recording's.
        split: Which time trains.
        sites: ``channels``, ``places`` (those at one place are one site), ``auto`` (places where every recording has
            several sensors at one, else channels), or the path of a table.
        montage: One of MNE's, for EEG without positions; empty for none.
        numpy_rate: Hz of ``.npy`` recordings that do not say it.
        family: ``meg``, ``ieeg`` or ``eeg``, for recordings that hold several; empty takes the first of these.
    """

    patches: PatchSettings = field(default_factory=PatchSettings)
    sampling_rate: float = 0.0
    split: SplitPlan = field(default_factory=SplitPlan)
    sites: str = "auto"
    montage: str = ""
    numpy_rate: float | None = None
    family: str = ""


@dataclass(frozen=True)
class Mapped:
    """A recording with its map.

    Attributes:
        name: As short as tells it from the others.
        recording: Without flat channels.
        grouping: Which channels are which site.
        power: The map of its channels.
        ids: (sites,) their ids, in the order of the grouping.
    """

    name: str
    recording: SiteRecording
    grouping: Grouping
    power: PowerMap
    ids: np.ndarray

    def read(self, first: int, stop: int, sites: np.ndarray) -> np.ndarray:
        """Log power (sites, rows, columns) float64 of site ids; several channels of one site are averaged.

        Raises:
            InputError: the recording does not hold one of them.
        """
        if np.asarray(sites).dtype.kind not in "iu":
            raise InputError(f"Got site ids of type {np.asarray(sites).dtype}; expected whole numbers from 1 on.")
        places = {int(site): place for place, site in enumerate(self.ids) if site}
        unknown = [int(site) for site in sites if int(site) not in places]
        if unknown:
            raise InputError(f"{self.name} does not hold the sites {listed([str(one) for one in unknown])}.")
        groups = [self.grouping.channels[places[int(site)]] for site in sites]
        channels = np.array([channel for group in groups for channel in group])
        values = self.power.read(first, stop, channels)
        if len(channels) == len(groups):
            return values
        begins = np.cumsum([0, *(len(group) for group in groups[:-1])])
        return np.add.reduceat(values, begins, axis=0) / np.array([len(group) for group in groups])[:, None, None]


class Sites:
    """:class:`core.sites.site_data.SiteData` of recordings. Close it, or use it in a ``with``.

    Attributes:
        site_input: What turned recordings into these values.
        fingerprint: Hash of all that a model could learn from.
        facts: JSON-ready.
        signal_correlation: (sites, sites) of the signals in the grids' band over the training time.
    """

    def __init__(
        self,
        mapped: dict[str, Mapped],
        stretches: dict[str, tuple[Stretch, ...]],
        site_input: SiteInput,
        signal_correlation: np.ndarray,
        told: tuple[str, dict[str, Any]],
    ) -> None:
        self._mapped, self._stretches = mapped, stretches
        self.site_input, self.signal_correlation = site_input, signal_correlation
        self.fingerprint, self.facts = told

    def stretches(self, part: str) -> tuple[Stretch, ...]:
        """The stretches of ``train`` or ``eval``."""
        return self._stretches[part]

    def read(self, stretch: Stretch, first: int, sites: np.ndarray) -> np.ndarray:
        """A grid of standardised log power; see :class:`core.sites.site_data.SiteData`.

        Raises:
            InputError: the grid does not lie in the stretch, or the recording does not hold a site.
        """
        width = self.site_input.patches.grid_width
        if not 0 <= first <= stretch.n_columns - width:
            raise InputError(f"Got column {first}; expected a grid of {width} within {stretch.n_columns} columns.")
        begin = stretch.start + first
        values = self._mapped[stretch.recording].read(begin, begin + width, sites)
        return standardised(values, self.site_input, sites)

    def times(self, stretch: Stretch, first: int) -> np.ndarray:
        """Seconds in the recording of the centres of a grid's columns, (grid_width,)."""
        begin = stretch.start + first
        return self._mapped[stretch.recording].power.times[begin : begin + self.site_input.patches.grid_width]

    def close(self) -> None:
        """Drop the maps. A second call does nothing."""
        for one in self._mapped.values():
            one.power.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def standardised(values: np.ndarray, site_input: SiteInput, sites: np.ndarray) -> np.ndarray:
    """Turn log power (sites, rows, columns) into a grid (sites * rows, columns) float32 of z-scores."""
    rows = np.asarray(sites) - 1
    scores = (values - site_input.mean[rows][:, :, None]) / site_input.std[rows][:, :, None]
    return np.clip(scores, -CLIP, CLIP).reshape(-1, values.shape[-1]).astype(np.float32)


def open_site_data(
    paths: Sequence[Path], settings: SiteDataSettings, on_progress: OnProgress = ignore_progress
) -> Sites:
    """Open recordings for a training; use the result in a ``with``.

    Args:
        paths: Recordings; one that lies there twice counts once.
        settings: What to make of them.
        on_progress: Told of the stage ``power`` in seconds of each recording.

    Raises:
        InputError: a path or a setting cannot be used.
        DataError: a recording cannot be read or is too short, or there is one site only.
        OutputError: the temporary files cannot be written.
    """
    if not paths:
        raise InputError("Got no recordings; expected at least one.")
    table = None if settings.sites in WORDS else read_site_table(settings.sites)
    with ExitStack() as opened, ExitStack() as maps:
        recordings, notes = _open_all(paths, settings, opened)
        settings = replace(settings, sites=kind_of_sites(settings.sites, recordings))
        ground = _ground(recordings, settings, table)
        correlation = Correlation(len(ground.union.sites))
        mapped = {}
        for number, name in enumerate(ground.names):
            mapped[name] = _mapped(ground, number, correlation, on_progress)
            maps.callback(mapped[name].power.close)
        data = _assemble(mapped, ground, correlation)
        digest = _fingerprint(recordings, settings, ground.plan, table)
        facts = _facts(data, recordings, settings, (*notes, *_table_notes(table, recordings), *ground.union.warnings))
        maps.pop_all()
    return Sites(*data, told=(digest, facts))


@dataclass(frozen=True)
class _Ground:
    """Recordings before they are read: their names, which channels are which site, the windows, and the split."""

    recordings: Sequence[SiteRecording]
    names: Sequence[str]
    groupings: Sequence[Grouping]
    union: Union
    plan: Plan
    split: Sequence[Columns]


def _ground(recordings: Sequence[SiteRecording], settings: SiteDataSettings, table: SiteTable | None) -> _Ground:
    names = short_names([one.path for one in recordings])
    groupings = _groupings(recordings, names, settings.sites, table)
    union = union_of(groupings, names)
    _require_two(union, names)
    patches = _fitted(settings.patches, groupings)
    plan = Plan(patches, settings.sampling_rate or recordings[0].sampling_rate)
    for one in recordings:
        plan.require_band(one)
    good = [good_columns(one, plan) for one in recordings]
    split = split_columns(names, good, patches, settings.split)
    _assert_apart(split, plan, settings.split.gap_seconds)
    return _Ground(recordings, names, groupings, union, plan, split)


def _open_all(
    paths: Sequence[Path], settings: SiteDataSettings, opened: ExitStack
) -> tuple[list[SiteRecording], tuple[str, ...]]:
    """Open recordings, without those that lie there twice and without channels that are flat."""
    found = [
        opened.enter_context(open_site_recording(path, settings.montage, settings.numpy_rate, settings.family))
        for path in paths
    ]
    first, notes = first_of_each([one.sha256 for one in found], [str(one.path) for one in found])
    alive = [without_flat(found[index]) for index in first]
    told = tuple(sentence for one in alive for sentence in one.warnings)
    return alive, (*notes, *dict.fromkeys(told))


def without_flat(recording: SiteRecording) -> SiteRecording:
    """Leave out the channels that never change.

    Raises:
        DataError: all of them are flat, or some values are not finite.
    """
    flat = flat_channels(recording)
    if flat.all():
        raise DataError(f"All {len(flat)} channels of {recording.path} are flat: there is no signal in it.")
    if not flat.any():
        return recording
    names = [recording.sites.names[index] for index in np.flatnonzero(flat)]
    told = f"{recording.name}: left out as flat: {listed(names)}."
    left_out = recording.left_out | dict.fromkeys(names, "flat")
    return replace(recording.take(np.flatnonzero(~flat)), left_out=left_out, warnings=(*recording.warnings, told))


def kind_of_sites(asked: str, recordings: Sequence[SiteRecording]) -> str:
    """What ``auto`` comes to with these recordings; anything else as it was asked for.

    Sensors of one place point in three directions and share little power, so that as sites of their own they are told
    apart by where they point as much as by where they are.
    """
    if asked != "auto":
        return asked
    return "places" if all(share_places(one.sites) for one in recordings) else "channels"


def _groupings(
    recordings: Sequence[SiteRecording], names: Sequence[str], sites: str, table: SiteTable | None
) -> list[Grouping]:
    """Which channels of each recording are which site: each its own, those of one place, or as a table has it."""
    if table is not None:
        return [table.group(one.sites, name) for one, name in zip(recordings, names, strict=True)]
    if sites == "channels":
        return [channels_as_sites(one.sites, one.regions) for one in recordings]
    places = channels_by_place([one.sites for one in recordings])
    return [known_as_sites(one.sites, one.regions, places) for one in recordings]


def _channels_of(ground: _Ground) -> tuple[tuple[str, ...], ...]:
    """Names of each site's channels over all recordings; none where every site is a channel."""
    found: dict[str, dict[str, None]] = {name: {} for name in ground.union.sites.names}
    for recording, grouping in zip(ground.recordings, ground.groupings, strict=True):
        for site, own in zip(grouping.sites.names, grouping.channels, strict=True):
            found[site] |= dict.fromkeys(recording.sites.names[index] for index in own)
    channels = tuple(tuple(names) for names in found.values())
    return () if channels == tuple((name,) for name in ground.union.sites.names) else channels


def _require_two(union: Union, names: Sequence[str]) -> None:
    if len(union.sites) < 2:
        raise DataError(
            f"{names[0]} holds one site only ({union.sites.names[0]}); a similarity needs at least two. Give a "
            "recording of several channels."
        )


def _fitted(patches: PatchSettings, groupings: Sequence[Grouping]) -> PatchSettings:
    """With no more sites in a grid than the smallest recording holds; each site keeps its rows."""
    n_sites = min(patches.sites_per_grid, *(len(one.sites) for one in groupings))
    return replace(patches, sites_per_grid=n_sites, grid_height=n_sites * patches.rows_per_site)


def good_columns(recording: SiteRecording, plan: Plan) -> list[tuple[int, int]]:
    """Columns ``[start, stop)`` whose windows touch nothing that annotations mark as bad."""
    n = plan.n_columns_of(recording)
    begin = plan.starts(0, n) / plan.rate
    good = np.ones(n, dtype=bool)
    for start, stop in recording.bad_spans:
        good &= (begin + plan.window / plan.rate <= start) | (begin >= stop)
    edges = np.flatnonzero(np.diff(good.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return [(int(start), int(stop)) for start, stop in edges]


def _assert_apart(split: Sequence[Columns], plan: Plan, gap_seconds: float) -> None:
    """Assert that windows of different parts of a recording lie at least the gap apart."""
    for one in split:
        for other in split:
            if (one.recording, one.part, other.part) == (other.recording, "train", "eval"):
                end = plan.starts(one.stop - 1, one.stop)[0] + plan.window
                apart = (plan.starts(other.start, other.start + 1)[0] - end) / plan.rate
                assert apart >= gap_seconds - 1 / plan.rate, f"{one} and {other} are {apart:.3f} s apart."


def _mapped(ground: _Ground, number: int, correlation: Correlation, on_progress: OnProgress) -> Mapped:
    """Make a recording's map, and the correlation of the same stream over the training time on the way."""
    recording, grouping, plan = ground.recordings[number], ground.groupings[number], ground.plan
    train = [one for one in ground.split if (one.recording, one.part) == (number, "train")]
    spans = [(int(plan.starts(one.start, one.start + 1)[0]), _end(plan, one.stop)) for one in train]
    signal = BandSignal(plan, spans, len(recording.sites))
    power = map_power(recording, plan, signal.watch(prepared_blocks(recording, plan)), on_progress)
    ids = ground.union.ids_of(grouping.sites.names)
    correlation.add(signal.correlation(), signal.n_seen, grouping.channels, ids)
    return Mapped(ground.names[number], recording, grouping, power, ids)


def _end(plan: Plan, column: int) -> int:
    return int(plan.starts(column - 1, column)[0]) + plan.window


def _assemble(
    mapped: dict[str, Mapped], ground: _Ground, correlation: Correlation
) -> tuple[dict[str, Mapped], dict[str, tuple[Stretch, ...]], SiteInput, np.ndarray]:
    by_number, union, plan = list(mapped.values()), ground.union, ground.plan
    stretches: dict[str, list[Stretch]] = {"train": [], "eval": []}
    for one in ground.split:
        home = by_number[one.recording]
        stretches[one.part].append(Stretch(home.name, one.start, one.stop, tuple(sorted(map(int, home.ids)))))

    def read(stretch: Stretch, first: int, stop: int) -> np.ndarray:
        return mapped[stretch.recording].read(first, stop, np.array(stretch.sites))

    mean, std = pooled_statistics(stretches["train"], read, union.sites.kinds, plan.patches.rows_per_site)
    simulated = any(one.recording.simulated for one in by_number)
    channels = _channels_of(ground)
    site_input = SiteInput(plan.patches, union.sites, union.regions, mean, std, plan.rate, simulated, channels)
    return mapped, {part: tuple(ones) for part, ones in stretches.items()}, site_input, correlation.matrix()


def _fingerprint(
    recordings: Sequence[SiteRecording], settings: SiteDataSettings, plan: Plan, table: SiteTable | None
) -> str:
    content = [
        [one.sha256 for one in recordings],
        to_plain(settings.patches),
        plan.rate,
        to_plain(settings.split),
        [settings.montage, settings.numpy_rate, settings.family, settings.sites == "places"],
        None if table is None else to_plain(table.rows),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _table_notes(table: SiteTable | None, recordings: Sequence[SiteRecording]) -> tuple[str, ...]:
    unused = table.unused([one.sites for one in recordings]) if table else ()
    return (f"No recording has these channels of the table: {listed(unused)}.",) if unused else ()


def _facts(
    data: tuple[dict[str, Mapped], dict[str, tuple[Stretch, ...]], SiteInput, np.ndarray],
    recordings: Sequence[SiteRecording],
    settings: SiteDataSettings,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    _, stretches, site_input, _ = data
    sites, hop = site_input.sites, site_input.patches.hop_seconds
    seen = {site for one in stretches["train"] for site in one.sites}
    held_out = {site for one in stretches["eval"] for site in one.sites} - seen
    nowhere = [sites.names[index] for index in np.flatnonzero(~np.isfinite(sites.positions).all(1))]
    warnings = list(notes)
    if nowhere:
        warnings.append(
            f"{len(nowhere)} of {len(sites)} sites have no position: {listed(nowhere)}. They are trained "
            "on, and left out of what is said of distances."
        )
    at_once, wanted = site_input.patches.sites_per_grid, settings.patches.sites_per_grid
    if at_once < wanted:
        warnings.append(
            f"Grids hold {at_once} sites at once instead of {wanted}: no more are in the smallest recording."
        )
    only = [sites.names[site - 1] for site in sorted(held_out)]
    if only:
        warnings.append(f"Only evaluated, never trained on: {listed(only)}.")
    return {
        "recordings": [_recording_facts(one) for one in recordings],
        "n_sites": len(sites),
        "kinds": {kind: sites.kinds.count(kind) for kind in dict.fromkeys(sites.kinds)},
        "train_hours": sum(one.n_columns for one in stretches["train"]) * hop / 3600,
        "eval_hours": sum(one.n_columns for one in stretches["eval"]) * hop / 3600,
        "eval_only_sites": only,
        "unused_sites": [name for site, name in enumerate(sites.names, 1) if site not in seen | held_out],
        "without_position": nowhere,
        "simulated": site_input.simulated,
        "warnings": warnings,
    }


def _recording_facts(recording: SiteRecording) -> dict[str, Any]:
    return {
        "name": recording.name,
        "sha256": recording.sha256,
        "format": recording.format,
        "seconds": recording.seconds,
        "sampling_rate": recording.sampling_rate,
        "n_channels": len(recording.sites),
        "left_out": dict(recording.left_out),
    }
