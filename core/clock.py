"""The one clock: seconds, samples and frames, and the plan of windows over a long recording.

A convolution stack with total stride ``hop`` and receptive field ``field`` turns ``n`` samples into
``(n - field) // hop + 1`` frames; frame ``i`` sees samples ``[hop * i, hop * i + field)``. Models that pad differ only
in where frame 0 starts (``start``) and in how many samples a frame needs to exist (``need``). No other module
multiplies strides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from core.errors import DataError, InputError


@dataclass(frozen=True)
class FrameClock:
    """When each frame of an encoder happens.

    Attributes:
        hop: Samples between two frames.
        field: Samples that one frame sees (before any attention).
        sampling_rate: Samples a second.
        start: The first sample of frame 0's field; negative where the model pads on the left.
        need: Samples that must exist from ``hop * i`` on for frame ``i`` to exist; ``field`` for unpadded stacks.
    """

    hop: int
    field: int
    sampling_rate: int
    start: int = 0
    need: int | None = None

    @classmethod
    def from_convolutions(cls, kernels: Sequence[int], strides: Sequence[int], sampling_rate: int) -> "FrameClock":
        """Derive hop and field from an unpadded stack, first layer first (wav2vec 2.0: hop 320, field 400)."""
        if len(kernels) != len(strides) or not kernels:
            raise InputError(
                f"Got {len(kernels)} kernels and {len(strides)} strides; expected as many of each, at least one."
            )
        hop, field = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return cls(hop=hop, field=field, sampling_rate=sampling_rate)

    @property
    def min_samples(self) -> int:
        """Samples that give exactly one frame."""
        return self.field if self.need is None else self.need

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sampling_rate / self.hop

    @property
    def stride_seconds(self) -> float:
        """Seconds between two frames."""
        return self.hop / self.sampling_rate

    def n_frames(self, n_samples: int) -> int:
        """Frames in a recording of ``n_samples``; 0 where it is too short for one."""
        return max(0, (n_samples - self.min_samples) // self.hop + 1)

    def require_frames(self, n_samples: int, what: str) -> int:
        """Return the frame count, or raise DataError where ``what`` is too short for a single frame."""
        count = self.n_frames(n_samples)
        if count == 0:
            raise DataError(
                f"{what} holds {n_samples} samples at {self.sampling_rate} Hz "
                f"({n_samples / self.sampling_rate:.4f} s); one frame needs at least {self.min_samples} "
                f"({self.min_samples / self.sampling_rate:.4f} s). Use a longer recording."
            )
        return count

    def onset(self, frames: np.ndarray | int) -> np.ndarray:
        """Seconds at which each frame's field begins: ``(start + hop * i) / sampling_rate``, float64."""
        return (self.start + self.hop * np.asarray(frames, dtype=np.int64)) / self.sampling_rate

    def centre(self, frames: np.ndarray | int) -> np.ndarray:
        """Seconds at the middle of each frame's field: onset + field / 2, float64."""
        return self.onset(frames) + self.field / 2 / self.sampling_rate

    def samples_of(self, first: int, stop: int) -> tuple[int, int]:
        """Sample range ``[begin, end)`` that frames ``[first, stop)`` of an unpadded stack see; empty for none."""
        if stop <= first:
            return self.hop * first, self.hop * first
        return self.hop * first, self.hop * (stop - 1) + self.min_samples

    def frames_in(self, seconds: float) -> int:
        """Whole frames that come closest to a duration."""
        return round(seconds * self.frame_rate)


@dataclass(frozen=True)
class Window:
    """Frames ``[start, stop)`` that are computed, and ``[keep_start, keep_stop)`` of them that are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan_windows(n_frames: int, chunk: int, context: int) -> list[Window]:
    """Cut ``n_frames`` into windows of equal length whose kept parts tile the recording exactly once.

    Every window is ``chunk + 2 * context`` frames long (the whole recording where it is shorter), so that an engine
    sees one shape. The first and the last keep their outer context too, because nothing lies beyond it; the last is
    shifted left to full length, so that no short tail is ever computed with little context.

    Args:
        n_frames: Frames of the whole recording.
        chunk: Frames that a window in the middle keeps, at least 1.
        context: Frames on each side that are computed and thrown away, at least 0.
    """
    if chunk < 1 or context < 0:
        raise InputError(
            f"Got a chunk of {chunk} and a context of {context} frames; expected at least 1 and at least 0."
        )
    length = chunk + 2 * context
    if n_frames <= length:
        return [Window(0, n_frames, 0, n_frames)] if n_frames else []
    count = ceil((n_frames - 2 * context) / chunk)
    windows = []
    for index in range(count):
        last = index == count - 1
        start = n_frames - length if last else index * chunk
        keep_start = 0 if index == 0 else index * chunk + context
        keep_stop = n_frames if last else (index + 1) * chunk + context
        windows.append(Window(start, start + length, keep_start, keep_stop))
    return windows
