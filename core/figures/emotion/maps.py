"""Clips as points, coloured by emotion or by speaker, and how alike every two of them are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from core.errors import InputError
from core.figures.emotion.style import class_look, class_name, finished
from core.figures.layers.colouring import (
    MOST_CLASSES,
    Colouring,
    by_class,
    colour_menu,
    legend_keys,
    scale_of,
)
from core.figures.layers.style import (
    OTHER_COLOUR,
    counted,
    layout,
    per_cent,
    plain,
    sentence,
    shortened,
    shown_of,
    title,
)
from core.figures.names import file_label
from core.figures.plotly_json import DIVERGING, INK, VIRIDIS, Figure, axis, packed
from core.scoring import EmbeddingMap

HEIGHT = 600
"""Pixels."""

MOST_CLIPS = 400
"""Clips that a matrix of similarities shows at most; a browser draws no more pixels."""

FAINT = "rgba(154,161,171,0.25)"

MANY_POINTS = 500
"""More points than this are smaller."""

COLOURINGS = ("emotion", "speaker")

KINDS = {"cosine": "Cosine", "euclidean": "Euclidean distance"}


def map_figure(found: EmbeddingMap, method: str, colour: str = "emotion") -> Figure:
    """Draw clips as points; a list in the figure changes what colours them.

    Every point carries its clip's number, so that a click plays it.

    Args:
        found: The clips.
        method: One of the names of ``found.maps``.
        colour: ``emotion`` or ``speaker``, to begin with.

    Raises:
        InputError: Another method or colouring.
    """
    for value, known, what in ((method, tuple(found.maps), "map"), (colour, COLOURINGS, "colouring")):
        if value not in known:
            raise InputError(f"Got the {what} {value!r}; expected one of {', '.join(known)}.")
    schemes = [emotion_colouring(found.labels), _faint_rest(by_class("speaker", found.speakers))]
    active = COLOURINGS.index(colour)
    points = _points(found, method, schemes[active])
    keys = [key for place, scheme in enumerate(schemes) for key in legend_keys(scheme, place == active, "scatter")]
    quiet = {} if method == "PCA" else {"showticklabels": False}
    drawn = layout(
        height=HEIGHT,
        margin={"l": 58, "r": 12, "t": 116, "b": 60},
        title=title(f"{plain(method)} of the clips", _counts(found)),
        dragmode="pan",
        updatemenus=[{**colour_menu(schemes, active), "pad": {"b": 8}}],
        xaxis=axis(title={"text": f"{plain(method)} 1", "standoff": 6}, constrain="domain", **quiet),
        yaxis=axis(title={"text": f"{plain(method)} 2"}, scaleanchor="x", constrain="domain", **quiet),
    )
    return finished([points, *keys], drawn, f"map_{file_label(method)}")


def emotion_colouring(labels: np.ndarray) -> Colouring:
    """Give each class the look that it has in all figures: by the place of its name, not by how often it occurs."""
    names, codes, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    if len(names) > MOST_CLASSES:
        return by_class("emotion", labels)
    looks = [class_look(place) for place in range(len(names))]
    classes = tuple(
        (f"{class_name(str(name), 24)} ({count:,})", look.colour, look.symbol)
        for name, count, look in zip(names, counts.tolist(), looks, strict=True)
    )
    return Colouring("emotion", codes.astype(np.int32), classes)


def _faint_rest(scheme: Colouring) -> Colouring:
    """Let those without a colour of their own not cover those that have one."""
    classes = tuple(
        (name, FAINT if colour == OTHER_COLOUR else colour, symbol) for name, colour, symbol in scheme.classes
    )
    return replace(scheme, classes=classes)


def map_caption(found: EmbeddingMap, method: str) -> str:
    """Say what the map keeps, and whether neighbours share their emotion or their speaker."""
    kept = (
        "Axes are those of the largest variance: points that lie apart here lie apart in the embedding; points that "
        "lie together here need not."
        if method == "PCA"
        else "Neighbours stay together; distances between groups, their sizes and the axes mean nothing, and groups "
        "appear in noise as well."
    )
    note = found.notes.get(method, "")
    return " ".join(
        filter(
            None,
            [
                f"Each point is a clip, {_counts(found)}.",
                sentence(f"{method}: {note}" if note else ""),
                kept,
                neighbour_sentence(found),
            ],
        )
    )


def neighbour_sentence(found: EmbeddingMap) -> str:
    """Say how many of the nearest neighbours, in all dims, share a clip's emotion and its speaker."""
    shares = found.neighbour_shares
    if not {"emotion", "speaker"} <= set(shares):
        return ""
    told = [
        f"{per_cent(shares[kind])} have the same {kind}"
        + (f" (by chance {per_cent(shares[f'{kind} by chance'])})" if f"{kind} by chance" in shares else "")
        for kind in COLOURINGS
    ]
    return f"Of each clip's 10 nearest neighbours in all dimensions {' and '.join(told)}."


def _counts(found: EmbeddingMap) -> str:
    speakers, classes = (len(np.unique(values)) for values in (found.speakers, found.labels))
    return (
        f"{counted(len(found.clips), 'clip')} of {counted(speakers, 'speaker')}, {classes} "
        f"{'class' if classes == 1 else 'classes'}"
    )


def _points(found: EmbeddingMap, method: str, scheme: Colouring) -> dict[str, Any]:
    places = found.maps[method]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(places[:, 0]),
        "y": packed(places[:, 1]),
        "marker": {
            "size": 7 if len(places) <= MANY_POINTS else 5,
            "opacity": 0.8,
            "line": {"width": 0},
            **scale_of(scheme),
        },
        "customdata": packed(np.arange(len(found.clips))),
        "hovertext": clip_texts(found, range(len(found.clips)), "<br>"),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
    }


def clip_texts(found: EmbeddingMap, rows: Sequence[int], between: str = " · ") -> list[str]:
    """Say of clips what they are: name, emotion, speaker."""
    return [
        between.join(
            [
                plain(shortened(found.clips[row])),
                class_name(str(found.labels[row]), 40),
                plain(shortened(str(found.speakers[row]), 24)),
            ]
        )
        for row in rows
    ]


# How alike


def similarity_figure(found: EmbeddingMap, kind: str = "cosine") -> Figure:
    """Draw how alike every two clips are, in order of emotion, then of speaker.

    ``meta.clips`` of the layout holds the number of the clip of each row, so that a click can play it.

    Args:
        found: The clips.
        kind: ``cosine`` or ``euclidean``.

    Raises:
        InputError: Another kind.
    """
    if kind not in KINDS:
        raise InputError(f"Got the similarity {kind!r}; expected one of {', '.join(KINDS)}.")
    rows = shown_rows(found)
    values = (found.cosine if kind == "cosine" else found.euclidean)[np.ix_(rows, rows)]
    names = [f"{at}: {text}" for at, text in enumerate(clip_texts(found, rows.tolist()))]
    cells = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": packed(values),
        **_scale(kind, values),
        "hovertemplate": "%{y}<br>%{x}<br><b>%{z:.3f}</b><extra></extra>",
    }
    groups = _groups(found.labels[rows])
    ticks: dict[str, Any] = {"tickvals": [(first + last) / 2 for _, first, last in groups]}
    ticks |= {"ticktext": [class_name(name, 14) for name, _, _ in groups]}
    shared: dict[str, Any] = {"type": "category", "showgrid": False, "automargin": True, "constrain": "domain", **ticks}
    drawn = layout(
        height=HEIGHT,
        margin={"l": 14, "r": 12, "t": 84, "b": 60},
        title=title(f"{KINDS[kind]} of every two clips", shown_of(len(rows), len(found.clips), "clip")),
        xaxis=axis(**shared, range=[-0.5, len(rows) - 0.5]),
        yaxis=axis(**shared, range=[len(rows) - 0.5, -0.5], scaleanchor="x"),
        shapes=[line for _, first, _ in groups[1:] for line in _borders(first, len(rows))],
        meta={"clips": rows.tolist()},
        showlegend=False,
    )
    return finished([cells], drawn, f"similarity_{kind}")


def similarity_caption(found: EmbeddingMap, kind: str = "cosine") -> str:
    """Say how to read the matrix."""
    rows = shown_rows(found)
    measure = (
        "Cosine after the mean was taken away: orange is alike, blue is opposite, pale is neither."
        if kind == "cosine"
        else "Euclidean distance: dark is near, bright is far."
    )
    return (
        f"{measure} Clips stand in order of emotion, then of speaker; lines part emotions; "
        f"{shown_of(len(rows), len(found.clips), 'clip')}. Squares along the diagonal within an emotion are its "
        "speakers; a whole block that stands out is an emotion."
    )


def shown_rows(found: EmbeddingMap) -> np.ndarray:
    """Return the numbers of the clips that a matrix shows, ordered by emotion, then speaker; evenly chosen if many."""
    from core.analysis.projection import evenly

    order = np.lexsort((np.array(found.clips), found.speakers, found.labels))
    return order[evenly(len(order), MOST_CLIPS)]


def _scale(kind: str, values: np.ndarray) -> dict[str, Any]:
    bar = {"thickness": 10, "outlinewidth": 0, "x": 1.01, "nticks": 6}
    if kind == "cosine":
        return {"colorscale": DIVERGING, "zmin": -1, "zmax": 1, "colorbar": bar}
    return {"colorscale": VIRIDIS, "zmin": 0, "zmax": float(values.max(initial=0.0)) or 1.0, "colorbar": bar}


def _groups(labels: np.ndarray) -> list[tuple[str, int, int]]:
    """Return each class with the first and the last place that it has."""
    names, first, counts = np.unique(labels.astype(str), return_index=True, return_counts=True)
    return [(str(name), at, at + n - 1) for name, at, n in zip(names, first.tolist(), counts.tolist(), strict=True)]


def _borders(at: int, n: int) -> list[dict[str, Any]]:
    """Return a light line on a dark one, seen on every colour, across and upwards."""
    shared = {"type": "line", "xref": "x", "yref": "y"}
    upright = {"x0": at - 0.5, "x1": at - 0.5, "y0": -0.5, "y1": n - 0.5}
    ways = (upright, {f"{'y' if key[0] == 'x' else 'x'}{key[1]}": value for key, value in upright.items()})
    looks = ({"color": INK, "width": 2}, {"color": "#ffffff", "width": 0.8})
    return [{**shared, **way, "line": look} for way in ways for look in looks]
