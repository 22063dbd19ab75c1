"""What a probe finds in MEG without any network: the power of bands, and covariances in their tangent space.

A pre-trained model is worth its training where it is better than these. They see the same prepared windows as the
model does, and whatever they fit (axes, mean covariance) is fitted on training examples only.
"""

from collections.abc import Sequence

import numpy as np

from core.analysis.bands import BANDS

COMPONENTS = 40
"""Axes that covariances are taken on: windows of a few seconds tell no more of 306 channels."""

SHRINKAGE = 0.05
"""Share of a covariance that is replaced by its mean variance, so that a logarithm can be taken of it."""

SILENT = 1e-12
"""Power below this share of the mean is none: a channel that is zero has no logarithm."""


def band_power(window: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Log power of each channel in each band that lies below half of the sampling rate.

    Args:
        window: (channels, time), one example.
        sampling_rate: Hz.

    Returns:
        (channels * bands,) float64, channel by channel; power by the periodogram with a Hann window. A band between
        whose edges a short window has no frequency takes the one closest to its middle.
    """
    spectrum = np.fft.rfft(window * np.hanning(window.shape[1]), axis=1)
    power = np.abs(spectrum) ** 2
    frequencies = np.fft.rfftfreq(window.shape[1], 1 / sampling_rate)
    bands = [edges for edges in BANDS.values() if edges[0] < sampling_rate / 2]
    means = np.stack([power[:, _inside(frequencies, *edges)].mean(axis=1) for edges in bands], axis=1)
    return np.asarray(np.log(means + SILENT * power.mean() + np.finfo(float).tiny)).ravel()


def _inside(frequencies: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers of the frequencies of a band."""
    found = np.flatnonzero((frequencies >= low) & (frequencies < high))
    return found if len(found) else np.array([np.abs(frequencies - (low + high) / 2).argmin()])


def covariance(window: np.ndarray) -> np.ndarray:
    """Covariance of an example's channels, (channels, channels) float32, of a window (channels, time)."""
    centred = window - window.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / window.shape[1], dtype=np.float32)


class TangentSpace:
    """Covariances as vectors of the tangent space at their Riemannian mean (Barachant et al. 2012), by pyriemann.

    Channels are first put on the leading axes of the training examples' mean covariance, since windows of a few
    seconds leave most directions of 306 channels without a value, and covariances are shrunk towards a multiple of the
    unit matrix.

    Args:
        n_components: Axes to keep, fewer where channels are fewer.
    """

    def __init__(self, n_components: int = COMPONENTS) -> None:
        self.n_components = n_components

    def fit(self, covariances: np.ndarray) -> "TangentSpace":
        """Fit axes and mean on the training examples' covariances, (n, channels, channels)."""
        from pyriemann.tangentspace import TangentSpace as Riemann

        powers, axes = np.linalg.eigh(covariances.mean(axis=0, dtype=np.float64))
        there = powers > 1e-9 * max(float(powers[-1]), np.finfo(float).tiny)
        self.axes = axes[:, there][:, -self.n_components :]
        self.riemann = Riemann(metric="riemann").fit(self._shrunk(covariances))
        return self

    def transform(self, covariances: np.ndarray) -> np.ndarray:
        """Turn covariances (n, channels, channels) into vectors, (n, k (k + 1) / 2) float64 for k axes."""
        return np.asarray(self.riemann.transform(self._shrunk(covariances)))

    def _shrunk(self, covariances: np.ndarray) -> np.ndarray:
        small = np.array([self.axes.T @ one @ self.axes for one in covariances], dtype=np.float64)
        level = np.trace(small, axis1=1, axis2=2) / small.shape[1]
        level = np.maximum(level, np.finfo(np.float32).tiny)  # a window of zeros has a covariance too
        return (1 - SHRINKAGE) * small + SHRINKAGE * level[:, None, None] * np.eye(small.shape[1])


def tangent_rows(covariances: np.ndarray, train: Sequence[int] | np.ndarray) -> np.ndarray:
    """Vectors of all examples, (n, dim), from a tangent space that is fitted on the examples ``train`` alone."""
    return TangentSpace().fit(covariances[train]).transform(covariances)
