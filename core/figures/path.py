"""The frames of a layer on its principal axes, coloured by time."""

from typing import Any

import numpy as np

from core.analysis.views import PathView
from core.figures.plotly_json import GRID, INK, VIRIDIS, Figure, axis, base_layout, configuration, packed

HEIGHT = 480
"""Pixels."""


def path_figure(layer: PathView, name: str, three_d: bool = False) -> Figure:
    """Draw the path of the frames in two or three dimensions.

    Args:
        layer: The layer to show.
        name: File name, without suffix, of a picture that the reader saves.
        three_d: Whether to draw the third axis; needs WebGL in the browser.
    """
    trace = _points(layer, three_d)
    layout = _layout_3d(layer) if three_d else _layout_2d(layer)
    return {"data": [trace], "layout": layout, "config": configuration(name)}


def path_title(layer: PathView) -> str:
    """Say how many frames are drawn and, where the axes were fitted on fewer than all, on how many."""
    path = layer.path
    shown = f"{path.n_frames:,} frames"
    if len(path.frames) < path.n_frames:
        shown = f"showing {len(path.frames):,} of {path.n_frames:,} frames"
    fitted = f", axes fitted on {path.n_fitted:,}" if path.n_fitted < path.n_frames else ""
    return f"PCA of layer {layer.layer}, {shown}{fitted}"


def axis_titles(layer: PathView) -> list[str]:
    """Name each axis with the share of variance that it explains: ``PC 1 (31.4 % of variance)``."""
    return [f"PC {i} ({share:.1%} of variance)".replace("%", " %") for i, share in enumerate(layer.path.explained, 1)]


def _points(layer: PathView, three_d: bool) -> dict[str, Any]:
    points, times = layer.path.points, layer.centres
    marker = {
        "size": 3 if three_d else 6,
        "color": packed(times),
        "colorscale": VIRIDIS,
        "colorbar": {"title": {"text": "s", "side": "top"}, "thickness": 10, "outlinewidth": 0, "x": 1.01, "nticks": 6},
    }
    places = {letter: packed(points[:, i]) for i, letter in enumerate("xyz" if three_d else "xy")}
    return {
        "type": "scatter3d" if three_d else "scatter",
        # A line between frames that are not neighbours would draw a way that the sound did not take.
        "mode": "lines+markers" if len(times) == layer.path.n_frames else "markers",
        **places,
        "customdata": packed(np.column_stack([times, layer.path.frames]).astype(np.float64)),
        "line": {"color": INK if three_d else "rgba(117,127,140,0.35)", "width": 1},
        "marker": marker,
        "hovertemplate": "%{customdata[0]:.3f} s (frame %{customdata[1]:.0f})<extra></extra>",
    }


def _layout_2d(layer: PathView) -> dict[str, Any]:
    x, y, _ = axis_titles(layer)
    return base_layout(
        height=HEIGHT,
        margin={"l": 58, "r": 12, "t": 40, "b": 52},
        title=_title(layer),
        hovermode="closest",
        dragmode="pan",
        xaxis=axis(title={"text": x, "standoff": 6}, constrain="domain"),
        # Distances mean something here, so one unit is as long on both axes.
        yaxis=axis(title={"text": y}, scaleanchor="x", constrain="domain"),
    )


def _layout_3d(layer: PathView) -> dict[str, Any]:
    # Long titles do not fit along a cube's edges.
    titled = zip("xyz", (title.removesuffix(" of variance)") + ")" for title in axis_titles(layer)), strict=True)
    quiet = {"color": INK, "gridcolor": GRID, "zeroline": False, "showbackground": False, "showspikes": False}
    scene = {f"{letter}axis": {"title": {"text": title, "font": {"size": 11}}, **quiet} for letter, title in titled}
    margin, camera = {"l": 0, "r": 12, "t": 40, "b": 0}, {"eye": {"x": 1.65, "y": 1.65, "z": 1.0}}
    return base_layout(
        height=HEIGHT, margin=margin, title=_title(layer), scene={**scene, "aspectmode": "data", "camera": camera}
    )


def _title(layer: PathView) -> dict[str, Any]:
    return {"text": path_title(layer), "font": {"size": 13}, "x": 0.01, "xanchor": "left", "y": 0.98, "yanchor": "top"}
