"""Losses and scores by epoch, of all folds at once; drawn while they are trained as well."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.figures.emotion.style import BESIDE, MAIN, finished, known
from core.figures.layers.style import counted, layout, plain, title
from core.figures.plotly_json import INK, Figure, axis

CURVES = {
    ("train", "loss"): ("training loss", MAIN, "solid", "y"),
    ("eval", "loss"): ("validation loss", BESIDE, "dash", "y"),
    ("eval", "uar"): ("validation UAR", "#228833", "solid", "y2"),
}
"""By split and name in ``metrics.jsonl``: what it is, its look, and which of the two plots it stands in."""

FOR_USE = -1
"""Number of the fold that is the final fit on everything."""


def training_figure(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the losses above and the UAR of validation speakers below, a line a fit; the latest one stands out.

    Args:
        lines: Lines of ``metrics.jsonl``: ``epoch``, ``split`` and any of :data:`CURVES`; ``part``, ``fold`` and
            ``fit`` say which fit they are of. Lines without an epoch are left out.
    """
    fits = fits_of(lines)
    traces = [
        trace
        for place, (name, own) in enumerate(fits.items())
        for trace in _fit_traces(name, own, place == len(fits) - 1)
    ]
    drawn = layout(
        height=520,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("Training", _progress(fits)),
        xaxis=axis(title={"text": "epoch", "standoff": 6}, anchor="y2", rangemode="tozero"),
        yaxis=axis(title={"text": "loss"}, domain=[0.48, 1], rangemode="tozero"),
        yaxis2=axis(title={"text": "UAR"}, domain=[0, 0.4], range=[0, 1], tickformat=".0%"),
    )
    return finished([*_keys(), *traces], drawn, "training")


def training_caption(lines: Sequence[Mapping[str, Any]]) -> str:
    """Say what the lines are."""
    return (
        f"{counted(len(fits_of(lines)), 'fit').capitalize()}, a line each, the latest one thick. Validation clips are "
        "none of the trained nor of the tested ones; a ring marks the lowest validation loss. These UARs choose when "
        "to stop and are no result."
    )


def fits_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group lines by the fit that they are of, by its name; the one that was told of last is the last."""
    fits: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if "epoch" in line:
            name = fit_name(line)
            fits[name] = [*fits.pop(name, []), line]
    return fits


def fit_name(line: Mapping[str, Any]) -> str:
    """Name the fit that a line is of.

    >>> fit_name({"part": "head", "fold": 0, "fit": "fold 2 of 5"}), fit_name({"fold": -1, "fit": "all speakers"})
    ('head, fold 1, validation fold 2 of 5', 'for use, all speakers')
    """
    fold = line.get("fold")
    outer = "" if fold is None else "for use" if fold == FOR_USE else f"fold {int(fold) + 1}"
    inner = str(line.get("fit", ""))
    inner = f"validation {inner}" if inner.startswith("fold") else inner
    return ", ".join(filter(None, [str(line.get("part", "")), outer, inner]))


def _progress(fits: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if not fits:
        return "nothing yet"
    name = list(fits)[-1]
    return plain(f"{name + ': ' if name else ''}epoch {fits[name][-1]['epoch']:g}")


def _keys() -> list[dict[str, Any]]:
    shared = {"type": "scatter", "mode": "lines", "x": [None], "y": [None], "hoverinfo": "skip"}
    return [
        {**shared, "name": name, "line": {"color": colour, "dash": dash, "width": 2.5}}
        for name, colour, dash, _ in CURVES.values()
    ]


def _fit_traces(name: str, lines: Sequence[Mapping[str, Any]], latest: bool) -> list[dict[str, Any]]:
    traces = []
    for (split, score), (told, colour, dash, upright) in CURVES.items():
        own = _scored(lines, split, score)
        drawn = {
            "type": "scatter",
            "mode": "lines",
            "x": [line["epoch"] for line in own],
            "y": known(np.array([line[score] for line in own], dtype=np.float64)),
            "yaxis": upright,
            "line": {"color": colour, "dash": dash, "width": 2.5 if latest else 1},
            "opacity": 1.0 if latest else 0.45,
            "showlegend": False,
            "name": told,
            "hovertemplate": f"{plain(name)}<br>epoch %{{x:.4~g}}: %{{y:.3f}}<extra>{told}</extra>",
        }
        traces += [drawn] if own else []
    return [*traces, *_best(lines, latest)]


def _scored(lines: Sequence[Mapping[str, Any]], split: str, score: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line.get("split") == split and line.get(score) is not None]


def _best(lines: Sequence[Mapping[str, Any]], latest: bool) -> list[dict[str, Any]]:
    validated = _scored(lines, "eval", "loss")
    losses = np.array([line["loss"] for line in validated], dtype=np.float64)
    if not np.isfinite(losses).any():
        return []
    best = int(np.nanargmin(losses))
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [validated[best]["epoch"]],
            "y": [float(losses[best])],
            "marker": {"symbol": "circle-open", "size": 10 if latest else 6, "color": INK, "line": {"width": 2}},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
