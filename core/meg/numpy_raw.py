"""Recordings as numpy arrays: ``(channels, times)`` in a ``.npy``, read piece by piece as MNE reads the other formats.

A ``.json`` of the same name may say ``sampling_rate`` (Hz), ``layout`` (a name of LAYOUTS), ``names`` and ``kinds``
(``mag`` or ``grad``, one for each row). Values are in tesla and tesla per metre.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.io import BaseRaw

from core.errors import DataError, InputError
from core.meg.layouts import LAYOUTS, info_of, layout, layout_with, plain_name
from core.sensors import MEG_KINDS

_STRONGEST = 1e-6
"""Tesla; a field that varies by more was not measured by a MEG."""


@dataclass(frozen=True)
class Sidecar:
    """What the ``.json`` beside an array may say; None where it does not."""

    sampling_rate: float | None = None
    layout: str | None = None
    names: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None


class NumpyRaw(BaseRaw):
    """A recording whose samples stay in its file until they are asked for."""

    def __init__(self, path: Path, info: mne.Info, n_times: int) -> None:
        super().__init__(info, preload=False, filenames=[path], last_samps=[n_times - 1], verbose="ERROR")

    def _read_segment_file(  # MNE's own signature
        self,
        data: np.ndarray,
        idx: slice | np.ndarray,
        fi: int,
        start: int,
        stop: int,
        cals: np.ndarray | None,
        mult: np.ndarray | None,
    ) -> None:
        array = np.load(self.filenames[fi], mmap_mode="r", allow_pickle=False)
        data[:] = array[idx, start:stop] if mult is None else mult @ array[:, start:stop]


def read_numpy(path: Path, rate: float | None) -> tuple[NumpyRaw, tuple[str, ...]]:
    """Open an array as a recording.

    Args:
        path: The ``.npy``.
        rate: Sampling rate in Hz, unless the ``.json`` beside it says one.

    Returns:
        tuple: the recording and warnings.

    Raises:
        DataError: the file holds no array of numbers, or one of another shape.
        InputError: the sampling rate or the order of the sensors is unknown.
    """
    array, told = open_array(path), _sidecar(path)
    rate = told.sampling_rate if told.sampling_rate is not None else rate
    if rate is None or not (np.isfinite(rate) and rate > 0):
        raise InputError(
            f"{path} does not say its sampling rate; expected one in Hz: give --numpy-rate 250, or put "
            f'{path.with_suffix(".json").name} with {{"sampling_rate": 250}} beside it.'
        )
    info, warnings = _info(path, len(array), told, float(rate))
    return NumpyRaw(path, info, array.shape[1]), warnings + _unit_warnings(array)


def open_array(path: Path) -> np.ndarray:
    """A ``.npy`` of ``(channels, times)`` as a memory map.

    Raises:
        DataError: it is pickled, truncated, no array, not of numbers or not two-dimensional.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError) as error:  # numpy's words advise to unpickle it
        raise DataError(
            f"{path} cannot be read as a numpy array: it is truncated, damaged, of objects or no .npy at all. Save "
            "plain numbers with numpy.save again; pickled objects are never opened."
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{path} holds {got}; expected real numbers of shape (channels, times).")
    return array


def _sidecar(path: Path) -> Sidecar:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Sidecar()
    known = [field.name for field in fields(Sidecar)]
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{beside} is no JSON: {error}. Expected an object with {', '.join(known)}.") from error
    unknown = sorted(set(said) - set(known)) if isinstance(said, dict) else ["no object"]
    if unknown:
        raise DataError(f"{beside} has {', '.join(unknown)}; expected an object with some of {', '.join(known)}.")
    return _made(beside, said)


def _made(beside: Path, said: dict[str, Any]) -> Sidecar:
    try:
        rate = said.get("sampling_rate")
        lists = {key: tuple(map(str, said[key])) for key in ("names", "kinds") if said.get(key) is not None}
        made = Sidecar(None if rate is None else float(rate), said.get("layout"), **lists)
    except (TypeError, ValueError) as error:
        raise DataError(f"{beside}: {error}. Expected a number of Hz, and lists of names and of kinds.") from error
    wrong = sorted(set(made.kinds or ()) - set(MEG_KINDS))
    if wrong:
        raise DataError(f"{beside} has the kinds {', '.join(wrong)}; expected {' and '.join(MEG_KINDS)}.")
    return made


def _info(path: Path, n_rows: int, told: Sidecar, rate: float) -> tuple[mne.Info, tuple[str, ...]]:
    names = told.names
    warnings: tuple[str, ...] = ()
    helmet = told.layout or _helmet_of(names)
    if names is None:
        helmet = helmet or layout_with(n_rows)
        names = layout(helmet).names if helmet else ()
        if helmet and not told.layout:
            warnings = (
                f"{path.name} does not name its {n_rows} rows: they are taken as the sensors of {helmet}, in its order "
                f'({names[0]}, {names[1]}, ...). If that is wrong, put "names" into {path.with_suffix(".json").name}.',
            )
    if len(names) != n_rows or len(told.kinds or names) != n_rows:
        raise InputError(_unknown_rows(path, n_rows, told))
    if helmet:
        return info_of(helmet, names, rate), warnings
    if told.kinds is None:
        raise InputError(f'{path} names channels of no known layout; put their "kinds" (mag or grad) beside them.')
    return mne.create_info(list(names), rate, list(told.kinds)), warnings


def _unknown_rows(path: Path, n_rows: int, told: Sidecar) -> str:
    sizes = ", ".join(f"{len(layout(name))} ({name})" for name in LAYOUTS)
    named = (
        f", but {len(told.names)} names and {len(told.kinds or told.names)} kinds" if told.names else " without names"
    )
    return (
        f"{path} has {n_rows} rows{named}; expected (channels, times) with as many rows as a layout has: {sizes}. "
        f'Transpose it if it is (times, channels), or put "names" and "kinds" of its rows into '
        f"{path.with_suffix('.json').name}."
    )


def _helmet_of(names: tuple[str, ...] | None) -> str | None:
    """The layout that knows all these names."""
    wanted = {plain_name(name) for name in names or ()}
    return next((one for one in LAYOUTS if wanted and wanted <= {plain_name(name) for name in layout(one).names}), None)


def _unit_warnings(array: np.ndarray) -> tuple[str, ...]:
    spread = float(np.median(np.std(array[:, :1000].astype(np.float64), axis=1)))
    if not spread > _STRONGEST:
        return ()
    return (
        f"The values vary by {spread:.2g}, far more than tesla and tesla per metre would: do not mix this recording "
        "with recordings in SI units.",
    )
