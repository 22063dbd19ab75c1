"""Figures of emotion carry the records' numbers, claim no more than intervals allow, and show where a head abstains."""

import base64
import json
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from core.errors import InputError
from core.figures.emotion import belief, confusion, maps, prediction, scores, style, tables, training
from core.figures.plotly_json import to_json
from core.scoring import Estimate
from tests.scoring_fakes import make_emotion, make_map, make_metrics, make_prediction

HOSTILE = "</script><b>x"
CASES = {"two": (2, 2), "twelve": (12, 12)}


def unpacked(spec):
    flat = np.frombuffer(base64.b64decode(spec["bdata"]), dtype="<" + spec["dtype"])
    return flat.reshape([int(n) for n in spec["shape"].split(",")]) if "shape" in spec else flat


@pytest.fixture(scope="module")
def findings():
    return make_emotion(each=2)


@pytest.fixture(scope="module")
def found_map():
    return make_map(7, 10, 1)


def of_findings(findings):
    return [
        scores.overview_figure(findings),
        scores.recalls_figure(findings),
        scores.folds_figure(findings),
        scores.layer_weights_figure(findings.main),
        scores.cross_figure(findings.cross),
        confusion.confusion_figure(findings.main),
        belief.reliability_figure(findings.main),
        belief.coverage_figure(findings.main),
    ]


def of_sound(said):
    return [prediction.prediction_figure(said), prediction.timeline_figure(said)]


def of_map(found):
    return [
        *(maps.map_figure(found, method, colour) for method in found.maps for colour in maps.COLOURINGS),
        *(maps.similarity_figure(found, kind) for kind in maps.KINDS),
    ]


@pytest.mark.parametrize("case", CASES)
def test_plotly_accepts_every_figure_and_each_has_a_title(case):
    n_classes, n_speakers = CASES[case]
    figures = [
        *of_findings(make_emotion(n_classes, n_speakers, each=1)),
        *of_sound(make_prediction("sure", n_classes)),
        *of_sound(make_prediction("silence", n_classes)),
        *of_map(make_map(n_classes, n_speakers, 1)),
        training.training_figure(make_metrics()),
        training.training_figure([]),
    ]
    for figure in figures:
        read = json.loads(to_json(figure))
        go.Figure(data=read["data"], layout=read["layout"])
        assert read["layout"]["title"]["text"]
        assert read["layout"]["title"]["subtitle"]["text"]
        assert figure["config"]["showSendToCloud"] is False


def test_what_is_not_defined_leaves_a_gap(findings):
    nothing = Estimate(float("nan"))
    main = findings.main
    table = main.confusion.copy()
    table[0] = 0
    broken = replace(
        main,
        recalls=(nothing, *main.recalls[1:]),
        confusion=table,
        folds=(replace(main.folds[0], uar=float("nan")), *main.folds[1:]),
        abstention=replace(main.abstention, accuracy=float("nan"), coverage=0.0, curve=np.zeros((0, 3))),
    )
    for figure in of_findings(replace(findings, main=broken)):
        json.loads(to_json(figure), parse_constant=pytest.fail)
    assert scores.recalls_figure(replace(findings, main=broken))["data"][0]["x"][0] is None
    said = make_prediction("silence")
    unknown = replace(said, clip=replace(said.clip, probabilities=np.full(7, np.nan)))
    json.loads(to_json(prediction.prediction_figure(unknown)), parse_constant=pytest.fail)
    assert tables.prediction_table(unknown).rows[0][1] == "–"


# Scores


def test_the_headline_holds_all_scores_with_their_intervals(findings):
    uar, wa, chance, majority = scores.overview_figure(findings)["data"]
    named = [findings.main, findings.baseline, findings.shuffled]
    assert uar["x"] == [one.uar.value for one in named]
    assert wa["x"] == [one.wa.value for one in named]
    np.testing.assert_allclose(np.array(uar["x"]) + uar["error_x"]["array"], [one.uar.high for one in named])
    np.testing.assert_allclose(np.array(uar["x"]) - uar["error_x"]["arrayminus"], [one.uar.low for one in named])
    assert chance["x"] == [1 / 7, 1 / 7]
    assert majority["x"] == [findings.main.majority] * 2


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Estimate(0.5, 0.45, 0.55), "above the baseline"),
        (Estimate(0.65, 0.6, 0.71), "not told apart from the baseline: the intervals overlap"),
        (Estimate(0.9, 0.85, 0.95), "below the baseline"),
        (Estimate(0.1), "not compared with the baseline, since intervals are missing"),
    ],
)
def test_a_difference_is_claimed_only_where_intervals_do_not_touch(findings, other, told):
    changed = replace(
        findings,
        main=replace(findings.main, uar=Estimate(0.75, 0.7, 0.8)),
        baseline=replace(findings.baseline, uar=other),
    )
    assert f"; {told}." in scores.overview_caption(changed)


def test_two_speakers_have_no_intervals_and_nothing_is_claimed():
    few = make_emotion(2, 2)
    caption = scores.overview_caption(few)
    assert "No intervals: too few speakers." in caption
    assert "above" not in caption
    assert scores.overview_figure(few)["data"][0]["error_x"]["visible"] is False
    assert tables.score_table(few).note == "No intervals: too few speakers."


def test_every_fold_is_drawn_with_its_speakers(findings):
    figure = scores.folds_figure(findings)
    assert figure["data"][0]["y"] == [fold.uar for fold in findings.main.folds]
    assert figure["layout"]["xaxis"]["ticktext"] == [f"S{n:02d}" for n in range(10)]
    fold = findings.main.folds[3]
    told = figure["data"][0]["hovertext"][3]
    assert "S03" in told and f"{fold.n} clips" in told and f"temperature {fold.temperature:.2f}" in told
    spread = np.std([one.uar for one in findings.main.folds], ddof=1)
    assert f"standard deviation {100 * spread:.1f} points" in scores.folds_caption(findings)


def test_layer_weights_are_means_over_folds(findings):
    bars, dots = scores.layer_weights_figure(findings.main)["data"]
    shares = np.array([list(fold.layer_weights.values()) for fold in findings.main.folds])
    np.testing.assert_allclose(bars["y"], shares.mean(axis=0))
    assert len(dots["y"]) == shares.size


def test_other_corpora_stand_beside_their_own_folds(findings):
    there, own, chance = scores.cross_figure(findings.cross)["data"]
    assert there["x"] == [0.44, 0.52]
    assert own["x"] == [0.71, findings.main.uar.value]
    assert chance["x"] == [1 / 5, 1 / 5]
    assert "1,056 clips of 24 speakers, 5 shared classes" in scores.cross_caption(findings.cross)


# Confusion


def test_cells_hold_shares_of_rows_and_clips(findings):
    main = findings.main
    cells = confusion.confusion_figure(main)["data"][0]
    shares = main.confusion / main.confusion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unpacked(cells["z"]), shares, atol=1e-6)
    for row, recall in enumerate(main.recalls):
        assert cells["text"][row][row] == f"<b>{100 * recall.value:.0f}%</b><br>{main.confusion[row, row]}"
    assert cells["hovertext"][0][1].startswith("anger taken for boredom")
    off = main.confusion.copy()
    np.fill_diagonal(off, 0)
    assert {cells["text"][r][c] for r, c in np.argwhere(off > 0)} == {str(n) for n in off[off > 0]}


def test_the_most_frequent_mistake_is_named(findings):
    table = np.eye(7, dtype=np.int64) * 10
    table[2, 5] = 4
    assert "Most often mistaken: disgust for neutral, 4 of 14." in confusion.confusion_caption(
        replace(findings.main, confusion=table)
    )
    assert "mistaken" not in confusion.confusion_caption(replace(findings.main, confusion=np.eye(7, dtype=np.int64)))


# Belief


def test_calibration_shows_bins_before_and_after(findings):
    main = findings.main
    _, before, after = belief.reliability_figure(main)["data"]
    np.testing.assert_array_equal(after["x"], main.reliability.confidence)
    np.testing.assert_array_equal(before["y"], main.reliability_uncalibrated.accuracy)
    counts = main.reliability.counts
    assert after["hovertext"][0].endswith(f"{counts[0]} clips")
    assert f"a bin of {counts.min()} to {counts.max()} clips" in belief.reliability_caption(main)
    assert style.decimal(main.ece) in belief.reliability_caption(main)


def test_the_chosen_threshold_is_marked_on_the_curve(findings):
    found = findings.main.abstention
    line, star = belief.coverage_figure(findings.main)["data"]
    np.testing.assert_allclose(line["x"], found.curve[:, 1])
    assert (star["x"], star["y"]) == ([found.coverage], [found.accuracy])


# Classes


def test_classes_are_told_apart_without_colours():
    looks = [style.class_look(place) for place in range(12)]
    assert len({look.symbol for look in looks}) == 12
    assert len({(look.colour, look.dash) for look in looks}) == 12
    assert len({look.colour for look in looks[:8]}) == 8


# Predictions


@pytest.mark.parametrize("kind", ["unsure", "silence", "short", "unlike"])
def test_no_class_stands_out_where_the_head_abstains(kind):
    said = make_prediction(kind)
    bars, threshold = prediction.prediction_figure(said)["data"]
    assert set(bars["marker"]["color"]) == {prediction.GREY}
    assert bars["marker"]["pattern"]["shape"] == "/"
    title = prediction.said_title(said)
    assert title == f"Nothing is said: {style.WHY[kind]}"
    assert not any(label in title for label in said.labels)
    assert threshold["x"] == [said.threshold] * 2
    # Classes keep their order, so that none stands first.
    assert [row[0] for row in tables.prediction_table(said).rows] == list(said.labels)


def test_what_is_said_has_the_one_colour():
    said = make_prediction("sure")
    bars = prediction.prediction_figure(said)["data"][0]
    place = said.labels.index(said.clip.label)
    assert [at for at, colour in enumerate(bars["marker"]["color"]) if colour == style.MAIN] == [place]
    assert bars["x"][place] == said.clip.probabilities.max()


def test_every_mark_of_the_timeline_carries_the_seconds_of_its_window():
    said = make_prediction("sure", seconds=9)
    figure = prediction.timeline_figure(said)
    windows = np.array([[one.start, one.stop] for one in said.timeline])
    lines = [trace for trace in figure["data"] if trace.get("mode") == "lines+markers"]
    assert len(lines) == 7
    for place, line in enumerate(lines):
        np.testing.assert_allclose(unpacked(line["customdata"]), windows)
        heard = [np.nan if one.why == "silence" else one.probabilities[place] for one in said.timeline]
        np.testing.assert_allclose(unpacked(line["y"]), heard, atol=1e-6)
    strip = [trace for trace in figure["data"] if trace["type"] == "bar"]
    ends = np.concatenate([unpacked(trace["customdata"]) for trace in strip])
    np.testing.assert_allclose(ends[np.argsort(ends[:, 0])], windows)
    # The strip has no gaps: it covers the recording once.
    assert sum(float(unpacked(trace["width"]).sum()) for trace in strip) == pytest.approx(9)


def test_windows_that_say_nothing_are_grey_hatched_and_counted():
    said = make_prediction("sure")
    silent = [one for one in said.timeline if not one.label]
    assert silent
    figure = prediction.timeline_figure(said)
    hatched = [trace for trace in figure["data"] if trace["name"].startswith("nothing said")]
    assert sum(len(trace["y"]) for trace in hatched) == len(silent) == len(figure["layout"]["shapes"])
    assert {trace["marker"]["color"] for trace in hatched} == {prediction.GREY}
    assert f"nothing is said of {len(silent)} of them" in prediction.timeline_caption(said)
    assert not {note["text"] for note in figure["layout"]["annotations"]} - set(said.labels)


def test_silent_windows_have_no_lines_and_can_still_be_clicked():
    said = make_prediction("silence")
    rows = [row for row, one in enumerate(said.timeline) if one.why == "silence"]
    figure = prediction.timeline_figure(said)
    lines = [trace for trace in figure["data"] if trace["name"] in said.labels and trace["type"] == "scatter"]
    assert len(lines) == len(said.labels)
    assert all(np.isnan(unpacked(trace["y"])[rows]).all() for trace in lines)
    (unseen,) = [trace for trace in figure["data"] if trace["name"] == "silence"]
    ends = [[said.timeline[row].start, said.timeline[row].stop] for row in rows]
    np.testing.assert_allclose(unpacked(unseen["customdata"]), ends)
    assert unseen["hoverinfo"] == "none"


def test_a_recording_of_one_window_has_a_timeline_of_one():
    figure = prediction.timeline_figure(make_prediction("short", seconds=1.0))
    assert figure["layout"]["xaxis"]["range"] == [0, 1]


# Training


def test_curves_of_all_folds_and_the_latest_stands_out():
    lines = make_metrics(n_folds=3, n_epochs=8)
    figure = training.training_figure(lines)
    drawn = [trace for trace in figure["data"] if trace["mode"] == "lines" and trace["x"] != [None]]
    assert len(drawn) == 9
    assert [trace["line"]["width"] for trace in drawn] == [1] * 6 + [2.5] * 3
    assert drawn[1]["y"] == [line["loss"] for line in lines if line["fold"] == 0 and line["split"] == "eval"]
    rings = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    losses = [line["loss"] for line in lines if line["fold"] == 1 and line["split"] == "eval"]
    assert (rings[1]["x"], rings[1]["y"]) == ([1 + int(np.argmin(losses))], [min(losses)])
    assert figure["layout"]["title"]["subtitle"]["text"] == "fold 3, validation fold 1 of 3: epoch 4"


def test_results_of_folds_are_left_out():
    lines = make_metrics(n_folds=2, n_epochs=6)
    among = [*lines[:12], {"part": "main", "fold": 0, "uar": 0.5, "n": 9}, *lines[12:]]
    assert training.training_figure(among) == training.training_figure(lines)
    assert training.training_caption(among).startswith("2 fits, a line each")


# Maps


def test_points_carry_their_clips_and_begin_with_the_colour_asked_for(found_map):
    figure = maps.map_figure(found_map, "PCA", "speaker")
    points = figure["data"][0]
    np.testing.assert_array_equal(unpacked(points["customdata"]), np.arange(len(found_map.clips)))
    np.testing.assert_allclose(unpacked(points["x"]), found_map.maps["PCA"][:, 0])
    shown = [trace["name"] for trace in figure["data"][1:] if trace["visible"]]
    assert len(shown) == 10 and all(name.startswith("S0") for name in shown)
    assert points["hovertext"][3].split("<br>") == [
        found_map.clips[3], str(found_map.labels[3]), str(found_map.speakers[3])
    ]  # fmt: skip
    assert "have the same speaker (by chance 10.0 %)" in maps.map_caption(found_map, "PCA")


def test_unknown_maps_are_refused(found_map):
    with pytest.raises(InputError, match="PCA, t-SNE, UMAP"):
        maps.map_figure(found_map, "tsne")
    with pytest.raises(InputError, match="emotion, speaker"):
        maps.map_figure(found_map, "PCA", "pitch")
    with pytest.raises(InputError, match="cosine, euclidean"):
        maps.similarity_figure(found_map, "dot")


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_similarities_stand_in_order_of_emotion_and_speaker(found_map, kind):
    figure = maps.similarity_figure(found_map, kind)
    rows = np.array(figure["layout"]["meta"]["clips"])
    keys = [(found_map.labels[row], found_map.speakers[row]) for row in rows]
    assert keys == sorted(keys) and len(set(rows)) == len(found_map.clips)
    matrix = getattr(found_map, kind)
    np.testing.assert_allclose(unpacked(figure["data"][0]["z"]), matrix[np.ix_(rows, rows)])
    assert figure["layout"]["xaxis"]["ticktext"] == sorted(set(found_map.labels))


def test_many_clips_are_chosen_evenly_and_said(monkeypatch, found_map):
    monkeypatch.setattr(maps, "MOST_CLIPS", 20)
    figure = maps.similarity_figure(found_map)
    assert unpacked(figure["data"][0]["z"]).shape == (20, 20)
    assert f"showing 20 of {len(found_map.clips)} clips" in maps.similarity_caption(found_map)


# Tables


def test_tables_hold_what_was_found(findings, found_map):
    assert [row[0] for row in tables.score_table(findings).rows][:3] == [
        "UAR (mean recall)",
        "WA (share right)",
        "macro F1",
    ]
    assert len(tables.fold_table(findings).rows) == 10
    assert tables.class_table(findings).rows[0][1] == str(findings.main.confusion[0].sum())
    assert tables.mapping_table(findings).rows[0] == ("AN", "anger", str(findings.main.confusion[0].sum()))
    assert tables.cross_table(findings.cross).rows[0][6] == "20.0 %"
    assert tables.failure_table(findings).rows[0][0] == "broken.wav"
    assert tables.cluster_table(found_map).rows[1][3] == "–"
    near = tables.neighbour_table(found_map, 5)
    assert [row[0] for row in near.rows] == [found_map.clips[one.clip] for one in found_map.neighbours[5]]
    said = make_prediction("sure")
    assert {row[2] for row in tables.window_table(said).rows} >= {"nothing: silence"}


def test_names_from_outside_are_no_markup(findings):
    main = replace(findings.main, name=HOSTILE, labels=(HOSTILE, *findings.main.labels[1:]))
    main = replace(main, folds=tuple(replace(fold, speakers=(HOSTILE,)) for fold in main.folds))
    cross = tuple(replace(one, train=HOSTILE, test=HOSTILE) for one in findings.cross)
    said = make_prediction("sure")
    said = replace(said, labels=(HOSTILE, *said.labels[1:]), clip=replace(said.clip, label=HOSTILE))
    for figure in [*of_findings(replace(findings, main=main, cross=cross)), *of_sound(said)]:
        assert "<b>x" not in json.dumps({key: figure[key] for key in ("data", "layout")})
