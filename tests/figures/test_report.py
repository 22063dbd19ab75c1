"""The report is one file that holds everything, asks for nothing, and takes names from outside as text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from core.analysis.comparison import compare_models
from core.figures.layers.tables import best_table, recording_table
from core.figures.report import report_html
from core.figures.report_page import inline_json
from core.figures.tables import Table
from tests.findings_fakes import make_findings, without_times

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, and text by the element it stands in."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.texts, self._open = [], {}, [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data):
        if self._open:
            self.scripts[self._open] = self.scripts.get(self._open, "") + data
        self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def two():
    return make_findings(n_models=2, n_layers=5, n=120, control=True)


@pytest.fixture(scope="module")
def html(two):
    return report_html(two, compare_models(two), [Table("Extra", ("a",), ((1,),))], ["summary.json"])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def hostile(findings):
    """The same findings with a hostile name wherever a name comes from outside."""
    models = []
    for model in findings.models:
        labels = {kind: np.array([HOSTILE] * len(model.table)) for kind in model.table.labels}
        table = replace(model.table, recordings=(HOSTILE,) * len(model.table.recordings), labels=labels)
        facts = {HOSTILE: HOSTILE}
        models.append(replace(model, model=HOSTILE, table=table, facts=facts, skipped={HOSTILE: HOSTILE}))
    return replace(
        findings,
        models=tuple(models),
        recordings=({"name": HOSTILE, "sha256": HOSTILE, "seconds": 1.0, "frames": 50},),
        failures=({"file": HOSTILE, "error": HOSTILE},),
        warnings=(HOSTILE,),
        versions={HOSTILE: HOSTILE},
    )


def test_every_figure_is_in_the_file_as_json(page):
    figures = [attributes["data-figure"] for attributes in page.named("figure")]
    assert len(figures) == len(set(figures)) >= 20
    for name in figures:
        read = json.loads(page.scripts[name])
        assert read["data"]
        assert read["layout"]["title"]["text"]


def test_nothing_is_asked_from_another_machine(page):
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), attributes
    policy = next(one["content"] for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_plotly_is_in_the_file_once(html):
    assert len(re.findall(r"\* plotly\.js v\d", html)) == 1


@pytest.mark.parametrize(
    "told",
    [
        "Layers of facebook/wav2vec2-base and facebook/wav2vec2-base-960h (fine-tuned)",
        "facebook/wav2vec2-base-960h was trained on labels (marked fine-tuned): compare with that in mind.",
        "not marked as fine-tuned",
        "random weights (control)",
        "sha256: " + "ab" * 6 + "…",
        f"{2:064x}"[:12] + "…",
        "perplexity",
        "2.13.0",
        "How far to believe it",
        "broken.wav holds no sound",
        "Showing 120 of 480 frames.",
        "recording-disjoint",
        "used the seed 0",
        "summary.json",
        "Extra",
        "it does not say what the layers hold",
    ],
)
def test_the_reader_is_told(page, told):
    assert told in " ".join(page.texts)


def test_the_comparison_is_there_word_for_word(page, two):
    texts = set(page.texts)
    for row in compare_models(two):
        assert {row.aspect, row.first, row.second, row.verdict} <= texts | {""}


def test_one_model_needs_no_second_column():
    alone = make_findings(n_layers=3, n=60, n_recordings=1)
    page = Page(report_html(alone, compare_models(alone)))
    assert "what the numbers support" not in page.texts
    assert "With one recording there is no interval: nothing here is known to hold for another one." in page.texts
    assert any("One recording, one speaker" in text for text in page.texts)


def test_a_report_needs_neither_curves_nor_tsne():
    bare = make_findings(n_layers=2, n=60, with_curves=False, with_tsne=False)
    page = Page(report_html(bare))
    assert not any("tsne" in one["data-figure"] or "property" in one["data-figure"] for one in page.named("figure"))


@pytest.mark.parametrize("n_recordings", [1, 3])
def test_features_without_times_make_a_report(n_recordings):
    findings = without_times(make_findings(n_models=2, n_layers=3, n=60, control=True, n_recordings=n_recordings))
    page = Page(report_html(findings, compare_models(findings)))
    text = " ".join(page.texts)
    assert f"recording{'s' * (n_recordings > 1)}, of unknown length, 240 frames" in text
    assert "The features tell no times: points are coloured by their order instead." in text
    assert recording_table(findings).rows[0][1::2] == ("–", "–")
    for name in (attributes["data-figure"] for attributes in page.named("figure")):
        json.loads(page.scripts[name], parse_constant=pytest.fail)


def test_known_lengths_are_added_up_and_the_rest_is_counted(two):
    facts = [{"name": "a", "seconds": 61.0}, {"name": "b", "seconds": None}, {"name": "c"}]
    texts = Page(report_html(replace(two, recordings=tuple(facts)))).texts
    assert any("3 recordings, 1 min 1 s and 2 recordings of unknown length, " in text for text in texts)


def test_controls_and_floors_are_put_into_place(two):
    """Layers of random weights that are all alike are said to be expected, and only these."""
    flat = np.full((5, 5), 0.99)
    trained, tuned, control, other = two.models
    planted = [replace(one, similarity=replace(one.similarity, matrix=flat)) for one in (trained, control)]
    told = " ".join(Page(report_html(replace(two, models=(planted[0], tuned, planted[1], other)))).texts)
    assert told.count("layers that are all alike are to be expected") == 1
    assert "The floor takes rows for independent; neighbouring rows are not" in told


def test_the_best_layer_stands_beside_its_control(two):
    rows = {row[:2]: row for row in best_table(two).rows}
    curve = next(one for one in two.models[0].curves if one.name == "phone_accuracy")
    control = next(one for one in two.models[2].curves if one.name == "phone_accuracy")
    row = rows["Phone probe", "facebook/wav2vec2-base"]
    assert row[2] == str(int(np.argmax(curve.values)))
    assert row[5] == "0.200"
    assert row[7] == f"{curve.values.max() - control.values.max():.3f}"


def test_hostile_names_stay_text(two):
    html = report_html(hostile(two), compare_models(two), [Table(HOSTILE, (HOSTILE,), ((HOSTILE,),))], [HOSTILE])
    page = Page(html)
    assert not page.named("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert html.count("</script>") == len(page.named("script"))
    # All of them arrive, as text.
    assert sum(HOSTILE in text for text in page.texts) > 20
    for attributes in page.named("figure"):
        json.loads(page.scripts[attributes["data-figure"]])


def test_json_in_the_page_reads_back_and_cannot_end_its_element():
    told = {"name": f"{HOSTILE} & <!-- \u2028"}
    assert json.loads(inline_json(told)) == told
    assert not set("<>&") & set(inline_json(told))


def test_names_that_are_no_text_do_not_stop_the_report(two):
    odd = replace(two, recordings=({"name": "caf\udce9.wav", "seconds": 1.0, "frames": 49, "sha256": "0"},))
    assert "caf" in report_html(odd).encode("utf-8").decode("utf-8")


def test_hashes_are_short_and_whole_for_the_pointer(page):
    titles = [attributes["title"] for attributes in page.named("td") if "title" in attributes]
    assert f"{2:064x}" in titles and "sha256: " + "ab" * 32 in titles
    assert f"{2:064x}" not in page.texts


def test_what_was_not_computed_has_its_title(two):
    model = replace(two.models[0], curves=(), skipped={"phone_cca": "No alignments"})
    texts = Page(report_html(replace(two, models=(model,)))).texts
    assert "Phones (CCA)" in texts and "phone_cca" not in texts and "No alignments." in texts


# In a browser


def test_the_slider_moves_the_points_and_nothing_is_requested(chromium, tmp_path):
    findings = hostile(make_findings(n_layers=5, n=120, with_curves=False, with_tsne=False))
    path = tmp_path / "report.html"
    path.write_text(report_html(findings), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 900, "height": 500})
    requested, problems, dialogs = [], [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    figure = page.locator("[data-figure=figure-pca-0]")
    figure.scroll_into_view_if_needed()
    page.wait_for_selector("[data-figure=figure-pca-0] .slider-rail-touch-rect")
    state = """() => {
        const plot = document.querySelector("[data-figure=figure-pca-0] .plot");
        return [Array.from(plot._fullData[0].x), plot.layout.xaxis.title.text, plot._fullLayout.xaxis.range,
                plot.querySelector(".slider-label").textContent];
    }"""
    before = page.evaluate(state)
    rail = figure.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + rail["width"] - 2, rail["y"] + rail["height"] / 2)
    figure.get_by_text("Layer 4", exact=True).wait_for()
    after = page.evaluate(state)
    layer = findings.models[0].projections[4]
    expected = layer.pca[:, 0] / layer.pca[:, 0].std()
    assert before[3] == "Layer 0"
    assert np.abs(np.abs(after[0]) - np.abs(expected)).max() < 1e-5
    assert np.abs(np.array(before[0]) - after[0]).max() > 0.1
    assert f"{100 * layer.explained[0]:.1f} %" in after[1]
    assert before[2] == after[2]
    # What needs WebGL is taken down when it is far away; back again it still shows what the reader chose.
    page.locator("[data-figure=figure-space-0]").scroll_into_view_if_needed()
    space = "document.querySelector('[data-figure=figure-space-0] .plot')"
    page.wait_for_function(f"{space}._fullLayout?.scene?._scene")
    page.evaluate(f"Plotly.update({space}, ...{space}.layout.sliders[0].steps[4].args)")
    chosen = page.evaluate(f"{space}.layout.scene.xaxis.title.text")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"!{space}.data")
    page.locator("[data-figure=figure-space-0]").scroll_into_view_if_needed()
    page.wait_for_function(f"{space}._fullLayout?.scene?._scene")
    assert page.evaluate(f"{space}.layout.scene.xaxis.title.text") == chosen != ""
    assert f"{100 * layer.explained[0]:.1f} %" in chosen
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []
    assert problems == dialogs == []
    page.close()
