"""Log power of every channel over time and frequency: the map that grids are cut from.

Column j is the power of a Hann window (its mean taken off) that begins at sample ``round(j * hop_seconds * rate)``: a
hop that is no whole number of samples puts columns at most half a sample from their place, and they never drift.
``times`` are the windows' centres as they are. A row is the mean power density over its band. The windows are padded
with zeros, so that rows denser than the window's own bins follow its spectrum instead of steps between bins; they hold
no more than the window resolves.

A recording is read once, in blocks, and the map goes to a temporary file: memory does not grow with the length.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError, OutputError
from core.sites.names import listed
from core.sites.recordings import SiteRecording
from core.sites.site_input import PatchSettings

FLOOR = 1e-6
"""Of a channel's mean power: what is below counts as this much (-60 dB), so that silence has a logarithm."""

_BLOCK_VALUES = 1 << 20
"""Values of an array on the way, of which there are a few at a time; in float64 8 MB each."""
_LARGEST_PADDING = 4
_TINY = 1e-300
_SAME_RATE = 1e-7


@dataclass(frozen=True)
class Plan:
    """Where windows begin and which frequencies they give, at one sampling rate.

    Attributes:
        patches: The grids.
        rate: Hz.
    """

    patches: PatchSettings
    rate: float

    def __post_init__(self) -> None:
        high = self.patches.h_freq
        if high > self.rate / 2:
            raise InputError(
                f"Got rows up to {high:g} Hz at a sampling rate of {self.rate:g} Hz; expected at most "
                f"{self.rate / 2:g} Hz. Lower h_freq, or raise the sampling rate if the recordings have more."
            )
        if self.window < 4:
            raise InputError(
                f"A window of {self.patches.window_seconds:g} s holds {self.window} samples at {self.rate:g} Hz; "
                "expected at least 4. Make it longer."
            )

    def require_band(self, recording: SiteRecording) -> None:
        """Refuse a recording that was sampled too slowly for the highest row.

        Raises:
            DataError: it was; a higher rate cannot be made up.
        """
        high = self.patches.h_freq
        if high > recording.sampling_rate / 2:
            raise DataError(
                f"{recording.path} was recorded at {recording.sampling_rate:g} Hz and holds nothing above "
                f"{recording.sampling_rate / 2:g} Hz; the grids reach {high:g} Hz. Lower h_freq, or leave it out."
            )

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.patches.window_seconds * self.rate)

    @property
    def n_fft(self) -> int:
        """Samples of a window padded with zeros: two bins for the narrowest row, at most four times the window."""
        from scipy.fft import next_fast_len

        wanted = int(np.ceil(2 * self.rate / np.diff(self.patches.edges).min()))
        return int(next_fast_len(min(max(wanted, self.window), _LARGEST_PADDING * self.window), real=True))

    def starts(self, first: int, stop: int) -> np.ndarray:
        """First samples (n,) int64 of columns [first, stop)."""
        return np.round(np.arange(first, stop) * self.patches.hop_seconds * self.rate).astype(np.int64)

    def n_columns(self, n_times: int) -> int:
        """Columns whose windows lie within so many samples."""
        if n_times < self.window:
            return 0
        count = int((n_times - self.window) / (self.patches.hop_seconds * self.rate)) + 1
        return count + 1 if self.starts(count, count + 1)[0] + self.window <= n_times else count

    def n_columns_of(self, recording: SiteRecording) -> int:
        """Columns of a recording, once it is brought to the plan's rate."""
        return self.n_columns(int(recording.n_times * self.rate / recording.sampling_rate + 1e-6))

    def times(self, n_columns: int) -> np.ndarray:
        """Centres (n,) of the windows, in seconds."""
        return (self.starts(0, n_columns) + self.window / 2) / self.rate


def power_of(samples: np.ndarray, starts: np.ndarray, plan: Plan) -> np.ndarray:
    """Power density of each row in each window.

    Args:
        samples: (channels, times).
        starts: (columns,) first sample of each window.
        plan: Rate and windows.

    Returns:
        (columns, channels, rows) float64, in squared units per Hz.
    """
    from scipy.fft import rfft
    from scipy.signal import get_window

    hann = get_window("hann", plan.window)
    windows = np.lib.stride_tricks.sliding_window_view(samples, plan.window, axis=1)[:, starts]
    windows = (windows - windows.mean(axis=-1, keepdims=True)) * hann
    spectra = rfft(windows, plan.n_fft, axis=-1)
    power = 2 * (spectra.real**2 + spectra.imag**2) / (plan.rate * np.square(hann).sum())
    return row_means(power, plan.rate / plan.n_fft, plan.patches.edges).transpose(1, 0, 2)


def row_means(power: np.ndarray, step: float, edges: np.ndarray) -> np.ndarray:
    """Means over bands of what is linear between bins.

    Args:
        power: (..., bins) at 0, step, 2 step ...
        step: Hz from bin to bin.
        edges: (rows + 1,) Hz, rising; the last within the last bin.

    Returns:
        (..., rows), at least 0.
    """
    from scipy.integrate import cumulative_trapezoid

    area = cumulative_trapezoid(power, dx=step, axis=-1, initial=0)
    left = np.minimum((edges / step).astype(np.int64), power.shape[-1] - 2)
    beyond = edges - left * step
    slope = (power[..., left + 1] - power[..., left]) / step
    up_to = area[..., left] + power[..., left] * beyond + slope * beyond**2 / 2
    return np.maximum(np.diff(up_to, axis=-1) / np.diff(edges), 0.0)


def resampled_blocks(recording: SiteRecording, rate: float) -> Iterator[np.ndarray]:
    """Yield a recording as (channels, times) float64 blocks at another rate; sample j lies at j / rate seconds.

    Raises:
        DataError: some values are not finite.
    """
    if abs(recording.sampling_rate - rate) <= _SAME_RATE * rate:
        yield from raw_blocks(recording)
        return
    import soxr

    channels = len(recording.sites)
    stream = soxr.ResampleStream(recording.sampling_rate, rate, channels, dtype="float64", quality="VHQ")
    for block in raw_blocks(recording):
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    yield stream.resample_chunk(np.zeros((0, channels)), last=True).T


def raw_blocks(recording: SiteRecording) -> Iterator[np.ndarray]:
    """Yield a recording as (channels, times) float64 blocks at its own rate.

    Raises:
        DataError: some values are not finite; says where and in which channels.
    """
    step = max(_BLOCK_VALUES // (8 * len(recording.sites)), 1024)
    for start in range(0, recording.n_times, step):
        block = recording.read(start, min(start + step, recording.n_times))
        broken = ~np.isfinite(block)
        if broken.any():
            names = [recording.sites.names[row] for row in np.flatnonzero(broken.any(1))]
            second = (start + int(broken.any(0).argmax())) / recording.sampling_rate
            raise DataError(
                f"{recording.path} holds NaN or infinite values in {listed(names)}, first at {second:.3f} s. Mark "
                "those channels as bad or cut the stretch out, and save it again."
            )
        yield block


def flat_channels(recording: SiteRecording) -> np.ndarray:
    """Which channels (channels,) bool never change their value; reads the whole recording.

    Raises:
        DataError: some values are not finite.
    """
    low = np.full(len(recording.sites), np.inf)
    high = -low
    for block in raw_blocks(recording):
        low, high = np.minimum(low, block.min(axis=1)), np.maximum(high, block.max(axis=1))
    # What rounding leaves of an offset is no signal.
    return (high - low) <= np.finfo(np.float32).eps * 1e-3 * np.maximum(np.abs(low), np.abs(high))


def referenced(block: np.ndarray, kinds: tuple[str, ...], reference: str) -> np.ndarray:
    """Take the mean over channels of one kind away from (channels, times), or leave it."""
    if reference == "none":
        return block
    out, each = block.copy(), np.array(kinds)
    for kind in set(kinds):
        out[each == kind] -= block[each == kind].mean(axis=0)
    return out


def column_blocks(blocks: Iterator[np.ndarray], plan: Plan) -> Iterator[np.ndarray]:
    """Turn a stream of (channels, times) into one of (columns, channels, rows) power densities."""
    held: np.ndarray | None = None
    first_sample = column = 0
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        stop = plan.n_columns(first_sample + held.shape[1])
        step = max(1, _BLOCK_VALUES // (len(held) * plan.n_fft))
        for begin in range(column, stop, step):
            yield power_of(held, plan.starts(begin, min(begin + step, stop)) - first_sample, plan)
        column = max(column, stop)
        gone = min(int(plan.starts(column, column + 1)[0]) - first_sample, held.shape[1])
        held, first_sample = held[:, gone:].copy(), first_sample + gone


class PowerMap:
    """Log power of one recording, (columns, channels, rows), in a temporary file. Close it, or use it in a ``with``.

    Attributes:
        plan: Times and frequencies of the map.
        n_columns: Columns.
        floor: (channels,) of log power; what is below is shown as this.
    """

    def __init__(self, file: BinaryIO, plan: Plan, n_columns: int, mean_power: np.ndarray) -> None:
        self.plan, self.n_columns = plan, n_columns
        self.floor = np.log(np.maximum(FLOOR * mean_power, _TINY))
        self._file = file
        shape = (n_columns, len(mean_power), plan.patches.rows_per_site)
        self._values = np.memmap(file, np.float32, "r", shape=shape) if n_columns else np.zeros(shape, np.float32)

    @property
    def times(self) -> np.ndarray:
        """Centres (columns,) of the columns, in seconds."""
        return self.plan.times(self.n_columns)

    def read(self, first: int, stop: int, channels: np.ndarray) -> np.ndarray:
        """Log power of columns [first, stop), (channels, rows, columns) float64."""
        values = np.asarray(self._values[first:stop, channels], dtype=np.float64)
        return np.maximum(values, self.floor[channels][:, None]).transpose(1, 2, 0)

    def close(self) -> None:
        """Drop the map. A second call does nothing."""
        self._values = np.zeros((0, 0, 0), np.float32)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def map_power(
    recording: SiteRecording,
    plan: Plan,
    blocks: Iterator[np.ndarray] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> PowerMap:
    """Make the map of a recording.

    Args:
        recording: Whose it is.
        plan: Rate and windows.
        blocks: The recording's (channels, times) at the plan's rate; None reads, resamples and references it.
        on_progress: Told of the stage ``power`` in seconds.

    Raises:
        DataError: some values are not finite.
        OutputError: the temporary file cannot be written.
    """
    if blocks is None:
        blocks = prepared_blocks(recording, plan)
    total, n = np.zeros(len(recording.sites)), 0
    file = _temporary_file()
    try:
        for power in column_blocks(blocks, plan):
            _write(file, np.log(np.maximum(power, _TINY)).astype(np.float32))
            total += power.mean(axis=2).sum(axis=0)
            n += len(power)
            on_progress(Progress("power", n * plan.patches.hop_seconds, recording.seconds))
        file.flush()
        return PowerMap(file, plan, n, total / max(n, 1))
    except BaseException:
        file.close()
        raise


def prepared_blocks(recording: SiteRecording, plan: Plan) -> Iterator[np.ndarray]:
    """Blocks of a recording at the plan's rate, with its reference."""
    kinds, reference = recording.sites.kinds, plan.patches.reference
    for block in resampled_blocks(recording, plan.rate):
        yield referenced(block, kinds, reference)


def _temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="strata-")
    except OSError as error:
        raise _no_space(error) from error


def _write(file: BinaryIO, values: np.ndarray) -> None:
    try:
        file.write(np.ascontiguousarray(values).data)
    except OSError as error:
        raise _no_space(error) from error


def _no_space(error: OSError) -> OutputError:
    return OutputError(
        f"Maps of log power cannot be kept in a temporary file ({error.strerror or error}). An hour of 64 sites with "
        "128 rows takes about 1.9 GB: free some space, or set TMPDIR to a folder on a larger disk."
    )
