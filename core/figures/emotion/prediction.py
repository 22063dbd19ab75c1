"""What a head says of a recording: of the whole of it, and window by window.

Where it abstains no class stands out: bars are grey and hatched, and the reason is the title.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.figures.emotion.style import MAIN, ROW, SHARE, WHY, class_look, class_name, finished, known, score
from core.figures.layers.style import layout, number, plain, shortened, title
from core.figures.names import file_label
from core.figures.plotly_json import INK, Figure, axis, packed
from core.scoring import Prediction, Said

GREY = "#8b94a1"
"""Of what is not said; seen on white and on near-black."""

RIBBON = (0.88, 1.0)
LINES = (0.0, 0.8)
"""Vertical share of the strip of what is said, and of the lines below it."""

ROOM = 0.12
"""Share of the width that a name in the strip needs."""


def prediction_figure(prediction: Prediction) -> Figure:
    """Draw the probability of each class for the whole recording, with the threshold."""
    said, names = prediction.clip, [class_name(name) for name in prediction.labels]
    shares = said.probabilities
    silent = not said.label
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": known(shares),
        "y": list(range(len(names))),
        "marker": {
            "color": [MAIN if name == said.label else GREY for name in prediction.labels],
            "opacity": 0.5 if silent else 0.9,
            "pattern": {"shape": "/" if silent else "", "size": 7, "solidity": 0.35},
        },
        "text": [score(share) for share in shares.tolist()],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{customdata}: %{x:.1%}<extra></extra>",
        "customdata": [class_name(name, 60) for name in prediction.labels],
        "showlegend": False,
    }
    drawn = layout(
        height=190 + ROW * max(2, len(names)),
        margin={"l": 14, "r": 18, "t": 84, "b": 60},
        title=title(said_title(prediction), plain(shortened(prediction.source.name, 48))),
        xaxis=axis(title={"text": "probability", "standoff": 6}, **{**SHARE, "range": [0, 1.12]}),
        yaxis=axis(
            tickvals=list(range(len(names))),
            ticktext=names,
            range=[len(names) - 0.4, -0.6],
            automargin=True,
            showgrid=False,
        ),
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        bargap=0.3,
    )
    name = f"{file_label(prediction.source.stem)}_probabilities"
    return finished([bars, _threshold_line(prediction.threshold)], drawn, name)


def said_title(prediction: Prediction) -> str:
    """Say what is said of the recording, or that nothing is, and why."""
    said = prediction.clip
    if not said.label:
        return f"Nothing is said: {why_not(said)}"
    return f"{class_name(said.label)}, {score(float(said.probabilities.max()))}"


def why_not(said: Said) -> str:
    """Say for people why nothing is said."""
    return WHY.get(said.why, plain(said.why))


def prediction_caption(prediction: Prediction) -> str:
    """Say what the probabilities are, where the threshold lies, and how far the recording is from training clips."""
    said = prediction.clip
    held = f"It abstains here: {WHY.get(said.why, said.why)}." if not said.label else "It does not abstain here."
    far = (
        f" Distance from the training clips: {number(said.distance)} of the limit that 95 % of unheard speakers' clips "
        "stay below."
    )
    return (
        f"Calibrated probabilities of {prediction.head} on {prediction.model}, for {said.stop - said.start:.1f} s, "
        f"among the {len(prediction.labels)} classes that it knows; below {prediction.threshold:.2f} it says nothing. "
        f"{held}{far if np.isfinite(said.distance) else ''}"
    )


def _threshold_line(threshold: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [threshold, threshold],
        "y": [0, 1],
        "yaxis": "y2",
        "name": f"threshold ({threshold:.2f}): nothing is said below it",
        "line": {"color": INK, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
        "showlegend": True,
    }


# Over time


def timeline_figure(prediction: Prediction) -> Figure:
    """Draw what is said of each window as a strip, and below it the probability of each class over time.

    Every mark carries the seconds at which its window begins and ends, so that a click plays it. Windows of which
    nothing is said are grey and hatched.
    """
    windows = prediction.timeline or (prediction.clip,)
    edges = window_edges(windows)
    traces = [
        *_ribbon(prediction, windows, edges),
        *(_class_line(prediction, windows, place) for place in range(len(prediction.labels))),
        *_silent_marks(windows),
        _threshold_level(prediction, edges),
    ]
    end = max(prediction.clip.stop, edges[-1])
    span = {"range": [0, end], "minallowed": 0, "maxallowed": end}
    drawn = layout(
        height=520,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("Over time", _windows_told(windows)),
        hovermode="x",
        dragmode="zoom",
        bargap=0,
        barmode="overlay",
        xaxis=axis(title={"text": "time (s)", "standoff": 6}, anchor="y", showgrid=False, **span),
        yaxis=axis(title={"text": "probability"}, domain=LINES, fixedrange=True, **SHARE),
        yaxis2=axis(domain=RIBBON, range=[0, 1], fixedrange=True, showgrid=False, tickvals=[0.5], ticktext=["said"]),
        annotations=_run_names(windows, edges, end),
        shapes=[_shade(edges[at], edges[at + 1]) for at, one in enumerate(windows) if not one.label],
    )
    return finished(traces, drawn, f"{file_label(prediction.source.stem)}_timeline")


def timeline_caption(prediction: Prediction) -> str:
    """Say how windows overlap and how many of them say nothing."""
    windows = prediction.timeline or (prediction.clip,)
    silent = [one for one in windows if not one.label]
    reasons = {WHY.get(why, why): sum(one.why == why for one in silent) for why in dict.fromkeys(o.why for o in silent)}
    told = ", ".join(f"{why}: {count:,}" for why, count in reasons.items())
    hatched = f"Grey and hatched: nothing is said of {len(silent):,} of them ({told})."
    nothing, counts = hatched if silent else "All say something.", _windows_told(windows)
    return (
        f"{counts[0].upper()}{counts[1:]}; each value stands in the middle of its window. "
        f"{nothing} Neighbouring windows share sound, so that a change shows later and softer than it is heard. Click "
        "to hear a window."
    )


def window_edges(windows: Sequence[Said]) -> np.ndarray:
    """Return (n + 1,) seconds at which the strip changes: half-way between the middles of two windows.

    >>> window_edges([Said(at, at + 2.0, np.ones(1), "a") for at in (0.0, 0.5, 1.0)]).tolist()
    [0.0, 1.25, 1.75, 3.0]
    """
    middles = _middles(windows)
    return np.concatenate([[windows[0].start], (middles[1:] + middles[:-1]) / 2, [windows[-1].stop]])


def _middles(windows: Sequence[Said]) -> np.ndarray:
    return np.array([(one.start + one.stop) / 2 for one in windows])


def _windows_told(windows: Sequence[Said]) -> str:
    first = windows[0]
    if len(windows) == 1:
        return f"one window of {first.stop - first.start:.1f} s"
    hop = windows[1].start - first.start
    return f"{len(windows):,} windows of {first.stop - first.start:g} s, one each {hop:g} s"


def _places(windows: Sequence[Said], rows: Sequence[int]) -> dict[str, Any]:
    """Return what a click needs: (n, 2) seconds at which each window begins and ends."""
    ends = np.array([[windows[row].start, windows[row].stop] for row in rows], dtype=np.float64)
    return packed(ends.reshape(len(rows), 2))


def _ribbon(prediction: Prediction, windows: Sequence[Said], edges: np.ndarray) -> list[dict[str, Any]]:
    """Return the strip: a colour for each class that is said, grey and hatched where nothing is."""
    said = [one.label or f"\0{one.why}" for one in windows]
    order = [*prediction.labels, *sorted({name for name in said if name.startswith("\0")})]
    return [
        _blocks(prediction, windows, edges, [row for row, one in enumerate(said) if one == name], name)
        for name in order
        if name in said
    ]


def _blocks(
    prediction: Prediction, windows: Sequence[Said], edges: np.ndarray, rows: Sequence[int], name: str
) -> dict[str, Any]:
    silent = name.startswith("\0")
    place = -1 if silent else prediction.labels.index(name)
    look = None if silent else class_look(place)
    shown = f"nothing said: {why_not(windows[rows[0]])}" if silent else class_name(name)
    chosen = np.asarray(rows, dtype=np.int64)
    hatched = {"shape": "/", "size": 7, "solidity": 0.35}
    pattern = {"shape": look.pattern, "size": 6, "solidity": 0.25, "fillmode": "overlay"} if look else hatched
    return {
        "type": "bar",
        "x": packed((edges[chosen] + edges[chosen + 1]) / 2),
        "width": packed(edges[chosen + 1] - edges[chosen]),
        "y": [1] * len(rows),
        "yaxis": "y2",
        "marker": {"color": look.colour if look else GREY, "opacity": 0.6, "pattern": pattern},
        "name": shown,
        "legendgroup": shown if silent else str(place),
        # A class has its line in the legend already.
        "showlegend": silent,
        "customdata": _places(windows, rows),
        "hovertemplate": f"{shown}<br>%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}} s<extra></extra>",
    }


def _run_names(windows: Sequence[Said], edges: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Name what is said in the strip wherever a run of windows has room for it: colours alone tell not everybody."""
    starts = [at for at, one in enumerate(windows) if at == 0 or one.label != windows[at - 1].label]
    runs = zip(starts, [*starts[1:], len(windows)], strict=True)
    shared = {"yref": "y2", "y": 0.5, "showarrow": False, "font": {"size": 11}}
    return [
        {**shared, "x": float((edges[first] + edges[stop]) / 2), "text": class_name(windows[first].label, 14)}
        for first, stop in runs
        if windows[first].label and edges[stop] - edges[first] >= ROOM * seconds
    ]


def _class_line(prediction: Prediction, windows: Sequence[Said], place: int) -> dict[str, Any]:
    look, name = class_look(place), prediction.labels[place]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": packed(_middles(windows)),
        "y": packed(np.array([_heard(one, place) for one in windows], dtype=np.float64)),
        "name": class_name(name),
        "legendgroup": str(place),
        "line": {"color": look.colour, "dash": look.dash, "width": 1.8},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 5},
        "customdata": _places(windows, range(len(windows))),
        "hovertemplate": "%{y:.1%}<extra>" + class_name(name) + "</extra>",
    }


def _heard(said: Said, place: int) -> float:
    """Return the probability of a class; a gap where there is no voice, of which a head knows nothing."""
    return float("nan") if said.why == "silence" else float(said.probabilities[place])


def _silent_marks(windows: Sequence[Said]) -> list[dict[str, Any]]:
    """Return marks that nobody sees where the lines have a gap, so that a click plays a silent window as well."""
    rows = [row for row, one in enumerate(windows) if one.why == "silence"]
    if not rows:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": packed(_middles([windows[row] for row in rows])),
            "y": [0] * len(rows),
            "name": "silence",
            "marker": {"opacity": 0},
            "customdata": _places(windows, rows),
            "hoverinfo": "none",
            "showlegend": False,
        }
    ]


def _threshold_level(prediction: Prediction, edges: np.ndarray) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, max(prediction.clip.stop, float(edges[-1]))],
        "y": [prediction.threshold] * 2,
        "name": f"threshold ({prediction.threshold:.2f})",
        "line": {"color": INK, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _shade(start: float, stop: float) -> dict[str, Any]:
    """Return a grey over the lines where nothing is said."""
    place = {"x0": float(start), "x1": float(stop), "y0": 0, "y1": 1, "yref": "y"}
    return {"type": "rect", **place, "fillcolor": "rgba(128,136,150,0.30)", "line": {"width": 0}, "layer": "above"}
