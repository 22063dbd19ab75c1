"""One layer's numbers against closed forms and brute force."""

import numpy as np
import pytest

from core.analysis.moments import LayerMoments, spectrum
from core.analysis.statistics import (
    anisotropy,
    effective_rank,
    layer_statistics,
    outlier_dimensions,
    participation_ratio,
)
from core.errors import DataError


def describe(values, *blocks):
    moments = LayerMoments((3,), values.shape[1])
    for block in blocks or (values,):
        moments.add(block[None])
    eigenvalues, _ = spectrum(np.cov(values.astype(np.float64).T))
    return layer_statistics(moments, [eigenvalues], len(values), (3,))[0]


def test_ragged_recordings_are_their_concatenation():
    chance = np.random.default_rng(0)
    recordings = [chance.normal(size=(n, 12)).astype(np.float32) for n in (37, 410, 3, 150)]
    whole = np.concatenate(recordings)
    whole = (whole - whole.mean()) / whole.std()
    recordings = np.split(whole, np.cumsum([37, 410, 3]))
    got = describe(whole, *recordings)
    assert got.n == 600 and got.index == 3
    # Padded to one length with zeros, the same recordings had .6.
    assert got.std == pytest.approx(1.0, abs=1e-6)
    assert got.mean == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(got.variances, whole.var(axis=0, ddof=1, dtype=np.float64), rtol=1e-5)
    assert got.variance_quantiles["0.5"] == pytest.approx(np.median(got.variances))
    assert list(got.variance_quantiles) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]


def test_anisotropy_is_the_mean_over_all_pairs():
    values = np.random.default_rng(1).normal(size=(40, 6)) + 0.5
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = units @ units.T
    expected = cosines[np.triu_indices(40, 1)].mean()
    assert describe(values).anisotropy == pytest.approx(expected, abs=1e-12)
    assert anisotropy(units[0], 1) == 0.0


def test_ranks_have_their_closed_forms():
    for k in (1, 5, 64):
        assert effective_rank(np.r_[np.full(k, 2.5), np.zeros(9)]) == pytest.approx(k)
        assert participation_ratio(np.r_[np.full(k, 2.5), np.zeros(9)]) == pytest.approx(k)
    assert participation_ratio(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(4 / 3**0.75)
    assert effective_rank(np.zeros(4)) == participation_ratio(np.zeros(4)) == 0.0


def test_isotropic_rows_fill_their_dims_and_a_line_one():
    chance = np.random.default_rng(2)
    round_ = describe(chance.normal(size=(20_000, 10)))
    assert round_.effective_rank == pytest.approx(10, abs=0.05)
    assert round_.participation_ratio == pytest.approx(10, abs=0.05)
    line = describe(np.outer(chance.normal(size=100), np.arange(1.0, 11.0)))
    assert line.effective_rank == pytest.approx(1.0, abs=1e-6)
    # Seven rows have six axes, however many dims they fill.
    assert describe(chance.normal(size=(7, 50))).effective_rank <= 6


def test_outlier_dims_are_named_largest_first():
    values = np.random.default_rng(3).normal(size=(5_000, 100))
    values[:, 17] *= 6
    values[:, 60] += 20
    values[:, 5] *= 4
    assert describe(values).outlier_dimensions == (60, 17)
    assert outlier_dimensions(np.full(8, 3.0)) == ()


def test_dims_that_are_always_zero_make_no_outliers_of_the_others():
    """40 of 64 dims are zero: a median over all of them is zero, and every living dim would be above it."""
    values = np.random.default_rng(4).normal(size=(2_000, 64))
    values[:, :40] = 0
    assert describe(values).outlier_dimensions == ()
    values[:, 50] *= 8
    assert describe(values).outlier_dimensions == (50,)
    assert outlier_dimensions(np.zeros(8)) == ()


def test_one_row_has_no_variance():
    moments = LayerMoments((0,), 4)
    moments.add(np.ones((1, 1, 4)))
    with pytest.raises(DataError, match="at least 2"):
        layer_statistics(moments, [np.zeros(4)], 1, (0,))
