"""Which frames belong to a phone or a word, and which phone or word holds at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.alignment.segments import Alignment, Segment
from core.analysis.features import FeatureFile
from core.clock import FrameClock
from core.errors import DataError, InputError

OVERSHOOT_SECONDS = 0.05
"""How far, beside one frame's field, a segment may reach beyond its recording: aligners round to their own frames."""

LENGTH_SECONDS, LENGTH_SHARE = 0.5, 0.02
"""How far an alignment's own length may be off, the larger of both; more means another recording."""


TIE_SECONDS = 1e-9
"""Differences of time below it are rounding."""


@dataclass(frozen=True)
class SpanTable:
    """The segments of one recording with their frames; all arrays have one entry a segment.

    Attributes:
        start: (n,) float64, seconds at which the segment begins.
        stop: (n,) float64, seconds at which it ends.
        first: (n,) int64, its first frame.
        count: (n,) int64, how many frames, at least 1.
        n_nearest: Segments too short to hold a frame's centre, which took the frame nearest to their middle.
    """

    start: np.ndarray
    stop: np.ndarray
    first: np.ndarray
    count: np.ndarray
    n_nearest: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_repeated(self) -> int:
        """Segments that have the very same frames as an earlier one."""
        return len(self) - len(np.unique(np.stack([self.first, self.count]), axis=1).T)


def span_table(segments: Sequence[Segment], clock: FrameClock, n_frames: int, span: str) -> SpanTable:
    """Find the frames of each segment: those whose centre lies inside; of a phone, inside its middle third.

    The middle third keeps a phone apart from its neighbours, as Pasad et al. (2021, section 3) do. A frame whose centre
    is the very start belongs to the segment, one at the very stop does not.

    Args:
        segments: Of one recording, in order.
        clock: Times of the frames.
        n_frames: Frames of the recording, at least 1.
        span: ``phone`` or ``word``.
    """
    start, stop = edges(segments)
    inset = (stop - start) / 3 if span == "phone" else 0.0
    centres = clock.centre(np.arange(n_frames))
    first = np.searchsorted(centres, start + inset, side="left")
    count = np.searchsorted(centres, stop - inset, side="left") - first
    short = count < 1
    first[short] = nearest(centres, (start[short] + stop[short]) / 2)
    return SpanTable(start, stop, first, np.where(short, 1, count), int(short.sum()))


def edges(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops, each (n,) float64 seconds."""
    times = np.array([(segment.start, segment.stop) for segment in segments], dtype=np.float64).reshape(-1, 2)
    return times[:, 0], times[:, 1]


def nearest(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the entry of ``ascending`` nearest to each wanted value; the earlier of two that are as near."""
    after = np.clip(np.searchsorted(ascending, wanted), 1, max(1, len(ascending) - 1))
    if len(ascending) == 1:
        return np.zeros(len(wanted), dtype=np.int64)
    # Ties are settled one way: rounding would settle them at random, and two frames would claim one partner.
    return after - (wanted - ascending[after - 1] <= ascending[after] - wanted + TIE_SECONDS)


def labels_at(segments: Sequence[Segment], times: np.ndarray) -> np.ndarray:
    """The label that holds at each time: (n,) strings, empty where none does."""
    names = np.array([*(segment.label for segment in segments), ""])
    start, stop = edges(segments)
    index = np.searchsorted(start, times, side="right") - 1
    inside = index >= 0
    inside[inside] = times[inside] < stop[index[inside]]
    return names[np.where(inside, index, len(names) - 1)]


def check_alignments(files: Sequence[FeatureFile], alignments: Mapping[str, Alignment]) -> None:
    """Check that the alignments can be of these recordings.

    Raises:
        InputError: There is no clock, so that no frame has a time.
        DataError: An alignment reaches beyond its recording, or says another length.
    """
    for file in files:
        alignment = alignments.get(file.name)
        if alignment is not None:
            require_clock(file)
            _check_length(file, alignment)


def require_clock(file: FeatureFile) -> FrameClock:
    """Return the clock, or say that alignments need one."""
    if file.clock is None:
        raise InputError(
            f"{file.path} has no .json beside it that tells the times of its frames; phones and words need them. "
            "Extract the features with Strata, or use the span frame."
        )
    return file.clock


def require_span(file: FeatureFile, alignments: Mapping[str, Alignment], span: str) -> tuple[Segment, ...]:
    """Return a recording's segments of a kind, or say which file lacks them."""
    alignment = alignments.get(file.name)
    if alignment is None:
        raise DataError(f"There is no alignment for {file.name} ({file.path}). Add one, or leave the recording out.")
    if span not in alignment.tiers:
        raise DataError(
            f"{alignment.source} holds {', '.join(alignment.tiers) or 'no segments'}, not {span}. Take another --span."
        )
    return alignment.tiers[span]


def _check_length(file: FeatureFile, alignment: Alignment) -> None:
    clock, seconds = require_clock(file), float(file.duration_seconds or 0.0)
    last = max((segments[-1].stop for segments in alignment.tiers.values() if segments), default=0.0)
    if last > seconds + clock.field / clock.sampling_rate + OVERSHOOT_SECONDS:
        raise DataError(
            f"{alignment.source} has segments up to {last:.3f} s, and the recording {file.name} ({file.path}) is "
            f"{seconds:.3f} s long: it belongs to another recording, or the audio was cut. Check the pair."
        )
    said = alignment.duration
    if said is not None and abs(said - seconds) > max(LENGTH_SECONDS, LENGTH_SHARE * seconds):
        raise DataError(
            f"{alignment.source} is of a recording of {said:.3f} s, and {file.name} ({file.path}) is {seconds:.3f} s "
            "long: it belongs to another recording. Check the pair."
        )
