"""Log-mel energies of a recording that streams by: frames of any hop, and their means over the rows of an analysis."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core.clock import FrameClock
from core.findings import RowTable

if TYPE_CHECKING:
    from core.audio.signal import Signal

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.010
"""The usual frames of speech analysis: 25 ms windows, one each 10 ms."""

N_MELS = 80
FLOOR = 1e-6
"""Added to the energies of a signal of unit variance before the logarithm, so that silence has one."""

_BLOCK_SAMPLES = 1 << 18

MelSource = Callable[[RowTable], np.ndarray]
"""Maps the rows of a table to their log-mel energies, (n, n_mels)."""


class MelFrames:
    """Mel power of consecutive windows of samples; between blocks only what does not fill a window yet is kept.

    Args:
        taper: (window,), multiplied onto each window; windows are padded with zeros to the length of the transform.
        filters: (n_fft // 2 + 1, n_mels), with an even n_fft of at least ``window``.
        hop: Samples between two windows, at most ``window``.
    """

    def __init__(self, taper: np.ndarray, filters: np.ndarray, hop: int) -> None:
        if not 1 <= hop <= len(taper):
            raise ValueError(f"Got a hop of {hop} samples; expected 1 to {len(taper)}, the window.")
        self.taper, self.filters, self.hop = taper, filters, hop
        self._tail = np.zeros(0, dtype=np.float32)

    @classmethod
    def at(cls, sampling_rate: int, window: int, hop: int, n_mels: int = N_MELS) -> "MelFrames":
        """Windows with a Hann taper and Slaney's mel filters."""
        # Padding to 512 keeps the lowest filters of slow rates from falling between two bins.
        n_fft = max(512, 1 << (window - 1).bit_length())
        taper = np.hanning(window + 2)[1:-1].astype(np.float32)
        return cls(taper, mel_filters(n_fft, sampling_rate, n_mels)[0], hop)

    def add(self, block: np.ndarray) -> np.ndarray:
        """Take the next samples and return the power of the windows that they complete, (n_windows, n_mels)."""
        samples = np.concatenate([self._tail, block])
        n_windows = max(0, (len(samples) - len(self.taper)) // self.hop + 1)
        self._tail = samples[n_windows * self.hop :]
        return self._power(samples, n_windows)

    def padded(self) -> np.ndarray:
        """Return the power of one window that holds what is left and zeros, (1, n_mels)."""
        window = len(self.taper)
        return self._power(np.pad(self._tail, (0, max(0, window - len(self._tail)))), 1)

    def _power(self, samples: np.ndarray, n_windows: int) -> np.ndarray:
        from scipy.fft import rfft

        if n_windows < 1:
            return np.zeros((0, self.filters.shape[1]), dtype=np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(samples, len(self.taper))[:: self.hop][:n_windows]
        spectrum = rfft(windows * self.taper, n=2 * (len(self.filters) - 1), axis=1)
        return (spectrum.real**2 + spectrum.imag**2) @ self.filters


def mel_filters(n_fft: int, sampling_rate: int, n_mels: int = N_MELS) -> tuple[np.ndarray, np.ndarray]:
    """Return triangular mel filters, (n_fft // 2 + 1, n_mels), and their centres in Hz, (n_mels,).

    Scale and norm are Slaney's.
    """
    from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz

    top = sampling_rate / 2
    filters = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, top, sampling_rate, norm="slaney", mel_scale="slaney")
    mels = np.linspace(0.0, float(hertz_to_mel(top, "slaney")), n_mels + 2)
    return filters.astype(np.float32), np.asarray(mel_to_hertz(mels, "slaney"))[1:-1]


def mel_clock(sampling_rate: int) -> FrameClock:
    """Times of 25 ms windows, one each 10 ms."""
    return FrameClock(round(HOP_SECONDS * sampling_rate), round(WINDOW_SECONDS * sampling_rate), sampling_rate)


def log_mel_frames(blocks: Iterable[np.ndarray], clock: FrameClock, scale: float = 1.0) -> Iterator[np.ndarray]:
    """Turn blocks of mono samples into log-mel energies on an unpadded clock, in constant memory.

    Args:
        blocks: Consecutive samples at ``clock.sampling_rate``, any length each.
        clock: Its hop and field are the windows'; ``start`` and ``need`` are left aside.
        scale: Multiplied onto the samples; one over their standard deviation makes the energies free of loudness.

    Yields:
        (k, N_MELS) float32, natural logarithm; frames ``clock.n_frames`` in all, and one, of samples padded with
        zeros, where there are too few for any.
    """
    frames = MelFrames.at(clock.sampling_rate, clock.field, clock.hop)
    count = 0
    for block in blocks:
        power = frames.add(block * np.float32(scale))
        count += len(power)
        if len(power):
            yield np.log(power + FLOOR)
    if not count:
        yield np.log(frames.padded() + FLOOR)


def mel_rows(
    frames: Iterable[np.ndarray], clock: FrameClock, n_frames: int, start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """Average log-mel frames over rows while they stream by.

    Args:
        frames: (k, n_mels) each, consecutive, ``n_frames`` in all.
        clock: Of the frames.
        n_frames: At least 1.
        start: (n,) seconds at which each row begins.
        stop: (n,) seconds at which it ends.

    Returns:
        (n, n_mels) float32: the mean of the frames whose middle lies in [start, stop); the nearest one where none does.
    """
    first, last = _frames_of_rows(clock, n_frames, start, stop)
    sums: np.ndarray | None = None
    done = 0
    for block in frames:
        sums = np.zeros((len(first), block.shape[1])) if sums is None else sums
        touched = np.flatnonzero((first < done + len(block)) & (last > done))
        totals = np.pad(block.cumsum(axis=0, dtype=np.float64), ((1, 0), (0, 0)))
        low, high = (np.clip(edge[touched] - done, 0, len(block)) for edge in (first, last))
        sums[touched] += totals[high] - totals[low]
        done += len(block)
    if sums is None or done != n_frames:
        raise ValueError(f"Got {done} log-mel frames; expected {n_frames}.")
    return (sums / (last - first)[:, None]).astype(np.float32)


def _frames_of_rows(
    clock: FrameClock, n_frames: int, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames [first, last) of each row, never none, within [0, n_frames)."""
    centre, rate = float(clock.centre(0)), clock.frame_rate
    # Times are decimal, frames are not: 1e-6 of a frame is rounding.
    first = np.ceil((start - centre) * rate - 1e-6).astype(np.int64)
    last = np.ceil((stop - centre) * rate - 1e-6).astype(np.int64)
    first, last = np.clip(first, 0, n_frames), np.clip(last, 0, n_frames)
    nearest = np.clip(np.rint(((start + stop) / 2 - centre) * rate).astype(np.int64), 0, n_frames - 1)
    empty = last <= first
    return np.where(empty, nearest, first), np.where(empty, nearest + 1, last)


def signal_mel_rows(signal: "Signal", start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Log-mel energies of one recording's rows, (n, N_MELS) float32, free of its loudness; see :func:`mel_rows`."""
    clock = mel_clock(signal.sampling_rate)
    frames = log_mel_frames(signal.blocks(_BLOCK_SAMPLES), clock, 1 / signal.std if signal.std > 0 else 1.0)
    return mel_rows(frames, clock, max(1, clock.n_frames(signal.n_samples)), start, stop)


def mel_source(open_recording: Callable[[str], "Signal"]) -> MelSource:
    """Make a source of log-mel energies that opens one recording after the other.

    Args:
        open_recording: Opens a recording by its name in the table, always at the same rate; it is closed after use.
    """

    def source(table: RowTable) -> np.ndarray:
        values = np.empty((len(table), N_MELS), dtype=np.float32)
        for number in np.unique(table.recording):
            rows = table.recording == number
            with open_recording(table.recordings[number]) as signal:
                values[rows] = signal_mel_rows(signal, table.start[rows], table.stop[rows])
        return values

    return source


def of_middle_thirds(source: MelSource) -> MelSource:
    """Make a source take the middle third of each row, the part of a phone that its features are the mean of.

    A table says where a whole phone begins and ends; see :func:`core.analysis.spans.span_table`.
    """

    def inner(table: RowTable) -> np.ndarray:
        inset = (table.stop - table.start) / 3
        return source(replace(table, start=table.start + inset, stop=table.stop - inset))

    return inner
