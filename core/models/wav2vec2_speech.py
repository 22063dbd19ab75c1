"""wav2vec 2.0 on speech, with the project's quantiser and contrastive loss: transformers' own encoder underneath."""

from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from core.models.contrastive import ContrastiveHead, ContrastiveOutput
from core.models.pretrained import OwnForPreTraining


class SpeechEncoder(Wav2Vec2Model):
    """transformers' encoder, weight for weight; it also tells its features, as pre-training wants."""

    def features(self, values: torch.Tensor) -> torch.Tensor:
        """Features (batch, frames, conv_dim) of (batch, time), before any norm and mask."""
        features: torch.Tensor = self.feature_extractor(values).transpose(1, 2)
        return features


class SpeechForPreTraining(OwnForPreTraining):
    """wav2vec 2.0 with quantiser and contrastive loss; a folder of it opens as its encoder.

    Args:
        config: Sizes; ``apply_spec_augment`` and a ``mask_time_prob`` above 0 give it a mask embedding.
    """

    base_model_prefix = "wav2vec2"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.wav2vec2 = SpeechEncoder(config)
        self.head = ContrastiveHead(config)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor,
        sampled_negative_indices: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ContrastiveOutput:
        """Compute the loss of a batch.

        Args:
            input_values: (batch, time), normalised.
            mask_time_indices: (batch, frames) bool of :func:`core.models.masking.compute_mask_indices`.
            sampled_negative_indices: (batch, frames, K) of :func:`core.models.masking.sample_negative_indices`; None
                for no loss.
            **kwargs: As transformers' encoder takes them.
        """
        outputs = self.wav2vec2(input_values, mask_time_indices=mask_time_indices, **kwargs)
        return self.contrast(outputs, mask_time_indices, sampled_negative_indices)
