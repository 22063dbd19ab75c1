"""Evaluations, predictions and maps of emotion that nobody measured: made scores, and every number computed from them.

Scores of each clip are made (a class is right more often the more skill there is, speakers differ, some classes are
close to each other); UAR, WA, macro F1, ECE, recalls, confusion, reliability and coverage are then computed from them
by their definitions, so that what a figure shows agrees with itself. Intervals are a small bootstrap over speakers,
those of the ECE a plausible width. No number here says anything about a real model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.scoring import (
    Abstention,
    Clip,
    ClusterScore,
    CrossScore,
    EmbeddingMap,
    EmotionFindings,
    Estimate,
    Evaluation,
    FoldScore,
    LabelledCorpus,
    Neighbour,
    Prediction,
    Reliability,
    Said,
)

EMOTIONS = (
    "anger",
    "boredom",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "calm",
    "contempt",
    "pride",
    "shame",
    "surprise",
)
BINS = 15
TEMPERATURE = 1.8
LAYERS = 5
DRAWS = 200


def labels_of(n_classes: int, long: bool = False) -> tuple[str, ...]:
    """Names of classes, sorted; ``long`` ones do not fit where short ones do."""
    chosen = EMOTIONS[:n_classes]
    return tuple(sorted(f"{name} expressed with very strong intensity" if long else name for name in chosen))


def make_corpus(n_classes: int = 7, n_speakers: int = 10, each: int = 4, long_labels: bool = False) -> LabelledCorpus:
    """Make a corpus with ``each`` clips of every class by every speaker, but none of the last class by the first."""
    labels = labels_of(n_classes, long_labels)
    clips = [
        Clip(Path(f"/corpus/{name}.wav"), name, f"S{speaker:02d}", label, label[:2].upper())
        for speaker in range(n_speakers)
        for place, label in enumerate(labels)
        for take in range(each)
        if (speaker, place) != (0, n_classes - 1) or n_classes == 2
        for name in [f"S{speaker:02d}_{label[:3]}{place:02d}_{take}"]
    ]
    mapping = {label[:2].upper(): label for label in labels}
    return LabelledCorpus("made_corpus", "manifest", tuple(sorted(clips, key=lambda clip: clip.name)), mapping)


def make_emotion(
    n_classes: int = 7,
    n_speakers: int = 10,
    each: int = 4,
    shuffled: bool = True,
    cross: bool = True,
    long_labels: bool = False,
    seed: int = 0,
) -> EmotionFindings:
    """Make what an evaluation finds; two speakers have no intervals."""
    corpus = make_corpus(n_classes, n_speakers, each, long_labels)
    main = make_evaluation(corpus, "a-speech-model", 2.6, seed)
    baseline = make_evaluation(corpus, "log-mel statistics", 1.3, seed + 1)
    control = make_evaluation(corpus, "shuffled labels", 0.0, seed + 2)
    few = ("The corpus has 2 speakers: scores have no interval and say little about others.",) if n_speakers < 3 else ()
    return EmotionFindings(
        corpus={
            "name": corpus.name,
            "scheme": corpus.scheme,
            "n": len(corpus.clips),
            "n_speakers": n_speakers,
            "seconds": 2.0 * len(corpus.clips),
            "counts": {label: int((corpus.codes == place).sum()) for place, label in enumerate(corpus.labels)},
            "mapping": dict(corpus.mapping),
            "fingerprint": "cd" * 32,
        },
        model={"name": "a-speech-model", "hash": "ab" * 32, "layers": list(range(LAYERS)), "dim": 384},
        settings={
            "head": "linear",
            "layer": "all",
            "pooling": "mean_std",
            "class_weights": True,
            "transductive": False,
            "folds": "leave one speaker out" if n_speakers <= 10 else "10 groups of speakers",
            "seed": seed,
        },
        main=main,
        baseline=replace(baseline, folds=tuple(replace(fold, layer_weights={}) for fold in baseline.folds)),
        shuffled=control if shuffled else None,
        cross=_cross(corpus, main) if cross else (),
        warnings=("The same 10 sentences are spoken by all speakers: other sentences may score lower.", *few),
        failures=({"file": "broken.wav", "error": "broken.wav holds no sound. Take it out of the list."},),
    )


def make_evaluation(corpus: LabelledCorpus, name: str, skill: float, seed: int = 0) -> Evaluation:
    """Make one evaluation: ``skill`` 0 guesses, 2.6 is right more often than not."""
    generator = np.random.default_rng((seed, 7))
    truth, speakers = corpus.codes, corpus.speakers
    uncalibrated = _scores(corpus, skill, generator)
    probabilities = _softmax(np.log(uncalibrated) / TEMPERATURE)
    folds, thresholds = _folds(truth, probabilities, speakers, skill)
    recalls = _recalls(confusion_of(truth, probabilities))
    n = len(corpus.labels)
    return Evaluation(
        name=name,
        labels=corpus.labels,
        truth=truth,
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        speakers=speakers,
        clips=tuple(clip.name for clip in corpus.clips),
        uar=_estimate(corpus, probabilities, lambda table: float(np.nanmean(_recalls(table))), generator),
        wa=_estimate(corpus, probabilities, lambda table: float(np.trace(table) / table.sum()), generator),
        macro_f1=_estimate(corpus, probabilities, _macro_f1, generator),
        ece=_ece(truth, probabilities, speakers),
        ece_uncalibrated=_ece(truth, uncalibrated, speakers),
        recalls=tuple(
            _estimate(corpus, probabilities, lambda table, at=at: float(_recalls(table)[at]), generator)
            for at in range(len(recalls))
        ),
        confusion=confusion_of(truth, probabilities),
        chance=1 / n,
        majority=float(np.bincount(truth).max() / len(truth)),
        folds=folds,
        reliability=_reliability(truth, probabilities),
        reliability_uncalibrated=_reliability(truth, uncalibrated),
        abstention=_abstention(truth, probabilities, thresholds),
        seconds=1.25,
        ece_by_chance=0.02,
    )


def confusion_of(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(classes, classes) clips: rows are the truth."""
    table = np.zeros((probabilities.shape[1],) * 2, dtype=np.int64)
    np.add.at(table, (truth, probabilities.argmax(axis=1)), 1)
    return table


def make_prediction(kind: str = "sure", n_classes: int = 7, seconds: float = 12.0, seed: int = 0) -> Prediction:
    """Make a prediction of a recording in windows of 2 s each half second.

    Args:
        kind: ``sure``, ``unsure``, ``silence``, ``short`` (no timeline) or ``unlike``; all but the first abstain for
            the clip. A sure one abstains in its silent third second and in an unsure stretch.
        n_classes: Classes of the head.
        seconds: Of the recording.
        seed: Of the made scores.
    """
    labels, generator = labels_of(n_classes), np.random.default_rng((seed, 8))
    starts = np.arange(0, max(0.0, seconds - 2.0) + 1e-9, 0.5) if seconds > 2 and kind != "short" else np.array([])
    drift = np.cumsum(generator.normal(0, 0.6, (len(starts), n_classes)), axis=0)
    threshold = 0.4
    windows = []
    for place, start in enumerate(starts):
        silent = kind == "silence" or 3 <= start < 4
        scores = np.full(n_classes, 1 / n_classes) if silent else _softmax(drift[place][None])[0]
        unlike = kind == "unlike"
        why = "silence" if silent else "unlike" if unlike else "unsure" if scores.max() < threshold else ""
        label = "" if why else labels[int(scores.argmax())]
        windows.append(Said(float(start), float(start + 2), scores, label, why, 1.4 if unlike else 0.6))
    logits = np.zeros(n_classes) if kind == "silence" else generator.normal(0, 0.2, n_classes)
    logits[min(3, n_classes - 1)] += {"sure": 3.0, "unlike": 2.0, "short": 0.6}.get(kind, 0.0)
    whole = _softmax(logits[None])[0]
    why = "" if kind == "sure" else kind
    warnings = ("The clip is unlike what the head was trained on.",) if kind == "unlike" else ()
    return Prediction(
        source=Path("/recordings/clip.wav"),
        labels=labels,
        clip=Said(0.0, seconds, whole, "" if why else labels[int(whole.argmax())], why, 1.4 if warnings else 0.6),
        timeline=tuple(windows),
        threshold=threshold,
        head="a-bundled-head",
        model="a-speech-model",
        warnings=warnings,
    )


def make_map(
    n_classes: int = 7, n_speakers: int = 10, each: int = 2, umap: bool = True, long_labels: bool = False, seed: int = 0
) -> EmbeddingMap:
    """Make a map of embeddings in which speakers are farther apart than emotions."""
    corpus = make_corpus(n_classes, n_speakers, each, long_labels)
    generator = np.random.default_rng((seed, 9))
    _, speaker = np.unique(corpus.speakers, return_inverse=True)
    values = generator.standard_normal((len(corpus.clips), 16))
    values += 2.0 * generator.standard_normal((n_speakers, 16))[speaker]
    values += 1.2 * generator.standard_normal((n_classes, 16))[corpus.codes]
    values -= values.mean(axis=0)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosine = (unit @ unit.T).astype(np.float32)
    euclidean = np.linalg.norm(values[:, None] - values[None], axis=2).astype(np.float32)
    order = np.argsort(-cosine, axis=1)
    labels = np.array([clip.label for clip in corpus.clips])
    axes = np.linalg.svd(values, full_matrices=False)[2][:2]
    pca = (values @ axes.T).astype(np.float32)
    maps = {"PCA": pca, "t-SNE": _swirl(pca, generator), **({"UMAP": _swirl(pca, generator)} if umap else {})}
    notes = {"PCA": "31.4 % and 12.9 % of the variance", "t-SNE": "perplexity 30", "UMAP": "15 neighbours"}
    return EmbeddingMap(
        maps=maps,
        notes={name: notes[name] for name in maps},
        labels=labels,
        speakers=corpus.speakers,
        clips=tuple(clip.name for clip in corpus.clips),
        cosine=cosine,
        euclidean=euclidean,
        neighbours=tuple(
            tuple(Neighbour(int(other), float(cosine[row, other])) for other in order[row] if other != row)[:10]
            for row in range(len(order))
        ),
        clusters=(
            ClusterScore(
                "k-means",
                n_classes,
                0.0,
                0.21,
                {"emotion": 0.18, "speaker": 0.44},
                {"emotion": 0.25, "speaker": 0.51},
                {"k": n_classes},
            ),
            ClusterScore(
                "DBSCAN",
                1,
                0.62,
                float("nan"),
                {"emotion": 0.0, "speaker": 0.02},
                {"emotion": 0.01, "speaker": 0.04},
                {"eps": 1.2, "min_samples": 5},
            ),
        ),
        silhouettes={"emotion": 0.04, "speaker": 0.17},
        neighbour_shares={
            "emotion": float(np.mean(labels[order[:, 1:11]] == labels[:, None])),
            "speaker": float(np.mean(speaker[order[:, 1:11]] == speaker[:, None])),
            "emotion by chance": 1 / n_classes,
            "speaker by chance": 1 / n_speakers,
        },
    )


def make_metrics(n_folds: int = 3, n_epochs: int = 20, seed: int = 0) -> list[dict[str, float | str]]:
    """Make lines of ``metrics.jsonl``: the last fold is still under way."""
    generator = np.random.default_rng((seed, 10))
    lines: list[dict[str, float | str]] = []
    for fold in range(n_folds):
        for epoch in range(1, (n_epochs if fold < n_folds - 1 else n_epochs // 2) + 1):
            own: dict[str, float | str] = {"fold": fold, "fit": "fold 1 of 3", "epoch": epoch}
            loss = float(1.9 * np.exp(-epoch / 6) + 0.1 + generator.normal(0, 0.02))
            held_out = float(1.2 * np.exp(-epoch / 5) + 0.7 + 0.01 * epoch + generator.normal(0, 0.03))
            uar = float(0.8 - 0.65 * np.exp(-epoch / 5) + generator.normal(0, 0.02))
            lines += [own | {"split": "train", "loss": loss}, own | {"split": "eval", "loss": held_out, "uar": uar}]
    return lines


def _swirl(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another map of the same points, which no method made."""
    turned = points @ np.array([[0.6, -0.8], [0.8, 0.6]])
    return (4 * turned + generator.standard_normal(points.shape)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _scores(corpus: LabelledCorpus, skill: float, generator: np.random.Generator) -> np.ndarray:
    """(n, classes) probabilities that are too sure; neighbouring classes are mistaken for each other."""
    n_classes = len(corpus.labels)
    names, speaker = np.unique(corpus.speakers, return_inverse=True)
    like = np.eye(n_classes) + 0.45 * np.eye(n_classes, k=1) + 0.25 * np.eye(n_classes, k=-1)
    strength = skill * generator.uniform(0.6, 1.2, len(names))
    logits = strength[speaker][:, None] * like[corpus.codes] + generator.standard_normal((len(corpus.clips), n_classes))
    return _softmax(TEMPERATURE**2 * logits)


def _recalls(table: np.ndarray) -> np.ndarray:
    clips = table.sum(axis=1)
    return np.divide(np.diag(table), clips, out=np.full(len(table), np.nan), where=clips > 0)


def _macro_f1(table: np.ndarray) -> float:
    return float(np.mean(2 * np.diag(table) / np.maximum(1, table.sum(axis=0) + table.sum(axis=1))))


def _estimate(corpus: LabelledCorpus, probabilities: np.ndarray, score, generator: np.random.Generator) -> Estimate:
    names = np.unique(corpus.speakers)
    truth = corpus.codes
    tables = np.stack(
        [confusion_of(truth[corpus.speakers == name], probabilities[corpus.speakers == name]) for name in names]
    )
    value = score(tables.sum(axis=0))
    if len(names) < 3:
        return Estimate(value)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    low, high = np.nanquantile([score(np.tensordot(one, tables, axes=1)) for one in drawn], [0.025, 0.975])
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class _Sure:
    confidence: np.ndarray
    right: np.ndarray


def _sure(truth: np.ndarray, probabilities: np.ndarray) -> _Sure:
    return _Sure(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)


def _reliability(truth: np.ndarray, probabilities: np.ndarray) -> Reliability:
    sure = _sure(truth, probabilities)
    bins = [rows for rows in np.array_split(np.argsort(sure.confidence, kind="stable"), BINS) if len(rows)]
    return Reliability(
        np.array([sure.confidence[rows].mean() for rows in bins]),
        np.array([sure.right[rows].mean() for rows in bins]),
        np.array([len(rows) for rows in bins]),
    )


def _ece(truth: np.ndarray, probabilities: np.ndarray, speakers: np.ndarray) -> Estimate:
    bins = _reliability(truth, probabilities)
    value = float(np.sum(bins.counts * np.abs(bins.confidence - bins.accuracy)) / bins.counts.sum())
    few = len(np.unique(speakers)) < 3
    return Estimate(value) if few else Estimate(value, 0.8 * value, 1.3 * value)


def _folds(
    truth: np.ndarray, probabilities: np.ndarray, speakers: np.ndarray, skill: float
) -> tuple[tuple[FoldScore, ...], np.ndarray]:
    """One fold a speaker up to ten, else ten groups; and each clip's threshold."""
    names = np.unique(speakers)
    groups: Sequence[np.ndarray] = [names[[at]] for at in range(len(names))]
    groups = groups if len(names) <= 10 else np.array_split(names, 10)
    folds, thresholds = [], np.zeros(len(truth))
    for place, group in enumerate(groups):
        rows = np.isin(speakers, group)
        table = confusion_of(truth[rows], probabilities[rows])
        weights = np.linspace(1, 1 + max(0.1, skill), LAYERS) + 0.1 * np.sin(place + np.arange(LAYERS))
        threshold = 0.3 + 0.01 * (place % 3)
        thresholds[rows] = threshold
        folds.append(
            FoldScore(
                speakers=tuple(map(str, group)),
                n=int(rows.sum()),
                uar=float(np.nanmean(_recalls(table))),
                wa=float(np.trace(table) / table.sum()),
                temperature=TEMPERATURE + 0.05 * place,
                threshold=threshold,
                layer_weights=dict(enumerate((weights / weights.sum()).tolist())),
            )
        )
    return tuple(folds), thresholds


def _abstention(truth: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> Abstention:
    sure = _sure(truth, probabilities)
    said = sure.confidence >= thresholds
    order = np.sort(sure.confidence)
    curve = [
        (at, float((sure.confidence >= at).mean()), float(sure.right[sure.confidence >= at].mean())) for at in order
    ]
    return Abstention(float(np.median(thresholds)), float(said.mean()), float(sure.right[said].mean()), np.array(curve))


def _cross(corpus: LabelledCorpus, main: Evaluation) -> tuple[CrossScore, ...]:
    shared = corpus.labels[: max(2, len(corpus.labels) - 2)]
    few = main.uar.low is None
    there = Estimate(0.44) if few else Estimate(0.44, 0.38, 0.5)
    back = Estimate(0.52) if few else Estimate(0.52, 0.41, 0.62)
    return (
        CrossScore(corpus.name, "another_corpus", shared, 1_056, 24, there, Estimate(0.21, 0.17, 0.26), Estimate(0.71)),
        CrossScore("another_corpus", corpus.name, shared, len(corpus.clips), 10, back, Estimate(0.16), main.uar),
    )
