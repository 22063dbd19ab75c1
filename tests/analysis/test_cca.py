"""CCA against scikit-learn's, and held out: noise is 0, an invertible map is 1, a planted correlation is found."""

import numpy as np
import pytest

from core.analysis.cca import (
    CcaSettings,
    JointMoments,
    axes_kept,
    fit_cca,
    held_out_correlations,
    mean_cca,
    pwcca,
)

EVERYTHING = CcaSettings(variance_kept=1.0, rows_per_axis=1.0)


def speechlike(n, dim, seed):
    """Rows whose spectrum falls as that of speech models does."""
    chance = np.random.default_rng(seed)
    return chance.normal(size=(n, dim)) * np.arange(1, dim + 1) ** -0.75


def halves(x, y):
    half = len(x) // 2
    return JointMoments.from_arrays(x[:half], y[:half]), JointMoments.from_arrays(x[half:], y[half:])


def test_in_sample_it_equals_scikit_learn():
    from sklearn.cross_decomposition import CCA

    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(200, 6)), chance.normal(size=(200, 4))
    y[:, :2] += x[:, :2] @ chance.normal(size=(2, 2))
    u, v = CCA(n_components=4, max_iter=5_000, tol=1e-8).fit_transform(x, y)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(4)]
    both = JointMoments.from_arrays(x, y)
    fit = fit_cca(both, EVERYTHING)
    np.testing.assert_allclose(fit.correlations, expected, atol=1e-5)
    np.testing.assert_allclose(held_out_correlations(fit, both), expected, atol=1e-5)


def test_weights_are_those_of_morcos_written_out():
    chance = np.random.default_rng(1)
    x = chance.normal(size=(300, 5)) * [5, 3, 2, 1, 1]
    y = x[:, :3] @ chance.normal(size=(3, 4)) + chance.normal(size=(300, 4))
    fit = fit_cca(JointMoments.from_arrays(x, y), EVERYTHING)
    centred = x - x.mean(axis=0)
    variates = centred @ fit.directions_x
    sizes = [sum(abs(variates[:, k] @ centred[:, dim]) for dim in range(5)) for k in range(4)]
    np.testing.assert_allclose(fit.weights_x, np.array(sizes) / sum(sizes), rtol=1e-10)
    np.testing.assert_allclose(variates.var(axis=0, ddof=1), 1.0, rtol=1e-10)


@pytest.mark.parametrize(("n", "dim"), [(200, 768), (1_000, 300), (5_000, 100), (200, 20)])
def test_noise_is_zero_and_an_invertible_map_is_one(n, dim):
    x, chance = speechlike(n, dim, 0), np.random.default_rng(1)
    turned = x @ np.linalg.qr(chance.normal(size=(dim, dim)))[0] * 7 + 3
    train, test = halves(x, chance.normal(size=(n, dim)))
    assert abs(pwcca(fit_cca(train), test)) < 0.05
    train, test = halves(x, turned)
    fit = fit_cca(train)
    assert pwcca(fit, test) > 0.999
    assert mean_cca(fit, test) > 0.999


def test_in_sample_noise_looks_like_a_finding():
    train, test = halves(np.random.default_rng(0).normal(size=(1_000, 100)), speechlike(1_000, 100, 1))
    fit = fit_cca(train)
    assert pwcca(fit, train) > 0.3
    assert abs(pwcca(fit, test)) < 0.03


def test_a_planted_correlation_is_found():
    chance = np.random.default_rng(3)
    shared = chance.normal(size=(20_000, 1))
    x = np.hstack([shared, chance.normal(size=(20_000, 5))])
    y = np.hstack([0.6 * shared + 0.8 * chance.normal(size=(20_000, 1)), chance.normal(size=(20_000, 5))])
    train, test = halves(x, y)
    correlations = held_out_correlations(fit_cca(train), test)
    assert correlations[0] == pytest.approx(0.6, abs=0.02)
    assert np.abs(correlations[1:]).max() < 0.05


@pytest.mark.parametrize("side", ["x", "y", "both"])
def test_a_side_that_does_not_vary_shares_nothing(side):
    x = np.random.default_rng(0).normal(size=(50, 4))
    train, test = halves(x, np.full((50, 3), 2.5))
    fit = fit_cca(train)
    assert pwcca(fit, test, side) == mean_cca(fit, test) == 0.0


def test_copied_dims_change_nothing():
    x, y = speechlike(600, 10, 0), speechlike(600, 10, 0) + 0.3 * speechlike(600, 10, 1)
    once, _ = halves(x, y)
    twice, _ = halves(np.hstack([x, x]), y)
    found = [fit_cca(train, EVERYTHING).correlations for train in (once, twice)]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_moments_of_parts_add_up():
    chance = np.random.default_rng(4)
    x, y = chance.normal(size=(70, 5)) + 1e4, chance.normal(size=(70, 3)) - 1e3
    whole = JointMoments.from_arrays(x, y)
    parts = JointMoments.from_arrays(x[:9], y[:9]) + JointMoments.from_arrays(x[9:], y[9:])
    assert parts.n == whole.n
    for name in ("mean_x", "mean_y", "xx", "yy", "xy"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-7)


def test_axes_are_capped_by_variance_rank_and_rows():
    values = np.array([8.0, 1.5, 0.5, 0.0])
    assert axes_kept(values, 1_000, CcaSettings(variance_kept=0.9)) == 2
    assert axes_kept(values, 1_000, CcaSettings(variance_kept=1.0)) == 3
    assert axes_kept(values, 11, CcaSettings(variance_kept=1.0, rows_per_axis=5)) == 2
    assert axes_kept(np.zeros(4), 11) == 0


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="same n"):
        JointMoments.from_arrays(np.zeros((3, 2)), np.zeros((4, 2)))
