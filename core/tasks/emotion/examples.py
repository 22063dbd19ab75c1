"""From a request to what heads are trained on: clips with features of the encoder and of the baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from core.arrays import EmbedSettings, OnProgress
from core.audio.reader import probe
from core.checkpoints.find import describe_model, find_model
from core.emotion.head import Examples
from core.emotion.pooling import parts_of
from core.errors import DataError, InputError, StrataError
from core.models.encodec import layer_of_bandwidth
from core.scoring import POOLINGS, Clip, CorpusSettings, HeadSettings, LabelledCorpus
from core.tasks.emotion.clips import (
    SUMMED_UP,
    Arrays,
    BaselineExtractor,
    ClipFeatures,
    EncoderExtractor,
    HashedClip,
    clip_features,
    hash_clips,
    listed,
)
from core.tasks.emotion.requests import BASELINES, EmotionRequest
from core.tasks.emotion.running import chosen
from core.tasks.encoders import Source

MOST_FRAME_BYTES = 4_000_000_000
"""Of all clips' frames in memory, which the pooling ``learned`` is trained on."""


@dataclass(frozen=True)
class Voices:
    """A corpus whose clips all have features.

    Attributes:
        corpus: The clips that could be used.
        clips: The same with hashes.
        examples: With the encoder's features.
        baseline: With the baseline's; the same rows.
        durations: (n,) seconds.
        embed_seconds: Wall time of decoding and embedding all clips, whenever that was.
        n_computed: Clips embedded now; the others' features lay there.
        running: How the encoder ran, with what ``auto`` came to.
        failures: What could not be used.
        notes: What else is to be known.
    """

    corpus: LabelledCorpus
    clips: tuple[HashedClip, ...]
    examples: Examples
    baseline: Examples
    durations: np.ndarray
    embed_seconds: float
    n_computed: int
    running: EmbedSettings
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
        raise InputError("An encoder is fine-tuned on recordings as they are. Use --loudness keep, or do not tune it.")
    if head.layer not in ("all", "last") and not head.layer.isdecimal():
        raise InputError(f"Got the layer {head.layer!r}; expected all, last or one number, such as 6.")


def with_layer(request: EmotionRequest) -> EmotionRequest:
    """Say which layer is meant by ``last``, by a bandwidth, and by ``all`` for a codec, before anything is computed.

    A codec's quantised forms are no depths of it: a mixture of them with what they are made of would be of one thing
    several times over.

    Raises:
        InputError: a layer or a bandwidth that the model does not have, a bandwidth and a layer, or a MEG model.
    """
    model, layer = describe_model(find_model(request.embed.model)), request.head.layer
    names, n_layers = model.layer_names, model.n_layers
    if model.modality != "audio":
        raise InputError(f"{model.name} takes MEG; emotions are told from sound here. Use a speech model.")
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
    running = chosen(source, request.embed, request.features_dir, on_progress)
    extractor = EncoderExtractor(source, request.embed, wants_frames(request.head), on_progress, running)
    hashed, notes, failures = hash_clips(corpus)
    take = partial(_needed, head=request.head)
    if wants_frames(request.head):
        _check_memory(hashed, lambda clips: clip_features(clips, extractor, request.features_dir, on_progress, take))
    main = clip_features(hashed, extractor, request.features_dir, on_progress, take)
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
        sum(float(main.arrays[row]["seconds"]) for row in rows),
        main.n_computed,
        running,
        corpus.failures,
        tuple(notes),
    )


def wants_frames(head: HeadSettings) -> bool:
    """Whether a head is trained on frames of an encoder that stays as it is."""
    return head.pooling == "learned" and not head.tunes_encoder


def _only(corpus: LabelledCorpus, kept: Sequence[HashedClip], failures: tuple[dict[str, str], ...]) -> LabelledCorpus:
    """Keep the clips that have features; what is said of the corpus is said of these.

    Raises:
        DataError: fewer than two classes or speakers are left.
    """
    from core.emotion.corpora.checks import check_clips, warnings_of

    clips = tuple(hashed.clip for hashed in kept)
    try:
        check_clips(clips)
    except DataError as error:
        raise DataError(
            f"Of {len(corpus.clips)} clips of {corpus.name} {len(clips)} can be used. {error} {listed(failures)}"
        ) from error
    of_all = set(warnings_of(corpus.clips))
    others = (warning for warning in corpus.warnings if warning not in of_all)
    return replace(corpus, clips=clips, failures=failures, warnings=(*others, *warnings_of(clips)))


# -------------------------------------------------------------------------------------------------------------- frames


def _needed(arrays: Arrays, head: HeadSettings) -> Arrays:
    """Leave frames of layers that a head does not take out of memory."""
    if "frames" not in arrays:
        return arrays
    return arrays | {"frames": arrays["frames"][_rows(arrays["layers"], head.layer)]}


def _check_memory(clips: Sequence[HashedClip], features: Callable[[Sequence[HashedClip]], ClipFeatures]) -> None:
    """Refuse before anything else is computed what would fill the memory with frames.

    Args:
        clips: All of them.
        features: Gives the features of some.

    Raises:
        InputError: they would take more than MOST_FRAME_BYTES.
    """
    for number in range(len(clips)):
        try:
            first = features(clips[number : number + 1])
        except DataError:  # said of this clip again, with the others
            continue
        frames, seconds = first.arrays[0]["frames"], sum(_seconds(clip.clip) for clip in clips)
        bytes_ = frames.nbytes / first.arrays[0]["facts"][0] * seconds
        if bytes_ > MOST_FRAME_BYTES:
            many = f"with --layer and one number, {bytes_ / len(frames) / 1e9:.1f} GB; " if len(frames) > 1 else ""
            raise InputError(
                f"The pooling learned holds all frames in memory: {len(clips):,} clips of {seconds / 60:,.0f} minutes "
                f"at {len(frames)} layers are about {bytes_ / 1e9:.1f} GB ({many}at most "
                f"{MOST_FRAME_BYTES / 1e9:.1f} GB). Use a single --layer, another --pooling such as attention, or "
                "fewer clips."
            )
        return


def _seconds(clip: Clip) -> float:
    """Length of a clip by its times or its file's header; 0 where that does not tell."""
    if clip.stop is not None:
        return clip.stop - (clip.start or 0.0)
    try:
        return (probe(clip.source).duration_seconds or 0.0) - (clip.start or 0.0)
    except StrataError:
        return 0.0


# ------------------------------------------------------------------------------------------------------------ features


def _rows(layers: np.ndarray, layer: str) -> np.ndarray:
    """Which of an encoder's layers are meant."""
    wanted = {"all": layers, "last": layers[-1:]}.get(layer)
    return np.flatnonzero(np.isin(layers, [int(layer)] if wanted is None else wanted))


def _examples(corpus: LabelledCorpus, arrays: Sequence[Arrays], head: HeadSettings) -> Examples:
    """Put the features of all clips into one array."""
    layers = arrays[0]["layers"]
    rows = _rows(layers, head.layer)
    if not len(rows):
        raise InputError(f"Got the layer {head.layer}; the model has the layers {layers[0]} to {layers[-1]}.")
    frames = tuple(kept["frames"] for kept in arrays) if wants_frames(head) else ()
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
