"""Similarity of sites against the distance between them, learned and before training."""

from html import escape
from typing import Any

import numpy as np

from core.analysis.projection import evenly
from core.analysis.sites import site_distances
from core.figures.layers.style import MODEL_COLOURS, OTHER_COLOUR, figure_config, layout, title
from core.figures.plotly_json import Figure, axis, packed
from core.figures.sites.findings import SiteFindings, agreement_text, upper_pairs

POINTS = 4_000
"""Pairs drawn at most, evenly over distances; medians are of all pairs."""

BINS = 12
CAPTION = (
    "Each point is a pair of sites; the lines are medians of pairs of alike distance. Where the model learned geometry "
    "the learned line falls with distance and the grey one, of the embeddings before training, stays at 0. The p value "
    "permutes sites (Mantel's test), since pairs are not independent."
)


def pair_distances(positions: np.ndarray) -> np.ndarray:
    """Distance of all pairs, in millimetres; NaN where a position is unknown."""
    return 1_000 * upper_pairs(site_distances(np.asarray(positions, dtype=np.float64)))


def binned_medians(distances: np.ndarray, values: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Median distance and median value of pairs, in ``bins`` groups of alike numbers of pairs, nearest first."""
    order = np.argsort(distances, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return (
        np.array([np.median(distances[group]) for group in groups]),
        np.array([np.median(values[group]) for group in groups]),
    )


def distance_figure(found: SiteFindings) -> Figure | None:
    """Draw similarity over distance; None where fewer than two sites have a position."""
    distances = pair_distances(found.positions)
    known = np.isfinite(distances)
    if not known.any():
        return None
    traces = [
        trace
        for name, matrix, colour in (
            ("before training", found.untrained, OTHER_COLOUR),
            ("learned", found.similarity, MODEL_COLOURS[0]),
        )
        for trace in _pairs(distances[known], upper_pairs(matrix)[known], name, colour)
    ]
    drawn = layout(
        height=420,
        margin={"l": 60, "r": 14, "t": 84, "b": 56},
        title=title("Similarity and distance", _told(found)),
        xaxis=axis(title={"text": "distance, mm", "standoff": 6}, rangemode="tozero"),
        yaxis=axis(title={"text": "cosine"}, range=[-1.05, 1.05]),
    )
    return {"data": traces, "layout": drawn, "config": figure_config("site_distance")}


def _told(found: SiteFindings) -> str:
    learned, before = agreement_text(found.distance), agreement_text(found.untrained_distance)
    return f"Spearman with −distance: {escape(learned)}<br>before training: {escape(before)}"


def _pairs(distances: np.ndarray, values: np.ndarray, name: str, colour: str) -> list[dict[str, Any]]:
    shown = np.argsort(distances, kind="stable")[evenly(len(distances), POINTS)]
    marker = {"size": 3, "color": colour, "opacity": 0.3}
    shared = {"type": "scattergl", "legendgroup": name, "hoverinfo": "skip", "showlegend": False}
    points = {"mode": "markers", "x": packed(distances[shown]), "y": packed(values[shown]), "marker": marker}
    x, y = binned_medians(distances, values)
    hover = f"about %{{x:.0f}} mm: %{{y:.2f}}<extra>{name}</extra>"
    line = {"mode": "lines+markers", "x": packed(x), "y": packed(y), "line": {"color": colour, "width": 3}}
    middle = {**line, "type": "scatter", "marker": {"size": 7}, "name": name, "legendgroup": name}
    return [{**shared, **points}, {**middle, "hovertemplate": hover}]
