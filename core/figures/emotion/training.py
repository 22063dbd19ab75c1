"""Losses and scores by epoch, of all folds at once; drawn while they are trained as well."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.figures.emotion.style import BESIDE, MAIN, finished
from core.figures.layers.style import counted, layout, title
from core.figures.plotly_json import INK, Figure, axis

CURVES = {
    "train_loss": ("training loss", MAIN, "solid", "y"),
    "validation_loss": ("validation loss", BESIDE, "dash", "y"),
    "validation_uar": ("validation UAR", "#228833", "solid", "y2"),
}
"""By the names of ``metrics.jsonl``: what it is, its look, and which of the two plots it stands in."""

FINAL = -1
"""Number of the fold that is the final fit on everything."""


def training_figure(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the losses above and the UAR of validation speakers below, a line a fold; the last fold stands out.

    Args:
        lines: Lines of ``metrics.jsonl``: ``epoch`` and any of :data:`CURVES`, with ``fold`` where there are several;
            others are left out.
    """
    known = [line for line in lines if "epoch" in line]
    folds = list(dict.fromkeys(line.get("fold", FINAL) for line in known))
    traces = [
        trace
        for place, fold in enumerate(folds)
        for trace in _fold_traces([line for line in known if line.get("fold", FINAL) == fold], place == len(folds) - 1)
    ]
    drawn = layout(
        height=520,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("Training", _progress(known, folds)),
        xaxis=axis(title={"text": "epoch", "standoff": 6}, anchor="y2", rangemode="tozero"),
        yaxis=axis(title={"text": "loss"}, domain=[0.48, 1], rangemode="tozero"),
        yaxis2=axis(title={"text": "UAR"}, domain=[0, 0.4], range=[0, 1], tickformat=".0%"),
    )
    return finished([*_keys(), *traces], drawn, "training")


def training_caption(lines: Sequence[Mapping[str, Any]]) -> str:
    """Say what the lines are."""
    folds = len({line.get("fold", FINAL) for line in lines if "epoch" in line})
    return (
        f"{counted(folds, 'fold').capitalize()}, a line each, the latest one thick. Validation speakers are none of "
        "the trained nor of the tested ones; a ring marks the lowest validation loss, whose weights are kept. These "
        "UARs chose when to stop and are no result."
    )


def fold_title(fold: int) -> str:
    """Name a fold for people.

    >>> fold_title(0), fold_title(-1)
    ('fold 1', 'all speakers')
    """
    return "all speakers" if fold == FINAL else f"fold {fold + 1}"


def _progress(lines: Sequence[Mapping[str, Any]], folds: Sequence[int]) -> str:
    if not lines:
        return "nothing yet"
    return f"{fold_title(folds[-1])}, epoch {lines[-1]['epoch']}"


def _keys() -> list[dict[str, Any]]:
    shared = {"type": "scatter", "mode": "lines", "x": [None], "y": [None], "hoverinfo": "skip"}
    return [
        {**shared, "name": name, "line": {"color": colour, "dash": dash, "width": 2.5}}
        for name, colour, dash, _ in CURVES.values()
    ]


def _fold_traces(lines: Sequence[Mapping[str, Any]], latest: bool) -> list[dict[str, Any]]:
    fold = fold_title(lines[0].get("fold", FINAL))
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [line["epoch"] for line in lines],
            "y": [_finite(line.get(key)) for line in lines],
            "yaxis": upright,
            "line": {"color": colour, "dash": dash, "width": 2.5 if latest else 1},
            "opacity": 1.0 if latest else 0.45,
            "showlegend": False,
            "name": name,
            "hovertemplate": f"{fold}, epoch %{{x}}: %{{y:.3f}}<extra>{name}</extra>",
        }
        for key, (name, colour, dash, upright) in CURVES.items()
        if any(line.get(key) is not None for line in lines)
    ]
    return [*traces, *_best(lines, latest)]


def _best(lines: Sequence[Mapping[str, Any]], latest: bool) -> list[dict[str, Any]]:
    losses = np.array([_finite(line.get("validation_loss")) for line in lines], dtype=np.float64)
    if not np.isfinite(losses).any():
        return []
    best = int(np.nanargmin(losses))
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [lines[best]["epoch"]],
            "y": [float(losses[best])],
            "marker": {"symbol": "circle-open", "size": 10 if latest else 6, "color": INK, "line": {"width": 2}},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
