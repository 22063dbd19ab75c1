"""From a request to what heads are trained on: clips with features of the encoder and of the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.arrays import OnProgress
from core.checkpoints.find import describe_model, find_model
from core.emotion.head import Examples
from core.emotion.pooling import parts_of
from core.errors import DataError, InputError
from core.models.encodec import layer_of_bandwidth
from core.scoring import POOLINGS, CorpusSettings, HeadSettings, LabelledCorpus
from core.tasks.emotion.clips import (
    SUMMED_UP,
    Arrays,
    BaselineExtractor,
    EncoderExtractor,
    HashedClip,
    clip_features,
    hash_clips,
    listed,
)
from core.tasks.emotion.requests import BASELINES, EmotionRequest
from core.tasks.encoders import Source


@dataclass(frozen=True)
class Voices:
    """A corpus whose clips all have features.

    Attributes:
        corpus: The clips that could be used.
        clips: The same with hashes.
        examples: With the encoder's features.
        baseline: With the baseline's; the same rows.
        durations: (n,) seconds.
        embed_seconds: Wall time of the embeddings that were computed now, and how many they were.
        n_embedded: Clips embedded now.
        failures: What could not be used.
        notes: What else is to be known.
    """

    corpus: LabelledCorpus
    clips: tuple[HashedClip, ...]
    examples: Examples
    baseline: Examples
    durations: np.ndarray
    embed_seconds: float
    n_embedded: int
    failures: tuple[dict[str, str], ...]
    notes: tuple[str, ...]

    @property
    def pooled(self) -> Examples:
        """The encoder's features without frames."""
        return replace(self.examples, frames=())


def check_request(request: EmotionRequest) -> None:
    """Refuse before anything is computed what no corpus could get past.

    Raises:
        InputError: an unknown pooling, baseline or head, or settings that do not go together.
    """
    head = request.head
    for what, value, known in (
        ("pooling", head.pooling, POOLINGS),
        ("head", head.head, ("linear", "mlp")),
        ("baseline", request.baseline, BASELINES),
    ):
        if value not in known:
            raise InputError(f"Got the {what} {value!r}; expected one of {', '.join(known)}.")
    if head.pooling == "learned" and head.head != "mlp":
        raise InputError("The pooling learned is trained with the head mlp. Use --head mlp, or another --pooling.")
    if head.tunes_encoder and head.head != "mlp":
        raise InputError("An encoder is fine-tuned with the head mlp. Use --head mlp, or leave the encoder as it is.")
    if head.tunes_encoder and head.transductive:
        raise InputError("A fine-tuned encoder takes clips one by one, not on each speaker's scale. Leave one of both.")
    if head.tunes_encoder and request.embed.loudness != "keep":
        raise InputError("An encoder is fine-tuned on recordings as they are. Use --loudness keep, or leave it as it is.")
    if head.layer not in ("all", "last") and not head.layer.isdecimal():
        raise InputError(f"Got the layer {head.layer!r}; expected all, last or one number, such as 6.")


def with_layer(request: EmotionRequest) -> EmotionRequest:
    """Say which layer is meant by ``last``, by a bandwidth, and by ``all`` for a codec, before anything is computed.

    A codec's quantised forms are no depths of it: a mixture of them with what they are made of would be of one thing
    several times over.

    Raises:
        InputError: a layer or a bandwidth that the model does not have, or a bandwidth and a layer.
    """
    model, layer = describe_model(find_model(request.embed.model)), request.head.layer
    names, n_layers = model.layer_names, model.n_layers
    if request.bandwidth is not None:
        if layer not in ("all", "last"):
            raise InputError(f"Got the layer {layer} and a bandwidth of {request.bandwidth:g} kbps; give one of them.")
        layer = str(layer_of_bandwidth(names, request.bandwidth))
    elif names and layer in ("all", "last"):
        layer = "0"
    elif layer == "last" and n_layers is not None:
        layer = str(n_layers)
    if n_layers is not None and layer not in ("all", "last") and int(layer) > n_layers:
        raise InputError(f"Got the layer {layer}; {model.name} has the layers 0 to {n_layers}.")
    if names and request.head.tunes_encoder and layer != "0":
        raise InputError(f"{model.name}: what is quantised cannot be fine-tuned. Use layer 0, without a bandwidth.")
    return replace(request, head=replace(request.head, layer=layer))


def read_labelled(data: Path, settings: CorpusSettings, request: EmotionRequest) -> LabelledCorpus:
    """Read a corpus; what a zip holds lies beside the features, where it is found again."""
    from core.emotion.corpora import read_corpus

    return read_corpus(data, settings, request.features_dir / "unpacked", confined=request.confined)


def gather(corpus: LabelledCorpus, request: EmotionRequest, on_progress: OnProgress) -> Voices:
    """Compute or read the features of a corpus, with the encoder and with the baseline.

    Raises:
        DataError: a file cannot be used and none may be missing, or too little is left.
        StrataError: the model cannot be loaded, or the features cannot be kept.
    """
    source = Source(find_model(request.embed.model))
    extractor = EncoderExtractor(source, request.embed, wants_frames(request.head), on_progress)
    hashed, notes, failures = hash_clips(corpus)
    main = clip_features(hashed, extractor, request.features_dir, on_progress)
    plain = clip_features(main.clips, BaselineExtractor(request.baseline), request.features_dir, on_progress)
    both = set(plain.clips)
    rows = [row for row, clip in enumerate(main.clips) if clip in both]
    failures = [*failures, *main.failures, *plain.failures]
    if failures and not request.corpus.skip_missing:
        raise DataError(
            f"{len(failures)} of {len(corpus.clips)} clips cannot be used: {listed(failures)}. Correct them, or leave "
            "them out with --skip-missing; the others' features are kept."
        )
    kept = tuple(main.clips[row] for row in rows)
    corpus = _only(corpus, kept, (*corpus.failures, *failures))
    return Voices(
        corpus,
        kept,
        _examples(corpus, [main.arrays[row] for row in rows], request.head),
        _examples(corpus, plain.arrays, HeadSettings(pooling="mean")),
        np.array([main.arrays[row]["facts"][0] for row in rows]),
        main.seconds if main.n_computed else 0.0,
        main.n_computed,
        corpus.failures,
        tuple(notes),
    )


def wants_frames(head: HeadSettings) -> bool:
    """Whether a head is trained on frames of an encoder that stays as it is."""
    return head.pooling == "learned" and not head.tunes_encoder


def _only(corpus: LabelledCorpus, kept: Sequence[HashedClip], failures: tuple[dict[str, str], ...]) -> LabelledCorpus:
    """Keep the clips that have features.

    Raises:
        DataError: fewer than two classes or speakers are left.
    """
    left = replace(corpus, clips=tuple(hashed.clip for hashed in kept), failures=failures)
    for what, count in (("class", len(left.labels)), ("speaker", len(set(left.speakers.tolist())))):
        if count < 2:
            raise DataError(
                f"{corpus.name} has clips of {count} {what} that can be used; at least 2 are needed. Of "
                f"{len(corpus.clips)} clips {len(left.clips)} are left. {listed(failures)}"
            )
    return left


def _examples(corpus: LabelledCorpus, arrays: Sequence[Arrays], head: HeadSettings) -> Examples:
    """Put the features of all clips into one array."""
    layers = arrays[0]["layers"]
    wanted = {"all": layers, "last": layers[-1:]}.get(head.layer)
    rows = np.flatnonzero(np.isin(layers, [int(head.layer)] if wanted is None else wanted))
    if not len(rows):
        raise InputError(f"Got the layer {head.layer}; the model has the layers {layers[0]} to {layers[-1]}.")
    frames = tuple(kept["frames"][rows] for kept in arrays) if wants_frames(head) else ()
    return Examples(
        tuple(int(layer) for layer in layers[rows]),
        np.stack([pooled(kept["pooled"][rows], head.pooling) for kept in arrays], axis=1),
        corpus.codes,
        corpus.speakers,
        len(corpus.labels),
        frames,
    )


def pooled(statistics: np.ndarray, pooling: str) -> np.ndarray:
    """Put a pooling together from what is kept of each clip.

    Args:
        statistics: (n_layers, statistics, dim), in the order of SUMMED_UP; of the baseline one alone.
        pooling: One of POOLINGS; ``learned`` pools frames itself, and gets means to take scales from.

    Returns:
        (n_layers, k * dim) float32.
    """
    names = ("mean",) if pooling == "learned" else parts_of(pooling)
    return np.concatenate([statistics[:, SUMMED_UP.index(name)] for name in names], axis=1)
