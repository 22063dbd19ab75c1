"""Meg2Vec on MEG recordings that are prepared and standardised as its checkpoint says.

As with wav2vec 2.0, the first layer's group norm looks at the whole recording. Its statistics come from a first pass of
the first convolution over the recording; with hundreds of channels that costs less than their patches' covariance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch.nn import functional

from core.embed.encoder import BlockBuffer, EncoderSpec, FeatureStream, Runners
from core.embed.encoders.wav2vec2 import ConvolutionEncoder, LocalNetwork
from core.errors import CheckpointError, InputError, StrataError
from core.models.loaded import LoadedModel
from core.models.meg2vec import frame_clock
from core.models.model_input import from_preprocessor
from core.models.sensor_attention import SensorTensors
from core.sensors import MEG_KINDS, ModelInput, Sensors

BLOCK_SECONDS = 20.0
# Least context on each side: as much as the positional convolution of the document's model sees.
CONTEXT_SECONDS = 2.5
N_NOISE_SENSORS = 32

ReadValues = Callable[[int, int], np.ndarray]


class Recording(Protocol):
    """What is asked of a MEG recording; :func:`core.meg.signal.open_meg` opens one."""

    @property
    def n_samples(self) -> int:
        """Samples of each channel."""

    @property
    def sampling_rate(self) -> int:
        """Hz."""

    @property
    def sensors(self) -> Sensors:
        """Of the channels, in order."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Values [start, stop), (channels, stop - start) float32, prepared and standardised."""


@dataclass(frozen=True)
class HeldRecording:
    """A recording in memory.

    Attributes:
        values: (channels, samples) float32.
        sampling_rate: Hz.
        sensors: Of the channels.
    """

    values: np.ndarray
    sampling_rate: int
    sensors: Sensors

    @property
    def n_samples(self) -> int:
        """Samples of each channel."""
        return self.values.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """See :class:`Recording`."""
        return self.values[:, start:stop]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""


class Meg2VecEncoder(ConvolutionEncoder):
    """The encoder contract for Meg2Vec."""

    time_axis = MappingProxyType({"local": 1, "states": 0})

    def __init__(self, loaded: LoadedModel) -> None:
        config = loaded.model.config
        clock = frame_clock(config)
        reach = config.num_conv_pos_embeddings // 2 * clock.stride_seconds
        self.loaded, self.config = loaded, config
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="meg",
            clock=clock,
            n_layers=config.num_hidden_layers,
            dim=config.hidden_size,
            context_seconds=max(CONTEXT_SECONDS, reach),
            notes=_notes(loaded),
        )
        self.local = LocalNetwork(loaded.model.feature_extractor.conv_layers).eval()

    def noise(self, seconds: float) -> Any:
        """See :class:`Encoder`."""
        n_samples = max(self.spec.clock.min_samples, round(seconds * self.spec.clock.sampling_rate))
        sensors = build_model_input(self.loaded).sensors or noise_sensors(N_NOISE_SENSORS)
        values = np.random.default_rng(0).standard_normal((len(sensors), n_samples)).astype(np.float32)
        return HeldRecording(values, self.spec.clock.sampling_rate, sensors)

    @property
    def _by_order(self) -> bool:
        return bool(self.config.sensor_input == "channels")

    def open(self, signal: Any, runners: Runners) -> FeatureStream:
        """Measure the whole of a :class:`Recording`, then stream its features.

        Raises:
            InputError: its rate or its channels are not those the model takes.
        """
        self._check(signal)
        read = self._inputs(signal)
        kernel, bias = self._first_layer(signal.n_samples, read)
        clock = self.spec.clock

        def compute(start: int, stop: int) -> np.ndarray:
            return runners["local"](read(*clock.samples_of(start, stop)), kernel, bias)

        return BlockBuffer(compute, clock.n_frames(signal.n_samples), clock.frames_in(BLOCK_SECONDS))

    def _check(self, signal: Recording) -> None:
        rate = self.spec.clock.sampling_rate
        if signal.sampling_rate != rate:
            raise InputError(
                f"{self.spec.name} takes {rate} Hz; got a recording at {signal.sampling_rate} Hz. Resample it."
            )
        wanted = build_model_input(self.loaded).sensors
        if wanted is None or signal.sensors.names == wanted.names:
            return
        raise InputError(
            f"{self.spec.name} takes {len(wanted)} channels in its own order; got a recording with "
            f"{len(signal.sensors)}{_first_difference(signal.sensors, wanted)}. Bring it to the model's layout."
        )

    def _inputs(self, signal: Recording) -> ReadValues:
        """A function that reads what the first convolution sees: channels, or virtual ones."""
        if self._by_order:
            return lambda start, stop: np.ascontiguousarray(signal.read(start, stop), dtype=np.float32)
        with torch.inference_mode():
            tensors = SensorTensors.of([signal.sensors])
            weights = self.loaded.model.sensor_attention.cpu().weights(tensors)[0].numpy()
        return lambda start, stop: (weights @ signal.read(start, stop)).astype(np.float32, copy=False)

    def _first_layer(self, n_samples: int, read: ReadValues) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of the first layer, with the group norm of the whole recording folded in."""
        kernel, bias = self.convolution()
        if not self.local.grouped:
            return kernel.numpy(), bias.numpy()
        norm = self.local.first.layer_norm
        mean, variance = convolved_moments(read, n_samples, kernel, self.local.stride)
        scale = norm.weight.detach().double().cpu().numpy() / np.sqrt(variance + norm.eps)
        shift = norm.bias.detach().double().cpu().numpy() - scale * mean
        return (kernel.double().numpy() * scale[:, None, None]).astype(np.float32), shift.astype(np.float32)


def convolved_moments(
    read: ReadValues, n_samples: int, kernel: torch.Tensor, stride: int, block: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over a whole recording of what a convolution without bias makes of it, in one streaming pass.

    A bias would move the mean only, which a group norm takes away again.

    Args:
        read: Of (channels, time) values.
        n_samples: Of the recording.
        kernel: (out, channels, k).
        stride: Of the convolution.
        block: Outputs computed at a time.

    Returns:
        Mean and population variance, (out,) each, float64.
    """
    n_outputs = (n_samples - kernel.shape[2]) // stride + 1
    total, squares = np.zeros((2, len(kernel)))
    for first in range(0, n_outputs, block):
        last = min(first + block, n_outputs)
        values = torch.from_numpy(read(first * stride, (last - 1) * stride + kernel.shape[2]))
        with torch.inference_mode():
            made = functional.conv1d(values[None], kernel, stride=stride)[0].double().numpy()
        total += made.sum(axis=1)
        squares += np.square(made).sum(axis=1)
    mean = total / n_outputs
    return mean, np.maximum(squares / n_outputs - mean**2, 0.0)


def build_model_input(loaded: LoadedModel) -> ModelInput:
    """How recordings are prepared for a loaded MEG model.

    Raises:
        CheckpointError: its ``preprocessor_config.json`` does not say.
    """
    try:
        return from_preprocessor(loaded.preprocessor)
    except StrataError as error:
        raise CheckpointError(f"{loaded.name}: preprocessor_config.json cannot be used: {error}") from error


def _first_difference(got: Sensors, wanted: Sensors) -> str:
    pairs = enumerate(zip(got.names, wanted.names, strict=False), start=1)
    return next((f"; channel {number} is {one}, not {other}" for number, (one, other) in pairs if one != other), "")


def _notes(loaded: LoadedModel) -> tuple[str, ...]:
    simulated = loaded.preprocessor.get("simulated")
    return ("The model was trained on simulated MEG.",) if simulated else ()


def noise_sensors(n: int) -> Sensors:
    """Made-up sensors on a sphere of 10 cm, kinds in turn: places for noise (a Fibonacci lattice)."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    around = np.sqrt(1 - height**2)
    normals = np.stack([around * np.cos(angle), around * np.sin(angle), height], axis=1)
    kinds = tuple(MEG_KINDS[index % len(MEG_KINDS)] for index in range(n))
    return Sensors(tuple(f"N{index:03d}" for index in range(n)), kinds, 0.1 * normals, normals, "made up")
