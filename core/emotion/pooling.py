"""From frames to one vector: over real frames only, in a batch with gradients, or block by block in constant memory.

Both ways give the same numbers. ``std`` divides by n - 1, as torch does and the document with it; a clip of a single
frame has a spread of 0. ``multi`` is mean, max and std side by side, ``mean_std`` is mean and std. ``attention`` weighs
frames by the softmax of the mean over their dims; it has no parameters. :class:`LearnedAttention` has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.analysis.moments import LayerMoments
from core.errors import InputError

if TYPE_CHECKING:
    Lengths = Sequence[int] | torch.Tensor | None

PARTS = {
    "mean": ("mean",),
    "max": ("max",),
    "std": ("std",),
    "mean_std": ("mean", "std"),
    "multi": ("mean", "max", "std"),
    "attention": ("attention",),
}
"""What each method puts side by side. ``learned`` is not among them: its numbers come from training."""


def parts_of(method: str) -> tuple[str, ...]:
    """The statistics that a method puts side by side.

    Raises:
        InputError: there is no such method, or it has to be trained.
    """
    if method == "learned":
        raise InputError("The pooling learned has weights of its own: use LearnedAttention, trained with a head.")
    if method not in PARTS:
        raise InputError(f"Got the pooling {method!r}; expected one of {', '.join(PARTS)}.")
    return PARTS[method]


def pool(embeddings: torch.Tensor, method: str = "mean", lengths: "Lengths" = None) -> torch.Tensor:
    """Pool a batch over time, each clip over its own frames and nothing else.

    Padding is cut off before anything is computed, so that whatever it holds, a clip in a padded batch gives the very
    bits that it gives alone.

    Args:
        embeddings: (batch, dim, frames).
        method: One of :data:`PARTS`.
        lengths: Real frames of each clip; None where all are.

    Returns:
        (batch, k * dim), with k statistics side by side.

    Raises:
        InputError: another rank, an unknown method, or lengths that do not fit.
    """
    return _each_clip(partial(_pool_clip, parts_of(method)), embeddings, lengths)


def _pool_clip(parts: tuple[str, ...], frames: torch.Tensor) -> torch.Tensor:
    return torch.cat([_STATISTICS[part](frames) for part in parts])


def _spread(frames: torch.Tensor) -> torch.Tensor:
    return frames.std(dim=-1, correction=min(1, frames.shape[-1] - 1))


def _attended(frames: torch.Tensor) -> torch.Tensor:
    return (frames * torch.softmax(frames.mean(dim=0), dim=-1)).sum(dim=-1)


# Of one clip, (dim, frames) to (dim,).
_STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda frames: frames.mean(dim=-1),
    "max": lambda frames: frames.amax(dim=-1),
    "std": _spread,
    "attention": _attended,
}


def _each_clip(
    statistic: Callable[[torch.Tensor], torch.Tensor], embeddings: torch.Tensor, lengths: "Lengths"
) -> torch.Tensor:
    """Apply a function of (dim, frames) to the real frames of each clip, laid out in memory as if it were alone."""
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise InputError(f"Got embeddings of shape {tuple(embeddings.shape)}; expected (batch, dim, frames), none 0.")
    counts = frame_counts(lengths, len(embeddings), embeddings.shape[-1])
    clips = zip(embeddings, counts, strict=True)
    return torch.stack([statistic(clip[:, :count].contiguous()) for clip, count in clips])


def frame_counts(lengths: "Lengths", batch: int, longest: int) -> list[int]:
    """Lengths as whole numbers, all of the longest where None is given.

    Raises:
        InputError: not one for each clip, or one that is not within 1 to the longest.
    """
    if lengths is None:
        return [longest] * batch
    listed = lengths.tolist() if isinstance(lengths, torch.Tensor) else list(lengths)
    if len(listed) != batch or not all(1 <= length <= longest and length == int(length) for length in listed):
        raise InputError(
            f"Got lengths {listed}; expected {batch} whole numbers from 1 to {longest}, one for each clip."
        )
    return [int(length) for length in listed]


class LearnedAttention(nn.Module):
    """Attention pooling with a query that is trained: frames weighted by the softmax of their products with it.

    It begins as the mean: a query of zeros gives all frames the same weight.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, embeddings: torch.Tensor, lengths: "Lengths" = None) -> torch.Tensor:
        """Pool (batch, dim, frames) to (batch, dim), each clip over its real frames; see :func:`pool`."""
        return _each_clip(self._clip, embeddings, lengths)

    def _clip(self, frames: torch.Tensor) -> torch.Tensor:
        return frames @ torch.softmax(self.query @ frames, dim=-1)


class Pool:
    """All poolings of one clip's layers, frame by frame as they come, in constant memory.

    Mean and spread are merged around the blocks' own means, in float64, so that a large constant offset costs no
    digits; attention keeps the largest score so far and rescales what came before.
    """

    def __init__(self) -> None:
        self._moments: LayerMoments | None = None
        self._max = self._peak = self._weight = self._weighted = np.zeros(0)

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return 0 if self._moments is None else self._moments.n

    def add(self, block: np.ndarray) -> None:
        """Take the next frames.

        Args:
            block: (n_layers, k, dim) floats; k may be 0.

        Raises:
            DataError: a value is NaN or infinite.
            InputError: another rank, or another number of layers or dims than before.
        """
        if block.ndim != 3 or (self._moments is not None and block[:, 0:0].shape != self._max[:, None][:, 0:0].shape):
            raise InputError(
                f"Got frames of shape {block.shape}; expected (n_layers, frames, dim), always of one size."
            )
        if not block.shape[1]:
            return
        if self._moments is None:
            layers, _, dim = block.shape
            self._moments = LayerMoments(range(layers), dim)
            self._max, self._weighted = np.full((layers, dim), -np.inf), np.zeros((layers, dim))
            self._peak, self._weight = np.full(layers, -np.inf), np.zeros(layers)
        self._moments.add(block)
        self._max = np.maximum(self._max, block.max(axis=1))
        self._attend(block)

    def _attend(self, block: np.ndarray) -> None:
        scores = block.mean(axis=2, dtype=np.float64)
        peak = np.maximum(self._peak, scores.max(axis=1))
        weights, shrink = np.exp(scores - peak[:, None]), np.exp(self._peak - peak)
        self._weight = self._weight * shrink + weights.sum(axis=1)
        self._weighted = self._weighted * shrink[:, None] + np.einsum("lt,ltd->ld", weights, block, dtype=np.float64)
        self._peak = peak

    def result(self, method: str) -> np.ndarray:
        """Pool what came so far: (n_layers, k * dim) float64, with k statistics side by side.

        Raises:
            InputError: an unknown method, or no frame came.
        """
        parts, moments = parts_of(method), self._moments
        if moments is None:
            raise InputError("There is no frame to pool. Use a longer clip.")
        values = {
            "mean": lambda: moments.mean,
            "max": lambda: self._max,
            "std": lambda: np.sqrt(np.maximum(moments.squares, 0) / max(1, moments.n - 1)),
            "attention": lambda: self._weighted / self._weight[:, None],
        }
        return np.concatenate([values[part]() for part in parts], axis=1)
