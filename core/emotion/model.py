"""The document's classifier: EnCodec's encoder, frozen, its frames pooled, and a small head on top."""

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional

from core.checkpoints.find import find_model
from core.checkpoints.load import load_model
from core.emotion.encodec import at_rate, check_audio, encode
from core.emotion.pooling import LearnedAttention, frame_counts, parts_of, pool
from core.errors import InputError
from core.models.emotion import EmotionHead
from core.models.encodec import codec_of

if TYPE_CHECKING:
    from core.emotion.pooling import Lengths


class EmotionDetectionModel(nn.Module):
    """EnCodec's encoder and a head dim-256-128-classes.

    Attributes:
        encodec: The codec. Its parameters want no gradient, and it stays in eval mode whatever the model's mode, until
            :meth:`unfreeze`.
        codec: Its facts: rate, channels, hop.
        classifier: The head.
        attention: The trained pooling, where that was asked for; else None.
    """

    def __init__(
        self, num_classes: int = 8, encoder: "str | nn.Module" = "encodec_24khz", pooling: str = "mean"
    ) -> None:
        """Take or load the codec, freeze it, and draw a head.

        Args:
            num_classes: Classes to tell apart, at least 2.
            encoder: An EnCodec model of transformers or of the encodec package, which is frozen in place, or the name
                of one: ``encodec_24khz``, ``encodec_48khz``, a folder or a hub id.
            pooling: ``mean``, ``max``, ``std``, ``mean_std``, ``multi``, ``attention`` or ``learned``.

        Raises:
            InputError: too few classes, no EnCodec model, or an unknown pooling.
            CheckpointError: a model of that name cannot be found or loaded.
        """
        super().__init__()
        if num_classes < 2:
            raise InputError(f"Got {num_classes} classes; expected at least 2.")
        self.encodec: Any = _loaded(encoder) if isinstance(encoder, str) else encoder
        self.codec = codec_of(self.encodec)
        self.pooling = pooling
        self.attention = LearnedAttention(self.codec.dim) if pooling == "learned" else None
        width = self.codec.dim * (1 if pooling == "learned" else len(parts_of(pooling)))
        self.classifier = EmotionHead(width, num_classes)
        self.encodec.requires_grad_(False)
        self.train(self.training)

    @property
    def sampling_rate(self) -> int:
        """Samples a second that audio must have."""
        return self.codec.sampling_rate

    @property
    def is_frozen(self) -> bool:
        """Whether no parameter of the codec's encoder is trained."""
        return not any(parameter.requires_grad for parameter in self.encodec.encoder.parameters())

    def get_embeddings(
        self, audio: torch.Tensor, lengths: "Lengths" = None, sampling_rate: int | None = None
    ) -> torch.Tensor:
        """The encoder's output for each clip, over its real samples only.

        Args:
            audio: (batch, channels, time), floats in [-1, 1].
            lengths: Real samples of each clip, where shorter ones were padded at their end; None where all are real.
                Clips of one length are computed together and without their padding, which convolutions, loudness and
                norms would hear otherwise.
            sampling_rate: Of the audio, in Hz: audio at another rate than the codec's is resampled. None means that it
                is the codec's.

        Returns:
            (batch, dim, frames), with zeros after a clip's last frame.

        Raises:
            InputError: another rank or number of channels, or lengths that do not fit.
        """
        audio, lengths = self._at_own_rate(audio, lengths, sampling_rate)
        check_audio(audio, self.codec)
        counts = frame_counts(lengths, len(audio), audio.shape[-1])
        most = self.codec.n_frames(max(counts))
        rows: list[torch.Tensor | None] = [None] * len(audio)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            for count in sorted(set(counts)):
                alike = [row for row, length in enumerate(counts) if length == count]
                frames = encode(self.encodec, audio[alike, :, :count])
                padded = functional.pad(frames, (0, most - frames.shape[-1]))
                for row, values in zip(alike, padded, strict=True):
                    rows[row] = values
        return torch.stack([row for row in rows if row is not None])

    def _at_own_rate(
        self, audio: torch.Tensor, lengths: "Lengths", sampling_rate: int | None
    ) -> tuple[torch.Tensor, "Lengths"]:
        """Resample audio, and the lengths with it."""
        if not isinstance(audio, torch.Tensor):
            raise InputError(f"Got audio as {type(audio).__name__}; expected a torch tensor (batch, channels, time).")
        if sampling_rate is None or sampling_rate == self.codec.sampling_rate:
            return audio, lengths
        check_audio(audio, self.codec)
        counts = frame_counts(lengths, len(audio), audio.shape[-1])
        resampled = at_rate(audio, sampling_rate, self.codec)
        longest = resampled.shape[-1]
        return resampled, [min(longest, -(-count * self.codec.sampling_rate // sampling_rate)) for count in counts]

    def forward(self, audio: torch.Tensor, lengths: "Lengths" = None, sampling_rate: int | None = None) -> torch.Tensor:
        """Logits of each class, (batch, num_classes); see :meth:`get_embeddings` for the arguments."""
        audio, lengths = self._at_own_rate(audio, lengths, sampling_rate)
        embeddings = self.get_embeddings(audio, lengths)
        frames = [self.codec.n_frames(count) for count in frame_counts(lengths, len(audio), audio.shape[-1])]
        if self.attention is not None:
            return self.classifier(self.attention(embeddings, frames))
        return self.classifier(pool(embeddings, self.pooling, frames))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head; of the codec only its encoder follows, and only where it is trained.

        (It has no dropout; but CUDA's LSTM gives gradients in training mode alone.)
        """
        super().train(mode)
        self.encodec.eval()
        if not self.is_frozen:
            self.encodec.encoder.train(mode)
        return self

    def unfreeze(self) -> None:
        """Let the codec's encoder be trained as well; its decoder and codebooks stay as they are."""
        self.encodec.encoder.requires_grad_(True)
        self.train(self.training)

    def parameter_groups(self, encoder_lr: float = 1e-5, head_lr: float = 1e-3) -> list[dict[str, Any]]:
        """Groups for an optimiser: what is trained of the encoder, then the head, each with its learning rate."""
        trained = [parameter for parameter in self.encodec.encoder.parameters() if parameter.requires_grad]
        head = [*self.classifier.parameters(), *(self.attention.parameters() if self.attention is not None else ())]
        groups = [{"params": trained, "lr": encoder_lr}] if trained else []
        return [*groups, {"params": head, "lr": head_lr}]


def _loaded(name: str) -> Any:
    """The EnCodec model of a name.

    Raises:
        InputError: it is another kind of model.
    """
    found = find_model(name)
    loaded = load_model(found.folder, found.name, from_user=found.from_user)
    if loaded.model_type != "encodec":
        raise InputError(
            f"{found.name} is a {loaded.model_type} model; expected an EnCodec: encodec_24khz, encodec_48khz, or a "
            "folder with one. Other encoders are used with python -m core emotion train --model."
        )
    return loaded.model
