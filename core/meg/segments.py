"""Which stretches of which recordings train and which evaluate, and the segments they are cut into.

Recordings are split before anything is cut, so no segment of one part shares a sample with one of the other. Where
there is one recording only, its end evaluates, after a gap so long that no sample reaches both through the filter.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError, InputError

PARTS = ("train", "eval")
SPLIT_BY = ("recording", "subject")


@dataclass(frozen=True)
class Source:
    """What a split has to know of a recording. Samples are prepared ones.

    Attributes:
        name: For messages.
        n_times: Samples.
        bad_spans: ``[start, stop)`` that hold nothing usable.
        reach_seconds: On each side of a sample, what of the original recording it rests on.
        subject: Who was recorded; empty where unknown.
    """

    name: str
    n_times: int
    bad_spans: tuple[tuple[int, int], ...] = ()
    reach_seconds: float = 0.0
    subject: str = ""


@dataclass(frozen=True)
class SplitSettings:
    """How to split.

    Attributes:
        segment_length: Samples of a segment.
        split_ratio: Share that trains, of the recordings or of the subjects.
        gap_seconds: Between the parts of a recording that is split in time.
        sampling_rate: Hz, of the prepared recordings.
        seed: Of the draw.
        by: One of :data:`SPLIT_BY`: what goes to one part as a whole.
    """

    segment_length: int
    split_ratio: float
    gap_seconds: float
    sampling_rate: int
    seed: int = 0
    by: str = "recording"

    def __post_init__(self) -> None:
        if self.by not in SPLIT_BY:
            raise InputError(f"Got a split by {self.by!r}; expected {' or '.join(SPLIT_BY)}.")
        if self.segment_length < 1:
            raise InputError(f"Got a segment length of {self.segment_length}; expected at least 1 sample.")
        if not 0 < self.split_ratio <= 1:
            raise InputError(f"Got a split ratio of {self.split_ratio:g}; expected above 0 and at most 1, such as 0.9.")
        if self.seed < 0:
            raise InputError(f"Got seed {self.seed}; expected 0 or more.")
        if not self.gap_seconds >= 0:
            raise InputError(f"Got a gap of {self.gap_seconds:g} s; expected 0 or more.")


@dataclass(frozen=True)
class Stretch:
    """Samples ``[start, stop)`` of a recording, by its number, that belong to one part."""

    recording: int
    part: str
    start: int
    stop: int


def split_recordings(sources: Sequence[Source], settings: SplitSettings) -> tuple[Stretch, ...]:
    """Give each recording to a part as a whole, or all recordings of a subject; a single recording is split in time.

    Recordings without one whole usable segment take no part in the draw, so that evaluation is never left empty by
    chance, and come out with no stretch.

    Returns:
        Stretches in the order of the recordings and of time.

    Raises:
        DataError: no recording holds a usable segment, the only one does not hold one for each part, or it is to be
            split by subject and there are not two, or a recording does not say whose it is.
        InputError: the gap is shorter than what the filter reaches over.
    """
    usable = [number for number, source in enumerate(sources) if _whole(source, settings)]
    if not usable:
        raise DataError(
            f"None of the {len(sources)} recording(s) holds a usable segment of {settings.segment_length} samples "
            f"({settings.segment_length / settings.sampling_rate:g} s). Use longer ones, or a shorter --segment_length."
        )
    if settings.split_ratio == 1:
        return tuple(Stretch(number, "train", 0, sources[number].n_times) for number in usable)
    if settings.by == "subject":
        groups = _by_subject(usable, sources)
    elif len(usable) == 1:
        return _split_in_time(usable[0], sources[usable[0]], settings)
    else:
        groups = [[number] for number in usable]
    train = _drawn(groups, settings)
    return tuple(
        Stretch(number, "train" if number in train else "eval", 0, sources[number].n_times) for number in usable
    )


def _by_subject(usable: Sequence[int], sources: Sequence[Source]) -> list[list[int]]:
    """Numbers of the recordings of each subject."""
    groups = defaultdict(list)
    for number in usable:
        if not sources[number].subject:
            raise DataError(
                f"{sources[number].name} does not say its subject. Name it sub-..., as BIDS does, such as sub-01, or "
                "use --split-by recording."
            )
        groups[sources[number].subject].append(number)
    if len(groups) < 2:
        raise DataError(
            f"All recordings are of one subject ({', '.join(groups)}), so that none can be held out. Add recordings of "
            "another one, or use --split-by recording."
        )
    return list(groups.values())


def _drawn(groups: Sequence[Sequence[int]], settings: SplitSettings) -> set[int]:
    """Recordings of the groups that train: the share of the groups that is asked for, at least one and not all."""
    n_train = min(max(round(settings.split_ratio * len(groups)), 1), len(groups) - 1)
    order = np.random.default_rng(settings.seed).permutation(len(groups))
    return {number for place in order[:n_train].tolist() for number in groups[place]}


def _whole(source: Source, settings: SplitSettings) -> bool:
    whole = Stretch(0, "train", 0, source.n_times)
    return bool(cut_segments(whole, source.bad_spans, settings.segment_length)[0])


def _split_in_time(number: int, source: Source, settings: SplitSettings) -> tuple[Stretch, ...]:
    """One boundary, so one gap: the last segments evaluate, everything before the gap trains."""
    length, rate = settings.segment_length, settings.sampling_rate
    needed = 2 * source.reach_seconds
    if settings.gap_seconds < needed:
        raise InputError(
            f"Got a gap of {settings.gap_seconds:g} s; {source.name} is split in time, and its filter reaches over "
            f"{needed:.2f} s. Set --gap-seconds to at least {np.ceil(needed * 10) / 10:g}, or add another recording."
        )
    gap = int(np.ceil(settings.gap_seconds * rate))
    n_eval = max(1, round((1 - settings.split_ratio) * ((source.n_times - gap) // length)))
    start = source.n_times - n_eval * length
    stretches = (Stretch(number, "train", 0, max(0, start - gap)), Stretch(number, "eval", start, source.n_times))
    if not all(cut_segments(one, source.bad_spans, length)[0] for one in stretches):
        raise DataError(
            f"{source.name} holds {source.n_times / rate:.1f} s, without a usable segment of {length / rate:g} s for "
            f"each part around a gap of {settings.gap_seconds:g} s. It needs at least {(2 * length + gap) / rate:.1f} "
            "s: use a longer or another recording, or a shorter --segment_length."
        )
    return stretches


def cut_segments(
    stretch: Stretch, bad_spans: Sequence[tuple[int, int]], length: int
) -> tuple[list[tuple[int, int]], int]:
    """Cut a stretch into segments that do not overlap.

    Args:
        stretch: Where.
        bad_spans: ``[start, stop)``; a segment that overlaps one is left out.
        length: Samples of a segment.

    Returns:
        ``[start, stop)`` of each, and how many were left out. What is left at the end is shorter and no segment.
    """
    starts = range(stretch.start, stretch.stop - length + 1, length)
    good = [(start, start + length) for start in starts if not _overlaps(start, start + length, bad_spans)]
    return good, len(starts) - len(good)


def _overlaps(start: int, stop: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start < end and begin < stop for begin, end in spans)


@dataclass(frozen=True)
class Footprint:
    """Samples ``[start, stop)`` of an original recording, known by its content's hash, that one segment rests on."""

    content: str
    part: str
    start: int
    stop: int


def original_range(segment: tuple[int, int], sampling_rate: int, original_rate: float, n_times: int) -> tuple[int, int]:
    """Samples of the original recording, of ``n_times``, in a segment's time."""
    factor = original_rate / sampling_rate
    return int(np.floor(segment[0] * factor)), min(int(np.ceil(segment[1] * factor)), n_times)


def check_disjoint(footprints: Sequence[Footprint]) -> None:
    """Assert that no sample of an original recording stands behind both parts.

    Raises:
        AssertionError: one does; nothing may be written then.
    """
    by_content = defaultdict(list)
    for one in footprints:
        by_content[one.content].append(one)
    for group in by_content.values():
        furthest = dict.fromkeys(PARTS, min(one.start for one in group))
        for one in sorted(group, key=lambda one: one.start):
            other = max(stop for part, stop in furthest.items() if part != one.part)
            if one.start < other:
                raise AssertionError(f"Original samples {one.start} to {other} stand behind both parts: {one}.")
            furthest[one.part] = max(furthest[one.part], one.stop)


def check_apart(segments: Sequence[tuple[int, int]]) -> None:
    """Assert that the segments of one recording do not overlap.

    Raises:
        AssertionError: two do.
    """
    for before, after in pairwise(sorted(segments)):
        if after[0] < before[1]:
            raise AssertionError(f"Segments {before} and {after} overlap.")


def first_of_each(hashes: Sequence[str], names: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Indices of recordings with different content, and a sentence for each that is left out."""
    first: dict[str, int] = {}
    notes = []
    for index, digest in enumerate(hashes):
        if digest in first:
            notes.append(f"{names[index]} holds the same bytes as {names[first[digest]]}; it counts once.")
        else:
            first[digest] = index
    return list(first.values()), tuple(notes)


def short_names(paths: Sequence[Path]) -> list[str]:
    """File names, each with as many of its folders as tell it from the others."""
    parts = [path.absolute().parts for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["/".join(one[-depth:]) for one, depth in zip(parts, depths, strict=True)]
        again = [number for number, name in enumerate(names) if names.count(name) > 1]
        growing = [number for number in again if depths[number] < len(parts[number])]
        if not growing:
            return names
        for number in growing:
            depths[number] += 1


def subject_session(path: Path, subject_info: Mapping[str, Any] | None) -> tuple[str, str]:
    """Who was recorded and in which session: from BIDS names (``sub-01_ses-02_...``), else from the file itself."""
    info = subject_info or {}
    return named_in(path, "sub") or str(info.get("his_id") or info.get("id") or ""), named_in(path, "ses")


def named_in(path: Path, entity: str) -> str:
    """What a path says after ``sub-`` or ``ses-`` as BIDS writes it, the file's own name first; empty if nothing."""
    for part in reversed(path.parts):
        if found := re.search(rf"(?:^|_){entity}-([A-Za-z0-9]+)", part):
            return found[1]
    return ""


def shared_subjects(sources: Sequence[Source], stretches: Sequence[Stretch]) -> tuple[str, ...]:
    """A warning that names the subjects who are on both sides, if there are any."""
    sides = {(sources[one.recording].subject, one.part) for one in stretches if sources[one.recording].subject}
    both = sorted(subject for subject, count in Counter(subject for subject, _ in sides).items() if count > 1)
    if not both:
        return ()
    who = "1 subject is" if len(both) == 1 else f"{len(both)} subjects are"
    return (
        f"{who} in both parts ({', '.join(both[:5])}{', ...' if len(both) > 5 else ''}): "
        "evaluation tells of new recordings, not of new people. --split-by subject keeps them apart.",
    )
