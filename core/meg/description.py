"""What is in a recording: for the page that shows it, before anything is done to it.

Memory does not grow with the length: the butterfly plot comes from the beginning, the spectra from the middle.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.meg.checks import check_finite, flat_warnings
from core.meg.layouts import flat_positions
from core.meg.quiet import quiet_mne
from core.meg.reader import MegFile, open_raw
from core.sensors import MEG_KINDS, MegDescription, Sensors

if TYPE_CHECKING:
    from mne.io import BaseRaw

BUTTERFLY_SECONDS = 10.0
SPECTRUM_SECONDS = 60.0
MOST_SAMPLES = 120_000
"""Of a channel at once: a minute at 2 kHz."""
POINTS = 800
WELCH_SECONDS = 2.0
"""Of each segment: bins of half a hertz."""

UNITS = {"mag": 1e15, "grad": 1e13}
"""From tesla to femtotesla; from tesla per metre to femtotesla per centimetre."""


def describe(path: Path, numpy_rate: float | None = None) -> MegDescription:
    """Look into a recording.

    Args:
        path: File, or folder of CTF and BTi.
        numpy_rate: Sampling rate in Hz of a ``.npy`` that has no ``.json`` beside it.

    Raises:
        InputError: as :func:`core.meg.reader.open_raw`.
        DataError: as that, and where the parts that are looked at hold NaN or are flat in every channel.
    """
    file = open_raw(path, numpy_rate)
    raw, rate = file.raw, float(file.raw.info["sfreq"])
    start, stop = _beginning(raw.n_times, rate)
    values = read_scaled(file, start, stop)
    times, butterfly = keep_extremes(values, rate, POINTS)
    middle = _middle(raw.n_times, rate)
    frequencies, spectra = _spectra(read_scaled(file, *middle), file.sensors, rate)
    return MegDescription(
        path=str(file.path),
        format=file.format,
        sensors=file.sensors,
        sampling_rate=rate,
        seconds=raw.n_times / rate,
        bads=tuple(name for name in file.sensors.names if name in raw.info["bads"]),
        other_channels=_other_channels(raw),
        labels=dict(Counter(map(str, raw.annotations.description))),
        simulated=file.simulated,
        warnings=file.warnings + flat_warnings(values, file.sensors, file.path),
        times=times,
        butterfly=butterfly,
        frequencies=frequencies,
        spectra=spectra,
        flat=flat_positions(file.sensors),
        facts=_facts(file, (start, stop), middle),
    )


def read_scaled(file: MegFile, start: int, stop: int) -> np.ndarray:
    """Samples of the MEG channels in femtotesla, or femtotesla per centimetre: (channels, stop - start) float64.

    Raises:
        DataError: the file breaks off there, or holds NaN or infinite values.
    """
    with quiet_mne(file.path):
        values: np.ndarray = file.raw.get_data(list(file.sensors.names), start, stop)
    rate, bads = file.raw.info["sfreq"], np.isin(file.sensors.names, file.raw.info["bads"])
    values = np.where(bads[:, None] & ~np.isfinite(values), 0.0, values)
    check_finite(values, rate, file.path, start / rate)
    return values * np.array([UNITS[kind] for kind in file.sensors.kinds])[:, None]


def keep_extremes(values: np.ndarray, sampling_rate: float, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Thin out for a plot: of each stretch its lowest and its highest value, in the order in which they came.

    Args:
        values: (channels, times); each channel's mean is taken away.
        sampling_rate: Hz.
        points: About how many to keep; shorter recordings stay whole.

    Returns:
        tuple: seconds (points,) float64, and values (channels, points) float32.
    """
    centred = values - values.mean(1, keepdims=True)
    n_times = values.shape[1]
    if n_times <= points:
        return np.arange(n_times) / sampling_rate, centred.astype(np.float32)
    edges = np.linspace(0, n_times, points // 2 + 1).astype(int)
    kept = np.empty((len(values), points // 2, 2), np.float32)
    for index, (start, stop) in enumerate(pairwise(edges)):
        piece = centred[:, start:stop]
        places = np.sort([piece.argmin(1), piece.argmax(1)], axis=0).T
        kept[:, index] = np.take_along_axis(piece, places, axis=1)
    starts, lengths = edges[:-1], np.diff(edges)
    times = np.stack([starts, starts + lengths / 2], axis=1).ravel() / sampling_rate
    return times, kept.reshape(len(values), -1)


def _beginning(n_times: int, rate: float) -> tuple[int, int]:
    return 0, min(n_times, MOST_SAMPLES, int(BUTTERFLY_SECONDS * rate))


def _middle(n_times: int, rate: float) -> tuple[int, int]:
    length = min(n_times, MOST_SAMPLES, int(SPECTRUM_SECONDS * rate))
    return (n_times - length) // 2, (n_times - length) // 2 + length


def _spectra(values: np.ndarray, sensors: Sensors, rate: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Quartiles over the channels of a kind; flat channels have no spectrum and are left out."""
    from scipy.signal import welch

    length = min(values.shape[1], int(WELCH_SECONDS * rate))
    frequencies, density = welch(values, rate, nperseg=length)
    moves = np.ptp(values, axis=1) > 0
    of_kind = {kind: [index for index in sensors.of_kind(kind) if moves[index]] for kind in MEG_KINDS}
    return frequencies, {
        kind: np.percentile(density[indices], [25, 50, 75], axis=0) for kind, indices in of_kind.items() if indices
    }


def _other_channels(raw: BaseRaw) -> dict[str, int]:
    kinds = Counter(raw.get_channel_types())
    return {kind: count for kind, count in kinds.items() if kind not in MEG_KINDS}


def _facts(file: MegFile, butterfly: tuple[int, int], spectrum: tuple[int, int]) -> dict:
    info, rate = file.raw.info, float(file.raw.info["sfreq"])
    return {
        "system": file.sensors.system,
        "butterfly_seconds": [edge / rate for edge in butterfly],
        "butterfly_centred": True,
        "spectrum_seconds": [edge / rate for edge in spectrum],
        "recorded_band": [float(info["highpass"]), float(info["lowpass"])],
        "line_frequency": info["line_freq"],
        "head_position_known": info["dev_head_t"] is not None,
        "active_projections": sum(bool(one["active"]) for one in info["projs"]),
    }
