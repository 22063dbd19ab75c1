"""How points are coloured: by a scale, or by classes with a colour and a symbol each, and a list to choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.figures.layers.style import CLASS_COLOURS, CLASS_SYMBOLS, OTHER_COLOUR, counted, plain, shortened
from core.figures.plotly_json import GRID, INK, VIRIDIS, packed

MOST_CLASSES = len(CLASS_COLOURS) * len(CLASS_SYMBOLS)
"""Classes with a colour and symbol of their own; the rest is "other"."""


@dataclass(frozen=True)
class Colouring:
    """How points are coloured: by ``codes`` (n,), a scale, or numbers of ``classes`` of which the last may be "other".

    Attributes:
        name: What the reader chooses.
        codes: (n,) seconds, places in the order of the points, or class numbers.
        classes: Name and colour and symbol of each class, with its count; empty for a scale.
    """

    name: str
    codes: np.ndarray
    classes: tuple[tuple[str, str, str], ...] = ()


def by_class(name: str, labels: np.ndarray) -> Colouring:
    """Give the most frequent classes a colour and a symbol each; the rest is "other", and rows without one "none"."""
    found, inverse, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    named = np.flatnonzero(found != "")
    order = named[np.argsort(-counts[named], kind="stable")]
    kept = order[:MOST_CLASSES]
    codes = np.full(len(found), len(kept))
    codes[kept] = np.arange(len(kept))
    looks = [(symbol, colour) for symbol in CLASS_SYMBOLS for colour in CLASS_COLOURS][: len(kept)]
    classes = [
        (f"{plain(shortened(str(found[place]), 24))} ({counts[place]:,})", colour, symbol)
        for place, (symbol, colour) in zip(kept, looks, strict=True)
    ]
    rest = int(counts.sum() - counts[kept].sum())
    if rest:
        classes.append(
            (_rest_name(name, len(order) - len(kept), rest, bool((found == "").any())), OTHER_COLOUR, "circle")
        )
    return Colouring(name, codes[inverse].astype(np.int32), tuple(classes))


def _rest_name(name: str, n_classes: int, n: int, unlabelled: bool) -> str:
    named = f"other, {counted(n_classes, plain(name))}" if n_classes else ""
    return f"{' or '.join(filter(None, [named, 'no label' if unlabelled else '']))} ({n:,})"


def scale_of(scheme: Colouring) -> dict[str, Any]:
    """Return the marker's colours: a scale of seconds or places, or one step a class."""
    if not scheme.classes:
        ends = _ends(scheme.codes)
        return {"color": packed(scheme.codes), "colorscale": VIRIDIS, **ends, "symbol": "circle", "showscale": True}
    n = len(scheme.classes)
    stops = [[edge / n, colour] for place, (_, colour, _) in enumerate(scheme.classes) for edge in (place, place + 1)]
    symbols = np.array([symbol for _, _, symbol in scheme.classes])[scheme.codes]
    return {
        "color": packed(scheme.codes),
        "colorscale": stops,
        "cmin": -0.5,
        "cmax": n - 0.5,
        "symbol": "circle" if len(set(symbols)) == 1 else symbols.tolist(),
        "showscale": False,
    }


def _ends(values: np.ndarray) -> Mapping[str, float]:
    return {"cmin": float(values.min()), "cmax": float(values.max())} if len(values) else {}


def legend_keys(scheme: Colouring, visible: bool, kind: str) -> list[dict[str, Any]]:
    """Return traces without points whose only purpose is a line in the legend: one trace holds all real points."""
    where: dict[str, Any] = {"x": [None], "y": [None]}
    shared = {"type": "scatter", "mode": "markers", **where}
    if kind == "scatter3d":
        shared |= {"type": "scatter3d", "z": [None]}
    return [
        {
            **shared,
            "name": name,
            "marker": {"color": colour, "symbol": symbol, "size": 8},
            "visible": visible,
            "hoverinfo": "skip",
            "showlegend": True,
        }
        for name, colour, symbol in scheme.classes
    ]


def colour_menu(schemes: Sequence[Colouring], active: int) -> dict[str, Any]:
    """Return a list of colourings at the upper right."""
    return {
        "type": "dropdown",
        "direction": "down",
        "buttons": [_button(schemes, place) for place in range(len(schemes))],
        "active": active,
        "showactive": True,
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 62},
        "bgcolor": "rgba(128,136,150,0.12)",
        "bordercolor": GRID,
        "font": {"size": 12, "color": INK},
    }


def _button(schemes: Sequence[Colouring], chosen: int) -> dict[str, Any]:
    """Return the button that recolours the points and shows the legend's lines of its colouring only.

    ``restyle`` takes a list with one entry a trace; the lines of the legend get back what they have.
    """
    flags = [place == chosen for place, scheme in enumerate(schemes) for _ in scheme.classes]
    own = [(colour, symbol) for scheme in schemes for _, colour, symbol in scheme.classes]
    scale = scale_of(schemes[chosen])
    told = {f"marker.{key}": [value, *[None] * len(own)] for key, value in scale.items()}
    told["marker.color"] = [scale["color"], *(colour for colour, _ in own)]
    told["marker.symbol"] = [scale["symbol"], *(symbol for _, symbol in own)]
    return {
        "label": f"colour: {plain(schemes[chosen].name)}",
        "method": "restyle",
        "args": [{"visible": [True, *flags], **told}],
    }
