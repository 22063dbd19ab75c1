"""What a similarity of layers and their axes need of all rows used, summed block by block."""

from collections.abc import Sequence

import numpy as np

from core.analysis.moments import CrossMoments
from core.analysis.similarity import CosineSums, cka_matrix, pwcca_matrix


class SimilaritySums:
    """What a similarity and the axes need of all rows used, block by block.

    Args:
        kind: ``cka``, ``cosine`` or ``pwcca``.
        dims: Dims of each column.
        pairs: Columns to compare; None for each with each.
        counts: Rows of each recording.
    """

    def __init__(
        self, kind: str, dims: Sequence[int], pairs: Sequence[tuple[int, int]] | None, counts: np.ndarray
    ) -> None:
        held_out = kind == "pwcca"
        self.folds = two_folds(counts) if held_out else np.zeros(int(counts.sum()), dtype=np.int8)
        self.cross = CrossMoments(dims, () if kind == "cosine" else pairs, n_folds=2 if held_out else 1)
        self.cosine = CosineSums(dims) if kind == "cosine" else None
        self._matrix = pwcca_matrix if held_out else cka_matrix

    def add(self, columns: Sequence[np.ndarray], rows: np.ndarray) -> None:
        """Take the next rows by their numbers: one array (k, dim) a column."""
        self.cross.add(columns, self.folds[rows])
        if self.cosine is not None:
            self.cosine.add(columns)

    def matrix(self, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> np.ndarray:
        """Similarity of some columns with others."""
        if self.cosine is not None:
            return self.cosine.matrix(rows, columns)
        return self._matrix(self.cross, rows, columns)


def two_folds(counts: np.ndarray) -> np.ndarray:
    """Split rows in two for what is fitted on one half and measured on the other.

    Whole recordings, the longest first, each to the half that has fewer rows; a single recording in four stretches in
    turn, with 2 % of its rows left out between them, since neighbours are alike.

    Args:
        counts: Rows of each recording.

    Returns:
        (n_rows,) int8: 0, 1, or -1 for rows left out.
    """
    halves, sizes = np.zeros(len(counts), dtype=np.int8), [0, 0]
    for index in np.argsort(-counts, kind="stable"):
        halves[index] = int(sizes[1] < sizes[0])
        sizes[halves[index]] += int(counts[index])
    if all(sizes):
        return np.repeat(halves, counts)
    n = int(counts.sum())
    place = np.arange(n) * 4 / max(1, n)
    return np.where((place % 1 < 0.08) & (place >= 1), -1, place.astype(np.int64) % 2).astype(np.int8)
