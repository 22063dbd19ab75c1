"""Maps of the learned embeddings, coloured by what is known of the sites: side, region, place."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from core.analysis.site_recovery import hemispheres
from core.figures.layers.style import (
    CLASS_COLOURS,
    CLASS_SYMBOLS,
    OTHER_COLOUR,
    counted,
    figure_config,
    layout,
    plain,
    shortened,
    title,
)
from core.figures.plotly_json import GRID, INK, VIRIDIS, Figure, axis, packed
from core.figures.sites.findings import SiteFindings

KINDS = {"pca2": "principal axes", "pca3": "principal axes", "tsne2": "t-SNE"}
AXES = {"left to right": 0, "back to front": 1, "low to high": 2}
MOST_CLASSES = len(CLASS_COLOURS) * len(CLASS_SYMBOLS)
CAPTION = (
    "Each point is a site; close points have embeddings of alike direction. The map knows nothing of where sites sit: "
    "colours that come out ordered show what was learned. In t-SNE distances between far points mean little."
)


def colourings(found: SiteFindings) -> tuple[str, ...]:
    """Name what can colour the maps of these sites, best first; ``none`` where nothing is known."""
    known: list[str] = []
    if len(set(hemispheres(np.asarray(found.positions))) - {""}) > 1:
        known.append("hemisphere")
    if len(set(found.regions) - {""}) > 1:
        known.append("region")
    if np.isfinite(found.positions).any():
        known += list(AXES)
    return tuple(known) or ("none",)


def embedding_figure(found: SiteFindings, kind: str = "pca2", colour: str = "") -> Figure | None:
    """Draw a map of the embeddings.

    Args:
        found: The analysis.
        kind: Of :data:`KINDS`.
        colour: Of :func:`colourings`; empty takes the best.

    Returns:
        None where there is no such map: t-SNE of few sites.
    """
    if kind not in found.maps:
        return None
    points, colour = found.maps[kind], colour or colourings(found)[0]
    by = "" if colour == "none" else f", coloured by {colour}"
    shared = {
        "height": 460,
        "margin": {"l": 40, "r": 14, "t": 84, "b": 40},
        "title": title("Map of the embeddings", f"{KINDS[kind]}, {counted(len(points), 'site')}{by}"),
    }
    drawn = layout(**shared, **(_flat_axes() if points.shape[1] == 2 else {"scene": _scene()}))
    return {"data": list(_traces(found, points, colour)), "layout": drawn, "config": figure_config(f"site_{kind}")}


def classes_of(found: SiteFindings, colour: str) -> list[tuple[str, np.ndarray]]:
    """Name classes with the numbers of their sites, largest first; the smallest beyond MOST_CLASSES as one."""
    labels = hemispheres(np.asarray(found.positions)) if colour == "hemisphere" else np.array(found.regions)
    if colour == "none":
        return [("sites", np.arange(len(found.names)))]
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    ranked = names[np.argsort(-counts, kind="stable")]
    classes = [(str(name), np.flatnonzero(labels == name)) for name in ranked[:MOST_CLASSES]]
    more = np.flatnonzero(np.isin(labels, ranked[MOST_CLASSES:]))
    rest = np.flatnonzero(labels == "")
    unknown = "midline or unknown" if colour == "hemisphere" else "unknown"
    return [one for one in (*classes, ("others", more), (unknown, rest)) if len(one[1])]


def _traces(found: SiteFindings, points: np.ndarray, colour: str) -> Iterator[dict[str, Any]]:
    if colour in AXES:
        values = 1_000 * np.asarray(found.positions, dtype=np.float64)[:, AXES[colour]]
        known = np.isfinite(values)
        yield _dots(found, points, np.flatnonzero(~known), "unknown", {"color": OTHER_COLOUR})
        bar = {"thickness": 10, "outlinewidth": 0, "x": 1.0, "nticks": 5, "len": 0.7, "title": {"text": "mm"}}
        scale = {"color": packed(values[known]), "colorscale": VIRIDIS, "colorbar": bar}
        yield {**_dots(found, points, np.flatnonzero(known), colour, scale), "showlegend": False}
        return
    for place, (name, own) in enumerate(classes_of(found, colour)):
        known_class = name not in ("others", "unknown", "midline or unknown")
        symbol = CLASS_SYMBOLS[place // len(CLASS_COLOURS) % len(CLASS_SYMBOLS)]
        look = {"color": CLASS_COLOURS[place % len(CLASS_COLOURS)] if known_class else OTHER_COLOUR, "symbol": symbol}
        yield _dots(found, points, own, f"{plain(shortened(name, 24))} ({len(own)})", look)


def _dots(found: SiteFindings, points: np.ndarray, own: np.ndarray, name: str, look: dict[str, Any]) -> dict[str, Any]:
    is_flat = points.shape[1] == 2
    size = float(np.clip(110 / np.sqrt(max(1, len(points))), 6, 14))
    columns = zip("xyz", points[own].T, strict=False)
    return {
        "type": "scatter" if is_flat else "scatter3d",
        "mode": "markers",
        **{letter: packed(np.asarray(column)) for letter, column in columns},
        "text": [plain(found.names[site]) for site in own],
        "customdata": own.tolist(),
        "name": name,
        "showlegend": bool(len(own)),
        "marker": {"size": size if is_flat else 4, "opacity": 0.9, **look},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _flat_axes() -> dict[str, Any]:
    quiet: dict[str, Any] = {"showticklabels": False, "constrain": "domain"}
    return {"xaxis": axis(**quiet), "yaxis": axis(**quiet, scaleanchor="x")}


def _scene() -> dict[str, Any]:
    quiet = {"showticklabels": False, "title": {"text": ""}, "gridcolor": GRID, "color": INK, "zeroline": False}
    shown = {**quiet, "showbackground": False, "showspikes": False}
    return {"xaxis": shown, "yaxis": shown, "zaxis": shown, "aspectmode": "data"}
