"""Fine-tuning: the encoder learns with the head, at the document's two learning rates.

Each clip goes through the encoder as one window, by itself: nothing is padded, and what the network sees is what the
ordinary pipeline computes. The encoder stays in eval mode, in which it is trained: its own dropout would leave out
whole layers of those that the mixture weighs. What a family computes before its transformer stays as it is (the
convolutions of wav2vec 2.0, as in its own fine-tuning, Baevski et al. 2020, section 4.3; Whisper's log-mel); EnCodec
is trained from its first convolution to its last.

One fifth of the speakers is not trained on: their loss says when to stop, and what they get is what calibration comes
from. Once an encoder has heard the labels, no other held-out speakers can be had without training another one.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.audio.signal import Signal
from core.embed.encoder import Encoder
from core.embed.encoders import build_encoder
from core.emotion.folds import validation_split
from core.emotion.head import Head, HeldOut
from core.emotion.network import (
    Batch,
    EmotionNetwork,
    Listener,
    Material,
    Mixture,
    OnMetrics,
    Scales,
    as_head,
    chosen_layer,
    fit,
    inner_folds,
    loop_settings,
    scales_of,
    seeded,
)
from core.emotion.pooling import pool
from core.errors import DataError
from core.models.encodec import Codec, codec_of, encode_segment
from core.models.loaded import LoadedModel
from core.scoring import Fold, HeadSettings
from core.training.loop import Hooks

CACHE_BYTES = 1 << 29
"""Inputs of the encoder that are kept in memory from one epoch to the next."""


# -------------------------------------------------------------------------------------------- encoders with gradients


class CodecFrames(nn.Module):
    """EnCodec's encoder on a mono signal, segment by segment where the codec has segments."""

    def __init__(self, encoder: nn.Module, codec: Codec) -> None:
        super().__init__()
        self.encoder, self.codec = encoder, codec

    def forward(self, samples: Tensor) -> Tensor:
        """Turn (time,) samples into (1, frames, dim): layer 0."""
        codec, kept = self.codec, []
        for window in codec.segments(len(samples)):
            heard = samples[window.start * codec.hop : window.stop * codec.hop].expand(1, codec.channels, -1)
            frames = encode_segment(self.encoder, heard, normalise=codec.normalise)
            kept.append(frames[..., window.keep_start - window.start : window.keep_stop - window.start])
        return torch.cat(kept, dim=2).transpose(1, 2)


@dataclass(frozen=True)
class Trainable:
    """An encoder that can be trained.

    Attributes:
        states: Turns a clip's input into (n_layers, frames, dim), with gradients.
        layers: Their numbers.
        prepare: Turns (time,) samples into that input, and tells how many of the frames are real.
    """

    states: nn.Module
    layers: tuple[int, ...]
    prepare: Callable[[np.ndarray], tuple[np.ndarray, int]]


def trainable(loaded: LoadedModel) -> Trainable:
    """Make a loaded model trainable; its weights are the ones that are trained."""
    if loaded.model_type == "encodec":
        codec = codec_of(loaded.model)
        states = CodecFrames(loaded.model.encoder, codec)
        return Trainable(states, (0,), lambda samples: (samples, codec.n_frames(len(samples))))
    encoder = build_encoder(loaded)
    layers = tuple(range(encoder.spec.n_layers + 1))
    networks = encoder.networks(layers)
    return Trainable(networks["states"], layers, lambda samples: _features(encoder, networks, samples))


def _features(encoder: Encoder, networks: dict[str, nn.Module], samples: np.ndarray) -> tuple[np.ndarray, int]:
    """What goes into the states network for a whole clip, and the number of its frames.

    Raises:
        DataError: the clip is too short for a frame, or longer than the model takes at a time.
    """
    clock, most = encoder.spec.clock, encoder.spec.max_frames
    n_frames = clock.require_frames(len(samples), "A clip")
    if most is not None and n_frames > most:
        raise DataError(
            f"A clip is {len(samples) / clock.sampling_rate:.1f} s long; {encoder.spec.name} takes at most "
            f"{most / clock.frame_rate:g} s at a time. Cut it into shorter clips (start and end in the list)."
        )

    @torch.inference_mode()
    def local(*inputs: np.ndarray) -> np.ndarray:
        return np.asarray(networks["local"](*map(torch.from_numpy, inputs)).numpy())

    with Signal.from_array(samples, clock.sampling_rate) as signal:
        return encoder.open(signal, {"local": local}).read(0, n_frames), n_frames


class TunedNetwork(nn.Module):
    """Encoder, pooling and head in one.

    Args:
        encoder: The states network.
        network: From pooled layers, or from frames, to logits.
        pooling: How frames become one vector.
        device: Where the encoder runs; the head is small, and its dropout has to be drawn alike everywhere.
    """

    def __init__(self, encoder: nn.Module, network: EmotionNetwork, pooling: str, device: str) -> None:
        super().__init__()
        self.encoder, self.network = encoder.to(device), network
        self.pooling, self.device = pooling, device

    def train(self, mode: bool = True) -> "TunedNetwork":
        """Switch the head's dropout; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, *clips: tuple[np.ndarray, int]) -> Tensor:
        """Turn inputs of the encoder, each with its number of real frames, into logits (batch, n_classes)."""
        states = [seen(self.encoder, clip, self.device) for clip in clips]
        if self.network.attention is not None:
            return torch.cat([self.network(one[None]) for one in states])
        return self.network(torch.stack([pooled(one, self.pooling) for one in states]))


def seen(encoder: nn.Module, clip: tuple[np.ndarray, int], device: str) -> Tensor:
    """States (n_layers, frames, dim) of one clip's real frames.

    What lies between is computed again for the gradients: a batch of clips would otherwise fill the memory.
    """
    features = torch.from_numpy(clip[0]).to(device)
    return checkpoint(encoder, features, use_reentrant=False)[:, : clip[1]].cpu()


def pooled(states: Tensor, pooling: str) -> Tensor:
    """Pool (n_layers, frames, dim) to (n_layers, k * dim)."""
    return pool(states.transpose(1, 2), pooling)


# ------------------------------------------------------------------------------------------------------------ the task


@dataclass(frozen=True)
class FineTuning:
    """What is fine-tuned, and on what.

    Attributes:
        clips: (time,) float32 samples in [-1, 1], mono, at the model's sampling rate.
        codes: (n,) int64 numbers of the classes.
        speakers: (n,) who speaks.
        n_classes: Classes there are.
        settings: How; ``encoder_learning_rate`` 0 leaves the encoder as it is.
        device: Where the encoder runs.
    """

    clips: Sequence[np.ndarray]
    codes: np.ndarray
    speakers: np.ndarray
    n_classes: int
    settings: HeadSettings
    device: str = "cpu"


def finetune(
    loaded: LoadedModel,
    task: FineTuning,
    folder: Path | None = None,
    on_metrics: OnMetrics = lambda row: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Any, Head]:
    """Train an encoder with a head.

    Args:
        loaded: The model; it stays as it is.
        task: Clips, classes and settings.
        folder: Keeps what was trained, so that the same call goes on where it was stopped; None keeps nothing.
        on_metrics: Gets a row for each epoch; see :class:`core.emotion.network.NetworkTrainer`.
        should_stop: Asked before every update.

    Returns:
        The tuned model, for :func:`core.checkpoints.save.save_checkpoint`, and a head for its features, with
        ``held_out`` of the speakers that were not trained on.

    Raises:
        StrataError: a layer or a pooling that there is not, or a clip that the model cannot take.
        Stopped: it was asked to; with a folder, the same call goes on.
    """
    tuned = copy.deepcopy(loaded.model).eval()
    encoder = trainable(replace(loaded, model=tuned))
    fold, what = _held_out_fold(task)
    inputs = _Inputs(encoder, task.clips)
    material = Material(inputs, task.codes, task.n_classes, task.settings)
    with seeded(task.settings.seed):
        network = _network(encoder, inputs, fold.train, task)
        history = _fit(network, material, fold, folder, (on_metrics, should_stop), _fingerprint(loaded, task))
        held = (
            HeldOut(material.logits(network, fold.test), task.codes[fold.test], fold.test) if len(fold.test) else None
        )
    notes = {"held_out": what, "histories": [history]}
    head = replace(as_head(network.network, encoder.layers, task.settings.pooling), held_out=held, notes=notes)
    return tuned.cpu().requires_grad_(True), head


def _held_out_fold(task: FineTuning) -> tuple[Fold, str]:
    """Who is trained on and who says when to stop."""
    train, held = validation_split(task.speakers, task.codes, task.settings.seed)
    if len(held):
        count = len(np.unique(task.speakers[held]))
        return Fold(train, held), "1 speaker" if count == 1 else f"{count} speakers"
    folds, _ = inner_folds(task.speakers, task.codes, 5, task.settings.seed)
    return (folds[0], "clips of the one speaker") if folds else (Fold(train, held), "nothing")


def _network(encoder: Trainable, inputs: "_Inputs", rows: np.ndarray, task: FineTuning) -> TunedNetwork:
    """Encoder and untrained head, with the scales that the encoder's features have before any training."""
    settings = task.settings
    trains_encoder = settings.encoder_learning_rate > 0
    encoder.states.requires_grad_(trains_encoder).to(task.device)
    learned = settings.pooling == "learned"
    with torch.inference_mode():
        states = (seen(encoder.states, inputs.one(row), task.device) for row in rows)
        pieces = [(one if learned else pooled(one, settings.pooling)[:, None]).numpy() for one in states]
    scales: Scales = scales_of(pieces)
    torch.manual_seed(settings.seed)
    mixture = Mixture(scales, chosen_layer(settings, encoder.layers))
    network = EmotionNetwork(mixture, task.n_classes, attention=learned)
    return TunedNetwork(encoder.states, network, settings.pooling, task.device)


def _fit(
    network: TunedNetwork,
    material: Material,
    fold: Fold,
    folder: Path | None,
    hands: tuple[OnMetrics, Callable[[], bool]],
    data: str,
) -> list[dict[str, float]]:
    """Train encoder and head with a learning rate each."""
    rate, per_epoch = material.settings.encoder_learning_rate, material.steps_per_epoch(fold.train)
    own = {"encoder.": rate} if rate > 0 else {}
    # An epoch costs more than the state that it is kept in.
    wanted = loop_settings(material, fold.train, data=data, own_rates=own, checkpoint_every=per_epoch)
    listener = Listener(hands[0], "fine-tuning", per_epoch)
    hooks = Hooks(validate=material.validate(fold), should_stop=hands[1], on_log=listener)
    return fit(network, material.step(fold.train), wanted, folder, hooks)


class _Inputs:
    """What goes into the encoder for each clip; kept as far as memory is meant for it."""

    def __init__(self, encoder: Trainable, clips: Sequence[np.ndarray]) -> None:
        self.encoder, self.clips = encoder, clips
        self._kept: dict[int, tuple[np.ndarray, int]] = {}
        self._bytes = 0

    def __call__(self, rows: np.ndarray) -> Batch:
        """The batch of some clips."""
        return tuple(map(self.one, rows))

    def one(self, row: int) -> tuple[np.ndarray, int]:
        """Input and number of real frames of one clip."""
        if int(row) in self._kept:
            return self._kept[int(row)]
        made = self.encoder.prepare(np.asarray(self.clips[row], dtype=np.float32))
        if self._bytes + made[0].nbytes <= CACHE_BYTES:
            self._kept[int(row)] = made
            self._bytes += made[0].nbytes
        return made


def _fingerprint(loaded: LoadedModel, task: FineTuning) -> str:
    """SHA-256 of model and clips: a run does not go on with others."""
    digest = hashlib.sha256(repr((loaded.sha256, task.speakers.tolist(), task.codes.tolist())).encode())
    for clip in task.clips:
        digest.update(np.ascontiguousarray(clip).data)
    return digest.hexdigest()
