"""Mutual information: closed forms, scikit-learn's figure, and the inflation that must not be reported."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from core.analysis.information import (
    cluster_centres,
    entropy,
    information_share,
    mutual_information,
    n_clusters,
    nearest,
    refined,
)


def shuffles(labels, count=20, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.permutation(labels) for _ in range(count)]


def test_entropy_and_information_have_their_closed_forms():
    labels = np.repeat(np.arange(8), 50)
    assert entropy(labels) == pytest.approx(np.log(8))
    assert mutual_information(labels, labels) == pytest.approx(np.log(8))
    assert mutual_information(labels, labels // 2) == pytest.approx(np.log(4))
    assert mutual_information(labels, np.tile(np.arange(50), 8)) == pytest.approx(0, abs=1e-12)


def test_information_equals_scikit_learns():
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 9, 500), rng.integers(0, 30, 500)
    assert mutual_information(labels, found) == pytest.approx(mutual_info_score(labels, found))


@pytest.mark.parametrize("finer", [1, 5])
def test_clusters_that_determine_the_labels_know_all(finer):
    rng = np.random.default_rng(0)
    found = rng.integers(0, 10 * finer, 2_000)
    labels = found // finer
    share = information_share(labels, found, shuffles(labels))
    assert share.value == pytest.approx(1.0)


@pytest.mark.parametrize("k", [10, 100, 500])
def test_independent_clusters_know_nothing_however_many_they_are(k):
    rng = np.random.default_rng(k)
    labels, found = rng.integers(0, 40, 2_500), rng.integers(0, k, 2_500)
    share = information_share(labels, found, shuffles(labels))
    assert abs(share.value) < 0.02
    assert abs(share.shuffled) < 0.02
    plain = mutual_information(labels, found) / entropy(labels)
    assert share.inflation == pytest.approx(plain, abs=0.02)
    if k >= 100:
        assert plain > 0.15  # what a figure without the correction would have claimed


def test_half_known_lies_between():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 16, 4_000)
    found = np.where(rng.random(4_000) < 0.5, labels, rng.integers(0, 16, 4_000))
    share = information_share(labels, found, shuffles(labels))
    rows = np.full((16, 16), 0.5 / 16) + 0.5 * np.eye(16)
    truth = 1 + (rows[0] * np.log(rows[0])).sum() / np.log(16)
    assert share.value == pytest.approx(truth, abs=0.03)


def test_clusters_find_planted_ones_on_rows_they_were_not_fitted_on():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 600)
    features = 20 * np.eye(5, 8)[truth] + rng.standard_normal((600, 8))
    centres = cluster_centres(features[:300], 5, seed=0)
    found = nearest(centres, features[300:])
    assert mutual_info_score(found, truth[300:]) == pytest.approx(entropy(truth[300:]), rel=0.35)
    np.testing.assert_array_equal(centres, cluster_centres(features[:300], 5, seed=0))
    distances = np.square(features[300:, None] - centres).sum(axis=2)
    np.testing.assert_array_equal(found, distances.argmin(axis=1))


def test_centres_are_refined_by_lloyds_steps():
    from sklearn.cluster import KMeans

    rows = np.random.default_rng(0).standard_normal((400, 3))
    stock = KMeans(6, init=rows[:6], n_init=1, max_iter=300, tol=0).fit(rows)
    np.testing.assert_allclose(refined(rows[:6], rows, 300), stock.cluster_centers_, atol=1e-6)
    far = np.full((1, 3), 99.0)
    np.testing.assert_array_equal(refined(np.concatenate([rows[:2], far]), rows)[2], far[0])  # nearest to no row


def test_the_number_of_clusters_follows_the_rows():
    assert n_clusters(2_500, 40) == 100
    assert n_clusters(100_000, 40) == 500
    assert n_clusters(500, 40) == 40
    assert n_clusters(50, 40) == 25
    assert n_clusters(2, 40) == 2
