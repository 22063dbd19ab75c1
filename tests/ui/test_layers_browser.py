"""The tab "Layers" in a real browser, over made findings and the real t-SNE."""

import csv
import json
import zipfile

import numpy as np
import pytest
import soundfile

from tests.ui.conftest import ROOT
from tests.ui.page import MAP, PCA, LayersPage

EXAMPLES = ROOT / "assets" / "examples"
PHONES = "one_sentence.TextGrid"


@pytest.fixture(scope="module")
def three_clips(chromium, fake_app):
    """A page with a finished analysis of the example "Three clips": the first click on a fresh page."""
    page = LayersPage(chromium.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True), fake_app)
    page.example("Three clips")
    page.wait_for_result()
    yield page
    assert page.outside == []
    assert page.errors == []
    page.page.close()


def labels(page, selector: str) -> list[list[str]]:
    cells = page.page.locator(f"{selector} tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in cells]


def test_the_first_click_shows_matrices_and_axes(three_clips):
    page = three_clips
    assert "showing 300 of 1,200 frames" in page.page.locator("#layers-facts").inner_text()
    titles = page.page.locator("#layers-matrices h3").all_inner_texts()
    assert titles == ["fake-encoder", "fake-encoder (random weights)"]
    page.page.wait_for_selector("#layers-matrices .js-plotly-plot")
    assert page.graph("#layers-matrices .js-plotly-plot", "graph._fullData[0].z.length") == 7
    assert len(page.places(PCA)) == 300
    page.page.wait_for_selector("#layers-statistics .js-plotly-plot")


def test_the_slider_moves_points_without_asking_the_server(three_clips):
    page, asked = three_clips, []
    page.page.locator(".strata-layer").fill("0")
    before = page.places(PCA)
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.locator(".strata-layer").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    assert page.page.locator(".strata-slider output").inner_text() == "3 of 6"
    page.wait_until(lambda: page.places(PCA) != before)
    expected = page.graph(PCA, "graph.layout.sliders[0].steps[3].args[1]['xaxis.title.text']")
    assert page.graph(PCA, "graph._fullLayout.xaxis.title.text") == expected
    page.page.locator(".strata-layer").fill("0")
    page.wait_until(lambda: page.places(PCA) == before)
    assert asked == []


def test_colours_change_without_asking_the_server(three_clips):
    page, asked = three_clips, []
    page.page.on("request", lambda request: asked.append(request.url))
    offered = page.page.locator(".strata-colour option").all_inner_texts()
    assert offered == ["time", "recording", "phone", "word", "speaker"]
    page.page.locator(".strata-colour").select_option(label="recording")
    page.wait_until(lambda: set(page.graph(PCA, "Array.from(graph._fullData[0].marker.color)")) == {0, 1, 2})
    page.page.locator(".strata-colour").select_option(label="time")
    assert asked == []


@pytest.mark.parametrize("row", [20, 230])
def test_a_click_plays_that_stretch_of_the_right_recording(three_clips, row):
    page = three_clips
    _, recording, start, stop = page.graph(PCA, f"Array.from(graph._fullData[0].customdata[{row}])")
    # Points lie on each other: the one to be clicked is brought alone into view.
    page.page.evaluate(
        f"(() => {{ const g = document.querySelector('{PCA}'), d = g._fullData[0], x = d.x[{row}], y = d.y[{row}]; "
        "Plotly.relayout(g, {'xaxis.range': [x - .01, x + .01], 'yaxis.range': [y - .01, y + .01]}) })()"
    )
    page.page.wait_for_timeout(300)
    page.page.locator(".strata-how-long").locator("visible=true").select_option("0.5")
    page.click_graph(PCA, f"l.xaxis.l2p(d.x[{row}])", f"l.yaxis.l2p(d.y[{row}])")
    page.page.locator(".strata-heard").get_by_text(f"{start:.3f} to {stop:.3f} s").wait_for()
    name = ["one_sentence.flac", "two_voices.flac", "test_sounds.flac"][int(recording)]
    assert name in page.page.locator(".strata-heard").inner_text()
    middle = (start + stop) / 2
    page.wait_until(lambda: page.player("audio.paused") and page.player("audio.currentTime") >= middle + 0.2)
    # On a busy machine the player stops late; it does not go on to the end, seconds later.
    assert page.player("audio.currentTime") < middle + 2
    seconds = soundfile.info(EXAMPLES / name).duration
    assert page.player("audio.duration") == pytest.approx(seconds, abs=0.01)


def test_a_map_forms_and_the_slider_says_where_there_is_none(three_clips):
    page = three_clips
    page.page.locator(".strata-layer").fill("2")
    page.watch()
    page.wait_for_map()
    assert "layer 2: perplexity 30, n = 300" in page.note()
    # Neighbouring rows were made with the same phone: a map of them spreads.
    assert np.std(page.places(MAP)) > 1
    first = page.places(MAP)
    page.page.locator(".strata-layer").fill("3")
    elsewhere = page.page.locator("#layers-map figure.strata-elsewhere, #layers-map .strata-elsewhere")
    elsewhere.first.wait_for(state="attached")
    page.watch()
    page.wait_until(lambda: "layer 3: perplexity" in page.note(), 60)
    page.wait_until(lambda: page.graph(MAP, "graph?.dataset.layer") == "3")
    second = page.places(MAP)
    assert second != first
    page.page.locator(".strata-layer").fill("2")
    page.wait_until(lambda: np.allclose(page.places(MAP), first, atol=1e-5))


def test_a_lasso_lists_rows_and_gives_a_csv(three_clips, tmp_path):
    page = three_clips
    page.page.evaluate(f"Plotly.relayout(document.querySelector('{PCA}'), {{'xaxis.autorange': true}})")
    page.lasso(PCA)
    page.page.wait_for_selector("#layers-chosen table")
    rows = page.graph(PCA, "Array.from(graph._fullData[0].selectedpoints)")
    assert 0 < len(rows) < 300
    assert f"{len(rows):,} rows chosen" in page.page.locator("#layers-chosen").inner_text()
    with page.page.expect_download() as waiting:
        page.page.locator("#layers-chosen-file").click()
    waiting.value.save_as(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        written = list(csv.reader(file))
    assert written[0] == ["recording", "start (s)", "stop (s)", "phone", "word", "speaker"]
    assert len(written) == len(rows) + 1
    start = page.graph(PCA, f"graph._fullData[0].customdata[{rows[0]}][2]")
    assert written[1][0].endswith(".flac")
    assert float(written[1][1]) == pytest.approx(start, abs=1e-3)
    assert labels(page, "#layers-chosen")[0] == written[1]
    page.page.locator(".strata-lasso").click()


def test_another_model_and_space_keep_the_layer(three_clips):
    page = three_clips
    page.page.locator(".strata-layer").fill("4")
    page.page.locator("#layers-dimensions").get_by_label("3-D").click()
    page.wait_until(lambda: page.graph(PCA, "graph?._fullData?.[0].type") == "scatter3d")
    page.page.locator("#layers-shown").get_by_label("random weights").click()
    page.wait_until(lambda: "random weights" in (page.graph(PCA, "graph?._fullLayout?.title.text") or ""))
    page.page.locator("#layers-dimensions").get_by_label("2-D").click()
    page.wait_until(lambda: page.graph(PCA, "graph?._fullData?.[0].type") == "scatter")
    page.wait_until(lambda: page.graph(PCA, "graph?.dataset.layer") == "4")
    assert page.page.locator(".strata-slider output").inner_text() == "4 of 6"
    page.page.locator("#layers-shown").get_by_label("fake-encoder", exact=True).click()


def test_properties_comparison_and_files(three_clips, tmp_path):
    page = three_clips
    page.page.get_by_role("tab", name="Properties").click()
    page.page.wait_for_selector("#layers-properties .js-plotly-plot")
    assert "Phone probe" in page.page.locator("#layers-properties h3").all_inner_texts()
    page.page.get_by_role("tab", name="Compare").click()
    assert labels(page, "#layers-comparison")[0][0]
    page.page.get_by_role("tab", name="Files").click()
    page.page.locator("#layers-make-files").click()
    page.page.wait_for_selector("#layers-files a[download='report.html']")
    with zipfile.ZipFile(page.download("layers.zip", tmp_path)) as archive:
        assert {"layers/figures/pca.svg", "layers/report.html", "layers/data/points.csv"} <= set(archive.namelist())
        summary = json.loads(archive.read("layers/summary.json"))
    offered = page.page.locator("#layers-files a[download]").evaluate_all("links => links.map(link => link.download)")
    assert sorted(set(offered)) == ["layers.zip", "pca.svg", "report.html", "summary.json"]
    # The maps that were watched are in the files.
    assert any(summary["models"][0]["tsne"])
    assert json.loads(page.download("summary.json", tmp_path).read_text()) == summary


def test_two_models_with_alignments(visit_layers, fake_app, tmp_path):
    (tmp_path / PHONES).write_text("not read by the fake")
    (tmp_path / "who.csv").write_text("file,speaker\none_sentence.flac,anna\n")
    page = visit_layers(fake_app)
    page.choose(EXAMPLES / "one_sentence.flac", EXAMPLES / "two_voices.flac", tmp_path / PHONES, tmp_path / "who.csv")
    page.page.locator("#layers-about").get_by_text(
        "2 recordings, 12 s; speakers of 1 of 2 recordings; alignments for 1 of them."
    ).wait_for()
    page.page.locator("#layers-compare input").click()
    page.page.get_by_role("option", name="another-fake").click()
    page.page.get_by_text("Rows, similarity and device").click()
    page.page.get_by_label("Words").click()
    page.start()
    page.wait_for_result()
    heads = page.page.locator("#layers-matrices h3").all_inner_texts()
    assert len(heads) == 5
    assert heads[2] == "Layers of two models"
    page.page.get_by_role("tab", name="Compare").click()
    head = page.page.locator("#layers-comparison th").all_inner_texts()
    assert head == ["", "fake-encoder", "another-fake", "What the numbers support"]
    # A click on a word plays that word.
    assert page.page.locator(".strata-how-long").locator("visible=true").input_value() == "row"
    assert page.errors == []


def test_what_is_not_taken_is_said(visit_layers, fake_app, tmp_path):
    page = visit_layers(fake_app)
    page.start()
    assert "There is no recording yet." in page.wait_for_card("No result")
    page.page.get_by_text("Rows, similarity and device").click()
    page.page.get_by_label("Phones").click()
    page.choose(EXAMPLES / "two_voices.flac")
    page.start()
    assert "no alignment for any of the 1 recordings" in page.wait_for_card("no alignment")
    page.page.get_by_label("Frames").click()
    page.page.locator("#layers-source").get_by_label("Clear").click()
    soundfile.write(tmp_path / "broken.wav", np.zeros(16_000), 16_000)
    page.choose(tmp_path / "broken.wav")
    page.start()
    told = page.wait_for_card("broken.wav is empty. Record it again.")
    assert "/" not in told
    assert page.page.locator("#layers-start").is_enabled()
    assert not page.page.locator("#layers-results").is_visible()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious_and_a_phone_needs_no_sideways_scrolling(visit_layers, fake_app, theme, width):
    page = visit_layers(fake_app, theme=theme, width=width)
    buttons = "#layers-source"  # Gradio puts a button into the button that takes more files
    assert page.serious_faults(buttons) == []
    page.example("Sentence and two voices")
    page.wait_for_result()
    page.watch()
    page.wait_for_map()
    page.lasso(MAP)
    page.page.wait_for_selector("#layers-chosen table")
    page.page.get_by_text("Rows, similarity and device").click()
    assert page.serious_faults(buttons) == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_controls_can_be_reached_by_keyboard(three_clips):
    page = three_clips
    page.page.get_by_role("tab", name="Layers").focus()
    reached = set()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate(
            "(() => { const e = document.activeElement, l = e.labels?.[0]; "
            "const named = ['aria-valuetext', 'aria-label'].map(n => e.getAttribute(n)).find(n => n); "
            "return named || l?.innerText || e.innerText })()"
        ).strip().partition("\n")[0])  # fmt: skip
    wanted = {"Three clips", "Sentence and two voices", "Model", "Second model", "Analyse", "Choose rows with a lasso"}
    assert wanted <= reached
    assert {"Watch t-SNE of this layer", "Perplexity"} <= reached
    assert any(name.startswith("layer ") for name in reached)
    assert any(name.startswith("Colour by") for name in reached)
