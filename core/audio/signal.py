"""A recording ready for a model: mono, at the model's rate, with its statistics, in constant memory.

Decoding is done once. The samples lie in an unlinked temporary file, from which later passes read any range; a memory
map would count its touched pages as the process's own and grow with the length.
"""

import copy
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.reader import AudioInfo, mono_blocks, open_source
from core.audio.resample import resample_blocks
from core.errors import DataError, InputError, OutputError

_SAMPLE = np.dtype(np.float32)
_PASS_SAMPLES = 1 << 20
# FFmpeg states the length of whole packets: up to this much more than what it decodes.
_STATED_SLACK_SECONDS = 0.5
# Below this nothing is sound, and a header that says so would swell a small file to hours.
_LOWEST_RATE = 1_000


class Moments:
    """Count, mean, spread and peak of a stream, in float64 (Chan, Golub & LeVeque 1979, pairwise update)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.peak = 0.0
        self._squares = 0.0

    def add(self, block: np.ndarray) -> None:
        """Take in a block of any length."""
        if not len(block):
            return
        values = block.astype(np.float64)
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        total = self.count + len(block)
        shift = mean - self.mean
        self._squares += squares + shift * shift * self.count * len(block) / total
        self.mean += shift * len(block) / total
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.count = total

    @property
    def std(self) -> float:
        """Population standard deviation (divided by the count)."""
        return float(np.sqrt(self._squares / self.count)) if self.count else 0.0


class Signal:
    """Mono float32 samples that can be read in any range and as often as needed. Close it, or use it in a ``with``.

    Attributes:
        sampling_rate: Samples a second.
        n_samples: Samples in all, at ``sampling_rate``.
        mean: Mean of all samples.
        std: Population standard deviation of all samples; 0 for silence.
        peak: Largest absolute value.
        info: What the file said; None for samples that came from no file.
        sha256: Hash of the input file's bytes; of the float32 samples' bytes for samples that came from no file.
    """

    def __init__(
        self, spool: BinaryIO, moments: Moments, sampling_rate: int, sha256: str, info: AudioInfo | None = None
    ) -> None:
        self.sampling_rate = sampling_rate
        self.n_samples = moments.count
        self.mean = moments.mean
        self.std = moments.std
        self.peak = moments.peak
        self.info = info
        self.sha256 = sha256
        self._factor = 1.0
        self._spool = spool
        self._lock = Lock()

    @classmethod
    def from_array(cls, samples: np.ndarray, sampling_rate: int) -> "Signal":
        """Make a signal of (n,) samples in [-1, 1] that are already mono and at the wanted rate.

        Raises:
            InputError: The array has another shape or holds integers, or the rate is below 1.
            DataError: There are no samples, or some are NaN or infinite.
        """
        if samples.ndim != 1 or samples.dtype.kind != "f" or sampling_rate < 1:
            raise InputError(
                f"Got {samples.dtype} samples of shape {samples.shape} at {sampling_rate} Hz; expected floating-point "
                "samples in [-1, 1] on one axis, at 1 Hz or more. Divide integers by their full scale, and mix to mono."
            )
        values = np.ascontiguousarray(samples, dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"Sample {int((~np.isfinite(values)).argmax())} is NaN or infinite. Remove it first.")
        spool, moments = _spool([values], "The array")
        return cls(spool, moments, sampling_rate, hashlib.sha256(values.view(np.uint8).data).hexdigest())

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate

    def scaled(self, factor: float) -> "Signal":
        """The same samples times a factor, read from the same place: closing one closes both."""
        twin = copy.copy(self)
        twin._factor = self._factor * factor
        twin.mean, twin.std, twin.peak = self.mean * factor, self.std * abs(factor), self.peak * abs(factor)
        return twin

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read samples [start, stop) as a new (stop - start,) float32 array.

        Raises:
            InputError: The range is reversed or reaches beyond [0, n_samples].
        """
        if not 0 <= start <= stop <= self.n_samples:
            raise InputError(f"Got samples {start} to {stop}; expected a range within 0 to {self.n_samples}.")
        out = np.empty(stop - start, dtype=_SAMPLE)
        with self._lock:
            self._spool.seek(start * _SAMPLE.itemsize)
            _read_all(self._spool, out.view(np.uint8).data)
        return out if self._factor == 1.0 else out * np.float32(self._factor)

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """Yield all samples as (n,) float32 blocks; the last may be shorter."""
        if n < 1:
            raise InputError(f"Got blocks of {n} samples; expected at least 1.")
        for start in range(0, self.n_samples, n):
            yield self.read(start, min(start + n, self.n_samples))

    def envelope(self, n_bins: int) -> np.ndarray:
        """Smallest and largest sample in each of ``n_bins`` equal parts, (n_bins, 2) float32, for a waveform plot.

        With more bins than samples, neighbouring bins show the same sample.
        """
        if n_bins < 1:
            raise InputError(f"Got {n_bins} bins; expected at least 1.")
        edges = np.arange(n_bins + 1, dtype=np.int64) * self.n_samples // n_bins
        if n_bins >= self.n_samples:
            return np.repeat(self.read(0, self.n_samples)[edges[:-1], None], 2, axis=1)
        low, high = np.full(n_bins, np.inf, _SAMPLE), np.full(n_bins, -np.inf, _SAMPLE)
        for start in range(0, self.n_samples, _PASS_SAMPLES):
            block = self.read(start, min(start + _PASS_SAMPLES, self.n_samples))
            first = int(np.searchsorted(edges, start, side="right")) - 1
            last = int(np.searchsorted(edges, start + len(block), side="left"))
            cuts = np.maximum(edges[first:last] - start, 0)
            low[first:last] = np.minimum(low[first:last], np.minimum.reduceat(block, cuts))
            high[first:last] = np.maximum(high[first:last], np.maximum.reduceat(block, cuts))
        return np.stack([low, high], axis=1)

    def close(self) -> None:
        """Drop the samples. A second call does nothing."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_signal(
    path: Path | str,
    sampling_rate: int,
    channel: int | None = None,
    max_seconds: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Signal:
    """Decode, mix down and resample a recording; use the result in a ``with``.

    Args:
        path: The file.
        sampling_rate: Rate wanted, in Hz.
        channel: Channel to take, counted from 1; None takes the mean over channels.
        max_seconds: Longest recording accepted, in seconds; None for any.
        on_progress: Told of stage ``read`` in seconds of the recording; ``total`` equals ``done`` while the file
            states no length.

    Raises:
        InputError: The path, channel or rate cannot be used, or the recording is longer than ``max_seconds``.
        DataError: The content is no audio, is damaged, has no samples, or holds NaN or infinite samples.
        OutputError: The temporary file cannot be written.
    """
    path = Path(path)
    with open_source(path) as source:
        info = source.info
        _require_rate(info)
        _require_short(info, max_seconds)
        blocks = _watched(mono_blocks(source, channel), info, max_seconds, on_progress)
        spool, moments = _spool(resample_blocks(blocks, info.sampling_rate, sampling_rate), str(path))
    return Signal(spool, moments, sampling_rate, hash_file(path), info)


def _require_rate(info: AudioInfo) -> None:
    if info.sampling_rate < _LOWEST_RATE:
        raise DataError(
            f"{info.path} states a sampling rate of {info.sampling_rate} Hz; expected at least {_LOWEST_RATE} Hz. "
            "Its header is wrong, or it holds no sound; write it again with its true rate."
        )


def _require_short(info: AudioInfo, max_seconds: float | None) -> None:
    if max_seconds is None or info.duration_seconds is None:
        return
    slack = _STATED_SLACK_SECONDS if info.n_samples is None else 0.0
    if info.duration_seconds > max_seconds + slack:
        raise _too_long(info, f"{info.duration_seconds:.1f} s long", max_seconds)


def _too_long(info: AudioInfo, length: str, max_seconds: float) -> InputError:
    return InputError(
        f"{info.path} is {length}; the longest recording accepted here is {max_seconds:g} s (max_seconds). "
        "Cut the recording, or raise the limit."
    )


def _watched(
    blocks: Iterable[np.ndarray], info: AudioInfo, max_seconds: float | None, on_progress: OnProgress
) -> Iterator[np.ndarray]:
    """Pass blocks on, reporting progress and holding the cap where the file did not state its length."""
    done = 0
    for block in blocks:
        done += len(block)
        seconds = done / info.sampling_rate
        if max_seconds is not None and seconds > max_seconds:
            raise _too_long(info, f"longer than {max_seconds:g} s", max_seconds)
        on_progress(Progress("read", seconds, max(seconds, info.duration_seconds or 0.0), "s"))
        yield block
    on_progress(Progress("read", done / info.sampling_rate, done / info.sampling_rate, "s"))


def _spool(blocks: Iterable[np.ndarray], what: str) -> tuple[BinaryIO, Moments]:
    """Write blocks to an unlinked temporary file, and take their statistics on the way."""
    spool = _temporary_file()
    moments = Moments()
    try:
        for block in blocks:
            _write_all(spool, block)
            moments.add(block)
        if not moments.count:
            raise DataError(f"{what} holds no samples. Choose a recording with sound.")
    except BaseException:
        spool.close()
        raise
    return spool, moments


def _temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(buffering=0, prefix="strata-")
    except OSError as error:
        raise _no_space(error) from error


def _no_space(error: OSError) -> OutputError:
    return OutputError(
        f"Decoded sound cannot be kept in a temporary file ({error}). An hour at 16 kHz takes 230 MB: free some space, "
        "or set TMPDIR to a folder on a larger disk."
    )


def _write_all(spool: BinaryIO, block: np.ndarray) -> None:
    rest = np.ascontiguousarray(block, dtype=_SAMPLE).view(np.uint8).data
    try:
        while rest:
            rest = rest[spool.write(rest) :]
    except OSError as error:
        raise _no_space(error) from error


def _read_all(spool: BinaryIO, out: memoryview) -> None:
    """Fill ``out`` from an unbuffered file, which may return less than asked for."""
    while out:
        out = out[spool.readinto(out) :]  # type: ignore[attr-defined]


def hash_file(path: Path) -> str:
    """SHA-256 of a recording's bytes: what tells whether it is the same, whatever it is called."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_unchanged(path: Path, sha256: str | None) -> bool:
    """Whether a recording still has the content of that hash; what cannot be read has not."""
    try:
        return hash_file(path) == sha256
    except OSError:
        return False
