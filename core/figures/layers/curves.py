"""Values against layers: what was measured of each layer and what each layer holds, all models in one figure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InputError
from core.figures.layers.style import Look, counted, figure_config, layer_axis, layout, looks, per_cent, plain, title
from core.figures.plotly_json import GRID, INK, Figure, axis, packed
from core.findings import Curve, LayersFindings, LayerStatistics, ModelFindings

HEIGHT = 460
"""Pixels."""

EXPLAINED_AXES = (1, 2, 3, 10)
"""How many principal axes the figure of explained variance can add up; a picture in the plane shows two."""

SHUFFLED = "shuffled labels"
FLOOR = "noise floor"

SPLITS = {
    "speaker": "No speaker stands on both sides of a split",
    "recording": "No recording stands on both sides of a split",
    "block": "Split into blocks of time within the recordings, which are not independent: read with care",
}


@dataclass(frozen=True)
class Line:
    """One line against layers.

    Attributes:
        name: For the legend, and for the pointer.
        layers: Layer numbers.
        values: One a layer.
        colour: As ``#rrggbb``.
        symbol: Of the markers.
        dash: plotly.js's name for the stroke.
        low: Lower end of a band, or None.
        high: Its upper end.
        role: Empty for a model; what is drawn thin and dotted says what it is, and each role is in the legend once.
    """

    name: str
    layers: Sequence[int]
    values: np.ndarray
    colour: str
    symbol: str = "circle"
    dash: str = "solid"
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    role: str = ""


@dataclass(frozen=True)
class Statistic:
    """A number of each layer, and what to say about it."""

    title: str
    unit: str
    value: Callable[[LayerStatistics], float]
    caption: str
    spread: Callable[[LayerStatistics], float] | None = None
    top: float | None = None


STATISTICS = {
    "mean_std": Statistic(
        "Mean and standard deviation",
        "value of a feature",
        lambda layer: layer.mean,
        "Line: mean of all values of all frames; band: one standard deviation to both sides. Large values need not be "
        "informative: a few dims can carry most of it (see the outlier dimensions).",
        spread=lambda layer: layer.std,
    ),
    "std": Statistic(
        "Standard deviation",
        "standard deviation",
        lambda layer: layer.std,
        "Standard deviation of all values. It compares layers of one model; models are scaled each in its own way.",
    ),
    "effective_rank": Statistic(
        "Effective rank",
        "effective rank (dims)",
        lambda layer: layer.effective_rank,
        "How many directions the rows spread over: exponential of the entropy of the covariance's eigenvalues. It "
        "cannot exceed the number of dims, and few rows make it smaller.",
    ),
    "participation_ratio": Statistic(
        "Participation ratio",
        "participation ratio (dims)",
        lambda layer: layer.participation_ratio,
        "How many directions carry most of the variance: (sum of eigenvalues)² / sum of their squares. One direction "
        "of large variance is enough to bring it near 1.",
    ),
    "anisotropy": Statistic(
        "Anisotropy",
        "mean cosine of two rows",
        lambda layer: layer.anisotropy,
        "Mean cosine of two different rows: 0 where rows point everywhere, 1 where all point one way. A mean far from "
        "zero in few dims is enough to make it large.",
    ),
}
"""By name: everything that has one number a layer, in the order in which it is shown."""


def statistic_figure(findings: LayersFindings, name: str) -> Figure:
    """Draw one of :data:`STATISTICS` against layers, all models in one figure."""
    statistic = _statistic(name)
    lines = [_statistic_line(statistic, model, look) for model, look in _looked(findings)]
    rows = {model.n_rows if statistic.spread else model.n_used for model in findings.models}
    below = f"n = {counted(max(rows), findings.span)}"
    return lines_figure(lines, title(statistic.title, below), statistic.unit, f"layers_{name}")


def statistic_caption(findings: LayersFindings, name: str) -> str:
    """Say what the number is and what it does not show."""
    return _statistic(name).caption + _dashed(findings)


def property_names(findings: LayersFindings) -> list[str]:
    """Return the names of the properties that at least one model has, in the order in which they were found."""
    return list(dict.fromkeys(curve.name for model in findings.models for curve in model.curves))


def property_figure(findings: LayersFindings, name: str) -> Figure:
    """Draw one property against layers: models, controls dashed, shuffled labels and chance dotted."""
    found = _curves(findings, name)
    lines = [line for curve, look in found for line in _property_lines(curve, look)]
    lines += _chance_lines([curve for curve, _ in found])
    first = found[0][0]
    classes = f", {first.n_classes} classes" if first.n_classes else ""
    below = f"n = {counted(first.n, findings.span)}{classes}"
    return lines_figure(lines, title(plain(first.title), below), _unit(first), f"layers_{name}")


def property_caption(findings: LayersFindings, name: str) -> str:
    """Say what was measured, how it was split, what the controls are, and what is not shown."""
    found = _curves(findings, name)
    first = found[0][0]
    sentences = [
        first.measure,
        SPLITS.get(first.split, first.split) + ".",
        *dict.fromkeys(curve.note for curve, _ in found if curve.note),
        "Bands hold 95 % of a bootstrap over groups." if any(c.low is not None for c, _ in found) else "",
        "Dotted: the same with shuffled labels, which is what nothing looks like."
        if any(c.shuffled is not None for c, _ in found)
        else "",
        "Chance is the share of the most frequent class." if any(c.chance is not None for c, _ in found) else "",
    ]
    rest = "A value above its controls says that it can be read out, not that the model uses it."
    return " ".join(filter(None, sentences)) + _dashed(findings) + " " + rest


def explained_figure(findings: LayersFindings, axes: int = 2) -> Figure:
    """Draw the share of variance on the first principal axes with its noise floor; buttons change how many axes."""
    lines = [line for model, look in _looked(findings) for line in _explained_lines(model, look, axes)]
    figure = lines_figure(
        lines,
        title("Variance on the first axes", f"n = {_fitted(findings)}"),
        "share of variance (%)",
        "layers_explained_variance",
        ends=(0, None),
    )
    figure["layout"]["margin"]["t"] = 114
    figure["layout"]["updatemenus"] = [_axes_menu(findings, axes)]
    return figure


def explained_caption(findings: LayersFindings) -> str:
    """Say what explained variance is worth."""
    return (
        f"Share of the variance that lies on the first principal axes, fitted on {_fitted(findings)}. Dotted: the "
        "share that the same axes would have if the dims, with the same variances, were independent noise; a share "
        "near it shows no structure. The floor takes rows for independent; neighbouring rows are not, and theirs would "
        "be higher. Much explained variance is not much information: one loud dim is enough." + _dashed(findings)
    )


def lines_figure(
    lines: Iterable[Line],
    heading: dict[str, Any],
    unit: str,
    name: str,
    ends: tuple[float | None, float | None] | None = None,
) -> Figure:
    """Draw lines against layer numbers."""
    lines = list(lines)
    layers = sorted({layer for line in lines for layer in line.layers}) or [0]
    traces = [*(trace for line in lines for trace in _traces(line)), *_roles(lines)]
    upright = axis(title={"text": unit}, zeroline=True, zerolinecolor=GRID, automargin=True)
    if ends is not None:
        upright |= {"rangemode": "tozero"} if ends == (0, None) else {"range": list(ends)}
    return {
        "data": traces,
        "layout": layout(
            height=HEIGHT,
            margin={"l": 62, "r": 14, "t": 84, "b": 60},
            title=heading,
            xaxis=layer_axis(layers),
            yaxis=upright,
        ),
        "config": figure_config(name),
    }


def _roles(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Return a grey line without points for each role: the lines themselves have their models' colours."""
    roles = {line.role: line.dash for line in lines if line.role}
    shared = {"type": "scatter", "mode": "lines", "x": [None], "y": [None], "hoverinfo": "skip"}
    return [
        {**shared, "name": role, "legendgroup": role, "line": {"color": INK, "dash": dash, "width": 1.5}}
        for role, dash in roles.items()
    ]


def _traces(line: Line) -> list[dict[str, Any]]:
    group = line.role or line.name
    drawn = {
        "type": "scatter",
        "mode": "lines" if line.role else "lines+markers",
        "x": list(line.layers),
        "y": packed(np.asarray(line.values, dtype=np.float64)),
        "name": line.name,
        "legendgroup": group,
        "showlegend": not line.role,
        "line": {"color": line.colour, "dash": line.dash, "width": 1.5 if line.role else 2},
        "marker": {"symbol": line.symbol, "size": 7, "color": line.colour},
        "hovertext": _line_hovers(line),
        "hovertemplate": "%{hovertext}<extra>" + line.name + "</extra>",
    }
    return [*_band(line, group), drawn]


def _line_hovers(line: Line) -> list[str]:
    texts = [f"layer {layer}: {value:.4g}" for layer, value in zip(line.layers, line.values, strict=True)]
    if line.low is None or line.high is None:
        return texts
    ends = zip(texts, line.low, line.high, strict=True)
    return [f"{text} [{low:.4g}, {high:.4g}]" for text, low, high in ends]


def _band(line: Line, group: str) -> list[dict[str, Any]]:
    if line.low is None or line.high is None:
        return []
    known = np.isfinite(line.low) & np.isfinite(line.high)
    layers = np.asarray(line.layers)[known]
    if len(layers) == 0:
        return []
    low, high = np.asarray(line.low)[known], np.asarray(line.high)[known]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*layers.tolist(), *layers[::-1].tolist()],
            "y": packed(np.concatenate([low, high[::-1]]).astype(np.float64)),
            "fill": "toself",
            "fillcolor": _faint(line.colour),
            "line": {"width": 0, "color": line.colour},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": group,
            "name": line.name,
        }
    ]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _looked(findings: LayersFindings) -> list[tuple[ModelFindings, Look]]:
    return list(zip(findings.models, looks(findings.models), strict=True))


def _statistic(name: str) -> Statistic:
    if name not in STATISTICS:
        raise InputError(f"Got the statistic {name!r}; expected one of {', '.join(STATISTICS)}.")
    return STATISTICS[name]


def _statistic_line(statistic: Statistic, model: ModelFindings, look: Look) -> Line:
    values = np.array([statistic.value(layer) for layer in model.statistics], dtype=np.float64)
    layers = [layer.index for layer in model.statistics]
    if statistic.spread is None or model.control:
        return Line(look.name, layers, values, look.colour, look.symbol, look.dash)
    spread = np.array([statistic.spread(layer) for layer in model.statistics])
    return Line(look.name, layers, values, look.colour, look.symbol, look.dash, values - spread, values + spread)


def _curves(findings: LayersFindings, name: str) -> list[tuple[Curve, Look]]:
    found = [(curve, look) for model, look in _looked(findings) for curve in model.curves if curve.name == name]
    if not found:
        known = ", ".join(property_names(findings)) or "none, since no properties were computed"
        raise InputError(f"Got the property {name!r}; expected one of: {known}.")
    return found


def _property_lines(curve: Curve, look: Look) -> list[Line]:
    line = Line(look.name, curve.layers, curve.values, look.colour, look.symbol, look.dash, curve.low, curve.high)
    # With shuffled labels random weights find as little as trained ones: two lines more would say nothing.
    if curve.shuffled is None or look.dash != "solid":
        return [line]
    name, role = f"{look.name}, {SHUFFLED}", SHUFFLED
    return [line, Line(name, curve.layers, curve.shuffled, look.colour, dash="dot", role=role)]


def _chance_lines(curves: Sequence[Curve]) -> list[Line]:
    """Return one line for each chance level; models that share their rows share it."""
    levels = dict.fromkeys(round(curve.chance, 4) for curve in curves if curve.chance is not None)
    ends = sorted({layer for curve in curves for layer in curve.layers})
    ends = [ends[0], ends[-1]]
    return [
        Line(name, ends, np.array([level, level]), INK, dash="longdashdot", role=name)
        for level in levels
        for name in (f"chance ({per_cent(level)})",)
    ]


def _unit(curve: Curve) -> str:
    if curve.name.endswith("_accuracy"):
        return "accuracy (share of 1)"
    if curve.name.endswith("_mi"):
        return "mutual information / label entropy"
    return "held-out CCA" if curve.name.endswith("_cca") else plain(curve.title)


def _explained_lines(model: ModelFindings, look: Look, axes: int) -> list[Line]:
    layers = [layer.index for layer in model.projections]
    shares = np.array([100 * layer.explained[:axes].sum() for layer in model.projections])
    floors = np.array([100 * layer.noise_floor[:axes].sum() for layer in model.projections])
    return [
        Line(look.name, layers, shares, look.colour, look.symbol, look.dash),
        Line(f"{look.name}, {FLOOR}", layers, floors, look.colour, dash="dot", role=FLOOR),
    ]


def _axes_menu(findings: LayersFindings, active: int) -> dict[str, Any]:
    buttons = [_axes_button(findings, axes) for axes in EXPLAINED_AXES]
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "active": EXPLAINED_AXES.index(active) if active in EXPLAINED_AXES else -1,
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 4, "t": 0, "r": 0},
        "showactive": True,
        "bgcolor": "rgba(0,0,0,0)",
        "bordercolor": GRID,
        "font": {"size": 11, "color": INK},
    }


def _axes_button(findings: LayersFindings, axes: int) -> dict[str, Any]:
    lines = [line for model, look in _looked(findings) for line in _explained_lines(model, look, axes)]
    told = {"y": [packed(line.values) for line in lines], "hovertext": [_line_hovers(line) for line in lines]}
    label = "PC 1" if axes == 1 else f"PC 1–{axes}"
    return {"label": label, "method": "restyle", "args": [told, list(range(len(lines)))]}


def _fitted(findings: LayersFindings) -> str:
    return counted(max(layer.n_fitted for model in findings.models for layer in model.projections), findings.span)


def _dashed(findings: LayersFindings) -> str:
    control = any(model.control for model in findings.models)
    return " Dashed: the same architecture with random weights." if control else ""
