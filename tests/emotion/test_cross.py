"""Across corpora: what carries over counts on shared classes only, both ways."""

from dataclasses import replace

import numpy as np
import pytest

from core.arrays import ignore_progress
from core.emotion.cross import Side, cross_scores, shared_labels
from core.emotion.evaluate import evaluate
from core.emotion.folds import make_folds
from core.errors import DataError
from tests.emotion.planted import names_of, planted, train_discriminant

FIRST, SECOND = ("anger", "joy", "neutral", "sadness"), ("anger", "calm", "joy", "neutral", "sadness")


def sides():
    """The same clips' worth of truth in two rooms: the second has a class more and lies elsewhere in every dim."""
    whole = planted(n_speakers=14, n_classes=5, signal=1.5)
    first = whole.take(np.flatnonzero((whole.speakers < "s07") & (whole.codes != 4)))
    second = whole.take(np.flatnonzero(whole.speakers >= "s07"))
    order = np.array([0, 2, 3, 4, 1])  # numbers of anger, joy, neutral, sadness and calm among the second's labels
    second = replace(second, codes=order[second.codes], features=second.features + 0.2)
    return Side("rooms A", FIRST, replace(first, n_classes=4)), Side("rooms B", SECOND, second)


def test_both_ways_on_shared_classes():
    first, second = sides()
    there, back = cross_scores(first, second, lambda number: train_discriminant, ignore_progress)
    assert (there.train, there.test, back.train, back.test) == ("rooms A", "rooms B", "rooms B", "rooms A")
    assert there.labels == back.labels == FIRST
    assert there.n == np.sum(second.examples.codes != 1) and back.n == len(first.examples)
    assert there.n_speakers == back.n_speakers == 7 and there.within is None
    for each in (there, back):
        assert each.uar.value > 0.75 and each.uar.low < each.uar.value < each.uar.high
        assert 0 <= each.ece.low <= each.ece.value <= each.ece.high


def test_names_of_speakers_that_both_have_are_not_one_person():
    first, second = sides()
    same = replace(
        second, examples=replace(second.examples, speakers=np.char.replace(second.examples.speakers, "s1", "s0"))
    )
    there, _ = cross_scores(first, same, lambda number: train_discriminant, ignore_progress)
    assert there.uar.value > 0.75
    assert "4 speakers have the same names in both corpora (s00, s01, s02, s03)" in there.warnings[0]


def with_sounds(side, first=0):
    return replace(side, sounds=tuple(f"{first + row}" for row in range(len(side.examples))))


def test_speakers_of_clips_that_both_have_are_not_trained_on():
    """The second corpus holds half of the clips of two speakers of the first; they would be known by their others."""
    first, second = sides()
    whole, heard = first.examples, []
    inside = np.flatnonzero(np.isin(whole.speakers, ["s00", "s01"]))[::2]
    given = Side("rooms C", FIRST, replace(whole.take(inside), speakers=whole.speakers[inside]))
    first, given = with_sounds(first), replace(given, sounds=tuple(f"{row}" for row in inside))

    def train(examples):
        heard.append(set(examples.speakers))
        return train_discriminant(examples)

    with pytest.raises(DataError, match=r"rooms C and rooms A have clips in common.*has none of the shared classes"):
        cross_scores(first, given, lambda number: train, ignore_progress)
    assert heard == [{"s02", "s03", "s04", "s05", "s06"}]
    with pytest.raises(DataError, match="Give a second corpus of other speakers"):
        cross_scores(first, first, lambda number: train, ignore_progress)
    other = with_sounds(second, first=10_000)
    more = replace(
        other,
        examples=replace(other.examples, speakers=np.char.replace(other.examples.speakers, "s07", "s00")),
        sounds=("3", *other.sounds[1:]),
    )
    there, back = cross_scores(first, more, lambda number: train, ignore_progress)
    assert heard[1] == {f"s{number:02d}" for number in range(1, 7)} and "s00" not in heard[2]
    for one in (there, back):
        assert len(one.warnings) == 1 and "1 clips are in both corpora" in one.warnings[0]
    assert cross_scores(first, other, lambda number: train, ignore_progress)[0].warnings == ()


def test_the_same_clips_by_their_own_folds_stand_beside():
    first, second = sides()
    folds = make_folds(second.examples.speakers, second.examples.codes)
    names = names_of(second.examples)
    own = evaluate(second.examples, SECOND, names, folds, lambda _: train_discriminant, "", ignore_progress)
    there, _ = cross_scores(first, replace(second, own=own), lambda number: train_discriminant, ignore_progress)
    kept = own.truth != 1
    said = np.delete(own.probabilities[kept], 1, axis=1).argmax(axis=1)
    truth = np.where(own.truth[kept] > 1, own.truth[kept] - 1, own.truth[kept])
    assert there.within.value == pytest.approx(np.mean([np.mean(said[truth == code] == code) for code in range(4)]))


def test_fewer_than_two_shared_labels_name_both_sets_and_the_flag():
    first, second = sides()
    other = replace(second, labels=("Wut", "Ruhe", "joy", "neutral x", "Trauer"))
    with pytest.raises(
        DataError, match=r"rooms A has the labels anger, joy.*rooms B has.*Wut.*share joy.*--test-mapping"
    ):
        shared_labels(first, other)
    with pytest.raises(DataError, match="share none"):
        shared_labels(first, replace(second, labels=tuple("abcde")))
