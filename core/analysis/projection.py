"""Project the frames of an embedding onto a few axes."""

from dataclasses import dataclass

import numpy as np

MOST_FITTED = 20_000
"""Frames that a PCA is fitted on at most: 0.2 s at 768 dims; more frames hardly move the axes."""

MOST_SHOWN = 4_000
"""Points of a path that a browser draws at most: SVG stays fluid, and needs no WebGL."""


@dataclass(frozen=True)
class Projection:
    """Frames as points on principal axes.

    Attributes:
        points: (n_shown, n_components) float32; axes that do not exist (few frames, few dims) are zero.
        explained: (n_components,) float64, the share of variance that each axis explains, within [0, 1].
        frames: (n_shown,) int64, numbers of the frames shown, ascending.
        n_frames: Frames of the whole recording.
        n_fitted: Frames that the axes were fitted on.
    """

    points: np.ndarray
    explained: np.ndarray
    frames: np.ndarray
    n_frames: int
    n_fitted: int


def evenly(n: int, most: int) -> np.ndarray:
    """Return at most ``most`` of the numbers 0..n-1, evenly spread, both ends among them: int64, ascending, none twice.

    >>> evenly(10, 4)
    array([0, 3, 6, 9])
    """
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.int64)


def pca_path(
    values: np.ndarray, n_components: int = 3, most_fitted: int = MOST_FITTED, most_shown: int = MOST_SHOWN
) -> Projection:
    """Fit a PCA on the frames of one layer and project the frames to show.

    Args:
        values: (n_frames, dim), at least one frame; a memory map is read only at the frames that are needed.
        n_components: Axes wanted.
        most_fitted: Frames to fit on at most, evenly spread.
        most_shown: Frames to project at most, evenly spread.
    """
    n_frames, dim = values.shape
    fitted, shown = evenly(n_frames, most_fitted), evenly(n_frames, most_shown)
    mean, axes, explained = principal_axes(values[fitted], min(n_components, len(fitted) - 1, dim))
    missing = n_components - len(explained)
    points = (np.asarray(values[shown], dtype=np.float64) - mean) @ axes
    return Projection(
        points=np.pad(points, ((0, 0), (0, missing))).astype(np.float32),
        explained=np.pad(explained, (0, missing)),
        frames=shown,
        n_frames=n_frames,
        n_fitted=len(fitted),
    )


def principal_axes(sample: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the directions of largest variance.

    The few axes of the (dim, dim) covariance come from Lanczos iterations: exact, and several times sooner than a whole
    decomposition, at any number of frames. The largest entry of each axis is positive, so that a figure drawn again is
    the same figure.

    Args:
        sample: (n, dim).
        n_axes: Axes wanted, at most min(n - 1, dim).

    Returns:
        The mean (dim,), the axes (dim, n_axes) and the share of variance that each explains (n_axes,); zeros where
        nothing varies.
    """
    from scipy.sparse.linalg import eigsh

    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean
    dim, total = len(mean), float(np.square(centred).sum())
    # Rounding leaves about 1e-16 of the squared values where every frame is the same.
    if n_axes < 1 or total <= 1e-14 * float(np.square(mean).sum()) * len(sample):
        return mean, np.zeros((dim, max(0, n_axes))), np.zeros(max(0, n_axes))
    covariance = centred.T @ centred
    if n_axes < dim / 4:
        variances, axes = eigsh(covariance, n_axes, v0=np.random.default_rng(0).normal(size=dim))
    else:
        variances, axes = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:n_axes]
    axes = axes[:, order]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n_axes)])
    return mean, axes, np.clip(variances[order], 0.0, None) / total
