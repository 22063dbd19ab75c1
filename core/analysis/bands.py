"""Band powers of a MEG recording over the rows of an analysis: what log-mel energies are for sound."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from core.analysis.mel import MelSource
from core.findings import RowTable

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "low gamma": (30, 45)}
"""Edges in Hz, the upper one left out."""

WINDOW_SECONDS = 1.0
"""Least length that a row's powers are taken from: one cycle of the slowest delta."""

FLOOR = 1e-12
"""Added to the power of standardised channels before the logarithm, so that a flat one has one."""


class Sensed(Protocol):
    """What a recording must give: prepared and standardised channels."""

    n_samples: int
    sampling_rate: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples [start, stop), (channels, stop - start)."""


def bands_within(l_freq: float | None, h_freq: float | None, sampling_rate: int) -> dict[str, tuple[float, float]]:
    """Return the bands of which the filter and the sampling rate leave something, with the edges that are left, in Hz.

    >>> bands_within(1.0, 20.0, 250)
    {'delta': (1.0, 4), 'theta': (4, 8), 'alpha': (8, 13), 'beta': (13, 20.0)}
    """
    bottom, top = l_freq or 0.0, min(h_freq or np.inf, sampling_rate / 2)
    cut = {name: (max(low, bottom), min(high, top)) for name, (low, high) in BANDS.items()}
    return {name: (low, high) for name, (low, high) in cut.items() if high - low >= 1 / WINDOW_SECONDS}


def band_rows(
    recording: Sensed, bands: dict[str, tuple[float, float]], start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """Log power of each row of one recording in each band, the mean over channels.

    The power is that of a Hann window over the row, or over WINDOW_SECONDS around the middle of a shorter one, moved
    inwards at the recording's ends.

    Args:
        recording: Its channels are of like scale, so that none decides alone.
        bands: Edges in Hz.
        start: (n,) seconds at which each row begins.
        stop: (n,) seconds at which it ends.

    Returns:
        (n, bands) float64, natural logarithm.
    """
    return np.array([_log_powers(recording, bands, *span) for span in zip(start, stop, strict=True)])


def _log_powers(recording: Sensed, bands: dict[str, tuple[float, float]], start: float, stop: float) -> list[float]:
    rate, length = recording.sampling_rate, max(stop - start, WINDOW_SECONDS)
    n = min(round(length * rate), recording.n_samples)
    first = int(np.clip(round((start + stop) / 2 * rate - n / 2), 0, recording.n_samples - n))
    hertz, power = power_spectrum(recording.read(first, first + n), rate)
    inside = ((hertz >= low) & (hertz < high) for low, high in bands.values())
    return [float(np.log(power[:, bins].mean(axis=1) + FLOOR).mean()) for bins in inside]


def power_spectrum(values: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies (bins,) in Hz and the power of each channel under a Hann window, (channels, bins)."""
    from scipy.fft import rfft, rfftfreq

    n = values.shape[1]
    # What is shorter is padded with zeros, or the slow bands would fall between two bins.
    n_fft = max(n, round(WINDOW_SECONDS * sampling_rate))
    taper = np.sin(np.pi * np.arange(n) / n) ** 2
    tapered = (values - values.mean(axis=1, keepdims=True)) * taper.astype(values.dtype)
    spectrum = rfft(tapered, n=n_fft, axis=1)
    return rfftfreq(n_fft, 1 / sampling_rate), (spectrum.real**2 + spectrum.imag**2) / n


def band_source(
    open_recording: Callable[[str], AbstractContextManager[Sensed]], bands: dict[str, tuple[float, float]]
) -> MelSource:
    """Make a source of band powers, (n, bands) for the rows of a table, that opens one recording after the other.

    Args:
        open_recording: Opens a recording by its name in the table; it is closed after use.
        bands: Edges in Hz, from :func:`bands_within`.
    """

    def source(table: RowTable) -> np.ndarray:
        values = np.empty((len(table), len(bands)))
        for number in np.unique(table.recording):
            rows = table.recording == number
            with open_recording(table.recordings[number]) as recording:
                values[rows] = band_rows(recording, bands, table.start[rows], table.stop[rows])
        return values

    return source
