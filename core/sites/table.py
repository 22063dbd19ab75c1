"""Which channels are which site: each its own, those of one place, or as a table has it.

A table is tab-separated or CSV with a header: ``name`` (the channel's), and as far as they are known ``x``, ``y``,
``z`` in metres, ``region`` and ``site``. Channels with one ``site`` are taken as that site: the mean of their maps.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from core.errors import DataError, InputError
from core.sensors import MEG_KINDS, Sensors
from core.sites.metres import require_metres
from core.sites.names import clean_names, listed

COLUMNS = ("name", "x", "y", "z", "region", "site")
_UNKNOWN = ("", "n/a", "nan")
SAME_PLACE_METRES = 1e-3
"""Metres within which two sensors are at one place: the coils of a MEG triplet lie within a tenth of a millimetre."""


@dataclass(frozen=True)
class Row:
    """A channel of the table: its site, position in metres (NaN where unknown) and region."""

    name: str
    site: str
    position: tuple[float, float, float]
    region: str


@dataclass(frozen=True)
class Grouping:
    """How channels become sites.

    Attributes:
        sites: The sites, in the order of their first channels.
        regions: Of the sites.
        channels: For each site, the indices of its channels.
    """

    sites: Sensors
    regions: tuple[str, ...]
    channels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SiteTable:
    """A table that was read.

    Attributes:
        path: Where it lies.
        rows: Its rows by the channel's name.
    """

    path: Path
    rows: dict[str, Row]

    def group(self, sensors: Sensors, recording: str) -> Grouping:
        """Turn a recording's channels into sites.

        Raises:
            DataError: the table lacks some of its channels, or its positions are not in metres.
        """
        names = clean_names(sensors.names, self.rows)
        lacking = [name for name in names if name not in self.rows]
        if lacking:
            raise DataError(
                f"{self.path} lacks {len(lacking)} of {len(names)} channels of {recording}: {listed(lacking)}. Add a "
                "row for each, or mark those channels as bad in the recording."
            )
        rows = [self.rows[name] for name in names]
        members: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            members.setdefault(row.site, []).append(index)
        firsts = sensors.take([indices[0] for indices in members.values()])
        places = np.array([_mean_place(rows, sensors, indices) for indices in members.values()])
        regions = tuple(_region(rows, indices) for indices in members.values())
        sites = Sensors(tuple(members), firsts.kinds, places, firsts.orientations, firsts.system)
        require_metres(sites, f"{self.path}, {recording}")
        return Grouping(sites, regions, tuple(map(tuple, members.values())))

    def unused(self, recordings: Sequence[Sensors]) -> tuple[str, ...]:
        """Names of the table that no recording has."""
        used = {name for sensors in recordings for name in clean_names(sensors.names, self.rows)}
        return tuple(name for name in self.rows if name not in used)


def channels_as_sites(sensors: Sensors, regions: tuple[str, ...]) -> Grouping:
    """Each channel is a site."""
    return Grouping(sensors, regions, tuple((index,) for index in range(len(sensors))))


def places_as_sites(sensors: Sensors, regions: tuple[str, ...]) -> Grouping:
    """Channels at one place are one site, as the three sensors of a place in a Neuromag helmet.

    Raises:
        DataError: the place of none is known.
    """
    if not np.isfinite(sensors.positions).all(axis=1).any():
        raise DataError("No channel has a position, so none share a place. Use --sites channels, or give a --montage.")
    members: list[list[int]] = []
    for index, place in enumerate(sensors.positions):
        same = (own for own in members if np.linalg.norm(sensors.positions[own[0]] - place) <= SAME_PLACE_METRES)
        own = next(same, None)
        if own is None:
            members.append([index])
        else:
            own.append(index)
    firsts = sensors.take([own[0] for own in members])
    names = tuple(_place_name([sensors.names[index] for index in own]) for own in members)
    sites = Sensors(names, firsts.kinds, firsts.positions, firsts.orientations, firsts.system)
    return Grouping(sites, tuple(regions[own[0]] for own in members), tuple(map(tuple, members)))


def share_places(sensors: Sensors) -> bool:
    """Whether several MEG sensors stand at one place, as the triplets of a Neuromag helmet do."""
    if not set(sensors.kinds) <= set(MEG_KINDS) or not np.isfinite(sensors.positions).all(axis=1).any():
        return False
    return len(places_as_sites(sensors, ("",) * len(sensors)).sites) < len(sensors)


def channels_by_place(recordings: Sequence[Sensors]) -> dict[str, tuple[str, ...]]:
    """The channels at each place over all recordings, by the place's name.

    A recording in which sensors of a place are bad has that place all the same, under the same name.

    Raises:
        DataError: The place of no channel is known.
    """
    first: dict[str, Sensors] = {}
    for sensors in recordings:
        for index, name in enumerate(clean_names(sensors.names)):
            first.setdefault(name, sensors.take([index]))
    parts = first.values()
    positions, ways = (np.concatenate([getattr(one, key) for one in parts]) for key in ("positions", "orientations"))
    together = Sensors(tuple(first), tuple(one.kinds[0] for one in parts), positions, ways)
    grouping = places_as_sites(together, ("",) * len(together))
    return {
        site: tuple(together.names[index] for index in own)
        for site, own in zip(grouping.sites.names, grouping.channels, strict=True)
    }


def _place_name(names: Sequence[str]) -> str:
    """``MEG011x`` of MEG0111, MEG0112 and MEG0113; else the first one's."""
    same = (letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))
    shared = "".join(same)
    return f"{shared}x" if len(names) > 1 and shared else names[0]


def known_as_sites(sensors: Sensors, regions: tuple[str, ...], channels: Mapping[str, Sequence[str]]) -> Grouping:
    """Sites as a trained model had them, by the names of their channels; a channel that it does not know is its own.

    Args:
        sensors: Of a recording.
        regions: Of each.
        channels: Of each site of the model, the names.
    """
    site_of = {channel: site for site, names in channels.items() for channel in names}
    members: dict[str, list[int]] = {}
    for index, name in enumerate(clean_names(sensors.names, site_of)):
        members.setdefault(site_of.get(name, name), []).append(index)
    firsts = sensors.take([own[0] for own in members.values()])
    sites = Sensors(tuple(members), firsts.kinds, firsts.positions, firsts.orientations, firsts.system)
    return Grouping(sites, tuple(regions[own[0]] for own in members.values()), tuple(map(tuple, members.values())))


def read_site_table(path: Path | str) -> SiteTable:
    """Read a table of sites.

    Raises:
        InputError: there is no such file.
        DataError: its columns, names or positions cannot be used; says in which line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no table {path}; expected a .tsv or .csv, or auto, channels or places.")
    rows: dict[str, Row] = {}
    for number, cells in _lines(path):
        row = _row(f"{path}, line {number}", cells)
        if row.name in rows:
            raise DataError(f"{path}, line {number}: {row.name} stands there twice. Keep one of the rows.")
        rows[row.name] = row
    if not rows:
        raise DataError(
            f"{path} holds no rows; expected a header with {', '.join(COLUMNS)} and a row for each channel."
        )
    _require_one_region(path, rows)
    return SiteTable(path, rows)


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 ({error}). Save it in UTF-8.") from error
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter="\t" if "\t" in header else ",")
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    names = [name.lower() for name in lines[0][1]] if lines else []
    unknown = [name for name in names if name not in COLUMNS]
    if "name" not in names or unknown or len(set(names)) != len(names):
        raise DataError(
            f"{path} has the columns {', '.join(names) or 'of an empty file'}; expected name, and of "
            f"{', '.join(COLUMNS[1:])} what is known, each once."
        )
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise DataError(f"{path}, line {number}: got {len(cells)} cells; expected {len(names)}, as in the header.")
    return [(number, dict(zip(names, cells, strict=True))) for number, cells in lines[1:]]


def _row(where: str, cells: dict[str, str]) -> Row:
    name = cells["name"]
    if not name:
        raise DataError(f"{where}: a row without a name; expected the name of a channel.")
    words = {key: "" if cells.get(key, "").lower() in _UNKNOWN else cells[key] for key in ("region", "site")}
    return Row(name, words["site"] or name, _position(where, cells), words["region"])


def _position(where: str, cells: dict[str, str]) -> tuple[float, float, float]:
    texts = [cells.get(axis, "") for axis in "xyz"]
    if all(text.lower() in _UNKNOWN for text in texts):
        return np.nan, np.nan, np.nan
    try:
        x, y, z = map(float, texts)
    except ValueError:
        x = y = z = np.nan
    if not np.isfinite([x, y, z]).all():
        raise DataError(
            f"{where}: got the position {', '.join(texts)}; expected x, y and z in metres, or none of them."
        )
    return x, y, z


def _require_one_region(path: Path, rows: dict[str, Row]) -> None:
    regions: dict[str, str] = {}
    for row in rows.values():
        if row.region and regions.setdefault(row.site, row.region) != row.region:
            raise DataError(
                f"{path}: the site {row.site} is in {regions[row.site]} and in {row.region}; expected one region."
            )


def _mean_place(rows: Sequence[Row], sensors: Sensors, indices: Sequence[int]) -> np.ndarray:
    """Mean of what the table says of a site's channels; where it says nothing, of what the recording says."""
    told = np.array([rows[index].position for index in indices])
    places = told if np.isfinite(told).any() else sensors.positions[list(indices)]
    known = places[np.isfinite(places).all(1)]
    return known.mean(axis=0) if len(known) else np.full(3, np.nan)


def _region(rows: Sequence[Row], indices: Sequence[int]) -> str:
    return next((rows[index].region for index in indices if rows[index].region), "")
