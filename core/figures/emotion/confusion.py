"""What is taken for what: each class's clips by what was said of them."""

from typing import Any

import numpy as np

from core.figures.emotion.style import class_name, estimated, finished, sizes
from core.figures.layers.style import layout, per_cent, title
from core.figures.plotly_json import INK, Figure, axis, packed
from core.scoring import Evaluation

BLUES = [[0.0, "rgba(27,135,201,0.02)"], [1.0, "rgba(27,135,201,0.62)"]]
"""From nothing to a blue that lets the page through: its own ink is read on it, light or dark."""

CELL = 46
"""Pixels of a cell's height."""

MANY_CLASSES = 8
"""More classes than this have smaller numbers in their cells."""


def confusion_figure(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix, rows the truth: colour is the share of the row, numbers are clips.

    Cells on the diagonal, outlined, say their share as well, which is the class's recall.
    """
    shares, n = row_shares(evaluation.confusion), len(evaluation.labels)
    counts = evaluation.confusion.sum(axis=1)
    places = list(range(n))
    cells = {
        "type": "heatmap",
        "z": packed(shares),
        "zmin": 0,
        "zmax": 1,
        "colorscale": BLUES,
        "xgap": 1,
        "ygap": 1,
        "text": _texts(evaluation, shares),
        "texttemplate": "%{text}",
        "textfont": {"size": 12 if n <= MANY_CLASSES else 10},
        "hovertext": _hovers(evaluation, shares),
        "hovertemplate": "%{hovertext}<extra></extra>",
        # Cells say their numbers, and on a phone a scale would take a tenth of the width.
        "showscale": False,
    }
    names = [class_name(name, 16) for name in evaluation.labels]
    rows = [f"{name} ({count:,})" for name, count in zip(names, counts.tolist(), strict=True)]
    shared: dict[str, Any] = {"tickvals": places, "showgrid": False, "automargin": True, "constrain": "domain"}
    drawn = layout(
        height=210 + CELL * max(4, n),
        margin={"l": 14, "r": 12, "t": 84, "b": 60},
        title=title("What is taken for what", f"UAR {estimated(evaluation.uar)}, {sizes(evaluation)}"),
        xaxis=axis(title={"text": "said", "standoff": 6}, ticktext=names, range=[-0.5, n - 0.5], **shared),
        yaxis=axis(title={"text": "true (clips)", "standoff": 6}, ticktext=rows, range=[n - 0.5, -0.5], **shared),
        shapes=[_outline(place) for place in places],
        showlegend=False,
    )
    return finished([cells], drawn, "confusion")


def confusion_caption(evaluation: Evaluation) -> str:
    """Say how to read it, and which mistake is the most frequent one."""
    worst = _worst(evaluation)
    return (
        f"Rows are the truth, columns what was said. Colour: share of the row; numbers: clips, {sizes(evaluation)}; on "
        f"the outlined diagonal the share that is right, the recall.{worst} What a head would rather not say is "
        "counted here as well."
    )


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Divide each row by its clips; a class without clips has NaN.

    >>> row_shares(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [nan, nan]]
    """
    counts = confusion.sum(axis=1, keepdims=True).astype(np.float64)
    return np.divide(confusion, counts, out=np.full(confusion.shape, np.nan), where=counts > 0)


def _worst(evaluation: Evaluation) -> str:
    mistakes = np.nan_to_num(row_shares(evaluation.confusion))
    np.fill_diagonal(mistakes, 0)
    if not mistakes.any():
        return ""
    row, column = np.unravel_index(int(mistakes.argmax()), mistakes.shape)
    true, said = evaluation.labels[row], evaluation.labels[column]
    clips, of = evaluation.confusion[row, column], evaluation.confusion[row].sum()
    return f" Most often mistaken: {true} for {said}, {clips:,} of {of:,}."


def _texts(evaluation: Evaluation, shares: np.ndarray) -> list[list[str]]:
    return [
        [_text(count, shares[row, column], row == column) for column, count in enumerate(counts)]
        for row, counts in enumerate(evaluation.confusion.tolist())
    ]


def _text(count: int, share: float, right: bool) -> str:
    if right and np.isfinite(share):
        return f"<b>{100 * share:.0f}%</b><br>{count:,}"
    return f"{count:,}" if count else ""


def _hovers(evaluation: Evaluation, shares: np.ndarray) -> list[list[str]]:
    names = [class_name(name, 60) for name in evaluation.labels]
    counts = evaluation.confusion
    return [
        [
            f"{names[row]} taken for {names[column]}<br>{counts[row, column]:,} of {counts[row].sum():,} clips"
            + (f", {per_cent(shares[row, column])}" if np.isfinite(shares[row, column]) else "")
            for column in range(len(names))
        ]
        for row in range(len(names))
    ]


def _outline(place: int) -> dict[str, Any]:
    ends = {"x0": place - 0.5, "x1": place + 0.5, "y0": place - 0.5, "y1": place + 0.5}
    return {"type": "rect", **ends, "line": {"color": INK, "width": 1.5}, "fillcolor": "rgba(0,0,0,0)"}
