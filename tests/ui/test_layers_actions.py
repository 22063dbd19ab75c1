"""The tab "Layers" without a browser: what is sent, what is kept, what is said."""

import json
import time
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import soundfile

from core.embed.inputs import list_inputs
from core.errors import InputError
from core.tasks import LayersAnalysis
from core.ui import layers_views
from core.ui.errors import shown_errors
from core.ui.layers_actions import STATE_SECONDS, Analysis, LayersActions
from core.ui.sessions import Sessions, Stopped
from core.ui.settings import UiSettings
from core.ui.uploads import sort_uploads
from tests.findings_fakes import MODELS, make_analysis
from tests.layers_fakes import FakeAppTasks

PAGE = SimpleNamespace(session_hash="page")
ASKED = ("fake-encoder", "none", False, "all", "frame", "cka", 50, "auto", "auto", "auto")


@pytest.fixture
def clips(tmp_path) -> list[str]:
    paths = [tmp_path / name for name in ("a.wav", "b.wav")]
    for seed, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 16_000), 16_000)
    return [str(path) for path in paths]


@pytest.fixture
def analysis() -> Analysis:
    findings, points = make_analysis(n=60, n_layers=4, with_tsne=False)
    return Analysis(LayersAnalysis(findings, points))


def actions(tmp_path, **limits) -> LayersActions:
    return LayersActions(FakeAppTasks(), UiSettings(**limits), Sessions(tmp_path / "results"))


def layers(tab: LayersActions, paths: list[str], *changed):
    return tab.layers(paths, *(changed or ASKED), PAGE, lambda *_, **__: None)


def test_alignments_are_told_from_recordings_by_their_suffixes():
    sent = sort_uploads(["x/a.wav", "y/a.TextGrid", "x/b.mp3", "z/c.ctm", "x/c.flac", "y/d.JSON"])
    assert [path.name for path in sent.recordings] == ["a.wav", "b.mp3", "c.flac"]
    assert [path.name for path in sent.alignments] == ["a.TextGrid", "c.ctm", "d.JSON"]
    assert [path.name for path in sent.aligned] == ["a.wav", "c.flac"]
    assert sort_uploads(None).recordings == ()


def test_alignments_lie_in_one_folder_for_the_task(tmp_path, clips):
    (tmp_path / "a.ctm").write_text("a 1 0.0 0.5 one")
    summary, _ = layers(actions(tmp_path), [*clips, str(tmp_path / "a.ctm")])
    assert (summary["n_recordings"], summary["alignments"]) == (2, ["a.ctm"])


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_recordings": 1}, "holds 2 recordings; this app takes up to 1"),
        ({"max_minutes": 1 / 60}, "All together are 2 s long; this app takes up to 1 s"),
        ({"max_upload_mb": 0.01}, r"a.wav has 0.0 MB"),
    ],
)
def test_limits_hold_for_all_recordings_together(tmp_path, clips, limits, told):
    tab = actions(tmp_path, **limits)
    assert told.replace("a.wav has 0.0 MB", "a.wav has") in tab.describe(clips)
    with pytest.raises(gr.Error, match=told):
        layers(tab, clips)


def test_a_folder_as_second_model_is_refused_where_folders_are(tmp_path, clips):
    asked = ("fake-encoder", "/etc", *ASKED[2:])
    with pytest.raises(gr.Error, match="Got the folder '/etc' as model"):
        layers(actions(tmp_path, local_folders=False), clips, *asked)


def test_features_are_found_again_by_the_next_run_of_the_page(tmp_path, clips):
    tab = actions(tmp_path)
    layers(tab, clips)
    kept = tab.sessions.cache("page") / "features"
    before = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    layers(tab, clips)
    assert before
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == before


def test_maps_belong_to_model_and_layer_and_go_into_the_files(analysis):
    made = np.ones((60, 2), dtype=np.float32)
    analysis.maps[MODELS[0], 2] = (made, "a note")
    shown = analysis.complete().findings.models[0].projections
    assert [layer.tsne is not None for layer in shown] == [False, False, True, False]
    assert (shown[2].tsne is made, shown[2].tsne_note) == (True, "a note")
    # What the task returned stays as it was.
    assert all(layer.tsne is None for layer in analysis.found.findings.models[0].projections)


def test_a_map_starts_from_the_nearest_one(analysis):
    for layer in (0, 3):
        analysis.maps[MODELS[0], layer] = (np.full((60, 2), layer, dtype=np.float32), "")
    assert [analysis.nearest_map(MODELS[0], layer)[0, 0] for layer in (1, 2, 3, 0)] == [0, 3, 0, 3]
    assert analysis.nearest_map("another", 1) is None
    with pytest.raises(InputError, match="no such model"):
        analysis.model("another")


def test_stopping_keeps_the_map_so_far(tmp_path, clips):
    tab = actions(tmp_path)
    _, run_id = layers(tab, clips)
    run = tab.find(run_id, PAGE)
    watched = tab.watch(run_id, "fake-encoder", 5, 1, PAGE)
    for _ in range(3):
        *_, note = next(watched)
    assert "iteration 20 of 500" in note
    assert "stopped" not in run.result(Analysis).maps["fake-encoder", 1][1]
    tab.stop_watching(PAGE)
    *_, (value, note) = watched
    assert "iteration 20 of 500" in note
    assert "stopped" in note
    points = run.result(Analysis).maps["fake-encoder", 1][0]
    assert points.shape == (50, 2)
    figure = json.loads(value["figures"][0]["figure"])
    assert [step["label"] for step in figure["layout"]["sliders"][0]["steps"]] == ["1"]


def test_a_map_forms_slowly_enough_to_be_seen_and_says_stopped_only_after_a_stop(tmp_path, clips):
    tab = actions(tmp_path)
    _, run_id = layers(tab, clips)
    times, figures = [], []
    for value, _ in tab.watch(run_id, "fake-encoder", 5, 1, PAGE):
        times.append(time.monotonic())
        figures.append(json.dumps(value))
    # The start, 50 states, and the finished map; the last comes when its neighbours are counted.
    assert len(times) == 52
    assert np.diff(times[:-1]).min() > 0.99 * STATE_SECONDS
    assert not any("stopped" in figure for figure in figures)
    assert ["iteration" in figure for figure in figures] == [True] * 51 + [False]


def test_lists_are_told_from_alignments_by_their_columns(tmp_path):
    texts = {
        "words.csv": "file,start,stop,label\na,0,1,one",
        "who.csv": "File;Speaker\na;anna",
        "who.tsv": "file\tlabel",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    sent = sort_uploads([str(tmp_path / name) for name in texts] + ["x/a.wav"])
    assert [path.name for path in sent.alignments] == ["words.csv"]
    assert [path.name for path in sent.lists] == ["who.csv", "who.tsv"]
    assert [path.name for path in sent.recordings] == ["a.wav"]


def test_speakers_and_labels_reach_the_task_as_a_manifest(tmp_path, clips):
    tab = actions(tmp_path)
    # Names as people give them: with folders, without suffix; a recording that is not there is no matter.
    (tmp_path / "who.csv").write_text("file,speaker\ncorpus\\a.wav, anna\nc.wav,carl\n")
    (tmp_path / "what.csv").write_text("file;label\na;calm\nb;angry\n")
    sent = [*clips, str(tmp_path / "who.csv"), str(tmp_path / "what.csv")]
    assert "2 recordings, 2 s; speakers of 1 of 2 recordings, labels of 2 of 2 recordings" in tab.describe(sent)
    _, run_id = layers(tab, sent)
    items = list_inputs([tab.find(run_id, PAGE).folder / "recordings.csv"])
    assert [(str(item.source), item.speaker, item.label) for item in items] == [
        (clips[0], "anna", "calm"),
        (clips[1], "", "angry"),
    ]
    assert [item.error for item in items] == [None, None]
    assert tab.find(run_id, PAGE).result(Analysis).findings.recordings[1]["path"] == clips[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,speaker\nz.wav,zoe\n", "who.csv names none of the recordings: it names z.wav"),
        ("name,speaker\na,anna\n", "who.csv has the columns name, speaker; expected file with speaker or label"),
        ("", "who.csv has the columns nothing"),
        ("file,speaker\na.wav,anna\na.wav,zoe\n", "names a.wav twice, in different ways"),
    ],
)
def test_a_list_that_cannot_be_used_is_an_error(tmp_path, clips, text, told):
    tab = actions(tmp_path)
    (tmp_path / "who.csv").write_text(text)
    sent = [*clips, str(tmp_path / "who.csv")]
    assert told in tab.describe(sent)
    with pytest.raises(gr.Error, match=told):
        layers(tab, sent)


def test_a_recording_keeps_the_row_of_its_own_suffix(tmp_path):
    (tmp_path / "who.csv").write_text("file,speaker\na.flac,zoe\na.wav,anna\n")
    sent = sort_uploads([str(tmp_path / name) for name in ("a.wav", "a.flac", "who.csv")])
    assert [sent.marks()[path]["speaker"] for path in sent.recordings] == ["anna", "zoe"]


def test_the_files_hold_the_maps(tmp_path, clips):
    tab = actions(tmp_path)
    _, run_id = layers(tab, clips)
    tab.find(run_id, PAGE).result(Analysis).maps["fake-encoder", 0] = (np.zeros((50, 2)), "")
    packed, report, *others = tab.files(run_id, PAGE, lambda *_, **__: None)
    assert report.endswith("report.html")
    assert [path.rpartition("/")[2] for path in others] == ["summary.json", "pca.svg"]
    with zipfile.ZipFile(packed) as archive:
        # Tables are in the zip only, in their folder; no two files that are offered have one name.
        assert "layers/data/summary.json" in archive.namelist()
        summary = json.loads(archive.read("layers/summary.json"))
    assert summary["models"][0]["tsne"][:2] == [True, False]


def test_a_map_can_be_steered_by_the_page_only(analysis):
    figure, _ = layers_views.pca(analysis.model(MODELS[0]), None, False, "frame")
    hidden = figure["layout"]["sliders"] + figure["layout"]["updatemenus"]
    assert [part["visible"] for part in hidden] == [False, False]
    assert len(figure["layout"]["sliders"][0]["steps"]) == 4


def test_what_is_shown_has_no_foreign_markup(analysis):
    findings = analysis.findings
    model = replace(findings.models[0], model="<b>mine</b>", skipped={"phone_mi": "<i>none</i>"})
    findings = replace(findings, models=(model,), warnings=("<u>mind</u>",))
    for told in (layers_views.facts(findings), layers_views.skipped(findings), layers_views.comparison([], findings)):
        assert not any(mark in told for mark in ("<b>", "<i>", "<u>"))
    table = replace(model.table, recordings=("<b>", "b", "c"))
    assert "<b>" not in layers_views.chosen(table)
    assert "showing 60 of 240 frames" in layers_views.facts(findings)


def test_a_cell_of_the_csv_is_no_formula(analysis, tmp_path):
    table = replace(analysis.model(MODELS[0]).table, recordings=("=1+1", "b", "c")).take(np.arange(2))
    layers_views.write_rows(table, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().splitlines()[1].startswith("'=1+1,0.0000,0.0250,")


def test_errors_of_a_watched_callback_reach_the_page_as_well():
    @shown_errors
    def callback(error):
        yield 1
        raise error

    for error, visible in ((InputError("Set it to 9 or less."), True), (Stopped(), False)):
        steps = callback(error)
        assert next(steps) == 1
        with pytest.raises(gr.Error) as caught:
            next(steps)
        assert caught.value.visible is visible


@pytest.mark.parametrize("text", ["0", "1.5", "nan"])
def test_a_count_of_recordings_that_is_none_names_its_variable(text):
    with pytest.raises(InputError, match="STRATA_MAX_RECORDINGS"):
        UiSettings.from_environment({"STRATA_MAX_RECORDINGS": text})
