"""What the figures of layers share: colours that stay apart, names, titles, axes and the words for rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.analysis.comparison import training_mark
from core.figures.plotly_json import GRID, INK, axis, base_layout, configuration
from core.findings import LayersFindings, ModelFindings

CONTROL_SUFFIX = " (random weights)"

MODEL_COLOURS = ("#1b87c9", "#d9662b")
"""First and second model: blue and orange, which colour-blind readers tell apart, seen on white and near-black."""

MODEL_SYMBOLS = ("circle", "diamond")

CLASS_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Tol's *bright* scheme, safe for colour-blind readers; six colours, with a second symbol for six classes more."""

CLASS_SYMBOLS = ("circle", "diamond")
OTHER_COLOUR = "#9aa1ab"

MANY_TICKS = 16
"""More layers than this and only every second, fourth, ... is numbered."""

MEASURES = {"cca": "CCA", "mi": "mutual information", "accuracy": "linear probe"}
"""How properties are measured, by the end of their names."""

NAME_LENGTH = 34
"""Characters of a name in a title or a legend; the report's tables hold all of it."""


@dataclass(frozen=True)
class Look:
    """How one model is drawn in every figure; a control has its model's colour, dashed and hollow."""

    name: str
    colour: str
    symbol: str
    dash: str


def looks(models: Sequence[ModelFindings]) -> list[Look]:
    """Say how each model is drawn: the first two apart by colour and symbol, their controls dashed."""
    trained = [model.model for model in models if not model.control]
    return [_look(model, trained) for model in models]


def _look(model: ModelFindings, trained: Sequence[str]) -> Look:
    own = model.model.removesuffix(CONTROL_SUFFIX)
    place = trained.index(own) % len(MODEL_COLOURS) if own in trained else 0
    symbol = MODEL_SYMBOLS[place] + ("-open" if model.control else "")
    return Look(legend_name(model), MODEL_COLOURS[place], symbol, "dash" if model.control else "solid")


def legend_name(model: ModelFindings) -> str:
    """Name a model; those that labels took part in say so, and controls already do."""
    return display_name(model.model, training_mark(model))


def display_name(name: str, mark: str = "", length: int = NAME_LENGTH) -> str:
    """Name a model in a figure; what it is stays whole where the name is cut.

    >>> display_name("somebody/a-model-with-a-long-name (random weights)", length=20)
    'somebody/…-long-name (random weights)'
    """
    own = name.removesuffix(CONTROL_SUFFIX)
    marks = name[len(own) :] + (f" ({mark})" if mark else "")
    return plain(shortened(own, length)) + marks


def shortened(name: str, length: int = NAME_LENGTH) -> str:
    """Cut the middle out of a long name, since both ends tell names apart.

    >>> shortened("a-very-long-name-of-a-recording.wav", 16)
    'a-very-…ding.wav'
    """
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def plain(text: str) -> str:
    """Escape what plotly.js would read as markup: names and labels come from users.

    >>> plain("<b>x</b> & y")
    '&lt;b&gt;x&lt;/b&gt; &amp; y'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def per_cent(share: float) -> str:
    """Write a share of 1 as people do.

    >>> per_cent(0.3142)
    '31.4 %'
    """
    return f"{share:.1%}".replace("%", " %")


def number(value: float) -> str:
    """Write a size with three figures, and a minus that is one.

    >>> number(0.03127), number(1234.6), number(-2)
    ('0.0313', '1,235', '−2')
    """
    if not np.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def sentence(text: str) -> str:
    """End a text with a full stop where it has no end.

    >>> sentence("1 for a linear copy"), sentence("Is it?"), sentence("")
    ('1 for a linear copy.', 'Is it?', '')
    """
    text = text.rstrip()
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


def property_title(findings: LayersFindings, name: str) -> str:
    """Name a property for people, also one that was computed for no model.

    >>> from core.findings import LayersFindings, LayersSettings
    >>> property_title(LayersFindings((), None, LayersSettings(), ()), "phone_cca")
    'Phones (CCA)'
    """
    titles = {curve.name: curve.title for model in findings.models for curve in model.curves}
    kind, _, measure = name.partition("_")
    if measure not in MEASURES:
        return titles.get(name, name)
    what = {"mel": "Log-mel energies", "band": "Band powers"}.get(kind, f"{kind.capitalize()}s")
    return titles.get(name, f"{what} ({MEASURES[measure]})")


def counted(n: int, span: str) -> str:
    """Count rows in the word for the span.

    >>> counted(1, "frame"), counted(93_211, "phone")
    ('1 frame', '93,211 phones')
    """
    return f"{n:,} {span}" + ("" if n == 1 else "s")


def shown_of(shown: int, total: int, span: str) -> str:
    """Say how many rows are drawn, and of how many where that is not all of them."""
    return f"showing {shown:,} of {counted(total, span)}" if shown < total else counted(shown, span)


def title(text: str, below: str = "") -> dict[str, Any]:
    """Return a title at the upper left, with a quieter line below it."""
    place = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}
    return {
        "text": text,
        "font": {"size": 14},
        # The mode bar lies above, where it covers no title on a phone.
        "pad": {"t": 30, "l": 12},
        **place,
        "subtitle": {"text": below, "font": {"size": 12}},
    }


def bottom_legend(**extra: Any) -> dict[str, Any]:
    """Return a legend that lies below everything and wraps, so that it never covers data nor takes a phone's width."""
    place = {"orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yanchor": "top"}
    # An offset would be a share of the plot's height, which the legend itself changes; empty lines keep their height.
    gap = {"text": " <br> <br> <br> ", "side": "top"}
    return {**place, "title": gap, "font": {"size": 12}, "itemsizing": "constant", "bgcolor": "rgba(0,0,0,0)", **extra}


def layer_axis(layers: Sequence[int], **extra: Any) -> dict[str, Any]:
    """Return an axis over layer numbers, whole numbers only."""
    step = tick_step(max(layers) - min(layers) + 1)
    ends = [min(layers) - 0.5, max(layers) + 0.5]
    return axis(
        title={"text": "layer", "standoff": 6}, tick0=0, dtick=step, tickformat="d", range=ends, **{"ticks": ""} | extra
    )


def tick_step(n: int) -> int:
    """Say how many layers there are from one numbered tick to the next.

    >>> [tick_step(n) for n in (7, 13, 25, 49)]
    [1, 1, 2, 4]
    """
    step = 1
    while n > MANY_TICKS * step:
        step *= 2
    return step


def figure_config(name: str, selectable: bool = False) -> dict[str, Any]:
    """Return the mode bar's settings; ``selectable`` keeps the lasso and the box."""
    removed = ["autoScale2d"] if selectable else ["select2d", "lasso2d", "autoScale2d"]
    # plotly.js 4 shows a button that uploads the figure to its makers; nothing here leaves the machine.
    return {**configuration(name), "modeBarButtonsToRemove": removed, "showSendToCloud": False}


def layout(**extra: Any) -> dict[str, Any]:
    """Return the layout that the figures of layers share, with ``extra`` on top."""
    legend = bottom_legend()
    hover = {"font": {"size": 12}, "align": "left", "namelength": -1}
    return base_layout(**{"showlegend": True, "legend": legend, "hoverlabel": hover, "hovermode": "closest"} | extra)


def slider(labels: Sequence[str], steps: Sequence[list[Any]], active: int, prefix: str) -> dict[str, Any]:
    """Return a slider between the title and the plot; each step is the arguments of plotly.js's ``update``."""
    entries = [
        {"label": label, "method": "update", "args": step, "value": label}
        for label, step in zip(labels, steps, strict=True)
    ]
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "len": 1, "lenmode": "fraction"}
    return {
        "steps": entries,
        "active": active,
        "currentvalue": {"prefix": prefix, "xanchor": "left", "offset": 8, "font": {"size": 14}},
        **place,
        "pad": {"t": 0, "b": 14, "l": 6, "r": 6},
        "bgcolor": GRID,
        "activebgcolor": MODEL_COLOURS[0],
        "bordercolor": INK,
        "borderwidth": 1,
        "tickcolor": INK,
        "ticklen": 4,
        "minorticklen": 3,
        "font": {"size": 11, "color": INK},
    }
