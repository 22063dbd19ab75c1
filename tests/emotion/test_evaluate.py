"""The evaluation: what leaks is refused, what is not there is not found, and nothing depends on the order of clips."""

import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from core.analysis import scores
from core.arrays import ignore_progress
from core.emotion import evaluate as evaluation
from core.emotion import linear, network
from core.emotion.controls import shuffled_within_speakers
from core.emotion.domain import distance
from core.emotion.evaluate import TRANSDUCTIVE, Options, answer, evaluate, finished, on_own_scale
from core.emotion.folds import make_folds
from core.emotion.head import Affine, Head, HeldOut
from core.errors import DataError, InputError
from core.scoring import Fold
from tests.emotion.planted import labels_of, names_of, planted, train_discriminant


def evaluated(examples, wanted="auto", clips=None, make_trainer=None, **more):
    folds = make_folds(examples.speakers, examples.codes, wanted)
    clips = clips or names_of(examples)
    make_trainer = make_trainer or (lambda number: train_discriminant)
    return evaluate(examples, labels_of(examples), clips, folds, make_trainer, "planted", ignore_progress, **more)


@pytest.fixture(scope="module")
def found():
    return evaluated(planted())


def test_every_number_is_what_the_predictions_say(found):
    said, examples = found.probabilities.argmax(axis=1), planted()
    np.testing.assert_array_equal(found.truth, examples.codes)
    np.testing.assert_array_equal(found.speakers, examples.speakers)
    assert found.clips == names_of(examples)
    assert found.uar.value == pytest.approx(recall_score(found.truth, said, average="macro"))
    assert found.macro_f1.value == pytest.approx(f1_score(found.truth, said, average="macro"))
    assert found.wa.value == pytest.approx(np.mean(said == found.truth))
    np.testing.assert_allclose([each.value for each in found.recalls], recall_score(found.truth, said, average=None))
    np.testing.assert_array_equal(found.confusion.sum(axis=1), np.bincount(found.truth))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(said, found.uncalibrated.argmax(axis=1))
    for each in (found.uar, found.wa, found.macro_f1, found.ece, *found.recalls):
        assert each.low <= each.value <= each.high
    assert found.uar.value > 0.6 and found.chance == 0.25 and found.warnings == ()


def test_folds_tell_who_was_tested_and_pool_to_the_whole(found):
    assert [fold.speakers for fold in found.folds] == [(f"s{number:02d}",) for number in range(10)]
    assert sum(fold.wa * fold.n for fold in found.folds) / 200 == pytest.approx(found.wa.value)
    assert all(fold.temperature != 1 and 0 < fold.threshold < 1 for fold in found.folds)
    assert found.folds[0].layer_weights == {0: 1.0}
    for fold in found.folds:  # odds before calibration are those after it, to the power of the temperature
        own = np.isin(found.speakers, fold.speakers)
        before, after = (np.log(of[own, :1] / of[own]) for of in (found.uncalibrated, found.probabilities))
        np.testing.assert_allclose(before, fold.temperature * after, atol=1e-6)
    assert found.abstention.threshold == np.median([fold.threshold for fold in found.folds])
    assert found.abstention.accuracy > found.wa.value and found.abstention.coverage > 0.4
    assert found.abstention.curve[0, 2] == pytest.approx(found.wa.value)


def test_each_clip_is_predicted_by_a_head_that_never_heard_its_speaker():
    examples, heard = planted(n_speakers=6), []

    def make_trainer(number):
        def train(given):
            heard.append((number, set(given.speakers)))
            return train_discriminant(given)

        return train

    evaluated(examples, make_trainer=make_trainer)
    assert [number for number, _ in heard] == list(range(6))
    assert all(f"s{number:02d}" not in speakers and len(speakers) == 5 for number, speakers in heard)


def test_knowing_the_speaker_would_score_and_does_not():
    """Features tell who speaks and nothing else, and speakers have favourite classes: parting clips at random leaks."""
    examples = planted(n_speakers=12, each=6, signal=0.0, habit=0.8, voice=3.0)
    order = np.random.default_rng(0).permutation(len(examples))
    leaking = Fold(order[: len(order) // 2], order[len(order) // 2 :])
    leak = answer(train_discriminant, examples, leaking).probabilities.argmax(axis=1)
    assert scores.unweighted_recall(examples.codes[leaking.test], leak) > 0.6
    found = evaluated(examples, "4")
    assert found.uar.value < 0.4
    with pytest.raises(InputError, match="trains on and tests s00"):
        evaluate(examples, labels_of(examples), names_of(examples), [leaking], lambda _: train_discriminant, "", print)


def test_the_order_of_clips_does_not_matter(found):
    examples = planted()
    order = np.random.default_rng(3).permutation(len(examples))
    names = names_of(examples)
    again = evaluated(examples.take(order), clips=tuple(names[row] for row in order))
    assert again.uar == found.uar and again.macro_f1 == found.macro_f1 and again.recalls == found.recalls
    np.testing.assert_array_equal(again.probabilities, found.probabilities[order])
    assert again.ece.value == pytest.approx(found.ece.value, abs=1e-12)
    assert [fold.temperature for fold in again.folds] == [fold.temperature for fold in found.folds]


def test_shuffled_labels_are_at_chance_and_keep_each_speakers_classes():
    examples = planted(n_speakers=12, each=6, habit=0.4)
    held = 0
    for seed in range(4):
        shuffled = shuffled_within_speakers(examples, seed)
        for speaker in np.unique(examples.speakers):
            own = examples.speakers == speaker
            np.testing.assert_array_equal(
                np.bincount(shuffled.codes[own], minlength=4), np.bincount(examples.codes[own], minlength=4)
            )
        found = evaluated(shuffled, "6")
        assert found.uar.value < 0.4
        held += found.uar.low <= found.chance <= found.uar.high
    assert held >= 3 and (shuffled.codes != examples.codes).mean() > 0.5
    np.testing.assert_array_equal(shuffled_within_speakers(examples, 3).codes, shuffled.codes)


def test_where_each_speaker_has_one_class_speakers_change_theirs():
    examples = planted(n_speakers=12, signal=2.0)
    examples = replace(examples, codes=np.unique(examples.speakers, return_inverse=True)[1] % 2)
    shuffled = shuffled_within_speakers(examples, 1)
    assert (shuffled.codes != examples.codes).any()
    assert shuffled.codes.sum() == examples.codes.sum()
    for speaker in np.unique(examples.speakers):
        assert len(np.unique(shuffled.codes[examples.speakers == speaker])) == 1


def test_a_class_that_training_lacks_counts_as_wrong_and_is_said():
    examples = planted(n_speakers=6)
    alone = (examples.codes != 3) | (examples.speakers == "s02")
    found = evaluated(examples.take(np.flatnonzero(alone)))
    assert found.recalls[3].value == 0 and found.recalls[3].low is None
    assert any("have no clip of class 3" in warning for warning in found.warnings)
    np.testing.assert_array_equal(found.probabilities[found.speakers == "s02", 3], 0)


def test_speakers_with_a_class_each_cannot_be_told_from_their_classes():
    examples = planted(n_speakers=6, n_classes=2)
    number = np.unique(examples.speakers, return_inverse=True)[1]
    with pytest.raises(DataError, match=r"Each of the 6 classes is spoken by one speaker alone.*cannot be told apart"):
        make_folds(examples.speakers, number)
    found = evaluated(replace(examples, codes=number % 2))
    told = " ".join(found.warnings)
    assert "Each speaker has clips of one class only" in told and "Fewer than" not in told
    few = " ".join(evaluated(replace(examples, codes=(number < 2).astype(np.int64))).warnings)
    assert "Fewer than 3 speakers have clips of class 1 (2)" in few


def test_with_one_training_speaker_calibration_is_said_to_be_the_same_speakers():
    examples = planted(n_speakers=2, each=8)

    def train(given):
        head = train_discriminant(given)
        logits = head.logits(given.features)
        return replace(head, held_out=HeldOut(logits, given.codes, np.arange(len(given)), speakers=False))

    found = evaluated(examples, make_trainer=lambda number: train)
    assert any("In 2 of 2 folds there was one training speaker" in each for each in found.warnings)
    assert not any("one training speaker" in each for each in evaluated(planted(n_speakers=3)).warnings)


def test_coverage_is_what_the_heads_of_the_folds_would_say():
    """By hand: each fold's head is finished as the last one is, and asked as a recording is judged."""
    examples = planted(signal=1.0, voice=1.0)
    found, said, right, unlike = evaluated(examples), [], [], []
    for fold in make_folds(examples.speakers, examples.codes):
        train, test = examples.take(fold.train), examples.take(fold.test)
        head = finished(train_discriminant(train), train)
        likely, far = head.probabilities(test.features), distance(head, test.features) > 1
        said.append((likely.max(axis=1) >= head.threshold) & ~far)
        right.append(likely.argmax(axis=1) == test.codes)
        unlike.append(far)
    said, right, unlike = (np.concatenate(each) for each in (said, right, unlike))
    silent = found.abstention
    assert (silent.coverage, silent.unlike) == (said.mean(), unlike.mean())
    assert silent.accuracy == pytest.approx(right[said].mean())
    without = evaluated(examples, options=Options(reference=False)).abstention
    assert unlike.any() and without.unlike == 0 and without.coverage > silent.coverage
    np.testing.assert_array_equal(without.curve, silent.curve)


def test_majority_is_the_training_speakers_own():
    """One of three speakers has a class of its own: the majority of the others never is right there."""
    examples = planted(n_speakers=3, each=2)
    codes = np.where(examples.speakers == "s00", 0, 1)
    codes[::5] = 2
    folds = make_folds(examples.speakers, codes)
    guesses = np.concatenate([np.full(len(fold.test), np.bincount(codes[fold.train]).argmax()) for fold in folds])
    found = evaluated(replace(examples, codes=codes))
    assert found.majority == pytest.approx(np.mean(guesses == codes))
    assert found.majority < np.bincount(codes).max() / len(codes)


def test_the_datas_own_split_scores_its_test_clips_only():
    examples = planted(n_speakers=9)
    test = np.isin(examples.speakers, ["s00", "s01", "s02", "s03", "s04"])
    (fold,) = make_folds(examples.speakers, examples.codes, "split", split=np.where(test, "test", "train"))
    names = names_of(examples)
    found = evaluate(examples, labels_of(examples), names, [fold], lambda _: train_discriminant, "", ignore_progress)
    assert len(found.truth) == test.sum() and found.clips == tuple(np.array(names)[test])
    assert found.uar.low is not None


# ------------------------------------------------------------------------------------------------------ transductive


def test_own_scale_takes_what_a_speaker_has_and_is_said():
    examples = planted(n_speakers=6, voice=8.0)
    scaled = on_own_scale(examples)
    for speaker in np.unique(examples.speakers):
        own = scaled.features[:, examples.speakers == speaker]
        np.testing.assert_allclose(own.mean(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(own.std(axis=1), 1, atol=1e-5)
    usual, favoured = evaluated(examples), evaluated(examples, options=Options(transductive=True))
    assert favoured.uar.value > usual.uar.value + 0.05
    assert TRANSDUCTIVE in favoured.warnings and TRANSDUCTIVE not in usual.warnings
    constant = replace(examples, features=np.ones_like(examples.features))
    assert (on_own_scale(constant).features == 0).all()
    with pytest.raises(InputError, match="mean_std"):
        on_own_scale(
            replace(examples, frames=tuple(examples.features[:, :1].repeat(3, axis=1) for _ in examples.codes))
        )


def test_a_learned_attention_pools_the_frames():
    rng = np.random.default_rng(0)
    frames = tuple(rng.standard_normal((2, n, 3)).astype(np.float32) for n in (4, 7))
    examples = planted(n_speakers=2).take(np.array([0, 1]))
    examples = replace(examples, layers=(0, 1), features=np.zeros((2, 2, 3), np.float32), frames=frames)
    maps, ones = (Affine(np.eye(3), np.zeros(3)),), np.ones((2, 3))
    head = Head((0, 1), "learned", 0 * ones, ones, np.array([0.25, 0.75]), "summed", maps, attention=np.zeros(3))
    np.testing.assert_allclose(head.pooled(examples).features[:, 1], frames[1].mean(axis=1), atol=1e-6)
    sharp = replace(head, attention=np.array([1e4, 0, 0]))
    best = (0.25 * frames[0][0] + 0.75 * frames[0][1])[:, 0].argmax()
    np.testing.assert_allclose(sharp.pooled(examples).features[:, 0], frames[0][:, best], atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- kept


def test_finished_folds_are_taken_up_again_and_only_for_the_same_clips_and_settings(tmp_path):
    examples, trained = planted(n_speakers=6), []

    class Stop(Exception):
        pass

    def make_trainer(number):
        if number == 3 and not trained[3:]:
            raise Stop
        trained.append(number)
        return train_discriminant

    whole = evaluated(examples)
    trained_before = [0, 1, 2]
    with pytest.raises(Stop):
        evaluated(examples, make_trainer=make_trainer, keep=tmp_path / "folds")
    assert trained == trained_before
    trained.append(-1)
    again = evaluated(examples, make_trainer=make_trainer, keep=tmp_path / "folds")
    assert trained == [0, 1, 2, -1, 3, 4, 5]
    np.testing.assert_array_equal(again.probabilities, whole.probabilities)
    assert again.folds == whole.folds and again.uar == whole.uar and again.warnings == whole.warnings

    evaluated(examples, make_trainer=make_trainer, keep=tmp_path / "folds")
    assert len(trained) == 7
    evaluated(examples, make_trainer=make_trainer, keep=tmp_path / "folds", options=Options(settings="seed 1"))
    assert len(trained) == 13
    evaluated(shuffled_within_speakers(examples, 1), make_trainer=make_trainer, keep=tmp_path / "folds")
    assert len(trained) == 19
    evaluated(examples, "3", make_trainer=make_trainer, keep=tmp_path / "folds")
    assert len(trained) == 22
    evaluated(examples, "2", make_trainer=make_trainer, keep=tmp_path / "folds")
    assert len(trained) == 24


def test_folds_of_an_older_algorithm_are_not_taken_up_and_time_is_counted_once(tmp_path, monkeypatch):
    examples, trained = planted(n_speakers=3), []

    def train(given):
        trained.append(len(given))
        time.sleep(0.05)
        return train_discriminant(given)

    first = evaluated(examples, make_trainer=lambda _: train, keep=tmp_path)
    again = evaluated(examples, make_trainer=lambda _: train, keep=tmp_path)
    assert len(trained) == 3 and first.seconds > 0.15 and again.seconds > 0.15
    assert again.abstention.coverage == first.abstention.coverage and again.abstention.unlike == first.abstention.unlike
    for module in (evaluation, linear, network):
        with monkeypatch.context() as changed:
            changed.setattr(module, "VERSION", module.VERSION + 1)
            evaluated(examples, make_trainer=lambda _: train, keep=tmp_path)
    assert len(trained) == 12


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", None])
def test_a_kept_fold_that_was_damaged_is_trained_again(tmp_path, damage):
    examples = planted(n_speakers=6)
    first = evaluated(examples, keep=tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    path.write_bytes(path.read_bytes()[:400] if damage is None else damage)
    again = evaluated(examples, keep=tmp_path)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)


# ------------------------------------------------------------------------------------------------------ the last fit


def test_the_last_fit_sets_all_that_a_head_needs():
    examples = planted()
    head = finished(train_discriminant(examples), examples)
    assert head.temperature != 1 and 0 < head.threshold < 1 and head.reference is not None


def test_progress_is_told_and_the_evaluators_own_work_is_short():
    """535 clips in 10 folds, with a trainer that does nothing: all of the time is the evaluator's own."""
    examples = planted(n_speakers=10, n_classes=7, each=7, dim=30).take(np.arange(490))
    ready, told = train_discriminant(examples), []
    folds = make_folds(examples.speakers, examples.codes)
    names, labels = names_of(examples), labels_of(examples)
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        evaluate(examples, labels, names, folds, lambda _: lambda _: ready, "", lambda step: told.append(step))
        best = min(best, time.process_time() - began)
    assert [step.done for step in told[:11]] == list(range(11)) and {step.stage for step in told} == {"folds"}
    assert best < 1.0
