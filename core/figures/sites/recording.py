"""Sites before and while a model learns them: where they sit, and how well each is told."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from core.figures.layers.style import MODEL_COLOURS, counted, figure_config, layout, number, plain, title
from core.figures.meg.recording import directions
from core.figures.plotly_json import INK, Figure, axis, packed
from core.figures.sites.places import spread_places
from core.sensors import Sensors

NAMED_SITES = 70
"""Sites up to which each has its name beside it."""

PLACES_CAPTION = (
    "Each point is a site, seen from above with the nose up. Sites without a known position are not drawn; they can be "
    "trained on, but nothing can be said about their distance to others."
)
LOSSES_CAPTION = (
    "Each point is a site, best first: the loss on held-out time when a part of it is hidden and has to be told from "
    "what the other sites show. The dotted line is guessing. Noisy channels stay high."
)


class Described(Protocol):
    """As :class:`core.tasks.sites.requests.SiteDescription`, as far as figures read it."""

    @property
    def sites(self) -> Sensors:
        """Names and kinds."""
        ...

    @property
    def flat(self) -> np.ndarray:
        """(n, 2), NaN where unknown."""
        ...


def places_figure(found: Described) -> Figure | None:
    """Draw the sites of a recording from above, by kind; None where no position is known."""
    known = np.flatnonzero(np.isfinite(found.flat).all(axis=1))
    if not len(known):
        return None
    places = spread_places(found.flat)
    kinds = list(dict.fromkeys(found.sites.kinds[site] for site in known.tolist()))
    hidden = {"visible": False, "showgrid": False, "constrain": "domain"}
    missing = len(found.sites) - len(known)
    told = counted(len(known), "site") + (f"; {missing} without a position" if missing else "")
    drawn = layout(
        height=460,
        margin={"l": 14, "r": 14, "t": 84, "b": 30},
        title=title("Where the sites are", told),
        xaxis=axis(**hidden),
        yaxis=axis(**hidden, scaleanchor="x"),
        annotations=directions(),
        showlegend=len(kinds) > 1,
    )
    traces = [_kind(found.sites, places, known, kind, place) for place, kind in enumerate(kinds)]
    return {"data": traces, "layout": drawn, "config": figure_config("sites")}


def _kind(sites: Sensors, places: np.ndarray, known: np.ndarray, kind: str, place: int) -> dict[str, Any]:
    own = [site for site in known.tolist() if sites.kinds[site] == kind]
    size = float(np.clip(150 / math.sqrt(len(known)), 6, 16))
    return {
        "type": "scatter",
        "mode": "markers+text" if len(known) <= NAMED_SITES else "markers",
        "x": packed(places[own, 0]),
        "y": packed(places[own, 1]),
        "text": [plain(sites.names[site]) for site in own],
        "textposition": "top center",
        "textfont": {"size": 9, "color": INK},
        "name": f"{plain(kind)} ({len(own)})",
        "marker": {"size": size, "color": MODEL_COLOURS[place % len(MODEL_COLOURS)]},
        "hovertemplate": f"%{{text}}<extra>{plain(kind)}</extra>",
    }


def losses_figure(losses: Mapping[str, float], step: int, chance: float | None = None) -> Figure:
    """Draw the held-out loss of each site at a step of its training.

    Args:
        losses: By the site's name.
        step: Of the training.
        chance: Share that is right by guessing; its loss is drawn as a line.
    """
    names: Sequence[str] = sorted(losses, key=lambda name: losses[name])
    values = np.array([losses[name] for name in names])
    median = f"median {number(float(np.median(values)))}, {counted(len(names), 'site')}"
    drawn = layout(
        height=500,
        margin={"l": 60, "r": 14, "t": 84, "b": 50},
        title=title(f"Loss of each site after step {step:,}", median),
        xaxis=axis(title={"text": "sites, best first", "standoff": 6}, showticklabels=False, showgrid=False),
        yaxis=axis(title={"text": "held-out loss"}),
        showlegend=False,
    )
    points = {"type": "scatter", "mode": "markers", "x": packed(np.arange(len(names))), "y": packed(values)}
    marker = {"size": 7, "color": MODEL_COLOURS[1]}
    hover = "%{text}: <b>%{y:.3f}</b><extra></extra>"
    traces = [{**points, "text": [plain(name) for name in names], "marker": marker, "hovertemplate": hover}]
    if chance:
        traces.append(_guessing(-math.log(chance), len(names)))
    return {"data": traces, "layout": drawn, "config": figure_config("site_losses")}


def _guessing(loss: float, n: int) -> dict[str, Any]:
    line = {"color": INK, "width": 2, "dash": "dot"}
    shared = {"type": "scatter", "mode": "lines", "line": line, "hovertemplate": f"guessing: {loss:.2f}<extra></extra>"}
    return {**shared, "x": [0, n - 1], "y": [loss, loss]}
