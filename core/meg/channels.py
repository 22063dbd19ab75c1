"""Any system's channels in the order of the sensors that a model takes.

By name where the names are there; else by MNE's field interpolation (:meth:`mne.io.Raw.interpolate_to`; minimum norm
estimates after Hämäläinen and Ilmoniemi 1994): what would the target's coils measure, given what these coils measured,
if all sources lay in a sphere inside the head? What comes from elsewhere (sensor noise, magnets in the room) does not
survive it, so recordings that were Maxwell-filtered come through best.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DataError, InputError
from core.meg.layouts import MNE_NAMES, helmet_centre, info_of, layout, plain_name, sensors_of
from core.meg.quiet import quiet_mne
from core.sensors import Preparation, Sensors

if TYPE_CHECKING:
    from mne import Info
    from mne.io import BaseRaw

HEAD_CENTRE = (0.0, 0.0, 0.04)
"""Metres, head frame: MNE's own choice for the centre of the head where no points of it were digitised."""

NEAR = 0.04
"""Metres; what a sensor measures that is farther from every other one is mostly extrapolated."""

_HEAD_RADIUS = (0.05, 0.12)
_LEAST_DIGITISED = 30
"""Points; a sphere through a few of them can be anywhere."""
_NAMED = 6


@dataclass(frozen=True)
class FitReport:
    """What was done to a recording's channels.

    Attributes:
        how: ``names``, ``interpolated``, ``padded`` or ``native``.
        missing: Sensors of the layout that the recording does not have by name.
        dropped: MEG channels of the recording that were not used.
        interpolated_bads: Bad channels whose values come from their neighbours; with ``interpolated`` those left out.
        kept_bads: Bad channels that were used as they are.
        warnings: Sentences.
        facts: Of the interpolation: the head's centre and where it comes from, how far the helmet was moved (metres).
    """

    how: str
    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    interpolated_bads: tuple[str, ...] = ()
    kept_bads: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def fit_channels(raw: BaseRaw, sensors: Sensors, preparation: Preparation) -> tuple[BaseRaw, FitReport]:
    """Bring a recording to the sensors that a preparation asks for.

    Args:
        raw: The recording. If its samples are in memory it is changed in place, else it is left as it is.
        sensors: Its MEG channels.
        preparation: ``layout``, ``fit_channels`` and ``bads`` count here.

    Returns:
        tuple: a recording with exactly the layout's channels, in its order and under its names (``native``: with the
        MEG channels as they were), and what was done. Samples are read only where some had to be computed.

    Raises:
        InputError: the layout cannot be reached in the way asked for.
        DataError: every channel is marked as bad.
    """
    raw = (raw if raw.preload else raw.copy()).pick(list(sensors.names), verbose="ERROR")
    if len(raw.info["bads"]) == len(sensors):
        raise DataError(
            f"All {len(sensors)} MEG channels of {_name(raw)} are marked as bad. Unmark those that are good."
        )
    if preparation.layout == "native":
        return _native(raw, sensors, preparation)
    target = layout(preparation.layout)
    places = match(sensors, target)
    if preparation.fit_channels == "pad":
        return _padded(raw, target, places, preparation)
    if preparation.fit_channels != "interpolate" and (places >= 0).all():
        return _by_name(raw, target, places, preparation)
    if preparation.fit_channels == "names":
        raise InputError(
            f"{_name(raw)} lacks {_some(_missing(target, places))} of {target.system}. Use --fit-channels interpolate "
            "to compute them from its own sensors, or a model that takes sensors by position."
        )
    return _interpolated(raw, sensors, target, preparation)


def fitted_sensors(raw: BaseRaw, preparation: Preparation) -> Sensors:
    """The sensors of what :func:`fit_channels` returned, row by row."""
    return sensors_of(raw.info) if preparation.layout == "native" else layout(preparation.layout)


def match(sensors: Sensors, target: Sensors) -> np.ndarray:
    """For each sensor of the target, the index of the channel of that name and kind, or -1: (n_target,) int64."""
    known = {
        (plain_name(name), kind): index
        for index, (name, kind) in enumerate(zip(sensors.names, sensors.kinds, strict=True))
    }
    wanted = zip(target.names, target.kinds, strict=True)
    return np.array([known.get((plain_name(name), kind), -1) for name, kind in wanted])


def _native(raw: BaseRaw, sensors: Sensors, preparation: Preparation) -> tuple[BaseRaw, FitReport]:
    if not sensors.are_located:
        raise InputError(
            f"{_name(raw)} does not say where its sensors are, which native sensors need. Name its channels as a known "
            "layout does, or choose such a --layout."
        )
    return _without_bads(raw, preparation, FitReport("native"))


def _by_name(raw: BaseRaw, target: Sensors, places: np.ndarray, preparation: Preparation) -> tuple[BaseRaw, FitReport]:
    names = [raw.ch_names[index] for index in places]
    dropped = tuple(name for name in raw.ch_names if name not in set(names))
    raw, report = _without_bads(raw.pick(names, verbose="ERROR"), preparation, FitReport("names", dropped=dropped))
    raw.rename_channels(dict(zip(names, target.names, strict=True)), verbose="ERROR")
    return raw, report


def _padded(raw: BaseRaw, target: Sensors, places: np.ndarray, preparation: Preparation) -> tuple[BaseRaw, FitReport]:
    """The document's choice: by name where any is known, else in the file's order; zeros for the rest."""
    from mne.io import RawArray

    if (places < 0).all():
        order = np.arange(len(target))
        places = np.where(order < len(raw.ch_names), order, -1)
    dropped = tuple(np.delete(raw.ch_names, places[places >= 0]).tolist())
    missing = _missing(target, places)
    raw, report = _without_bads(raw, preparation, FitReport("padded", missing, dropped))
    values = np.zeros((len(target), raw.n_times))
    values[places >= 0] = raw.get_data(verbose="ERROR")[places[places >= 0]]
    padded = RawArray(values, _info_like(raw.info, target), raw.first_samp, verbose="ERROR")
    told = (
        f"{len(missing)} of {len(target)} rows are zeros and {len(dropped)} channels are left out (fit_channels pad)."
    )
    return padded.set_annotations(raw.annotations, verbose="ERROR"), replace(report, warnings=(*report.warnings, told))


def _info_like(info: Info, target: Sensors) -> Info:
    made = info_of(target.system, target.names, info["sfreq"])
    made.set_meas_date(info["meas_date"])
    made["line_freq"], made["description"] = info["line_freq"], info["description"]
    return made


def _without_bads(raw: BaseRaw, preparation: Preparation, report: FitReport) -> tuple[BaseRaw, FitReport]:
    """Interpolate the bad channels, or keep them; none is marked as bad afterwards."""
    bads = tuple(raw.info["bads"])
    if not bads:
        return raw, report
    if preparation.bads == "keep" or not sensors_of(raw.info).are_located:
        raw.info["bads"] = []
        kept = f"{_some(bads)} are marked as bad and were kept."
        return raw, replace(report, kept_bads=bads, warnings=(*report.warnings, kept))
    facts, warnings = _place_head(raw)
    with quiet_mne(Path(_name(raw))):
        raw.load_data().interpolate_bads(origin=facts["origin"], mode="fast", method={"meg": "MNE"})
    return raw, replace(report, interpolated_bads=bads, warnings=(*report.warnings, *warnings), facts=facts)


def _interpolated(
    raw: BaseRaw, sensors: Sensors, target: Sensors, preparation: Preparation
) -> tuple[BaseRaw, FitReport]:
    bads = tuple(raw.info["bads"])
    if preparation.bads == "keep":
        raw.info["bads"] = []
    good = sensors.take([index for index, name in enumerate(raw.ch_names) if name not in raw.info["bads"]])
    move = _move(good, target)
    warnings = _check_cover(raw, good, target, move)
    raw.load_data(verbose="ERROR")
    _move_device_frame(raw, move)
    facts, told = _place_head(raw)
    with quiet_mne(Path(_name(raw))):
        fitted = raw.interpolate_to(MNE_NAMES[target.system], origin=facts["origin"], mode="fast")
    fitted.set_annotations(raw.annotations, verbose="ERROR")
    kept = preparation.bads == "keep"
    return fitted, FitReport(
        "interpolated",
        missing=_missing(target, match(sensors, target)),
        interpolated_bads=() if kept else bads,
        kept_bads=bads if kept else (),
        warnings=(*warnings, *told),
        facts={**facts, "helmet_moved": move.tolist()},
    )


def _move(sensors: Sensors, target: Sensors) -> np.ndarray:
    """Metres (3,) by which the sensors' device frame has to be moved for the two helmets to lie in one place.

    Systems count from different points (KIT from one 7 cm below Neuromag's), and MNE takes the coordinates as they are.
    The sensors are moved only where that brings them nearer to the target's.
    """
    if not sensors.are_located or len(sensors) < 4:
        return np.zeros(3)
    move = helmet_centre(target) - helmet_centre(sensors)
    closer = np.median(_nearest(sensors, target, move)) < np.median(_nearest(sensors, target, np.zeros(3)))
    return move if closer else np.zeros(3)


def _nearest(sensors: Sensors, target: Sensors, move: np.ndarray) -> np.ndarray:
    """Metres from each sensor of the target to the nearest one of the (moved) recording's."""
    from scipy.spatial import cKDTree

    distances: np.ndarray = cKDTree(sensors.positions + move).query(target.positions)[0]
    return distances


def _check_cover(raw: BaseRaw, good: Sensors, target: Sensors, move: np.ndarray) -> tuple[str, ...]:
    ways_out = "Use --fit-channels pad to take its channels as they are and zeros for the rest"
    if not good.are_located:
        raise InputError(
            f"{_name(raw)} has not all sensors of {target.system} by name and does not say where its sensors are, so "
            f"nothing can be interpolated. {ways_out}, or give a recording with positions."
        )
    far = int((_nearest(good, target, move) > NEAR).sum())
    if 2 * far > len(target):
        raise InputError(
            f"{_name(raw)} has {len(good)} good MEG channels, and {far} of {len(target)} sensors of {target.system} "
            f"have none within {NEAR * 100:g} cm: too few to interpolate from. {ways_out}, or choose another --layout."
        )
    if not far:
        return ()
    return (f"{far} of {len(target)} sensors of {target.system} have none within {NEAR * 100:g} cm: extrapolated.",)


def _move_device_frame(raw: BaseRaw, move: np.ndarray) -> None:
    """Count the positions from another point of the device; head and sensors stay where they are to each other."""
    from mne.transforms import Transform

    known = raw.info["dev_head_t"]
    for channel in raw.info["chs"]:
        channel["loc"][:3] += move
    if known is not None and not np.allclose(known["trans"], np.eye(4)):
        back = np.eye(4)
        back[:3, 3] = -move
        raw.info["dev_head_t"] = Transform("meg", "head", known["trans"] @ back)


def _place_head(raw: BaseRaw) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Where the head's centre is, in the head frame; a head of unknown position is put into the helmet's middle."""
    from mne.transforms import Transform

    known = raw.info["dev_head_t"]
    # KIT without markers says "no shift, no turn", which is nobody's head position.
    if known is not None and not np.allclose(known["trans"], np.eye(4)):
        return _origin(raw.info), ()
    middle = np.eye(4)
    middle[:3, 3] = np.array(HEAD_CENTRE) - helmet_centre(sensors_of(raw.info))
    raw.info["dev_head_t"] = Transform("meg", "head", middle)
    told = "The recording does not say where the head was: its centre is taken to be the centre of the helmet."
    return {"origin": HEAD_CENTRE, "origin_from": "helmet"}, (told,)


def _origin(info: Info) -> dict[str, Any]:
    """The centre of the sphere that fits the digitised head, where that is a head; else the usual place."""
    from mne.bem import fit_sphere_to_headshape

    default = {"origin": HEAD_CENTRE, "origin_from": "default"}
    if len(info["dig"] or ()) < _LEAST_DIGITISED:
        return default
    try:
        with quiet_mne(Path("the digitised head")):
            radius, centre, _ = fit_sphere_to_headshape(info, units="m")
    except DataError:
        return default
    is_head = _HEAD_RADIUS[0] < radius < _HEAD_RADIUS[1] and np.linalg.norm(centre - np.array(HEAD_CENTRE)) < NEAR
    if not is_head:
        return default
    return {"origin": tuple(float(one) for one in centre), "origin_from": "digitised head"}


def _missing(target: Sensors, places: np.ndarray) -> tuple[str, ...]:
    return tuple(target.names[index] for index in np.flatnonzero(places < 0))


def _some(names: tuple[str, ...]) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} channel{'s' * (len(names) != 1)} ({', '.join(names[:_NAMED])}{more})"


def _name(raw: BaseRaw) -> str:
    return Path(raw.filenames[0]).name if raw.filenames and raw.filenames[0] else "The recording"
