"""The quantiser and the contrastive loss of wav2vec 2.0, for every model here that is pre-trained with them.

What is computed is what transformers' ``Wav2Vec2ForPreTraining`` computes, to the last bit of the loss and of every
gradient (a test; the values of a vector have to fill the processor's lanes: multiples of 32). Similarities are computed
for masked frames only, which are the only ones that count.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer
from transformers.utils.generic import ModelOutput

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CACHED = 1 << 18
"""Numbers that a core's own cache holds: 1 MB of float32."""

IGNORED = -100
"""Target of frames that do not count in a cross entropy, as torch has it."""


@dataclass
class ContrastiveOutput(ModelOutput):
    """Losses are sums over masked frames; divide by ``n_masked`` of the whole batch.

    Attributes:
        loss: ``contrastive_loss + weight * diversity_loss``; None without negatives, as are all up to ``chance``.
        contrastive_loss: Cross entropy of the true code among the negatives.
        diversity_loss: (codes - perplexity) / codes, times ``n_masked``.
        n_correct: Masked frames whose true code is nearer than every negative.
        chance: Share of right answers by guessing: mean of 1 / (1 + negatives that differ from the true code).
        codevector_perplexity: Codes in use, summed over the groups; at most groups x codes.
        n_masked: Masked frames.
        code_mass: (groups, codes) sum over masked frames of each code's probability, with gradient in training (one-hot
            counts in evaluation).
        projected_states: (batch, frames, dim) context, projected.
        projected_quantized_states: (batch, frames, dim) codes, projected.
        hidden_states: Every state of the transformer, if asked for.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    diversity_loss: torch.Tensor | None = None
    n_correct: torch.Tensor | None = None
    chance: torch.Tensor | None = None
    codevector_perplexity: torch.Tensor | None = None
    n_masked: torch.Tensor | None = None
    code_mass: torch.Tensor | None = None
    projected_states: torch.Tensor | None = None
    projected_quantized_states: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


def perplexity(mass: torch.Tensor, n: torch.Tensor | float) -> torch.Tensor:
    """Codes in use: the exponential of the entropy of a code's mean probability, summed over the groups.

    Args:
        mass: (groups, codes) sum of probabilities over ``n`` frames.
        n: Frames.

    Returns:
        A scalar between ``groups`` (one code each) and ``groups * codes`` (all alike).
    """
    mean = mass / n
    return torch.exp(-torch.sum(torch.xlogy(mean, mean), dim=-1)).sum()


def diversity_loss(mass: torch.Tensor, n: torch.Tensor | float) -> torch.Tensor:
    """The share of codes not in use, times the frames: ``n * (codes - perplexity(mass, n)) / codes``."""
    return (mass.numel() - perplexity(mass, n)) / mass.numel() * n


def diversity_gradient(mass_total: torch.Tensor, n_total: torch.Tensor | float) -> torch.Tensor:
    """What each micro-batch's code mass is multiplied with, so that their sum has the whole batch's gradient.

    The diversity loss D of a batch depends on the weights through the total mass ``M = sum_i M_i`` only, where i counts
    micro-batches and processes, and is not a sum over them. By the chain rule ``dD/dw = sum_i <dD/dM, dM_i/dw>``. With
    dD/dM held fixed, ``(gradient * M_i).sum()`` therefore has gradients that add up to D's, exactly. Written out, with
    ``p = M / n``, H the entropy of a group and G x V codes: ``dD/dM = exp(H) * (log p + 1) / (G * V)``.

    Args:
        mass_total: (groups, codes) of the whole batch.
        n_total: Masked frames of the whole batch.

    Returns:
        (groups, codes), without gradient. Codes of no mass at all get that of the smallest one there can be.
    """
    mean = (mass_total.detach() / n_total).clamp_min(torch.finfo(mass_total.dtype).tiny)
    log = mean.log()
    entropy = -(mean * log).sum(dim=-1, keepdim=True)
    return entropy.exp() * (log + 1) / mean.numel()


class Quantizer(Wav2Vec2GumbelVectorQuantizer):
    """transformers' quantiser, which also tells how much of each code the masked frames took."""

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise.

        Args:
            features: (batch, frames, channels).
            mask: (batch, frames) bool.

        Returns:
            Codes (batch, frames, codevector_dim), and the code mass (groups, codes).
        """
        batch, n_frames, _ = features.shape
        logits = self.weight_proj(features).view(batch * n_frames * self.num_groups, -1)
        chosen, soft = self._draw(logits) if self.training else self._take(logits)
        soft = soft.view(batch * n_frames, self.num_groups, -1)
        mass = torch.where(mask.flatten()[:, None, None], soft, torch.zeros_like(soft)).sum(dim=0)
        return self._look_up(chosen).view(batch, n_frames, -1), mass

    def _draw(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A code by its probability, differentiable (straight-through), and the probabilities."""
        drawn = functional.gumbel_softmax(logits.float(), tau=self.temperature, hard=True).type_as(logits)
        return drawn, torch.softmax(logits.float(), dim=-1)

    def _take(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The most probable code, twice."""
        taken = torch.zeros_like(logits).scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
        return taken, taken.float()

    def _look_up(self, chosen: torch.Tensor) -> torch.Tensor:
        """(frames, codevector_dim) of (frames * groups, codes) that are one-hot but for rounding."""
        chosen = chosen.view(-1, self.num_groups, self.num_vars)
        codes: torch.Tensor = _LookUp.apply(chosen, self.codevectors.view(self.num_groups, self.num_vars, -1))
        return codes.flatten(1)


class _LookUp(torch.autograd.Function):
    """``(chosen[..., None] * codebook).sum(-2)`` without a product of frames x codes x values.

    Forward there is one code a frame and group to multiply, the rest being zeros. Backward computes the same products
    and sums in parts that stay in the processor's cache, so that their bits are those of the whole. Frames that the
    loss does not look at have no gradient and are left out.
    """

    @staticmethod
    def forward(ctx: Any, chosen: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
        """(frames, groups, codes) and (groups, codes, values) to (frames, groups, values)."""
        ctx.save_for_backward(chosen, codebook)
        weight, index = chosen.max(dim=-1)
        return weight[..., None] * codebook[torch.arange(len(codebook), device=index.device), index]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of both inputs."""
        chosen, codebook = ctx.saved_tensors
        seen = gradient.flatten(1).any(dim=1).nonzero()[:, 0]
        for_chosen = torch.zeros_like(chosen)
        for frames in seen.split(_fitting(codebook)):
            for_chosen[frames] = (gradient[frames, :, None] * codebook).sum(-1).type_as(chosen)
        for_codebook = torch.empty_like(codebook)
        part = max(2, _fitting(gradient))
        for start in range(0, codebook.shape[1], part):
            codes = slice(start, start + part)
            for_codebook[:, codes] = (chosen[:, :, codes, None] * gradient[:, :, None]).sum(0)
        return for_chosen, for_codebook


def _fitting(item: torch.Tensor) -> int:
    """How many tensors of this size stay in a processor's cache; on other devices one kernel takes them all."""
    return max(1, CACHED // item.numel()) if item.device.type == "cpu" else sys.maxsize


class ContrastiveHead(nn.Module):
    """All that pre-training adds to a model: quantiser, projections, loss.

    Args:
        config: A wav2vec 2.0 config.
    """

    def __init__(self, config: "PreTrainedConfig") -> None:
        super().__init__()
        self.dropout_features = nn.Dropout(config.feat_quantizer_dropout)
        self.quantizer = Quantizer(config)
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        self.temperature = config.contrastive_logits_temperature
        self.diversity_weight = config.diversity_loss_weight

    def forward(
        self, context: torch.Tensor, features: torch.Tensor, mask: torch.Tensor, negatives: torch.Tensor | None
    ) -> ContrastiveOutput:
        """Compare context with codes.

        Args:
            context: (batch, frames, hidden_size), last hidden state.
            features: (batch, frames, channels), normalised features that no mask has touched.
            mask: (batch, frames) bool.
            negatives: (batch, frames, K) of :func:`core.models.masking.sample_negative_indices`; None for no loss.
        """
        projected = self.project_hid(context)
        codes, mass = self.quantizer(self.dropout_features(features), mask)
        quantized = self.project_q(codes.to(self.project_q.weight.dtype))
        n_masked = mask.sum()
        found = ContrastiveOutput(
            codevector_perplexity=perplexity(mass, n_masked),
            n_masked=n_masked,
            code_mass=mass,
            projected_states=projected,
            projected_quantized_states=quantized,
        )
        if negatives is not None:
            logits = contrastive_logits(projected, quantized, mask, negatives) / self.temperature
            _add_losses(
                found, summed_cross_entropy(logits, mask), diversity_loss(mass, n_masked), self.diversity_weight
            )
            _add_counts(found, logits.detach())
        return found


def _add_losses(found: ContrastiveOutput, contrast: torch.Tensor, spread: torch.Tensor, weight: float) -> None:
    found.contrastive_loss, found.diversity_loss = contrast, spread
    found.loss = contrast + weight * spread


def _add_counts(found: ContrastiveOutput, logits: torch.Tensor) -> None:
    others = logits[:, 1:]
    found.n_correct = (logits[:, 0] > others.amax(dim=1)).sum()
    found.chance = (1.0 / (1.0 + others.isfinite().sum(dim=1))).mean()


def contrastive_logits(
    context: torch.Tensor, quantized: torch.Tensor, mask: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """Cosine of each masked frame's context with its own code and with its negatives, in float32.

    Args:
        context: (batch, frames, dim).
        quantized: (batch, frames, dim).
        mask: (batch, frames) bool.
        negatives: (batch, frames, K) indices into batch * frames.

    Returns:
        (masked, 1 + K); a negative that is the same code as the true one is minus infinity.
    """
    true = quantized[mask]
    false = quantized.reshape(-1, quantized.shape[-1])[negatives[mask].view(-1)]
    false = false.view(len(true), -1, true.shape[-1]).permute(1, 0, 2)
    targets = torch.cat([true[None], false])
    cosines = torch.cosine_similarity(context[mask].float(), targets.float(), dim=-1)
    same = (targets.detach()[1:] == true.detach()).all(dim=-1)
    same = torch.cat([torch.zeros_like(same[:1]), same])
    return cosines.masked_fill(same, -torch.inf).transpose(0, 1)


def summed_cross_entropy(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum over masked frames of minus the log of the first entry's share.

    The sum runs over all frames in transformers' order (frame by frame, then row by row): floating-point sums depend on
    it.

    Args:
        logits: (masked, 1 + K).
        mask: (batch, frames) bool.
    """
    own = torch.log_softmax(logits.float(), dim=-1)[:, 0]
    every = own.new_zeros(mask.shape).masked_scatter(mask, own)
    target = (~mask).long() * IGNORED
    return functional.nll_loss(every.t().reshape(-1, 1), target.t().flatten(), ignore_index=IGNORED, reduction="sum")
