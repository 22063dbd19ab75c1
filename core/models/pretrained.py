"""What the project's own wav2vec 2.0 architectures share: how weights begin, what a mask hides, what pre-training adds.

An architecture says how its input becomes features (its ``features``) and how these reach the transformer.
The quantiser, the contrastive loss and the mask embedding are the same for all of them.
"""

from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2PreTrainedModel

from core.errors import InputError
from core.models.contrastive import ContrastiveHead, ContrastiveOutput


def check_own_config(config: Wav2Vec2Config, positive: tuple[str, ...]) -> None:
    """Refuse what none of the project's architectures can be.

    Args:
        config: Of the model.
        positive: Names of fields that are at least one.

    Raises:
        InputError: Such a field is smaller, or layers are to be skipped.
    """
    for name in positive:
        if getattr(config, name) < 1:
            raise InputError(f"Got {name} {getattr(config, name)}; expected at least 1.")
    if config.layerdrop:
        raise InputError(
            f"Got layerdrop {config.layerdrop}; expected 0: a layer that is skipped has no state. Use hidden_dropout."
        )


class OwnPreTrainedModel(Wav2Vec2PreTrainedModel):
    """Weights as wav2vec 2.0 draws them; parts of ours that draw their own have ``reset_parameters``."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ContrastiveHead):
            module.project_hid.reset_parameters()
            module.project_q.reset_parameters()
        elif isinstance(module, OwnModel):
            nn.init.uniform_(module.masked_spec_embed)


class OwnModel(OwnPreTrainedModel):
    """From values to states.

    A subclass has ``feature_projection``, ``masked_spec_embed``, and ``features(values, ...)``, which makes features
    (batch, tokens, conv_dim), before any norm and mask, of values and of what says where they are.
    """

    def hide(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Put the mask embedding in place of what is masked.

        Args:
            hidden: (batch, tokens, hidden_size), projected features; changed in place.
            mask: (batch, tokens) bool; None for no mask.

        Raises:
            InputError: The mask is not bool or not of these tokens.
        """
        if mask is None:
            return hidden
        if mask.shape != hidden.shape[:2] or mask.dtype != torch.bool:
            raise InputError(
                f"Got a mask of shape {tuple(mask.shape)} and type {mask.dtype}; expected {tuple(hidden.shape[:2])} "
                "bool: masks are drawn on frames, not on samples. Use compute_mask_indices on the frame clock's count, "
                "or compute_block_mask on the grid of tokens."
            )
        hidden[mask] = self.masked_spec_embed.to(hidden.dtype)
        return hidden


class OwnForPreTraining(OwnPreTrainedModel):
    """A model with quantiser and contrastive loss; model (as ``base_model_prefix``) and ``head`` are the subclass's."""

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the temperature at which codes are drawn in training."""
        self.head.quantizer.temperature = temperature

    def quantiser_logits(self, values: torch.Tensor, **where: Any) -> torch.Tensor:
        """What the quantiser makes of values alone, without mask and without dropout.

        Args:
            values: As the model takes them.
            **where: What the model takes beside them to say where they are.

        Returns:
            (batch, tokens, groups * codes) logits.
        """
        model = self.base_model
        normed = model.feature_projection.layer_norm(model.features(values, **where))
        logits: torch.Tensor = self.head.quantizer.weight_proj(normed)
        return logits

    def contrast(self, outputs: Any, mask: torch.Tensor, negatives: torch.Tensor | None) -> ContrastiveOutput:
        """Compare a model's outputs with the codes of its own features; see :class:`ContrastiveHead`."""
        result: ContrastiveOutput = self.head(outputs.last_hidden_state, outputs.extract_features, mask, negatives)
        result.hidden_states = outputs.hidden_states
        return result
