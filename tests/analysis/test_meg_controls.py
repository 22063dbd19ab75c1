import numpy as np
import pytest
from scipy.linalg import logm

from core.analysis.meg_controls import BANDS, TangentSpace, band_power, covariance, tangent_rows


def test_a_rhythm_is_in_its_band():
    t = np.arange(500) / 250
    waves = np.stack([np.sin(2 * np.pi * frequency * t) for frequency in (2.5, 6.0, 10.0, 20.0, 37.0)])
    power = band_power(waves + 1e-3 * np.random.default_rng(0).normal(size=waves.shape), 250).reshape(5, len(BANDS))
    assert power.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    louder = band_power(3 * waves, 250).reshape(5, -1)
    np.testing.assert_allclose((louder - band_power(waves, 250).reshape(5, -1)), np.log(9), atol=1e-6)


def test_bands_beyond_the_rate_are_left_out_and_short_or_silent_windows_have_numbers():
    assert band_power(np.random.default_rng(0).normal(size=(2, 100)), 50).shape == (8,)
    assert np.isfinite(band_power(np.random.default_rng(0).normal(size=(3, 20)), 250)).all()
    assert np.isfinite(band_power(np.zeros((3, 500)), 250)).all()
    half = np.random.default_rng(0).normal(size=(2, 500))
    half[0] = 0
    assert np.isfinite(band_power(half, 250)).all()


def made_covariances(n=30, channels=6, seed=0, times=400):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels))
    return np.stack([covariance(mixing @ rng.normal(size=(channels, times))) for _ in range(n)])


def test_covariance_is_numpys():
    window = np.random.default_rng(0).normal(size=(4, 50)) + 3
    np.testing.assert_allclose(covariance(window), np.cov(window, bias=True), rtol=1e-5)


def test_the_tangent_space_is_that_of_the_formula():
    """log(G^-1/2 C G^-1/2) with off-diagonal entries times sqrt 2, its mean over the fitted examples zero."""
    covariances = made_covariances().astype(np.float64)
    space = TangentSpace(6).fit(covariances)
    rows = space.transform(covariances)
    assert rows.shape == (30, 21)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
    small = space._shrunk(covariances)
    values, axes = np.linalg.eigh(space.riemann.reference_)
    root = axes @ np.diag(values**-0.5) @ axes.T
    expected = logm(root @ small[3] @ root)
    scaled = expected[np.triu_indices(6)] * np.where(np.eye(6, dtype=bool), 1, np.sqrt(2))[np.triu_indices(6)]
    np.testing.assert_allclose(np.sort(rows[3]), np.sort(scaled), atol=1e-6)


def test_windows_of_fewer_samples_than_channels_have_vectors():
    covariances = made_covariances(n=12, channels=60, times=20)
    rows = TangentSpace(10).fit(covariances).transform(covariances)
    assert rows.shape == (12, 55) and np.isfinite(rows).all()


def test_only_training_examples_are_fitted_on():
    covariances = made_covariances(n=20)
    train = np.arange(10)
    changed = covariances.copy()
    changed[10:] *= 100
    changed[15] = 0
    before, after = tangent_rows(covariances, train), tangent_rows(changed, train)
    np.testing.assert_array_equal(before[train], after[train])
    assert not np.allclose(before[10:], after[10:])
    assert np.isfinite(after).all()


@pytest.mark.parametrize("zero", [0, 5])
def test_a_channel_of_zeros_is_on_no_axis(zero):
    covariances = made_covariances()
    covariances[:, zero] = covariances[:, :, zero] = 0
    assert TangentSpace(6).fit(covariances).transform(covariances).shape == (30, 15)
