"""Classify recordings with a trained head: what it says, when it keeps silent, and how that is written down."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.audio.signal import open_signal
from core.checkpoints.heads import find_encoder, find_head
from core.embed.inputs import list_inputs
from core.embed.pipeline import plan, stream_states
from core.errors import StrataError
from core.scoring import INTENDED_USE, Prediction, Said
from core.tasks.emotion.requests import ClassifySettings
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

if TYPE_CHECKING:
    from core.emotion.head_files import SavedHead

WORDS = {
    "silence": "no sound to judge",
    "short": "too short",
    "unlike": "unlike the training clips",
    "unsure": "unsure",
}
"""Why a head keeps silent, in words."""


@dataclass(frozen=True)
class Classified:
    """What became of recordings: ``failures`` are ``{"file", "error"}``."""

    predictions: tuple[Prediction, ...]
    failures: tuple[dict[str, str], ...]


def classify_emotion(
    sources: Sequence[Path | str],
    checkpoint: str = "",
    settings: ClassifySettings | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Classified:
    """Say of each recording which emotion it sounds like; files that cannot be used are named, the others go on.

    Args:
        sources: Recordings, folders, lists.
        checkpoint: A bundled head's name or a head's folder; empty means the first bundled one.
        settings: Windows, threshold, device.
        on_progress: Told of the recordings, and of the seconds of each.

    Raises:
        StrataError: the head or its encoder cannot be used, or a setting is out of range.
    """
    from core.emotion.head_files import read_head
    from core.emotion.predict import PredictSettings, check_predict_settings

    settings = settings or ClassifySettings()
    how = PredictSettings(settings.window_seconds, settings.hop_seconds, settings.threshold)
    check_predict_settings(how)
    found = find_head(checkpoint)
    saved = read_head(found.folder, found.name)
    embed = _as_trained(saved, settings)
    ready = ready_encoder(Source(find_encoder(saved.config, saved.name, folder=found.folder)), embed, on_progress)
    otherwise = tuple(_heard_otherwise(saved, ready, embed))
    items = list_inputs([Path(source) for source in sources])
    predictions, failures = [], []
    for number, item in enumerate(items):
        on_progress(Progress("files", number, len(items), "files"))
        try:
            if item.error is not None:
                raise StrataError(item.error)
            said = _classified(item.source, saved, ready, item.settings(embed), how, on_progress)
            predictions.append(replace(said, warnings=(*otherwise, *said.warnings)))
        except StrataError as error:
            failures.append({"file": str(item.source), "error": str(error)})
    on_progress(Progress("files", len(items), len(items), "files"))
    return Classified(tuple(predictions), tuple(failures))


def _as_trained(saved: "SavedHead", settings: ClassifySettings) -> EmbedSettings:
    """Let the encoder hear as it did when the head was trained, but for what a person asks for."""
    heard = saved.config.hearing
    # ``auto`` takes bf16 where the processor has it and it agrees with float32: a head of float32 asks for that.
    precision = "fp32" if (settings.precision, heard.precision) == ("auto", "fp32") else settings.precision
    return EmbedSettings(
        saved.model,
        ",".join(map(str, saved.head.layers)),
        settings.device,
        settings.engine,
        precision,
        heard.chunk_seconds,
        heard.context_seconds,
        settings.channel,
        settings.max_seconds,
        heard.loudness if settings.loudness == "auto" else settings.loudness,
    )


def _heard_otherwise(saved: "SavedHead", ready: ReadyEncoder, embed: EmbedSettings) -> Iterator[str]:
    """Say in which ways the encoder hears otherwise than when the head was trained."""
    heard = saved.config.hearing
    if ready.choice.precision != heard.precision:
        yield (
            f"The head was trained on what its encoder computes in {heard.precision}; this was computed in "
            f"{ready.choice.precision}, which differs a little."
        )
    if embed.loudness != heard.loudness:
        yield (
            f"The head was trained with loudness {heard.loudness} and hears recordings with loudness {embed.loudness} "
            "now: its figures are not of such sound."
        )
    if heard.channel not in (None, embed.channel):
        yield (
            f"The head was trained on channel {heard.channel} of its recordings; where yours have several, name one "
            "(--channel)."
        )


def _classified(
    source: Path,
    saved: "SavedHead",
    ready: ReadyEncoder,
    embed: EmbedSettings,
    how: Any,
    on_progress: OnProgress,
) -> Prediction:
    from core.emotion.predict import Heard, predict

    spec = ready.encoder.spec
    with open_signal(source, spec.clock.sampling_rate, embed.channel, embed.max_seconds, on_progress) as signal:
        windows = plan(spec, signal.n_samples, embed, str(source))
        states = stream_states(ready.encoder, ready.runners, signal, windows, on_progress)
        return predict(saved, Heard(source, signal, spec.clock, windows.n_frames, states), how)


# --------------------------------------------------------------------------------------------------------------- words


def predictions_as_json(outcome: Classified) -> dict[str, Any]:
    """Put together what ``classify --json`` prints."""
    return {
        "intended_use": INTENDED_USE,
        "predictions": [_prediction_json(one) for one in outcome.predictions],
        "failures": list(outcome.failures),
    }


def _prediction_json(one: Prediction) -> dict[str, Any]:
    return {
        "file": str(one.source),
        "head": one.head,
        "model": one.model,
        "threshold": one.threshold,
        **_said_json(one.clip, one.labels),
        "timeline": [_said_json(said, one.labels) for said in one.timeline],
        "warnings": list(one.warnings),
    }


def _said_json(said: Said, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "start": said.start,
        "stop": said.stop,
        "label": said.label or None,
        "abstained": bool(said.why),
        "why": said.why or None,
        "confidence": float(said.probabilities.max()),
        "distance": said.distance,
        "probabilities": dict(zip(labels, map(float, said.probabilities), strict=True)),
    }


def predictions_as_text(outcome: Classified) -> str:
    """Put together what ``classify`` prints: a line a recording, of the label, its probability and the file."""
    return "".join(f"{_line(one)}\n" for one in outcome.predictions)


def _line(one: Prediction) -> str:
    said = one.clip
    best = one.labels[int(said.probabilities.argmax())]
    share = f"{best} {said.probabilities.max():.2f}"
    answer = f"no answer ({WORDS[said.why]}; {share})" if said.why else share
    return f"{one.source}\t{answer}"


def timeline_rows(one: Prediction) -> Iterable[Mapping[str, Any]]:
    """Rows of a table: the clip first, then its windows."""
    for what, said in (("clip", one.clip), *(("window", said) for said in one.timeline)):
        plain = _said_json(said, one.labels)
        yield {"what": what, **{k: v for k, v in plain.items() if k != "probabilities"}, **plain["probabilities"]}
