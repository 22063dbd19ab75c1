"""Train a head: evaluate its kind on held-out speakers first, then fit it on all of them and write it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arrays import OnProgress, Progress, ignore_progress
from core.checkpoints.find import describe_model, find_model
from core.embed.corpus import read_json
from core.emotion.head import Head
from core.errors import DataError, InputError
from core.scoring import EmotionFindings
from core.tasks.emotion.evaluation import evaluate_voices, running_facts, trainers
from core.tasks.emotion.examples import Voices, check_request, gather, read_labelled, with_layer
from core.tasks.emotion.requests import EmotionRequest, TrainedHead
from core.tasks.emotion.tuning import TunedHead, discard_state, tuned_facts, tuned_head
from core.tasks.emotion.watch import Watch, watched

if TYPE_CHECKING:
    from core.emotion.head_files import EncoderFacts


def train_emotion(
    request: EmotionRequest,
    output: Path,
    on_progress: OnProgress = ignore_progress,
    *,
    run_folder: Path | None = None,
    force: bool = False,
) -> TrainedHead:
    """Train a head on all speakers of a corpus, with the figures of its kind on speakers that were held out.

    Args:
        request: Data, encoder, head, folds.
        output: The head's folder.
        on_progress: Told of the embeddings in clips, then of folds.
        run_folder: Keeps curves and state, so that a stopped training goes on; None keeps nothing.
        force: Whether a head that is there is replaced.

    Raises:
        StrataError: anything that is wrong with the data, the model, a setting or the folder; nothing half-written is
            left.
    """
    from core.checkpoints.heads import check_head_target

    check_request(request)
    request = with_layer(request)
    check_head_target(output, force=force)
    if request.head.transductive:
        raise InputError(
            "A head that is trained on features on each speaker's own scale could not judge a single recording. Use "
            "evaluate --transductive, or train without it."
        )
    with watched(run_folder, on_progress) as watch:
        corpus = read_labelled(request.data, request.corpus, request)
        voices = gather(corpus, request, watch.on_progress)
        findings = evaluate_voices(voices, request, watch)
        watch.on_progress(Progress("train on all speakers", 0, 1, "head"))
        head = fit_all(voices, request, watch)
    _write(output, head, voices, findings, request, force)
    if request.head.tunes_encoder:
        discard_state(watch, "final", -1)
    on_progress(Progress("train on all speakers", 1, 1, "head"))
    return TrainedHead(output, findings.main.labels, findings)


def fit_all(voices: Voices, request: EmotionRequest, watch: Watch) -> Head:
    """Fit on all speakers, with temperature, threshold and reference from held-out ones among them."""
    from core.emotion.evaluate import finished

    if request.head.tunes_encoder:
        return tuned_head(voices, request, watch)
    return finished(trainers(request, watch, "final", voices.clips)(-1)(voices.examples), voices.examples)


def _write(
    folder: Path, head: Head, voices: Voices, findings: EmotionFindings, request: EmotionRequest, force: bool
) -> None:
    from core.checkpoints.heads import HearingConfig
    from core.emotion.head_files import head_config, training_facts, write_head

    encoder, lies = encoder_facts(request.embed.model), None
    if isinstance(head, TunedHead):
        encoder, lies = tuned_facts(head, encoder), head.encoder.folder
    hearing = HearingConfig(**running_facts(voices.running, "device"))
    config = head_config(head, findings.main.labels, encoder, float(voices.durations.min()), hearing)
    write_head(folder, head, config, training_facts(findings, head, request.card), encoder=lies, force=force)


def encoder_facts(model: str) -> "EncoderFacts":
    """What a head says of the encoder that it goes with."""
    from core.checkpoints.load import checkpoint_hashes
    from core.emotion.head_files import EncoderFacts

    found = find_model(model)
    weights, config = checkpoint_hashes(found.folder, found.name, from_user=found.from_user)
    rate = describe_model(found).sampling_rate
    assert rate is not None  # features were computed with it
    folder = str(found.folder.absolute()) if found.where == "folder" else ""
    return EncoderFacts(found.name, weights, config, rate, folder)


CARD_KEYS = ("license", "language", "tags", "summary", "trust", "data", "attribution")


def read_card(path: Path) -> dict[str, Any]:
    """Read what only a person can say of a head, for its card.

    Raises:
        DataError: the file is no JSON object of these keys.
    """
    content = read_json(path)
    if content is None:
        raise DataError(f"{path} is no JSON object. Expected the keys {', '.join(CARD_KEYS)}, as far as you want.")
    unknown = sorted(set(content) - set(CARD_KEYS))
    if unknown:
        raise DataError(f"{path} has {', '.join(unknown)}; a card takes {', '.join(CARD_KEYS)}.")
    return content
