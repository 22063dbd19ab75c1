"""Embeddings of EnCodec as tensors: the public functions of the document, for both implementations of the codec.

Audio is (batch, channels, time) at the codec's rate; a rate can be given, and then the audio is resampled to it. The
48 kHz codec is run in segments of one second on a uniform grid of frames, so that every length gives
``ceil(time / hop)`` frames. Clips of different lengths padded to one batch would hear their padding: embed each by
itself, or use :meth:`core.emotion.model.EmotionDetectionModel.get_embeddings` with lengths.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.audio.resample import resample_blocks
from core.emotion.pooling import pool
from core.errors import InputError
from core.models.encodec import (
    Codec,
    codebooks_of,
    codec_of,
    encode_segment,
    layer_names,
    layer_of_bandwidth,
    partial_sums,
)

if TYPE_CHECKING:
    from core.emotion.pooling import Lengths

AXES = {"KBT": (0, 1, 2), "BKT": (1, 0, 2)}
"""Orders of codes: K codebooks, B clips, T frames. Quantisers give and take the first, ``encode`` gives the second."""


@torch.no_grad()
def get_encoder_embeddings(model: Any, audio: torch.Tensor, sampling_rate: int | None = None) -> torch.Tensor:
    """The encoder's output before quantisation; it does not depend on any bandwidth.

    Args:
        model: transformers' ``EncodecModel`` or the encodec package's.
        audio: (batch, channels, time) floats in [-1, 1].
        sampling_rate: Of the audio, in Hz; None means that of the model.

    Returns:
        (batch, dim, frames).

    Raises:
        InputError: another kind of model, rank or number of channels, or samples that are no finite floats.
    """
    return encode(model, at_rate(audio, sampling_rate, codec_of(model)))


@torch.no_grad()
def get_quantized_embeddings(
    model: Any, audio: torch.Tensor, bandwidth: float, sampling_rate: int | None = None
) -> torch.Tensor:
    """The quantiser's output: for each frame, the sum of the codebook vectors at a bandwidth.

    The bandwidth has no default: where none is set, Meta's package takes all codebooks and transformers two.

    Args:
        model: transformers' ``EncodecModel`` or the encodec package's; its own bandwidth setting plays no part.
        audio: (batch, channels, time) floats in [-1, 1].
        bandwidth: kbps, one of the model's.
        sampling_rate: Of the audio, in Hz; None means that of the model.

    Returns:
        (batch, dim, frames), as many frames as :func:`get_encoder_embeddings`.

    Raises:
        InputError: as there, or a bandwidth that the model does not have.
    """
    codec = codec_of(model)
    count = _codebooks_at(codec, bandwidth)
    embeddings = encode(model, at_rate(audio, sampling_rate, codec))
    return partial_sums(codebooks_of(model), embeddings, [count])[0]


def _codebooks_at(codec: Codec, bandwidth: float) -> int:
    return codec.codebooks[layer_of_bandwidth(layer_names(codec.bandwidths), bandwidth) - 1]


@torch.no_grad()
def decode_codes(model: Any, codes: torch.Tensor, axes: str) -> torch.Tensor:
    """Embeddings of codes whose order of axes is said.

    ``quantizer.decode`` wants (K, B, T) and answers (B, K, T) with other clips' codebooks instead of an error.

    Args:
        model: transformers' ``EncodecModel`` or the encodec package's.
        codes: Whole numbers, in the order of ``axes``.
        axes: ``KBT`` for what ``quantizer.encode`` returns, ``BKT`` for the codes in what ``model.encode`` returns.

    Returns:
        (batch, dim, frames).

    Raises:
        InputError: another order, rank or type, more codebooks than the model has, or codes beyond them.
    """
    if axes not in AXES:
        raise InputError(f"Got axes {axes!r}; expected {' or '.join(AXES)}.")
    if codes.ndim != 3 or codes.is_floating_point():
        raise InputError(f"Got codes of type {codes.dtype} and shape {tuple(codes.shape)}; expected integers {axes}.")
    ordered, codec = codes.permute(AXES[axes]), codec_of(model)
    if len(ordered) not in codec.codebooks:
        raise InputError(
            f"Got {len(ordered)} codebooks in codes of shape {tuple(codes.shape)} read as {axes}; the model's "
            f"bandwidths have {', '.join(map(str, codec.codebooks))}. Check the order of the axes."
        )
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codec.codebook_size:
        raise InputError(
            f"Got codes from {int(codes.min())} to {int(codes.max())}; expected 0 to {codec.codebook_size - 1}."
        )
    return model.quantizer.decode(ordered)


def get_global_embeddings(embeddings: torch.Tensor, method: str = "mean", lengths: "Lengths" = None) -> torch.Tensor:
    """One vector a clip, from its real frames; see :func:`core.emotion.pooling.pool`.

    Args:
        embeddings: (batch, dim, frames).
        method: ``mean``, ``max``, ``std``, ``attention``, ``mean_std`` or ``multi``.
        lengths: Real frames of each clip; None where all are.

    Returns:
        (batch, k * dim).
    """
    return pool(embeddings, method, lengths)


def get_multi_scale_embeddings(model: Any, audio: torch.Tensor, sampling_rate: int | None = None) -> torch.Tensor:
    """Mean, max and std of the encoder's output side by side, (batch, 3 * dim); see :func:`get_encoder_embeddings`."""
    return pool(get_encoder_embeddings(model, audio, sampling_rate), "multi")


def encode(model: Any, audio: torch.Tensor) -> torch.Tensor:
    """What :func:`get_encoder_embeddings` returns, with gradients where they are wanted."""
    codec = codec_of(model)
    check_audio(audio, codec)
    pieces = []
    for window in codec.segments(audio.shape[-1]):
        sound = audio[..., window.start * codec.hop : window.stop * codec.hop]
        frames = encode_segment(model.encoder, sound, normalise=codec.normalise)
        pieces.append(frames[..., window.keep_start - window.start : window.keep_stop - window.start])
    return torch.cat(pieces, dim=-1)


def check_audio(audio: torch.Tensor, codec: Codec) -> None:
    """Refuse what the codec cannot hear as it is meant.

    Raises:
        InputError: another rank, another number of channels, no samples, integers, or samples that are not finite.
    """
    channels = codec.channels
    if audio.ndim != 3 or not audio.shape[0] or not audio.shape[-1] or not audio.is_floating_point():
        raise InputError(
            f"Got {audio.dtype} audio of shape {tuple(audio.shape)}; expected floats in [-1, 1] of shape (batch, "
            f"{channels}, time). Add axes with audio[None]; divide integers by their full scale."
        )
    if audio.shape[1] != channels:
        remedy = "audio.mean(dim=1, keepdim=True)" if channels == 1 else f"mono.expand(-1, {channels}, -1)"
        raise InputError(
            f"Got audio of shape {tuple(audio.shape)}, so {audio.shape[1]} channels; this codec takes {channels} "
            f"on the second axis. Use {remedy}."
        )
    if not torch.isfinite(audio).all():
        raise InputError("The audio holds samples that are NaN or infinite. Remove them first.")


def at_rate(audio: torch.Tensor, sampling_rate: int | None, codec: Codec) -> torch.Tensor:
    """The audio at the codec's rate, (batch, channels, time), resampled where it has another; without gradients."""
    check_audio(audio, codec)
    if sampling_rate is None or sampling_rate == codec.sampling_rate:
        return audio
    rows = audio.detach().float().cpu().numpy().reshape(-1, audio.shape[-1])
    resampled = [np.concatenate(list(resample_blocks([row], sampling_rate, codec.sampling_rate))) for row in rows]
    return torch.from_numpy(np.stack(resampled)).reshape(*audio.shape[:2], -1).to(audio)
