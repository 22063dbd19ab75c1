"""The tables of emotion: scores, classes, folds, corpora, clusters, neighbours, predictions, and what was left out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.figures.emotion.scores import layer_shares
from core.figures.emotion.style import WHY, decimal, estimated, evaluations, score
from core.figures.layers.style import number, per_cent
from core.figures.tables import Table, fact_rows, failure_rows
from core.scoring import CrossScore, EmbeddingMap, EmotionFindings, Evaluation, Prediction

NAMED_SPEAKERS = 12
"""Speakers of a fold that its row names."""


def score_table(findings: EmotionFindings) -> Table:
    """Return the scores of the head, the baseline and the control side by side, UAR first."""
    named = evaluations(findings)
    columns = ("score", *(one.name if role == "main" else f"{one.name} ({role})" for role, one in named))
    rows: list[tuple[str, ...]] = [
        ("UAR (mean recall)", *(estimated(one.uar) for _, one in named)),
        ("WA (share right)", *(estimated(one.wa) for _, one in named)),
        ("macro F1", *(estimated(one.macro_f1) for _, one in named)),
        ("ECE before calibration", *(decimal(one.ece_uncalibrated) for _, one in named)),
        ("ECE", *(decimal(one.ece) for _, one in named)),
        ("ECE of a calibrated one by chance", *(f"{one.ece_by_chance:.3f}" for _, one in named)),
        ("UAR of chance", *(score(one.chance) for _, one in named)),
        ("WA of the majority class", *(score(one.majority) for _, one in named)),
    ]
    few = findings.main.uar.low is None
    note = "No intervals: too few speakers." if few else "In brackets: 95 % intervals, a bootstrap over speakers."
    return Table("Scores", columns, tuple(rows), note)


def class_table(findings: EmotionFindings) -> Table:
    """Return each class with its clips, its recall and its precision."""
    main, baseline = findings.main, findings.baseline
    counts, said = main.confusion.sum(axis=1), main.confusion.sum(axis=0)
    right = np.diag(main.confusion)
    rows = tuple(
        (
            label,
            f"{counts[place]:,}",
            estimated(main.recalls[place]),
            score(right[place] / said[place]) if said[place] else "– (never said)",
            estimated(baseline.recalls[place]),
        )
        for place, label in enumerate(main.labels)
    )
    return Table("Classes", ("class", "clips", "recall", "precision", "recall of the baseline"), rows)


def fold_table(findings: EmotionFindings) -> Table:
    """Return each fold with its speakers and scores, the baseline's UAR beside."""
    main, baseline = findings.main, findings.baseline
    beside = {fold.speakers: score(fold.uar) for fold in baseline.folds}
    rows = tuple(
        (
            str(place),
            _speakers(fold.speakers),
            f"{fold.n:,}",
            score(fold.uar),
            score(fold.wa),
            beside.get(fold.speakers, "–"),
            f"{fold.temperature:.2f}",
            f"{fold.threshold:.2f}",
        )
        for place, fold in enumerate(main.folds, 1)
    )
    columns = ("fold", "tested speakers", "clips", "UAR", "WA", "UAR of the baseline", "temperature", "threshold")
    return Table("Folds", columns, rows)


def _speakers(names: tuple[str, ...]) -> str:
    rest = len(names) - NAMED_SPEAKERS
    return ", ".join(names[:NAMED_SPEAKERS]) + (f" and {rest:,} more" if rest > 0 else "")


def confusion_table(evaluation: Evaluation) -> Table:
    """Return the clips of each class by what was said of them."""
    rows = tuple(
        (label, *(f"{count:,}" for count in counts))
        for label, counts in zip(evaluation.labels, evaluation.confusion.tolist(), strict=True)
    )
    return Table("Clips by what was said", ("true class", *evaluation.labels), rows)


def layer_table(evaluation: Evaluation) -> Table:
    """Return the weight of each layer, and how far folds differ in it."""
    layers, shares = layer_shares(evaluation)
    rows = tuple(
        (str(layer), per_cent(one.mean()), f"{per_cent(one.min())} to {per_cent(one.max())}")
        for layer, one in zip(layers, shares.T, strict=True)
    )
    return Table("Weights of the layers", ("layer", "mean of the folds", "folds"), rows)


def cross_table(scores: tuple[CrossScore, ...]) -> Table:
    """Return what remains of a score on another corpus."""
    columns = ("trained on", "tested on", "clips", "speakers", "shared classes", "UAR", "chance", "UAR of own folds")
    rows = tuple(
        (
            one.train,
            one.test,
            f"{one.n:,}",
            f"{one.n_speakers:,}",
            f"{len(one.labels)}: {', '.join(one.labels)}",
            estimated(one.uar),
            score(1 / len(one.labels)),
            estimated(one.within) if one.within else "–",
            decimal(one.ece),
        )
        for one in scores
    )
    note = "Own folds: the tested corpus's own folds, on the same clips and classes. ECE with the training temperature."
    return Table("Other corpora", (*columns, "ECE"), rows, note)


def mapping_table(findings: EmotionFindings) -> Table:
    """Return which class each label of the data became, with the clips of each class."""
    mapping, counts = findings.corpus.get("mapping") or {}, findings.corpus.get("counts") or {}
    rows = tuple(
        (str(given), str(label) or "left out", f"{counts[label]:,}" if label in counts else "–")
        for given, label in mapping.items()
    )
    return Table("Labels of the data and their classes", ("label in the data", "class", "clips of the class"), rows)


def fact_tables(findings: EmotionFindings) -> tuple[Table, ...]:
    """Return all that is known about corpus, model and settings, a table each; none that is empty."""
    shown = {name: value for name, value in findings.corpus.items() if name not in ("mapping", "counts")}
    tables = (
        _facts("The corpus", shown),
        _facts("The model", findings.model),
        _facts("Settings", findings.settings),
    )
    return tuple(one for one in tables if one.rows)


def _facts(name: str, facts: Mapping[str, Any]) -> Table:
    return Table(name, ("fact", "value"), fact_rows(facts))


def failure_table(findings: EmotionFindings) -> Table:
    """Return the files that could not be used, with the reason."""
    return Table("Files that could not be used", ("file", "reason"), failure_rows(findings.failures))


# A prediction


def prediction_table(prediction: Prediction) -> Table:
    """Return the probability of each class, in the order of the classes: nothing stands first where it abstains."""
    rows = tuple(
        (label, score(share))
        for label, share in zip(prediction.labels, prediction.clip.probabilities.tolist(), strict=True)
    )
    return Table("Probabilities", ("class", "probability"), rows)


def window_table(prediction: Prediction) -> Table:
    """Return what is said of each window."""
    rows = tuple(
        (
            f"{one.start:.2f}",
            f"{one.stop:.2f}",
            one.label or f"nothing: {WHY.get(one.why, one.why)}",
            score(float(one.probabilities.max())),
            number(one.distance),
        )
        for one in prediction.timeline
    )
    return Table("Over time", ("from (s)", "to (s)", "said", "confidence", "distance"), rows)


# A map


def cluster_table(found: EmbeddingMap) -> Table:
    """Return how clusters agree with emotions and with speakers, and how far labels themselves are clusters."""
    rows = [
        (
            one.method,
            f"{one.n_clusters:,}",
            score(one.noise),
            number(one.silhouette),
            *(number(table.get(kind, float("nan"))) for table in (one.ari, one.nmi) for kind in ("emotion", "speaker")),
            ", ".join(f"{name} {number(value)}" for name, value in one.settings.items()),
        )
        for one in found.clusters
    ]
    columns = ("method", "clusters", "noise", "silhouette", "ARI emotion", "ARI speaker", "NMI emotion", "NMI speaker")
    labels = ", ".join(f"{kind} {number(value)}" for kind, value in found.silhouettes.items())
    told = f" Silhouette of labels: {labels}." if labels else ""
    note = (
        "ARI is 0 for chance and 1 for the same groups; NMI of many small clusters is above 0 by chance. Clusters that "
        "agree with speakers more than with emotions show voices."
    )
    return Table("Clusters", (*columns, "settings"), tuple(rows), note + told)


def neighbour_table(found: EmbeddingMap, clip: int) -> Table:
    """Return the nearest clips of one clip, nearest first."""
    rows = tuple(
        (
            found.clips[one.clip],
            str(found.labels[one.clip]),
            str(found.speakers[one.clip]),
            number(one.cosine),
        )
        for one in found.neighbours[clip]
    )
    return Table(f"Nearest clips of {found.clips[clip]}", ("clip", "emotion", "speaker", "cosine"), rows)
