"""How a pre-training goes: loss beside guessing, accuracy beside chance, codes in use, and the learning rate."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.figures.layers.style import MODEL_COLOURS, figure_config, layout, number, per_cent, title
from core.figures.plotly_json import INK, Figure, axis, packed

POINTS = 1_200
"""Points of a line at most; more steps are averaged, or a noisy curve of a long run hides its course."""

SPLITS = {"train": ("training windows", MODEL_COLOURS[0]), "eval": ("held-out windows", MODEL_COLOURS[1])}

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """One figure of a training.

    Attributes:
        name: In ``metrics.jsonl``.
        title: Of the figure.
        unit: Of its axis.
        level: The line to compare with: its height, and what it is; None where there is nothing to compare.
        told: How to read it.
        write: A value for people.
        axis: Of plotly.js.
    """

    name: str
    title: str
    unit: str
    level: Callable[[Lines], tuple[float, str] | None]
    told: str
    write: Callable[[float], str] = number
    axis: Mapping[str, Any] | None = None


def _guessing(lines: Lines) -> tuple[float, str] | None:
    """The loss of a model that guesses among K + 1 candidates: ln(K + 1)."""
    chance = _chance(lines)
    return None if chance is None else (-math.log(chance[0]), f"guessing: {-math.log(chance[0]):.2f}")


def _chance(lines: Lines) -> tuple[float, str] | None:
    known = [line["chance"] for line in lines if line.get("chance")]
    return (float(known[-1]), f"chance: {per_cent(float(known[-1]))}") if known else None


def _fewest_codes(lines: Lines) -> tuple[float, str] | None:
    known = [line["least_perplexity"] for line in lines if line.get("least_perplexity")]
    return (float(known[-1]), f"below {number(float(known[-1]))}: too few codes") if known else None


def _nothing(_: Lines) -> tuple[float, str] | None:
    return None


def _loss(value: float) -> str:
    """Write a loss with three decimals: learning begins in the second one.

    >>> _loss(3.4012)
    '3.401'
    """
    return f"{value:.3f}" if math.isfinite(value) else number(value)


def _rate(value: float) -> str:
    """Write a learning rate; a small one with a power of ten, as on its axis.

    >>> _rate(0.002), _rate(1.85e-5), _rate(0.0)
    ('0.002', '1.85 × 10⁻⁵', '0')
    """
    if not 0 < value < 0.001:
        return number(value)
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g} × 10{f'{int(power)}'.translate(_RAISED)}"


CURVES = (
    Curve(
        "contrastive_loss", "Loss", "contrastive loss", _guessing,
        "For each masked moment the model picks the true code among K false ones. Guessing costs ln(K + 1), the dotted "
        "line; a model that learns falls below it, on held-out windows too.",
        _loss,
    ),
    Curve(
        "contrastive_accuracy", "Accuracy", "share of masked moments", _chance,
        "How often the true code is the model's first choice among all K + 1. The dotted line is chance: 1 / (K + 1).",
        per_cent, {"rangemode": "tozero", "tickformat": ".0%"},
    ),
    Curve(
        "perplexity", "Codes in use", "perplexity", _fewest_codes,
        "The effective number of codes that the quantiser uses. When it falls below the dotted line, the codes have "
        "collapsed: the task has become easy and teaches little. Then train on more data, or with a higher "
        "diversity_loss_weight.",
        axis={"rangemode": "tozero"},
    ),
    Curve(
        "learning_rate", "Learning rate", "learning rate", _nothing,
        "It rises during the warm-up and then falls to zero at the last step.",
        _rate,
        axis={"rangemode": "tozero", "exponentformat": "power"},
    ),
)  # fmt: skip


def training_figures(lines: Lines) -> list[tuple[Figure, str]]:
    """Draw all curves of a pre-training with how to read them; those without a value are left out.

    Args:
        lines: Of ``metrics.jsonl``: ``step``, ``split`` (``train`` or ``eval``), and the names of :data:`CURVES`.
    """
    known = [curve for curve in CURVES if any(line.get(curve.name) is not None for line in lines)]
    return [(curve_figure(curve, lines), curve.told) for curve in known]


def curve_figure(curve: Curve, lines: Lines) -> Figure:
    """Draw one curve, on training and on held-out windows, with the line to compare it with."""
    own = {split: _points(curve.name, lines, split) for split in SPLITS}
    traces = [_trace(curve, split, *points) for split, points in own.items() if len(points[0])]
    level, steps = curve.level(lines), [step for points in own.values() for step in points[0]]
    if level is not None and steps:
        traces.append(_level(level, max(steps)))
    drawn = layout(
        height=340,
        margin={"l": 66, "r": 14, "t": 84, "b": 56},
        title=title(curve.title, _last(curve, own)),
        xaxis=axis(title={"text": "step", "standoff": 6}, rangemode="tozero", tickformat=","),
        yaxis=axis(title={"text": curve.unit}, **(curve.axis or {})),
    )
    return {"data": traces, "layout": drawn, "config": figure_config(f"meg_training_{curve.name}")}


def averaged(steps: np.ndarray, values: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Average stretches of neighbouring steps, so that at most ``most`` points remain.

    >>> averaged(np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0]), 2)
    (array([0.5, 2.5]), array([2., 6.]))
    """
    if len(steps) <= most:
        return steps, values
    starts = np.arange(0, len(steps), -(-len(steps) // most))
    sizes = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / sizes, np.add.reduceat(values, starts) / sizes


def _points(name: str, lines: Lines, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of a split, in order; what a resumed run measured again counts once, as it was last."""
    found = {
        line["step"]: line[name]
        for line in lines
        if line.get("split", "train") == split and line.get(name) is not None and line.get("step") is not None
    }
    steps = np.array(sorted(found), dtype=np.float64)
    return averaged(steps, np.array([found[step] for step in steps], dtype=np.float64))


def _trace(curve: Curve, split: str, steps: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    name, colour = SPLITS[split]
    held_out = split == "eval"
    return {
        "type": "scatter",
        "mode": "lines+markers" if held_out else "lines",
        "x": packed(steps),
        "y": packed(values),
        "name": name,
        "line": {"color": colour, "width": 2.5 if held_out else 1.2},
        "marker": {"size": 7, "symbol": "diamond"},
        "hovertemplate": f"step %{{x:,.0f}}: %{{y:.4~g}}<extra>{name}</extra>",
    }


def _level(level: tuple[float, str], last: float) -> dict[str, Any]:
    at, name = level
    line = {"color": INK, "width": 2, "dash": "dot"}
    drawn = {"type": "scatter", "mode": "lines", "x": [0, float(last)], "y": [at, at], "name": name, "line": line}
    return {**drawn, "hovertemplate": f"{name}<extra></extra>"}


def _last(curve: Curve, own: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Say where the curve stands: ``step 120: 4.31 in training, 4.40 held out``."""
    told = {"train": "in training", "eval": "held out"}
    last = [f"{curve.write(float(values[-1]))} {told[split]}" for split, (_, values) in own.items() if len(values)]
    step = max((float(steps[-1]) for steps, _ in own.values() if len(steps)), default=0.0)
    return f"step {step:,.0f}: {', '.join(last)}" if last else "nothing yet"
