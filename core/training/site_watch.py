"""What is watched while sites are learned: the held-out scores of each, and how alike they have become."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from core.analysis.sites import site_similarity_matrix
from core.embed.writers import replace_file
from core.training.state import append_metrics, drop_later_metrics

if TYPE_CHECKING:
    from core.training.group_scores import GroupScores

LINES = "sites.jsonl"
"""In the run's folder: a line for each evaluation, ``{"step", "split", "loss", "accuracy", "n"}`` by site."""

SNAPSHOT = "similarity.npz"
"""In the run's folder: ``step``, ``names``, and ``similarity`` (sites, sites) float16 of the last evaluation."""


@dataclass(frozen=True)
class SiteWatch:
    """Writes both files at each evaluation.

    Attributes:
        folder: Of the run.
        names: Of the sites.
    """

    folder: Path
    names: Sequence[str]

    def __call__(self, model: nn.Module, step: int, scores: "GroupScores") -> None:
        """Append a line and replace the snapshot.

        Raises:
            OutputError: The folder cannot be written.
        """
        rows = scores.rows(self.names)
        by_measure = {key: {name: row[key] for name, row in rows.items()} for key in ("loss", "accuracy", "n")}
        path = self.folder / LINES
        drop_later_metrics(path, step - 1)  # of a process that was killed after its last checkpoint
        append_metrics(path, {"step": step, "split": "eval", **by_measure})
        embeddings = site_embeddings(model, len(self.names))
        if embeddings is not None:
            alike = site_similarity_matrix(embeddings).astype(np.float16)
            content = npz_bytes(step=np.array(step), names=np.array(self.names), similarity=alike)
            replace_file(self.folder / SNAPSHOT, content)


def site_embeddings(model: nn.Module, n_sites: int) -> np.ndarray | None:
    """Learned vectors of sites 1 to ``n_sites``, (n_sites, dim) float32; None of a model that is not told its sites."""
    spatial = getattr(model, "spatial_embedding", None)
    if spatial is None:
        return None
    rows: np.ndarray = spatial.weight.detach()[1 : n_sites + 1].float().cpu().numpy().copy()
    return rows


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """Content of a compressed ``.npz`` of arrays by name; no objects."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()
