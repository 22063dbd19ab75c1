"""Evaluate a kind of head on labelled recordings, and train one: what stands behind both doors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.checkpoints.find import describe_model, find_model
from core.emotion.head import Examples, Trainer
from core.figures.names import file_label
from core.scoring import CorpusSettings, CrossScore, EmotionFindings, Estimate, Evaluation, Fold, LabelledCorpus
from core.tasks.emotion.clips import HashedClip
from core.tasks.emotion.examples import Voices, check_request, gather, read_labelled, with_layer
from core.tasks.emotion.requests import EmotionRequest
from core.tasks.emotion.tuning import IN_EACH_FOLD, Tuner, discard_state, trained_on, tuning_key, tuning_notes
from core.tasks.emotion.watch import Watch, watched
from core.tasks.encoders import Source

SHUFFLED = "shuffled labels"
"""What names of controls begin with: what they find unlike is not asked."""


def evaluate_emotion(
    request: EmotionRequest, on_progress: OnProgress = ignore_progress, run_folder: Path | None = None
) -> EmotionFindings:
    """Find out what a kind of head is worth on speakers that it never heard.

    Args:
        request: Data, encoder, head, folds.
        on_progress: Told of the embeddings in clips, then of folds.
        run_folder: Keeps curves and finished folds, so that a stopped run goes on; None keeps nothing.

    Raises:
        StrataError: anything that is wrong with the data, the model or a setting.
    """
    check_request(request)
    request = with_layer(request)
    with watched(run_folder, on_progress) as watch:
        corpus = read_labelled(request.data, request.corpus, request)
        voices = gather(corpus, request, watch.on_progress)
        return evaluate_voices(voices, request, watch)


def evaluate_voices(voices: Voices, request: EmotionRequest, watch: Watch) -> EmotionFindings:
    """Evaluate on features that are there: the head, the baseline, the control, the second corpus."""
    from core.emotion.folds import make_folds

    corpus = voices.corpus
    splits = [clip.split for clip in corpus.clips]
    folds = make_folds(corpus.speakers, corpus.codes, request.folds, request.head.seed, splits)
    model = model_facts(request, voices)
    name = f"{model['name']} (fine-tuned)" if request.head.tunes_encoder else str(model["name"])
    main = _evaluated(trained_on(voices, request), voices, folds, request, name, watch)
    plain = plain_request(request)
    baseline = _evaluated(voices.baseline, voices, folds, plain, request.baseline, watch)
    shuffled = _shuffled(voices, folds, plain, watch) if request.shuffled else None
    cross, cross_notes = _crossed(voices, main, request, watch) if request.test else ((), ())
    tuned = {"encoder": IN_EACH_FOLD} if request.head.tunes_encoder else {}
    return EmotionFindings(
        corpus_facts(voices),
        model,
        asdict(request.head) | {"folds": request.folds, "n_folds": len(folds), "baseline": request.baseline} | tuned,
        main,
        baseline,
        shuffled,
        cross,
        (*corpus.warnings, *voices.notes, *main.warnings, *tuning_notes(request), *cross_notes),
        voices.failures,
        _gain(main, baseline, request.head.seed),
    )


def _gain(main: Evaluation, baseline: Evaluation, seed: int) -> Estimate:
    """What the encoder adds to the baseline."""
    from core.analysis.scores import paired_gain, tables_by_speaker, uar

    main_tables, plain_tables = (
        tables_by_speaker(one.truth, one.probabilities.argmax(axis=1), one.speakers, len(one.labels))
        for one in (main, baseline)
    )
    return paired_gain(uar, main_tables, plain_tables, seed)


def _shuffled(voices: Voices, folds: tuple[Fold, ...], request: EmotionRequest, watch: Watch) -> Evaluation:
    """The control: labels shuffled within speakers, several times, with a linear head whatever the head is."""
    from core.emotion.controls import N_SHUFFLES, shuffled_within_speakers, where_shuffles_fall

    seeds = [request.head.seed + draw for draw in range(N_SHUFFLES)]
    controls = [shuffled_within_speakers(voices.pooled, seed) for seed in seeds]
    names = [f"{SHUFFLED} {number + 1}" for number in range(N_SHUFFLES)]
    found = [_evaluated(each, voices, folds, request, name, watch) for each, name in zip(controls, names, strict=True)]
    return replace(where_shuffles_fall(found), name=f"{SHUFFLED}, linear head")


def trainers(request: EmotionRequest, watch: Watch, part: str, clips: Sequence[HashedClip]) -> Callable[[int], Trainer]:
    """How the head of each fold is trained; the number -1 is the fit on all speakers."""
    if request.head.tunes_encoder:
        return Tuner(tuple(clips), request, watch, part)
    if request.head.head == "linear":
        from core.emotion.linear import train_linear

        return lambda _fold: lambda examples: train_linear(examples, request.head)
    from core.emotion.network import NetworkTrainer

    def of_fold(fold: int) -> Trainer:
        name = "all" if fold < 0 else f"{fold:02d}"
        folder = watch.place(f"states/{part}/{name}")

        def report(metrics: Mapping[str, Any]) -> None:
            watch.tell({"part": part, "fold": fold, **metrics})

        return NetworkTrainer(request.head, folder, report, watch.should_stop)

    return of_fold


def _evaluated(
    examples: Examples, voices: Voices, folds: tuple[Fold, ...], request: EmotionRequest, name: str, watch: Watch
) -> Evaluation:
    from core.analysis.scores import unweighted_recall
    from core.emotion.evaluate import Answers, Options, evaluate

    names, part = tuple(clip.name for clip in voices.corpus.clips), file_label(name)
    decides = repr(request.head) + (tuning_key(voices.clips, request) if request.head.tunes_encoder else "")
    options = Options(request.head.transductive, decides, request.head.seed, reference=not name.startswith(SHUFFLED))

    def tell(number: int, fold: Fold, answers: Answers) -> None:
        """Add the fold to the curves, for whoever watches the training."""
        right = unweighted_recall(examples.codes[fold.test], answers.probabilities.argmax(axis=1))
        who = sorted(set(examples.speakers[fold.test].tolist()))
        watch.tell({"part": part, "fold": number, "uar": right, "n": len(fold.test), "speakers": who})
        if request.head.tunes_encoder:
            discard_state(watch, part, number)

    def of_this(progress: Progress) -> None:
        watch.on_progress(replace(progress, stage=f"evaluate {name}"))

    make_trainer = trainers(request, watch, part, voices.clips)
    return evaluate(
        examples, voices.corpus.labels, names, folds, make_trainer, name, of_this,
        watch.place(f"folds/{part}"), options, tell,
    )  # fmt: skip


def plain_request(request: EmotionRequest) -> EmotionRequest:
    """The baseline and the control take the linear head: what they show does not depend on it."""
    head = replace(request.head, head="linear", layer="all", pooling="mean", encoder_learning_rate=0.0)
    return replace(request, head=head)


def _crossed(
    voices: Voices, main: Evaluation, request: EmotionRequest, watch: Watch
) -> tuple[tuple[CrossScore, ...], tuple[str, ...]]:
    """Train on one corpus and test on the other, both ways."""
    from core.emotion.cross import Side, cross_scores

    assert request.test is not None
    settings = CorpusSettings("auto", request.test_mapping, request.corpus.skip_missing)
    other = gather(read_labelled(request.test, settings, request), request, watch.on_progress)
    names = _common_names(voices.corpus)
    here = Side(voices.corpus.name, names, trained_on(voices, request), replace(main, labels=names), _sounds(voices))
    tested = trained_on(other, request, len(voices.clips))
    there = Side(other.corpus.name, _common_names(other.corpus), tested, sounds=_sounds(other))
    make_trainer = trainers(request, watch, "cross", (*voices.clips, *other.clips))
    scores = cross_scores(here, there, make_trainer, watch.on_progress, request.head.seed)
    if request.head.tunes_encoder:
        for number in range(2):
            discard_state(watch, "cross", number)
    notes = [f"{other.corpus.name}: {warning}" for warning in other.corpus.warnings]
    return scores, (*notes, *scores[0].warnings, *scores[1].warnings)


def _sounds(voices: Voices) -> tuple[str, ...]:
    """What a clip is known by in any corpus: the hash of its recording, and the stretch."""
    return tuple(f"{hashed.sha256} {hashed.clip.start} {hashed.clip.stop}" for hashed in voices.clips)


def _common_names(corpus: LabelledCorpus) -> tuple[str, ...]:
    """Names of the classes that two corpora can share: happy and happiness are one, if a corpus has but one of them."""
    from core.emotion.corpora import class_of

    names = tuple(class_of(label) for label in corpus.labels)
    return names if len(set(names)) == len(names) else corpus.labels


def model_facts(request: EmotionRequest, voices: Voices) -> dict[str, Any]:
    """What the encoder is, for findings and checkpoints."""
    found = find_model(request.embed.model)
    entry = describe_model(found)
    return {
        "name": found.name,
        "hash": Source(found).model_hash(),
        "layers": list(voices.examples.layers),
        "pooling": request.head.pooling,
        "dim": int(voices.examples.features.shape[2]),
        "sampling_rate": entry.sampling_rate,
        "embed_seconds": round(voices.embed_seconds, 3),
        "n_embedded": len(voices.clips),
        "n_computed": voices.n_computed,
        "running": running_facts(voices.running),
    }


def running_facts(running: EmbedSettings, *but: str) -> dict[str, Any]:
    """How the encoder heard the clips, without the facts that are named."""
    but = ("model", "layers", "max_seconds", "numpy_rate", *but)  # MEG has no emotion
    return {key: value for key, value in asdict(running).items() if key not in but}


def corpus_facts(voices: Voices) -> dict[str, Any]:
    """What the corpus is."""
    from core.emotion.corpora import fingerprint

    corpus = voices.corpus
    names, counts = np.unique([clip.label for clip in corpus.clips], return_counts=True)
    hashes = {hashed.clip.source: hashed.sha256 for hashed in voices.clips}
    return {
        "name": corpus.name,
        "scheme": corpus.scheme,
        "n": len(corpus.clips),
        "n_speakers": len(set(corpus.speakers.tolist())),
        "n_texts": len({clip.text for clip in corpus.clips if clip.text}),
        "seconds": round(float(voices.durations.sum()), 1),
        "shortest_seconds": round(float(voices.durations.min()), 3),
        "counts": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "mapping": dict(corpus.mapping),
        "fingerprint": fingerprint(corpus, hashes),
    }
