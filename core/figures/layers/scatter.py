"""Rows on few axes, with a slider through the layers that needs no server: all layers are in the figure once.

A step of the slider hands plotly.js's ``update`` the coordinates of another layer; colours, rows and texts stay. Two
things make points move instead of jump: axes that hold for all layers, and one unit a layer (the standard deviation of
its first principal axis), since some layers are a hundred times as large as others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from core.errors import DataError, InputError
from core.figures.layers.colouring import Colouring, by_class, colour_menu, legend_keys, scale_of
from core.figures.layers.style import (
    counted,
    figure_config,
    layout,
    legend_name,
    per_cent,
    plain,
    shortened,
    shown_of,
    slider,
    title,
)
from core.figures.names import file_label
from core.figures.plotly_json import INK, Figure, axis, packed
from core.findings import LayerProjection, ModelFindings, RowTable

HEIGHT = 620
"""Pixels."""

MANY_POINTS = 2_000
"""More points than this are drawn by WebGL."""

INSIDE = 0.998
"""Share of a layer's points that the axes hold at least; a few far ones would squeeze all others into a spot."""

SCENE_GRID = "#9aa3b0"

NOTE_WIDTH = 48
"""Characters in a line below a picture: what a phone holds."""

FAR = 1.6
"""Axes hold all points where the farthest is within this factor of what holds :data:`INSIDE` of them."""


@dataclass(frozen=True)
class Places:
    """What a figure shows: ``values`` (n_layers, n, k), axis titles of each layer, and a remark on each."""

    layers: tuple[int, ...]
    values: np.ndarray
    titles: list[list[str]]
    remarks: list[str]
    table: RowTable


def pca_figure(
    model: ModelFindings,
    three_d: bool = False,
    colour: str | None = None,
    layer: int | None = None,
    span: str = "frame",
) -> Figure:
    """Draw the rows on their principal axes, in the plane or in space.

    Args:
        model: Whose rows.
        three_d: Whether to draw the third axis; needs WebGL in the browser.
        colour: One of :func:`colourings`, None for the first; the reader changes it in the figure.
        layer: Layer to begin with; None for the first.
        span: What a row is.
    """
    figure = _figure(_pca_places(model, 3 if three_d else 2), model, colour, layer, span, "PCA")
    figure["config"] = figure_config(f"pca_visualization_{file_label(model.model)}", selectable=not three_d)
    return figure


def tsne_figure(
    model: ModelFindings, colour: str | None = None, layer: int | None = None, span: str = "frame"
) -> Figure:
    """Draw the rows' t-SNE; layers without one are left out.

    Raises:
        DataError: If no layer has one; :func:`tsne_layers` tells before.
    """
    figure = _figure(_tsne_places(model), model, colour, layer, span, "t-SNE")
    figure["config"] = figure_config(f"tsne_visualization_{file_label(model.model)}", selectable=True)
    return figure


def tsne_layers(model: ModelFindings) -> list[int]:
    """Return the layers that have a t-SNE."""
    return [layer.index for layer in model.projections if layer.tsne is not None]


def pca_caption(model: ModelFindings, span: str = "frame") -> str:
    """Say what the axes are, how they are scaled, and what is not to be read from the picture."""
    places = _pca_places(model, 2)
    outside = int((np.abs(places.values) > _limits(places.values)).any(axis=2).sum(axis=1).max())
    fitted = max(layer.n_fitted for layer in model.projections)
    counts = (counted(fitted, span), _shown(model, span))
    hidden = f" Up to {outside:,} points a layer lie outside: zoom out to see them." if outside else ""
    return (
        f"Each point is a {span}; axes fitted on {'; '.join(dict.fromkeys(counts))}. One unit is the "
        "standard deviation along PC 1 of the layer, on all axes; signs are chosen so that layers agree. An axis whose "
        f"share is near its noise floor shows no structure.{hidden} Points that lie apart here lie apart in the layer; "
        f"points that lie together here need not.{_untimed(model.table)}"
    )


def tsne_caption(model: ModelFindings, span: str = "frame") -> str:
    """Say what t-SNE shows and what it does not."""
    return (
        f"Each point is a {span}, {_shown(model, span)}. t-SNE keeps neighbours together; distances between groups, "
        "their sizes and the axes mean nothing, and it finds groups in noise as well: compare it with PCA and with the "
        f"controls. Layers are aligned with each other, so that points move instead of jump.{_untimed(model.table)}"
    )


def colourings(table: RowTable) -> list[str]:
    """Return what points can be coloured by: time, recording, and every kind of label that is known for some row.

    Features that came without a clock have an order instead of a time.
    """
    known = [name for name, labels in table.labels.items() if np.any(np.asarray(labels) != "")]
    return ["time" if has_times(table) else "order", *(["recording"] if len(table.recordings) > 1 else []), *known]


def has_times(table: RowTable) -> bool:
    """Whether every row has a time, which features without a clock do not have."""
    return bool(np.isfinite(table.start).all() and np.isfinite(table.stop).all())


def _untimed(table: RowTable) -> str:
    return "" if has_times(table) else " The features tell no times: points are coloured by their order instead."


def _figure(
    places: Places, model: ModelFindings, colour: str | None, layer: int | None, span: str, method: str
) -> Figure:
    table = places.table
    schemes = [_colouring(table, name) for name in colourings(table)]
    active = 0 if colour is None else _chosen(colour, [scheme.name for scheme in schemes], "colouring")
    first = _chosen(places.layers[0] if layer is None else layer, list(places.layers), "layer")
    main = _points(places, first, schemes[active])
    keys = [key for place, scheme in enumerate(schemes) for key in legend_keys(scheme, place == active, main["type"])]
    heading = title(f"{legend_name(model)}: {method}", _shown(model, span))
    remarks = [_remark(places.remarks[first])] if any(places.remarks) else []
    return {
        "data": [main, *keys],
        "layout": layout(
            height=HEIGHT,
            margin={"l": 58, "r": 12, "t": 166, "b": 96},
            title=heading,
            dragmode="turntable" if main["type"] == "scatter3d" else "pan",
            annotations=remarks,
            sliders=[slider([str(number) for number in places.layers], _steps(places), first, "Layer ")],
            updatemenus=[colour_menu(schemes, active)],
            **_axes(places, first),
        ),
    }


def _chosen(value: Any, known: Sequence[Any], what: str) -> int:
    if value not in known:
        raise InputError(f"Got the {what} {value!r}; expected one of {', '.join(map(str, known))}.")
    return known.index(value)


def _shown(model: ModelFindings, span: str) -> str:
    return shown_of(len(model.table), max(model.table.n_total, len(model.table)), span)


def _pca_places(model: ModelFindings, n_axes: int) -> Places:
    layers = model.projections
    units = [max(float(layer.pca[:, 0].std()), np.finfo(np.float32).tiny) for layer in layers]
    values = np.stack([layer.pca[:, :n_axes] / unit for layer, unit in zip(layers, units, strict=True)])
    # Along the edges of a cube there is no room for both shares.
    titles = [[axis_title(layer, place, with_noise=n_axes == 2) for place in range(n_axes)] for layer in layers]
    remarks = [_floors(layer) if n_axes == 3 else "" for layer in layers]
    return Places(tuple(layer.index for layer in layers), values, titles, remarks, model.table)


def _floors(layer: LayerProjection) -> str:
    return f"noise: {', '.join(per_cent(share) for share in layer.noise_floor[:3])}"


def axis_title(layer: LayerProjection, place: int, with_noise: bool = True) -> str:
    """Name a principal axis with its share of variance and the share that noise would have.

    >>> shares, floors = np.array([0.314]), np.array([0.009])
    >>> axis_title(LayerProjection(0, np.zeros((1, 3)), shares, floors, 1), 0)
    'PC 1 (31.4 %; noise 0.9 %)'
    """
    if place >= len(layer.explained):
        return f"PC {place + 1} (does not exist)"
    known = with_noise and place < len(layer.noise_floor)
    noise = f"; noise {per_cent(layer.noise_floor[place])}" if known else ""
    return f"PC {place + 1} ({per_cent(layer.explained[place])}{noise})"


def _tsne_places(model: ModelFindings) -> Places:
    layers = [layer for layer in model.projections if layer.tsne is not None]
    if not layers:
        reason = model.projections[0].tsne_note if model.projections else "no layer was analysed"
        raise DataError(f"{model.model} has no t-SNE ({reason}); expected one layer at least.")
    values = np.stack([np.asarray(layer.tsne) for layer in layers])
    # The axes mean nothing, so that their titles are free to say how far the picture is to be believed.
    titles = [[_wrapped(layer.tsne_note), "t-SNE"] for layer in layers]
    return Places(tuple(layer.index for layer in layers), values, titles, [""] * len(layers), model.table)


def _wrapped(text: str) -> str:
    return "<br>".join(plain(line) for line in wrap(text, NOTE_WIDTH))


def _points(places: Places, first: int, scheme: Colouring) -> dict[str, Any]:
    n, n_axes = places.values.shape[1:]
    kind = "scatter3d" if n_axes == 3 else "scattergl" if n > MANY_POINTS else "scatter"
    return {
        "type": kind,
        "mode": "markers",
        **_coordinates(places.values[first], wrapped=False),
        "marker": {
            "size": 3 if n_axes == 3 else 5 if n > MANY_POINTS else 6,
            "opacity": 0.8,
            "line": {"width": 0},
            **scale_of(scheme),
            "colorbar": _bar(" s" if has_times(places.table) else ""),
        },
        "customdata": packed(_origin(places.table)),
        "hovertext": _texts(places.table),
        "hovertemplate": f"%{{hovertext}}<br>{_when(places.table)}<extra></extra>",
        "showlegend": False,
    }


def _when(table: RowTable) -> str:
    return "%{customdata[2]:.3f} to %{customdata[3]:.3f} s" if has_times(table) else "point %{customdata[0]:,d}"


def _coordinates(values: np.ndarray, wrapped: bool) -> dict[str, Any]:
    arrays = {letter: packed(values[:, place]) for letter, place in zip("xyz", range(values.shape[1]), strict=False)}
    return {letter: [array] for letter, array in arrays.items()} if wrapped else arrays


def _origin(table: RowTable) -> np.ndarray:
    """Return (n, 4): the row's number in the table, its recording's, and the seconds at which it begins and ends."""
    return np.column_stack([np.arange(len(table)), table.recording, table.start, table.stop]).astype(np.float64)


def _texts(table: RowTable) -> list[str]:
    names = [plain(shortened(name)) for name in table.recordings]
    known = [(kind, np.asarray(labels)) for kind, labels in table.labels.items() if np.any(np.asarray(labels) != "")]
    return [
        "<br>".join([names[recording], *_told(known, row)]) for row, recording in enumerate(table.recording.tolist())
    ]


def _told(known: Sequence[tuple[str, np.ndarray]], row: int) -> list[str]:
    return [f"{plain(kind)}: {plain(str(labels[row]))}" for kind, labels in known if labels[row] != ""]


def _steps(places: Places) -> list[list[Any]]:
    """Return the arguments of each step: coordinates of the points, axis titles, and the remark on the layer."""
    prefix = "scene." if places.values.shape[2] == 3 else ""
    steps = []
    for place, titles in enumerate(places.titles):
        texts = {f"{prefix}{letter}axis.title.text": text for letter, text in zip("xyz", titles, strict=False)}
        if any(places.remarks):
            texts["annotations[0].text"] = plain(places.remarks[place])
        steps.append([_coordinates(places.values[place], wrapped=True), texts, [0]])
    return steps


def _axes(places: Places, first: int) -> dict[str, Any]:
    limits, titles = _limits(places.values), places.titles[first]
    if len(titles) == 3:
        return {"scene": _scene(limits, titles)}
    meaningless = {} if titles[0].startswith("PC ") else {"showticklabels": False}
    x, y = ([-1.04 * limit, 1.04 * limit] for limit in limits)
    return {
        "xaxis": axis(title={"text": titles[0], "standoff": 6}, range=x, **meaningless),
        # One unit is as long on both axes; the longer one shows more than its range where there is room.
        "yaxis": axis(title={"text": titles[1]}, range=y, scaleanchor="x", **meaningless),
    }


def _scene(limits: np.ndarray, titles: Sequence[str]) -> dict[str, Any]:
    # WebGL takes a colour without its transparency.
    quiet = {"color": INK, "gridcolor": SCENE_GRID, "zeroline": False, "showbackground": False, "showspikes": False}
    scene: dict[str, Any] = {
        f"{letter}axis": {"title": {"text": text, "font": {"size": 11}}, "range": [-limit, limit], "nticks": 5, **quiet}
        for letter, text, limit in zip("xyz", titles, limits.tolist(), strict=True)
    }
    ratio = dict(zip("xyz", (limits / limits.max()).tolist(), strict=True))
    camera = {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.12}}
    return {**scene, "aspectmode": "manual", "aspectratio": ratio, "camera": camera}


def _limits(values: np.ndarray) -> np.ndarray:
    """Return (k,) the largest distance from zero that each axis shows, the same in all layers."""
    sizes = np.abs(values.astype(np.float64))
    most = np.quantile(sizes, INSIDE, axis=1, method="lower").max(axis=0)
    farthest = sizes.max(axis=(0, 1))
    return np.maximum(np.where(farthest <= FAR * most, farthest, FAR * most), np.finfo(np.float32).tiny)


def _remark(text: str) -> dict[str, Any]:
    place = {"x": 0.5, "xref": "paper", "xanchor": "center", "y": 0, "yref": "paper", "yanchor": "bottom"}
    return {**place, "text": plain(text), "showarrow": False, "font": {"size": 11, "color": INK}}


def _colouring(table: RowTable, name: str) -> Colouring:
    if name == "time":
        return Colouring(name, (table.start + table.stop) / 2)
    if name == "order":
        return Colouring(name, np.arange(len(table), dtype=np.float64))
    if name == "recording":
        return by_class(name, np.asarray(table.recordings, dtype=object)[table.recording])
    return by_class(name, np.asarray(table.labels[name]))


def _bar(suffix: str) -> dict[str, Any]:
    place = {"orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom"}
    size = {"len": 0.6, "thickness": 10, "outlinewidth": 0, "nticks": 5}
    return {**place, **size, "ticksuffix": suffix}
