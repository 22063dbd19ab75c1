"""Which columns of which recording train and which evaluate.

In time, the end of each recording evaluates, after a gap: no sample of a training window lies within ``gap_seconds`` of
a window that evaluates. By recording, each stands in one part as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import DataError, InputError
from core.sites.site_input import PatchSettings

SPLITS = ("time", "recording")


@dataclass(frozen=True)
class SplitPlan:
    """How to split.

    Attributes:
        ratio: Share of the time, or of the recordings, that trains; 1 leaves nothing to evaluate.
        by: One of SPLITS.
        gap_seconds: Between the parts of one recording.
        seed: Of the draw of recordings.
    """

    ratio: float = 0.8
    by: str = "time"
    gap_seconds: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in SPLITS:
            raise InputError(f"Got split_by {self.by!r}; expected {' or '.join(SPLITS)}.")
        if not 0 < self.ratio <= 1:
            raise InputError(f"Got a split ratio of {self.ratio:g}; expected above 0 and at most 1, such as 0.8.")
        if not self.gap_seconds >= 0:
            raise InputError(f"Got a gap of {self.gap_seconds:g} s; expected 0 or more.")


@dataclass(frozen=True)
class Columns:
    """Columns ``[start, stop)`` of recording number ``recording``, in ``part``."""

    recording: int
    part: str
    start: int
    stop: int


def split_columns(
    names: Sequence[str], good: Sequence[Sequence[tuple[int, int]]], patches: PatchSettings, plan: SplitPlan
) -> tuple[Columns, ...]:
    """Give columns to parts.

    Args:
        names: Of the recordings.
        good: For each, its usable columns ``[start, stop)``, rising.
        patches: Size of a grid; what is shorter than one comes out of no part.
        plan: How.

    Raises:
        DataError: nothing is left for a part; says how many seconds it takes.
        InputError: one recording cannot be split by recording.
    """
    if plan.by == "recording" and plan.ratio < 1:
        stretches = _by_recording(good, patches, plan)
    else:
        stretches = [one for number, spans in enumerate(good) for one in _by_time(number, spans, patches, plan)]
    parts = {one.part for one in stretches}
    wanted = {"train"} if plan.ratio == 1 else {"train", "eval"}
    if parts != wanted:
        raise _too_short(names, good, patches, plan)
    return tuple(stretches)


def _by_recording(good: Sequence[Sequence[tuple[int, int]]], patches: PatchSettings, plan: SplitPlan) -> list[Columns]:
    usable = [number for number, spans in enumerate(good) if _cut(spans, 0, np.inf, patches.grid_width)]
    if len(usable) < 2:
        raise InputError(
            f"Got {len(usable)} recording(s) that are long enough for a grid; splitting by recording needs at least 2. "
            "Add one, or split by time."
        )
    n_train = min(max(round(plan.ratio * len(usable)), 1), len(usable) - 1)
    train = set(np.random.default_rng(plan.seed).permutation(usable)[:n_train].tolist())
    return [
        Columns(number, "train" if number in train else "eval", start, stop)
        for number in usable
        for start, stop in _cut(good[number], 0, np.inf, patches.grid_width)
    ]


def _by_time(number: int, spans: Sequence[tuple[int, int]], patches: PatchSettings, plan: SplitPlan) -> list[Columns]:
    """One boundary, so one gap; a recording too short for both parts trains."""
    width, total = patches.grid_width, sum(stop - start for start, stop in spans)
    whole = [Columns(number, "train", *one) for one in _cut(spans, 0, np.inf, width)]
    if plan.ratio == 1:
        return whole
    begin = _boundary(spans, max(width, round((1 - plan.ratio) * total)))
    end = begin - gap_columns(patches, plan.gap_seconds)
    train = [Columns(number, "train", *one) for one in _cut(spans, 0, end, width)]
    held_out = [Columns(number, "eval", *one) for one in _cut(spans, begin, np.inf, width)]
    return train + held_out if train and held_out else whole


def gap_columns(patches: PatchSettings, gap_seconds: float) -> int:
    """Columns left out, so that windows on both sides lie ``gap_seconds`` apart (a sample more, for rounded starts)."""
    return int(np.ceil((gap_seconds + patches.window_seconds) / patches.hop_seconds))


def _boundary(spans: Sequence[tuple[int, int]], n_last: int) -> int:
    """The column from which on ``n_last`` usable ones are left."""
    for start, stop in reversed(spans):
        if stop - start >= n_last:
            return stop - n_last
        n_last -= stop - start
    return 0


def _cut(spans: Sequence[tuple[int, int]], low: float, high: float, width: int) -> list[tuple[int, int]]:
    cut = [(int(max(start, low)), int(min(stop, high))) for start, stop in spans]
    return [(start, stop) for start, stop in cut if stop - start >= width]


def _too_short(
    names: Sequence[str], good: Sequence[Sequence[tuple[int, int]]], patches: PatchSettings, plan: SplitPlan
) -> DataError:
    longest = max((stop - start for spans in good for start, stop in spans), default=0)
    has = patches.window_seconds + max(longest - 1, 0) * patches.hop_seconds if longest else 0.0
    one = patches.reach_seconds
    needs = one if plan.ratio == 1 or plan.by == "recording" else 2 * one + plan.gap_seconds + patches.hop_seconds
    what = "a grid" if needs == one else f"a grid in each part and {plan.gap_seconds:g} s between them"
    return DataError(
        f"The longest usable stretch of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''} lasts "
        f"{has:.1f} s; {what} of {patches.grid_width} columns every {patches.hop_seconds:g} s needs {needs:.1f} s. Use "
        "a longer recording, fewer columns (grid_width) or a shorter hop."
    )
