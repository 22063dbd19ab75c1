"""A recording's filter, and the stream of its filtered values at the prepared rate, in blocks of time.

The band-pass is MNE's FIR design (Hamming window, zero phase), and so are the notches, where the power line or one of
its multiples lies in what the band-pass leaves; both are convolved into one filter. It always ends below the prepared
rate's Nyquist frequency, so that the lower rate does not alias. That rate is reached by taking every n-th sample where
the rates allow, else by soxr.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.arrays import OnProgress, Progress
from core.errors import DataError, InputError
from core.meg.checks import check_finite, flat_warnings
from core.meg.reader import MegFile
from core.sensors import Preparation

BLOCK_VALUES = 4 << 20
"""Channels x times of a block; in float64 and with what filtering needs beside it some 150 MB."""

# MNE's own choices (mne.filter.create_filter, notch_filter), named because the notch's place depends on them.
_TRANSITION_SHARE, _TRANSITION_LEAST = 0.25, 2.0
_NOTCH_SLOPE, _NOTCH_WIDTH_SHARE = 0.5, 1 / 200
# Without an upper edge, what is kept when the rate is lowered; the rest of the way to Nyquist is the filter's slope.
_OPEN_SHARE = 0.9
# Rates that differ by less are the same: files keep them in single precision, and an hour drifts by 0.4 ms.
_SAME_RATE = 1e-7
# soxr's "VHQ" (28 bits): output samples on each side beyond which its impulse response is below 1e-9 of its peak.
_SOXR_QUALITY, _SOXR_REACH = "VHQ", 150


@dataclass(frozen=True)
class Filter:
    """A zero-phase FIR filter.

    Attributes:
        taps: (odd,) float64, symmetric.
        notches: Hz of the notches in it.
        note: A sentence where a notch was asked for and none could be placed; else empty.
    """

    taps: np.ndarray
    notches: tuple[float, ...] = ()
    note: str = ""

    @property
    def reach(self) -> int:
        """Samples on each side that a filtered one rests on."""
        return len(self.taps) // 2


def design_filter(sampling_rate: float, preparation: Preparation, line_hz: float | None) -> Filter:
    """Design band-pass and notches as one filter.

    Args:
        sampling_rate: Of the recording, Hz.
        preparation: Band, notch, and the prepared rate, below whose Nyquist frequency the low-pass ends.
        line_hz: Power line frequency that the recording states; None where it states none.

    Raises:
        InputError: ``notch`` is neither ``auto``, ``none`` nor a frequency.
    """
    from mne.filter import create_filter

    high, slope = _upper_edge(sampling_rate, preparation)
    taps = np.ones(1)
    if preparation.l_freq is not None or high is not None:
        slope_or_auto = "auto" if high is None else slope
        band = (preparation.l_freq, high)
        taps = create_filter(None, sampling_rate, *band, h_trans_bandwidth=slope_or_auto, verbose=False)
    last = (sampling_rate / 2 - 2 * _NOTCH_SLOPE) / (1 + _NOTCH_WIDTH_SHARE)
    notches, note = _notches(preparation.notch, line_hz, last if high is None else min(last, high + slope))
    if notches:
        places = np.array(notches)
        half = places * _NOTCH_WIDTH_SHARE / 2 + _NOTCH_SLOPE
        slopes = {"l_trans_bandwidth": _NOTCH_SLOPE, "h_trans_bandwidth": _NOTCH_SLOPE}
        stop = create_filter(None, sampling_rate, places + half, places - half, **slopes, verbose=False)
        taps = np.convolve(taps, stop)
    return Filter(taps, notches, note)


def _upper_edge(sampling_rate: float, preparation: Preparation) -> tuple[float | None, float]:
    """Upper edge of the pass band and width of the slope above it, Hz; no edge where nothing has to be cut."""
    nyquist = preparation.sampling_rate / 2
    high = preparation.h_freq
    if high is None:
        if _same_rate(sampling_rate, preparation.sampling_rate):
            return None, 0.0
        high = _OPEN_SHARE * nyquist
    return high, min(max(_TRANSITION_SHARE * high, _TRANSITION_LEAST), nyquist - high)


def _notches(wish: str, line_hz: float | None, edge: float) -> tuple[tuple[float, ...], str]:
    """Power line frequency and its multiples below ``edge``, where the low-pass has cut all."""
    if wish == "none":
        return (), ""
    base = line_hz if wish == "auto" else _as_frequency(wish)
    if base is None:
        note = "It states no power line frequency, so no notch was placed; name it with --notch 50 or 60."
        return (), note if edge > 50 else ""
    count = int(np.ceil(edge / base)) - 1
    return tuple(base * number for number in range(1, count + 1)), ""


def _as_frequency(wish: str) -> float:
    try:
        frequency = float(wish)
    except ValueError:
        frequency = 0.0
    if not 1 < frequency < np.inf:
        raise InputError(f"Got notch {wish!r}; expected auto, none, or a frequency above 1 Hz such as 50.")
    return frequency


def _same_rate(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME_RATE * other


class Stream:
    """The filtered values of a recording, read once.

    Attributes:
        rate: Of the recording, Hz.
        wanted: The prepared rate, Hz.
        design: The filter.

    Raises:
        DataError: the rate is below the wanted one, or the recording is shorter than the filter.
        InputError: the notch cannot be.
    """

    def __init__(self, file: MegFile, preparation: Preparation) -> None:
        self.rate, self.wanted = float(file.raw.info["sfreq"]), preparation.sampling_rate
        self._file, self._n_times = file, int(file.raw.n_times)
        self._keeps_offset = preparation.l_freq is None
        self._lows = np.full(len(file.sensors), np.inf)
        self._highs = -self._lows
        self._used = np.ones(len(file.sensors), dtype=bool)
        self._require_rate()
        self.design = design_filter(self.rate, preparation, file.raw.info["line_freq"])
        self._require_length()

    def _require_rate(self) -> None:
        if self.rate < self.wanted and not _same_rate(self.rate, self.wanted):
            raise DataError(
                f"{self._file.path} was recorded at {self.rate:g} Hz; expected at least {self.wanted} Hz, because a "
                f"higher rate cannot be made up. Prepare with --sfreq {int(self.rate)} or lower, and --h-freq below "
                "half of it."
            )

    def _require_length(self) -> None:
        needed, length = len(self.design.taps) / self.rate, self._n_times / self.rate
        if self._n_times < len(self.design.taps):
            raise DataError(
                f"{self._file.path} is {length:.2f} s long; its filter needs at least {needed:.2f} s. Use a longer "
                "recording, or prepare (and train) with a higher --l-freq and --notch none."
            )

    def use_only(self, used: np.ndarray) -> None:
        """Take zeros for all channels but these, (channels,) bool: nothing that comes out rests on the others.

        A channel is marked as bad because its values cannot be used; they may be NaN, and 0 times NaN is NaN.
        """
        self._used = used

    @property
    def reach_seconds(self) -> float:
        """On each side of a value, what of the recording it rests on."""
        return self.design.reach / self.rate + (0.0 if self._factor else _SOXR_REACH / self.wanted)

    @property
    def _factor(self) -> int:
        """Every how many samples one is taken; 0 where the rates are no multiples."""
        factor = round(self.rate / self.wanted)
        return factor if _same_rate(self.rate / self.wanted, factor) else 0

    def blocks(self, on_progress: OnProgress) -> Iterator[np.ndarray]:
        """Yield (channels, times) float64 blocks at the wanted rate; sample j lies at j / wanted seconds.

        Raises:
            DataError: some values are not finite, or all channels are flat.
        """
        if self._factor:
            # Every block but the last is a multiple of the factor long.
            yield from (block[:, :: self._factor] for block in self._filtered(on_progress))
            return
        import soxr

        channels = len(self._lows)
        stream = soxr.ResampleStream(self.rate, self.wanted, channels, dtype="float64", quality=_SOXR_QUALITY)
        for block in self._filtered(on_progress):
            yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
        yield stream.resample_chunk(np.zeros((0, channels)), last=True).T

    def warnings(self) -> tuple[str, ...]:
        """Sentences, once all blocks are through.

        Raises:
            DataError: all channels are flat.
        """
        note = (f"{self._file.path.name}: {self.design.note}",) if self.design.note else ()
        extremes = np.stack([self._lows, self._highs], axis=1)[self._used]
        sensors = self._file.sensors.take(np.flatnonzero(self._used))
        return (*flat_warnings(extremes, sensors, self._file.path), *note)

    def _filtered(self, on_progress: OnProgress) -> Iterator[np.ndarray]:
        """Yield blocks at the recording's own rate, which join without a seam.

        The first value is taken off before and, times the filter's gain at 0 Hz, put back after: a flat channel stays
        exactly flat, and an offset costs no digits.
        """
        from scipy.signal import oaconvolve

        taps, step = self.design.taps, self._step()
        first = self._read(0, 1)
        gain = taps.sum() if self._keeps_offset else 0.0
        for start in range(0, self._n_times, step):
            stop = min(start + step, self._n_times)
            block = self._with_context(start, stop) - first
            yield oaconvolve(block, taps[None], mode="valid", axes=1) + gain * first
            on_progress(Progress("filter", stop / self.rate, self._n_times / self.rate, "s"))

    def _step(self) -> int:
        """Samples of a block: several filter lengths at least, and a multiple of the factor between the rates."""
        factor = max(self._factor, 1)
        length = max(BLOCK_VALUES // len(self._lows), 2 * len(self.design.taps))
        return -(-length // factor) * factor

    def _with_context(self, start: int, stop: int) -> np.ndarray:
        """What the filter needs for [start, stop); beyond the recording's ends by odd reflection, as MNE does."""
        reach = self.design.reach
        low, high = max(0, start - reach), min(self._n_times, stop + reach)
        beyond = (low - (start - reach), stop + reach - high)
        values = self._read(low, high)
        return np.pad(values, ((0, 0), beyond), mode="reflect", reflect_type="odd") if any(beyond) else values

    def _read(self, start: int, stop: int) -> np.ndarray:
        """(channels, times) float64, in the order of the file's sensors."""
        names = list(self._file.sensors.names)
        values: np.ndarray = self._file.raw.get_data(picks=names, start=start, stop=stop, verbose="ERROR")
        if not self._used.all():
            values = np.where(self._used[:, None], values, 0.0)
        check_finite(values, self.rate, self._file.path, start / self.rate)
        np.minimum(self._lows, values.min(axis=1), out=self._lows)
        np.maximum(self._highs, values.max(axis=1), out=self._highs)
        return values
