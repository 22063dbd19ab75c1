"""Teachers for distillation: frozen networks that give frame states with a known clock."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.audio.signal import Signal
from core.clock import FrameClock
from core.embed.encoder import Encoder


class Teacher(Protocol):
    """Anything that turns a window of audio into frame states."""

    clock: FrameClock
    window: int  # longest input in samples; shorter input is padded by the teacher itself

    def states(self, samples: Tensor) -> Tensor:
        """Map audio ``(time,)`` to states ``(layers, frames, dim)``; padding gives no frames."""
        ...


class EncoderTeacher:
    """Some states of any encoder that meets the encoder contract, one window at a time."""

    def __init__(self, encoder: Encoder, layers: Sequence[int], longest_seconds: float = 30.0) -> None:
        """``longest_seconds`` is the window of an encoder that sets no limit itself."""
        self.encoder, self.clock = encoder, encoder.spec.clock
        self.networks = {name: network.eval() for name, network in encoder.networks(tuple(sorted(layers))).items()}
        frames = encoder.spec.max_frames or self.clock.frames_in(longest_seconds)
        self.window = frames * self.clock.hop

    @torch.inference_mode()
    def states(self, samples: Tensor) -> Tensor:
        """Map audio ``(time,)``, at most ``window`` samples, to states ``(layers, frames, dim)``."""
        n_frames = self.clock.n_frames(len(samples))
        with Signal.from_array(samples.numpy(), self.clock.sampling_rate) as signal:
            features = self.encoder.open(signal, {"local": self._local}).read(0, n_frames)
        return self.networks["states"](torch.from_numpy(features))[:, :n_frames]

    def _local(self, *inputs: np.ndarray) -> np.ndarray:
        return self.networks["local"](*map(torch.from_numpy, inputs)).numpy()
