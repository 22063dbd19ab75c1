"""A log-mel spectrogram, made small enough for a screen while the sound streams by."""

from dataclasses import dataclass

import numpy as np

from core.analysis.mel import N_MELS, MelFrames, mel_clock, mel_filters

FLOOR_DB = -80.0
"""Lowest level shown, in dB below the loudest cell."""


@dataclass(frozen=True)
class Spectrogram:
    """Mean power on the mel scale.

    Attributes:
        times: (n_columns,) float64, seconds at the middle of the windows of each column.
        hertz: (n_mels,) float64, centre of each band.
        decibels: (n_mels, n_columns) float32, relative to the loudest cell, from FLOOR_DB to 0.
        windows_a_column: Windows of 25 ms that a column averages, on the mean.
    """

    times: np.ndarray
    hertz: np.ndarray
    decibels: np.ndarray
    windows_a_column: float


class SpectrogramBuilder:
    """Collect a log-mel spectrogram from consecutive blocks of samples; memory does not grow with the length."""

    def __init__(self, n_samples: int, sampling_rate: int, most_columns: int = 1_500) -> None:
        self.clock = mel_clock(sampling_rate)
        self.n_windows = max(1, self.clock.n_frames(n_samples))
        self.starts = np.linspace(0, self.n_windows, min(self.n_windows, most_columns) + 1).round().astype(np.int64)
        self.power = np.zeros((len(self.starts) - 1, N_MELS))
        self.frames = MelFrames.at(sampling_rate, self.clock.field, self.clock.hop)
        self._done = 0

    def add(self, block: np.ndarray) -> None:
        """Take the next samples; what does not fill a window yet waits for the next block."""
        self._add_windows(self.frames.add(block)[: self.n_windows - self._done])

    def _add_windows(self, mels: np.ndarray) -> None:
        if not len(mels):
            return
        column = np.searchsorted(self.starts, np.arange(self._done, self._done + len(mels)), side="right") - 1
        firsts = np.flatnonzero(np.diff(column, prepend=-1))
        self.power[column[firsts]] += np.add.reduceat(mels, firsts, axis=0)
        self._done += len(mels)

    def result(self) -> Spectrogram:
        """Return what was collected; a recording shorter than one window is padded with zeros to one."""
        if self._done == 0:
            self._add_windows(self.frames.padded())
        power = self.power / np.diff(self.starts)[:, None]
        loudest = power.max()
        levels = 10 * np.log10(np.maximum(power / loudest, 10 ** (FLOOR_DB / 10))) if loudest > 0 else power + FLOOR_DB
        first, last = self.starts[:-1], self.starts[1:] - 1
        times = (self.clock.centre(first) + self.clock.centre(last)) / 2
        per_column = self.n_windows / len(self.power)
        hertz = mel_filters(512, self.clock.sampling_rate)[1]
        return Spectrogram(times, hertz, np.ascontiguousarray(levels.T, dtype=np.float32), per_column)
