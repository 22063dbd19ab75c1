"""What a similarity of layers and their axes need of all rows used, summed block by block."""

from collections.abc import Sequence

import numpy as np

from core.analysis.moments import CrossMoments
from core.analysis.pairs import folds
from core.analysis.similarity import CosineSums, cka_matrix, pwcca_matrix


class SimilaritySums:
    """What a similarity and the axes need of all rows used, block by block.

    Args:
        kind: ``cka``, ``cosine`` or ``pwcca``.
        dims: Dims of each column.
        pairs: Columns to compare; None for each with each, empty where only their axes are wanted.
        counts: Rows of each recording.
    """

    def __init__(
        self, kind: str, dims: Sequence[int], pairs: Sequence[tuple[int, int]] | None, counts: np.ndarray
    ) -> None:
        held_out = kind == "pwcca"
        recording = np.repeat(np.arange(len(counts)), counts)
        self.folds = folds(recording) if held_out else np.zeros(len(recording), dtype=np.int8)
        self.cross = CrossMoments(dims, () if kind == "cosine" else pairs, n_folds=2 if held_out else 1)
        self.cosine = CosineSums(dims) if kind == "cosine" and pairs != () else None
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
