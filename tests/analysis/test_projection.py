"""The PCA against a singular value decomposition by numpy, against planted variances, and at its edges."""

import numpy as np
import pytest

from core.analysis.projection import evenly, pca_path


def reference(values, n_components):
    centred = values - values.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :n_components] * s[:n_components], (s**2 / (s**2).sum())[:n_components]


@pytest.mark.parametrize(("n", "dim"), [(500, 40), (30, 200), (7, 5)])
def test_points_and_variances_equal_an_svd(n, dim):
    values = np.random.default_rng(0).normal(size=(n, dim)) * np.geomspace(5, 0.1, dim)
    path = pca_path(values)
    points, explained = reference(values, 3)
    # An axis may point either way.
    signs = np.sign((path.points * points).sum(axis=0))
    np.testing.assert_allclose(path.points, points * signs, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(path.explained, explained, rtol=1e-4)


def test_planted_variances_are_found():
    variances = np.array([9.0, 4.0, 2.0, 1.0])
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    values = np.random.default_rng(2).normal(size=(50_000, 4)) * np.sqrt(variances) @ turn
    np.testing.assert_allclose(pca_path(values).explained, variances[:3] / variances.sum(), atol=0.01)


def test_more_frames_than_shown_are_counted_and_evenly_spread():
    values = np.random.default_rng(3).normal(size=(10_000, 8)).astype(np.float32)
    path = pca_path(values, most_fitted=2_000, most_shown=500)
    assert (path.n_frames, path.n_fitted, len(path.frames), path.points.shape) == (10_000, 2_000, 500, (500, 3))
    assert path.frames[0] == 0
    assert path.frames[-1] == 9_999
    assert set(np.diff(path.frames)) <= {20, 21}


@pytest.mark.parametrize(("n", "dim"), [(1, 16), (2, 16), (3, 3), (10, 1), (4, 2)])
def test_few_frames_or_dims_leave_missing_axes_at_zero(n, dim):
    path = pca_path(np.random.default_rng(4).normal(size=(n, dim)))
    n_axes = min(3, n - 1, dim)
    assert path.points.shape == (n, 3)
    assert not path.points[:, n_axes:].any()
    assert not path.explained[n_axes:].any()
    assert path.explained.sum() <= 1 + 1e-9


def test_frames_that_never_move_have_no_variance():
    path = pca_path(np.full((50, 12), 3.0, dtype=np.float32))
    assert not path.points.any()
    assert not path.explained.any()


def test_a_memory_map_and_an_array_give_the_same(tmp_path):
    values = np.random.default_rng(5).normal(size=(300, 20)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(pca_path(mapped).points, pca_path(values).points)


@pytest.mark.parametrize(("n", "most"), [(1, 1), (5, 5), (5, 10), (1_000_003, 4_000)])
def test_evenly_repeats_none_and_keeps_both_ends(n, most):
    numbers = evenly(n, most)
    assert len(numbers) == min(n, most)
    assert np.all(np.diff(numbers) > 0)
    assert (numbers[0], numbers[-1]) == (0, n - 1)
