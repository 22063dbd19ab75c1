"""Arrays of ``(channels, times)`` in a ``.npy`` as recordings of sites.

A ``.json`` of the same name may say ``sampling_rate`` (Hz), ``names``, ``kinds`` (of KINDS), ``positions`` (metres, one
``[x, y, z]`` a row, null where unknown), ``regions`` and ``simulated``. Where it says ``layout``, or only magnetometers
and gradiometers, the array is MEG and :mod:`core.meg.numpy_raw` reads it.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError, InputError
from core.sensors import MEG_KINDS, Sensors
from core.sites.metres import require_metres
from core.sites.recordings import SiteRecording, open_meg_sites

KINDS = ("eeg", "ecog", "seeg", *MEG_KINDS, "audio", "other")


@dataclass(frozen=True)
class _Told:
    sampling_rate: float | None = None
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    positions: tuple[Any, ...] = ()
    regions: tuple[str, ...] = ()
    simulated: bool = False


def open_numpy_sites(path: Path, numpy_rate: float | None) -> SiteRecording:
    """Open an array as a recording of sites.

    Raises:
        InputError: the sampling rate is unknown.
        DataError: it holds no numbers of two dimensions, or its ``.json`` does not fit them.
    """
    from core.meg.numpy_raw import open_array
    from core.meg.parts import hash_recording

    array = open_array(path)
    plain = _sidecar(path)
    if _is_meg(plain, len(array)):
        return open_meg_sites(path, numpy_rate)
    told = _told(path, plain, len(array))
    rate = told.sampling_rate if told.sampling_rate is not None else numpy_rate
    if rate is None or not 0 < rate < np.inf:
        raise InputError(
            f"{path} does not say its sampling rate; expected one in Hz: give --numpy-rate 250, or put "
            f'{path.with_suffix(".json").name} with {{"sampling_rate": 250}} beside it.'
        )
    sites = _sites(path, told, len(array))
    no_place = not np.isfinite(sites.positions).all(1).any()
    hint = f'{path.name} has no positions; put "positions" into its .json, or give a table of sites.'
    return SiteRecording(
        path=path,
        format="numpy",
        sites=sites,
        sampling_rate=float(rate),
        n_times=array.shape[1],
        sha256=hash_recording(path),
        regions=told.regions or ("",) * len(array),
        simulated=told.simulated,
        warnings=(hint,) if no_place else (),
        values=lambda start, stop: array[:, start:stop],
    )


def _sidecar(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{beside} is no JSON: {error}. Expected an object with {_known()}.") from error
    unknown = sorted(set(said) - {one.name for one in fields(_Told)} - {"layout"}) if isinstance(said, dict) else [""]
    if unknown:
        raise DataError(f"{beside} has {', '.join(unknown) or 'no object'}; expected an object with {_known()}.")
    return dict(said)


def _known() -> str:
    return ", ".join(["layout", *(one.name for one in fields(_Told))])


def _is_meg(plain: dict[str, Any], n_rows: int) -> bool:
    """Whether the array is MEG: it says so, or it says nothing and has as many rows as a helmet has sensors."""
    from core.meg.layouts import layout_with

    if plain.get("layout"):
        return True
    kinds = plain.get("kinds")
    if kinds:
        return isinstance(kinds, list) and set(map(str, kinds)) <= set(MEG_KINDS) and "positions" not in plain
    return not plain.get("names") and layout_with(n_rows) is not None


def _told(path: Path, plain: dict[str, Any], n_rows: int) -> _Told:
    lists = {
        key: tuple(plain[key]) for key in ("names", "kinds", "positions", "regions") if isinstance(plain.get(key), list)
    }
    try:
        rate = plain.get("sampling_rate")
        words = {key: tuple(map(str, lists[key])) for key in ("names", "kinds", "regions") if key in lists}
        made = _Told(
            None if rate is None else float(rate),
            positions=lists.get("positions", ()),
            simulated=bool(plain.get("simulated", False)),
            **words,
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.with_suffix('.json')}: {error}. Expected a number of Hz.") from error
    for key, values in lists.items():
        if len(values) != n_rows:
            raise DataError(f"{path.with_suffix('.json')} has {len(values)} {key}; {path.name} has {n_rows} rows.")
    return made


def _sites(path: Path, told: _Told, n: int) -> Sensors:
    wrong = sorted(set(told.kinds) - set(KINDS))
    if wrong:
        raise DataError(f"{path.with_suffix('.json')} has the kinds {', '.join(wrong)}; expected {', '.join(KINDS)}.")
    digits = len(str(n))
    names = told.names or tuple(f"channel {number:0{digits}d}" for number in range(1, n + 1))
    if len(set(names)) != n:
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{path.with_suffix('.json')} names two rows {', '.join(twice)}; give each its own name.")
    kinds = told.kinds or ("other",) * n
    sensors = Sensors(names, kinds, _positions(path, told, n), np.full((n, 3), np.nan))
    require_metres(sensors, str(path.with_suffix(".json")))
    return sensors


def _positions(path: Path, told: _Told, n: int) -> np.ndarray:
    nowhere = [np.nan] * 3
    try:
        places = np.array([nowhere if one is None else one for one in told.positions], dtype=np.float64)
        return places.reshape(n, 3) if told.positions else np.full((n, 3), np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path.with_suffix('.json')}: positions cannot be read ({error}). Expected [x, y, z] in metres, or null."
        ) from error
