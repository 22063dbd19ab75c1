"""Teachers for distillation: frozen networks that give frame states with a known clock."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder


@dataclass(frozen=True)
class FrameClock:
    """When frames happen, in samples at 16 kHz: frame i is centred on ``first_centre + i * hop``."""

    hop: int
    first_centre: int


class Teacher(Protocol):
    """Anything that turns a window of audio into frame states."""

    clock: FrameClock
    window: int  # longest input in samples; shorter input is padded by the teacher itself

    def states(self, samples: Tensor) -> Tensor:
        """Map audio ``(time,)`` at 16 kHz to states ``(layers, frames, dim)``; padding gives no frames."""
        ...


class WhisperTeacher:
    """The encoder of Whisper: some of its hidden states, on a 20 ms grid.

    Its log-mel frames are centred (``librosa``-style, hop 160) and its second convolution has stride 2 and padding 1,
    so state j is centred on sample 320 * j.
    """

    clock = FrameClock(hop=320, first_centre=0)

    def __init__(self, encoder: WhisperEncoder, extractor: WhisperFeatureExtractor, layers: tuple[int, ...]) -> None:
        self.encoder = encoder.eval()
        self.extractor = extractor
        self.layers = layers
        self.window = extractor.n_samples

    @torch.inference_mode()
    def states(self, samples: Tensor) -> Tensor:
        """Map audio ``(time,)``, at most 30 s, to states ``(layers, frames, dim)`` of the frames inside it."""
        features = self.extractor(samples.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
        hidden = self.encoder(features, output_hidden_states=True).hidden_states
        n_frames = -(-len(samples) // self.clock.hop)  # frames centred before the end of the real audio
        return torch.stack([hidden[layer][0, :n_frames] for layer in self.layers])


def load_whisper_teacher(folder: Path, layers: tuple[int, ...]) -> WhisperTeacher:
    """Load a folder in transformers' format whose weights are named ``model.encoder.*``; strict."""
    config = WhisperConfig(**json.loads((folder / "config.json").read_text()))
    encoder = WhisperEncoder(config)
    weights = load_file(folder / "model.safetensors")
    prefix = "model.encoder."
    encoder.load_state_dict({key.removeprefix(prefix): value.float() for key, value in weights.items()})
    return WhisperTeacher(encoder, WhisperFeatureExtractor(feature_size=config.num_mel_bins), layers)
