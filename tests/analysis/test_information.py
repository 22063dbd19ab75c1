"""Mutual information: closed forms, scikit-learn's figure, and the inflation that must not be reported."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from core.analysis.information import (
    clusters,
    entropy,
    information_share,
    jackknife_variance,
    mutual_information,
    n_clusters,
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
    share = information_share(labels, found, shuffles(labels), np.arange(2_000) % 10)
    assert share.value == pytest.approx(1.0)
    assert share.variance == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("k", [10, 100, 500])
def test_independent_clusters_know_nothing_however_many_they_are(k):
    rng = np.random.default_rng(k)
    labels, found = rng.integers(0, 40, 2_500), rng.integers(0, k, 2_500)
    share = information_share(labels, found, shuffles(labels), np.arange(2_500) % 10)
    assert abs(share.value) < 0.02
    assert abs(share.shuffled) < 0.02
    assert abs(share.value) < 4 * np.sqrt(share.variance) + 0.01
    plain = mutual_information(labels, found) / entropy(labels)
    assert share.inflation == pytest.approx(plain, abs=0.02)
    if k >= 100:
        assert plain > 0.15  # what a figure without the correction would have claimed


def test_half_known_lies_between():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 16, 4_000)
    found = np.where(rng.random(4_000) < 0.5, labels, rng.integers(0, 16, 4_000))
    share = information_share(labels, found, shuffles(labels), np.arange(4_000) % 8)
    rows = np.full((16, 16), 0.5 / 16) + 0.5 * np.eye(16)
    truth = 1 + (rows[0] * np.log(rows[0])).sum() / np.log(16)
    assert share.value == pytest.approx(truth, abs=0.03)
    assert abs(share.value - truth) < 4 * np.sqrt(share.variance)


def test_clusters_find_planted_ones_on_rows_they_were_not_fitted_on():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 600)
    features = 20 * np.eye(5, 8)[truth] + rng.standard_normal((600, 8))
    found = clusters(features, np.arange(300), np.arange(300, 600), 5, seed=0)
    assert mutual_info_score(found, truth[300:]) == pytest.approx(entropy(truth[300:]), rel=0.35)
    again = clusters(features, np.arange(300), np.arange(300, 600), 5, seed=0)
    np.testing.assert_array_equal(found, again)


def test_the_number_of_clusters_follows_the_rows():
    assert n_clusters(2_500, 40) == 100
    assert n_clusters(100_000, 40) == 500
    assert n_clusters(500, 40) == 40
    assert n_clusters(50, 40) == 25
    assert n_clusters(2, 40) == 2


def test_the_jackknife_of_a_mean_is_the_standard_error():
    values = np.random.default_rng(0).standard_normal(12)
    variance = jackknife_variance(lambda rows: float(values[rows].mean()), np.arange(12))
    assert variance == pytest.approx(values.var(ddof=1) / 12)
    assert jackknife_variance(lambda rows: 1.0, np.zeros(12)) is None
    assert jackknife_variance(lambda rows: float(len(rows)), np.arange(90)) is not None
