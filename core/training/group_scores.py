"""Held-out scores told apart by kinds of tokens, such as by recording site."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.models.contrastive import contrastive_logits
from core.training.batches import Batch


@dataclass(frozen=True)
class GroupScores:
    """Sums over the masked tokens of each kind.

    Attributes:
        sums: (kinds + 1, 3) float64: contrastive loss, right answers, tokens. Row 0 holds tokens of no kind.
    """

    sums: Tensor

    @classmethod
    def none(cls, groups: int) -> "GroupScores":
        """No token yet, of so many kinds."""
        return cls(torch.zeros(groups + 1, 3, dtype=torch.float64))

    def add(self, batch: Batch, out: Any, temperature: float) -> None:
        """Count a batch's masked tokens in.

        Args:
            batch: With ``groups``.
            out: What the model made of it.
            temperature: Of the loss.
        """
        assert batch.groups is not None
        context, codes = out.projected_states, out.projected_quantized_states
        logits = contrastive_logits(context, codes, batch.mask, batch.negatives) / temperature
        target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        loss = functional.cross_entropy(logits, target, reduction="none")
        right = logits[:, 0] > logits[:, 1:].amax(dim=1)
        found = torch.stack([loss, right.to(loss.dtype), torch.ones_like(loss)], dim=1)
        self.sums.index_add_(0, batch.groups[batch.mask].cpu(), found.double().cpu())

    def rows(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Loss, accuracy and number of tokens by name; kinds without any masked token are left out."""
        return {
            name: {"loss": loss / n, "accuracy": right / n, "n": int(n)}
            for name, (loss, right, n) in zip(names, self.sums[1:].tolist(), strict=True)
            if n
        }
