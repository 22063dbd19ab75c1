"""What is in a MEG recording: all channels over time, their spectra, and where the sensors sit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.figures.layers.style import MODEL_COLOURS, bottom_legend, counted, figure_config, layout, number, plain, title
from core.figures.plotly_json import INK, Figure, axis, packed
from core.sensors import MEG_KINDS, MegDescription, Sensors

POINTS = 60_000
"""Points of the butterfly plot at most, of each kind of sensor: more would take a browser seconds to draw."""

BAD_COLOUR = "#aa3377"
"""Of channels that the file marks as bad; a purple that colour-blind readers tell from both kinds."""

HERTZ = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
NAMES_SHOWN = 3
ROW = 210
"""Pixels of a plot of one kind of sensor."""


@dataclass(frozen=True)
class KindLook:
    """What a kind of sensor is called, its unit, and how it is drawn."""

    name: str
    unit: str
    colour: str
    symbol: str
    size: int


LOOKS = {
    "mag": KindLook("magnetometer", "fT", MODEL_COLOURS[0], "circle-open", 15),
    "grad": KindLook("gradiometer", "fT/cm", MODEL_COLOURS[1], "diamond", 7),
}


def kinds_of(sensors: Sensors) -> list[str]:
    """Return the kinds of sensors that there are, in the order of :data:`core.sensors.MEG_KINDS`."""
    return [kind for kind in MEG_KINDS if len(sensors.of_kind(kind))]


# -------------------------------------------------------------------------------------------------------- butterfly


def butterfly_figure(found: MegDescription) -> Figure:
    """Draw all channels over time on top of each other, a plot for each kind of sensor; bad ones apart."""
    kinds = kinds_of(found.sensors)
    traces = [trace for place, kind in enumerate(kinds) for trace in _lines(found, kind, place)]
    heading = title("All channels over time", f"{counted(len(found.sensors), 'channel')}, {_stretch(found)}")
    drawn = _rows(kinds, heading, {"title": {"text": "seconds", "standoff": 6}})
    for place, kind in enumerate(kinds):
        limit = _limit(found, kind)
        drawn[_axis_name(place)] |= {"title": {"text": LOOKS[kind].unit}, "range": [-limit, limit]}
    return {"data": traces, "layout": drawn, "config": figure_config("meg_butterfly")}


def butterfly_caption(found: MegDescription) -> str:
    """Say how to read the plot, and which channel stands out most."""
    loudest = "; ".join(_loudest(found, kind) for kind in kinds_of(found.sensors))
    return (
        "Every line is a channel, centred on its own mean; of a long recording the least and the largest value of each "
        f"stretch are kept. A channel far outside the others is a candidate for a bad one. Largest: {loudest}."
    )


def thinned(times: np.ndarray, values: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Keep the least and the largest value of each stretch of time, so that at most about ``most`` values remain.

    Args:
        times: (points,) seconds.
        values: (channels, points).
        most: Values to keep, of all channels together.

    Returns:
        Times, each stretch's beginning twice, and (channels, fewer points) values.
    """
    n_channels, n = values.shape
    stretches = max(1, most // (2 * max(1, n_channels)))
    if n <= 2 * stretches:
        return times, values
    starts = np.arange(0, n, -(-n // stretches))
    ends = [np.fmin.reduceat(values, starts, axis=1), np.fmax.reduceat(values, starts, axis=1)]
    return np.repeat(times[starts], 2), np.stack(ends, axis=2).reshape(n_channels, -1)


def _lines(found: MegDescription, kind: str, place: int) -> Iterator[dict[str, Any]]:
    """Return the good channels of a kind as one line with gaps, then the bad ones."""
    bad = np.isin(found.sensors.names, found.bads)
    own, look = found.sensors.of_kind(kind), LOOKS[kind]
    times, values = thinned(found.times, _centred(found.butterfly[own]))
    # Bad ones first: they are the loudest, and would cover all others.
    for is_bad, colour in ((True, BAD_COLOUR), (False, look.colour)):
        chosen = values[bad[own] == is_bad]
        if len(chosen):
            name = f"{counted(len(chosen), look.name)}{', marked as bad' if is_bad else ''}"
            x, y = _with_gaps(times, chosen)
            drawn = {"type": "scattergl", "mode": "lines", "x": packed(x), "y": packed(y), "yaxis": f"y{place + 1}"}
            yield {**drawn, "name": name, "line": {"color": colour, "width": 0.7}, "hoverinfo": "skip"}


def _centred(values: np.ndarray) -> np.ndarray:
    """Take each channel's mean away; a channel without a number stays without."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    centred: np.ndarray = values - total / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return centred


def _with_gaps(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put all channels into one line: a gap after each, since a trace for each would be slow."""
    x = np.tile(np.append(times, np.nan), len(values))
    y = np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan).reshape(-1)
    return x.astype(np.float32), y.astype(np.float32)


def _limit(found: MegDescription, kind: str) -> float:
    """Return the end of the axis: the largest value of good channels, since a broken one would flatten all others."""
    own = found.sensors.of_kind(kind)
    good = own[~np.isin(np.array(found.sensors.names)[own], found.bads)]
    values = np.abs(_centred(found.butterfly[good if len(good) else own]))
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    return 1.05 * largest or 1.0


def _loudest(found: MegDescription, kind: str) -> str:
    own, look = found.sensors.of_kind(kind), LOOKS[kind]
    peaks = np.nan_to_num(np.abs(_centred(found.butterfly[own]))).max(axis=1, initial=0.0)
    return f"{found.sensors.names[own[int(peaks.argmax())]]} with {number(float(peaks.max()))} {look.unit}"


def _stretch(found: MegDescription) -> str:
    """Say what is drawn: all of a short recording, the beginning of a long one."""
    whole, drawn = f"{found.seconds:,.1f} s", float(found.times[-1]) if len(found.times) else 0.0
    # The last point lies up to a decimated step before the end.
    part = f"the first {drawn:,.0f} s of {whole}" if drawn < 0.9 * found.seconds else whole
    return f"{part} at {found.sampling_rate:,.6g} Hz"


# ---------------------------------------------------------------------------------------------------------- spectra


def spectra_figure(found: MegDescription) -> Figure:
    """Draw the power spectral density of each kind of sensor: the median channel, and a band with half of them."""
    kinds = [kind for kind in kinds_of(found.sensors) if kind in found.spectra]
    shown = found.frequencies > 0  # a logarithmic axis has no zero
    hertz = found.frequencies[shown]
    traces = [
        trace for place, kind in enumerate(kinds) for trace in _band(hertz, found.spectra[kind][:, shown], kind, place)
    ]
    ticks = [tick for tick in HERTZ if not len(hertz) or hertz[0] <= tick <= hertz[-1]]
    below = {
        "title": {"text": "Hz", "standoff": 6},
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{t:g}" for t in ticks],
    }
    heading = title("Spectrum of each kind of sensor", "median channel; the band holds the middle half of the channels")
    drawn = _rows(kinds, heading, below)
    for place, kind in enumerate(kinds):
        unit = LOOKS[kind].unit
        squared = f"({unit})²/Hz" if "/" in unit else f"{unit}²/Hz"
        drawn[_axis_name(place)] |= {"title": {"text": squared}, "type": "log", "exponentformat": "power", "dtick": 1}
    return {"data": traces, "layout": drawn, "config": figure_config("meg_spectra")}


def spectra_caption(found: MegDescription) -> str:
    """Say how to read the plot."""
    return (
        "Both axes are logarithmic. Brain activity falls off towards high frequencies, with a bump near 10 Hz in many "
        "people; a narrow peak at 50 or 60 Hz and its multiples comes from the power line, and a steep fall near the "
        f"right end from the filter before sampling at {found.sampling_rate:,.6g} Hz."
    )


def _band(hertz: np.ndarray, quartiles: np.ndarray, kind: str, place: int) -> list[dict[str, Any]]:
    look, shared = LOOKS[kind], {"type": "scatter", "mode": "lines", "x": packed(hertz), "yaxis": f"y{place + 1}"}
    low, middle, high = (packed(np.where(line > 0, line, np.nan)) for line in quartiles)
    hidden = {**shared, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    filled = {"fill": "tonexty", "fillcolor": _pale(look.colour)}
    drawn = {**shared, "y": middle, "name": f"{look.name}s", "line": {"color": look.colour, "width": 2}}
    hover = f"%{{x:.3~g}} Hz: %{{y:.3~g}}<extra>{look.name}s</extra>"
    return [{**hidden, "y": low}, {**hidden, "y": high, **filled}, {**drawn, "hovertemplate": hover}]


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.25)"


# ------------------------------------------------------------------------------------------------------- sensor map


def sensor_figure(found: MegDescription) -> Figure | None:
    """Draw where the sensors sit, seen from above with the nose up; None where no position is known."""
    places = _places(found)
    if not places:
        return None
    traces = [
        *(_markers(found, kind, places) for kind in kinds_of(found.sensors)),
        *([_bad_markers(found, places)] if set(found.bads) & set(found.sensors.names) else []),
    ]
    ends = np.array(list(places))
    middle, reach = (ends.max(axis=0) + ends.min(axis=0)) / 2, 0.53 * float(np.ptp(ends, axis=0).max() or 1.0)
    hidden = {"visible": False, "showgrid": False}
    drawn = layout(
        height=480,
        margin={"l": 14, "r": 14, "t": 84, "b": 30},
        title=title("Where the sensors sit", _system(found)),
        xaxis=axis(**hidden, range=[middle[0] - reach, middle[0] + reach], constrain="domain"),
        yaxis=axis(**hidden, range=[middle[1] - reach, middle[1] + reach], scaleanchor="x", constrain="domain"),
        annotations=directions(),
        legend=bottom_legend(title={"text": ""}),
    )
    return {"data": traces, "layout": drawn, "config": figure_config("meg_sensors")}


def sensor_caption(found: MegDescription) -> str:
    """Say how to read the map."""
    unknown = len(found.sensors) - sum(map(len, _places(found).values()))
    left_out = f" {counted(unknown, 'channel')} without a position are left out." if unknown else ""
    return (
        "The helmet from above, flattened: the nose is at the top, the left ear on the left. Several sensors can share "
        f"a place; the pointer names them.{left_out}"
    )


def _places(found: MegDescription) -> dict[tuple[float, float], list[int]]:
    """Group channels by the place they share, to a hundredth of the map's size."""
    flat = np.asarray(found.flat, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(flat).all(axis=1)) if len(flat) else np.array([], dtype=np.int64)
    if not len(known):
        return {}
    grid = float(np.ptp(flat[known], axis=0).max()) / 100 or 1.0
    places: dict[tuple[float, float], list[int]] = {}
    at: dict[tuple[int, int], tuple[float, float]] = {}
    for channel in known.tolist():
        cell = (round(flat[channel, 0] / grid), round(flat[channel, 1] / grid))
        place = at.setdefault(cell, (float(flat[channel, 0]), float(flat[channel, 1])))
        places.setdefault(place, []).append(channel)
    return places


def _markers(found: MegDescription, kind: str, places: dict[tuple[float, float], list[int]]) -> dict[str, Any]:
    look = LOOKS[kind]
    shown = {at: own for at, own in places.items() if any(found.sensors.kinds[one] == kind for one in own)}
    name = counted(len(found.sensors.of_kind(kind)), look.name)
    marker = {"symbol": look.symbol, "size": look.size, "color": look.colour, "line": {"width": 1.5}}
    return _spots(found, shown, name, marker)


def _bad_markers(found: MegDescription, places: dict[tuple[float, float], list[int]]) -> dict[str, Any]:
    bad = set(found.bads)
    shown = {at: own for at, own in places.items() if any(found.sensors.names[one] in bad for one in own)}
    marker = {"symbol": "x-thin", "size": 16, "color": BAD_COLOUR, "line": {"width": 3, "color": BAD_COLOUR}}
    return _spots(found, shown, f"{len(bad & set(found.sensors.names))} marked as bad", marker)


def _spots(
    found: MegDescription, shown: dict[tuple[float, float], list[int]], name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    at = np.array(list(shown)).reshape(-1, 2)
    drawn = {"type": "scatter", "mode": "markers", "x": packed(at[:, 0]), "y": packed(at[:, 1]), "name": name}
    told = [_told(found, own) for own in shown.values()]
    return {**drawn, "marker": marker, "text": told, "hovertemplate": "%{text}<extra></extra>"}


def _told(found: MegDescription, channels: Sequence[int]) -> str:
    """Name the sensors of a place: ``MEG0113 (gradiometer)``, a line each."""
    bad = set(found.bads)
    names, kinds = found.sensors.names, found.sensors.kinds
    return "<br>".join(
        f"{plain(names[one])} ({LOOKS[kinds[one]].name}{', bad' if names[one] in bad else ''})" for one in channels
    )


def _system(found: MegDescription) -> str:
    system = plain(found.sensors.system) or "unknown system"
    bads = [plain(name) for name in found.bads[:NAMES_SHOWN]]
    more = f" and {len(found.bads) - NAMES_SHOWN} more" if len(found.bads) > NAMES_SHOWN else ""
    return f"{system}; bad: {', '.join(bads)}{more}" if bads else f"{system}; none marked as bad"


def directions() -> list[dict[str, Any]]:
    """Return the words at the edges of a map that is seen from above with the nose up."""
    shared = {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 12, "color": INK}}
    where = {
        "front": (0.5, 1, "center", "bottom"),
        "left": (0, 0.5, "left", "middle"),
        "right": (1, 0.5, "right", "middle"),
    }
    return [
        {**shared, "text": text, "x": x, "y": y, "xanchor": across, "yanchor": down}
        for text, (x, y, across, down) in where.items()
    ]


# ------------------------------------------------------------------------------------------------------------- rows


def _axis_name(place: int) -> str:
    return "yaxis" if place == 0 else f"yaxis{place + 1}"


def _rows(kinds: Sequence[str], heading: dict[str, Any], below: dict[str, Any]) -> dict[str, Any]:
    """Return the layout of a plot for each kind below each other, over one axis."""
    n = max(1, len(kinds))
    gap = 0.06 if n > 1 else 0.0
    size = (1 - gap * (n - 1)) / n
    tops = [1 - place * (size + gap) for place in range(n)]
    upright = {_axis_name(place): axis(domain=[max(0.0, top - size), top]) for place, top in enumerate(tops)}
    return layout(
        height=150 + ROW * n,
        margin={"l": 66, "r": 14, "t": 84, "b": 56},
        title=heading,
        xaxis=axis(**below, anchor=f"y{n}"),
        legend=bottom_legend(traceorder="normal"),
        **upright,
    )
