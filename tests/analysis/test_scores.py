"""Scores against scikit-learn and closed forms, and intervals against a planted truth."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from core.analysis import scores


def drawn(n=300, n_classes=6, seed=0, missing=()):
    rng = np.random.default_rng(seed)
    truth = np.setdiff1d(np.arange(n_classes), missing)[rng.integers(0, n_classes - len(missing), n)]
    return truth, np.where(rng.random(n) < 0.6, truth, rng.integers(0, n_classes, n))


@pytest.mark.parametrize("missing", [(), (2,), (0, 5)])
def test_scores_equal_scikit_learns(missing):
    truth, said = drawn(missing=missing)
    counts = scores.confusion(truth, said, 6)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, said, labels=np.arange(6)))
    known = np.unique(truth)
    assert scores.uar(counts) == pytest.approx(recall_score(truth, said, labels=known, average="macro"))
    if not missing:
        assert scores.uar(counts) == pytest.approx(balanced_accuracy_score(truth, said))
    assert scores.wa(counts) == pytest.approx(accuracy_score(truth, said))
    assert scores.macro_f1(counts) == pytest.approx(f1_score(truth, said, average="macro"))
    each = recall_score(truth, said, labels=known, average=None)
    np.testing.assert_allclose(scores.recalls(counts)[known], each)
    assert np.isnan(scores.recalls(counts)[list(missing)]).all()


def test_a_stack_of_tables_is_scored_as_one_by_one_and_speakers_add_up():
    truth, said = drawn()
    speakers = np.random.default_rng(1).integers(0, 7, 300)
    tables = scores.tables_by_speaker(truth, said, speakers, 6)
    np.testing.assert_array_equal(tables.sum(axis=0), scores.confusion(truth, said, 6))
    for score in (scores.uar, scores.wa, scores.macro_f1):
        np.testing.assert_allclose(score(tables), [score(table) for table in tables])


def test_labels_may_be_words():
    assert scores.unweighted_recall(np.array(list("aab")), np.array(list("abc"))) == pytest.approx(0.25)
    assert scores.accuracy(np.array(list("aab")), np.array(list("abb"))) == pytest.approx(2 / 3)


# ---------------------------------------------------------------------------------------------------------- intervals


def recognised(rng, n_speakers, odds, spread, each=8):
    """Tables of speakers who are recognised more or less easily, (speakers, classes, classes)."""
    n_classes = len(odds)
    shares = expit(
        odds + spread * (rng.standard_normal((n_speakers, 1)) + rng.standard_normal((n_speakers, n_classes)))
    )
    right = rng.binomial(each, shares)
    tables = np.zeros((n_speakers, n_classes, n_classes), dtype=np.int64)
    for number in range(n_classes):
        tables[:, number, number] = right[:, number]
        tables[:, number, (number + 1) % n_classes] = each - right[:, number]
    return tables


@pytest.mark.parametrize(("n_speakers", "middle"), [(5, 1.0), (10, 2.2), (24, 1.0)])
def test_intervals_hold_the_planted_truth(n_speakers, middle):
    rng, odds = np.random.default_rng(n_speakers), middle + np.linspace(-0.8, 0.8, 5)
    truth = float(scores.uar(recognised(rng, 20000, odds, 0.5).sum(axis=0)))
    found = [
        scores.speaker_bootstrap(scores.uar, recognised(rng, n_speakers, odds, 0.5), n_draws=300) for _ in range(300)
    ]
    held = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.92 <= held <= 0.985


def test_percentiles_of_five_speakers_would_not():
    """The reason for all this: the very draws, cut at 2.5 and 97.5 %, hold the truth in about four fifths of cases."""
    rng, odds = np.random.default_rng(5), 1 + np.linspace(-0.8, 0.8, 5)
    truth = float(scores.uar(recognised(rng, 20000, odds, 0.5).sum(axis=0)))
    held = []
    for _ in range(200):
        draws = scores.uar(scores._drawn_sums(recognised(rng, 5, odds, 0.5), 0, 300))
        low, high = np.percentile(draws, [2.5, 97.5])
        held.append(low <= truth <= high)
    assert np.mean(held) < 0.9


def test_intervals_are_seeded_and_do_not_depend_on_the_order_of_clips():
    truth, said = drawn()
    speakers = np.random.default_rng(1).integers(0, 7, 300)
    said = np.where(speakers < 3, truth, said)
    order = np.random.default_rng(2).permutation(300)
    first = scores.speaker_bootstrap(scores.uar, scores.tables_by_speaker(truth, said, speakers, 6))
    again = scores.tables_by_speaker(truth[order], said[order], speakers[order], 6)
    assert first == scores.speaker_bootstrap(scores.uar, again)
    assert first.low < first.value < first.high
    assert first != scores.speaker_bootstrap(scores.uar, again, seed=1)


def test_speakers_who_are_always_right_prove_no_certainty():
    tables = np.tile(np.diag([6, 6, 6]), (6, 1, 1))
    found = scores.speaker_bootstrap(scores.uar, tables)
    assert found.value == found.high == 1.0
    assert 0.85 < found.low < 0.99
    one = scores.recall_bootstrap(tables, 0)
    assert one.value == 1.0 and one.low < found.low


def test_few_speakers_give_no_ends_and_those_without_a_class_do_not_count_for_it():
    truth, said = drawn()
    speakers = np.arange(300) % 4
    found = scores.speaker_bootstrap(scores.uar, scores.tables_by_speaker(truth, said, speakers, 6))
    assert found.low is None and found.high is None and found.value > 0.5
    speakers = np.where(truth == 3, np.arange(300) % 4, np.arange(300) % 9)
    tables = scores.tables_by_speaker(truth, said, speakers, 6)
    assert scores.recall_bootstrap(tables, 3).low is None
    assert scores.recall_bootstrap(tables, 2).low is not None
    assert np.isnan(scores.recall_bootstrap(scores.tables_by_speaker(truth, said, speakers, 7), 6).value)


# -------------------------------------------------------------------------------------------------------- calibration


def test_bins_have_alike_numbers_and_keep_ties_together():
    confidence = np.random.default_rng(0).permutation(np.linspace(0.2, 1, 150))
    np.testing.assert_array_equal(np.bincount(scores.mass_bins(confidence)), np.full(15, 10))
    tied = np.repeat([0.3, 0.5, 0.9], [10, 1, 100])
    assert len({*scores.mass_bins(tied)[11:].tolist()}) == 1
    order = np.random.default_rng(1).permutation(111)
    np.testing.assert_array_equal(scores.mass_bins(tied[order]), scores.mass_bins(tied)[order])


def test_ece_of_what_is_calibrated_vanishes_and_of_overconfidence_is_the_excess():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1.0, 200_000)
    right = rng.random(200_000) < confidence
    assert scores.ece(scores.reliability(confidence, right)) < 0.006
    # Said with .3 more than is true: the error is .3, in whatever bins.
    confidence = rng.uniform(0.5, 1.0, 200_000)
    right = rng.random(200_000) < confidence - 0.3
    assert scores.ece(scores.reliability(confidence, right)) == pytest.approx(0.3, abs=0.006)
    # By hand: two bins, .9 said and half right, .6 said and all right.
    found = scores.reliability(np.repeat([0.6, 0.9], 4), np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool), 2)
    np.testing.assert_allclose(found.accuracy, [1, 0.5])
    assert scores.ece(found) == pytest.approx(0.4)


def test_the_error_by_chance_is_what_calibrated_clips_show():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1.0, 300)
    seen = [scores.ece(scores.reliability(confidence, rng.random(300) < confidence)) for _ in range(200)]
    assert scores.calibrated_ece(confidence) == pytest.approx(np.mean(seen), rel=0.05)


@pytest.mark.parametrize(("factor", "spread"), [(1.0, 0.0), (2.0, 0.4)])
def test_intervals_of_the_calibration_error_hold_the_planted_truth(factor, spread):
    def sample(rng, n_speakers):
        speakers = np.repeat(np.arange(n_speakers), 50)
        logits = rng.normal(1.5, 1.2, len(speakers))
        shares = expit(logits / factor + spread * rng.standard_normal(n_speakers)[speakers])
        return expit(logits), rng.random(len(speakers)) < shares, speakers

    rng = np.random.default_rng(3)
    confidence, right, _ = sample(rng, 10_000)
    truth = scores.ece(scores.reliability(confidence, right))
    found = [scores.ece_bootstrap(*sample(rng, 10)) for _ in range(80)]
    assert np.mean([each.low - 0.003 <= truth <= each.high for each in found]) >= 0.92
    assert np.mean([each.high - each.low for each in found]) < 0.16


def test_ece_of_few_speakers_has_no_ends():
    assert scores.ece_bootstrap(np.array([0.5, 0.7]), np.array([True, False]), np.array(["a", "b"])).low is None


# ----------------------------------------------------------------------------------------------------------- coverage


def test_coverage_curve_is_what_counting_gives():
    rng = np.random.default_rng(0)
    confidence = np.round(rng.uniform(0.2, 1, 120), 2)
    right = rng.random(120) < confidence
    curve = scores.coverage_curve(confidence, right)
    assert curve[0, 0] == 0 and curve[0, 1] == 1 and curve[0, 2] == pytest.approx(right.mean())
    for threshold, coverage, share in curve:
        said = confidence >= threshold
        assert coverage == pytest.approx(said.mean()) and share == pytest.approx(right[said].mean())
    assert curve[-1, 0] == confidence.max()
    assert len(scores.coverage_curve(rng.random(5000), rng.random(5000) < 0.5)) <= scores.CURVE_POINTS


def test_a_gain_on_the_same_speakers_is_known_better_than_two_scores():
    """Speakers differ much, the second classifier is always .1 worse: the difference is sure, the scores are not."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.4, 0.95, 8)
    first, second = (
        np.array([[[a, 100 - a], [100 - a, a]] for a in np.round(100 * (rates - less)).astype(int)])
        for less in (0, 0.1)
    )
    gain = scores.paired_gain(scores.uar, first, second)
    assert gain.value == pytest.approx(0.1, abs=0.01)
    assert gain.low > 0.08 and gain.high < 0.12
    alone = scores.speaker_bootstrap(scores.uar, first)
    assert alone.high - alone.low > 5 * (gain.high - gain.low)
    few = scores.paired_gain(scores.uar, first[:4], second[:4])
    assert few.low is None
