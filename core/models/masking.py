"""Which frames are masked, and which other frames a masked one is told apart from.

The chance given is each frame's chance to *start* a span (wav2vec 2.0, Baevski et al. 2020, section 3.1), so that .065
with spans of 10 masks ``1 - (1 - .065) ** 10`` = 49 % of the frames. Functions of the same name elsewhere bound the
masked *fraction* instead, and at .065 leave most short windows without any mask. Here each row has that share of its
frames masked, the same number in each, so that no row lacks a mask and none weighs more than another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from core.errors import InputError

LEAST_MASKED = 2
"""A masked frame needs another one to be told apart from."""


class TokenRule(ABC):
    """How windows are masked, whatever their tokens are: all that training needs to know of it.

    Attributes:
        negatives: Other masked tokens that each masked one is told apart from, at most.
    """

    negatives: int

    @abstractmethod
    def count(self, n_tokens: int) -> int:
        """Tokens that are masked in each window of so many.

        Raises:
            InputError: Such windows cannot be masked so.
        """

    @abstractmethod
    def noise_columns(self, n_tokens: int) -> int:
        """Random numbers that one window's mask takes."""

    @abstractmethod
    def mask(self, noise: torch.Tensor, n_tokens: int) -> torch.Tensor:
        """(windows, tokens) bool, :meth:`count` of each row true, from (windows, :meth:`noise_columns`) in [0, 1)."""

    def draw(self, seeds: Sequence[int], n_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask and negatives of windows, each from its own seed and from nothing else.

        Args:
            seeds: One a window.
            n_tokens: Of each window.

        Returns:
            (batch, tokens) bool and (batch, tokens, K) int64 into batch * tokens, on the CPU.

        Raises:
            InputError: Windows too short for the mask.
        """
        columns = self.noise_columns(n_tokens)
        noise = mask_noise(seeds, columns + self.negative_noise_columns(n_tokens))
        mask = self.mask(noise[:, :columns], n_tokens)
        return mask, self.pick_negatives(mask, noise[:, columns:])

    def negative_noise_columns(self, n_tokens: int) -> int:
        """Random numbers that one window's negatives take."""
        return negative_noise_columns(self.count(n_tokens), self.negatives)

    def pick_negatives(self, mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(windows, tokens, K) int64 as of :func:`sample_negative_indices`, from noise in [0, 1)."""
        return sample_negative_indices(mask, self.negatives, noise=noise)


@dataclass(frozen=True)
class MaskRule(TokenRule):
    """Spans of frames.

    Attributes:
        prob: Each frame's chance to start a span.
        length: Frames of a span.
        negatives: Other masked frames that each is told apart from, at most.
    """

    prob: float = 0.065
    length: int = 10
    negatives: int = 100

    def count(self, n_tokens: int) -> int:
        """See :func:`masked_count`."""
        return masked_count(n_tokens, self.prob, self.length)

    def noise_columns(self, n_tokens: int) -> int:
        """See :func:`mask_noise_columns`."""
        return mask_noise_columns(n_tokens, self.length)

    def mask(self, noise: torch.Tensor, n_tokens: int) -> torch.Tensor:
        """See :func:`compute_mask_indices`."""
        return compute_mask_indices((len(noise), n_tokens), self.prob, self.length, noise=noise)


def masked_fraction(mask_prob: float, mask_length: int) -> float:
    """Expected share of masked frames where each frame starts a span with chance ``mask_prob``.

    >>> round(masked_fraction(0.065, 10), 3)
    0.489
    """
    return 1.0 - (1.0 - mask_prob) ** mask_length


def least_frames(mask_length: int) -> int:
    """Frames that a window needs: one more than a span, so that something is left to predict it from."""
    return mask_length + 1


def masked_count(n_frames: int, mask_prob: float = 0.065, mask_length: int = 10) -> int:
    """Frames that are masked in a window: the expected share to the nearest whole frame, at least 2, never all.

    Raises:
        InputError: the window is too short for a span, or chance or length are none.
    """
    if not 0.0 < mask_prob < 1.0 or mask_length < 1:
        raise InputError(
            f"Got a mask of chance {mask_prob:g} and {mask_length} frames; expected a chance between 0 and 1 and at "
            "least 1 frame. Use .065 and 10, as wav2vec 2.0 does."
        )
    least = max(least_frames(mask_length), LEAST_MASKED + 1)
    if n_frames < least:
        raise InputError(
            f"Got windows of {n_frames} frames for masks of {mask_length}; expected at least {least} frames. "
            "Use longer windows or a smaller mask_time_length."
        )
    return min(max(round(masked_fraction(mask_prob, mask_length) * n_frames), LEAST_MASKED), n_frames - 1)


def compute_mask_indices(
    shape: tuple[int, int],
    mask_prob: float = 0.065,
    mask_length: int = 10,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mask spans of frames, the same number of frames in each row.

    Every possible span gets a random time of arrival; spans arrive until enough frames are covered, and of the last one
    only as much counts as is needed. Spans may reach over both ends, so that the ends are masked as often as the rest.

    Args:
        shape: (batch, frames).
        mask_prob: Each frame's chance to start a span.
        mask_length: Frames of a span.
        generator: Of ``device``; torch's own where it is None.
        device: Where to compute.
        noise: Uniform in [0, 1), (batch, :func:`mask_noise_columns`), instead of a generator.

    Returns:
        (batch, frames) bool, :func:`masked_count` of each row true.

    Raises:
        InputError: windows too short for the mask; the message says how long they must be.
    """
    batch, n_frames = shape
    count = masked_count(n_frames, mask_prob, mask_length)
    columns = mask_noise_columns(n_frames, mask_length)
    noise = _uniform((batch, columns), generator, device, noise)
    # A frame is covered when the first of the mask_length spans over it arrives.
    covered_at = -functional.max_pool1d(-noise[:, 1:], mask_length, stride=1)
    # All frames of a span have one time: a stable sort takes the last span's from the left, so that they stay together.
    masked = covered_at.argsort(dim=1, stable=True)[:, :count]
    mask = torch.zeros(shape, dtype=torch.bool, device=noise.device).scatter_(1, masked, True)
    return torch.where(noise[:, :1] < 0.5, mask.flip(1), mask)


def sample_negative_indices(
    mask: torch.Tensor,
    num_negatives: int = 100,
    generator: torch.Generator | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """For each masked frame draw other masked frames of its own row, all different, each equally likely.

    Args:
        mask: (batch, frames) bool.
        num_negatives: How many; fewer, in all rows, where a row has not as many other masked frames.
        generator: Of the mask's device; torch's own where it is None.
        noise: Uniform in [0, 1), (batch, :func:`negative_noise_columns`), instead of a generator.

    Returns:
        (batch, frames, K) int64, into the flattened (batch * frames) axis; K = min(num_negatives, masked - 1). Frames
        that are not masked get their row's first frame: valid to look up, and of no account.

    Raises:
        InputError: a row with fewer than two masked frames.
    """
    counts = mask.sum(dim=1)
    least, most = (int(value) for value in torch.stack([counts.min(), counts.max()]))
    if least < LEAST_MASKED or num_negatives < 1:
        raise InputError(
            f"Got a row with {least} masked frames and {num_negatives} negatives to draw; expected at least "
            f"{LEAST_MASKED} and 1. Use longer windows or a larger mask."
        )
    chosen = min(num_negatives, least - 1)
    if least == most == chosen + 1:
        picks = _all_others(most, mask.device).expand(len(mask), -1, -1)
    else:
        drawn = _uniform((len(mask), most * most), generator, mask.device, noise)[:, : most * most]
        picks = _some_others(drawn.reshape(len(mask), most, most), counts, chosen)
    return _in_place(mask, counts, picks)


def _in_place(mask: torch.Tensor, counts: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
    """Turn picks (batch, most, K), numbers of masked frames in their row, into indices (batch, frames, K)."""
    (batch, n_frames), (_, most, chosen) = mask.shape, picks.shape
    masked_first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    row_start = torch.arange(0, batch * n_frames, n_frames, device=mask.device)[:, None]
    indices = (masked_first + row_start)[:, None].expand(-1, most, -1).gather(2, picks)
    negatives = row_start[..., None].expand(-1, n_frames, chosen).contiguous()
    negatives[mask] = indices[torch.arange(most, device=mask.device) < counts[:, None]]
    return negatives


def _all_others(count: int, device: torch.device) -> torch.Tensor:
    """(count, count - 1): row i holds 0 to count - 1 without i."""
    others = torch.arange(count - 1, device=device).expand(count, -1)
    return others + (others >= torch.arange(count, device=device)[:, None])


def _some_others(noise: torch.Tensor, counts: torch.Tensor, chosen: int) -> torch.Tensor:
    """(batch, most, chosen): the masked frames with the smallest noise, not oneself and none beyond a row's count."""
    most = noise.shape[1]
    beyond = torch.arange(most, device=noise.device) >= counts[:, None]
    oneself = torch.eye(most, dtype=torch.bool, device=noise.device)
    return noise.masked_fill(beyond[:, None] | oneself, torch.inf).topk(chosen, dim=2, largest=False).indices


def _uniform(
    shape: tuple[int, int],
    generator: torch.Generator | None,
    device: torch.device | str | None,
    noise: torch.Tensor | None,
) -> torch.Tensor:
    if noise is None:
        return torch.rand(shape, generator=generator, device=device)
    if noise.shape[0] != shape[0] or noise.shape[1] < shape[1]:
        raise ValueError(f"Got noise of shape {tuple(noise.shape)}; expected {shape}.")
    return noise if device is None else noise.to(device)


def mask_noise_columns(n_frames: int, mask_length: int) -> int:
    """Numbers a row of :func:`compute_mask_indices` takes: a side, and one for each place where a span can start."""
    return 1 + n_frames + mask_length - 1


def negative_noise_columns(count: int, num_negatives: int) -> int:
    """Numbers a row of :func:`sample_negative_indices` takes; none where all other masked frames are taken anyway."""
    return count * count if num_negatives < count - 1 else 0


def mask_noise(seeds: Sequence[int], n: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), (rows, n) float32 on the CPU; a row depends on its seed and on nothing else.

    So a window's mask does not depend on which others share its batch, its process or its micro-batch.
    """
    rows = [np.random.Generator(np.random.Philox(seed)).random(n, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))
