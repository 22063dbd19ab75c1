"""Probes: planted answers, leak-proof layer choice, and shuffles that keep what they should keep."""

import itertools

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.analysis import probes, scores


def recall_probe(folds):
    return probes.Probe("", "", "UAR", scores.unweighted_recall, probes.balanced_logistic, folds)


def planted(n_layers=3, n=240, informative=1, seed=0):
    """Two classes, eight groups; one layer tells the classes apart, the others hold noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(["angry", "calm"])[rng.integers(0, 2, n)]
    groups = np.arange(n) % 8
    layers = rng.standard_normal((n_layers, n, 6)).astype(np.float32)
    layers[informative, :, 2] += 3.0 * (labels == "angry")
    return layers, labels, groups


def test_the_informative_layer_is_found_and_chosen():
    layers, labels, groups = planted()
    probe = recall_probe(GroupKFold(4))
    outcome = probes.run_probe(probe, layers, labels, groups)
    assert outcome.scores[1] > 0.85
    assert max(outcome.scores[0], outcome.scores[2]) < 0.65
    assert outcome.chosen == outcome.scores[1]
    assert outcome.interval[0] < outcome.chosen < outcome.interval[1]
    assert probes.chance_level(probe.score, labels) == 0.5


def test_the_layer_is_chosen_without_the_test_groups():
    """A layer that is right in the test fold alone must not be taken for it."""
    layers, labels, groups = planted(n_layers=2, informative=0)
    outside = groups >= 2
    layers[1] = np.random.default_rng(1).standard_normal(layers[1].shape)
    layers[1, ~outside, 0] = 100 * (labels[~outside] == "angry")
    probe = recall_probe(GroupKFold(4))
    best = probes._best_layer(probe, layers[:, outside], labels[outside], groups[outside])
    assert best == 0


def test_speakers_that_give_away_the_label_do_not_help():
    """Features that only name the group: a leak between folds would score 1."""
    groups = np.repeat(np.arange(8), 30)
    labels = np.array(["a", "b"])[groups % 2]
    layers = np.eye(8, dtype=np.float32)[groups][None]
    outcome = probes.run_probe(recall_probe(GroupKFold(8)), layers, labels, groups)
    assert outcome.scores[0] < 0.6


def test_uar_is_the_mean_recall():
    labels, predictions = np.array(list("aaaabbc")), np.array(list("aaabbac"))
    probe = recall_probe(GroupKFold(2))
    wanted = recall_score(labels, predictions, average="macro")
    assert probe.score(labels, predictions) == pytest.approx(wanted)
    assert wanted == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)


def test_accuracy_is_the_share_recognised():
    assert scores.accuracy(np.array([1, 2, 3, 3]), np.array([1, 2, 2, 3])) == 0.75


def test_rows_of_a_group_on_both_sides_would_be_found_out():
    """The features of the test before, split row by row, score 1: that leak is real, and the groups close it."""
    groups = np.repeat(np.arange(8), 30)
    labels = np.array(["a", "b"])[groups % 2]
    train, test = np.arange(240) % 2 == 0, np.arange(240) % 2 == 1
    features = np.eye(8, dtype=np.float32)[groups]
    predicted = probes.fit_predict(probes.balanced_logistic, features, labels, train, test)
    assert scores.unweighted_recall(labels[test], predicted) == 1.0


@pytest.mark.parametrize("dim", [5, 40])
def test_the_discriminant_equals_scikit_learns(dim):
    rng = np.random.default_rng(0)
    labels = np.array(list("abcdef"))[rng.integers(0, 6, 300) % rng.integers(1, 7, 300)]
    values = (rng.standard_normal((300, dim)) * rng.uniform(0.1, 30, dim) + 5).astype(np.float32)
    values[:, 0] += (labels == "a") * values[:, 0].std()
    values[:, 1] = 7.0  # a dim that does not vary
    stock = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01))
    stock.fit(values[:200], labels[:200])
    ours = probes.ShrunkenDiscriminant().fit(values[:200], labels[:200])
    np.testing.assert_array_equal(ours.predict(values), stock.predict(values))
    scores = (values - ours.mean) / ours.scale @ ours.weights + ours.offsets
    np.testing.assert_allclose(scores, stock.decision_function(values), rtol=1e-3, atol=1e-3)


def test_axes_are_the_principal_ones_of_standardised_dims():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((300, 12)) @ rng.standard_normal((12, 12))).astype(np.float32)
    values[:, 0] *= 1_000  # an outlier dim
    ours = probes.on_standardised_axes(values, np.arange(250), 4)
    fitted = values[:250]
    scaled = (values - fitted.mean(0)) / fitted.std(0)
    axes = np.linalg.svd(scaled[:250], full_matrices=False)[2]
    np.testing.assert_allclose(np.abs(ours), np.abs(scaled @ axes[:4].T), atol=0.02)
    np.testing.assert_array_equal(probes.on_standardised_axes(np.ones((9, 3)), np.arange(5), 2), np.zeros((9, 2)))


def test_shifts_stay_inside_their_recording_and_keep_runs():
    units = np.repeat([0, 1, 2], [40, 8, 2])
    labels = np.repeat(np.arange(10), 5)
    for seed in range(20):
        order = probes.shifted_within(units, np.random.default_rng(seed))
        assert sorted(order) == list(range(50))
        np.testing.assert_array_equal(units[order], units)
        assert (order != np.arange(50)).all()
        assert np.count_nonzero(np.diff(labels[order][:40])) <= np.count_nonzero(np.diff(labels[:40])) + 1
        assert 10 <= (order[0] - 0) <= 30


def test_recordings_of_a_single_row_are_shifted_among_themselves():
    order = probes.shifted_within(np.array([0, 1, 1, 1, 2, 3]), np.random.default_rng(0))
    assert set(order[[0, 4, 5]]) == {0, 4, 5}
    assert (order != np.arange(6)).all()
    np.testing.assert_array_equal(probes.shifted_within(np.array([7]), np.random.default_rng(0)), [0])


def test_units_are_exchanged_whole():
    units = np.repeat(np.arange(30), 4)
    codes = (units % 3).astype(np.int64)
    drawn = probes.exchanged_units(codes, units, np.random.default_rng(0), 20)
    assert len(drawn) == 20
    for mixed in drawn:
        assert all(len(set(mixed[units == unit])) == 1 for unit in range(30))
        np.testing.assert_array_equal(np.bincount(mixed), np.bincount(codes))


@pytest.mark.parametrize(("labels", "ways"), [("aabb", 2), ("aaabbb", 9), ("aabbcc", 14), ("aaaabbbb", 34), ("aab", 2)])
def test_exchanges_are_counted(labels, ways):
    """Against all orders of the units, classes without names."""
    partings = {tuple(map(order.index, order)) for order in itertools.permutations(labels)}
    sizes = np.unique(list(labels), return_counts=True)[1]
    assert probes.other_exchanges(sizes) == len(partings) - 1 == ways


@pytest.mark.parametrize(("n_units", "expected"), [(4, 0), (6, 0), (8, 20)])
def test_exchanges_are_neither_the_truth_nor_its_mirror_nor_each_other(n_units, expected):
    units = np.repeat(np.arange(n_units), 3)
    codes = units % 2
    drawn = probes.exchanged_units(codes, units, np.random.default_rng(0), 20)
    assert len(drawn) == expected
    partings = {tuple(map(list(mixed).index, mixed)) for mixed in (codes, *drawn)}
    assert len(partings) == expected + 1


@pytest.mark.parametrize("n_groups", [5, 10])
def test_intervals_of_a_score_hold_the_truth(n_groups):
    """Groups that are recognised more or less well: a share of .6 on the mean."""
    rng = np.random.default_rng(0)
    groups, held = np.repeat(np.arange(n_groups), 50), 0
    for _ in range(200):
        right = rng.random(len(groups)) < rng.beta(3, 2, n_groups)[groups]
        low, high = probes.score_interval(scores.accuracy, np.ones(len(groups)), right.astype(float), groups)
        held += low <= 0.6 <= high
    assert held / 200 >= 0.88


def test_without_groups_enough_a_probe_is_refused():
    layers, labels, groups = planted()
    with pytest.raises(ValueError, match="Got 4 groups"):
        probes.run_probe(recall_probe(GroupKFold(4)), layers, labels, groups % 4)


def test_sums_of_classes_give_the_same_discriminant():
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((200, 8)), rng.integers(0, 4, 200)
    features[:, 0] += labels
    rows = probes.StandardisedRows.of(features, np.arange(150))
    lost = np.arange(30)
    left = rows.sums(rows.train, labels, 5) - rows.sums(lost, labels, 5)
    found = probes.ShrunkenDiscriminant().fit_sums(left)
    stock = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0).fit(rows.values[30:150], labels[30:150])
    plain = probes.ShrunkenDiscriminant(0.0).fit_sums(left)
    scores = rows.values @ plain.weights + plain.offsets
    np.testing.assert_allclose(scores, stock.decision_function(rows.values), atol=1e-5)
    assert set(found.predict_standardised(rows.values)) <= set(range(4))  # class 5 has no rows


def test_what_tells_classes_apart_without_rest_is_used():
    labels = np.arange(60) % 3
    features = np.eye(3)[labels]
    assert (probes.ShrunkenDiscriminant().fit(features, labels).predict(features) == labels).all()
