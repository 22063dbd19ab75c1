from dataclasses import replace

import numpy as np
import pytest

from core.analysis.recording_probe import (
    STRENGTHS,
    Examples,
    RidgePath,
    held_gain,
    held_score,
    hold_out,
    leave_out,
)


def examples_of(codes, recordings, parts=None):
    codes, recordings = np.asarray(codes), np.asarray(recordings)
    parts = recordings if parts is None else parts
    return Examples(codes, recordings, parts, leave_out(recordings), int(codes.max()) + 1)


@pytest.mark.parametrize("dim", [6, 90])
def test_the_ridge_is_that_of_scikit_learn(dim):
    """For few and for many dims: balanced weights, standardised by the weighted mean and spread."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.class_weight import compute_sample_weight

    rng = np.random.default_rng(0)
    codes = rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    features = rng.normal(size=(60, dim)) * np.arange(1, dim + 1) + codes[:, None]
    new = rng.normal(size=(9, dim)) * np.arange(1, dim + 1)
    weights = compute_sample_weight("balanced", codes)
    scaler = StandardScaler().fit(features, sample_weight=weights)
    scores = RidgePath(features, codes, 3).scores(new)
    for strength, row in zip(STRENGTHS, scores, strict=True):
        ridge = Ridge(strength).fit(scaler.transform(features), np.eye(3)[codes], sample_weight=weights)
        np.testing.assert_allclose(row, ridge.predict(scaler.transform(new)), atol=1e-8)


def test_a_class_without_examples_is_never_said_and_a_flat_dim_does_no_harm():
    features = np.random.default_rng(0).normal(size=(20, 3))
    features[:, 1] = 7.0
    said = RidgePath(features, np.arange(20) % 2 * 2, 3).said(features * 5)
    assert set(np.unique(said)) <= {0, 2}


def test_whole_groups_are_left_out():
    groups = np.repeat(np.arange(4), 5)
    folds = leave_out(groups)
    assert len(folds) == 4
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    assert len(leave_out(np.arange(30))) == 10


@pytest.fixture(scope="module")
def planted():
    """Six recordings of 40 examples, three classes; of four layers only number 2 tells the class."""
    rng = np.random.default_rng(1)
    codes, recordings = np.tile(np.arange(3), 80), np.repeat(np.arange(6), 40)
    layers = rng.normal(size=(4, 240, 12)) + rng.normal(size=(6, 1, 12))[recordings].transpose(1, 0, 2)
    layers[2, np.arange(240), codes] += 2.5
    return layers, examples_of(codes, recordings)


def test_what_was_planted_in_a_layer_is_found_there(planted):
    layers, examples = planted
    held = hold_out(lambda _: layers, examples)
    assert held.layers == (2,) * 6
    scores = [held_score(said, examples).value for said in held.by_layer]
    assert scores[2] > 0.75 and max(scores[:2] + scores[3:]) < 0.45
    chosen = held_score(held.said, examples)
    assert chosen.value == scores[2] and chosen.low < chosen.value < chosen.high
    assert chosen.low > 1 / 3


def test_nothing_is_chosen_by_what_is_tested(planted):
    """Other labels of the tested recording change nothing of what is said there, for layers that are alike."""
    examples = planted[1]
    layers = np.random.default_rng(2).normal(size=(6, 240, 12))
    for fold in examples.folds:
        other = examples.codes.copy()
        other[fold[1]] = (other[fold[1]] + 1) % 3
        one, two = (
            hold_out(lambda _: layers, replace(examples, codes=codes, folds=(fold,)))
            for codes in (examples.codes, other)
        )
        assert one.layers == two.layers
        np.testing.assert_array_equal(one.by_layer, two.by_layer)


def test_features_are_fitted_on_the_training_examples(planted):
    layers, examples = planted
    seen = []

    def rows(train):
        seen.append(train)
        return layers

    hold_out(rows, examples)
    assert all(np.array_equal(train, fold[0]) for train, fold in zip(seen, examples.folds, strict=True))


def test_shuffled_labels_are_at_chance_and_the_interval_holds_it(planted):
    """Over 40 shuffles chance lies in nearly all of the 95 % intervals, and they centre on it."""
    layers, examples = planted
    rng, inside, values = np.random.default_rng(0), [], []
    for _ in range(40):
        shuffled = examples_of(rng.permutation(examples.codes), examples.units)
        estimate = held_score(hold_out(lambda _: layers[2:3], shuffled).said, shuffled)
        inside.append(estimate.low <= 1 / 3 <= estimate.high)
        values.append(estimate.value)
    assert np.mean(values) == pytest.approx(1 / 3, abs=0.03)
    assert np.mean(inside) >= 0.85


def test_a_gain_is_known_better_than_either_score(planted):
    layers, examples = planted
    good, poor = (hold_out(lambda _, n=number: layers[n : n + 1], examples).said for number in (2, 0))
    gain = held_gain(good, poor, examples)
    assert gain.value == pytest.approx(held_score(good, examples).value - held_score(poor, examples).value)
    assert gain.low > 0.2
    same = held_gain(good, good, examples)
    assert same.value == same.low == same.high == 0
