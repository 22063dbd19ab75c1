"""Project the frames of an embedding onto a few axes, and say what noise alone would explain."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.findings import LayerProjection

MOST_FITTED = 20_000
"""Frames that a PCA is fitted on at most: 0.2 s at 768 dims; more frames hardly move the axes."""

MOST_SHOWN = 4_000
"""Points of a path that a browser draws at most: SVG stays fluid, and needs no WebGL."""

N_EXPLAINED = 10
"""Principal axes whose share of variance is told."""

N_DRAWN = 3
"""Principal axes that are drawn."""

NO_VARIANCE = 1e-14
"""Squared deviations against squared values below which all rows are the same: rounding leaves about 1e-16."""

FLOOR_COST = 4e8
"""Work of a noise floor, about 0.1 s: multiplications of the products of each draw, and the draw itself."""

DRAW_COST = 50
"""Multiplications that drawing one normal number takes as long as."""

FLOOR_DRAWS = (2, 200)
"""Least and most draws of a noise floor: where one is slow it is also large, and varies little."""


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
    if n_axes < 1 or total <= NO_VARIANCE * float(np.square(mean).sum()) * len(sample):
        return mean, np.zeros((dim, max(0, n_axes))), np.zeros(max(0, n_axes))
    covariance = centred.T @ centred
    if n_axes < dim / 4:
        variances, axes = eigsh(covariance, n_axes, v0=np.random.default_rng(0).normal(size=dim))
    else:
        variances, axes = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:n_axes]
    return mean, _upright(axes[:, order]), np.clip(variances[order], 0.0, None) / total


def _upright(axes: np.ndarray) -> np.ndarray:
    """Turn axes, (dim, n_axes), so that the largest entry of each is positive."""
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


def layer_projection(
    index: int, rows: np.ndarray, mean: np.ndarray, eigenvalues: np.ndarray, axes: np.ndarray, n_fitted: int
) -> LayerProjection:
    """Project the rows to draw onto the axes of a covariance that was taken apart before.

    Args:
        index: The layer's number.
        rows: (n, dim), the rows to draw.
        mean: (dim,), of the rows fitted on.
        eigenvalues: (dim,), of their covariance, descending.
        axes: (dim, dim), its eigenvectors, one a column.
        n_fitted: Rows fitted on.

    Returns:
        Points and shares of variance; each axis points where its largest entry is positive (see :func:`face_alike`),
        and the noise floor is drawn with a fixed seed, so that the same layer gives the same record.
    """
    dim, powers = len(mean), np.clip(eigenvalues, 0.0, None)
    total = float(powers.sum())
    exist = min(n_fitted - 1, dim) if total > NO_VARIANCE * float(np.square(mean).sum()) else 0
    drawn, told = min(N_DRAWN, exist), min(N_EXPLAINED, exist)
    points = (np.asarray(rows, dtype=np.float64) - mean) @ _upright(axes[:, :drawn])
    return LayerProjection(
        index=index,
        pca=np.pad(points, ((0, 0), (0, N_DRAWN - drawn))).astype(np.float32),
        explained=powers[:told] / (total or 1.0),
        noise_floor=noise_floor(np.square(axes) @ powers, n_fitted, told, seed=0),
        n_fitted=n_fitted,
    )


def face_alike(projections: Sequence[LayerProjection]) -> tuple[LayerProjection, ...]:
    """Point each axis of each layer the way it points in the layer before, so that a slider does not mirror points.

    Only signs change: the axes stay principal axes in the order of their variance. An axis is turned where its
    coordinates, over all rows, otherwise disagree with those of the same axis before.

    Args:
        projections: Layers of the same rows, in their order.
    """
    faced: list[LayerProjection] = []
    for layer in projections:
        agreement = (layer.pca * faced[-1].pca).sum(axis=0, dtype=np.float64) if faced else np.ones(N_DRAWN)
        faced.append(replace(layer, pca=layer.pca * np.where(agreement < 0, -1, 1).astype(np.float32)))
    return tuple(faced)


def noise_floor(variances: np.ndarray, n: int, n_axes: int, seed: int) -> np.ndarray:
    """Share of variance that principal axes explain where nothing is to be found.

    Parallel analysis (Horn 1965, Psychometrika 30:179) that keeps the variances of the dims: the expected share of each
    axis when the dims are independent and normal. The covariance of such rows is a Wishart matrix with n - 1 degrees of
    freedom, scaled; it is drawn by Bartlett's decomposition (1933), whose cost does not depend on n, and its largest
    eigenvalues come from Lanczos iterations. Averaged over as many draws as cost about 0.1 s: two at many rows and
    dims, where a share varies by 1 to 3 % of itself from draw to draw.

    Rows are taken as independent. Neighbouring frames are not, so noise as slow as speech explains more than this.

    Args:
        variances: (dim,), of each dim.
        n: Rows that the axes are fitted on.
        n_axes: Axes wanted.
        seed: Of the draws.

    Returns:
        (n_axes,) float64, descending; zero for axes that do not exist (few rows, few dims, no variance).
    """
    spread = np.sqrt(np.asarray(variances, dtype=np.float64))
    size = min(n - 1, int(np.count_nonzero(spread)))
    if size < 1:
        return np.zeros(n_axes)
    rng, kept = np.random.default_rng(seed), min(n_axes, size)
    n_draws = int(np.clip(FLOOR_COST / (len(spread) * size * (size + DRAW_COST)), *FLOOR_DRAWS))
    shares = [_noise_shares(spread[spread > 0], n - 1, kept, rng) for _ in range(n_draws)]
    return np.pad(np.mean(shares, axis=0), (0, n_axes - kept))


def _noise_shares(spread: np.ndarray, freedom: int, n_axes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw independent normal dims of these deviations, (dim,); return the shares of their axes, descending."""
    from scipy.sparse.linalg import eigsh

    factor = _wishart_factor(len(spread), freedom, rng) * spread[:, None]
    scatter = factor.T @ factor if freedom < len(spread) else factor @ factor.T
    if n_axes < len(scatter) / 4:
        # Shares vary by a hundredth and more from draw to draw: a tolerance of a thousandth is exact enough.
        start = rng.standard_normal(len(scatter))
        powers = eigsh(scatter, n_axes, v0=start, tol=1e-3, return_eigenvectors=False)
    else:
        powers = np.linalg.eigvalsh(scatter)
    return np.sort(powers)[::-1][:n_axes] / np.square(factor).sum()


def _wishart_factor(dim: int, freedom: int, rng: np.random.Generator) -> np.ndarray:
    """Draw F with F @ F.T from the standard Wishart distribution: (dim, dim), or (dim, freedom) if that is less."""
    if freedom < dim:
        return rng.standard_normal((dim, freedom))
    factor = np.tril(rng.standard_normal((dim, dim)), -1)
    np.fill_diagonal(factor, np.sqrt(rng.chisquare(freedom - np.arange(dim))))
    return factor
