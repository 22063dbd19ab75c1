"""Splits that do not leak and shuffles that keep everything but the tie of labels to rows."""

import numpy as np
import pytest

from core.analysis.splits import (
    GAP_SECONDS,
    NotPossible,
    shift_in_time,
    shuffle_labels,
    split_table,
    stratified,
    widest_groups,
)
from core.findings import RowTable


def table(recording, start=None, length=0.02, **labels):
    recording = np.asarray(recording, dtype=np.int32)
    start = np.arange(len(recording)) * length if start is None else np.asarray(start, dtype=np.float64)
    names = tuple(f"r{number}" for number in range(recording.max() + 1))
    return RowTable(names, recording, start, start + length, labels, len(recording))


def speakers(recording, each=2):
    return np.array([f"s{number // each}" for number in recording])


RECORDING = np.repeat(np.arange(12), 20)


def test_speakers_are_held_out_whole():
    rows = table(RECORDING, speaker=speakers(RECORDING))
    split = split_table(rows, 5)
    assert (split.kind, len(split.folds), split.note) == ("speaker", 5, "")
    for train, test in split.folds:
        assert not set(rows.labels["speaker"][train]) & set(rows.labels["speaker"][test])
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in split.folds])), np.arange(240))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (None, "Speakers are not known"),
        (np.full(240, "anna"), "There is one speaker"),
        (np.where(RECORDING == 0, "", speakers(RECORDING)), "Of 20 rows the speaker is not known"),
    ],
)
def test_without_speakers_recordings_are_held_out_and_it_is_said(names, why):
    rows = table(RECORDING, **({} if names is None else {"speaker": names}))
    split = split_table(rows, 2)
    assert split.kind == "recording"
    assert why in split.note
    for train, test in split.folds:
        assert not set(RECORDING[train]) & set(RECORDING[test])


@pytest.mark.parametrize("length", [0.02, 0.3])
def test_parts_of_one_recording_are_kept_apart(length):
    """Against the distance of every pair."""
    rows = table(np.zeros(2_000 if length < 0.1 else 140), length=length)
    split = split_table(rows, 5)
    assert split.kind == "block"
    assert len(split.folds) == 5
    for train, test in split.folds:
        gap = np.maximum(rows.start[train][:, None] - rows.stop[test], rows.start[test] - rows.stop[train][:, None])
        assert gap.min() > GAP_SECONDS - 1e-9
        touched = np.setdiff1d(np.arange(len(rows)), np.concatenate([train, test]))
        far = np.maximum(rows.start[touched][:, None] - rows.stop[test], rows.start[test] - rows.stop[touched][:, None])
        assert (far.min(axis=1) < GAP_SECONDS + 1e-9).all()


def test_a_short_recording_is_not_cut():
    with pytest.raises(NotPossible, match=r"rows over 3\.0 s; at least 4 s or a second recording"):
        widest_groups(table(np.zeros(150)))
    with pytest.raises(NotPossible, match="times of its rows are not known"):
        widest_groups(table(np.zeros(150), start=np.full(150, np.nan)))


def test_stratified_folds_hold_every_class_where_plain_ones_would_not():
    groups = np.repeat(np.arange(10), 6)
    codes = np.repeat([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 6)
    for train, test in stratified(np.arange(60) + 100, codes, groups):
        assert set(codes[test - 100]) == set(codes[train - 100]) == {0, 1}


def test_labels_that_change_inside_recordings_are_shifted_inside_them():
    codes = np.tile([0, 0, 1, 1, 2], 48)
    rows = table(RECORDING, speaker=speakers(RECORDING))
    mixed = shuffle_labels(rows, np.arange(240), codes, seed=0, draws=1).labels[0]
    for number in range(12):
        inside = number == RECORDING
        np.testing.assert_array_equal(np.bincount(mixed[inside]), np.bincount(codes[inside]))
        assert any((np.roll(codes[inside], k) == mixed[inside]).all() for k in range(5, 16))


def test_a_frequent_class_does_not_look_constant():
    """Nineteen rows in twenty are silence, in every recording: exchanged whole, the other phones would vanish."""
    codes = np.tile(np.r_[np.zeros(19, int), 1], 12)
    mixed = shuffle_labels(table(RECORDING), np.arange(240), codes, seed=0, draws=1).labels[0]
    np.testing.assert_array_equal(np.bincount(mixed), np.bincount(codes))


def test_labels_of_recordings_and_of_speakers_are_exchanged_at_their_level():
    rows = table(RECORDING, speaker=speakers(RECORDING))
    of_recordings, of_speakers = RECORDING % 2, RECORDING // 2 % 3
    mixed = shuffle_labels(rows, np.arange(240), of_recordings, 0, 3).labels
    assert len(mixed) == 20
    assert all(len(set(one[number == RECORDING])) == 1 for one in mixed for number in range(12))
    assert any(len(set(one[rows.labels["speaker"] == "s0"])) == 2 for one in mixed)
    few = shuffle_labels(rows, np.arange(240), of_speakers, 0, 3)
    assert few.labels == ()
    assert few.why == "No shuffled control: 6 speakers can exchange their labels in fewer than 20 ways."
    rows = table(RECORDING, speaker=speakers(RECORDING, each=1))
    mixed = shuffle_labels(rows, np.arange(240), RECORDING // 2 % 3, 0, 3).labels
    assert all(len(set(one[number == RECORDING])) == 1 for one in mixed for number in range(12))
    assert all((one != RECORDING // 2 % 3).any() for one in mixed)


def test_shifts_follow_time_and_not_the_order_of_rows():
    start = np.random.default_rng(0).permutation(40) * 0.02
    codes = (start / 0.02).round().astype(int) // 10
    rows = table(np.zeros(40), start=start)
    in_time = codes[shift_in_time(rows, np.arange(40), 0)][np.argsort(start)]
    assert np.count_nonzero(np.diff(in_time)) <= 4


def test_rows_without_times_keep_their_order():
    rows = table(np.repeat([0, 1], 20), start=np.full(40, np.nan))
    order = shift_in_time(rows, np.arange(40), 0)
    assert (np.diff(order[:20]) == 1).sum() == 18
