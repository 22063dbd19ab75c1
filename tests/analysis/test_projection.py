"""The PCA against a singular value decomposition by numpy, the noise floor against drawn noise, and both at edges."""

from itertools import pairwise
from time import process_time

import numpy as np
import pytest

from core.analysis.projection import evenly, face_alike, layer_projection, noise_floor, pca_path


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


def decomposed(rows):
    """Mean, eigenvalues and eigenvectors of the covariance, descending, by numpy."""
    powers, axes = np.linalg.eigh(np.cov(rows, rowvar=False))
    return rows.mean(axis=0), powers[::-1], axes[:, ::-1]


@pytest.mark.parametrize(("n", "dim"), [(500, 40), (30, 200), (12, 5)])
def test_a_layers_points_and_variances_equal_an_svd(n, dim):
    rows = np.random.default_rng(0).normal(size=(n, dim)) * np.geomspace(5, 0.1, dim) + 3
    layer = layer_projection(4, rows, *decomposed(rows), n_fitted=n)
    points, _ = reference(rows, 3)
    told = min(10, n - 1, dim)
    signs = np.sign((layer.pca * points).sum(axis=0))
    np.testing.assert_allclose(layer.pca, points * signs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.explained, reference(rows, told)[1], rtol=1e-6)
    assert (layer.index, layer.n_fitted, len(layer.noise_floor)) == (4, n, told)


def test_the_layers_floor_is_that_of_its_dims():
    rows = np.random.default_rng(1).normal(size=(60, 30)) * np.geomspace(3, 0.3, 30)
    layer = layer_projection(0, rows, *decomposed(rows), n_fitted=60)
    np.testing.assert_allclose(layer.noise_floor, noise_floor(rows.var(axis=0, ddof=1), 60, 10, 0), rtol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_axes_that_do_not_exist_are_zero(n):
    rows = np.random.default_rng(2).normal(size=(n, 6))
    mean, powers, axes = rows.mean(axis=0), np.zeros(6), np.eye(6)
    if n > 1:
        mean, powers, axes = decomposed(rows)
    layer = layer_projection(0, rows, mean, powers, axes, n)
    assert layer.pca.shape == (n, 3)
    assert not layer.pca[:, n - 1 :].any()
    assert len(layer.explained) == len(layer.noise_floor) == n - 1
    assert layer.explained.sum() == pytest.approx(min(n - 1, 1))


def test_a_layer_that_never_moves_has_no_axes():
    rows = np.full((50, 6), 3.0)
    layer = layer_projection(0, rows, *decomposed(rows), n_fitted=50)
    assert not layer.pca.any()
    assert len(layer.explained) == 0


def test_a_layer_faces_as_the_one_before_and_only_signs_change():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 8)) * np.geomspace(4, 1, 8)
    turns = [np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(6)]
    layers = [layer_projection(i, rows @ turn, *decomposed(rows @ turn), 200) for i, turn in enumerate(turns)]
    agree = [(one.pca * two.pca).sum(axis=0) for one, two in pairwise(layers)]
    assert np.min(agree) < 0, "nothing to turn: the test would pass without the function"
    faced = face_alike(layers)
    for before, layer, was in zip(faced, faced[1:], layers[1:], strict=False):
        assert ((before.pca * layer.pca).sum(axis=0) > 0).all()
        np.testing.assert_array_equal(np.abs(layer.pca), np.abs(was.pca))
        np.testing.assert_array_equal(layer.explained, was.explained)
    np.testing.assert_array_equal(faced[0].pca, layers[0].pca)
    for layer in faced[1:]:
        np.testing.assert_allclose(layer.pca, faced[0].pca, atol=1e-4)


def drawn_floor(variances, n, n_axes, n_draws, seed=0):
    """Shares of the axes of noise, by drawing it and taking it apart."""
    rng, shares = np.random.default_rng(seed), []
    for _ in range(n_draws):
        noise = rng.normal(size=(n, len(variances))) * np.sqrt(variances)
        singular = np.linalg.svd(noise - noise.mean(axis=0), compute_uv=False)[: min(n - 1, len(variances))]
        shares.append(np.pad(singular**2 / (singular**2).sum(), (0, n_axes))[:n_axes])
    return np.mean(shares, axis=0)


@pytest.mark.parametrize(
    ("n", "variances", "tolerance"),
    [
        (3, np.ones(768), 0.01),
        (10, np.ones(768), 0.01),
        (10, np.geomspace(30, 0.1, 768), 0.02),
        (200, np.geomspace(20, 0.1, 50), 0.02),
        (50, np.r_[40.0, np.ones(49)], 0.03),
        (51, np.ones(50), 0.02),
        (8, np.r_[np.ones(4), np.zeros(4)], 0.1),
        (900, np.geomspace(5, 0.2, 300), 0.03),
    ],
)
def test_the_noise_floor_is_what_drawn_noise_explains(n, variances, tolerance):
    n_draws = 8 if len(variances) == 300 else 300
    floor = noise_floor(variances, n, 6, seed=1)
    np.testing.assert_allclose(floor, drawn_floor(variances, n, 6, n_draws), rtol=tolerance, atol=1e-12)


def test_the_floors_of_the_documents_pictures():
    np.testing.assert_allclose(noise_floor(np.ones(768), 3, 10, 0)[:2].sum(), 1.0)
    assert noise_floor(np.ones(20_000), 10, 2, 0).sum() == pytest.approx(2 / 9, abs=0.01)


@pytest.mark.parametrize("n", [10, 60, 2_000])
def test_white_noise_explains_its_floor_and_structure_more(n):
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(n, 64)) * np.geomspace(2, 0.5, 64)
    layer = layer_projection(0, noise, *decomposed(noise), n_fitted=n)
    np.testing.assert_allclose(layer.explained, layer.noise_floor, rtol=0.15, atol=0.01)
    planted = noise + 10 * rng.normal(size=(n, 1)) * rng.normal(size=64) / 8
    layer = layer_projection(0, planted, *decomposed(planted), n_fitted=n)
    assert layer.explained[0] > 1.2 * layer.noise_floor[0]


def test_at_endless_rows_the_floor_is_the_dims_own_share():
    variances = np.array([9.0, 4.0, 2.0, 1.0])
    np.testing.assert_allclose(noise_floor(variances, 10**9, 4, 0), variances / 16, rtol=1e-3)


@pytest.mark.parametrize(("variances", "n"), [(np.ones(5), 1), (np.zeros(5), 100), (np.ones(1), 0)])
def test_no_rows_or_no_variance_have_no_floor(variances, n):
    np.testing.assert_array_equal(noise_floor(variances, n, 3, 0), np.zeros(3))


def test_the_floor_of_a_large_layer_is_cheap_and_fixed_by_its_seed():
    variances = np.random.default_rng(5).lognormal(size=768)
    began = process_time()
    floor = noise_floor(variances, 10_000, 10, seed=3)
    assert process_time() - began < 2
    np.testing.assert_array_equal(noise_floor(variances, 10_000, 10, seed=3), floor)
    np.testing.assert_allclose(noise_floor(variances, 10_000, 10, seed=4), floor, rtol=0.06)
