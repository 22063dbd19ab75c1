"""What an alignment is: who said what from when to when."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from core.errors import DataError

KINDS = ("phone", "word")

NO_SOUND = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>", "[sil]", "<p:>", "<p>", "h#", "#h"})
"""Labels of silence in any tier (MFA, Kaldi, WebMAUS, TIMIT), compared without case."""

NO_PHONE = NO_SOUND | {"pau", "epi", "silence"}
"""Those of a phone tier; ``pau`` and ``silence`` are words as well."""

ROUNDING_SECONDS = 0.0101
"""Overlap that comes from times rounded to hundredths (a CTM's start and duration); the earlier segment gives way."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with one label; ``start`` and ``stop`` are seconds from the recording's beginning."""

    start: float
    stop: float
    label: str


@dataclass(frozen=True)
class Alignment:
    """The segments of one recording, by tier: in order, without overlap; silence and unlabelled gaps are left out.

    Labels are as the file has them: the stress digits of ARPAbet (``AH1``) stay.

    Attributes:
        source: The file they were read from.
        tiers: Segments of ``phone`` and of ``word``, and of ``label`` for a recording's own annotations; a kind that
            the file does not hold is missing.
        duration: Seconds of the recording, as far as the file says (a TextGrid does); None where it does not.
        taken: How each kind was found, in words: the tier's name, the columns.
        n_silent: Segments left out as silence.
        n_empty: By kind, segments with a label that were left out because they end where they begin.
    """

    source: Path
    tiers: dict[str, tuple[Segment, ...]]
    duration: float | None = None
    taken: tuple[str, ...] = ()
    n_silent: int = 0
    n_empty: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A segment as a file has it, before any check; ``where`` says which line or interval it is."""

    segment: Segment
    where: str


@dataclass(frozen=True)
class RawTier:
    """One tier of a file: its kind, how it was recognised, and all its entries, silence among them."""

    kind: str
    taken: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class RawRecording:
    """What a file holds of one recording; ``name`` is None where the file does not name it."""

    name: str | None
    tiers: Sequence[RawTier]
    duration: float | None = None


def finish(source: Path, raw: RawRecording) -> Alignment:
    """Check what was read of a recording, and leave out silence and segments without length.

    Raises:
        DataError: Times that are no times, or segments that overlap or are out of order.
    """
    checked = {tier.kind: _ordered(source, tier.entries) for tier in raw.tiers}
    spoken = {kind: without_silence(segments, kind) for kind, segments in checked.items()}
    n_silent = sum(len(checked[kind]) - len(spoken[kind]) for kind in checked)
    tiers = {kind: tuple(one for one in segments if one.stop > one.start) for kind, segments in spoken.items()}
    n_empty = {kind: len(spoken[kind]) - len(tiers[kind]) for kind in spoken}
    return Alignment(source, tiers, raw.duration, tuple(tier.taken for tier in raw.tiers), n_silent, n_empty)


def without_silence(segments: Iterable[Segment], kind: str) -> tuple[Segment, ...]:
    """Leave out what is labelled as silence in a tier of that kind."""
    return tuple(segment for segment in segments if not is_silence(segment.label, kind))


def is_silence(label: str, kind: str) -> bool:
    """Whether a label means silence in a tier of that kind."""
    return label.strip().casefold() in (NO_PHONE if kind == "phone" else NO_SOUND)


def from_onsets(onsets: Iterable[tuple[float, str]], end: float) -> tuple[Segment, ...]:
    """Make segments of labels that say only when they begin, as EmoDB's do: each lasts until the next.

    Args:
        onsets: (seconds, label), ascending.
        end: Seconds at which the recording ends; what begins later is left out, what lasts longer is cut.
    """
    kept = [(start, label) for start, label in onsets if start < end]
    ends = pairwise([*kept, (end, "")])
    return tuple(Segment(start, stop, label) for (start, label), (stop, _) in ends)


def from_annotations(annotations: Iterable[tuple[float, float, str]], end: float) -> tuple[Segment, ...]:
    """Make segments of a recording's annotations, which may overlap and, as events do, have no duration.

    Args:
        annotations: (onset, duration, label) in seconds, in any order. One without a duration lasts until the next
            begins; where two overlap, the later one begins and the earlier one gives way.
        end: Seconds at which the recording ends; what begins before 0 or lasts longer is cut.

    >>> from_annotations([(2.0, 0.0, "b"), (0.5, 9.0, "a")], 3.0)
    (Segment(start=0.5, stop=2.0, label='a'), Segment(start=2.0, stop=3.0, label='b'))
    """
    ordered = sorted(annotations, key=lambda annotation: annotation[0])
    following = [*(onset for onset, _, _ in ordered), end][1:]
    cut = (
        Segment(max(0.0, onset), min(end, after, onset + duration if duration > 0 else after), label)
        for (onset, duration, label), after in zip(ordered, following, strict=True)
    )
    return tuple(segment for segment in cut if segment.stop > segment.start)


def _ordered(source: Path, entries: Sequence[Entry]) -> list[Segment]:
    """Check times and order; an overlap that rounding explains is taken from the earlier segment."""
    segments: list[Segment] = []
    for entry in entries:
        segment = entry.segment
        _check_times(source, entry)
        if segments and segment.start < segments[-1].stop:
            last = segments[-1]
            if segment.start < last.start or last.stop - segment.start > ROUNDING_SECONDS:
                raise DataError(
                    f"{source}, {entry.where}: {_words(segment)} begins before {_words(last)} ends; expected segments "
                    "in order, without overlap. Correct the file."
                )
            segments[-1] = replace(last, stop=segment.start)
        segments.append(segment)
    return segments


def _check_times(source: Path, entry: Entry) -> None:
    start, stop = entry.segment.start, entry.segment.stop
    if not (math.isfinite(start) and math.isfinite(stop)) or start < 0 or stop < start:
        raise DataError(
            f"{source}, {entry.where}: {_words(entry.segment)}; expected seconds from 0 on, the end after the "
            "beginning. Correct the file."
        )


def _words(segment: Segment) -> str:
    return f"{segment.label!r} from {segment.start:g} to {segment.stop:g} s"
