"""Correlation of the sites' signals themselves, in the grids' band: what a learned similarity is held against."""

from collections.abc import Iterator, Sequence

import numpy as np

from core.sites.patches import Plan

_ORDER = 4


class BandSignal:
    """Band-passes a stream on its way and sums up products of channels over some spans.

    The filter is a Butterworth of order 4 that runs forward; its delay is the same in all channels.

    Attributes:
        n_seen: Samples in the spans so far.
    """

    def __init__(self, plan: Plan, spans: Sequence[tuple[int, int]], n_channels: int) -> None:
        from scipy.signal import butter, sosfilt_zi

        high = plan.patches.h_freq
        band = (plan.patches.l_freq, high) if high < plan.rate / 2 else plan.patches.l_freq
        kind = "bandpass" if high < plan.rate / 2 else "highpass"
        self._sos = butter(_ORDER, band, kind, fs=plan.rate, output="sos")
        self._steady = sosfilt_zi(self._sos)
        self._spans = spans
        self._state: np.ndarray | None = None
        self._sum = np.zeros(n_channels)
        self._products = np.zeros((n_channels, n_channels))
        self.n_seen = 0

    def watch(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass (channels, times) blocks on and take them in."""
        from scipy.signal import sosfilt

        start = 0
        for block in blocks:
            if self._state is None and block.shape[1]:
                # As if the first value had always been there, so that an offset does not ring.
                self._state = self._steady[:, None, :] * block[None, :, :1]
            if block.shape[1]:
                filtered, self._state = sosfilt(self._sos, block, axis=1, zi=self._state)
                self._add(filtered, start)
            start += block.shape[1]
            yield block

    def _add(self, block: np.ndarray, start: int) -> None:
        for first, stop in self._spans:
            part = block[:, max(first - start, 0) : max(stop - start, 0)]
            self._sum += part.sum(axis=1)
            self._products += part @ part.T
            self.n_seen += part.shape[1]

    def correlation(self) -> np.ndarray:
        """(channels, channels); NaN where nothing was seen or a channel does not vary in the band."""
        if not self.n_seen:
            return np.full_like(self._products, np.nan)
        mean = self._sum / self.n_seen
        covariance = self._products / self.n_seen - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(np.diag(covariance), 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            out: np.ndarray = np.clip(covariance / np.outer(scale, scale), -1, 1)
        return out


class Correlation:
    """Mean of several recordings' correlations, weighted by training samples; a site's channels are averaged."""

    def __init__(self, n_sites: int) -> None:
        self._sum = np.zeros((n_sites, n_sites))
        self._weight = np.zeros((n_sites, n_sites))

    def add(self, of_channels: np.ndarray, n_seen: int, groups: Sequence[Sequence[int]], ids: np.ndarray) -> None:
        """Take in a recording: (channels, channels), its samples, the channels of each site, and the sites' ids."""
        if not n_seen:
            return
        mean = np.zeros((len(groups), len(of_channels)))
        for row, group in enumerate(groups):
            mean[row, list(group)] = 1 / len(group)
        between = mean @ np.nan_to_num(of_channels) @ mean.T
        known = mean @ np.isfinite(of_channels).astype(float) @ mean.T > 1 - 1e-9
        place = np.ix_(ids - 1, ids - 1)
        self._sum[place] += np.where(known, between, 0.0) * n_seen
        self._weight[place] += known * n_seen

    def matrix(self) -> np.ndarray:
        """(sites, sites) float64; 1 on the diagonal, NaN where two sites never stood in one recording."""
        out = np.divide(self._sum, self._weight, out=np.full_like(self._sum, np.nan), where=self._weight > 0)
        np.fill_diagonal(out, np.where(np.isfinite(np.diag(out)), 1.0, np.nan))
        return out
