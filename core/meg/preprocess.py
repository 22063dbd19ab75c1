"""From a recording in its own rate and channels to what models take: filtered, resampled, its channels fitted, scaled.

The steps, in this order:

1. The filter (:mod:`core.meg.filtering`), at the recording's own rate, because its low-pass is what keeps the
   resampling from aliasing.
2. The prepared rate.
3. The channels: bad ones interpolated, the layout's order, or what the layout's sensors would have measured. Each is a
   weighted sum of the channels at one time, so it commutes with 1 and 2 and comes after them, where there are fewest
   samples. The weights are found once, by fitting the identity matrix.
4. Z-scores, by the training recordings' statistics, as late as when values are read: they are known only when all
   training recordings went through 1 to 3.

The recording is read once, in blocks of time; memory does not grow with its length.
"""

from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError
from core.meg.channels import FitReport, fit_channels, fitted_sensors
from core.meg.filtering import Stream
from core.meg.reader import MegFile
from core.meg.samples import Samples
from core.sensors import MEG_KINDS, Preparation, Sensors, Statistics

FLOOR = 0.01
"""Of the median standard deviation of a channel's kind: below it a channel is taken for flat, and its noise stays
small instead of being scaled up to everyone else's."""


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
    report: FitReport
    reach_seconds: float
    bad_spans: tuple[tuple[int, int], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def prepare_raw(
    file: MegFile, preparation: Preparation, store: BinaryIO, on_progress: OnProgress = ignore_progress
) -> PreparedRecording:
    """Filter, resample and fit a recording, in blocks of time.

    Args:
        file: The recording, not loaded.
        preparation: What to do.
        store: An empty file for the values, float32 in SI units; it has to stay open while they are read.
        on_progress: Told of the stage ``fit the sensors``, where MNE interpolates for seconds, and of ``filter`` in
            seconds of the recording.

    Raises:
        DataError: the rate is below the wanted one, the recording is too short for the filter, holds values that are
            not finite, or is flat.
        InputError: its channels cannot be fitted, or the notch cannot be.
        OutputError: the disk is full.
    """
    from threadpoolctl import threadpool_limits

    stream = Stream(file, preparation)
    # Threads would add up the weighted channels in another order on another machine.
    with threadpool_limits(1):
        on_progress(Progress("fit the sensors", 0, 1, "recording"))
        weights, sensors, report = fit_weights(file, preparation)
        stream.use_only(np.asarray(weights.any(axis=0)))
        samples = Samples(store, len(sensors))
        for block in stream.blocks(on_progress):
            samples.append(weights @ block)
    spans = _bad_spans(file, preparation.sampling_rate, samples.n_times, stream.reach_seconds)
    facts = {
        "original_sampling_rate": stream.rate,
        "original_n_times": int(file.raw.n_times),
        "filter_taps": len(stream.design.taps),
        "notch_hz": list(stream.design.notches),
    }
    warnings = (*file.warnings, *report.warnings, *stream.warnings())
    return PreparedRecording(samples, sensors, report, stream.reach_seconds, spans, facts, warnings)


def fit_weights(file: MegFile, preparation: Preparation) -> tuple[np.ndarray, Sensors, FitReport]:
    """What :func:`core.meg.channels.fit_channels` does to a recording, as one matrix.

    Every way to fit channels is linear and acts on each time by itself. So fitting a recording whose samples are the
    columns of the identity matrix returns the weights.

    Returns:
        tuple: (layout's channels, recording's channels) float64, the sensors that come out, and the report.
    """
    import mne

    picked = [file.raw.ch_names.index(name) for name in file.sensors.names]
    info = mne.pick_info(file.raw.info, picked, copy=True, verbose="ERROR")
    unit = mne.io.RawArray(np.eye(len(picked)), info, verbose="ERROR")
    unit.filenames = file.raw.filenames[:1]  # whose name an error gives
    fitted, report = fit_channels(unit, file.sensors, preparation)
    return fitted.get_data(verbose="ERROR"), fitted_sensors(fitted, preparation), report


def _bad_spans(file: MegFile, sampling_rate: int, n_times: int, reach: float) -> tuple[tuple[int, int], ...]:
    """Stretches that annotations mark as bad, in prepared samples.

    Where the acquisition paused MNE fills in zeros (``bad_acq_skip``); their edge rings as far as the filter reaches.
    """
    spans = []
    for mark in file.raw.annotations:
        name, onset = str(mark["description"]).lower(), float(mark["onset"]) - file.raw.first_time
        if name.startswith("bad"):
            margin = reach if name.startswith("bad_acq_skip") else 0.0
            start = int(np.floor((onset - margin) * sampling_rate))
            stop = int(np.ceil((onset + float(mark["duration"]) + margin) * sampling_rate))
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
