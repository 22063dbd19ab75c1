"""Turn the frames of one layer into an image for the screen: rows of dims, columns of time."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BLOCK_FRAMES = 4_096
"""Frames read from the memory map at a time: 16 MB at 1,024 dims."""


@dataclass(frozen=True)
class FrameImage:
    """A layer as an image, each dim in units of its own standard deviation over the recording.

    Attributes:
        values: (n_rows, n_columns) float32, z-scores; each is the mean over the dims and frames of its cell.
        rows: For each row, the dims averaged in it; dims that move together lie together.
        starts: (n_columns + 1,) int64; column c averages frames starts[c]..starts[c + 1] - 1.
        limit: The colour scale runs from -limit to limit; 99 % of all cells lie inside.
    """

    values: np.ndarray
    rows: tuple[tuple[int, ...], ...]
    starts: np.ndarray
    limit: float

    @property
    def frames_a_column(self) -> float:
        """Frames that a column averages, on the mean."""
        return self.starts[-1] / (len(self.starts) - 1)


@dataclass(frozen=True)
class _Pooled:
    """Column means with each dim's mean and standard deviation over all frames; (n_columns, dim), (dim,), (dim,)."""

    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def frame_image(values: np.ndarray, most_columns: int = 1_000, most_rows: int = 256) -> FrameImage:
    """Average, normalise and order one layer for display.

    Args:
        values: (n_frames, dim), at least one frame; read in blocks, so that a memory map stays one.
        most_columns: Columns at most; runs of frames are averaged beyond it.
        most_rows: Rows at most; neighbours in the order of dims are averaged beyond it.
    """
    n_frames, dim = values.shape
    starts = np.linspace(0, n_frames, min(n_frames, most_columns) + 1).round().astype(np.int64)
    pooled = _pool(values, starts)
    scored = (pooled.columns - pooled.mean) / np.where(pooled.std > 0, pooled.std, 1.0)
    order = similar_together(scored)
    bounds = np.linspace(0, dim, min(dim, most_rows) + 1).round().astype(np.int64)
    image = np.add.reduceat(scored[:, order], bounds[:-1], axis=1) / np.diff(bounds)
    rows = tuple(tuple(order[a:b].tolist()) for a, b in pairwise(bounds))
    limit = float(np.percentile(np.abs(image), 99)) or 1.0
    return FrameImage(np.ascontiguousarray(image.T, dtype=np.float32), rows, starts, limit)


def _pool(values: np.ndarray, starts: np.ndarray) -> _Pooled:
    """Average the frames of each column and take each dim's moments, in one pass over blocks (float64)."""
    n_frames, dim = values.shape
    sums, shift = np.zeros((len(starts) - 1, dim)), np.asarray(values[0], dtype=np.float64)
    squares = np.zeros(dim)
    for begin in range(0, n_frames, BLOCK_FRAMES):
        # Shifted by the first frame: the difference of two large squares would lose a small variance.
        block = np.asarray(values[begin : begin + BLOCK_FRAMES], dtype=np.float64) - shift
        squares += (block**2).sum(axis=0)
        column = np.searchsorted(starts, np.arange(begin, begin + len(block)), side="right") - 1
        firsts = np.flatnonzero(np.diff(column, prepend=-1))
        sums[column[firsts]] += np.add.reduceat(block, firsts, axis=0)
    mean = sums.sum(axis=0) / n_frames
    std = np.sqrt(np.maximum(squares / n_frames - mean**2, 0.0))
    # Rounding leaves a dim that never moves with a spread near 1e-9 of its values; that is noise, not signal.
    std[std < 1e-7 * np.abs(mean + shift)] = 0.0
    return _Pooled(sums / np.diff(starts)[:, None] + shift, mean + shift, std)


def similar_together(scored: np.ndarray) -> np.ndarray:
    """Order dims so that those which rise and fall together are neighbours.

    Leaves of an average-linkage tree on the distance 1 - r between dims.

    Args:
        scored: (n_columns, dim), z-scored values.

    Returns:
        (dim,) int64, a permutation of the dims.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    dim = scored.shape[1]
    if dim < 3:
        return np.arange(dim)
    spread = scored.std(axis=0)
    unit = (scored - scored.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    distance = np.clip(1.0 - unit.T @ unit / len(unit), 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    return leaves_list(linkage(squareform(distance, checks=False), "average")).astype(np.int64)
