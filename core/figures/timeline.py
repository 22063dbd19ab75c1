"""Waveform, spectrogram and embedding over one time axis."""

from typing import Any

import numpy as np

from core.analysis.views import ImageView, SignalView
from core.figures.plotly_json import DIVERGING, INK, VIRIDIS, Figure, axis, base_layout, configuration, packed

HEIGHT = 620
"""Pixels."""

BANDS = {"ribbon": (0.975, 1.0), "waveform": (0.80, 0.945), "spectrogram": (0.47, 0.745), "embedding": (0.0, 0.415)}
"""Vertical share of each row, from the bottom (0) to the top (1)."""

HERTZ_TICKS = (500, 1_000, 2_000, 4_000, 8_000, 16_000)
MEG_TICKS = (10, 20, 30, 40)


def timeline_figure(signal: SignalView, layer: ImageView, name: str) -> Figure:
    """Draw the three rows; zooming into one zooms into all, since they share the axis.

    Args:
        signal: The sound.
        layer: The layer to show.
        name: File name, without suffix, of a picture that the reader saves.
    """
    rows = [*_ribbon(signal), *_waveform(signal), _spectrogram(signal), _embedding(layer)]
    return {"data": rows, "layout": _layout(signal, layer), "config": configuration(name)}


def _ribbon(signal: SignalView) -> list[dict[str, Any]]:
    """Return the strip that shows which colour each moment has in the path of frames."""
    edges = np.linspace(0, signal.seconds, 129)
    middles = (edges[:-1] + edges[1:])[None] / 2
    ribbon = {"type": "heatmap", "x": packed(edges), "y": [0, 1], "z": packed(middles), "colorscale": VIRIDIS}
    return [{**ribbon, "showscale": False, "hoverinfo": "skip", "yaxis": "y"}]


def _waveform(signal: SignalView) -> list[dict[str, Any]]:
    """Return the envelope as two lines with the space between them filled."""
    line = {"color": "#2a788e", "width": 1}
    shared = {"type": "scatter", "mode": "lines", "x": packed(signal.times), "line": line, "yaxis": "y2"}
    low = {**shared, "y": packed(signal.envelope[:, 0]), "hoverinfo": "skip"}
    hover = "%{x:.3f} s<extra>waveform</extra>"
    high = {**shared, "y": packed(signal.envelope[:, 1]), "fill": "tonexty", "fillcolor": "rgba(42,120,142,0.75)"}
    return [low, {**high, "hovertemplate": hover}]


def _spectrogram(signal: SignalView) -> dict[str, Any]:
    spectrogram = signal.spectrogram
    hertz = [f"{value:,.0f} Hz" for value in spectrogram.hertz]
    return {
        "type": "heatmap",
        "x": packed(spectrogram.times),
        "y": hertz,
        "z": packed(spectrogram.decibels),
        "yaxis": "y3",
        "colorscale": "Cividis",
        # MEG falls by tens of decibels, and beyond its filter to nothing: the floor of sound would show one colour.
        "zmin": -40 if signal.is_meg else -80,
        "zmax": 0,
        "colorbar": _colour_bar("spectrogram", "dB"),
        "hovertemplate": "%{x:.3f} s, %{y}, %{z:.0f} dB<extra>spectrogram</extra>",
    }


def _embedding(layer: ImageView) -> dict[str, Any]:
    image = layer.image
    return {
        "type": "heatmap",
        "x": packed(layer.edges),
        "y": [row_name(row) for row in image.rows],
        "z": packed(image.values),
        "yaxis": "y4",
        "colorscale": DIVERGING,
        "zmin": -image.limit,
        "zmax": image.limit,
        "colorbar": _colour_bar("embedding", "sd"),
        "hovertemplate": "%{x:.3f} s, %{y}, %{z:.2f} sd<extra>layer " + str(layer.layer) + "</extra>",
    }


def row_name(dims: tuple[int, ...]) -> str:
    """Name the dims of a row, the lowest first: ``dim 7``, ``dims 7, 12``, ``dims 3, 7, 12, ...``."""
    ordered = sorted(dims)
    named = ", ".join(map(str, ordered[:3])) + (", ..." if len(ordered) > 3 else "")
    return f"dim {named}" if len(ordered) == 1 else f"dims {named}"


def _colour_bar(row: str, unit: str) -> dict[str, Any]:
    bottom, top = BANDS[row]
    place = {"y": (bottom + top) / 2, "len": (top - bottom) * 1.12, "yanchor": "middle", "thickness": 10, "x": 1.01}
    return {**place, "outlinewidth": 0, "title": {"text": unit, "side": "top"}, "nticks": 5, "tickcolor": INK}


def _layout(signal: SignalView, layer: ImageView) -> dict[str, Any]:
    spectrogram, n_rows = signal.spectrogram, len(layer.image.rows)
    wanted = MEG_TICKS if signal.is_meg else HERTZ_TICKS
    shown = [(hz, int(np.abs(spectrogram.hertz - hz).argmin())) for hz in wanted if hz <= spectrogram.hertz[-1]]
    ticks = {"tickvals": [index for _, index in shown], "ticktext": [_hertz_label(hz) for hz, _ in shown]}
    quiet = {"showticklabels": False, "showgrid": False, "fixedrange": True}
    dims = sum(map(len, layer.image.rows))
    span = {"range": [0, signal.seconds], "minallowed": 0, "maxallowed": signal.seconds}
    first, second = ("Sensors", "Power spectrum") if signal.is_meg else ("Waveform", "Log-mel spectrogram")
    titles = {"waveform": first, "spectrogram": second, "embedding": f"Layer {layer.layer}"}
    spikes = {"showspikes": True, "spikemode": "across", "spikethickness": 1, "spikecolor": INK, "spikedash": "dot"}
    return base_layout(
        height=HEIGHT,
        margin={"l": 58, "r": 12, "t": 30, "b": 52},
        hovermode="x",
        dragmode="zoom",
        xaxis=axis(title={"text": "time (s)", "standoff": 6}, anchor="y4", showgrid=False, **span, **spikes),
        yaxis=axis(domain=BANDS["ribbon"], **quiet),
        yaxis2=axis(
            domain=BANDS["waveform"], title={"text": "sd" if signal.is_meg else "amplitude"}, nticks=4, fixedrange=True
        ),
        yaxis3=axis(
            domain=BANDS["spectrogram"], title={"text": "Hz"}, type="category", fixedrange=True, showgrid=False, **ticks
        ),
        yaxis4=axis(
            domain=BANDS["embedding"],
            title={"text": f"{dims} dims"},
            type="category",
            range=[-0.5, n_rows - 0.5],
            **quiet,
        ),
        annotations=[_row_title(row, text) for row, text in titles.items()],
    )


def timeline_caption(signal: SignalView, layer: ImageView) -> str:
    """Say what exactly the rows show, and how much of it: columns that average many frames say so."""
    image, dims = layer.image, sum(map(len, layer.image.rows))
    grouped = f"; each row the mean of about {dims / len(image.rows):.1f} dims" if len(image.rows) < dims else ""
    return (
        f"{_about_meg(signal) if signal.is_meg else _about_sound(signal)} "
        f"Layer {layer.layer}: {_shown(image.frames_a_column, 'frame')} of {image.starts[-1]:,}, at the centre of what "
        f"it sees; each dim in its own standard deviations, dims that move together side by side{grouped}."
    )


def _about_sound(signal: SignalView) -> str:
    return (
        f"Sound as the model hears it: mono, {signal.sampling_rate / 1_000:g} kHz. "
        f"Waveform: lowest and highest of each {signal.samples_a_bin:,.0f} samples. "
        f"Spectrogram: {_shown(signal.spectrogram.windows_a_column, 'window')} of 25 ms."
    )


def _about_meg(signal: SignalView) -> str:
    return (
        f"{signal.n_sensors} sensors as the model takes them: prepared, standardised, {signal.sampling_rate:g} Hz. "
        f"Sensors: lowest and highest of all in each {signal.samples_a_bin:,.0f} samples. "
        f"Power spectrum: mean over sensors, {_shown(signal.spectrogram.windows_a_column, 'window')} of 1 s."
    )


def _shown(count: float, what: str) -> str:
    return f"every {what}" if count == 1 else f"mean of each {count:,.1f} {what}s"


def _row_title(row: str, text: str) -> dict[str, Any]:
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": BANDS[row][1], "yref": "paper", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12}}


def _hertz_label(hertz: int) -> str:
    return f"{hertz // 1_000}k" if hertz >= 1_000 else str(hertz)
