"""Masked prediction of units: of hidden frames, an encoder is to say which cluster they are of.

After HuBERT (Hsu et al. 2021, https://arxiv.org/abs/2106.07447, section II-B): cosine similarity of the projected state
with a learned embedding of each unit, over a temperature of .1, and the cross entropy over masked frames only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import HubertModel

from core.models.masking import MaskRule, mask_noise
from core.training.distill import Batch, CropSampler
from core.training.loop import Step

TEMPERATURE = 0.1


@dataclass(frozen=True)
class UnitMask:
    """How frames are hidden; the paper's.

    Attributes:
        prob: Each frame's chance to start a span.
        length: Frames of a span.
        seed: Of all masks.
    """

    prob: float = 0.08
    length: int = 10
    seed: int = 0

    def of(self, update: int, shape: tuple[int, int]) -> Tensor:
        """(batch, frames) bool of one update, which decides it alone."""
        seeds = np.random.default_rng([self.seed, update]).integers(2**63, size=shape[0])
        rule = MaskRule(self.prob, self.length)
        return rule.mask(mask_noise([int(seed) for seed in seeds], rule.noise_columns(shape[1])), shape[1])


class UnitPredictor(nn.Module):
    """An encoder with what tells units from its last state; only the encoder is kept.

    Args:
        encoder: With a mask embedding.
        n_units: To tell apart.
        dim: In which states and units are compared.
    """

    def __init__(self, encoder: HubertModel, n_units: int, dim: int = 256) -> None:
        super().__init__()
        self.encoder = encoder
        self.project = nn.Linear(encoder.config.hidden_size, dim)
        self.units = nn.Parameter(torch.randn(n_units, dim))

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Map normalised audio (batch, time) and a mask (batch, frames) to logits (masked frames, units)."""
        states = self.encoder(audio, mask_time_indices=mask).last_hidden_state
        projected = functional.normalize(self.project(states[mask]).float(), dim=-1)
        return projected @ functional.normalize(self.units, dim=-1).T / TEMPERATURE


def unit_scores(logits: Tensor, units: Tensor) -> dict[str, Tensor]:
    """Cross entropy and accuracy; logits (masked, units), units (masked,)."""
    right = (logits.argmax(dim=-1) == units).float().mean()
    return {"loss": functional.cross_entropy(logits.float(), units), "accuracy": right}


def unit_step(sampler: CropSampler, mask: UnitMask, precision: torch.dtype = torch.bfloat16) -> Step:
    """Make the step of the training loop."""

    def step(model: nn.Module, update: int) -> dict[str, Tensor]:
        batch = sampler.batch(update)
        hidden = mask.of(update, (batch.targets.shape[0], batch.targets.shape[1]))
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = model(batch.audio, hidden)
        return unit_scores(logits, batch.targets[hidden].long())

    return step


@torch.inference_mode()
def unit_validation(model: nn.Module, batches: Sequence[Batch], mask: UnitMask) -> dict[str, float]:
    """Scores on fixed batches with fixed masks, float32; masked frames count alike.

    ``chance`` is the accuracy of always naming the unit that is most frequent there.
    """
    rows, named = [], []
    for number, batch in enumerate(batches):
        hidden = mask.of(number, (batch.targets.shape[0], batch.targets.shape[1]))
        named.append(batch.targets[hidden].long())
        scores = unit_scores(model(batch.audio, hidden), named[-1])
        rows.append([float(scores["loss"]), float(scores["accuracy"])])
    loss, accuracy = np.average(rows, axis=0, weights=[len(units) for units in named])
    every = torch.cat(named)
    return {"loss": float(loss), "accuracy": float(accuracy), "chance": float(every.bincount().max() / len(every))}
