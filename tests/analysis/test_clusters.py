"""Planted groups are found exactly; matrices without borders are one cluster."""

import numpy as np
import pytest

from core.analysis.clusters import layer_clusters


def noisy(matrix, size, seed=0):
    noise = np.random.default_rng(seed).normal(size=matrix.shape) * size
    found = matrix + (noise + noise.T) / 2
    np.fill_diagonal(found, 1.0)
    return found


def apart(n):
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


@pytest.mark.parametrize("borders", [(5,), (2, 7), (2, 7, 10), (1, 12)])
@pytest.mark.parametrize("fading", [np.inf, 8.0])
def test_planted_groups_are_found(borders, fading):
    group = np.searchsorted(borders, np.arange(13), side="right")
    matrix = noisy(np.where(group[:, None] == group, 0.95, 0.5) * np.exp(-apart(13) / fading), 0.02)
    expected = tuple(tuple(np.flatnonzero(group == number).tolist()) for number in range(len(borders) + 1))
    assert layer_clusters(matrix) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [7, 13, 25])
def test_what_has_no_borders_is_one_cluster(n, seed):
    everything = (tuple(range(n)),)
    assert layer_clusters(noisy(np.full((n, n), 0.7), 0.05, seed)) == everything
    assert layer_clusters(noisy(np.exp(-apart(n) / 5), 0.02, seed)) == everything


def test_layer_numbers_are_kept_and_few_layers_are_one_cluster():
    assert layer_clusters(np.eye(2), (0, 12)) == ((0, 12),)
    assert layer_clusters(np.ones((1, 1))) == ((0,),)
    blocks = np.kron(np.eye(2), np.full((3, 3), 0.8)) + 0.1
    assert layer_clusters(blocks, (0, 2, 4, 6, 8, 10)) == ((0, 2, 4), (6, 8, 10))
