"""All numbers of an evaluation as one JSON-ready dictionary, ``summary.json`` and what ``--json`` prints."""

import json
from typing import Any

import numpy as np

from core.embed.formats import json_bytes
from core.scoring import Abstention, CrossScore, EmotionFindings, Estimate, Evaluation, FoldScore, Reliability


def emotion_summary(findings: EmotionFindings) -> dict[str, Any]:
    """Say what was found, in strict JSON's own types; what is not a number, or not known, is None.

    The head's scores stand at the top, ``uar`` first; ``baseline`` and ``shuffled`` hold the same of theirs.
    """
    main = findings.main
    found = {
        **_headline(main),
        **_rest(main),
        "baseline": _evaluation(findings.baseline),
        "gain": findings.gain and findings.gain.value,
        "gain_ci": findings.gain and interval(findings.gain),
        "shuffled": _evaluation(findings.shuffled) if findings.shuffled else None,
        "cross": [_cross(one) for one in findings.cross],
        "warnings": list(findings.warnings),
        "failures": list(findings.failures),
        "corpus": dict(findings.corpus),
        "model": dict(findings.model),
        "settings": dict(findings.settings),
    }
    plain: dict[str, Any] = json.loads(json_bytes(found))
    return plain


def interval(estimate: Estimate) -> list[float] | None:
    """Return both ends of an interval, or None where there is none."""
    if estimate.low is None or estimate.high is None:
        return None
    return [estimate.low, estimate.high]


def _headline(one: Evaluation) -> dict[str, Any]:
    return {
        "uar": one.uar.value,
        "uar_ci": interval(one.uar),
        "wa": one.wa.value,
        "macro_f1": one.macro_f1.value,
        "ece": one.ece.value,
        "n": len(one.truth),
        "n_speakers": len(np.unique(one.speakers)),
        "chance": one.chance,
        "folds": [_fold(fold) for fold in one.folds],
    }


def _rest(one: Evaluation) -> dict[str, Any]:
    return {
        "name": one.name,
        "labels": list(one.labels),
        "wa_ci": interval(one.wa),
        "macro_f1_ci": interval(one.macro_f1),
        "ece_ci": interval(one.ece),
        "ece_uncalibrated": one.ece_uncalibrated.value,
        "ece_uncalibrated_ci": interval(one.ece_uncalibrated),
        "ece_by_chance": one.ece_by_chance,
        "majority": one.majority,
        "recalls": {
            label: {"recall": recall.value, "ci": interval(recall), "n": int(n)}
            for label, recall, n in zip(one.labels, one.recalls, one.confusion.sum(axis=1), strict=True)
        },
        "confusion": one.confusion.tolist(),
        "reliability": _reliability(one.reliability),
        "reliability_uncalibrated": _reliability(one.reliability_uncalibrated),
        "abstention": _abstention(one.abstention),
        "seconds": one.seconds,
    }


def _evaluation(one: Evaluation) -> dict[str, Any]:
    return {**_headline(one), **_rest(one)}


def _fold(fold: FoldScore) -> dict[str, Any]:
    return {**vars(fold), "speakers": list(fold.speakers), "layer_weights": dict(fold.layer_weights)}


def _reliability(bins: Reliability) -> dict[str, Any]:
    return {name: values.tolist() for name, values in vars(bins).items()}


def _abstention(found: Abstention) -> dict[str, Any]:
    return {
        "threshold": found.threshold,
        "coverage": found.coverage,
        "accuracy": found.accuracy,
        "unlike": found.unlike,
    }


def _cross(one: CrossScore) -> dict[str, Any]:
    return {
        "train": one.train,
        "test": one.test,
        "labels": list(one.labels),
        "n": one.n,
        "n_speakers": one.n_speakers,
        "chance": 1 / len(one.labels),
        "uar": one.uar.value,
        "uar_ci": interval(one.uar),
        "ece": one.ece.value,
        "ece_ci": interval(one.ece),
        "uar_within": one.within.value if one.within else None,
        "uar_within_ci": interval(one.within) if one.within else None,
    }
