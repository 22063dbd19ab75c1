"""How far what is said can be believed: calibration, and what is gained by saying nothing where it is unsure."""

from typing import Any

import numpy as np

from core.figures.emotion.style import BESIDE, MAIN, SHARE, decimal, finished, known, score, sizes
from core.figures.layers.style import layout, title
from core.figures.plotly_json import INK, Figure, axis
from core.scoring import Evaluation, Reliability

HEIGHT = 480
"""Pixels."""


def reliability_figure(evaluation: Evaluation) -> Figure:
    """Draw how often the head is right against how sure it is, before and after calibration."""
    before, after = evaluation.reliability_uncalibrated, evaluation.reliability
    traces = [
        _diagonal(),
        _bins(before, f"before, ECE {decimal(evaluation.ece_uncalibrated)}", BESIDE, "diamond-open", "dash"),
        _bins(after, f"after, ECE {decimal(evaluation.ece)}", MAIN, "circle", "solid"),
    ]
    drawn = layout(
        height=HEIGHT,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("Calibration", f"ECE {decimal(evaluation.ece)}, {sizes(evaluation)}"),
        xaxis=axis(title={"text": "confidence", "standoff": 6}, **SHARE),
        yaxis=axis(title={"text": "share that is right"}, **SHARE),
    )
    return finished(traces, drawn, "calibration")


def reliability_caption(evaluation: Evaluation) -> str:
    """Say what the bins hold and how uncertain they are."""
    counts = evaluation.reliability.counts
    few, many = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    each = f"{few:,} clips" if few == many else f"{few:,} to {many:,} clips"
    width = f" A share in a bin of {few:,} clips is uncertain by up to {half_width(few):.2f}." if few else ""
    return (
        f"Each mark is a bin of {each}, {sizes(evaluation)}: on the diagonal a head is right as often as it is sure; "
        f"below it, it is too sure. ECE, the mean distance from the diagonal: {decimal(evaluation.ece_uncalibrated)} "
        f"before and {decimal(evaluation.ece)} after temperatures were fitted on validation speakers; a "
        f"calibrated head would be measured to have {evaluation.ece_by_chance:.3f}, by chance.{width}"
    )


def half_width(n: int) -> float:
    """Return half of the 95 % interval of a share of one half of n clips, the widest there is.

    >>> round(half_width(36), 3)
    0.163
    """
    return float(1.96 * np.sqrt(0.25 / n))


def _diagonal() -> dict[str, Any]:
    line = {"color": INK, "width": 1.5, "dash": "dot"}
    shared = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}
    return {**shared, "line": line, "name": "as sure as right"}


def _bins(bins: Reliability, name: str, colour: str, symbol: str, dash: str) -> dict[str, Any]:
    told = [
        f"confidence {score(confidence)}, right {score(accuracy)}<br>{count:,} clips"
        for confidence, accuracy, count in zip(bins.confidence, bins.accuracy, bins.counts.tolist(), strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": bins.confidence.tolist(),
        "y": bins.accuracy.tolist(),
        "name": name,
        "line": {"color": colour, "width": 1.5, "dash": dash},
        "marker": {"color": colour, "symbol": symbol, "size": 8},
        "cliponaxis": False,
        "hovertext": told,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def coverage_figure(evaluation: Evaluation) -> Figure:
    """Draw the accuracy of what is said against how much is said, with the thresholds that were chosen marked."""
    found = evaluation.abstention
    _, coverage, accuracy = found.curve.T if len(found.curve) else np.empty((3, 0))
    told = [f"threshold {at:.2f}<br>said of {score(c)}, right {score(a)}" for at, c, a in found.curve]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": coverage.tolist(),
        "y": known(accuracy),
        "name": "all thresholds",
        "line": {"color": MAIN, "width": 2},
        "hovertext": told,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    chosen = {
        "type": "scatter",
        "mode": "markers",
        "x": [found.coverage],
        "y": known(np.array([found.accuracy])),
        "name": f"chosen: {score(found.accuracy)} right, said of {score(found.coverage)}",
        "cliponaxis": False,
        "marker": {"color": BESIDE, "symbol": "star", "size": 15, "line": {"color": "#ffffff", "width": 1}},
        "hovertemplate": f"chosen by each fold, median {found.threshold:.2f}<br>said of {score(found.coverage)}, "
        f"right {score(found.accuracy)}<extra></extra>",
    }
    heading = title("Saying nothing where it is unsure", f"threshold {found.threshold:.2f}, {sizes(evaluation)}")
    drawn = layout(
        height=HEIGHT,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=heading,
        xaxis=axis(title={"text": "share of clips with an answer", "standoff": 6}, **SHARE),
        yaxis=axis(title={"text": "share of those that is right"}, **SHARE),
    )
    return finished([line, chosen], drawn, "abstention")


def coverage_caption(evaluation: Evaluation) -> str:
    """Say what abstention gives and costs."""
    found = evaluation.abstention
    unlike = f" (nothing is said either of {score(found.unlike)} that are unlike the training clips)"
    unlike = unlike if found.unlike else ""
    return (
        f"With thresholds set on training speakers something is said of {score(found.coverage)} of the clips, and "
        f"{score(found.accuracy)} of that is right{unlike}; without a threshold {score(evaluation.wa.value)} is right, "
        f"{sizes(evaluation)}. The line shows all thresholds, whatever a clip is like, seen after the fact: at its "
        "left end few clips are left and accuracy jumps by chance."
    )
