"""Where sites sit, coloured by their similarity to a chosen one: flat from above, and in space."""

from typing import Any

import numpy as np

from core.figures.layers.style import counted, figure_config, layout, plain, title
from core.figures.meg.recording import directions
from core.figures.plotly_json import DIVERGING, GRID, INK, Figure, axis, packed
from core.figures.sites.findings import SiteFindings

SPREAD = 0.28
"""Of the usual gap between places: how far sensors at one place are drawn from it, so that each can be seen."""

NAMED_SITES = 40
"""Sites up to which each has its name beside it."""

CAPTION = (
    "Colour is the cosine of each site's embedding with that of the ringed site. Where the model learned geometry, the "
    "colour fades with distance from the ring. Sensors that share a place stand around it."
)
CLICK = "Click a site to compare all others with it."


def spread_places(flat: np.ndarray) -> np.ndarray:
    """Move sensors that share a place onto a small circle around it.

    Args:
        flat: (sites, 2); NaN where unknown.

    Returns:
        (sites, 2); sites alone at their place stay.
    """
    spread = np.array(flat, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(spread).all(axis=1))
    if len(known) < 2:
        return spread
    size = float(np.ptp(spread[known], axis=0).max()) or 1.0
    _, groups = np.unique(np.round(spread[known] / size * 100), axis=0, return_inverse=True)
    groups = groups.ravel()
    n_places = int(groups.max()) + 1
    # So many places of a square of this size are about so far apart.
    radius = SPREAD * size / max(1.0, np.sqrt(n_places))
    for group in range(n_places):
        own = known[groups == group]
        if len(own) > 1:
            angles = np.pi / 2 + 2 * np.pi * np.arange(len(own)) / len(own)
            spread[own] += radius * np.column_stack([np.cos(angles), np.sin(angles)])
    return spread


def topomap_figure(found: SiteFindings, chosen: int) -> Figure | None:
    """Draw sites from above with the nose up, coloured by similarity to one.

    Args:
        found: The analysis.
        chosen: Place of the site in ``found.names``. Each point carries its own in ``customdata``, for clicks.

    Returns:
        None where no flat position is known.
    """
    known = np.flatnonzero(np.isfinite(found.flat).all(axis=1))
    if not len(known):
        return None
    places = spread_places(found.flat)[known]
    middle, reach = (places.max(axis=0) + places.min(axis=0)) / 2, 0.63 * float(np.ptp(places, axis=0).max() or 1.0)
    hidden = {"visible": False, "showgrid": False, "constrain": "domain"}
    drawn = layout(
        height=460,
        margin={"l": 14, "r": 14, "t": 84, "b": 30},
        title=_title(found, chosen, known),
        xaxis=axis(**hidden, range=[middle[0] - reach, middle[0] + reach]),
        yaxis=axis(**hidden, range=[middle[1] - reach, middle[1] + reach], scaleanchor="x"),
        annotations=directions(),
        showlegend=False,
    )
    coordinates = {"x": packed(places[:, 0]), "y": packed(places[:, 1])}
    trace = {"type": "scatter", **coordinates, **_markers(found, chosen, known, _dot_size(len(known)))}
    return {"data": [trace, *_ring(places, known, chosen)], "layout": drawn, "config": figure_config("site_map")}


def space_figure(found: SiteFindings, chosen: int) -> Figure | None:
    """Draw sites in space, coloured likewise; None where no position is known."""
    known = np.flatnonzero(np.isfinite(found.positions).all(axis=1))
    if not len(known):
        return None
    places = 1_000 * np.asarray(found.positions, dtype=np.float64)[known]
    names = ("right, mm", "front, mm", "up, mm")
    axes = {letter: {**_scene_axis(name)} for letter, name in zip(("xaxis", "yaxis", "zaxis"), names, strict=True)}
    eye = {"eye": {"x": -1.0, "y": -1.0, "z": 0.8}}
    drawn = layout(
        height=460,
        margin={"l": 0, "r": 0, "t": 84, "b": 10},
        title=_title(found, chosen, known),
        scene={**axes, "aspectmode": "data", "camera": eye},
        showlegend=False,
    )
    x, y, z = (packed(column) for column in places.T)
    marked = _markers(found, chosen, known, 8.0)
    marked["marker"] |= {"size": np.where(known == chosen, 16, 8).tolist(), "line": {"width": 0}}
    marked["mode"] = "markers"
    trace = {"type": "scatter3d", "x": x, "y": y, "z": z, **marked}
    return {"data": [trace], "layout": drawn, "config": figure_config("site_space")}


def _title(found: SiteFindings, chosen: int, known: np.ndarray) -> dict[str, Any]:
    missing = len(found.names) - len(known)
    left_out = f"; {counted(missing, 'site')} without a position" if missing else ""
    return title(f"Similarity to {plain(found.names[chosen])}", f"{counted(len(known), 'site')}{left_out}")


def _dot_size(n: int) -> float:
    return float(np.clip(190 / np.sqrt(max(1, n)), 7, 24))


def _markers(found: SiteFindings, chosen: int, known: np.ndarray, size: float) -> dict[str, Any]:
    values = np.asarray(found.similarity, dtype=np.float64)[chosen][known]
    names = [plain(found.names[site]) for site in known]
    bar = {"thickness": 10, "outlinewidth": 0, "x": 1.0, "nticks": 5, "len": 0.7, "title": {"text": "cosine"}}
    scale = {"color": packed(values), "colorscale": DIVERGING, "cmin": -1, "cmax": 1, "colorbar": bar}
    few = len(known) <= NAMED_SITES
    return {
        "mode": "markers+text" if few else "markers",
        "text": names,
        "textposition": "top center",
        "textfont": {"size": 9, "color": INK},
        "customdata": known.tolist(),
        "marker": {**scale, "size": size, "line": {"width": 0.6, "color": INK}},
        "hovertemplate": "%{text}: <b>%{marker.color:.2f}</b><extra></extra>",
    }


def _ring(places: np.ndarray, known: np.ndarray, chosen: int) -> list[dict[str, Any]]:
    at = places[known == chosen]
    marker = {"symbol": "circle-open", "size": 1.6 * _dot_size(len(known)), "color": "#aa3377", "line": {"width": 3}}
    shared = {"type": "scatter", "mode": "markers", "hoverinfo": "skip", "marker": marker}
    return [{**shared, "x": packed(at[:, 0]), "y": packed(at[:, 1])}]


def _scene_axis(name: str) -> dict[str, Any]:
    return {
        "title": {"text": name, "font": {"size": 11}},
        "tickfont": {"size": 9},
        "nticks": 4,
        "color": INK,
        "gridcolor": GRID,
        "zeroline": False,
        "showbackground": False,
        "showspikes": False,
    }
