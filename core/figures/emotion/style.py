"""What the figures of emotion share: looks of classes and of scores, and words that claim no more of scores than holds.

One score is *above* another only where their 95 % intervals do not touch; everything else is no difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.figures.layers.style import (
    CLASS_COLOURS,
    MODEL_COLOURS,
    OTHER_COLOUR,
    counted,
    figure_config,
    layout,
    per_cent,
    plain,
    shortened,
)
from core.figures.plotly_json import INK, Figure, axis
from core.scoring import EmotionFindings, Estimate, Evaluation

MAIN, BESIDE = MODEL_COLOURS
"""The head asked for, and what it is compared with."""

EMOTION_COLOURS = (*CLASS_COLOURS, "#6549f2", "#e8820c")
"""With a violet and an orange: eight classes are more frequent than six, and both stay apart for the colour-blind."""

EMOTION_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
CLASS_DASHES = ("solid", "dash")
CLASS_LENGTH = 22
"""Characters of a class's name beside an axis; the pointer and the tables tell all of it."""

ROW = 30
"""Pixels of a row of a figure whose rows have names."""

SHARE = {"range": [0, 1.02], "tickformat": ".0%", "nticks": 6, "tickangle": 0}

WHY = {
    "silence": "silence",
    "short": "too short",
    "unsure": "too unsure",
    "unlike": "unlike the training clips",
}
"""Why nothing is said, for people."""


@dataclass(frozen=True)
class ClassLook:
    """How one class is drawn; each differs from all others in symbol, and in colour or stroke."""

    colour: str
    symbol: str
    dash: str
    pattern: str


def class_look(place: int) -> ClassLook:
    """Say how the class of that number is drawn in every figure."""
    turn, at = divmod(place, len(EMOTION_COLOURS))
    if turn >= len(CLASS_DASHES):
        return ClassLook(OTHER_COLOUR, "circle", "dot", "x")
    return ClassLook(
        EMOTION_COLOURS[at], EMOTION_SYMBOLS[at] + ("", "-open")[turn], CLASS_DASHES[turn], ("", ".")[turn]
    )


def class_name(name: str, length: int = CLASS_LENGTH) -> str:
    """Name a class in a figure: no markup, and its middle left out where it is long."""
    return plain(shortened(name, length))


def score(value: float) -> str:
    """Write a score as people do; one that is not defined is a dash.

    >>> score(0.8432), score(float("nan"))
    ('84.3 %', '–')
    """
    return per_cent(value) if np.isfinite(value) else "–"


def estimated(estimate: Estimate) -> str:
    """Write a score with its interval.

    >>> estimated(Estimate(0.8432, 0.801, 0.882)), estimated(Estimate(0.5))
    ('84.3 % [80.1, 88.2]', '50.0 %')
    """
    if estimate.low is None or estimate.high is None:
        return score(estimate.value)
    return f"{score(estimate.value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def decimal(estimate: Estimate) -> str:
    """Write an error with its interval as decimals, as calibration errors are quoted.

    >>> decimal(Estimate(0.0432, 0.03, 0.06)), decimal(Estimate(float("nan")))
    ('0.043 [0.030, 0.060]', '–')
    """
    if not np.isfinite(estimate.value):
        return "–"
    ends = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{ends}"


def beside_level(estimate: Estimate, level: float, name: str) -> str:
    """Say where a score stands beside a fixed level.

    >>> beside_level(Estimate(0.8, 0.7, 0.9), 0.14, "chance"), beside_level(Estimate(0.2, 0.1, 0.3), 0.14, "chance")
    ('above chance', 'not told apart from chance')
    """
    if estimate.low is None or estimate.high is None:
        return f"not compared with {name}, since it has no interval"
    if estimate.low > level:
        return f"above {name}"
    return f"below {name}" if estimate.high < level else f"not told apart from {name}"


def beside(first: Estimate, second: Estimate, name: str) -> str:
    """Say where a score stands beside another one: above or below only where the intervals do not touch.

    >>> beside(Estimate(0.8, 0.7, 0.9), Estimate(0.6, 0.5, 0.65), "the baseline")
    'above the baseline'
    >>> beside(Estimate(0.8, 0.7, 0.9), Estimate(0.7, 0.6, 0.8), "the baseline")
    'not told apart from the baseline: the intervals overlap'
    """
    if None in (first.low, first.high, second.low, second.high):
        return f"not compared with {name}, since intervals are missing"
    assert first.low is not None and first.high is not None  # for the type checker: None was just ruled out
    assert second.low is not None and second.high is not None
    if first.low > second.high:
        return f"above {name}"
    if first.high < second.low:
        return f"below {name}"
    return f"not told apart from {name}: the intervals overlap"


def beside_baseline(findings: EmotionFindings) -> str:
    """Say where the score stands beside the baseline's: by the difference, which the same speakers are in."""
    gain = findings.gain
    if gain is None:
        return beside(findings.main.uar, findings.baseline.uar, "the baseline")
    where = f"{abs(gain.value) * 100:.1f} points {'above' if gain.value >= 0 else 'below'} the baseline"
    if gain.low is None or gain.high is None:
        return f"{where}, without an interval"
    told = f"{where} [{gain.low * 100:+.1f}, {gain.high * 100:+.1f}]"
    return told if gain.low > 0 or gain.high < 0 else f"{told}: not told apart"


def sizes(evaluation: Evaluation) -> str:
    """Count clips and speakers: ``n = 535 clips of 10 speakers``."""
    speakers = counted(len(np.unique(evaluation.speakers)), "speaker")
    return f"n = {counted(len(evaluation.truth), 'clip')} of {speakers}"


def evaluations(findings: EmotionFindings) -> list[tuple[str, Evaluation]]:
    """Return what was evaluated with what it is: the head, the baseline, and the control where it was computed."""
    found = [("main", findings.main), ("baseline", findings.baseline)]
    return [*found, *([("control", findings.shuffled)] if findings.shuffled else [])]


def shown_name(role: str, evaluation: Evaluation) -> str:
    """Name an evaluation in a figure: the head by its own name, the others by what they are as well."""
    name = plain(shortened(evaluation.name, 30))
    return name if role == "main" or name.startswith(role) else f"{role}: {name}"


def known(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON has them: None for what is not defined."""
    return [float(value) if np.isfinite(value) else None for value in values]


def spans(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return plotly.js's error bars for intervals; none where there is none."""
    ends = [_ends(one) for one in estimates]
    if not any(map(any, ends)):
        return {"visible": False}
    down, up = ([pair[side] for pair in ends] for side in (0, 1))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4}


def _ends(estimate: Estimate) -> tuple[float, float]:
    """Return how far an interval reaches below and above its value; nowhere where there is none."""
    if estimate.low is None or estimate.high is None or not np.isfinite(estimate.value):
        return 0.0, 0.0
    return estimate.value - estimate.low, estimate.high - estimate.value


def values_of(estimates: Sequence[Estimate]) -> list[float | None]:
    """Return the scores as JSON has them."""
    return known(np.array([one.value for one in estimates]))


def level_line(at: float, name: str, colour: str = INK, dash: str = "dot") -> dict[str, Any]:
    """Return an upright line through a figure of rows, named in the legend; it reaches over the whole plot."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [at, at],
        "y": [0, 1],
        "yaxis": "y2",
        "name": f"{name} ({score(at)})",
        "line": {"color": colour, "width": 1.5, "dash": dash},
        "hovertemplate": f"{name}: {score(at)}<extra></extra>",
    }


def rows_layout(names: Sequence[str], heading: dict[str, Any], unit: str, **extra: Any) -> dict[str, Any]:
    """Return the layout of a figure with a named row each, the first on top; ``y2`` goes from 0 to 1 for levels."""
    return layout(
        height=190 + ROW * max(2, len(names)) + legend_room(extra.pop("n_keys", 4)),
        margin={"l": 14, "r": 18, "t": 84, "b": 60},
        title=heading,
        xaxis=axis(title={"text": unit, "standoff": 6}, **SHARE),
        yaxis=axis(
            tickvals=list(range(len(names))),
            ticktext=list(names),
            range=[len(names) - 0.4, -0.6],
            automargin=True,
            showgrid=False,
        ),
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        **extra,
    )


def legend_room(n_keys: int) -> int:
    """Return pixels for a legend below a figure, which on a phone has two entries a line."""
    return 20 * max(1, -(-n_keys // 2))


def finished(traces: list[dict[str, Any]], drawn: dict[str, Any], name: str) -> Figure:
    """Put a figure together."""
    return {"data": traces, "layout": drawn, "config": figure_config(f"emotion_{name}")}
