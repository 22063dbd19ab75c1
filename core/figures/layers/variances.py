"""How the variances of a layer's dims are distributed, layer by layer, with the outlier dimensions named."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from core.figures.layers.style import Look, figure_config, layer_axis, layout, looks, number, title
from core.figures.plotly_json import Figure, axis, packed
from core.findings import LayerStatistics, ModelFindings

HEIGHT = 480
"""Pixels."""

DECADES = 1.0
"""From this spread of the middle 99 % of variances on, in powers of ten, the axis is logarithmic."""


def variance_figure(models: Sequence[ModelFindings], span: str = "frame") -> Figure:
    """Draw a violin of the dims' variances for each layer; two models stand back to back.

    Controls are left out: a third and fourth violin in one place could not be read.
    """
    shown, looked = _shown(models)
    logarithmic = is_logarithmic(shown)
    sides = ["both"] if len(shown) == 1 else ["negative", "positive"]
    traces = [
        trace
        for model, look, side in zip(shown, looked, sides, strict=True)
        for trace in (_violins(model, look, side, logarithmic), _medians(model, look, logarithmic))
    ]
    traces += [
        trace for model, look in zip(shown, looked, strict=True) for trace in _outliers(model, look, logarithmic)
    ]
    layers = sorted({layer.index for model in shown for layer in model.statistics})
    below = f"{_against(one.dim for one in shown)} dims, n = {_against(one.n_rows for one in shown)} {span}s"
    return {
        "data": traces,
        "layout": layout(
            height=HEIGHT,
            margin={"l": 66, "r": 14, "t": 84, "b": 60},
            title=title("Variances of features", below),
            xaxis=layer_axis(layers),
            yaxis=axis(title={"text": "variance of a dim"}, **_ticks(shown, logarithmic)),
            violinmode="overlay",
        ),
        "config": figure_config("feature_variance"),
    }


def variance_caption(models: Sequence[ModelFindings]) -> str:
    """Say how to read the violins, and which dims could not be drawn."""
    shown, looked = _shown(models)
    scale = "The axis is logarithmic. " if is_logarithmic(shown) else ""
    dead = sum(int((layer.variances <= 0).sum()) for model in shown for layer in model.statistics)
    left_out = f" Left out: {dead:,} dims that never vary." if dead and scale else ""
    return (
        f"Each violin is the distribution of the variances of one layer's dims over all rows. {scale}The line joins "
        "medians; crosses are outlier dimensions, whose mean square is far above the median dim's: hover to read their "
        f"numbers. A wide violin means unequal scales, not more information.{left_out}{_dims(shown, looked)}"
    )


def _dims(shown: Sequence[ModelFindings], looked: Sequence[Look]) -> str:
    """Say whose dims are how many, where models differ in it."""
    if len({model.dim for model in shown}) < 2:
        return ""
    return " " + "; ".join(f"{look.name}: {model.dim:,} dims" for model, look in zip(shown, looked, strict=True)) + "."


def _against(numbers: Iterable[int]) -> str:
    return " against ".join(f"{number:,}" for number in dict.fromkeys(numbers))


def is_logarithmic(models: Sequence[ModelFindings]) -> bool:
    """Say whether the variances span a decade or more."""
    variances = np.concatenate([layer.variances for model in models for layer in model.statistics])
    positive = variances[variances > 0]
    if len(positive) == 0:
        return False
    low, high = np.quantile(positive, [0.005, 0.995])
    return bool(np.log10(high / low) >= DECADES)


def _shown(models: Sequence[ModelFindings]) -> tuple[list[ModelFindings], list[Look]]:
    kept = [(model, look) for model, look in zip(models, looks(models), strict=True) if not model.control][:2]
    return [model for model, _ in kept], [look for _, look in kept]


def _scaled(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Return what is drawn. Logarithms are taken here, since a density belongs to the scale it is computed on."""
    if not logarithmic:
        return values
    with np.errstate(divide="ignore"):
        return np.log10(values)


def _violins(model: ModelFindings, look: Look, side: str, logarithmic: bool) -> dict[str, Any]:
    values = [_finite(_scaled(layer.variances, logarithmic)) for layer in model.statistics]
    layers = np.repeat([layer.index for layer in model.statistics], [len(part) for part in values])
    return {
        "type": "violin",
        "x": packed(layers),
        "y": packed(np.concatenate(values)),
        "name": look.name,
        "legendgroup": look.name,
        "showlegend": False,
        "side": side,
        "width": 0.92,
        "spanmode": "hard",
        "points": False,
        "hoverinfo": "skip",
        "scalemode": "width",
        "line": {"width": 1, "color": look.colour},
    }


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _medians(model: ModelFindings, look: Look, logarithmic: bool) -> dict[str, Any]:
    medians = np.array([np.median(layer.variances) for layer in model.statistics])
    scaled = _scaled(medians, logarithmic)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [layer.index for layer in model.statistics],
        "y": packed(np.where(np.isfinite(scaled), scaled, np.nan)),
        "name": look.name,
        "legendgroup": look.name,
        "line": {"color": look.colour, "width": 1.5},
        "marker": {"size": 6, "symbol": look.symbol, "color": look.colour},
        "hovertext": [_quantiles(layer) for layer in model.statistics],
        "hovertemplate": "%{hovertext}<extra>" + look.name + "</extra>",
    }


def _quantiles(layer: LayerStatistics) -> str:
    low, median, high = (number(float(np.quantile(layer.variances, at))) for at in (0.05, 0.5, 0.95))
    return f"layer {layer.index}: median {median}<br>90 % of dims between {low} and {high}"


def _outliers(model: ModelFindings, look: Look, logarithmic: bool) -> list[dict[str, Any]]:
    found = [(layer, dim) for layer in model.statistics for dim in layer.outlier_dimensions]
    if not found:
        return []
    values = np.array([layer.variances[dim] for layer, dim in found])
    scaled = _scaled(values, logarithmic)
    texts = [f"layer {layer.index}, dim {dim}: variance {number(layer.variances[dim])}" for layer, dim in found]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [layer.index for layer, _ in found],
            "y": packed(np.where(np.isfinite(scaled), scaled, np.nan)),
            "name": f"{look.name}, outlier dimensions",
            "legendgroup": look.name,
            "marker": {"size": 7, "symbol": "x-thin", "color": look.colour, "line": {"width": 2, "color": look.colour}},
            "hovertext": texts,
            "hovertemplate": "%{hovertext}<extra>" + look.name + "</extra>",
        }
    ]


def _ticks(models: Sequence[ModelFindings], logarithmic: bool) -> dict[str, Any]:
    """Return powers of ten as ticks, at most about eight of them."""
    if not logarithmic:
        return {"rangemode": "tozero"}
    variances = np.concatenate([layer.variances for model in models for layer in model.statistics])
    exponents = np.log10(variances[variances > 0])
    low, high = int(np.floor(exponents.min())), int(np.ceil(exponents.max()))
    marked = list(range(low, high + 1, 1 + (high - low) // 8))
    return {"tickvals": marked, "ticktext": [_power(exponent) for exponent in marked]}


def _power(exponent: int) -> str:
    return f"{10**exponent:g}" if -3 <= exponent <= 4 else f"10<sup>{exponent}</sup>".replace("-", "−")
