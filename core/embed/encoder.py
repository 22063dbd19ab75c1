"""The encoder contract: what every model looks like to windows, engines, writers and plots.

An encoder is two networks and a stream between them. The *local* network turns samples into frame features and sees
only a frame's receptive field; it runs once over the recording, in blocks, so that windows never compute it twice.
The *states* network (the transformer) turns the features of one window into N+1 states: state 0 is the transformer's
input, state N is ``last_hidden_state``. Engines compile the networks; encoders never know which engine runs them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.clock import FrameClock
from core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from core.audio.signal import Signal

LOUDNESS = 0.1
"""Root mean square, of full scale, that recordings are brought to where that is asked for: usual for speech."""
KEEPS_LOUDNESS = "The model keeps loudness: a quieter recording has other values, unless loudness is normalised."
Runner = Callable[..., np.ndarray]
Runners = Mapping[str, Runner]


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is.

    Attributes:
        name: Bundled name, folder name or hub id.
        modality: ``audio``, ``meg`` or ``grid``.
        clock: Sampling rate, hop, field and frame count.
        n_layers: Number N of the last state; there are N+1. Transformer blocks; for a codec, its bandwidths.
        dim: Values a frame.
        context_seconds: Default context on each side of a window.
        max_frames: Longest window the model takes; None for any.
        layer_names: What each of the N+1 states is, where a number alone does not say it; empty for transformers.
        last: The layer that ``last`` means, where it is not N.
        notes: Sentences on what the encoder does to a recording, for the metadata.
    """

    name: str
    modality: str
    clock: FrameClock
    n_layers: int
    dim: int
    context_seconds: float
    max_frames: int | None = None
    layer_names: tuple[str, ...] = ()
    last: int | None = None
    notes: tuple[str, ...] = ()


class FeatureStream(Protocol):
    """Frame features of one recording, read by windows that only move forward."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Input of the states network for frames ``[start, stop)``; ``start`` never decreases between calls."""


class Encoder(ABC):
    """A model behind the contract; see the module's text.

    Attributes:
        spec: What the encoder is.
        traceable: Whether other engines may trace its networks; false where control flow depends on the length.
        time_axis: The axis of a network's first input that grows with the recording; None where all shapes are fixed.
    """

    spec: EncoderSpec
    traceable: bool = True
    time_axis: Mapping[str, int | None] = MappingProxyType({"local": 1, "states": 0})

    @abstractmethod
    def networks(self, layers: tuple[int, ...]) -> dict[str, "nn.Module"]:
        """The networks to compile; ``states`` returns (n_layers, frames, dim) for exactly these layers."""

    @abstractmethod
    def example(self, network: str, seconds: float) -> tuple["torch.Tensor", ...]:
        """Random inputs of the right shape for one network, to trace and to check engines with."""

    @abstractmethod
    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Start reading a recording: any first pass over the whole of it happens here."""

    def noise(self, seconds: float) -> "Signal":
        """A recording of white noise, the same every time, to check engines with."""
        from core.audio.signal import Signal

        rate = self.spec.clock.sampling_rate
        values = np.random.default_rng(0).standard_normal(round(seconds * rate)).astype(np.float32)
        return Signal.from_array(values, rate)


class LevelledEncoder(Encoder):
    """An encoder that hears every recording at one loudness: the root mean square of its samples is LOUDNESS."""

    def __init__(self, encoder: Encoder) -> None:
        kept = tuple(note for note in encoder.spec.notes if note != KEEPS_LOUDNESS)
        note = f"The recording was brought to a root mean square of {LOUDNESS:g} before the model heard it."
        self.spec = replace(encoder.spec, notes=(*kept, note))
        self.traceable, self.time_axis = encoder.traceable, encoder.time_axis
        self._encoder = encoder

    def networks(self, layers: tuple[int, ...]) -> dict[str, "nn.Module"]:
        """See :class:`Encoder`."""
        return self._encoder.networks(layers)

    def example(self, network: str, seconds: float) -> tuple["torch.Tensor", ...]:
        """See :class:`Encoder`."""
        return self._encoder.example(network, seconds)

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Open the recording at that loudness; silence stays silence."""
        level = math.hypot(signal.mean, signal.std)
        return self._encoder.open(signal.scaled(LOUDNESS / level if level else 1.0), runners)


def at_loudness(encoder: Encoder, loudness: str) -> Encoder:
    """The encoder as it is for ``keep``, levelled for ``normalise``.

    Raises:
        InputError: another word.
    """
    if loudness not in ("keep", "normalise"):
        raise InputError(f"Got loudness {loudness!r}; expected keep or normalise.")
    return encoder if loudness == "keep" else LevelledEncoder(encoder)


class BlockBuffer:
    """Features computed block by block and kept only as long as a later window can ask for them.

    Args:
        compute: Returns the features of frames ``[start, stop)``, (stop - start, dim), or of as many frames from
            ``start`` on as it makes at a time, at least one.
        n_frames: Frames of the recording.
        block: Frames asked for at a time.
    """

    def __init__(self, compute: Callable[[int, int], np.ndarray], n_frames: int, block: int) -> None:
        self.compute, self.n_frames, self.block = compute, n_frames, block
        self.start = self.stop = 0
        self.blocks: list[np.ndarray] = []

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the features of frames ``[start, stop)``, (stop - start, dim)."""
        while self.stop < stop:
            upto = min(self.stop + self.block, self.n_frames)
            self.blocks.append(self.compute(self.stop, upto))
            self.stop += len(self.blocks[-1])
        while self.start + len(self.blocks[0]) <= start:
            self.start += len(self.blocks.pop(0))
        return np.concatenate(self.blocks)[start - self.start : stop - self.start]


def states_module(
    transformer: "nn.Module", blocks: "nn.ModuleList", layers: tuple[int, ...], n_layers: int
) -> "nn.Module":
    """Wrap a transformer so that it returns the wanted states stacked, (len(layers), frames, dim).

    State 0 is the input of the first block, state i < N the output of block i, state N the transformer's own output
    (after a final layer norm where it has one: ``last_hidden_state``). Blocks above the highest wanted layer do
    not run.

    Args:
        transformer: Takes (1, frames, features), returns a tensor or an output with ``last_hidden_state``.
        blocks: Its blocks; cut in place when upper ones are not needed, so a later call can only ask for fewer.
        layers: State numbers, ascending.
        n_layers: Blocks that the model had before any were cut.
    """
    import torch
    from torch import nn

    if max(layers) > len(blocks):
        raise ValueError(f"Got layers {layers} of a model cut to {len(blocks)} blocks. Load the model again.")

    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            inputs: list[torch.Tensor] = []
            outputs: list[torch.Tensor] = []
            hooks = [blocks[0].register_forward_pre_hook(lambda _m, args: inputs.append(args[0]))]
            hooks += [block.register_forward_hook(lambda _m, _a, out: outputs.append(_tensor(out))) for block in blocks]
            try:
                last = _tensor(self.transformer(features))
            finally:
                for hook in hooks:
                    hook.remove()
            states = [inputs[0], *outputs]
            if len(blocks) == n_layers:
                states[n_layers] = last
            return torch.stack([states[layer][0].float() for layer in layers])

    del blocks[max(*layers, 1) :]
    return States().eval()


def _tensor(output: object) -> "torch.Tensor":
    """The hidden states in whatever a transformers module returned."""
    if hasattr(output, "last_hidden_state"):
        return output.last_hidden_state
    return output[0] if isinstance(output, tuple) else output  # type: ignore[return-value]
