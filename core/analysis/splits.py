"""Which rows are trained on and which are tested, and how labels are shuffled: a leak or a wrong null begins here.

Neighbouring rows of one recording, and all rows of one speaker, resemble each other whatever a model does. So what is
held out is always a whole group of rows, and what is shuffled keeps everything but the tie of labels to rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.analysis.probes import exchanged_units, shifted_within
from core.findings import RowTable

N_FOLDS = 5
"""Folds of a probe, where there are as many groups."""

STRETCH_SECONDS = 2.0
GAP_SECONDS = 0.5
"""A single recording is cut into stretches of at least 2 s; training rows within 0.5 s of a tested one are left out."""

N_EXCHANGES = 20
"""Exchanges of labels between whole speakers or recordings that a control is the mean of: a few of them would say which
they are. They differ from each other and from the truth, so 8 units of 2 alike classes are the fewest that allow them
(6 allow 9)."""

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Split:
    """Which rows are trained on and which are tested.

    Attributes:
        kind: What never stands on both sides: ``speaker``, ``recording`` or ``block``.
        groups: (n,) the group of each row of the table.
        folds: Row numbers to train on and to test.
        note: Why it is this kind.
    """

    kind: str
    groups: np.ndarray
    folds: tuple[Fold, ...]
    note: str = ""


class NotPossible(Exception):
    """A property that this material does not allow; the text says why."""


def widest_groups(table: RowTable) -> tuple[np.ndarray, str, str]:
    """The widest groups that can be held out: (n,) numbers, their kind, and why no wider."""
    speakers = np.asarray(table.labels.get("speaker", np.full(len(table), "")), dtype=str)
    unknown = int((speakers == "").sum())
    if len(set(speakers.tolist())) >= 2 and not unknown:
        return np.unique(speakers, return_inverse=True)[1], "speaker", ""
    why = "Speakers are not known" if unknown == len(table) else f"Of {unknown} rows the speaker is not known"
    why = f"{why if unknown else 'There is one speaker'}, so"
    if len(np.unique(table.recording)) >= 2:
        return table.recording, "recording", f"{why} the same speaker may be trained and tested."
    blocks = _blocks(table)
    return blocks, "block", f"{why} parts of one recording are trained and tested, {GAP_SECONDS:g} s apart."


def _blocks(table: RowTable) -> np.ndarray:
    """Number the stretches of a single recording; as many as 2 for each fold."""
    if not (np.isfinite(table.start).all() and np.isfinite(table.stop).all()):
        raise NotPossible("There is one recording, and the times of its rows are not known: no part can be held out.")
    begin, end = float(table.start.min(initial=np.inf)), float(table.stop.max(initial=-np.inf))
    count = min(2 * N_FOLDS, int((end - begin) / STRETCH_SECONDS)) if len(table) else 0
    if count < 2:
        raise NotPossible(
            f"There is one recording, with rows over {max(0.0, end - begin):.1f} s; at least {2 * STRETCH_SECONDS:g} s "
            "or a second recording are needed to hold a part out."
        )
    middle = (table.start + table.stop) / 2
    return np.clip(((middle - begin) / (end - begin) * count).astype(np.int64), 0, count - 1)


def split_table(table: RowTable, n_folds: int, stratify: np.ndarray | None = None) -> Split:
    """Folds over the widest groups; with ``stratify``, (n,) names, of alike classes."""
    from sklearn.model_selection import GroupKFold

    groups, kind, why = widest_groups(table)
    rows = np.arange(len(table))
    if stratify is not None:
        folds = list(stratified(rows, np.unique(stratify, return_inverse=True)[1], groups))
    else:
        folds = list(GroupKFold(min(n_folds, len(np.unique(groups)))).split(rows, groups=groups))
    if kind == "block":
        folds = [(_away(table, train, test), test) for train, test in folds]
    if any(len(train) < 2 for train, _ in folds):
        raise NotPossible("The recording is too short to keep training rows away from tested ones.")
    return Split(kind, groups, tuple(folds), why)


def stratified(rows: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> Iterator[Fold]:
    """Folds of whole groups with alike shares of the classes, in numbers of the table's rows."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(N_FOLDS, len(np.unique(groups)), int(np.bincount(codes).max()))
    for train, test in StratifiedGroupKFold(count).split(rows, codes, groups):
        if len(test):
            yield rows[train], rows[test]


def _away(table: RowTable, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Training rows of one recording that lie at least the gap away from every tested row."""
    starts, stops = np.sort(table.start[test]), np.sort(table.stop[test])
    # Tested rows that begin before this row ends, less those that end before it begins: those that it touches.
    before = np.searchsorted(starts, table.stop[train] + GAP_SECONDS, side="left")
    after = np.searchsorted(stops, table.start[train] - GAP_SECONDS, side="right")
    return train[before == after]


# ---------------------------------------------------------------------------------------------------------- shuffles


@dataclass(frozen=True)
class Shuffles:
    """Shuffled labels.

    Attributes:
        labels: (n,) class numbers each; empty where the units are too few.
        why: Why there are none.
    """

    labels: tuple[np.ndarray, ...]
    why: str = ""


def shuffle_labels(table: RowTable, rows: np.ndarray, codes: np.ndarray, seed: int, draws: int) -> Shuffles:
    """Shuffle labels where they live: between speakers or recordings that have one each, else in time within each.

    Args:
        table: Of all rows.
        rows: Numbers of those with labels.
        codes: (n,) their class numbers.
        seed: Of the first draw.
        draws: How many shuffles in time; between units at least N_EXCHANGES.
    """
    speakers = np.asarray(table.labels.get("speaker", np.full(len(table), "")), dtype=str)[rows]
    for kind, units in (("speaker", speakers), ("recording", table.recording[rows])):
        if len(np.unique(units)) >= 2 and _is_constant(codes, units):
            return shuffle_between(units, kind, codes, seed, draws)
    return Shuffles(tuple(codes[shift_in_time(table, rows, seed + draw)] for draw in range(draws)))


def shuffle_between(units: np.ndarray, kind: str, codes: np.ndarray, seed: int, draws: int = 0) -> Shuffles:
    """Exchange labels between whole units of a kind, at least N_EXCHANGES times, or say why not."""
    draws = max(draws, N_EXCHANGES)
    found = exchanged_units(codes, units, np.random.default_rng(seed), draws)
    why = f"No shuffled control: {len(np.unique(units))} {kind}s can exchange their labels in fewer than {draws} ways."
    return Shuffles(found, "" if found else why)


def _is_constant(codes: np.ndarray, units: np.ndarray) -> bool:
    """Whether nearly all rows of a unit have its most frequent label, and not because most rows have it anyway."""
    _, inverse = np.unique(units, return_inverse=True)
    pairs, counts = np.unique(np.stack([inverse, codes]), axis=1, return_counts=True)
    most = np.zeros(int(inverse.max()) + 1)
    np.maximum.at(most, pairs[0], counts)
    share, anyway = most.sum() / len(codes), np.bincount(codes).max() / len(codes)
    return bool(share - anyway >= 0.9 * (1 - anyway) > 0)


def shift_in_time(table: RowTable, rows: np.ndarray, seed: int) -> np.ndarray:
    """Positions within ``rows`` that shift each recording's rows in time."""
    in_time = np.lexsort((table.start[rows], table.recording[rows]))
    order = np.empty(len(rows), dtype=np.int64)
    order[in_time] = in_time[shifted_within(table.recording[rows][in_time], np.random.default_rng(seed))]
    return order
