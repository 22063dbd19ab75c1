"""What changes in a model when the same input is said to come from another site: a map over tokens."""

from typing import Any

import numpy as np

from core.figures.layers.style import figure_config, layout, number, plain, title
from core.figures.plotly_json import DIVERGING, INK, VIRIDIS, Figure, axis, packed
from core.figures.sites.findings import Comparison

FREQUENCY_TICKS = 5
CAPTION = (
    "Above, by how much each token of the last states differs when the input is said to come from the one site or the "
    "other: mean absolute difference over dimensions. The first site is the one compared, at the bottom; others stand "
    "beside it as in training. Below, the input itself, standardised log power. Nothing is "
    "masked and nothing is dropped: the same site twice differs by exactly 0."
)


def comparison_figure(found: Comparison) -> Figure:
    """Draw the map over tokens above the input, over the same time."""
    heading = title(f"{plain(found.sites[0])} or {plain(found.sites[1])}?", _told(found))
    marks = [
        mark
        for letter, rows in (("y", len(found.map)), ("y2", len(found.grid)))
        for mark in _bands(found, letter, rows)
    ]
    drawn = layout(
        height=560,
        margin={"l": 62, "r": 14, "t": 84, "b": 50},
        title=heading,
        xaxis=axis(title={"text": "seconds", "standoff": 6}, showgrid=False, anchor="y2"),
        yaxis=axis(domain=[0.54, 1.0], **_row_axis(found, len(found.map))),
        yaxis2=axis(domain=[0.0, 0.46], **_row_axis(found, len(found.grid))),
        shapes=marks,
        showlegend=False,
    )
    # The map keeps its own scale: where a site changes little, the pattern is still what is asked for.
    top = float(np.max(found.map, initial=0.0)) or 1.0
    changed = {"zmin": 0, "zmax": top, "colorscale": VIRIDIS, "colorbar": _bar("change", 0.77)}
    limit = float(np.quantile(np.abs(found.grid), 0.99)) or 1.0
    given = {"zmin": -limit, "zmax": limit, "colorscale": DIVERGING, "colorbar": _bar("input", 0.23)}
    traces = [
        {**_cells(found.map, found.times), **changed, "hovertemplate": "%{x:.2f} s: %{z:.3g}<extra>change</extra>"},
        {
            **_cells(found.grid, found.times),
            **given,
            "yaxis": "y2",
            "hovertemplate": "%{x:.2f} s: %{z:.2f}<extra>input</extra>",
        },
    ]
    return {"data": traces, "layout": drawn, "config": figure_config("site_comparison")}


def band_starts(frequencies: np.ndarray) -> np.ndarray:
    """Rows where a band of another site begins: where frequencies fall instead of rise; the first is 0."""
    return np.concatenate([[0], np.flatnonzero(np.diff(frequencies) < 0) + 1])


def row_ticks(frequencies: np.ndarray, rows: int) -> tuple[np.ndarray, list[str]]:
    """Choose rows of a picture with ``rows`` rows to be named by their frequency, in the first band.

    With several bands only the first is numbered; the others repeat it.
    """
    starts = band_starts(frequencies)
    first = frequencies[: starts[1]] if len(starts) > 1 else frequencies
    most = FREQUENCY_TICKS if len(starts) == 1 else 2
    shown = np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).round().astype(int))
    per_token = rows / len(frequencies)
    return (shown + 0.5) * per_token - 0.5, [f"{first[row]:.3g}" for row in shown]


def named_rows(found: Comparison, rows: int) -> tuple[np.ndarray, list[str], str]:
    """Where the rows of a picture are named, how, and what the names are.

    Frequencies; where a token row is a whole site, the name of the one compared, which is the first.
    """
    if len(found.frequencies) > 1 and np.ptp(found.frequencies) == 0:
        return np.array([(rows / len(found.frequencies) - 1) / 2]), [plain(found.source)], "sites"
    return *row_ticks(found.frequencies, rows), "Hz"


def _told(found: Comparison) -> str:
    return (
        f"signal of {plain(found.source)}; mean |difference| {number(found.mean_difference)}<br>"
        f"{100 * found.relative:.2g} % of the mean |state|"
    )


def _cells(values: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    """Return a heat map over time: ``times`` are centres of tokens, which share the picture's width evenly."""
    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    begin, columns = float(times[0]) - step / 2, np.shape(values)[1]
    width = step * len(times) / columns
    return {"type": "heatmap", "z": packed(np.asarray(values, dtype=np.float64)), "x0": begin + width / 2, "dx": width}


def _row_axis(found: Comparison, rows: int) -> dict[str, Any]:
    places, texts, what = named_rows(found, rows)
    return {"tickvals": places.tolist(), "ticktext": texts, "title": {"text": what}, "showgrid": False}


def _bands(found: Comparison, letter: str, rows: int) -> list[dict[str, Any]]:
    """Return lines between the bands of several sites."""
    per_token = rows / len(found.frequencies)
    line = {"color": INK, "width": 1}
    shared = {"type": "line", "xref": "paper", "yref": letter, "x0": 0, "x1": 1, "line": line}
    heights = band_starts(found.frequencies)[1:] * per_token - 0.5
    return [{**shared, "y0": float(at), "y1": float(at)} for at in heights]


def _hover(name: str) -> str:
    return f"%{{x:.2f}} s: %{{z:.3g}}<extra>{name}</extra>"


def _bar(name: str, middle: float) -> dict[str, Any]:
    place = {"x": 1.0, "y": middle, "len": 0.46, "thickness": 10, "outlinewidth": 0, "nticks": 4}
    return {**place, "title": {"text": name}}
