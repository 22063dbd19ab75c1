"""What EnCodec is, whoever implements it: rate, channels, segments, codebooks, and how its encoder is to be run.

Two implementations exist: transformers' ``EncodecModel`` and the one of Meta's package ``encodec``. Their networks are
the same operations in the same order, and both are read here into one record. The 24 kHz codec takes a recording as
one; the 48 kHz codec takes segments of one second, each divided by its own loudness.

Quantisation is residual: codebook k quantises what the first k - 1 left over, and the quantised embedding at a
bandwidth is the sum over its codebooks. All bandwidths are therefore partial sums of one pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from core.clock import Window, plan_windows
from core.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Both implementations add it to a segment's loudness before they divide by it.
LOUDNESS_EPSILON = 1e-8
ENCODER_OUTPUT = "encoder output"


@dataclass(frozen=True)
class Codec:
    """Facts of an EnCodec model.

    Attributes:
        sampling_rate: Samples a second.
        channels: 1, or 2 for the stereo codec.
        hop: Samples a frame.
        dim: Values a frame.
        normalise: Whether a segment is divided by the root mean square of its channels' mean.
        segment: Frames of a segment; None where the whole recording is one.
        context: Frames at each end of a segment whose convolutions see beyond it; 0 without segments.
        bandwidths: kbps, ascending.
        codebooks: How many codebooks each bandwidth sums.
        codebook_size: Entries of a codebook.
    """

    sampling_rate: int
    channels: int
    hop: int
    dim: int
    normalise: bool
    segment: int | None
    context: int
    bandwidths: tuple[float, ...]
    codebooks: tuple[int, ...]
    codebook_size: int

    def n_frames(self, n_samples: int) -> int:
        """Frames of ``n_samples`` samples: ``ceil(n_samples / hop)`` for every length."""
        return -(-n_samples // self.hop)

    def segments(self, n_samples: int) -> list[Window]:
        """Windows of one segment each, whose kept frames tile the recording; see :func:`core.clock.plan_windows`.

        The codec itself moves on by 99 % of a segment, 148.5 frames, adds a last stub, and leaves it to its decoder to
        fade the decoded sound over: its codes, laid end to end, are 1,515 frames for ten seconds, and those after the
        first segment have no place on a clock. Here segments begin on whole frames, a frame is kept from exactly one
        of them, and the last is moved back to full length, so that ten seconds give 1,500 frames. ``context`` frames
        are thrown away where two segments meet: no kept frame's convolutions see a segment's end for lack of sound.
        """
        n_frames = self.n_frames(n_samples)
        if self.segment is None:
            return [Window(0, n_frames, 0, n_frames)]
        return plan_windows(n_frames, self.segment - 2 * self.context, self.context)


def codec_of(model: Any) -> Codec:
    """Read the facts of transformers' or the encodec package's model.

    Raises:
        InputError: it is neither.
        CheckpointError: its segments are no whole number of frames, or shorter than its convolutions see.
    """
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) == "encodec":
        return _checked(_of_transformers(model))
    if all(hasattr(model, name) for name in ("encoder", "quantizer", "sample_rate", "target_bandwidths")):
        return _checked(_of_package(model))
    raise InputError(
        f"Got a {type(model).__name__}; expected an EnCodec model: transformers' EncodecModel or the encodec package's."
    )


def _of_transformers(model: Any) -> Codec:
    config = model.config
    hop = prod(config.upsampling_ratios)
    segment = config.chunk_length
    return Codec(
        sampling_rate=config.sampling_rate,
        channels=config.audio_channels,
        hop=hop,
        dim=config.hidden_size,
        normalise=bool(config.normalize),
        segment=None if segment is None else _whole_frames(segment, hop),
        context=0 if segment is None else _context(model.encoder.layers, hop),
        bandwidths=tuple(map(float, config.target_bandwidths)),
        codebooks=tuple(map(model.quantizer.get_num_quantizers_for_bandwidth, config.target_bandwidths)),
        codebook_size=config.codebook_size,
    )


def _of_package(model: Any) -> Codec:
    hop, rate = int(model.encoder.hop_length), model.frame_rate
    segment = model.segment_length
    return Codec(
        sampling_rate=model.sample_rate,
        channels=model.channels,
        hop=hop,
        dim=model.encoder.dimension,
        normalise=bool(model.normalize),
        segment=None if segment is None else _whole_frames(segment, hop),
        context=0 if segment is None else _context(model.encoder.model, hop),
        bandwidths=tuple(map(float, model.target_bandwidths)),
        codebooks=tuple(
            model.quantizer.get_num_quantizers_for_bandwidth(rate, bandwidth) for bandwidth in model.target_bandwidths
        ),
        codebook_size=model.quantizer.bins,
    )


def _whole_frames(n_samples: int, hop: int) -> int:
    if n_samples % hop:
        raise CheckpointError(
            f"The codec's segments are {n_samples} samples, which is no whole number of frames of {hop}. "
            "Use a chunk_length_s that is one, such as 1.0 at 48 kHz."
        )
    return n_samples // hop


def _context(layers: "Iterable[nn.Module]", hop: int) -> int:
    """Frames that half of the convolutions' field is long, rounded up."""
    return -(-(receptive_field(layers) // 2) // hop)


def _checked(codec: Codec) -> Codec:
    if codec.segment is not None and codec.segment <= 2 * codec.context:
        raise CheckpointError(
            f"The codec's segments are {codec.segment} frames; its convolutions see {codec.context} to each side. "
            "Use a model with longer segments (chunk_length_s)."
        )
    return codec


def receptive_field(layers: "Iterable[nn.Module]") -> int:
    """Samples that one output of a stack of convolutions sees: 1 + the sum of (k - 1) * dilation * stride so far."""
    from torch import nn

    field, stride = 1, 1
    for layer in layers:
        for conv in (module for module in layer.modules() if isinstance(module, nn.Conv1d)):
            field += (conv.kernel_size[0] - 1) * conv.dilation[0] * stride
            stride *= conv.stride[0]
    return field


def layer_names(bandwidths: Sequence[float]) -> tuple[str, ...]:
    """Names of a codec's states: 0 is the encoder's output, 1 to K its quantised forms, coarsest first."""
    return (ENCODER_OUTPUT, *(_quantised(bandwidth) for bandwidth in bandwidths))


def _quantised(kbps: float) -> str:
    return f"quantised, {kbps:g} kbps"


def layer_of_bandwidth(names: Sequence[str], kbps: float) -> int:
    """Number of the state that is quantised at a bandwidth.

    Args:
        names: ``layer_names`` of an encoder's spec or of a model's entry, or :func:`layer_names` of a config's
            ``target_bandwidths``.
        kbps: Kilobits a second, such as 6.

    Raises:
        InputError: the model has no such bandwidth, or none at all.
    """
    wanted = _quantised(kbps)
    if wanted in names:
        return list(names).index(wanted)
    known = [name.removeprefix("quantised, ").removesuffix(" kbps") for name in names if name.startswith("quantised, ")]
    if not known:
        raise InputError(f"Got a bandwidth of {kbps:g} kbps for a model that is no codec. Choose a layer instead.")
    raise InputError(
        f"Got a bandwidth of {kbps:g} kbps; this codec has {', '.join(known)}. The encoder's output, layer 0, does not "
        "depend on it."
    )


def codebooks_of(model: Any) -> "nn.ModuleList":
    """The codebooks of either implementation, first to last; each has ``encode`` and ``decode``."""
    quantizer = model.quantizer
    return quantizer.vq.layers if hasattr(quantizer, "vq") else quantizer.layers


def partial_sums(codebooks: "nn.ModuleList", features: "torch.Tensor", counts: Sequence[int]) -> "list[torch.Tensor]":
    """Quantise features, and return the sum over the first k codebooks for each k of ``counts``.

    Codes never leave this function, so that their axes (codebook, batch, frame) cannot be taken for others. It runs in
    float32 whatever the precision around it: a rounded distance is another code.

    Args:
        codebooks: Of :func:`codebooks_of`.
        features: (batch, dim, frames), the encoder's output.
        counts: Numbers of codebooks.

    Returns:
        (batch, dim, frames) float32 for each count.
    """
    import torch

    sums: dict[int, torch.Tensor] = {}
    with torch.autocast(features.device.type, enabled=False):
        residual, total = features.float(), torch.zeros((), device=features.device)
        for number, codebook in enumerate(codebooks[: max(counts)], start=1):
            quantised = codebook.decode(codebook.encode(residual))
            residual, total = residual - quantised, total + quantised
            if number in counts:
                sums[number] = total
    return [sums[count] for count in counts]


def encode_segment(encoder: "nn.Module", samples: "torch.Tensor", *, normalise: bool) -> "torch.Tensor":
    """Run the codec's encoder over one segment as the codec does.

    Args:
        encoder: The model's ``encoder``.
        samples: (batch, channels, time).
        normalise: Whether to divide by the loudness, the root mean square of the channels' mean over all of the time.

    Returns:
        (batch, dim, ceil(time / hop)).
    """
    if normalise:
        mono = samples.mean(dim=1, keepdim=True)
        samples = samples / (mono.pow(2).mean(dim=2, keepdim=True).sqrt() + LOUDNESS_EPSILON)
    return encoder(samples)
