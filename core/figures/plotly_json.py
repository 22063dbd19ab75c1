"""Plotly figures as plain dictionaries, arrays packed in base64, without importing plotly.

The format is plotly.js's own (``{"data", "layout", "config"}``; typed arrays since 2.35 as
``{"dtype", "bdata", "shape"}``). Backgrounds are transparent and texts take the page's colour from its stylesheet, so
that one figure serves the light and the dark page.
"""

import base64
import json
from typing import Any

import numpy as np

Figure = dict[str, Any]

INK = "#757f8c"
"""A grey that reads on white and on near-black: for what the stylesheet cannot reach (WebGL, colour bars)."""

GRID = "rgba(128, 136, 150, 0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

VIRIDIS = [
    [0.0, "#440154"],
    [0.15, "#46307e"],
    [0.3, "#365c8d"],
    [0.45, "#277f8e"],
    [0.6, "#1fa187"],
    [0.75, "#4ac16d"],
    [0.9, "#a0da39"],
    [1.0, "#c5e021"],
]
"""Viridis without its palest yellow, which vanishes on white; safe for colour-blind readers. Time has this one."""

DIVERGING = [
    [0.0, "#0b3c5d"],
    [0.17, "#2a72a8"],
    [0.34, "#8fbcdb"],
    [0.5, "#f3f2ee"],
    [0.66, "#ecb580"],
    [0.83, "#c2641a"],
    [1.0, "#6e2a00"],
]
"""Blue below, orange above, near-white at zero; blue and orange stay apart for colour-blind readers."""


def packed(array: np.ndarray) -> dict[str, Any]:
    """Pack an array for plotly.js: float32 at most, since nobody sees more; whole numbers as int32.

    >>> packed(np.array([0.5, 1.5]))
    {'dtype': 'f4', 'bdata': 'AAAAPwAAwD8='}
    """
    narrow = np.ascontiguousarray(array, dtype="<f4" if array.dtype.kind == "f" else "<i4")
    spec = {"dtype": narrow.dtype.str[1:], "bdata": base64.b64encode(narrow.tobytes()).decode("ascii")}
    return spec if narrow.ndim == 1 else {**spec, "shape": ", ".join(map(str, narrow.shape))}


def base_layout(**extra: Any) -> dict[str, Any]:
    """Return the layout that all figures share, with ``extra`` on top."""
    shared = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "showlegend": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": "#0f766e"},
    }
    return {**shared, **extra}


def axis(**extra: Any) -> dict[str, Any]:
    """Return an axis with the house's quiet lines, with ``extra`` on top."""
    return {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "ticks": "", **extra}


def configuration(name: str) -> dict[str, Any]:
    """Return the mode bar's settings: few buttons, and a picture saved as ``name``."""
    return {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        "toImageButtonOptions": {"format": "svg", "filename": name},
    }


def to_json(figure: Figure) -> str:
    """Return the figure as JSON; a value that is not finite is a bug, since JSON knows none."""
    return json.dumps(figure, allow_nan=False, separators=(",", ":"))
