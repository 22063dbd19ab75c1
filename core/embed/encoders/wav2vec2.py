"""wav2vec 2.0 and its relatives on raw samples: HuBERT, WavLM, XLS-R, data2vec-audio.

Two things in these models look at the whole recording: the feature extractor's normalisation to zero mean and unit
variance, and, in base-size models, a group norm over time after the first convolution. Both get their statistics
from the whole recording before the first window runs, so that the features of a window equal those of the whole file.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from core.clock import FrameClock
from core.embed.encoder import BlockBuffer, Encoder, EncoderSpec, FeatureStream, Runners, states_module
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.audio.signal import Signal

SAMPLING_RATE = 16_000
# Blocks of 2.5 s keep the first convolution's output (512 x 8,000 floats) near the cache: 1.5 times as fast as 20 s.
BLOCK_SECONDS = 2.5
# Least context on each side; more where the positional convolution reaches further.
CONTEXT_SECONDS = 1.5
NORMALISATION_EPSILON = 1e-7  # Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
MOMENT_BLOCK = 1 << 18

ReadSamples = Callable[[int, int], np.ndarray]


class LocalNetwork(nn.Module):
    """The convolution stack with its first layer's kernel and bias handed in.

    A group norm with given statistics is an affine map of each channel, so it is folded into kernel and bias:
    ``norm(w * x) = (w * scale) * x + shift``. Layer-norm models run unchanged.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers
        self.grouped = isinstance(getattr(layers[0], "layer_norm", None), nn.GroupNorm)
        self.stride = self.first.conv.stride[0]
        self.n_features = layers[-1].conv.out_channels

    @property
    def first(self) -> Any:
        """The first layer: ``conv``, ``layer_norm`` and ``activation``."""
        return self.layers[0]

    def forward(self, samples: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Turn (inputs, time) samples into (frames, channels) features; kernel (channels, inputs, k), bias (channels,).

        Audio has one input.
        """
        first = self.first
        hidden = functional.conv1d(samples[None], kernel, bias, stride=self.stride)
        if not self.grouped:
            hidden = first.layer_norm(hidden.transpose(1, 2)).transpose(1, 2)
        hidden = first.activation(hidden)
        for layer in self.layers[1:]:
            hidden = layer(hidden)
        return hidden[0].transpose(0, 1).float()


class Projected(nn.Module):
    """Feature projection and transformer, whatever the family's projection returns."""

    def __init__(self, projection: nn.Module, transformer: nn.Module) -> None:
        super().__init__()
        self.projection, self.transformer = projection, transformer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (frames, channels) features into (1, frames, dim) hidden states."""
        projected = self.projection(features[None])
        hidden = projected[0] if isinstance(projected, tuple) else projected
        return self.transformer(hidden).last_hidden_state


class ConvolutionEncoder(Encoder):
    """What encoders of a convolution stack and a transformer share, whatever the channels that go in.

    Attributes:
        loaded: The model.
        local: Its convolutions.
    """

    loaded: LoadedModel
    local: LocalNetwork

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        model = self.loaded.model
        tail = Projected(model.feature_projection, model.encoder)
        return {"local": self.local, "states": states_module(tail, model.encoder.layers, layers, self.spec.n_layers)}

    def example(self, network: str, seconds: float) -> tuple[torch.Tensor, ...]:
        """See :class:`Encoder`."""
        clock, generator = self.spec.clock, torch.Generator().manual_seed(0)
        n_samples = max(clock.min_samples, round(seconds * clock.sampling_rate))
        if network == "states":
            return (torch.randn(clock.n_frames(n_samples), self.local.n_features, generator=generator),)
        kernel, bias = self.convolution()
        return torch.randn(kernel.shape[1], n_samples, generator=generator), kernel, bias

    def convolution(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Kernel (out, in, k) and bias (out,) of the first layer, without the norm."""
        conv = self.local.first.conv
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().cpu()
        return conv.weight.detach().cpu(), bias


class Wav2Vec2Encoder(ConvolutionEncoder):
    """The encoder contract for models with a convolution stack on raw samples."""

    def __init__(self, loaded: LoadedModel) -> None:
        config = loaded.model.config
        rate = loaded.preprocessor.get("sampling_rate", SAMPLING_RATE)
        clock = FrameClock.from_convolutions(config.conv_kernel, config.conv_stride, rate)
        self.loaded = loaded
        self.normalise = loaded.preprocessor.get("do_normalize", True)
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="audio",
            clock=clock,
            n_layers=config.num_hidden_layers,
            dim=config.hidden_size,
            context_seconds=max(CONTEXT_SECONDS, _positional_reach(config) * clock.stride_seconds),
        )
        self.local = LocalNetwork(loaded.model.feature_extractor.conv_layers).eval()

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Measure the whole recording, then stream its features."""
        mean, scale = (
            (signal.mean, 1 / np.sqrt(signal.std**2 + NORMALISATION_EPSILON)) if self.normalise else (0.0, 1.0)
        )

        def normalised(start: int, stop: int) -> np.ndarray:
            return ((signal.read(start, stop) - np.float32(mean)) * np.float32(scale)).astype(np.float32, copy=False)

        kernel, bias = self._first_layer(signal.n_samples, normalised)
        clock = self.spec.clock

        def compute(start: int, stop: int) -> np.ndarray:
            return runners["local"](normalised(*clock.samples_of(start, stop))[None], kernel, bias)

        return BlockBuffer(compute, clock.n_frames(signal.n_samples), clock.frames_in(BLOCK_SECONDS))

    def _first_layer(self, n_samples: int, read: ReadSamples) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of the first layer, with the group norm of the whole recording folded in."""
        first = self.local.first
        kernel = first.conv.weight.detach().double().cpu().numpy()
        bias = np.zeros(len(kernel)) if first.conv.bias is None else first.conv.bias.detach().double().cpu().numpy()
        if self.local.grouped:
            mean, covariance = patch_moments(read, n_samples, kernel.shape[-1], self.local.stride)
            flat = kernel[:, 0]
            norm = first.layer_norm
            variance = np.einsum("ck,kl,cl->c", flat, covariance, flat)
            scale = norm.weight.detach().double().cpu().numpy() / np.sqrt(variance + norm.eps)
            shift = norm.bias.detach().double().cpu().numpy() - scale * (flat @ mean)
            kernel, bias = kernel * scale[:, None, None], shift
        return kernel.astype(np.float32), bias.astype(np.float32)


def _positional_reach(config: Any) -> int:
    """Frames on each side that the positional convolutions see: one wide one, in data2vec several narrow ones."""
    if config.model_type == "data2vec-audio":
        return config.num_conv_pos_embeddings * (config.conv_pos_kernel_size // 2)
    return config.num_conv_pos_embeddings // 2


def patch_moments(read: ReadSamples, n_samples: int, size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all patches ``x[stride * t : stride * t + size]`` of a recording, in one streaming pass.

    The mean and variance over time of any filter of that size follow in closed form, ``w @ mean`` and ``w @ cov @
    w``, so a group norm's statistics cost no convolution.

    Returns:
        Mean (size,) and population covariance (size, size), float64.
    """
    count, total, gram = 0, np.zeros(size), np.zeros((size, size))
    n_patches = (n_samples - size) // stride + 1
    for first in range(0, n_patches, MOMENT_BLOCK // stride):
        last = min(first + MOMENT_BLOCK // stride, n_patches)
        samples = read(first * stride, (last - 1) * stride + size).astype(np.float64)
        patches = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(samples, size)[::stride])
        count += len(patches)
        total += patches.sum(axis=0)
        gram += patches.T @ patches
    mean = total / count
    return mean, gram / count - np.outer(mean, mean)
