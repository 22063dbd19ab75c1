"""Clips as points on paper: a row a map, coloured by emotion on the left and by speaker on the right."""

from typing import TYPE_CHECKING

import numpy as np

from core.figures.emotion.maps import COLOURINGS, neighbour_sentence
from core.figures.layers.style import sentence
from core.figures.sheets.points import MOST_CLASSES, Colouring, classes_of, draw_points, point_looks
from core.figures.sheets.sheet import DOUBLE, MM, new_figure, short
from core.scoring import EmbeddingMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def map_sheet(found: EmbeddingMap) -> "Figure":
    """Draw all maps, each in both colours."""
    names = list(found.maps)
    notes = " ".join(sentence(f"{name}: {note}") for name, note in found.notes.items() if note)
    caption = f"n = {len(found.clips):,} clips of {len(np.unique(found.speakers)):,} speakers. {notes} "
    figure = new_figure(
        DOUBLE, len(names) * 62 * MM, "Clips by emotion and by speaker", caption + neighbour_sentence(found)
    )
    panels = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(panels, names, strict=True):
        for axes, kind in zip(row, COLOURINGS, strict=True):
            labels = found.labels if kind == "emotion" else found.speakers
            _panel(axes, found.maps[name], colouring(kind, labels))
            axes.set_title(f"{name}, by {kind}", loc="left")
    return figure


def colouring(kind: str, labels: np.ndarray) -> Colouring:
    """Give the most frequent names a colour each."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    order = names if len(names) <= MOST_CLASSES else names[np.argsort(-counts, kind="stable")]
    return Colouring(*classes_of(kind, labels.astype(str), order))


def _panel(axes: "Axes", places: np.ndarray, colours: Colouring) -> None:
    from matplotlib.lines import Line2D

    draw_points(axes, places, colours)
    axes.set_xticks([])
    axes.set_yticks([])
    handles = [Line2D([], [], **look) for look in point_looks(colours)]
    texts = [short(name, 20) for name, _ in colours.classes]
    axes.legend(handles, texts, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1, borderpad=0)
