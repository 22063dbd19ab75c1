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
