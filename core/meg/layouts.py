"""Where the sensors of known helmets sit, from MNE's own tables, and the sensors of a recording.

Units follow what MNE says of a channel: ``mag`` is tesla, ``grad`` tesla per metre. MNE gives the axial gradiometers of
CTF, KIT and BTi in tesla, so they are ``mag`` here as there; the planar gradiometers of Neuromag are ``grad``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError
from core.sensors import Sensors

if TYPE_CHECKING:
    from mne import Info

MNE_NAMES = {"neuromag306": "neuromag", "ctf275": "ctf275", "ctf151": "ctf151"}
"""What :meth:`mne.io.Raw.interpolate_to` calls each layout. MNE's table of ``ctf275`` has 274 sensors."""

LAYOUTS = tuple(MNE_NAMES)

# Coil types of MNE's coil_def.dat, first and last of each family.
_FAMILIES = {
    "neuromag122": (2, 2),
    "neuromag": (3011, 3026),
    "bti": (4001, 4005),
    "ctf": (5001, 5004),
    "kit": (6001, 6002),
}
_COMPENSATION_BITS = 0xFFFF
"""CTF writes the grade of its compensation above these bits of the coil type."""


def layout(name: str) -> Sensors:
    """Sensors of a helmet, in the order of MNE's table, in metres in the device frame.

    Args:
        name: One of :data:`LAYOUTS`.

    Raises:
        InputError: there is no such layout.
    """
    found = sensors_of(layout_info(name))
    return Sensors(found.names, found.kinds, found.positions, found.orientations, name)


def layout_info(name: str) -> Info:
    """MNE's own record of a layout's channels, with their coils.

    Raises:
        InputError: there is no such layout.
    """
    from mne.channels import read_meg_canonical_info

    if name not in MNE_NAMES:
        raise InputError(
            f"Got layout {name!r}; expected {', '.join(LAYOUTS)}, or native for the recording's own sensors."
        )
    return read_meg_canonical_info(MNE_NAMES[name], verbose="ERROR")


def info_of(name: str, channels: Sequence[str], sampling_rate: float) -> Info:
    """MNE's record of a recording with these channels of a layout, at their places; where the head was is unknown.

    Raises:
        InputError: the layout lacks some of them.
    """
    from mne import create_info

    places = {plain_name(channel["ch_name"]): channel for channel in layout_info(name)["chs"]}
    unknown = [channel for channel in channels if plain_name(channel) not in places]
    if unknown:
        raise InputError(
            f"The layout {name} has no {', '.join(unknown[:5])}. Correct the names or leave the layout out."
        )
    info = create_info(list(channels), sampling_rate, "mag")
    for channel in info["chs"]:
        there = places[plain_name(channel["ch_name"])]
        channel.update({key: there[key] for key in ("loc", "coil_type", "unit", "coord_frame")})
    return info


def layout_with(n_channels: int) -> str | None:
    """Name of the layout that has so many sensors."""
    return next((name for name in LAYOUTS if len(layout(name)) == n_channels), None)


def sensors_of(info: Info, picks: Iterable[int] | None = None) -> Sensors:
    """The MEG channels of a recording.

    Args:
        info: Of any recording that MNE reads.
        picks: Indices of channels; None takes all MEG channels, bads included and reference channels not.

    Returns:
        Sensors: with positions (n, 3) in metres in the device frame and the coils' normals, NaN where unknown.
    """
    indices = [int(index) for index in (meg_picks(info) if picks is None else picks)]
    channels = [info["chs"][index] for index in indices]
    places = np.array([channel["loc"] for channel in channels], dtype=np.float64).reshape(len(channels), 12)
    places[~_are_known(places)] = np.nan
    kinds = info.get_channel_types(picks=indices) if indices else []
    names = tuple(channel["ch_name"] for channel in channels)
    return Sensors(names, tuple(kinds), places[:, :3], places[:, 9:], _system_of(channels))


def plain_name(name: str) -> str:
    """A channel's name without what varies between files: ``MEG 0113`` is ``MEG0113``, ``MLC11-4504`` is ``MLC11``."""
    return re.sub(r"(?<=\d)-\d+$", "", name.replace(" ", ""))


def meg_picks(info: Info) -> np.ndarray:
    """Indices of the MEG channels, bads included; neither reference channels nor anything else."""
    from mne import pick_types

    picks: np.ndarray = pick_types(info, meg=True, ref_meg=False, exclude=())
    return picks


def flat_positions(sensors: Sensors) -> np.ndarray:
    """Positions seen from above, for a map: (n, 2) float64, x to the right, y to the front, NaN where unknown.

    The azimuthal equidistant projection about the centre of the helmet; a radius of 1 is the outermost sensor.
    """
    known = np.isfinite(sensors.positions).all(1)
    flat = np.full((len(sensors), 2), np.nan)
    if known.sum() < 4:
        return flat
    ways = sensors.positions[known] - helmet_centre(sensors)
    from_above = np.arccos(ways[:, 2] / np.linalg.norm(ways, axis=1))
    azimuth = np.arctan2(ways[:, 1], ways[:, 0])
    flat[known] = (from_above / from_above.max() * np.array([np.cos(azimuth), np.sin(azimuth)])).T
    return flat


def helmet_centre(sensors: Sensors) -> np.ndarray:
    """Centre (3,) of the sphere that fits the known positions best, by linear least squares."""
    places = sensors.positions[np.isfinite(sensors.positions).all(1)]
    # |p - c|^2 = r^2 is linear in c and in r^2 - |c|^2.
    terms = np.column_stack([2 * places, np.ones(len(places))])
    solution: np.ndarray = np.linalg.lstsq(terms, (places**2).sum(1), rcond=None)[0]
    return solution[:3]


def _are_known(places: np.ndarray) -> np.ndarray:
    """Which rows of MNE's ``loc`` say something: without a position it is NaN or all zeros."""
    return np.asarray(np.isfinite(places).all(1) & (np.abs(places[:, 9:]).sum(1) > 0))


def _system_of(channels: list[dict]) -> str:
    types = {int(channel["coil_type"]) & _COMPENSATION_BITS for channel in channels}
    for family, (first, last) in _FAMILIES.items():
        if types and all(first <= one <= last for one in types):
            return family if family[-1].isdigit() else f"{family}{len(channels)}"
    return ""
