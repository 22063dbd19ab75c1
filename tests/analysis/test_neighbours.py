"""Neighbours kept, against a loop over sets, at known maps, and with twins."""

import numpy as np
import pytest

from core.analysis.neighbours import nearest, neighbour_chance, neighbour_preservation


def by_hand(rows, points, k):
    shares = []
    for row in range(len(rows)):
        kept = []
        for values in (rows, points):
            distance = np.linalg.norm(values - values[row], axis=1)
            distance[row] = np.inf
            kept.append(set(np.argsort(distance)[:k]))
        shares.append(len(kept[0] & kept[1]) / k)
    return np.mean(shares)


@pytest.mark.parametrize(("n", "k"), [(60, 10), (12, 10), (40, 1)])
def test_it_equals_a_loop_over_sets(n, k):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 6))
    points = rows[:, :2] + 0.3 * rng.normal(size=(n, 2))
    assert neighbour_preservation(rows, points, k) == pytest.approx(by_hand(rows, points, k))


def test_a_turned_and_shifted_copy_keeps_all():
    rows = np.random.default_rng(1).normal(size=(300, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert neighbour_preservation(rows, 3 * rows @ turn + 5) == 1.0


def test_a_map_that_knows_nothing_keeps_what_chance_keeps():
    rng = np.random.default_rng(2)
    rows, points = rng.normal(size=(1_000, 20)), rng.normal(size=(1_000, 2))
    assert neighbour_preservation(rows, points) == pytest.approx(neighbour_chance(1_000), abs=0.004)


def test_a_sample_of_the_rows_tells_nearly_the_same():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3_000, 5))
    whole = neighbour_preservation(rows, rows[:, :2], most=3_000)
    assert neighbour_preservation(rows, rows[:, :2], most=1_000, seed=1) == pytest.approx(whole, abs=0.01)


def test_no_row_is_its_own_neighbour_even_among_many_twins():
    rows = np.repeat(np.random.default_rng(4).normal(size=(3, 4)), 15, axis=0)
    found = nearest(rows, np.arange(45), 5)
    assert not np.any(found == np.arange(45)[:, None])
    assert np.array_equal(found // 15, np.repeat(np.arange(45)[:, None] // 15, 5, axis=1))


@pytest.mark.parametrize("n", [2, 3, 9])
def test_fewer_rows_than_neighbours_keep_all_of_them(n):
    rng = np.random.default_rng(5)
    assert neighbour_preservation(rng.normal(size=(n, 3)), rng.normal(size=(n, 2))) == 1.0
    assert neighbour_chance(n) == 1.0


def test_rows_and_points_that_do_not_match_are_a_bug():
    with pytest.raises(ValueError, match="as many points as rows"):
        neighbour_preservation(np.zeros((4, 2)), np.zeros((3, 2)))
