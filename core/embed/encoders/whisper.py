"""Whisper encoders: fixed windows of 30 s of log-mel, 50 frames a second.

Frame j of a window is centred on sample 320 * j of it (mel hop 160, centred; a second convolution of stride 2), so a
recording of n samples has ceil(n / 320) real frames; what lies beyond is Whisper's own zero padding and is not
returned. The log-mel of a window is clamped 8 below the window's own maximum, as in Whisper itself (Radford et al.
2022).
"""

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.clock import FrameClock
from core.embed.encoder import Encoder, EncoderSpec, FeatureStream, Runners, states_module
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.audio.signal import Signal

SAMPLING_RATE = 16_000
MEL_HOP = 160
FFT_SIZE = 400
CONTEXT_SECONDS = 5.0


class WhisperWindowEncoder(Encoder):
    """The encoder contract for Whisper."""

    time_axis = MappingProxyType({"states": None})

    def __init__(self, loaded: LoadedModel) -> None:
        from transformers import WhisperFeatureExtractor

        config = loaded.model.config
        hop = MEL_HOP * loaded.model.conv2.stride[0]
        # Two convolutions of kernel 3 over mel frames: 5 of them, each an FFT window wide and centred.
        field = 4 * MEL_HOP + FFT_SIZE
        self.loaded = loaded
        self.extractor = WhisperFeatureExtractor(
            feature_size=config.num_mel_bins, chunk_length=config.max_source_positions * hop // SAMPLING_RATE
        )
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="audio",
            clock=FrameClock(hop=hop, field=field, sampling_rate=SAMPLING_RATE, start=-(field // 2), need=1),
            n_layers=config.encoder_layers,
            dim=config.d_model,
            context_seconds=CONTEXT_SECONDS,
            max_frames=config.max_source_positions,
        )

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        model = self.loaded.model
        return {"states": states_module(model, model.layers, layers, self.spec.n_layers)}

    def example(self, network: str, seconds: float) -> tuple[torch.Tensor, ...]:
        """See :class:`Encoder`."""
        noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLING_RATE)).astype(np.float32)
        return (torch.from_numpy(self._log_mel(noise)),)

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Stream log-mel windows; nothing has to be measured first."""
        return _MelStream(self, signal)

    def _log_mel(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel of at most 30 s, zero padded, (1, mels, 3000)."""
        return self.extractor(samples, sampling_rate=SAMPLING_RATE, return_tensors="np").input_features.astype(
            np.float32
        )


class _MelStream:
    """Log-mel of one window at a time; the states network returns the padded frames too, which the caller drops."""

    def __init__(self, encoder: WhisperWindowEncoder, signal: "Signal") -> None:
        self.encoder, self.signal = encoder, signal

    def read(self, start: int, stop: int) -> np.ndarray:
        """Log-mel of frames ``[start, stop)``, (1, mels, 3000)."""
        hop = self.encoder.spec.clock.hop
        return self.encoder._log_mel(self.signal.read(start * hop, min(stop * hop, self.signal.n_samples)))
