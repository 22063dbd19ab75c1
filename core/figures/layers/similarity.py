"""How alike layers are, as a matrix: within one model, or of one model with another."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from core.figures.layers.style import (
    CONTROL_SUFFIX,
    counted,
    display_name,
    figure_config,
    layout,
    number,
    tick_step,
    title,
)
from core.figures.names import file_label
from core.figures.plotly_json import DIVERGING, INK, VIRIDIS, Figure, axis, packed
from core.findings import Similarity

HEIGHT = 560
"""Pixels."""

NAMES = {"cka": "CKA", "cosine": "cosine", "pwcca": "PWCCA"}

READING = (
    "Layer 0 is at the lower left. Hatched cells are below the noise floor; outlined squares are neighbouring layers "
    "that belong together. Alike means that the same rows lie close together; it does not say what the layers hold."
)
"""How to read any of the matrices, and what none of them shows."""

ALL_ALIKE = 0.95
"""Similarity of the least similar layers from which those of a control are called alike; .99 is usual."""

NAME_SHORT = 24
"""Characters of a model's name along an axis of the matrix."""

UNTRAINED = (
    "With random weights, layers that are all alike are to be expected: a residual block changes little of what passes "
    "through it before it is trained."
)

HATCH = "rgba(200,206,216,0.6)"
"""Seen on the dark end of the sequential scale; on the diverging one's white middle it is :data:`INK`."""


def similarity_figure(similarity: Similarity, span: str = "frame", fine_tuned: Collection[str] = ()) -> Figure:
    """Draw the matrix with layer 0 at the lower left, as the papers on CKA do; brighter is more alike.

    Cells below the noise floor are hatched, and layers that belong together are outlined. Cells are equally large even
    where layers were left out; ticks name the layers.

    Args:
        similarity: The matrix with its interval and noise floor.
        span: What a row is.
        fine_tuned: Names of the models that are marked as fine-tuned.
    """
    of_two = similarity.models[0] != similarity.models[1]
    names = [name.rsplit("/", 1)[-1] for name in similarity.models] if of_two else similarity.models
    tuned = [name in fine_tuned for name in similarity.models]
    models = [display_name(name, mark, NAME_SHORT) for name, mark in zip(names, tuned, strict=True)]
    outlines = [outline for cluster in similarity.clusters for outline in _outline(similarity, cluster)]
    return {
        "data": [_cells(similarity), *_hatching(similarity), *_outline_legend(similarity)],
        "layout": layout(
            height=HEIGHT,
            margin={"l": 62, "r": 12, "t": 84, "b": 60},
            title=title("Layers of two models" if of_two else models[0], _counts(similarity, span)),
            xaxis=_axis(models[1] if of_two else "", similarity.columns, constrain="domain"),
            yaxis=_axis(models[0] if of_two else "", similarity.rows, scaleanchor="x", constrain="domain"),
            shapes=outlines,
        ),
        "config": figure_config("layer_similarity_" + "_vs_".join(map(file_label, dict.fromkeys(similarity.models)))),
    }


def similarity_name(similarity: Similarity) -> str:
    """Name the measure for people."""
    return NAMES.get(similarity.kind, similarity.kind)


def similarity_caption(similarity: Similarity, span: str = "frame") -> str:
    """Say what the matrix was computed from, how to read it, and what it does not show."""
    return f"{similarity_counts(similarity, span)} {READING}"


def similarity_counts(similarity: Similarity, span: str = "frame") -> str:
    """Say what this matrix was computed from and how far it is above noise."""
    below = int(_below(similarity).sum())
    where = f"{below:,} of {similarity.matrix.size:,}" if below else f"None of {similarity.matrix.size:,}"
    first, second = similarity.models
    who = f"Upwards: {first}; across: {second}. " if first != second else ""
    told = f"{who}{similarity.note or _counts(similarity, span)} {where} cells are below the noise floor."
    return f"{told} {UNTRAINED}" if _is_untrained(similarity) else told


def _is_untrained(similarity: Similarity) -> bool:
    """Whether these are the layers of a control, and all alike."""
    of_control = all(name.endswith(CONTROL_SUFFIX) for name in similarity.models)
    return of_control and similarity.kind == "cka" and bool((similarity.matrix >= ALL_ALIKE).all())


def _counts(similarity: Similarity, span: str) -> str:
    floor = number(similarity.noise_floor)
    return f"{similarity_name(similarity)} of layers, n = {counted(similarity.n, span)}, noise floor {floor}"


def _below(similarity: Similarity) -> np.ndarray:
    return np.abs(np.nan_to_num(similarity.matrix)) < similarity.noise_floor


def _cells(similarity: Similarity) -> dict[str, Any]:
    signed = similarity.kind == "cosine"
    bar = {
        "title": {"text": similarity_name(similarity), "side": "top"},
        "thickness": 10,
        "outlinewidth": 0,
        "x": 1.01,
        "nticks": 6,
    }
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


def _axis(model: str, layers: Sequence[int], **extra: Any) -> dict[str, Any]:
    # Every layer has a cell; where there are many, some go without a number.
    step = tick_step(len(layers))
    text = f"layer of {model}" if model else "layer"
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
