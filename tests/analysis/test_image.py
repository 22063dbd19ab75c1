"""The image of a layer: its averages and scores against scipy, its order against planted groups."""

import numpy as np
import pytest
from scipy.stats import zscore

from core.analysis import image
from core.analysis.image import frame_image, similar_together


def test_without_averaging_values_are_the_z_scores_of_each_dim():
    values = np.random.default_rng(0).normal(3, 2, size=(200, 10))
    shown = frame_image(values)
    order = [row[0] for row in shown.rows]
    np.testing.assert_allclose(shown.values, zscore(values, axis=0).T[order], atol=1e-5)


def test_columns_and_rows_are_means_of_what_they_cover():
    values = np.random.default_rng(1).normal(size=(1_003, 30))
    shown = frame_image(values, most_columns=50, most_rows=7)
    assert shown.values.shape == (7, 50)
    assert sorted(dim for row in shown.rows for dim in row) == list(range(30))
    scores = zscore(values, axis=0)
    for row, column in ((0, 0), (3, 17), (6, 49)):
        cell = scores[shown.starts[column] : shown.starts[column + 1], :][:, list(shown.rows[row])]
        assert shown.values[row, column] == pytest.approx(cell.mean(), abs=1e-5)
    assert shown.frames_a_column == pytest.approx(1_003 / 50)


def test_blocks_do_not_change_the_image(monkeypatch):
    values = np.random.default_rng(2).normal(size=(500, 12)).astype(np.float32)
    whole = frame_image(values, most_columns=33)
    monkeypatch.setattr(image, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(frame_image(values, most_columns=33).values, whole.values, atol=1e-5)


def test_a_dim_with_a_large_mean_keeps_its_small_variance():
    values = np.random.default_rng(3).normal(1e4, 1.0, size=(5_000, 3))
    np.testing.assert_allclose(frame_image(values, most_columns=5_000).values.std(axis=1), 1.0, rtol=1e-3)


def test_dims_that_move_together_become_neighbours():
    rng = np.random.default_rng(4)
    sources = rng.normal(size=(400, 3))
    group = rng.permutation(np.repeat([0, 1, 2], 8))
    values = sources[:, group] + 0.3 * rng.normal(size=(400, 24))
    ordered = group[similar_together(zscore(values, axis=0))]
    assert np.count_nonzero(np.diff(ordered)) == 2


def test_constant_dims_are_zero_and_the_scale_stays_usable():
    values = np.tile(np.linspace(-1, 5, 6, dtype=np.float32), (40, 1))
    shown = frame_image(values)
    assert not shown.values.any()
    assert shown.limit > 0


@pytest.mark.parametrize(("n", "dim"), [(1, 1), (1, 300), (2, 2), (5, 1)])
def test_smallest_layers_have_an_image(n, dim):
    shown = frame_image(np.random.default_rng(5).normal(size=(n, dim)))
    assert np.isfinite(shown.values).all()
    assert shown.values.shape == (min(dim, 256), n)


def test_the_scale_holds_all_but_one_cell_in_a_hundred():
    values = np.random.default_rng(6).standard_t(2, size=(1_000, 20))
    shown = frame_image(values)
    assert np.mean(np.abs(shown.values) > shown.limit) == pytest.approx(0.01, abs=0.002)
