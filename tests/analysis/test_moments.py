"""Accumulated moments against numpy on the whole, at any blocking; HSIC against the n x n formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.analysis import moments as module
from core.analysis.moments import CrossMoments, LayerMoments, spectrum
from core.errors import DataError


def direct_hsic(x, y):
    """HSIC_1 of Song et al. 2012, eq. 5, as it stands there, with n x n matrices; times n (n - 3)."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    n, (k, l) = len(x), [(rows - rows.mean(axis=0)) @ (rows - rows.mean(axis=0)).T for rows in (x, y)]  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(n)
    return np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)


def direct_cka(x, y):
    return direct_hsic(x, y) / np.sqrt(direct_hsic(x, x) * direct_hsic(y, y))


def cka(cross, a=0, b=1):
    return cross.hsic(a, b) / np.sqrt(cross.hsic(a, a) * cross.hsic(b, b))


def accumulate(columns, cuts=(), n_folds=1, fold=0):
    cross = CrossMoments([column.shape[1] for column in columns], n_folds=n_folds)
    for rows in np.split(np.arange(len(columns[0])), cuts):
        cross.add([column[rows] for column in columns], fold if np.isscalar(fold) else fold[rows])
    return cross


def hard(n, dim, seed=0):
    """Two columns that share something, with a huge mean and outlier dims, as float32."""
    chance = np.random.default_rng(seed)
    shared = chance.normal(size=(n, dim))
    x = shared + chance.normal(size=(n, dim)) + 1e4
    y = shared @ chance.normal(size=(dim, dim)) / dim**0.5 + chance.normal(size=(n, dim)) - 300
    x[:, 0] *= 40
    y[:, -1] *= 200
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize(("n", "dim"), [(50, 768), (4, 3), (50, 3), (1_000, 100), (5, 768)])
def test_accumulated_cka_is_the_direct_formula(n, dim):
    x, y = hard(n, dim)
    assert cka(accumulate([x, y], [n // 3])) == pytest.approx(direct_cka(x, y), abs=1e-9)


@pytest.mark.parametrize("dim", [3, 200])
def test_many_rows_in_float32_are_the_direct_formula(dim, monkeypatch):
    monkeypatch.setattr(module, "GATHERED_ROWS", 256)
    x, y = hard(1_500, dim, seed=1)
    # The first rows mislead about the mean.
    x[:300] += 50
    assert cka(accumulate([x, y], [100, 700])) == pytest.approx(direct_cka(x, y), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 120), max_size=6).map(sorted),
    seed=st.integers(0, 5),
    gathered=st.sampled_from([16, 64, 2_048]),
    fold=st.lists(st.integers(0, 1), min_size=120, max_size=120),
)
def test_blocks_and_folds_change_nothing(cuts, seed, gathered, fold):
    x, y = hard(120, 7, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GATHERED_ROWS", gathered)
        cross = accumulate([x, y], cuts, n_folds=2, fold=np.array(fold))
        assert cka(cross) == pytest.approx(direct_cka(x, y), abs=1e-6)
    assert cross.n == 120
    np.testing.assert_allclose(cross.covariance(0), np.cov(x.T.astype(np.float64)), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(cross.mean(1), y.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_columns_may_have_other_dims_and_pairs_may_be_chosen():
    chance = np.random.default_rng(0)
    columns = [chance.normal(size=(60, dim)) for dim in (5, 9, 2)]
    cross = CrossMoments((5, 9, 2), pairs=[(0, 2)])
    cross.add(columns)
    assert cross.pairs == ((0, 0), (0, 2), (1, 1), (2, 2))
    assert cka(cross, 0, 2) == pytest.approx(direct_cka(columns[0], columns[2]), abs=1e-12)
    assert cross.hsic(2, 0) == cross.hsic(0, 2)


def test_the_moments_of_each_fold_are_those_of_its_rows():
    x, y = hard(90, 6)
    fold = np.arange(90) % 3 // 2
    joint = accumulate([x, y], [31, 60], n_folds=2, fold=fold).joint(0, 1, 1)
    rows = np.flatnonzero(fold)
    assert joint.n == len(rows)
    both = np.cov(np.hstack([x[rows], y[rows]]).astype(np.float64).T) * (len(rows) - 1)
    np.testing.assert_allclose(joint.xy, both[:6, 6:], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(joint.yy, both[6:, 6:], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(joint.mean_x, x[rows].mean(axis=0, dtype=np.float64), rtol=1e-7)


def test_rows_of_no_fold_are_left_out():
    x, y = hard(90, 6)
    fold = np.arange(90) % 3 - 1
    cross = accumulate([x, y], [31, 60], n_folds=2, fold=fold)
    assert (cross.n, cross.n_of(0), cross.n_of(1)) == (60, 30, 30)
    assert cka(cross) == pytest.approx(direct_cka(x[fold >= 0], y[fold >= 0]), abs=1e-9)


def test_memory_does_not_grow_with_rows(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(module, "GATHERED_ROWS", 200)
    columns = list(np.random.default_rng(0).normal(size=(2, 100, 20)).astype(np.float32))
    peaks = []
    for times in (10, 100):
        tracemalloc.start()
        cross = CrossMoments((20, 20))
        for _ in range(times):
            cross.add(columns)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert cross.n == 10_000
    assert peaks[1] < 1.1 * peaks[0]


def test_wrong_dims_are_refused():
    with pytest.raises(ValueError, match="dims are needed"):
        CrossMoments((3, 4)).add([np.zeros((2, 3)), np.zeros((2, 3))])


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=5).map(sorted), offset=st.sampled_from([0.0, 3e3]))
def test_layer_moments_equal_numpy_on_the_whole(cuts, offset):
    values = np.random.default_rng(0).normal(size=(2, 700, 5)).astype(np.float32) + np.float32(offset)
    got = LayerMoments((0, 6), 5)
    for block in np.split(values, cuts, axis=1):
        got.add(block)
    exact = values.astype(np.float64)
    units = exact / np.linalg.norm(exact, axis=2, keepdims=True)
    assert got.n == 700
    np.testing.assert_allclose(got.mean, exact.mean(axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got.squares / 700, exact.var(axis=1), rtol=1e-5)
    np.testing.assert_allclose(got.mean_squares, np.square(exact).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(got.units, units.sum(axis=1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named_by_layer_and_row(bad):
    values = np.zeros((2, 600, 3), dtype=np.float32)
    values[1, 411, 2] = bad
    with pytest.raises(DataError, match="layer 12 has NaN or infinite values at row 411"):
        LayerMoments((0, 12), 3).add(values)
    with pytest.raises(DataError, match="row 10411"):
        LayerMoments((0, 12), 3).add(values, np.arange(10_000, 10_600))


def test_values_whose_squares_overflow_are_finite_all_the_same():
    got = LayerMoments((0,), 2)
    got.add(np.full((1, 3, 2), 1e30, dtype=np.float32))
    np.testing.assert_allclose(got.units, 3 / 2**0.5)


def test_rows_of_zeros_have_no_direction():
    got = LayerMoments((0,), 2)
    got.add(np.array([[[0.0, 0.0], [3.0, 4.0]]]))
    assert got.n_units.tolist() == [1]
    np.testing.assert_allclose(got.units, [[0.6, 0.8]])


def test_a_spectrum_gives_the_covariance_back():
    x = np.random.default_rng(0).normal(size=(5, 8))
    covariance = np.cov(x.T)
    values, axes = spectrum(covariance)
    assert (np.diff(values) <= 0).all() and (values >= 0).all()
    np.testing.assert_allclose((axes * values) @ axes.T, covariance, atol=1e-12)
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(8)] > 0).all()
