"""Points on principal axes and t-SNE maps, on paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.figures.sheets.sheet import (
    COLOURS,
    DOUBLE,
    FAINT,
    MARKERS,
    MM,
    add_legend,
    chosen_layers,
    listed,
    new_figure,
    short,
)
from core.figures.sheets.subject import Subject
from core.findings import LayerProjection, ModelFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 8
"""Classes with a colour of their own; more are not told apart."""

LABELS = ("phone", "speaker", "label")
"""Labels to colour points by, best first; then come recordings, then time, or the points' order without times."""

LEGEND_COLUMNS = 5


def pca_visualization(subject: Subject) -> "Figure":
    """Draw the points of chosen layers on their two first principal axes."""
    layers = chosen_layers(subject.found.layers)
    fitted = subject.found.projections[0].n_fitted
    caption = f"axes fitted on {fitted:,}. Noise: the share an axis has with independent dims of the same variances."
    return _scatter(subject, layers, "PCA", caption, _pca_panel)


def tsne_visualization(subject: Subject) -> "Figure":
    """Draw the points of chosen layers on their t-SNE map."""
    layers = chosen_layers(with_tsne(subject.found))
    caption = "distances between far points and sizes of clusters mean little in such a map."
    return _scatter(subject, layers, "t-SNE", caption, _tsne_panel)


def _pca_panel(axes: "Axes", layer: LayerProjection) -> np.ndarray:
    texts = [
        f"PC {axis}: {100 * share:.1f} % (noise {100 * floor:.1f} %)"
        for axis, (share, floor) in enumerate(zip(layer.explained[:2], layer.noise_floor[:2], strict=True), 1)
    ]
    axes.set_xlabel(texts[0] if texts else "PC 1")
    axes.set_ylabel(texts[1] if len(texts) > 1 else "PC 2: none")
    return layer.pca[:, :2]


def _tsne_panel(axes: "Axes", layer: LayerProjection) -> np.ndarray:
    import textwrap

    assert layer.tsne is not None  # only such layers are chosen
    axes.set_xlabel("\n".join(textwrap.wrap(layer.tsne_note, 44)), size=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=FAINT)
    return layer.tsne


def _scatter(
    subject: Subject,
    layers: Sequence[int],
    kind: str,
    remark: str,
    prepare: Callable[["Axes", LayerProjection], np.ndarray],
) -> "Figure":
    """Draw one panel a layer, all with the same colours, and one legend below."""
    found = subject.found
    projections = [found.projections[found.layers.index(layer)] for layer in layers]
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    which = "all layers" if len(layers) == len(found.layers) else f"layers {listed(layers)} of {len(found.layers)}"
    colouring = colour_points(found)
    of = "" if len(found.table) == found.n_rows else f" (a sample of {found.n_rows:,})"
    caption = f"{subject.counted(len(found.table))}{of}, {which}; {remark} Colour: {colouring.name}."
    height = rows * (54 if columns > 1 else 80) * MM
    lines = -(-len(colouring.classes) // LEGEND_COLUMNS)
    figure = new_figure(DOUBLE, height, f"{kind}: {subject.title}", caption, lines)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(layers) :]:
        axes.remove()
    for axes, layer in zip(panels.flat, projections, strict=False):
        places = prepare(axes, layer)
        axes.set_title(f"Layer {layer.index}", loc="left")
        draw_points(axes, places, colouring)
    _legend(figure, panels.flat[0], colouring)
    return figure


@dataclass(frozen=True)
class Colouring:
    """What colours points.

    Attributes:
        name: What it shows, for the caption.
        classes: Name of each class and which points are in it, most frequent first; the rest last. Empty for a scale.
        scale: (n,) seconds, or places in the order of the points, where they colour; else None.
        unit: What ``scale`` counts.
    """

    name: str
    classes: tuple[tuple[str, np.ndarray], ...]
    scale: np.ndarray | None = None
    unit: str = ""


def colour_points(found: ModelFindings) -> Colouring:
    """Choose the best label there is: phone, speaker, label, recording; time or order where none has two classes."""
    table = found.table
    kinds = {kind: np.asarray(table.labels[kind]) for kind in LABELS if kind in table.labels}
    kinds["recording"] = np.array(table.recordings)[table.recording]
    for kind, values in kinds.items():
        names, counts = np.unique(values[values != ""], return_counts=True)
        if len(names) > 1:
            return Colouring(*classes_of(kind, values, names[np.argsort(-counts, kind="stable")]))
    if np.isfinite(table.start).all():
        return Colouring("time in the recording", (), table.start, "Seconds")
    return Colouring("order, since the features tell no times", (), np.arange(len(table)), "Point")


def classes_of(kind: str, values: np.ndarray, names: np.ndarray) -> tuple[str, tuple[tuple[str, np.ndarray], ...]]:
    """Tell apart the first of ``names``; returns what is shown, and which points each class has."""
    shown = names[:MOST_CLASSES]
    classes = [(str(name), values == name) for name in shown]
    rest, unknown = ~np.isin(values, shown) & (values != ""), values == ""
    if rest.any():
        classes.append((f"{len(names) - len(shown)} others", rest))
    if unknown.any():
        classes.append((f"no {kind}", unknown))
    text = f"{kind}, the {len(shown)} most frequent of {len(names)}" if rest.any() else f"{kind} ({len(names)})"
    return text, tuple(classes)


def draw_points(axes: "Axes", places: np.ndarray, colouring: Colouring) -> None:
    """Draw the points, as pixels even in SVG: thousands of vector marks would make it slow to open."""
    size = float(np.clip(2_500 / max(1, len(places)), 1.5, 14))
    shared: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    x, y = places.T
    if colouring.scale is not None:
        axes.scatter(x, y, c=colouring.scale, cmap="cividis", **shared)
    # The rest is drawn first, below what has a name.
    for place, (_, chosen) in reversed(list(enumerate(colouring.classes))):
        colour, marker = _class_look(place)
        axes.scatter(x[chosen], y[chosen], color=colour, marker=marker, alpha=0.75, **shared)
    axes.set_aspect("equal", adjustable="datalim")


def _class_look(place: int) -> tuple[str, str]:
    return (COLOURS[place], MARKERS[place]) if place < MOST_CLASSES else ("#b9bec6", ".")


def point_looks(colouring: Colouring) -> list[dict[str, Any]]:
    """Return how a legend shows each class."""
    looks = [_class_look(place) for place in range(len(colouring.classes))]
    return [{"color": colour, "marker": marker, "linestyle": "none"} for colour, marker in looks]


def _legend(figure: "Figure", axes: "Axes", colouring: Colouring) -> None:
    if colouring.scale is not None:
        bar = figure.colorbar(axes.collections[0], ax=figure.axes, location="bottom", shrink=0.4, aspect=40)
        bar.set_label(colouring.unit)
        bar.outline.set_visible(False)
        return
    add_legend(figure, point_looks(colouring), [short(name, 24) for name, _ in colouring.classes], LEGEND_COLUMNS)


def with_tsne(found: ModelFindings) -> list[int]:
    """Return the layers that have a t-SNE map."""
    return [layer.index for layer in found.projections if layer.tsne is not None]
