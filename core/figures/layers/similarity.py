"""How alike layers are, as a matrix: within one model, or of one model with another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.figures.layers.style import counted, figure_config, layout, number, plain, shortened, tick_step, title
from core.figures.plotly_json import DIVERGING, INK, VIRIDIS, Figure, axis, packed
from core.findings import Similarity

HEIGHT = 560
"""Pixels."""

NAMES = {"cka": "CKA", "cosine": "cosine", "pwcca": "PWCCA"}

MEANINGS = {
    "cka": "Unbiased linear CKA: 1 where one layer is a rotated and scaled copy of the other, about 0 where they share "
    "nothing.",
    "cosine": "Mean cosine of the same row in two layers: it depends on the axes, so that a rotated copy is not alike.",
    "pwcca": "Held-out projection-weighted CCA: 1 where one layer is an invertible linear map of the other, about 0 "
    "where they share nothing.",
}

HATCH = "rgba(200,206,216,0.6)"
"""Seen on the dark end of the sequential scale; on the diverging one's white middle it is :data:`INK`."""


def similarity_figure(similarity: Similarity, span: str = "frame", fine_tuned: Collection[str] = ()) -> Figure:
    """Draw the matrix with layer 0 at the lower left, as the papers on CKA do; brighter is more alike.

    Cells below the noise floor are hatched, and layers that belong together are outlined. Cells are equally large even
    where layers were left out; ticks name the layers.
    """
    outlines = [outline for cluster in similarity.clusters for outline in _outline(similarity, cluster)]
    return {
        "data": [_cells(similarity), *_hatching(similarity), *_outline_legend(similarity)],
        "layout": layout(
            height=HEIGHT,
            margin={"l": 62, "r": 12, "t": 66, "b": 60},
            title=title(similarity_title(similarity), _counts(similarity, span)),
            xaxis=_axis(similarity.models[1], similarity.columns, similarity.models, constrain="domain"),
            yaxis=_axis(similarity.models[0], similarity.rows, similarity.models, scaleanchor="x", constrain="domain"),
            shapes=outlines,
        ),
        "config": figure_config(f"layer_similarity_{similarity.kind}"),
    }


def similarity_title(similarity: Similarity) -> str:
    """Name the measure, and the model where there is one; of two models, each axis names its own."""
    first, second = similarity.models
    name = NAMES.get(similarity.kind, similarity.kind)
    if first != second:
        return f"Layers of two models ({name})"
    return f"{plain(shortened(first))}: similarity of layers ({name})"


def similarity_caption(similarity: Similarity, span: str = "frame") -> str:
    """Say how to read the matrix, what it was computed from, and what it does not show."""
    below = int(_below(similarity).sum())
    sentences = [
        MEANINGS.get(similarity.kind, ""),
        similarity.note,
        f"From {counted(similarity.n, span)}; the noise floor of {number(similarity.noise_floor)} is the size that "
        f"95 % of chance similarities stay under at {counted(similarity.n_floor, span)}; {below:,} of "
        f"{similarity.matrix.size:,} cells are below it and hatched.",
        _interval_sentence(similarity, span),
        "Layer 0 is at the lower left." if similarity.models[0] == similarity.models[1] else "",
        "Outlined squares are neighbouring layers that belong together." if similarity.clusters else "",
        "Alike means that the same rows lie close together; it does not say what the layers hold.",
    ]
    return " ".join(filter(None, sentences))


def _interval_sentence(similarity: Similarity, span: str) -> str:
    if similarity.low is None:
        return "There is no interval: that takes two recordings."
    return f"Intervals hold 95 % of a bootstrap over recordings at {counted(similarity.n_floor, span)}."


def _counts(similarity: Similarity, span: str) -> str:
    return f"n = {counted(similarity.n, span)}, noise floor {number(similarity.noise_floor)}"


def _below(similarity: Similarity) -> np.ndarray:
    return np.abs(np.nan_to_num(similarity.matrix)) < similarity.noise_floor


def _cells(similarity: Similarity) -> dict[str, Any]:
    signed = similarity.kind == "cosine"
    name = NAMES.get(similarity.kind, similarity.kind)
    bar = {"title": {"text": name, "side": "top"}, "thickness": 10, "outlinewidth": 0, "x": 1.01, "nticks": 6}
    return {
        "type": "heatmap",
        "z": packed(np.asarray(similarity.matrix, dtype=np.float64)),
        "zmin": -1 if signed else 0,
        "zmax": 1,
        "colorscale": DIVERGING if signed else VIRIDIS,
        "colorbar": bar,
        "hovertext": _hover_texts(similarity),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
    }


def _hover_texts(similarity: Similarity) -> list[list[str]]:
    return [
        [_hover_text(similarity, row, column) for column in range(len(similarity.columns))]
        for row in range(len(similarity.rows))
    ]


def _hover_text(similarity: Similarity, row: int, column: int) -> str:
    value = similarity.matrix[row, column]
    text = f"layer {similarity.rows[row]} × layer {similarity.columns[column]}<br><b>{_decimals(value)}</b>"
    if similarity.low is not None and similarity.high is not None:
        text += f" [{_decimals(similarity.low[row, column])}, {_decimals(similarity.high[row, column])}]"
    return text + ("<br>below the noise floor" if abs(value) < similarity.noise_floor else "")


def _decimals(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "not defined"


def _hatching(similarity: Similarity) -> list[dict[str, Any]]:
    """Return one line trace whose strokes join into a hatching over all cells below the noise floor."""
    rows, columns = np.nonzero(_below(similarity))
    if len(rows) == 0:
        return []
    strokes = np.array([[-0.5, 0.0], [0.0, 0.5], [np.nan, np.nan], [-0.5, -0.5], [0.5, 0.5], [np.nan, np.nan]])
    strokes = np.vstack([strokes, [[0.0, -0.5], [0.5, 0.0], [np.nan, np.nan]]])
    places = np.column_stack([columns, rows])[:, None] + strokes
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": packed(places[..., 0].ravel()),
            "y": packed(places[..., 1].ravel()),
            "line": {"color": INK if similarity.kind == "cosine" else HATCH, "width": 1},
            "hoverinfo": "skip",
            "name": f"hatched: below the noise floor ({number(similarity.noise_floor)})",
            "showlegend": True,
        }
    ]


def _outline_legend(similarity: Similarity) -> list[dict[str, Any]]:
    if not similarity.clusters:
        return []
    marker = {"symbol": "square-open", "size": 11, "color": INK, "line": {"width": 2}}
    name = "outlined: layers that belong together"
    return [{"type": "scatter", "mode": "markers", "x": [None], "y": [None], "marker": marker, "name": name}]


def _outline(similarity: Similarity, cluster: Sequence[int]) -> list[dict[str, Any]]:
    """Return a light square on a dark one, which is seen on every colour of the scale."""
    places = [similarity.rows.index(layer) for layer in cluster]
    ends = {"x0": min(places) - 0.5, "y0": min(places) - 0.5, "x1": max(places) + 0.5, "y1": max(places) + 0.5}
    lines = [{"color": "#14181d", "width": 5}, {"color": "#ffffff", "width": 2}]
    return [{"type": "rect", **ends, "line": line, "fillcolor": "rgba(0,0,0,0)"} for line in lines]


def _axis(model: str, layers: Sequence[int], models: tuple[str, str], **extra: Any) -> dict[str, Any]:
    # Every layer has a cell; where there are many, some go without a number.
    step = tick_step(len(layers))
    text = "layer" if models[0] == models[1] else f"layer of {plain(shortened(model, 28))}"
    places = list(range(0, len(layers), step))
    ends = [-0.5, len(layers) - 0.5]
    return axis(
        title={"text": text, "standoff": 6},
        tickvals=places,
        ticktext=[str(layers[place]) for place in places],
        range=ends,
        showgrid=False,
        **extra,
    )
