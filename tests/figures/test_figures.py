"""Figures are valid plotly, carry the numbers they were given, and say how much they show."""

import base64
import json

import numpy as np
import plotly.graph_objects as go
import pytest

from core.analysis.views import view_image, view_path, view_signal
from core.audio.signal import Signal
from core.clock import FrameClock
from core.figures.path import axis_titles, path_figure, path_title
from core.figures.plotly_json import DIVERGING, VIRIDIS, packed, to_json
from core.figures.timeline import row_name, timeline_caption, timeline_figure

CLOCK = FrameClock(hop=320, field=400, sampling_rate=16_000)


def unpacked(spec):
    flat = np.frombuffer(base64.b64decode(spec["bdata"]), dtype="<" + spec["dtype"])
    return flat.reshape([int(n) for n in spec["shape"].split(",")]) if "shape" in spec else flat


@pytest.fixture(scope="module")
def sound():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 64_000).astype(np.float32)
    with Signal.from_array(samples, 16_000) as signal:
        return view_signal(signal)


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(1).normal(size=(199, 24)).astype(np.float32)


@pytest.mark.parametrize("three_d", [False, True])
def test_plotly_accepts_the_path(values, three_d):
    figure = json.loads(to_json(path_figure(view_path(values, CLOCK, 2), "x", three_d)))
    go.Figure(data=figure["data"], layout=figure["layout"])


def test_plotly_accepts_the_timeline(sound, values):
    figure = json.loads(to_json(timeline_figure(sound, view_image(values, CLOCK, 2), "x")))
    go.Figure(data=figure["data"], layout=figure["layout"])


def test_the_timeline_carries_the_views_numbers_on_one_axis(sound, values):
    image = view_image(values, CLOCK, 2)
    ribbon, low, high, spectrogram, embedding = timeline_figure(sound, image, "x")["data"]
    np.testing.assert_array_equal(unpacked(low["y"]), sound.envelope[:, 0])
    np.testing.assert_array_equal(unpacked(high["y"]), sound.envelope[:, 1])
    np.testing.assert_array_equal(unpacked(spectrogram["z"]), sound.spectrogram.decibels)
    np.testing.assert_array_equal(unpacked(embedding["z"]), image.image.values)
    np.testing.assert_allclose(unpacked(embedding["x"]), image.edges, atol=1e-6)
    assert all("xaxis" not in trace for trace in (ribbon, low, high, spectrogram, embedding))
    assert len({trace["yaxis"] for trace in (ribbon, low, spectrogram, embedding)}) == 4


def test_the_axis_spans_the_whole_recording(sound, values):
    layout = timeline_figure(sound, view_image(values, CLOCK, 2), "x")["layout"]
    assert layout["xaxis"]["range"] == [0, 4.0]


def test_the_path_carries_points_times_and_frames(values):
    view = view_path(values, CLOCK, 2)
    trace = path_figure(view, "x")["data"][0]
    np.testing.assert_array_equal(unpacked(trace["x"]), view.path.points[:, 0])
    told = unpacked(trace["customdata"])
    np.testing.assert_allclose(told[:, 0], view.centres, atol=1e-6)
    np.testing.assert_array_equal(told[:, 1], np.arange(199))
    assert trace["mode"] == "lines+markers"


def test_axes_name_the_variance_they_explain():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40_000, 2)) * np.sqrt([3.0, 1.0])
    first, second, third = axis_titles(view_path(values, CLOCK, 0))
    assert first.startswith("PC 1 (7")
    assert second.startswith("PC 2 (2")
    assert third == "PC 3 (0.0 % of variance)"


def test_thinned_frames_are_admitted_and_not_joined_by_lines():
    view = view_path(np.random.default_rng(3).normal(size=(93_211, 4)).astype(np.float32), CLOCK, 7)
    assert path_title(view) == "PCA of layer 7, showing 4,000 of 93,211 frames, axes fitted on 20,000"
    assert path_figure(view, "x")["data"][0]["mode"] == "markers"


def test_all_frames_shown_are_just_counted(values):
    assert path_title(view_path(values, CLOCK, 0)) == "PCA of layer 0, 199 frames"


def test_the_caption_says_what_columns_average(sound):
    values = np.random.default_rng(4).normal(size=(5_000, 600)).astype(np.float32)
    told = timeline_caption(sound, view_image(values, CLOCK, 7))
    assert "Layer 7: mean of each 5.0 frames of 5,000" in told
    assert "each row the mean of about 2.3 dims" in told
    assert "Spectrogram: every window of 25 ms" in told
    assert "lowest and highest of each 32 samples" in told


def test_big_recordings_send_little(sound):
    values = np.random.default_rng(5).normal(size=(30_000, 512)).astype(np.float32)
    assert len(to_json(timeline_figure(sound, view_image(values, CLOCK, 0), "x"))) < 3e6
    assert len(to_json(path_figure(view_path(values, CLOCK, 0), "x"))) < 3e5


@pytest.mark.parametrize("array", [np.arange(5), np.linspace(0, 1, 7), np.ones((3, 4), np.float32)])
def test_packing_round_trips_at_four_bytes_a_value(array):
    spec = packed(array)
    np.testing.assert_allclose(unpacked(spec), array, rtol=1e-7)
    assert len(base64.b64decode(spec["bdata"])) == 4 * array.size


def test_values_that_are_not_finite_are_a_bug():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": float("nan")})


@pytest.mark.parametrize(
    ("dims", "name"), [((7,), "dim 7"), ((12, 7), "dims 7, 12"), ((12, 3, 7, 9), "dims 3, 7, 9, ...")]
)
def test_rows_are_named_by_their_dims(dims, name):
    assert row_name(dims) == name


@pytest.mark.parametrize("scale", [VIRIDIS, DIVERGING])
def test_colour_scales_stay_apart_for_colour_blind_readers(scale):
    """Neighbouring steps differ in lightness (viridis), or the two halves in blue against yellow (diverging)."""
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for _, colour in scale]) / 255
    lightness = rgb @ [0.2126, 0.7152, 0.0722]
    blue_minus_yellow = rgb[:, 2] - rgb[:, :2].mean(axis=1)
    if scale is VIRIDIS:
        assert np.all(np.diff(lightness) > 0.02)
    else:
        assert np.all(blue_minus_yellow[:3] > 0.1)
        assert np.all(blue_minus_yellow[-3:] < -0.1)
