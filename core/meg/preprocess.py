"""From a recording in its own rate and channels to what models take: filtered, resampled, its channels fitted, scaled.

The steps, in this order:

1. One zero-phase FIR filter, MNE's design (Hamming window): the band-pass, and where the power line or a multiple of it
   lies in what the band-pass leaves, its notches, convolved into one. It comes first, at the recording's own rate,
   because its low-pass is what keeps the resampling from aliasing: it always ends below the prepared rate's Nyquist
   frequency.
2. The prepared rate: every n-th sample where the rates allow, else soxr.
3. The channels: bad ones interpolated, the layout's order, or what the layout's sensors would have measured. Each is a
   weighted sum of the channels at one time, so it commutes with 1 and 2 and is done last, where there are fewest
   samples. The weights are found once, by fitting the identity matrix.
4. Z-scores, by the training recordings' statistics, as late as when values are read: they are known only when all
   training recordings went through 1 to 3.

The recording is read once, in blocks of time; memory does not grow with its length.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError
from core.meg.samples import Samples
from core.sensors import MEG_KINDS, Preparation, Sensors, Statistics

if TYPE_CHECKING:
    from core.meg.channels import FitReport
    from core.meg.reader import MegFile

BLOCK_VALUES = 4 << 20
"""Channels x times of a block; in float64 and with what filtering needs beside it some 150 MB."""

FLOOR = 0.01
"""Of the median standard deviation of a channel's kind: below it a channel is taken for flat, and its noise stays
small instead of being scaled up to everyone else's."""

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


@dataclass(frozen=True)
class PreparedRecording:
    """A recording filtered, resampled and fitted, in SI units, before it is standardised.

    Attributes:
        samples: The values, on disk.
        sensors: Of the channels that came out.
        report: How the channels were fitted.
        reach_seconds: On each side of a sample, what of the original recording it rests on.
        bad_spans: ``[start, stop)`` in prepared samples that annotations mark as bad.
        facts: JSON-ready: original rate and length, filter, notches.
        warnings: Sentences.
    """

    samples: Samples
    sensors: Sensors
    report: "FitReport"
    reach_seconds: float
    bad_spans: tuple[tuple[int, int], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


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


def prepare_raw(
    file: "MegFile", preparation: Preparation, store: BinaryIO, on_progress: OnProgress = ignore_progress
) -> PreparedRecording:
    """Filter, resample and fit a recording, in blocks of time.

    Args:
        file: The recording, not loaded.
        preparation: What to do.
        store: An empty file for the values, float32 in SI units; it has to stay open while they are read.
        on_progress: Told of the stage ``prepare`` in seconds of the recording.

    Raises:
        DataError: the rate is below the wanted one, the recording is too short for the filter, holds values that are
            not finite, or its channels cannot be fitted.
        OutputError: the disk is full.
    """
    from threadpoolctl import threadpool_limits

    rate = float(file.raw.info["sfreq"])
    _require_rate(file, preparation)
    design = design_filter(rate, preparation, file.raw.info.get("line_freq"))
    _require_length(file, design)
    # Threads would add up the weighted channels in another order on another machine.
    with threadpool_limits(1):
        weights, sensors, report = fit_weights(file, preparation)
        samples = Samples(store, len(sensors))
        for block in _resampled(_filtered(file, design, preparation, on_progress), rate, preparation.sampling_rate):
            samples.append(weights @ block)
    reach = _reach_seconds(design, rate, preparation.sampling_rate)
    return PreparedRecording(
        samples,
        sensors,
        report,
        reach,
        _bad_spans(file, preparation.sampling_rate, samples.n_times, reach),
        {
            "original_sampling_rate": rate,
            "original_n_times": int(file.raw.n_times),
            "filter_taps": len(design.taps),
            "notch_hz": list(design.notches),
        },
        (*file.warnings, *report.warnings, *((f"{file.path.name}: {design.note}",) if design.note else ())),
    )


def _require_rate(file: "MegFile", preparation: Preparation) -> None:
    rate, wanted = float(file.raw.info["sfreq"]), preparation.sampling_rate
    if rate < wanted and not _same_rate(rate, wanted):
        raise DataError(
            f"{file.path} was recorded at {rate:g} Hz; expected at least {wanted} Hz, because a higher rate cannot be "
            f"made up. Prepare with --sfreq {int(rate)} or lower (and --h-freq below half of it)."
        )


def _require_length(file: "MegFile", design: Filter) -> None:
    needed, rate = len(design.taps), float(file.raw.info["sfreq"])
    if file.raw.n_times < needed:
        raise DataError(
            f"{file.path} is {file.raw.n_times / rate:.2f} s long; its filter needs at least {needed / rate:.2f} s. "
            "Use a longer recording, a higher --l-freq, or --notch none."
        )


def _reach_seconds(design: Filter, rate: float, wanted: int) -> float:
    whole = _same_rate(rate / wanted, round(rate / wanted))
    return design.reach / rate + (0.0 if whole else _SOXR_REACH / wanted)


def _filtered(
    file: "MegFile", design: Filter, preparation: Preparation, on_progress: OnProgress
) -> Iterator[np.ndarray]:
    """Yield (channels, times) float64 blocks of the filtered recording, which join without a seam.

    The recording is continued beyond its ends by odd reflection, as MNE does. Its first value is taken off before and,
    times the filter's gain at 0 Hz, put back after: a flat channel stays exactly flat, and an offset costs no digits.
    """
    from scipy.signal import oaconvolve

    rate, n_times = float(file.raw.info["sfreq"]), int(file.raw.n_times)
    step = _block_length(design, len(file.sensors), max(1, round(rate / preparation.sampling_rate)))
    first = _read(file, 0, 1)
    gain = 0.0 if preparation.l_freq is not None else design.taps.sum()
    for start in range(0, n_times, step):
        stop = min(start + step, n_times)
        block = _with_context(file, start, stop, design.reach) - first
        yield oaconvolve(block, design.taps[None], mode="valid", axes=1) + gain * first
        on_progress(Progress("prepare", stop / rate, n_times / rate, "s"))


def _block_length(design: Filter, n_channels: int, factor: int) -> int:
    """Samples of a block: several filter lengths at least, and a multiple of the factor between the rates."""
    length = max(BLOCK_VALUES // n_channels, 2 * len(design.taps))
    return -(-length // factor) * factor


def _read(file: "MegFile", start: int, stop: int) -> np.ndarray:
    """(channels, times) float64, in the order of ``file.sensors``."""
    values: np.ndarray = file.raw.get_data(picks=list(file.sensors.names), start=start, stop=stop)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=0))
    if len(broken):
        rate = float(file.raw.info["sfreq"])
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise DataError(
            f"{file.path} holds values that are not finite from {(start + broken[0]) / rate:.3f} s to "
            f"{(start + broken[-1] + 1) / rate:.3f} s in {len(rows)} channel(s), first {file.sensors.names[rows[0]]}. "
            "Cut the stretch out, or replace it and mark it with a BAD_ annotation."
        )
    return values


def _with_context(file: "MegFile", start: int, stop: int, reach: int) -> np.ndarray:
    """Samples [start - reach, stop + reach), by odd reflection where that is beyond the recording."""
    n_times = int(file.raw.n_times)
    low, high = max(0, start - reach), min(n_times, stop + reach)
    beyond = (low - (start - reach), stop + reach - high)
    values = _read(file, low, high)
    return np.pad(values, ((0, 0), beyond), mode="reflect", reflect_type="odd") if any(beyond) else values


def _resampled(blocks: Iterator[np.ndarray], rate: float, wanted: int) -> Iterator[np.ndarray]:
    """Bring (channels, times) blocks to the wanted rate; sample j of the result lies at j / wanted seconds."""
    factor = round(rate / wanted)
    if _same_rate(rate / wanted, factor):
        # Every block but the last is a multiple of the factor long.
        yield from (block[:, ::factor] for block in blocks)
        return
    import soxr

    stream = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(rate, wanted, len(block), dtype="float64", quality=_SOXR_QUALITY)
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    if stream is not None:
        yield stream.resample_chunk(np.zeros((0, len(block))), last=True).T


def fit_weights(file: "MegFile", preparation: Preparation) -> tuple[np.ndarray, Sensors, "FitReport"]:
    """What :func:`core.meg.channels.fit_channels` does to a recording, as one matrix.

    Every way to fit channels is linear and acts on each time by itself. So fitting a recording whose samples are the
    columns of the identity matrix returns the weights.

    Returns:
        (layout's channels, recording's channels) float64, the sensors that come out, and the report.
    """
    import mne

    from core.meg.channels import fit_channels
    from core.meg.layouts import layout

    names = list(file.sensors.names)
    picked = [file.raw.ch_names.index(name) for name in names]
    info = mne.pick_info(file.raw.info, picked, copy=True, verbose=False)
    unit = mne.io.RawArray(np.eye(len(names)), info, verbose=False)
    fitted, report = fit_channels(unit, file.sensors, preparation)
    native = preparation.layout == "native"
    sensors = (
        file.sensors.take([names.index(name) for name in fitted.ch_names]) if native else layout(preparation.layout)
    )
    return fitted.get_data(), sensors, report


def _bad_spans(file: "MegFile", sampling_rate: int, n_times: int, reach: float) -> tuple[tuple[int, int], ...]:
    """Stretches that annotations mark as bad, in prepared samples.

    Where the acquisition paused MNE fills in zeros (``bad_acq_skip``); their edge rings as far as the filter reaches.
    """
    from core.meg.reader import labels_of

    spans = []
    for span in labels_of(file):
        name = span.label.lower()
        if name.startswith("bad"):
            margin = reach if name.startswith("bad_acq_skip") else 0.0
            start = int(np.floor((span.onset - margin) * sampling_rate))
            stop = int(np.ceil((span.onset + span.duration + margin) * sampling_rate))
            spans.append((max(0, start), min(max(stop, start + 1), n_times)))
    return tuple(sorted(span for span in spans if span[0] < span[1]))


class Moments:
    """Counts, means and spreads of several rows of a stream, in float64 (Chan, Golub & LeVeque 1979).

    Attributes:
        count: (rows,) values seen.
        mean: (rows,) their means.
    """

    def __init__(self, n_rows: int) -> None:
        self.count = np.zeros(n_rows)
        self.mean = np.zeros(n_rows)
        self._squares = np.zeros(n_rows)

    def add(self, block: np.ndarray) -> None:
        """Take in (rows, values)."""
        if block.shape[1]:
            other = Moments(len(block))
            values = block.astype(np.float64)
            other.count += block.shape[1]
            other.mean = values.mean(axis=1)
            other._squares = np.square(values - other.mean[:, None]).sum(axis=1)
            self.merge(other)

    def merge(self, other: "Moments") -> None:
        """Take in what another one saw."""
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros_like(total), where=total > 0)
        shift = other.mean - self.mean
        self._squares = self._squares + other._squares + shift * shift * self.count * share
        self.mean = self.mean + shift * share
        self.count = total

    def by_kind(self, kinds: tuple[str, ...]) -> "Moments":
        """Of all channels of each of MEG_KINDS together."""
        pooled = Moments(len(MEG_KINDS))
        for number, kind in enumerate(MEG_KINDS):
            for row in np.flatnonzero(np.array(kinds) == kind):
                one = Moments(len(MEG_KINDS))
                one.count[number], one.mean[number] = self.count[row], self.mean[row]
                one._squares[number] = self._squares[row]
                pooled.merge(one)
        return pooled

    @property
    def std(self) -> np.ndarray:
        """(rows,) population standard deviations; 0 where nothing was seen."""
        return np.sqrt(np.divide(self._squares, self.count, out=np.zeros_like(self.mean), where=self.count > 0))


def statistics_of(moments: Moments) -> Statistics:
    """Statistics of what was seen; NaN where nothing was, such as a kind that is absent."""
    seen = moments.count > 0
    return Statistics(np.where(seen, moments.mean, np.nan), np.where(seen, moments.std, np.nan))


def standardise(
    values: np.ndarray, statistics: Statistics, sensors: Sensors, clip: float, native: bool = False
) -> np.ndarray:
    """Z-score channels and cut what is far out.

    Args:
        values: (channels, times) in SI units.
        statistics: Of the training recordings, per channel; with ``native`` per kind.
        sensors: Of the channels.
        clip: Standard deviations beyond which values are cut.
        native: Whether the channels are a recording's own.

    Returns:
        (channels, times) float32. A channel that was flat in training is 0 up to a hundredth of what others vary by.

    Raises:
        DataError: the statistics are of another number of channels, or lack a kind of sensor.
    """
    mean, scale = _per_channel(statistics, sensors, native)
    scores = (values.astype(np.float64) - mean[:, None]) / scale[:, None]
    return np.clip(scores, -clip, clip).astype(np.float32)


def _per_channel(statistics: Statistics, sensors: Sensors, native: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each channel and what divides it, (channels,) each."""
    mean, std = statistics.mean, statistics.std
    if native:
        order = [MEG_KINDS.index(kind) for kind in sensors.kinds]
        mean, std = mean[order], std[order]
    if len(mean) != len(sensors):
        raise DataError(f"Got {len(sensors)} channels; expected {len(mean)}, as in training. Prepare them alike.")
    if not np.isfinite(mean).all():
        kind = sensors.kinds[int(np.flatnonzero(~np.isfinite(mean))[0])]
        raise DataError(f"The training recordings had no {kind} sensors; this recording has. Train on some like it.")
    # An offset kept in single precision leaves this much noise.
    spread = np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 0.0)
    return mean, np.maximum(spread, _floors(spread, sensors))


def _floors(spread: np.ndarray, sensors: Sensors) -> np.ndarray:
    """Least divisor of each channel; 1 where a whole kind is flat, which leaves its zeros zero."""
    floors = np.ones(len(spread))
    for kind in set(sensors.kinds):
        rows = sensors.of_kind(kind)
        alive = spread[rows][spread[rows] > 0]
        floors[rows] = FLOOR * np.median(alive) if len(alive) else 1.0
    return floors
