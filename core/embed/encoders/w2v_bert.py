"""w2v-BERT 2.0: a Conformer over pairs of log-mel filter-bank frames, 50 frames a second.

Filter-bank frame m covers samples [160 m, 160 m + 400); two neighbours make one frame. Each mel bin is normalised
with its mean and variance over the whole recording, which a first pass measures. A last odd filter-bank frame, which
transformers completes with padding and masks, is no frame here.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.clock import FrameClock
from core.embed.encoder import BlockBuffer, Encoder, EncoderSpec, FeatureStream, Runners, states_module
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.audio.signal import Signal

SAMPLING_RATE = 16_000
FBANK_HOP = 160
FBANK_WINDOW = 400
STRIDE = 2
BLOCK_SECONDS = 10.0
CONTEXT_SECONDS = 2.0
EPSILON = 1e-7  # SeamlessM4TFeatureExtractor


class Projected(nn.Module):
    """Feature projection and Conformer."""

    def __init__(self, projection: nn.Module, transformer: nn.Module) -> None:
        super().__init__()
        self.projection, self.transformer = projection, transformer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (frames, 160) filter-bank pairs into (1, frames, dim) hidden states."""
        return self.transformer(self.projection(features[None])[0]).last_hidden_state


class W2vBertEncoder(Encoder):
    """The encoder contract for w2v-BERT 2.0."""

    def __init__(self, loaded: LoadedModel) -> None:
        from transformers import SeamlessM4TFeatureExtractor

        config = loaded.model.config
        self.loaded = loaded
        self.n_mels = config.feature_projection_input_dim // STRIDE
        self.extractor = SeamlessM4TFeatureExtractor(feature_size=self.n_mels, num_mel_bins=self.n_mels, stride=STRIDE)
        field = FBANK_WINDOW + (STRIDE - 1) * FBANK_HOP
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="audio",
            clock=FrameClock(hop=STRIDE * FBANK_HOP, field=field, sampling_rate=SAMPLING_RATE),
            n_layers=config.num_hidden_layers,
            dim=config.hidden_size,
            context_seconds=CONTEXT_SECONDS,
        )

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        model = self.loaded.model
        tail = Projected(model.feature_projection, model.encoder)
        return {"states": states_module(tail, model.encoder.layers, layers, self.spec.n_layers)}

    def example(self, network: str, seconds: float) -> tuple[torch.Tensor, ...]:
        """See :class:`Encoder`."""
        shape = (max(1, self.spec.clock.frames_in(seconds)), STRIDE * self.n_mels)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Measure each mel bin over the whole recording, then stream normalised pairs."""
        n_frames = self.spec.clock.n_frames(signal.n_samples)
        n_banks = (signal.n_samples - FBANK_WINDOW) // FBANK_HOP + 1
        mean, scale = self._statistics(signal, n_banks)

        def compute(start: int, stop: int) -> np.ndarray:
            banks = (self._banks(signal, STRIDE * start, STRIDE * stop) - mean) * scale
            return banks.reshape(stop - start, STRIDE * self.n_mels).astype(np.float32)

        return BlockBuffer(compute, n_frames, self.spec.clock.frames_in(BLOCK_SECONDS))

    def _banks(self, signal: "Signal", start: int, stop: int) -> np.ndarray:
        """Log filter-bank frames ``[start, stop)``, (stop - start, n_mels) float64."""
        samples = signal.read(start * FBANK_HOP, (stop - 1) * FBANK_HOP + FBANK_WINDOW)
        return self.extractor._extract_fbank_features(samples).astype(np.float64)

    def _statistics(self, signal: "Signal", n_banks: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean of each mel bin and 1 / sqrt(variance + epsilon), sample variance as transformers takes it."""
        total, squares = np.zeros(self.n_mels), np.zeros(self.n_mels)
        block = int(BLOCK_SECONDS * SAMPLING_RATE / FBANK_HOP)
        for start in range(0, n_banks, block):
            banks = self._banks(signal, start, min(start + block, n_banks))
            total += banks.sum(axis=0)
            squares += (banks**2).sum(axis=0)
        mean = total / n_banks
        variance = (squares - n_banks * mean**2) / max(1, n_banks - 1)
        return mean, 1 / np.sqrt(np.maximum(variance, 0) + EPSILON)
