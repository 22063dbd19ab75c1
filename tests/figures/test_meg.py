"""The figures of MEG, against planted channels, spectra, places and trainings."""

import base64
import math
from dataclasses import replace

import numpy as np
import pytest

from core.figures.meg.recording import (
    butterfly_caption,
    butterfly_figure,
    sensor_caption,
    sensor_figure,
    spectra_figure,
    thinned,
)
from core.figures.meg.training import CURVES, averaged, curve_figure, training_figures
from core.figures.plotly_json import to_json
from tests.meg_fakes import PLACES, make_description
from tests.pretrain_lines import make_lines

BAD = "MEG0012"
"""The made recording's channel that is marked as bad, and six times as loud as the others."""


@pytest.fixture(scope="module")
def found():
    return make_description()


def unpacked(values) -> np.ndarray:
    """Numbers as plotly.js reads them."""
    if isinstance(values, list):
        return np.array(values, dtype=np.float64)
    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=f"<{values['dtype']}")


def by_name(figure: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in figure["data"] if trace.get("showlegend") is not False}


def channels(trace: dict) -> list[np.ndarray]:
    """The channels that one line with gaps holds."""
    values = unpacked(trace["y"])
    ends = np.flatnonzero(np.isnan(values))
    return [values[start:stop] for start, stop in zip(np.append(-1, ends[:-1]) + 1, ends, strict=True)]


# -------------------------------------------------------------------------------------------------------- butterfly


def test_thinning_keeps_the_least_and_the_largest_value_of_every_channel():
    values = np.random.default_rng(0).normal(size=(3, 10_007))
    values[1, 5_000] = 40.0
    times, kept = thinned(np.arange(10_007.0), values, most=600)
    assert kept.shape == (3, len(times))
    assert kept.size <= 600
    np.testing.assert_array_equal(kept.max(axis=1), values.max(axis=1))
    np.testing.assert_array_equal(kept.min(axis=1), values.min(axis=1))
    # The spike stands where it was, to the length of a stretch.
    assert abs(times[int(kept[1].argmax())] - 5_000) <= 10_007 / 100
    assert thinned(np.arange(4.0), values[:, :4])[1].shape == (3, 4)


def test_every_channel_is_drawn_once_and_bad_ones_apart(found):
    drawn = by_name(butterfly_figure(found))
    n_grads = 2 * PLACES
    assert set(drawn) == {
        f"{PLACES} magnetometers", f"{n_grads - 1} gradiometers", "1 gradiometer, marked as bad"
    }  # fmt: skip
    assert len(channels(drawn[f"{PLACES} magnetometers"])) == PLACES
    (bad,) = channels(drawn["1 gradiometer, marked as bad"])
    own = found.butterfly[found.sensors.names.index(BAD)]
    assert bad.max() == pytest.approx(own.max() - own.mean(), rel=1e-5)


def test_the_stretch_that_is_drawn_is_told(found):
    def told(seconds: float) -> str:
        return butterfly_figure(replace(found, seconds=seconds))["layout"]["title"]["subtitle"]["text"]

    end = float(found.times[-1])
    assert told(12 * end).endswith(f"the first {end:.0f} s of {12 * end:,.1f} s at {found.sampling_rate:,.6g} Hz")
    assert "first" not in told(end)


def test_a_bad_channel_neither_sets_the_scale_nor_goes_unnamed(found):
    figure = butterfly_figure(found)
    good = [place for place in found.sensors.of_kind("grad") if found.sensors.names[place] != BAD]
    values = found.butterfly[good] - found.butterfly[good].mean(axis=1, keepdims=True)
    assert figure["layout"]["yaxis2"]["range"][1] == pytest.approx(1.05 * np.abs(values).max(), rel=1e-5)
    assert figure["layout"]["yaxis2"]["title"]["text"] == "fT/cm"
    assert BAD in butterfly_caption(found)


def test_channels_without_numbers_and_without_positions_are_drawn_as_gaps(found):
    broken = found.butterfly.copy()
    broken[0], broken[1, :50] = np.nan, np.nan
    hollow = replace(found, butterfly=broken, flat=np.full_like(found.flat, np.nan))
    assert "NaN" not in to_json(butterfly_figure(hollow))
    assert sensor_figure(hollow) is None
    partly = replace(found, flat=np.where(np.arange(len(found.flat))[:, None] < 3, np.nan, found.flat))
    assert "3 channels without a position" in sensor_caption(partly)


# ---------------------------------------------------------------------------------------------------------- spectra


def test_spectra_are_the_quartiles_over_frequencies_above_zero(found):
    figure = spectra_figure(found)
    for kind, name in (("mag", "magnetometers"), ("grad", "gradiometers")):
        line = by_name(figure)[name]
        np.testing.assert_allclose(unpacked(line["x"]), found.frequencies[1:], rtol=1e-6)
        np.testing.assert_allclose(unpacked(line["y"]), found.spectra[kind][1, 1:], rtol=1e-6)
    low, high = (unpacked(trace["y"]) for trace in figure["data"][:2])
    np.testing.assert_allclose(high / low, 4.0, rtol=1e-5)  # planted: half and twice the median
    layout = figure["layout"]
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("log", "log")
    assert (layout["yaxis"]["title"]["text"], layout["yaxis2"]["title"]["text"]) == ("fT²/Hz", "(fT/cm)²/Hz")


# ------------------------------------------------------------------------------------------------------- sensor map


def test_sensors_that_share_a_place_are_named_together(found):
    drawn = by_name(sensor_figure(found))
    mags = drawn[f"{PLACES} magnetometers"]
    assert len(unpacked(mags["x"])) == PLACES
    assert mags["text"][1] == f"MEG0011 (magnetometer)<br>{BAD} (gradiometer, bad)<br>MEG0013 (gradiometer)"
    bad = drawn["1 marked as bad"]
    np.testing.assert_allclose(
        [unpacked(bad["x"])[0], unpacked(bad["y"])[0]], found.flat[found.sensors.names.index(BAD)], rtol=1e-5
    )


def test_names_of_channels_are_no_markup(found):
    names = ("<b>x</b>", *found.sensors.names[1:])
    text = to_json(sensor_figure(replace(found, sensors=replace(found.sensors, names=names))))
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text


# --------------------------------------------------------------------------------------------------------- training


def test_loss_stands_beside_guessing_and_accuracy_beside_chance():
    lines = make_lines(60)
    figures = {figure["layout"]["title"]["text"]: figure for figure, _ in training_figures(lines)}
    assert set(figures) == {"Loss", "Accuracy", "Codes in use", "Learning rate"}
    levels = {name: figure["data"][-1]["y"][0] for name, figure in figures.items() if name != "Learning rate"}
    assert levels == pytest.approx({"Loss": math.log(101), "Accuracy": 1 / 101, "Codes in use": 50})
    held_out = by_name(figures["Loss"])["held-out windows"]
    np.testing.assert_array_equal(unpacked(held_out["x"]), [10, 20, 30, 40, 50, 60])
    assert unpacked(held_out["y"])[-1] == pytest.approx(4.65 - 0.8)
    # A resting value is no value: the evaluation knows no learning rate.
    assert list(by_name(figures["Learning rate"])) == ["training windows"]
    assert "3.720 in training, 3.850 held out" in figures["Loss"]["layout"]["title"]["subtitle"]["text"]


def test_steps_that_were_done_again_after_a_crash_count_once():
    lines = make_lines(20)
    again = [{**line, "contrastive_loss": 1.0} for line in lines if line["step"] > 10]
    trace = by_name(curve_figure(CURVES[0], [*lines, *again]))["training windows"]
    np.testing.assert_array_equal(unpacked(trace["x"]), np.arange(1, 21))
    np.testing.assert_allclose(unpacked(trace["y"])[10:], 1.0)


def test_a_long_training_is_averaged_and_keeps_its_mean():
    values = np.random.default_rng(0).normal(size=9_000)
    steps, kept = averaged(np.arange(9_000.0), values, most=900)
    assert len(kept) == 900
    assert kept.mean() == pytest.approx(values.mean())
    assert kept.std() == pytest.approx(1 / math.sqrt(10), rel=0.1)
    assert np.all(np.diff(steps) == 10)


def test_nothing_measured_is_nothing_drawn():
    assert training_figures([]) == []
    assert training_figures([{"fold": 0, "uar": 0.5}]) == []
    only_first = training_figures([{"step": 1, "split": "train", "contrastive_loss": 4.6, "chance": None}])
    assert [len(figure["data"]) for figure, _ in only_first] == [1]
