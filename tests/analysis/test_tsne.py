"""t-SNE: planted groups, a real state of speech, sklearn beside it, and what warm starts are for."""

from itertools import islice

import numpy as np
import pytest
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

from core.analysis.neighbours import neighbour_preservation
from core.analysis.tsne import (
    FRESH,
    TsneSettings,
    affinities,
    align_map,
    check_perplexity,
    fresh_start,
    reduce_rows,
    tsne_sequence,
    tsne_steps,
)
from core.errors import InputError

SMALL = TsneSettings(perplexity=15)


def planted(n=400, n_groups=8, dim=40, seed=0):
    """Groups that stand apart, each a curve: a shape that speech has too."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_groups, n)
    along = rng.uniform(-2, 2, n)
    waves = rng.normal(size=(n_groups, 3, dim))
    curves = np.stack([along, along**2 / 2, np.sin(2 * along)], axis=1)
    values = 3 * rng.normal(size=(n_groups, dim))[labels] + np.einsum("rk,rkd->rd", curves, waves[labels])
    return (values + 0.3 * rng.normal(size=(n, dim))).astype(np.float32), labels


def last(rows, settings=SMALL, initial=None):
    return list(tsne_steps(rows, settings, initial))[-1]


def moved(points, before):
    """Mean distance that points move, in units of the map's spread."""
    return np.linalg.norm(points - before, axis=1).mean() / np.linalg.norm(before - before.mean(0), axis=1).mean()


@pytest.fixture(scope="module")
def layer():
    return planted()


@pytest.fixture(scope="module")
def cold(layer):
    return last(layer[0])


def test_planted_groups_stay_groups(layer, cold):
    rows, labels = layer
    held_out = np.arange(len(rows)) % 2 == 0
    seen = KNeighborsClassifier(5).fit(cold.points[~held_out], labels[~held_out])
    assert seen.score(cold.points[held_out], labels[held_out]) > 0.97
    shuffled = np.random.default_rng(0).permutation(labels)
    guessed = KNeighborsClassifier(5).fit(cold.points[~held_out], shuffled[~held_out])
    assert guessed.score(cold.points[held_out], shuffled[held_out]) < 0.3


def test_it_keeps_as_many_neighbours_as_sklearn(layer, cold):
    rows, _ = layer
    reference = TSNE(init="pca", perplexity=15, random_state=0).fit_transform(reduce_rows(rows, 50))
    ours, theirs = neighbour_preservation(rows, cold.points), neighbour_preservation(rows, reference)
    assert ours > theirs - 0.01
    assert ours > 10 * (10 / 399)


def exact_divergence(rows, points):
    """Kullback-Leibler divergence by its definition, over all pairs."""
    joint = affinities(reduce_rows(rows, 50), SMALL).toarray()
    closeness = 1 / (1 + ((points[:, None, :] - points[None, :, :]) ** 2).sum(-1))
    np.fill_diagonal(closeness, 0)
    shown = closeness / closeness.sum()
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / shown[there])).sum())


def test_the_divergence_is_the_definitions(layer, cold):
    assert cold.kl == pytest.approx(exact_divergence(layer[0], cold.points.astype(np.float64)), abs=0.003)


def test_attraction_has_the_perplexity_asked_for(layer):
    reduced = reduce_rows(layer[0], 50)
    squared = ((reduced[:, None] - reduced[None]) ** 2).sum(-1)
    joint = affinities(reduced, SMALL).toarray()
    assert joint.sum() == pytest.approx(1)
    np.testing.assert_allclose(joint, joint.T)
    # Within the joint of two points the nearer one counts more, and only near ones count.
    assert np.median(squared[joint > 0]) < 0.3 * np.median(squared)
    per_row = (joint > 0).sum(axis=1)
    assert per_row.min() >= 45


def test_nearly_equal_layers_move_far_less_than_two_runs(layer, cold):
    rows, _ = layer
    rng = np.random.default_rng(5)
    near = rows + 0.1 * rows.std() * rng.normal(size=rows.shape).astype(np.float32)
    warm = last(near, initial=cold.points)
    alone = align_map(last(near).points, cold.points)
    assert moved(warm.points, cold.points) < 0.5 * moved(alone, cold.points)
    fresh = neighbour_preservation(near, alone)
    assert neighbour_preservation(near, warm.points) > fresh - 0.02


def test_a_start_from_an_unrelated_map_finds_the_groups_all_the_same(layer, cold):
    rows, labels = layer
    order = np.random.default_rng(6).permutation(len(rows))
    warm = last(rows[order], initial=cold.points)
    assert neighbour_preservation(rows[order], warm.points) > neighbour_preservation(rows, cold.points) - 0.03
    assert KNeighborsClassifier(6).fit(warm.points, labels[order]).score(warm.points, labels[order]) > 0.97


def test_a_rotated_copy_of_a_layer_gives_nearly_the_same_map(layer):
    rows, _ = layer
    turn, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(rows.shape[1],) * 2))
    first, again = tsne_sequence(np.stack([rows, (rows @ turn + 3).astype(np.float32)]), SMALL)
    assert moved(again.points, first.points) < 0.1
    assert again.kept == pytest.approx(first.kept, abs=0.02)
    np.testing.assert_allclose(
        fresh_start(reduce_rows(rows, 50), 0), fresh_start(reduce_rows(rows @ turn, 50), 0), atol=1e-8
    )


def test_the_same_settings_give_the_same_points(layer, cold):
    again = last(layer[0])
    np.testing.assert_array_equal(again.points, cold.points)
    assert again.kl == cold.kl


def test_states_come_on_the_way_and_can_be_left(layer):
    rows, labels = layer
    states = list(islice(tsne_steps(rows, TsneSettings(perplexity=15, every=40)), 7))
    assert [state.iteration for state in states] == [0, 40, 80, 120, 150, 190, 230]
    assert {state.total for state in states} == {sum(phase.iterations for phase in FRESH)}
    assert all(state.points.shape == (400, 2) and np.isfinite(state.points).all() for state in states)
    assert states[-1].kl < states[0].kl
    assert KNeighborsClassifier(6).fit(states[-1].points, labels).score(states[-1].points, labels) > 0.9


def test_how_often_states_are_taken_does_not_change_the_map(layer, cold):
    seldom = last(layer[0], TsneSettings(perplexity=15, every=1_000))
    np.testing.assert_array_equal(seldom.points, cold.points)


def test_a_sequence_is_its_steps_one_after_another(layer, cold):
    rows, _ = layer
    reports = []
    first, second = tsne_sequence(np.stack([rows, -rows]), SMALL, reports.append)
    np.testing.assert_array_equal(first.points, cold.points)
    np.testing.assert_array_equal(second.points, last(-rows, initial=first.points).points)
    assert first.kept == neighbour_preservation(rows, first.points)
    assert reports[-1].done == reports[-1].total == 2
    assert np.all(np.diff([report.done for report in reports]) >= 0)
    assert first.note.startswith("perplexity 15, n = 400, KL ")


def test_alignment_undoes_a_mirror_a_turn_and_a_shift():
    points = np.random.default_rng(8).normal(size=(50, 2)) * (3, 1)
    turned = points @ np.array([[0.6, 0.8], [0.8, -0.6]]) + (5, -2)
    np.testing.assert_allclose(align_map(turned, points), points, atol=1e-12)
    np.testing.assert_allclose(align_map(2 * points, points).std(axis=0), 2 * points.std(axis=0))


@pytest.mark.parametrize(("n", "perplexity"), [(7, 2), (20, 2), (28, 9), (91, 30)])
def test_few_rows_of_noise_do_not_fall_into_one_point(n, perplexity):
    rows = np.random.default_rng(9).normal(size=(n, 768))
    state = last(rows, TsneSettings(perplexity=perplexity))
    assert state.points.std() > 0.5
    assert state.kl > 0


@pytest.mark.parametrize(
    ("rows", "perplexity"),
    [
        (np.ones((100, 5)), 30),
        (np.repeat(np.random.default_rng(0).normal(size=(4, 5)), 25, axis=0), 9),
        (np.arange(60.0)[:, None], 9),
        (np.random.default_rng(1).normal(size=(7, 300)), 2),
        (np.random.default_rng(2).normal(size=(30, 2)), 9.5),
    ],
    ids=["one point", "four points", "a line", "seven rows", "two dims"],
)
def test_small_and_degenerate_layers_have_a_map(rows, perplexity):
    settings = TsneSettings(perplexity=perplexity)
    first, second = tsne_sequence(np.stack([rows, rows]).astype(np.float32), settings)
    for found in (first, second):
        assert found.points.shape == (len(rows), 2)
        assert np.isfinite(found.points).all()
        assert np.isfinite(found.kl)
        assert found.points.std(axis=0).min() > 0


@pytest.mark.parametrize(("perplexity", "n"), [(30, 91), (9, 28), (2, 7), (1_666, 5_000)])
def test_a_perplexity_below_a_third_of_the_rows_is_accepted(perplexity, n):
    check_perplexity(perplexity, n)


@pytest.mark.parametrize(
    ("perplexity", "n", "says"),
    [
        (30, 90, "perplexity of 30 for 90 rows; .* Set it to 29 or less"),
        (9, 27, "perplexity of 9 for 27 rows; .* Set it to 8 or less"),
        (30, 6, "Got 6 rows; t-SNE needs at least 7"),
        (0, 500, "expected 2 or more, such as 30 or 9"),
        (float("nan"), 500, "expected 2 or more"),
        (float("inf"), 500, "Set it to 166 or less"),
    ],
)
def test_a_perplexity_that_cannot_be_says_what_can(perplexity, n, says):
    with pytest.raises(InputError, match=says):
        check_perplexity(perplexity, n)
    with pytest.raises(InputError, match=says):
        next(tsne_steps(np.zeros((n, 3)), TsneSettings(perplexity=perplexity)))


def test_a_start_of_other_rows_is_a_bug():
    with pytest.raises(ValueError, match="start of shape"):
        next(tsne_steps(np.zeros((50, 3)), TsneSettings(perplexity=9), np.zeros((40, 2))))
