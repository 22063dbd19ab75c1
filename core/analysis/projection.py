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
    from sklearn.decomposition import PCA

    n_frames, dim = values.shape
    fitted, shown = evenly(n_frames, most_fitted), evenly(n_frames, most_shown)
    points = np.zeros((len(shown), n_components), dtype=np.float32)
    explained = np.zeros(n_components)
    n_axes = min(n_components, len(fitted) - 1, dim)
    if n_axes > 0:
        sample = np.asarray(values[fitted], dtype=np.float64)
        if sample.std() > 0:
            # Lanczos finds a few axes ten times sooner than a whole decomposition; it cannot find all there are.
            solver = "arpack" if n_axes < min(sample.shape) else "full"
            pca = PCA(n_axes, svd_solver=solver, random_state=0).fit(sample)
            points[:, :n_axes] = pca.transform(np.asarray(values[shown], dtype=np.float64))
            explained[:n_axes] = pca.explained_variance_ratio_
    return Projection(points, explained, shown, n_frames, len(fitted))
