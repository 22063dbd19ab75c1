"""What makes a corpus unusable, and what whoever reads a score of it should know."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import TypeVar

from core.analysis.intervals import FEWEST_GROUPS
from core.emotion.corpora.rows import Row, some
from core.errors import DataError
from core.scoring import Clip

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

# Speakers below which an interval over them is wide.
FEW_SPEAKERS = 10
# Clips of a class below which its recall is hardly known.
FEW_CLIPS = 20
# How many times as many clips the largest class may have as the smallest before it is said.
IMBALANCE = 5.0
# Share of the clips from which on a fact about texts is said of the corpus.
WORTH_SAYING = 0.1


def check_rows(rows: Sequence[Row]) -> None:
    """Check what every row has to have, and that no recording counts twice.

    Raises:
        DataError: A row lacks its speaker or class, or its times are no stretch, or two rows are of one clip.
    """
    for column, values in (("speaker", [row.speaker for row in rows]), ("emotion", [row.given for row in rows])):
        empty = [_where(row) for row, value in zip(rows, values, strict=True) if not value.strip()]
        if empty:
            raise DataError(
                f"The {column} is empty in {len(empty)} of {len(rows)} rows ({some(empty)}). Fill it in, or delete the "
                f"rows{'; without speakers nobody can be kept out of the training data' * (column == 'speaker')}."
            )
    for row in rows:
        if row.stop is not None and row.stop <= (row.start or 0.0):
            raise DataError(
                f"{_where(row)}: got start {row.start or 0:g} s and end {row.stop:g} s; expected start < end."
            )
    for same in _grouped((row for row in rows if not row.problem), lambda row: os.path.realpath(row.source)).values():
        _check_stretches(same)


def _where(row: Row) -> str:
    return row.where or row.file


def _check_stretches(rows: Sequence[Row]) -> None:
    """Check the rows of one recording: none of them twice, and none of the whole beside a part."""
    seen: dict[tuple[float, float | None], Row] = {}
    for row in rows:
        stretch = (row.start or 0.0, row.stop)
        if stretch in seen:
            first = seen[stretch]
            labels = "" if first.given == row.given else f", as {first.given!r} and as {row.given!r}"
            raise DataError(
                f"{row.file} is listed twice ({_where(first)}; {_where(row)}){labels}. Delete one of the rows."
            )
        seen[stretch] = row
    if len(rows) > 1 and (0.0, None) in seen:
        raise DataError(
            f"{rows[0].file} is listed whole and in parts ({some([_where(row) for row in rows])}). "
            "Give every row of it a start and an end."
        )


def check_clips(clips: Sequence[Clip]) -> None:
    """Check that there is something to learn and somebody else to test it on.

    Raises:
        DataError: No clip, one class or one speaker.
    """
    if not clips:
        raise DataError(
            "No clip is left. Check the mapping of labels, and that the recordings are where the list says."
        )
    for what, names in (("class", {clip.label for clip in clips}), ("speaker", {clip.speaker for clip in clips})):
        if len(names) == 1:
            why = "to tell apart" if what == "class" else "so that each can be tested by what others taught"
            raise DataError(
                f"All {len(clips)} clips have the {what} {next(iter(names))!r}. "
                f"At least two {'classes' if what == 'class' else 'speakers'} are needed, {why}."
            )


def warnings_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """Say what limits any score on these clips, as sentences."""
    checks = (_speakers, _classes, _one_sided, _texts, _splits, _spellings, _overlaps)
    return tuple(sentence for check in checks for sentence in check(clips))


def _speakers(clips: Sequence[Clip]) -> Iterator[str]:
    n = len({clip.speaker for clip in clips})
    if n < FEWEST_GROUPS:
        yield f"{n} speakers are too few for an interval; {FEWEST_GROUPS} are needed."
    elif n < FEW_SPEAKERS:
        yield f"{n} speakers are few: intervals over them are wide."


def _classes(clips: Sequence[Clip]) -> Iterator[str]:
    counts = Counter(clip.label for clip in clips).most_common()
    (most, n_most), (least, n_least) = counts[0], counts[-1]
    if n_most >= IMBALANCE * n_least:
        yield f"Classes are out of balance: {n_most} clips of {most}, {n_least} of {least}."
    if few := [f"{label} ({n})" for label, n in reversed(counts) if n < FEW_CLIPS]:
        yield f"Of some classes there are fewer than {FEW_CLIPS} clips, so that their recall is uncertain: {some(few)}."


def _one_sided(clips: Sequence[Clip]) -> Iterator[str]:
    """Where a class is a speaker or a speaker a class, knowing the voice is as good as hearing the emotion."""
    by_class = _grouped(clips, lambda clip: clip.label)
    if alone := [label for label, own in by_class.items() if len({clip.speaker for clip in own}) == 1]:
        yield f"Only one speaker has {some(sorted(alone))}: while that speaker is tested, nothing teaches it."
    by_speaker = _grouped(clips, lambda clip: clip.speaker)
    if single := [name for name, own in by_speaker.items() if len({clip.label for clip in own}) == 1]:
        yield (
            f"{len(single)} of {len(by_speaker)} speakers have one class only ({some(sorted(single))}): "
            "knowing the voice would be as good as hearing the emotion."
        )


def _texts(clips: Sequence[Clip]) -> Iterator[str]:
    by_text = _grouped([clip for clip in clips if clip.text], lambda clip: clip.text)
    speakers = {text: {clip.speaker for clip in own} for text, own in by_text.items()}
    shared = {text: own for text, own in by_text.items() if len(speakers[text]) > 1}
    n_shared = sum(map(len, shared.values()))
    if n_shared < WORTH_SAYING * len(clips):
        return
    everybody = {clip.speaker for clip in clips}
    if all(speakers[text] == everybody for text in by_text) and n_shared == len(clips):
        yield (
            f"All {len(everybody)} speakers say the same {len(by_text)} texts: scores say nothing of sentences that "
            "were not trained on."
        )
    else:
        yield (
            f"{n_shared} of {len(clips)} clips have a text that other speakers say too ({len(shared)} of "
            f"{len(by_text)} texts): a score is of sentences that were trained on, and may fall on others."
        )
    told = {text: own for text, own in shared.items() if len({clip.label for clip in own}) == 1}
    n_told = sum(map(len, told.values()))
    if n_told >= WORTH_SAYING * len(clips):
        yield (
            f"{len(told)} of {len(by_text)} texts ({n_told} clips) are said in one emotion only, by several speakers: "
            "their words alone give the class away."
        )


def _splits(clips: Sequence[Clip]) -> Iterator[str]:
    sides = _grouped([clip for clip in clips if clip.split], lambda clip: clip.speaker)
    both = sorted(name for name, own in sides.items() if len({clip.split for clip in own}) > 1)
    if both:
        yield (
            f"The data's own split has speakers on more than one side ({len(both)}: {some(both)}); "
            "here folds keep speakers apart."
        )


def _spellings(clips: Sequence[Clip]) -> Iterator[str]:
    for what, names in (("classes", {clip.label for clip in clips}), ("speakers", {clip.speaker for clip in clips})):
        for same in _grouped(sorted(names), lambda name: " ".join(name.split()).casefold()).values():
            if len(same) > 1:
                listed = ", ".join(map(repr, same))
                yield f"The {what} {listed} differ in case or blanks only, and count as {len(same)}. Is it a slip?"


def _overlaps(clips: Sequence[Clip]) -> Iterator[str]:
    """Parts of one recording that overlap hold the same sound twice."""
    n = 0
    for own in _grouped(clips, lambda clip: clip.source).values():
        parts = sorted((clip.start or 0.0, clip.stop or inf) for clip in own)
        n += sum(after[0] < before[1] for before, after in pairwise(parts))
    if n:
        yield f"{n} clips overlap with the one before them in the same recording, so that some sound counts twice."


def _grouped(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return groups
