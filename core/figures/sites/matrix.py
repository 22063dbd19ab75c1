"""How alike sites are, as a matrix in hierarchical order, and the same before training on the same scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.figures.layers.style import counted, display_name, figure_config, layout, number, plain, shortened, title
from core.figures.plotly_json import DIVERGING, Figure, axis, packed
from core.figures.sites.findings import SiteFindings, upper_pairs

MOST_NAMES = 22
"""Names along an axis at most: on a phone more would stand on top of each other. The pointer tells all."""

NAME_LENGTH = 12
HEIGHT = 440
CAPTION = (
    "Each cell is the cosine of two sites' embeddings: 1 (orange) for the same direction, 0 (white) for unrelated "
    "ones, −1 (blue) for opposite ones. Sites stand in the order of a hierarchical clustering, so that alike ones form "
    "blocks along the diagonal. Before training the embeddings are random: what is not above that picture was not "
    "learned."
)


def similarity_figure(found: SiteFindings) -> Figure:
    """Draw what was learned, in hierarchical order."""
    heading = display_name(found.model)
    return matrix_figure(found.names, found.similarity, found.order, (heading, _size(found.similarity)))


def untrained_figure(found: SiteFindings) -> Figure:
    """Draw the same before training, in the same order and colours."""
    return matrix_figure(found.names, found.untrained, found.order, ("Before training", _size(found.untrained)))


def live_figure(names: Sequence[str], matrix: np.ndarray, step: int, order: np.ndarray | None = None) -> Figure:
    """Draw the matrix of a training at a step.

    Args:
        names: Of the sites.
        matrix: (sites, sites) cosine.
        step: Of the training.
        order: Places of the sites. None keeps them as they are, so that they stand still while the model learns.
    """
    return matrix_figure(names, matrix, order, (f"Sites after step {step:,}", _size(matrix)))


def matrix_figure(
    names: Sequence[str], matrix: np.ndarray, order: np.ndarray | None, heading: tuple[str, str]
) -> Figure:
    """Draw a matrix of sites.

    Args:
        names: Of the sites.
        matrix: (sites, sites), -1 to 1.
        order: Places of the sites, first at the top left; None leaves them as they are.
        heading: Title, and the quieter line below it.
    """
    places = np.arange(len(names)) if order is None else np.asarray(order)
    labels = [plain(names[place]) for place in places.tolist()]
    cells: dict[str, Any] = {
        "type": "heatmap",
        "z": packed(np.asarray(matrix, dtype=np.float64)[np.ix_(places, places)]),
        "x": labels,
        "y": labels,
        "zmin": -1,
        "zmax": 1,
        "colorscale": DIVERGING,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "x": 1.01, "nticks": 5, "title": {"text": "cosine"}},
        "hovertemplate": "%{y} × %{x}<br><b>%{z:.2f}</b><extra></extra>",
    }
    drawn = layout(
        height=HEIGHT,
        margin={"l": 66, "r": 12, "t": 84, "b": 66},
        title=title(plain(heading[0]), heading[1]),
        xaxis=_names_axis(labels, constrain="domain", tickangle=-90),
        yaxis=_names_axis(labels, constrain="domain", scaleanchor="x", autorange="reversed"),
        showlegend=False,
    )
    return {"data": [cells], "layout": drawn, "config": figure_config("site_similarity")}


def named_places(n: int, most: int = MOST_NAMES) -> list[int]:
    """Choose the places along an axis that get a name: every k-th.

    >>> named_places(8), len(named_places(64)), len(named_places(306))
    ([0, 1, 2, 3, 4, 5, 6, 7], 22, 22)
    """
    return list(range(0, n, -(-n // most) or 1))


def _names_axis(labels: Sequence[str], **extra: Any) -> dict[str, Any]:
    shown = named_places(len(labels))
    texts = [shortened(labels[place], NAME_LENGTH) for place in shown]
    # Sites may be called "1", "2": without its type, plotly.js would take such an axis for one of numbers.
    names = {"type": "category", "tickmode": "array", "tickvals": shown, "ticktext": texts}
    return axis(**names, tickfont={"size": 10}, showgrid=False, **extra)


def _size(matrix: np.ndarray) -> str:
    values = np.abs(upper_pairs(matrix))
    if not len(values):
        return counted(len(matrix), "site")
    return f"{counted(len(matrix), 'site')}; mean |cosine| {number(float(values.mean()))} over pairs"
