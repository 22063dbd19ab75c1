"""EnCodec: the codec's encoder before and after quantisation.

The 24 kHz codec gives 75 frames a second. All its convolutions are causal, so a block with the receptive field's
samples before it gives the whole file's values, and its LSTM runs once from the first frame to the last with its state
carried from block to block.

The 48 kHz codec gives 150 frames a second. It was trained on segments of one second, and looks at the whole of each:
its loudness, its norms over time, and sound to both sides. Each segment is computed as the codec computes it, on a
grid of whole frames, and each frame is kept from exactly one; see :meth:`core.models.encodec.Codec.segments` for how
that differs from the codec's own overlap. A signal is mono, and goes to both of its channels.

Everything is done in the stream, and windows have nothing left to compute: their size and context change no value.
State 0 is the encoder's output. States 1 to K are its quantised forms, one for each bandwidth, coarsest first: sums
over the first codebooks, all from one pass (the network has no transformer blocks).
"""

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.clock import FrameClock
from core.embed.encoder import KEEPS_LOUDNESS, BlockBuffer, Encoder, EncoderSpec, FeatureStream, Runners
from core.errors import CheckpointError
from core.models.encodec import (
    Codec,
    codebooks_of,
    codec_of,
    encode_segment,
    layer_names,
    partial_sums,
    receptive_field,
)
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.audio.signal import Signal

BLOCK_SECONDS = 5.0
# Segments computed at a time: one LSTM step for all of them costs hardly more than for one.
SEGMENTS = 5


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


class SegmentNetwork(nn.Module):
    """The encoder over segments of a mono signal, each given to all channels and normalised by itself."""

    def __init__(self, encoder: nn.Module, codec: Codec) -> None:
        super().__init__()
        self.encoder, self.codec = encoder, codec

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Turn (segments, time) samples into (segments, frames, dim)."""
        heard = samples[:, None].expand(-1, self.codec.channels, -1)
        return encode_segment(self.encoder, heard, normalise=self.codec.normalise).transpose(1, 2).float()


class CodecStates(nn.Module):
    """The states of finished features: themselves as layer 0, and their quantised forms."""

    def __init__(self, codebooks: nn.ModuleList, counts: tuple[int, ...]) -> None:
        """Take the codebooks, and how many of them each state sums; 0 for the features themselves."""
        super().__init__()
        self.codebooks, self.counts = codebooks, counts

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (frames, dim) into (n_layers, frames, dim)."""
        quantised = [count for count in self.counts if count]
        sums = partial_sums(self.codebooks, features.T[None], quantised) if quantised else []
        states = [features.T[None]] * (len(self.counts) - len(sums)) + sums
        return torch.cat(states).transpose(1, 2)


class EncodecEncoder(Encoder):
    """What both codecs share: their states and what the spec says of them."""

    # Each of its convolutions computes its padding from the length, which a trace would freeze.
    traceable = False

    def __init__(self, loaded: LoadedModel, codec: Codec, notes: tuple[str, ...]) -> None:
        self.codec = codec
        self.codebooks = codebooks_of(loaded.model)
        self.spec = EncoderSpec(
            name=loaded.name,
            modality="audio",
            clock=FrameClock(hop=codec.hop, field=codec.hop, sampling_rate=codec.sampling_rate, need=1),
            n_layers=len(codec.bandwidths),
            dim=codec.dim,
            context_seconds=0.0,
            layer_names=layer_names(codec.bandwidths),
            last=0,
            notes=notes,
        )

    def states(self, layers: tuple[int, ...]) -> nn.Module:
        """The states network of these layers."""
        counts = (0, *self.codec.codebooks)
        return CodecStates(self.codebooks, tuple(counts[layer] for layer in layers)).eval()


class EncodecStreamEncoder(EncodecEncoder):
    """The encoder contract for EnCodec's causal 24 kHz model."""

    time_axis = MappingProxyType({"local": 1, "recurrent": 0, "head": 0, "states": 0})

    def __init__(self, loaded: LoadedModel, codec: Codec) -> None:
        super().__init__(loaded, codec, notes=(KEEPS_LOUDNESS,))
        layers = list(loaded.model.encoder.layers)
        at = next(index for index, layer in enumerate(layers) if isinstance(getattr(layer, "lstm", None), nn.LSTM))
        self.lstm = layers[at].lstm
        self.parts: dict[str, nn.Module] = {
            "local": LocalNetwork(layers[:at]),
            "recurrent": Recurrent(self.lstm),
            "head": Head(layers[at + 1 :]),
        }
        # Frames before a block that its convolutions and its head see, rounded up.
        self.warm_up = -(-receptive_field(layers[:at]) // codec.hop)
        self.head_reach = receptive_field(layers[at + 1 :]) - 1
        # The recording's first frames are padded by their mirror image, so the first block has to hold all of that.
        self.least_block = max(self.warm_up, self.head_reach) + 1

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        return {name: part.eval() for name, part in self.parts.items()} | {"states": self.states(layers)}

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


class EncodecSegmentEncoder(EncodecEncoder):
    """The encoder contract for EnCodec's 48 kHz model."""

    def __init__(self, loaded: LoadedModel, codec: Codec) -> None:
        seconds = (codec.segment or 0) * codec.hop / codec.sampling_rate
        heard = "The mono signal goes to both channels of the codec. " if codec.channels > 1 else ""
        loudness = " and is divided by its own loudness" if codec.normalise else ""
        super().__init__(loaded, codec, notes=(f"{heard}Each segment of {seconds:g} s is computed alone{loudness}.",))
        self.network = SegmentNetwork(loaded.model.encoder, codec)

    def networks(self, layers: tuple[int, ...]) -> dict[str, nn.Module]:
        """See :class:`Encoder`."""
        return {"local": self.network.eval(), "states": self.states(layers)}

    def example(self, network: str, seconds: float) -> tuple[torch.Tensor, ...]:
        """See :class:`Encoder`."""
        generator, clock = torch.Generator().manual_seed(0), self.spec.clock
        if network == "local":
            return (torch.randn(1, max(1, round(seconds * clock.sampling_rate)), generator=generator),)
        return (torch.randn(max(1, clock.frames_in(seconds)), self.spec.dim, generator=generator),)

    def open(self, signal: "Signal", runners: Runners) -> FeatureStream:
        """Stream the encoder's output, a few segments at a time."""
        windows = self.codec.segments(signal.n_samples)
        number = {window.keep_start: index for index, window in enumerate(windows)}
        hop, length = self.spec.clock.hop, windows[0].stop * self.spec.clock.hop

        def compute(start: int, _stop: int) -> np.ndarray:
            """Frames of the next segments, however many they are."""
            batch = windows[number[start] : number[start] + SEGMENTS]
            sounds = [signal.read(window.start * hop, min(window.stop * hop, signal.n_samples)) for window in batch]
            # The last one may be some samples short of whole frames: it has a loudness and norms of its own length.
            whole = [sound for sound in sounds if len(sound) == length]
            frames = list(runners["local"](np.stack(whole))) if whole else []
            frames += [runners["local"](sound[None])[0] for sound in sounds[len(whole) :]]
            kept = zip(batch, frames, strict=True)
            return np.concatenate([seg[w.keep_start - w.start : w.keep_stop - w.start] for w, seg in kept])

        return BlockBuffer(compute, self.spec.clock.n_frames(signal.n_samples), block=1)


def build_encodec(loaded: LoadedModel) -> Encoder:
    """The encoder for a codec, by how it takes a recording.

    Raises:
        CheckpointError: it is neither like the 24 kHz nor like the 48 kHz codec.
    """
    codec, config = codec_of(loaded.model), loaded.model.config
    if codec.segment is not None:
        return EncodecSegmentEncoder(loaded, codec)
    if config.use_causal_conv and config.norm_type == "weight_norm" and not codec.normalise and codec.channels == 1:
        return EncodecStreamEncoder(loaded, codec)
    raise CheckpointError(
        f"{loaded.name}: a codec is embedded as a stream (mono, causal, without normalisation, as at 24 kHz) or in "
        f"segments (chunk_length_s, as at 48 kHz); got {codec.channels} channels, use_causal_conv "
        f"{config.use_causal_conv}, norm_type {config.norm_type}, normalize {config.normalize} and no chunk_length_s. "
        "Use facebook/encodec_24khz or facebook/encodec_48khz."
    )
