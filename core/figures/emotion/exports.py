"""The numbers of an evaluation as CSV files, which read back exactly."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from core.embed.writers import replace_file
from core.figures.emotion.style import evaluations
from core.figures.exports import Cell, csv_bytes
from core.figures.names import make_folder
from core.scoring import EmotionFindings, Estimate, Evaluation, Prediction


def write_emotion_tables(findings: EmotionFindings, folder: Path) -> dict[str, Path]:
    """Write all tables; each whole or not at all, in place of an earlier one.

    Args:
        findings: What was found.
        folder: Where to; made if it is not there.

    Returns:
        The path of each file by its name.

    Raises:
        OutputError: The folder cannot be written to.
    """
    make_folder(folder)
    contents = emotion_tables(findings)
    for name, content in contents.items():
        replace_file(folder / name, content)
    return {name: folder / name for name in contents}


def emotion_tables(findings: EmotionFindings) -> dict[str, bytes]:
    """Make the files, by name; ``classifier`` says whether a row is of the head, the baseline or the control."""
    named = evaluations(findings)
    main = findings.main
    tables = {
        "predictions.csv": predictions_csv(main),
        "scores.csv": csv_bytes(("classifier", "score", "value", "low", "high"), _score_rows(named)),
        "folds.csv": csv_bytes(FOLD_COLUMNS, _fold_rows(named)),
        "recalls.csv": csv_bytes(("classifier", "class", "n", "recall", "low", "high"), _recall_rows(named)),
        "confusion.csv": csv_bytes(("true", *main.labels), _confusion_rows(main)),
    }
    if findings.cross:
        tables["cross_corpus.csv"] = csv_bytes(CROSS_COLUMNS, _cross_rows(findings))
    return tables


FOLD_COLUMNS = ("classifier", "fold", "speakers", "n", "uar", "wa", "temperature", "threshold")
CROSS_COLUMNS = ("train", "test", "classes", "n", "n_speakers", "uar", "low", "high", "chance", "uar_of_own_folds")


def predictions_csv(evaluation: Evaluation) -> bytes:
    """Make a table with a row a clip: what it is, what was said of it, and the probability of each class.

    ``said`` is the most likely class; ``abstained`` says whether the fold's head would have kept it to itself.
    """
    columns = ("clip", "speaker", "true", "said", "confidence", "abstained", "threshold")
    thresholds = clip_thresholds(evaluation)
    rows = []
    for place, clip in enumerate(evaluation.clips):
        shares = evaluation.probabilities[place]
        confidence, threshold = float(shares.max()), float(thresholds[place])
        rows.append(
            (
                clip,
                str(evaluation.speakers[place]),
                evaluation.labels[evaluation.truth[place]],
                evaluation.labels[int(shares.argmax())],
                confidence,
                "yes" if confidence < threshold else "no",
                threshold,
                *shares.tolist(),
            )
        )
    return csv_bytes((*columns, *(f"p_{label}" for label in evaluation.labels)), rows)


def clip_thresholds(evaluation: Evaluation) -> np.ndarray:
    """Return (n,) the threshold of the fold in which each clip was tested: no speaker is tested twice."""
    known = {speaker: fold.threshold for fold in evaluation.folds for speaker in fold.speakers}
    return np.array([known.get(str(speaker), np.nan) for speaker in evaluation.speakers], dtype=np.float64)


def timeline_csv(prediction: Prediction) -> bytes:
    """Make a table with a row a window, the whole recording first."""
    columns = ("from", "to", "said", "why_not", "confidence", "distance", *(f"p_{name}" for name in prediction.labels))
    rows = [
        (
            one.start,
            one.stop,
            one.label,
            one.why,
            float(one.probabilities.max()),
            one.distance,
            *one.probabilities.tolist(),
        )
        for one in (prediction.clip, *prediction.timeline)
    ]
    return csv_bytes(columns, rows)


Named = list[tuple[str, Evaluation]]


def _score_rows(named: Named) -> Iterable[tuple[Cell, ...]]:
    for role, one in named:
        for name in ("uar", "wa", "macro_f1", "ece", "ece_uncalibrated"):
            yield role, name, *_ends(getattr(one, name))
        yield role, "chance", one.chance, None, None
        yield role, "majority", one.majority, None, None


def _ends(estimate: Estimate) -> tuple[Cell, Cell, Cell]:
    return estimate.value, estimate.low, estimate.high


def _fold_rows(named: Named) -> Iterable[tuple[Cell, ...]]:
    for role, one in named:
        for place, fold in enumerate(one.folds, 1):
            numbers = (fold.n, fold.uar, fold.wa, fold.temperature, fold.threshold)
            yield role, place, " ".join(fold.speakers), *numbers


def _recall_rows(named: Named) -> Iterable[tuple[Cell, ...]]:
    for role, one in named:
        for label, recall, n in zip(one.labels, one.recalls, one.confusion.sum(axis=1).tolist(), strict=True):
            yield role, label, n, *_ends(recall)


def _confusion_rows(evaluation: Evaluation) -> Iterable[tuple[Cell, ...]]:
    for label, counts in zip(evaluation.labels, evaluation.confusion.tolist(), strict=True):
        yield label, *counts


def _cross_rows(findings: EmotionFindings) -> Iterable[tuple[Cell, ...]]:
    for one in findings.cross:
        own = one.within.value if one.within else None
        told = (one.train, one.test, " ".join(one.labels), one.n, one.n_speakers)
        yield *told, *_ends(one.uar), 1 / len(one.labels), own
