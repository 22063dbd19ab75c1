"""Figures of layers carry the records' numbers, in numeric order, with n, intervals, floors and marks."""

import base64
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest

from core.errors import DataError, InputError
from core.figures.layers import colouring, curves, scatter, similarity, style, variances
from core.figures.plotly_json import to_json
from core.findings import RowTable
from tests.findings_fakes import make_findings, without_times

HOSTILE = "</script><img src=x onerror=alert(1)>"


def unpacked(spec):
    flat = np.frombuffer(base64.b64decode(spec["bdata"]), dtype="<" + spec["dtype"])
    return flat.reshape([int(n) for n in spec["shape"].split(",")]) if "shape" in spec else flat


@pytest.fixture(scope="module")
def two():
    return make_findings(n_models=2, n_layers=7, n=240, control=True)


@pytest.fixture(scope="module")
def deep():
    return make_findings(n_layers=24, n=90, dim=8)


@pytest.fixture(scope="module")
def alone():
    return make_findings(n_layers=3, n=60, n_recordings=1)


def figures(findings):
    made = [similarity.similarity_figure(model.similarity) for model in findings.models]
    made += [similarity.similarity_figure(findings.cross)] if findings.cross else []
    made += [curves.statistic_figure(findings, name) for name in curves.STATISTICS]
    made += [curves.property_figure(findings, name) for name in curves.property_names(findings)]
    made += [curves.explained_figure(findings), variances.variance_figure(findings.models)]
    made += [scatter.pca_figure(model, three_d) for model in findings.models for three_d in (False, True)]
    return [*made, *(scatter.tsne_figure(model) for model in findings.models)]


def restyled(figure, step):
    """What the browser makes of a step: arguments of ``update`` applied to the first trace and to the layout."""
    data, layout, traces = figure["layout"]["sliders"][0]["steps"][step]["args"]
    assert traces == [0]
    return {key: unpacked(value[0]) for key, value in data.items()}, layout


@pytest.mark.parametrize("name", ["two", "deep", "alone"])
def test_plotly_accepts_every_figure_and_none_holds_what_json_lacks(name, request):
    for figure in figures(request.getfixturevalue(name)):
        read = json.loads(to_json(figure))
        go.Figure(data=read["data"], layout=read["layout"])


@pytest.mark.parametrize("name", ["two", "deep", "alone"])
def test_every_figure_says_its_title_and_n(name, request):
    for figure in figures(request.getfixturevalue(name)):
        heading = figure["layout"]["title"]
        assert heading["text"]
        assert any(word in heading["subtitle"]["text"] for word in ("n = ", "showing", "frames"))


def test_no_figure_offers_to_upload_itself(two):
    assert all(figure["config"]["showSendToCloud"] is False for figure in figures(two))


# Similarity


def test_the_matrix_is_drawn_as_it_is_with_layer_0_at_the_lower_left(deep):
    matrix = deep.models[0].similarity
    figure = similarity.similarity_figure(matrix)
    cells = figure["data"][0]
    np.testing.assert_allclose(unpacked(cells["z"]), matrix.matrix, atol=1e-6)
    assert (cells["zmin"], cells["zmax"]) == (0, 1)
    assert figure["layout"]["yaxis"]["range"] == [-0.5, 23.5]


def test_layers_stand_in_numeric_order(deep):
    axes = similarity.similarity_figure(deep.models[0].similarity)["layout"]
    assert [int(text) for text in axes["xaxis"]["ticktext"]] == list(range(0, 24, 2))
    line = curves.statistic_figure(deep, "std")["data"][0]
    assert line["x"] == list(range(24))
    steps = scatter.pca_figure(deep.models[0])["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == [str(layer) for layer in range(24)]


def test_hover_tells_the_value_with_its_interval(two):
    matrix = two.models[0].similarity
    text = similarity.similarity_figure(matrix)["data"][0]["hovertext"][2][5]
    assert text == (
        f"layer 2 × layer 5<br><b>{matrix.matrix[2, 5]:.3f}</b> [{matrix.low[2, 5]:.3f}, {matrix.high[2, 5]:.3f}]"
    )


def test_cells_below_the_noise_floor_are_hatched_and_said(two):
    matrix = replace(two.models[0].similarity, noise_floor=0.6)
    below = np.abs(matrix.matrix) < 0.6
    figure = similarity.similarity_figure(matrix)
    strokes = next(trace for trace in figure["data"] if trace.get("name", "").startswith("hatched"))
    x, y = unpacked(strokes["x"]), unpacked(strokes["y"])
    # Strokes run along diagonals of a cell; their middles lie inside it.
    starts = np.flatnonzero(np.isfinite(x) & np.isfinite(np.roll(x, -1)))
    cells = {(round((y[i] + y[i + 1]) / 2 + 1e-6), round((x[i] + x[i + 1]) / 2 + 1e-6)) for i in starts[1::3]}
    assert cells == set(zip(*map(np.ndarray.tolist, np.nonzero(below)), strict=True))
    texts = np.array(figure["data"][0]["hovertext"])
    assert (np.char.find(texts, "below the noise floor") >= 0).tolist() == below.tolist()
    assert f"{below.sum():,} of 49 cells are below" in similarity.similarity_caption(matrix)


def test_nothing_is_hatched_above_the_floor(two):
    figure = similarity.similarity_figure(replace(two.models[0].similarity, noise_floor=0.0))
    assert not any("hatched" in trace.get("name", "") for trace in figure["data"])


def test_clusters_are_outlined_where_they_lie(two):
    matrix = replace(two.models[0].similarity, clusters=((0, 1), (2, 3, 4), (5, 6)))
    shapes = similarity.similarity_figure(matrix)["layout"]["shapes"]
    corners = {(shape["x0"], shape["y0"], shape["x1"], shape["y1"]) for shape in shapes}
    assert corners == {(-0.5, -0.5, 1.5, 1.5), (1.5, 1.5, 4.5, 4.5), (4.5, 4.5, 6.5, 6.5)}


def test_chosen_layers_keep_their_numbers(two):
    matrix = two.models[0].similarity
    chosen = replace(
        matrix, rows=(0, 6, 12), columns=(0, 6, 12), matrix=np.eye(3), low=None, high=None, clusters=((0,), (6, 12))
    )
    layout = similarity.similarity_figure(chosen)["layout"]
    assert layout["xaxis"]["ticktext"] == ["0", "6", "12"]
    assert (layout["shapes"][-1]["x0"], layout["shapes"][-1]["x1"]) == (0.5, 2.5)


def test_the_cosine_has_a_scale_of_two_sides(two):
    cells = similarity.similarity_figure(replace(two.models[0].similarity, kind="cosine"))["data"][0]
    assert (cells["zmin"], cells["zmax"]) == (-1, 1)


def test_two_models_are_named_on_their_axes_and_fine_tuned_ones_marked(two):
    layout = similarity.similarity_figure(two.cross, marks={"facebook/wav2vec2-base-960h": "fine-tuned"})["layout"]
    assert layout["yaxis"]["title"]["text"] == "layer of wav2vec2-base"
    assert layout["xaxis"]["title"]["text"].endswith("960h (fine-tuned)")


def test_undefined_similarities_are_gaps_and_say_so(two):
    matrix = two.models[0].similarity.matrix.copy()
    matrix[0, 3] = np.nan
    figure = similarity.similarity_figure(replace(two.models[0].similarity, matrix=matrix))
    assert "not defined" in json.loads(to_json(figure))["data"][0]["hovertext"][0][3]


# Curves


def test_models_controls_shuffled_labels_and_chance_are_told_apart(two):
    drawn = [trace for trace in curves.property_figure(two, "phone_accuracy")["data"] if isinstance(trace["y"], dict)]
    lines = {trace["name"]: trace for trace in drawn}
    base, tuned = lines["facebook/wav2vec2-base"], lines["facebook/wav2vec2-base-960h (fine-tuned)"]
    control = lines["facebook/wav2vec2-base (random weights)"]
    assert base["line"]["color"] != tuned["line"]["color"]
    assert base["marker"]["symbol"] != tuned["marker"]["symbol"]
    assert control["line"] == base["line"] | {"dash": "dash"}
    assert lines["facebook/wav2vec2-base, shuffled labels"]["line"]["dash"] == "dot"
    assert unpacked(lines["chance (20.0 %)"]["y"]) == pytest.approx([0.2, 0.2])


def test_lines_carry_values_and_bands_their_intervals(two):
    curve = next(one for one in two.models[0].curves if one.name == "phone_mi")
    band, line = curves.property_figure(two, "phone_mi")["data"][:2]
    np.testing.assert_allclose(unpacked(line["y"]), curve.values, rtol=1e-6)
    ends = unpacked(band["y"])
    np.testing.assert_allclose(ends[:7], curve.low, rtol=1e-6)
    np.testing.assert_allclose(ends[7:][::-1], curve.high, rtol=1e-6)
    assert f"[{curve.low[3]:.4g}, {curve.high[3]:.4g}]" in line["hovertext"][3]


def test_without_intervals_there_is_no_band(alone):
    traces = curves.property_figure(alone, "phone_cca")["data"]
    assert not any(trace.get("fill") for trace in traces)


def test_the_legend_has_each_role_once(two):
    figure = curves.explained_figure(two)
    shown = [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)]
    assert len(shown) == len(set(shown)) == 5
    assert "noise floor" in shown


def test_buttons_add_up_axes(two):
    figure = curves.explained_figure(two, axes=2)
    for button, axes in zip(figure["layout"]["updatemenus"][0]["buttons"], curves.EXPLAINED_AXES, strict=True):
        told = button["args"][0]["y"]
        expected = [100 * layer.explained[:axes].sum() for layer in two.models[0].projections]
        np.testing.assert_allclose(unpacked(told[0]), expected, rtol=1e-5)
        # Lines come first, then the legend's lines, which nobody restyles.
        traces = button["args"][1]
        assert len(traces) == len(told) == 8
        assert all("bdata" in figure["data"][trace]["y"] for trace in traces)
    floor = 100 * two.models[0].projections[0].noise_floor[:2].sum()
    assert unpacked(figure["data"][1]["y"])[0] == pytest.approx(floor, rel=1e-5)


def test_mean_and_deviation_make_a_band(two):
    band = unpacked(curves.statistic_figure(two, "mean_std")["data"][0]["y"])
    layers = two.models[0].statistics
    np.testing.assert_allclose(band[:7], [layer.mean - layer.std for layer in layers], rtol=1e-5)


@pytest.mark.parametrize("draw", [curves.statistic_figure, curves.property_figure])
def test_an_unknown_name_is_refused_with_the_known_ones(two, draw):
    with pytest.raises(InputError, match="expected one of"):
        draw(two, "nonsense")


# Variances


def test_violins_hold_all_variances_as_logarithms_where_they_span_decades(two):
    model = two.models[0]
    wide = replace(
        model, statistics=tuple(replace(layer, variances=np.logspace(-4, 2, 16)) for layer in model.statistics)
    )
    figure = variances.variance_figure([wide])
    violin = figure["data"][0]
    np.testing.assert_allclose(unpacked(violin["y"])[:16], np.linspace(-4, 2, 16), atol=1e-6)
    assert unpacked(violin["x"]).tolist() == np.repeat(np.arange(7), 16).tolist()
    assert "100" in figure["layout"]["yaxis"]["ticktext"]


def test_dims_that_never_vary_are_left_out_and_said(two):
    model = two.models[0]
    dead = np.concatenate([[0.0, 0.0], np.logspace(-2, 2, 14)])
    some = replace(model, statistics=tuple(replace(layer, variances=dead) for layer in model.statistics))
    assert np.isfinite(unpacked(variances.variance_figure([some])["data"][0]["y"])).all()
    assert "Left out: 14 dims" in variances.variance_caption([some])


def test_outlier_dimensions_are_named(two):
    model = two.models[0]
    loud = replace(model, statistics=(replace(model.statistics[0], outlier_dimensions=(13, 2)), *model.statistics[1:]))
    traces = variances.variance_figure([loud])["data"]
    crosses = next(trace for trace in traces if "outlier" in trace.get("name", ""))
    assert [text.split(":")[0] for text in crosses["hovertext"][:2]] == ["layer 0, dim 13", "layer 0, dim 2"]


def test_two_models_stand_back_to_back_and_controls_elsewhere(two):
    violins = [trace for trace in variances.variance_figure(two.models)["data"] if trace["type"] == "violin"]
    assert [violin["side"] for violin in violins] == ["negative", "positive"]


# Points


@pytest.mark.parametrize("three_d", [False, True])
def test_the_slider_has_every_layers_points(two, three_d):
    model = two.models[0]
    figure = scatter.pca_figure(model, three_d)
    steps = figure["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == [str(layer) for layer in model.layers]
    for place, layer in enumerate(model.projections):
        data, _ = restyled(figure, place)
        for column, letter in enumerate("xyz" if three_d else "xy"):
            expected = layer.pca[:, column] / layer.pca[:, 0].std()
            # The sign of an axis is free.
            agreement = np.sign(data[letter] @ expected)
            np.testing.assert_allclose(data[letter], agreement * expected, atol=1e-5)


def test_the_figure_begins_with_the_layer_asked_for(two):
    figure = scatter.pca_figure(two.models[0], layer=4)
    data, layout = restyled(figure, 4)
    np.testing.assert_array_equal(unpacked(figure["data"][0]["x"]), data["x"])
    assert figure["layout"]["sliders"][0]["active"] == 4
    assert figure["layout"]["xaxis"]["title"]["text"] == layout["xaxis.title.text"]


def test_axis_titles_follow_the_layer_with_share_and_noise(two):
    layer = two.models[0].projections[5]
    _, layout = restyled(scatter.pca_figure(two.models[0]), 5)
    expected = f"PC 1 ({100 * layer.explained[0]:.1f} %; noise {100 * layer.noise_floor[0]:.1f} %)"
    assert layout["xaxis.title.text"] == expected


def test_an_axis_that_does_not_exist_says_so(two):
    flat = replace(two.models[0].projections[0], explained=np.array([1.0]), noise_floor=np.array([1.0]))
    assert scatter.axis_title(flat, 1) == "PC 2 (does not exist)"


def test_ranges_hold_for_all_layers(two):
    figure = scatter.pca_figure(two.models[0])
    low, high = figure["layout"]["xaxis"]["range"]
    for place in range(7):
        x = restyled(figure, place)[0]["x"]
        assert np.mean((x >= low) & (x <= high)) >= scatter.INSIDE


def test_one_far_point_does_not_squeeze_the_others_and_is_admitted(two):
    model = two.models[0]
    pca = model.projections[0].pca.copy()
    pca[0, 1] = 500.0
    far = replace(model, projections=(replace(model.projections[0], pca=pca), *model.projections[1:]))
    assert scatter.pca_figure(far)["layout"]["yaxis"]["range"][1] < 50
    assert "1 points a layer lie outside" in scatter.pca_caption(far)


def test_points_can_be_found_again(two):
    table = two.models[0].table
    told = unpacked(scatter.pca_figure(two.models[0])["data"][0]["customdata"])
    np.testing.assert_array_equal(told[:, 0], np.arange(240))
    np.testing.assert_array_equal(told[:, 1], table.recording)
    np.testing.assert_allclose(told[:, 2:], np.column_stack([table.start, table.stop]), atol=1e-5)


def test_samples_are_admitted(two):
    assert scatter.pca_figure(two.models[0])["layout"]["title"]["subtitle"]["text"] == "showing 240 of 960 frames"
    whole = replace(two.models[0], table=replace(two.models[0].table, n_total=240))
    assert scatter.pca_figure(whole, span="phone")["layout"]["title"]["subtitle"]["text"] == "240 phones"


def test_many_points_are_drawn_by_webgl_and_send_little():
    few = make_findings(n_layers=13, n=100, dim=4, with_curves=False).models[0]
    rows = np.tile(np.arange(100), 50)
    many = tuple(replace(layer, pca=layer.pca[rows]) for layer in few.projections)
    model = replace(few, projections=many, table=few.table.take(rows))
    figure = scatter.pca_figure(model)
    assert figure["data"][0]["type"] == "scattergl"
    assert len(to_json(figure)) < 4e6


def test_only_layers_with_tsne_are_on_its_slider(two):
    model = two.models[0]
    some = tuple(replace(layer, tsne=None) if layer.index < 5 else layer for layer in model.projections)
    figure = scatter.tsne_figure(replace(model, projections=some))
    assert [step["label"] for step in figure["layout"]["sliders"][0]["steps"]] == ["5", "6"]
    assert "perplexity 30" in figure["layout"]["xaxis"]["title"]["text"]


def test_without_tsne_the_reason_is_told():
    model = make_findings(n_layers=2, n=60, with_tsne=False).models[0]
    assert scatter.tsne_layers(model) == []
    with pytest.raises(DataError, match="Not asked for"):
        scatter.tsne_figure(model)


# Colours


def table_of(labels):
    n = len(labels)
    return RowTable(
        ("a.wav",), np.zeros(n, np.int32), np.arange(n) / 50, np.arange(n) / 50 + 0.02, {"phone": labels}, n
    )


def with_labels(model, labels):
    n = len(labels)
    projections = tuple(replace(layer, pca=layer.pca[:n], tsne=None) for layer in model.projections)
    return replace(model, table=table_of(np.array(labels)), projections=projections)


def test_frequent_classes_have_their_own_look_and_the_rest_is_other(two):
    labels = [f"p{i:02d}" for i in range(16) for _ in range(16 - i)] + ["", ""]
    figure = scatter.pca_figure(with_labels(two.models[0], labels), colour="phone")
    keys = [trace for trace in figure["data"][1:] if trace["visible"]]
    assert [key["name"] for key in keys[:2]] == ["p00 (16)", "p01 (15)"]
    assert len({(key["marker"]["color"], key["marker"]["symbol"]) for key in keys[:-1]}) == colouring.MOST_CLASSES
    assert keys[-1]["name"] == "other, 4 phones or no label (12)"
    codes = unpacked(figure["data"][0]["marker"]["color"])
    assert codes[0] == 0
    assert set(codes[-12:].tolist()) == {12}


def test_each_point_has_the_colour_of_its_class(two):
    marker = scatter.pca_figure(two.models[0], colour="phone")["data"][0]["marker"]
    codes, stops = unpacked(marker["color"]), marker["colorscale"]
    place = (codes + 0.5) / (marker["cmax"] - marker["cmin"])
    colours = [next(colour for (left, colour), (right, _) in pairwise(stops) if left <= at <= right) for at in place]
    by_class = {}
    for label, colour in zip(two.models[0].table.labels["phone"], colours, strict=True):
        by_class.setdefault(str(label), set()).add(colour)
    assert all(len(found) == 1 for found in by_class.values())
    named = {
        key["name"].split(" ")[0]: key["marker"]["color"]
        for key in colouring.legend_keys(scatter._colouring(two.models[0].table, "phone"), True, "scatter")
    }
    assert {name: found.pop() for name, found in by_class.items()} == named


def test_a_button_for_each_colouring_shows_its_own_legend(two):
    figure = scatter.pca_figure(two.models[0])
    buttons = figure["layout"]["updatemenus"][0]["buttons"]
    assert [button["label"] for button in buttons] == [
        f"colour: {name}" for name in scatter.colourings(two.models[0].table)
    ]
    for button in buttons:
        told = button["args"][0]
        assert {len(value) for value in told.values()} == {len(figure["data"])}
        shown = [
            trace["name"]
            for trace, visible in zip(figure["data"], told["visible"], strict=True)
            if visible and "name" in trace
        ]
        assert (button["label"] == "colour: time") == (not shown)
        assert told["marker.showscale"][0] == (button["label"] == "colour: time")
        own = [trace["marker"]["color"] for trace in figure["data"][1:]]
        assert told["marker.color"][1:] == own


@pytest.mark.parametrize("three_d", [False, True])
def test_points_without_times_are_coloured_by_their_order(two, three_d):
    model = without_times(two).models[0]
    assert scatter.colourings(model.table)[:2] == ["order", "recording"]
    figure = scatter.pca_figure(model, three_d)
    to_json(figure)
    points = figure["data"][0]
    np.testing.assert_array_equal(unpacked(points["marker"]["color"]), np.arange(len(model.table)))
    assert (points["marker"]["cmin"], points["marker"]["cmax"]) == (0, len(model.table) - 1)
    assert points["marker"]["colorbar"]["ticksuffix"] == ""
    assert points["hovertemplate"] == "%{hovertext}<br>point %{customdata[0]:,d}<extra></extra>"
    assert "coloured by their order" in scatter.pca_caption(model) and "by their order" in scatter.tsne_caption(model)
    assert "coloured by their order" not in scatter.pca_caption(two.models[0])


def test_labels_nobody_knows_are_no_colouring(two):
    model = with_labels(two.models[0], [""] * 10)
    assert scatter.colourings(model.table) == ["time"]
    with pytest.raises(InputError, match="expected one of time"):
        scatter.pca_figure(model, colour="phone")


# Names from outside


def test_markup_in_names_stays_text(two):
    model = with_labels(two.models[0], [HOSTILE] * 10)
    model = replace(model, model=HOSTILE, table=replace(model.table, recordings=(HOSTILE,)))
    for figure in (scatter.pca_figure(model, colour="phone"), scatter.pca_figure(model, three_d=True)):
        texts = json.dumps(figure)
        assert "<img" not in texts
        assert "</script" not in texts
        assert "&lt;" in texts


def test_long_names_keep_both_ends_and_what_they_are():
    name = style.display_name("x" * 60 + "-tail (random weights)")
    assert name.endswith("-tail (random weights)")
    assert len(name) == style.NAME_LENGTH + len(style.CONTROL_SUFFIX)


def test_class_colours_are_seen_on_white_and_near_black_and_kept_apart():
    def lightness(colour):
        rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colour in (*style.MODEL_COLOURS,):
        assert 1.05 / (lightness(colour) + 0.05) >= 3
        assert (lightness(colour) + 0.05) / (lightness("#0b1220") + 0.05) >= 3


# Words


def test_one_group_of_all_layers_is_neither_outlined_nor_in_the_legend(two):
    figure = similarity.similarity_figure(replace(two.models[0].similarity, clusters=(tuple(range(7)),)))
    assert not figure["layout"]["shapes"]
    assert not any("outlined" in trace.get("name", "") for trace in figure["data"])


def test_captions_say_a_count_once_and_end_their_sentences(two):
    model = two.models[0]
    n = len(model.table)
    whole = replace(model, table=replace(model.table, n_total=n))
    assert scatter.pca_caption(whole).count(f"{n} frames") == 1
    told = tuple(replace(one, measure="1 for a linear copy", note="No recording") for one in model.curves)
    caption = curves.property_caption(replace(two, models=(replace(model, curves=told),)), "phone_accuracy")
    assert caption.startswith("1 for a linear copy. ") and " No recording. " in caption
    assert "shuffled labels can lie below it" in caption
    matrix = replace(model.similarity, note="Of all rows")
    assert "Of all rows. " in similarity.similarity_caption(matrix)


def test_variances_say_the_dims_of_each_model(two):
    other = make_findings(n_models=2, n_layers=7, n=240, dim=8).models[1]
    models = [two.models[0], other]
    assert "16 against 8 dims" in variances.variance_figure(models)["layout"]["title"]["subtitle"]["text"]
    assert variances.variance_caption(models).endswith("(fine-tuned): 8 dims.")
    assert "dims." not in variances.variance_caption(two.models)[-8:]


def test_titles_of_properties_are_those_of_the_analysis(two):
    from core.analysis import properties

    bare = replace(two, models=())
    assert {name: style.property_title(bare, name) for name in properties._TITLES} == properties._TITLES
