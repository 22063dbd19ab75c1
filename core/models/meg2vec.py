"""Meg2Vec: wav2vec 2.0 on many channels (shared document "Meg2Vec"), out of transformers' own blocks.

The convolution stack takes all channels at once; the rest is wav2vec 2.0. With one channel it equals transformers'
model bit for bit. The mask replaces the features *before* the transformer sees them: a model that is shown its targets
learns to copy them, on noise as well.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import Wav2Vec2Config
from transformers.modeling_outputs import Wav2Vec2BaseModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Encoder,
    Wav2Vec2EncoderStableLayerNorm,
    Wav2Vec2FeatureEncoder,
    Wav2Vec2FeatureProjection,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from core.clock import FrameClock
from core.errors import InputError
from core.models.contrastive import ContrastiveHead, ContrastiveOutput
from core.models.pretrained import OwnForPreTraining, OwnModel, OwnPreTrainedModel, check_own_config
from core.models.sensor_attention import SensorAttention, SensorTensors

SENSOR_INPUTS = ("channels", "positions")


@strict
class Meg2VecConfig(Wav2Vec2Config):
    """wav2vec 2.0's config with the document's defaults, and what many channels add.

    ``mask_time_prob`` is each frame's chance to start a span (:mod:`core.models.masking`). There is no
    layerdrop, so that every state exists in training as well. Fields of wav2vec 2.0 that belong to speech (vocabulary,
    CTC, adapters) have no effect.

    Attributes:
        in_channels: Channels of a recording; of no account where ``sensor_input`` is ``positions``.
        sampling_rate: Hz that recordings are brought to.
        sensor_input: ``channels`` for a fixed order of sensors, ``positions`` for attention over any sensors.
        virtual_channels: Channels that the attention over sensors makes.
        sensor_dim: Size of its queries and keys.
    """

    model_type = "meg2vec"

    in_channels: int = 306
    sampling_rate: int = 250
    sensor_input: str = "channels"
    virtual_channels: int = 128
    sensor_dim: int = 64
    conv_dim: list[int] | tuple[int, ...] = (256, 256, 256, 256)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2)
    num_conv_pos_embeddings: int = 32
    layerdrop: float | int = 0.0
    mask_time_prob: float | int = 0.065

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.sensor_input not in SENSOR_INPUTS:
            raise InputError(f"Got sensor_input {self.sensor_input!r}; expected {' or '.join(SENSOR_INPUTS)}.")
        check_own_config(self, ("in_channels", "sampling_rate", "virtual_channels", "sensor_dim"))

    @property
    def convolved_channels(self) -> int:
        """Channels that the first convolution sees."""
        return self.in_channels if self.sensor_input == "channels" else self.virtual_channels


def frame_clock(config: Meg2VecConfig) -> FrameClock:
    """When the frames of a model of this config happen; with the document's stack a frame is 40 samples.

    >>> frame_clock(Meg2VecConfig()).n_frames(500)
    12
    """
    return FrameClock.from_convolutions(config.conv_kernel, config.conv_stride, config.sampling_rate)


class MultiChannelFeatures(Wav2Vec2FeatureEncoder):
    """wav2vec 2.0's convolution stack, its first layer over all channels."""

    def __init__(self, config: Meg2VecConfig) -> None:
        super().__init__(config)
        one = self.conv_layers[0].conv
        self.conv_layers[0].conv = nn.Conv1d(
            config.convolved_channels, one.out_channels, one.kernel_size, one.stride, bias=one.bias is not None
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Turn (batch, channels, time) into (batch, features, frames)."""
        for layer in self.conv_layers:
            values = layer(values)
        return values


class Meg2VecPreTrainedModel(OwnPreTrainedModel):
    """Weights as wav2vec 2.0 draws them."""

    config: Meg2VecConfig
    config_class = Meg2VecConfig
    base_model_prefix = "meg2vec"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SensorAttention):
            module.reset_parameters()


class Meg2VecModel(Meg2VecPreTrainedModel, OwnModel):
    """From recordings to states.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Meg2VecConfig) -> None:
        super().__init__(config)
        self.sensor_attention = SensorAttention(config) if config.sensor_input == "positions" else None
        self.feature_extractor = MultiChannelFeatures(config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_())
        stable = config.do_stable_layer_norm
        self.encoder = Wav2Vec2EncoderStableLayerNorm(config) if stable else Wav2Vec2Encoder(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        sensors: SensorTensors | None = None,
        **kwargs: Any,
    ) -> Wav2Vec2BaseModelOutput:
        """Compute states.

        Args:
            input_values: (batch, channels, time), prepared and standardised.
            mask_time_indices: (batch, frames) bool, frames whose features the transformer does not get to see.
            sensors: Where the channels are; for ``positions`` only.
            **kwargs: ``output_hidden_states=True`` for every state: the transformer's input, then each block's output.

        Returns:
            ``last_hidden_state`` (batch, frames, hidden_size), ``extract_features`` (batch, frames, conv_dim), and the
            hidden states if they were asked for.

        Raises:
            InputError: channels, sensors, length or mask do not fit the model.
        """
        self._check(input_values, sensors)
        hidden, features = self.feature_projection(self.features(input_values, sensors=sensors))
        states = self.encoder(self.hide(hidden, mask_time_indices), **kwargs).last_hidden_state
        return Wav2Vec2BaseModelOutput(last_hidden_state=states, extract_features=features)

    def features(self, values: torch.Tensor, sensors: SensorTensors | None = None) -> torch.Tensor:
        """Features (batch, frames, conv_dim) of (batch, channels, time), before any norm and mask."""
        if self.sensor_attention is not None:
            values = self.sensor_attention(values, sensors)
        features: torch.Tensor = self.feature_extractor(values).transpose(1, 2)
        return features

    def _check(self, values: torch.Tensor, sensors: SensorTensors | None) -> None:
        config = self.config
        if values.ndim != 3:
            raise InputError(f"Got values of shape {tuple(values.shape)}; expected (batch, channels, time).")
        if (sensors is None) == (config.sensor_input == "positions"):
            wanted = "the sensors of each recording" if sensors is None else "no sensors: its channels have an order"
            raise InputError(f"This model's sensor_input is {config.sensor_input!r}; expected {wanted}.")
        if config.sensor_input == "channels" and values.shape[1] != config.in_channels:
            raise InputError(
                f"Got {values.shape[1]} channels; this model takes {config.in_channels}. Prepare the recording for its "
                "layout (python -m core prepare --layout ...), or make a model with that many in_channels."
            )
        clock = frame_clock(config)
        if values.shape[2] < clock.min_samples:
            raise InputError(
                f"Got {values.shape[2]} samples at {config.sampling_rate} Hz; one frame needs {clock.min_samples} "
                f"({clock.min_samples / config.sampling_rate:.3g} s). Use a longer window."
            )


class Meg2VecForPreTraining(Meg2VecPreTrainedModel, OwnForPreTraining):
    """Meg2Vec with quantiser and contrastive loss.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Meg2VecConfig) -> None:
        super().__init__(config)
        self.meg2vec = Meg2VecModel(config)
        self.head = ContrastiveHead(config)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor,
        sampled_negative_indices: torch.Tensor | None = None,
        sensors: SensorTensors | None = None,
        **kwargs: Any,
    ) -> ContrastiveOutput:
        """Compute the loss of a batch.

        Args:
            input_values: (batch, channels, time), prepared and standardised.
            mask_time_indices: (batch, frames) bool of :func:`core.models.masking.compute_mask_indices`.
            sampled_negative_indices: (batch, frames, K) of :func:`core.models.masking.sample_negative_indices`; None
                for no loss.
            sensors: Where the channels are; for ``positions`` only.
            **kwargs: As :class:`Meg2VecModel` takes them.

        Raises:
            InputError: channels, sensors, length or mask do not fit the model.
        """
        outputs = self.meg2vec(input_values, mask_time_indices=mask_time_indices, sensors=sensors, **kwargs)
        return self.contrast(outputs, mask_time_indices, sampled_negative_indices)
