"""A log-mel spectrogram, made small enough for a screen while the sound streams by."""

from dataclasses import dataclass

import numpy as np

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.010
"""The usual frames of speech analysis: 25 ms windows, one each 10 ms."""

N_MELS = 80
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
        self.sampling_rate = sampling_rate
        self.window = round(WINDOW_SECONDS * sampling_rate)
        self.hop = round(HOP_SECONDS * sampling_rate)
        self.n_windows = max(1, (n_samples - self.window) // self.hop + 1)
        self.starts = np.linspace(0, self.n_windows, min(self.n_windows, most_columns) + 1).round().astype(np.int64)
        self.power = np.zeros((len(self.starts) - 1, N_MELS))
        self.taper = np.hanning(self.window + 2)[1:-1].astype(np.float32)
        # Padding to 512 keeps the lowest filters of slow rates from falling between two bins.
        self.n_fft = max(512, 1 << (self.window - 1).bit_length())
        self.filters, self.hertz = mel_filters(self.n_fft, sampling_rate)
        self._tail = np.zeros(0, dtype=np.float32)
        self._done = 0

    def add(self, block: np.ndarray) -> None:
        """Take the next samples; what does not fill a window yet waits for the next block."""
        samples = np.concatenate([self._tail, block])
        n_windows = min((len(samples) - self.window) // self.hop + 1, self.n_windows - self._done)
        if n_windows > 0:
            self._add_windows(samples, n_windows)
        self._tail = samples[max(0, n_windows) * self.hop :]

    def _add_windows(self, samples: np.ndarray, n_windows: int) -> None:
        from scipy.fft import rfft

        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop][:n_windows]
        spectrum = rfft(windows * self.taper, n=self.n_fft, axis=1)
        mels = (spectrum.real**2 + spectrum.imag**2) @ self.filters
        column = np.searchsorted(self.starts, np.arange(self._done, self._done + n_windows), side="right") - 1
        firsts = np.flatnonzero(np.diff(column, prepend=-1))
        self.power[column[firsts]] += np.add.reduceat(mels, firsts, axis=0)
        self._done += n_windows

    def result(self) -> Spectrogram:
        """Return what was collected; a recording shorter than one window is padded with zeros to one."""
        if self._done == 0:
            self._add_windows(np.pad(self._tail, (0, self.window - len(self._tail))), 1)
        power = self.power / np.diff(self.starts)[:, None]
        loudest = power.max()
        levels = 10 * np.log10(np.maximum(power / loudest, 10 ** (FLOOR_DB / 10))) if loudest > 0 else power + FLOOR_DB
        first, last = self.starts[:-1], self.starts[1:] - 1
        times = ((first + last) / 2 * self.hop + self.window / 2) / self.sampling_rate
        per_column = self.n_windows / len(self.power)
        return Spectrogram(times, self.hertz, np.ascontiguousarray(levels.T, dtype=np.float32), per_column)


def mel_filters(n_fft: int, sampling_rate: int, n_mels: int = N_MELS) -> tuple[np.ndarray, np.ndarray]:
    """Return triangular mel filters, (n_fft // 2 + 1, n_mels), and their centres in Hz, (n_mels,).

    Scale and norm are Slaney's.
    """
    from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz

    top = sampling_rate / 2
    filters = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, top, sampling_rate, norm="slaney", mel_scale="slaney")
    mels = np.linspace(0.0, float(hertz_to_mel(top, "slaney")), n_mels + 2)
    return filters.astype(np.float32), np.asarray(mel_to_hertz(mels, "slaney"))[1:-1]
