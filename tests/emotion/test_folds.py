"""No speaker on two sides, whatever the manifest; every clip tested once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.emotion.folds import make_folds, missing_classes, speaker_folds, validation_split
from core.errors import DataError, InputError
from core.scoring import Fold

MANIFESTS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 5)), min_size=2, max_size=120)


def arrays(rows):
    return np.array([f"v{speaker:02d}" for speaker, _ in rows]), np.array([code for _, code in rows])


@settings(max_examples=150, deadline=None)
@given(MANIFESTS, st.sampled_from(["auto", "loso", "2", "3", "7"]), st.integers(0, 3))
def test_folds_of_any_manifest_part_speakers_and_test_every_clip_once(rows, wanted, seed):
    speakers, codes = arrays(rows)
    n_speakers = len(set(speakers))
    if n_speakers < 2 or len(set(codes)) < 2 or len(set(rows)) == len(set(codes)):
        with pytest.raises(DataError):
            make_folds(speakers, codes, wanted, seed)
        return
    if wanted.isdecimal() and int(wanted) > n_speakers:
        with pytest.raises(InputError, match=f"{wanted} folds.*{n_speakers} speakers"):
            make_folds(speakers, codes, wanted, seed)
        return
    folds = make_folds(speakers, codes, wanted, seed)
    count = {"auto": min(n_speakers, 10), "loso": n_speakers}.get(wanted) or int(wanted)
    assert len(folds) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(rows)))
    tested = [len(set(speakers[fold.test])) for fold in folds]
    assert max(tested) - min(tested) <= 1
    for fold in folds:
        assert not set(speakers[fold.train]) & set(speakers[fold.test])
        assert len(fold.train) + len(fold.test) == len(rows)


@settings(max_examples=60, deadline=None)
@given(MANIFESTS, st.integers(0, 3))
def test_validation_speakers_are_others(rows, seed):
    speakers, codes = arrays(rows)
    train, validation = validation_split(speakers, codes, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(rows)))
    assert len(train) and not set(speakers[train]) & set(speakers[validation])
    assert bool(len(validation)) == (len(set(speakers)) > 1)


def test_the_order_of_clips_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(0)
    speakers, codes = np.repeat(np.arange(24), 20).astype(str), rng.integers(0, 8, 480)
    order = rng.permutation(480)

    def partings(folds, names):
        return [frozenset(names[fold.test]) for fold in folds]

    first = partings(make_folds(speakers, codes, "6"), speakers)
    assert first == partings(make_folds(speakers[order], codes[order], "6"), speakers[order])
    assert first != partings(make_folds(speakers, codes, "6", seed=1), speakers)
    assert [len(each) for each in first] == [4] * 6
    assert len(make_folds(speakers, codes)) == 10


def test_groups_have_alike_shares_of_the_classes():
    """Half of the speakers have one class, half the other: every group gets both."""
    speakers, codes = np.repeat(np.arange(20), 6), np.repeat(np.arange(20) < 10, 6).astype(np.int64)
    for seed in range(5):
        for fold in make_folds(speakers, codes, "10", seed):
            assert codes[fold.test].mean() == 0.5
            assert not missing_classes(fold, codes)


def test_validation_leaves_no_class_without_training_clips_where_it_can():
    speakers, codes = np.repeat(np.arange(5), 4), np.tile([0, 1, 0, 1], 5)
    codes[:4] = [2, 0, 1, 2]  # one speaker alone has a class, and all others as well
    for seed in range(20):
        train, validation = validation_split(speakers, codes, seed)
        assert set(codes[train]) == {0, 1, 2} and set(codes[validation]) == {0, 1}
    codes[speakers == 0] = 0  # a speaker with one class only is the poorest choice
    for seed in range(20):
        assert set(codes[validation_split(speakers, codes, seed)[1]]) == {0, 1}


def test_the_datas_own_split():
    speakers, codes = np.repeat(list("abcd"), 2), np.tile([0, 1], 4)
    parts = ["train", "train", "validation", "validation", "train", "train", "test", "test"]
    (fold,) = make_folds(speakers, codes, "split", split=parts)
    np.testing.assert_array_equal(fold.train, np.arange(6))
    np.testing.assert_array_equal(fold.test, [6, 7])
    with pytest.raises(DataError, match="1 speakers are both trained on and tested \\(d\\)"):
        make_folds(speakers, codes, "split", split=[*parts[:-1], "train"])
    with pytest.raises(DataError, match="1 of 8 clips say 'dev'"):
        make_folds(speakers, codes, "split", split=[*parts[:-1], "dev"])
    with pytest.raises(DataError, match="none to test"):
        make_folds(speakers, codes, "split", split=["train"] * 8)
    with pytest.raises(DataError, match="8 of 8 clips say ''"):
        make_folds(speakers, codes, "split")


@pytest.mark.parametrize("wanted", ["0", "1", "-3", "many", "2.5", ""])
def test_what_is_no_number_of_folds_is_refused(wanted):
    with pytest.raises(InputError, match="auto, loso, split"):
        make_folds(np.array(list("abc")), np.array([0, 1, 0]), wanted)


def test_one_speaker_and_one_class_are_said():
    with pytest.raises(DataError, match="one speaker"):
        make_folds(np.array(["a", "a"]), np.array([0, 1]))
    with pytest.raises(DataError, match="one label"):
        make_folds(np.array(["a", "b"]), np.array([1, 1]))


def test_missing_classes_are_found_and_one_speaker_has_no_folds():
    codes = np.array([0, 0, 1, 2])
    assert missing_classes(Fold(np.array([0, 1]), np.array([2, 3])), codes) == (1, 2)
    assert speaker_folds(np.array(["a", "a"]), np.array([0, 1]), 5) == ()
