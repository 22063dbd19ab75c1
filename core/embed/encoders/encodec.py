"""EnCodec 24 kHz: the codec's encoder before quantisation, 75 frames a second.

All its convolutions are causal, so a block with the receptive field's samples before it gives the whole file's
values, and its LSTM runs once from the first frame to the last with its state carried from block to block. Everything
is done in the stream, and windows have nothing left to compute: their size and context change no value. There is one
state, layer 0: the encoder's output (the network has no transformer blocks).
"""

from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.clock import FrameClock
from core.embed.encoder import BlockBuffer, Encoder, EncoderSpec, FeatureStream, Runners
from core.errors import CheckpointError
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.audio.signal import Signal

BLOCK_SECONDS = 5.0


class LocalNetwork(nn.Module):
    """The convolutions before the LSTM."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Turn (1, time) samples into (frames, channels)."""
        hidden = samples[:, None]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden[0].transpose(0, 1).float()


class Recurrent(nn.Module):
    """The LSTM with its skip connection and its state handed in and out, packed into one array."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, features: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Turn (frames, channels) and the state (2, layers, channels) into both, stacked along the first axis."""
        output, (hidden, cell) = self.lstm(features[:, None], (state[0][:, None], state[1][:, None]))
        return torch.cat([output[:, 0] + features, hidden[:, 0], cell[:, 0]])


class Head(nn.Module):
    """What follows the LSTM: an activation and a causal convolution."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (frames, channels) into (frames, dim)."""
        hidden = features.transpose(0, 1)[None]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden[0].transpose(0, 1).float()


class OneState(nn.Module):
    """The states of finished features: themselves, as layer 0."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (frames, dim) into (1, frames, dim)."""
        return features[None]


class EncodecStreamEncoder(Encoder):
    """The encoder contract for EnCodec's causal 24 kHz model."""

    # Each of its convolutions computes its padding from the length, which a trace would freeze.
    traceable = False
    time_axis = MappingProxyType({"local": 1, "recurrent": 0, "head": 0, "states": 0})

    def __init__(self, loaded: LoadedModel) -> None:
        config = loaded.model.config
        streams = config.use_causal_conv and config.norm_type == "weight_norm" and not config.normalize
        if not streams or config.audio_channels != 1:
            raise CheckpointError(
                f"{loaded.name}: only EnCodec's mono causal model without loudness normalisation (24 kHz) can be "
                f"embedded as a stream; got {config.audio_channels} channels, use_causal_conv "
                f"{config.use_causal_conv}, norm_type {config.norm_type} and normalize {config.normalize}. "
                "Use facebook/encodec_24khz."
            )
        layers = list(loaded.model.encoder.layers)
        at = next(index for index, layer in enumerate(layers) if isinstance(getattr(layer, "lstm", None), nn.LSTM))
        self.lstm = layers[at].lstm
        self.parts: dict[str, nn.Module] = {
            "local": LocalNetwork(layers[:at]),
            "recurrent": Recurrent(self.lstm),
            "head": Head(layers[at + 1 :]),
            "states": OneState(),
        }
        hop = prod(config.upsampling_ratios)
        # Frames before a block that its convolutions and its head see, rounded up.
        self.warm_up = -(-_receptive_field(layers[:at]) // hop)
        self.head_reach = _receptive_field(layers[at + 1 :]) - 1
        # The recording's first frames are padded by their mirror image, so the first block has to hold all of that.
        self.least_block = max(self.warm_up, self.head_reach) + 1
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="audio",
            clock=FrameClock(hop=hop, field=hop, sampling_rate=config.sampling_rate, need=1),
            n_layers=0,
            dim=config.hidden_size,
            context_seconds=0.0,
        )

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        return {name: part.eval() for name, part in self.parts.items()}

    def example(self, network: str, seconds: float) -> tuple[torch.Tensor, ...]:
        """See :class:`Encoder`."""
        generator = torch.Generator().manual_seed(0)
        clock = self.spec.clock
        if network == "local":
            return (torch.randn(1, max(1, round(seconds * clock.sampling_rate)), generator=generator),)
        width = self.spec.dim if network == "states" else self.lstm.input_size
        features = torch.randn(max(1, clock.frames_in(seconds)), width, generator=generator)
        return (features, torch.zeros(self._state_shape())) if network == "recurrent" else (features,)

    def _state_shape(self) -> tuple[int, int, int]:
        return 2, self.lstm.num_layers, self.lstm.hidden_size

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Stream the encoder's output; the LSTM's state, and the frames that the head looks back on, are carried."""
        hop, n_state = self.spec.clock.hop, 2 * self.lstm.num_layers
        state = np.zeros(self._state_shape(), np.float32)
        before = np.zeros((0, self.lstm.hidden_size), np.float32)

        def compute(start: int, stop: int) -> np.ndarray:
            nonlocal state, before
            first = max(0, start - self.warm_up)
            samples = signal.read(first * hop, min(stop * hop, signal.n_samples))
            features = np.ascontiguousarray(runners["local"](samples[None])[start - first :])
            output = runners["recurrent"](features, state)
            state = np.ascontiguousarray(output[-n_state:].reshape(self._state_shape()))
            seen = np.concatenate([before, output[:-n_state]])
            n_before, before = len(before), seen[len(seen) - min(len(seen), self.head_reach) :]
            return runners["head"](seen)[n_before:]

        n_frames = self.spec.clock.n_frames(signal.n_samples)
        return BlockBuffer(compute, n_frames, max(self.least_block, self.spec.clock.frames_in(BLOCK_SECONDS)))


def _receptive_field(layers: list[nn.Module]) -> int:
    """Samples that one output of a stack of causal layers sees: 1 + the sum of (k - 1) * dilation * stride so far."""
    field, stride = 1, 1
    for layer in layers:
        for conv in (module for module in layer.modules() if isinstance(module, nn.Conv1d)):
            field += (conv.kernel_size[0] - 1) * conv.dilation[0] * stride
            stride *= conv.stride[0]
    return field
