"""Intervals: closed forms, and what they hold in simulations with few groups."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from core.analysis.intervals import jackknife_interval, joined_groups, t_interval


def test_of_a_mean_it_is_the_t_tests():
    values = np.random.default_rng(0).standard_normal(7)
    left_out = np.array([np.delete(values, place).mean() for place in range(7)])
    wanted = ttest_1samp(values, 0).confidence_interval()
    assert jackknife_interval(values.mean(), left_out, (-9, 9)) == pytest.approx((wanted.low, wanted.high))


def test_ends_are_possible_and_bias_widens():
    assert jackknife_interval(0.9, np.array([0.7, 0.9, 0.95, 0.9, 1.0]), (0, 1))[1] == 1.0
    low, high = t_interval(0.5, 0.01, 9, bias=0.2)
    assert low < 0.3 and high == t_interval(0.5, 0.01, 9)[1]


def test_few_groups_and_groups_that_cannot_be_left_out_give_none():
    assert jackknife_interval(0.5, np.full(4, 0.5)) is None
    assert jackknife_interval(0.5, np.array([0.5] * 5 + [np.nan])) is None


def test_many_groups_are_joined_with_neighbours_of_their_fold():
    groups, folds = np.repeat(np.arange(50), 3), np.repeat(np.arange(50) % 2, 3)
    units = joined_groups(groups, folds)
    assert len(np.unique(units)) == 20
    assert all(len(set(folds[units == unit])) == 1 for unit in range(20))
    assert all(len(set(units[groups == group])) == 1 for group in range(50))
    np.testing.assert_array_equal(joined_groups(np.array([7, 3, 7])), [1, 0, 1])
