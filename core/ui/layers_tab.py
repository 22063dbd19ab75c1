"""The tab "Layers": recordings in, what each layer of one model or two holds out, on screen and as files."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core.findings import SIMILARITIES, SPANS, LayersSettings
from core.ui import cards, layers_views, widgets
from core.ui.layers_actions import NO_MODEL, LayersActions
from core.ui.settings import UiSettings
from core.ui.widgets import HEAVY, PRIVATE, QUICK

EXAMPLES = {
    "one_sentence.flac two_voices.flac test_sounds.flac": "Three clips",
    "one_sentence.flac two_voices.flac": "Sentence and two voices",
}
SPAN_NAMES = ("Frames", "Phones", "Words", "Annotations")
SIMILARITY_NAMES = ("CKA", "Cosine", "PWCCA")
LAYER_SHOWN = "(...values) => [...values.slice(0, -1), window.strataLayer ?? 0]"
"""The layer shown is known to the page only: the slider asks no server."""


@dataclass(frozen=True)
class LayersTab:
    """The widgets of the tab."""

    source: gr.File
    about: gr.HTML
    examples: dict[str, gr.Button]
    model: gr.Dropdown
    compare: gr.Dropdown
    control: gr.Checkbox
    span: gr.Radio
    similarity: gr.Radio
    layers: gr.Textbox
    max_points: gr.Number
    device: gr.Dropdown
    engine: gr.Dropdown
    precision: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    facts: gr.HTML
    matrices: gr.HTML
    player: gr.HTML
    shown: gr.Radio
    dimensions: gr.Radio
    pca: gr.Plot
    pca_caption: gr.HTML
    perplexity: gr.Number
    watch: gr.Button
    stop_watching: gr.Button
    map: gr.HTML
    map_note: gr.HTML
    chosen: gr.HTML
    chosen_file: gr.DownloadButton
    statistics: gr.HTML
    properties: gr.HTML
    skipped: gr.HTML
    comparison: gr.HTML
    make_files: gr.Button
    files: gr.File
    summary: gr.JSON
    layer: gr.Number
    run_id: gr.State


def build(settings: UiSettings) -> LayersTab:
    """Lay out the tab."""
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            asked = _build_inputs(settings)
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            found = _build_results()
    return LayersTab(**asked, **found, layer=gr.Number(0, visible=False), run_id=gr.State(""))


def _build_inputs(settings: UiSettings) -> dict[str, Any]:
    source = gr.File(
        label="Recordings and alignments",
        file_count="multiple",
        elem_id="layers-source",
        height=150,
    )
    about = gr.HTML(cards.about_limits(settings.max_minutes, settings.max_upload_mb), elem_id="layers-about")
    examples = widgets.examples(EXAMPLES)
    model = widgets.model("layers-model")
    compare = gr.Dropdown(
        [("None", NO_MODEL)],
        value=NO_MODEL,
        label="Second model",
        info="On the same recordings, if you like",
        allow_custom_value=True,
        elem_id="layers-compare",
    )
    control = gr.Checkbox(
        True,
        label="Random weights beside",
        info="The same architecture untrained: what training did not bring",
        elem_id="layers-control",
    )
    with gr.Accordion("Rows, similarity and device", open=False):
        options = _build_options()
    started = widgets.start_and_stop("Analyse", "layers")
    return {
        "source": source, "about": about, "examples": examples, "model": model, "compare": compare, "control": control,
        **options, **started,
    }  # fmt: skip


def _build_options() -> dict[str, Any]:
    span = gr.Radio(
        list(zip(SPAN_NAMES, SPANS, strict=True)),
        value="frame",
        label="Rows",
        info="Phones and words need alignments, annotations MEG",
        elem_id="layers-span",
    )
    kinds = list(zip(SIMILARITY_NAMES, SIMILARITIES, strict=True))
    similarity = gr.Radio(kinds, value="cka", label="Similarity of layers", elem_id="layers-similarity")
    layers = gr.Textbox("all", label="Layers", info="all, or several as 0,6,12", elem_id="layers-layers")
    max_points = gr.Number(
        LayersSettings.max_points, label="Points shown at most", minimum=10, precision=0, elem_id="layers-max-points"
    )
    return {
        "span": span, "similarity": similarity, "layers": layers, "max_points": max_points, **widgets.running(),
    }  # fmt: skip


def _build_results() -> dict[str, Any]:
    card = widgets.status(layers_views.EMPTY, "layers")
    with gr.Column(visible=False, elem_id="layers-results") as results:
        facts = gr.HTML(elem_id="layers-facts")
        matrices = widgets.gallery("layers-matrices")
        with gr.Column(elem_id="layers-maps"):
            maps = _build_maps()
        with gr.Tabs(elem_id="layers-more"):
            with gr.Tab("Statistics"):
                statistics = widgets.gallery("layers-statistics")
            with gr.Tab("Properties"):
                skipped = gr.HTML(elem_id="layers-skipped")
                properties = widgets.gallery("layers-properties")
            with gr.Tab("Compare"):
                comparison = gr.HTML(elem_id="layers-comparison")
            with gr.Tab("Files"):
                files = _build_files()
    return {
        "card": card, "results": results, "facts": facts, "matrices": matrices, **maps, "statistics": statistics,
        "properties": properties, "skipped": skipped, "comparison": comparison, **files,
    }  # fmt: skip


def _build_maps() -> dict[str, Any]:
    player = widgets.player("layers")
    with gr.Row(elem_classes="strata-choices"):
        shown = gr.Radio([], label="Model shown", elem_id="layers-shown", visible=False)
        dimensions = gr.Radio(["2-D", "3-D"], value="2-D", label="PCA", elem_id="layers-dimensions")
    pca = gr.Plot(show_label=False, elem_id="layers-pca")
    pca_caption = gr.HTML(elem_id="layers-pca-caption")
    with gr.Row(elem_classes="strata-watch"):
        perplexity = gr.Number(
            LayersSettings.perplexity,
            label="Perplexity",
            minimum=2,
            min_width=110,
            scale=0,
            elem_id="layers-perplexity",
        )
        watch = gr.Button("Watch t-SNE of this layer", elem_id="layers-watch", scale=0, min_width=280)
        stop = gr.Button("Stop here", variant="stop", visible=False, elem_id="layers-stop-watching", scale=0)
        note = gr.HTML(elem_id="layers-map-note")
    maps = widgets.gallery("layers-map")
    chosen = gr.HTML(elem_id="layers-chosen")
    file = gr.DownloadButton("Download these rows (CSV)", visible=False, size="sm", elem_id="layers-chosen-file")
    return {
        "player": player, "shown": shown, "dimensions": dimensions, "pca": pca, "pca_caption": pca_caption,
        "perplexity": perplexity, "watch": watch, "stop_watching": stop, "map": maps, "map_note": note,
        "chosen": chosen, "chosen_file": file,
    }  # fmt: skip


def _build_files() -> dict[str, Any]:
    gr.HTML(cards.note(
        "The zip holds everything: the report, the figures, every number as a table, and the files for TensorBoard's "
        "projector. Report, summary and figures are there singly as well."
    ))  # fmt: skip
    make = gr.Button("Make the report and the files", elem_id="layers-make-files")
    files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="layers-files")
    with gr.Accordion("All numbers of this analysis", open=False):
        summary = gr.JSON(label="Numbers", show_label=False, elem_id="layers-summary", elem_classes="strata-json")
    return {"make_files": make, "files": files, "summary": summary}


def wire(app: gr.Blocks, tab: LayersTab, actions: LayersActions) -> None:
    """Tie the widgets to the callbacks."""
    app.load(actions.models, outputs=tab.model, **QUICK)
    app.load(actions.second_models, outputs=tab.compare, **QUICK)
    tab.source.change(actions.describe, tab.source, tab.about, **QUICK)
    drawing = [tab.run_id, tab.shown, tab.dimensions, tab.layer]
    for choice in (tab.shown, tab.dimensions):
        choice.input(actions.redraw, drawing, [tab.pca, tab.pca_caption], js=LAYER_SHOWN, **QUICK)
    maps = [tab.map, tab.map_note]
    tab.shown.input(actions.show_maps, [tab.run_id, tab.shown, tab.layer], maps, js=LAYER_SHOWN, **QUICK)
    rows = [tab.chosen, tab.chosen_file]
    tab.player.chosen(actions.choose, [tab.run_id, tab.shown], rows, **QUICK)
    tab.make_files.click(
        actions.files, tab.run_id, tab.files, **HEAVY, api_name="layers_files", api_visibility="public"
    )
    _wire_watching(tab, actions)
    _wire_runs(tab, actions)


def _wire_watching(tab: LayersTab, actions: LayersActions) -> None:
    both = [tab.watch, tab.stop_watching]
    begun = tab.watch.click(actions.begin_watching, None, [*both, tab.map_note], **QUICK)
    asked = [tab.run_id, tab.shown, tab.perplexity, tab.layer]
    hidden: dict[str, Any] = {"show_progress": "hidden"}
    watched = begun.then(actions.watch, asked, [tab.map, tab.map_note], js=LAYER_SHOWN, **HEAVY, **PRIVATE, **hidden)
    watched.success(actions.end, None, both, **QUICK)
    watched.failure(actions.fail_watching, None, [*both, tab.map_note], **QUICK)
    tab.stop_watching.click(actions.stop_watching, None, None, **QUICK)


def _wire_runs(tab: LayersTab, actions: LayersActions) -> None:
    states = [tab.card, tab.results, tab.start, tab.stop]
    begun = tab.start.click(actions.begin, tab.source, states, **QUICK)
    running = _chain(begun, tab, actions, api_name="layers", api_visibility="public")
    for names, button in tab.examples.items():
        begun = button.click(partial(actions.begin_example, names), None, [tab.source, *states], **QUICK)
        running += _chain(begun, tab, actions, **PRIVATE)
    tab.stop.click(actions.stop, None, [tab.card, tab.start, tab.stop], cancels=running, **QUICK)


def _chain(begun: Any, tab: LayersTab, actions: LayersActions, **public: Any) -> list[Any]:
    """After ``begun``: analyse, then show; whatever fails is said on the page."""
    asked = [
        tab.source, tab.model, tab.compare, tab.control, tab.layers, tab.span, tab.similarity, tab.max_points,
        tab.device, tab.engine, tab.precision,
    ]  # fmt: skip
    page = [
        tab.card, tab.results, tab.facts, tab.matrices, tab.player, tab.shown, tab.pca, tab.pca_caption, tab.map,
        tab.map_note, tab.chosen, tab.chosen_file, tab.statistics, tab.properties, tab.skipped, tab.comparison,
        tab.files,
    ]  # fmt: skip
    on_card: dict[str, Any] = {"show_progress_on": tab.card}
    analysed = begun.then(actions.layers, asked, [tab.summary, tab.run_id], **HEAVY, **on_card, **public)
    shown = analysed.success(actions.show, [tab.run_id, tab.dimensions], page, **HEAVY, **on_card, **PRIVATE)
    return widgets.follow([analysed, shown], actions, [tab.card, tab.start, tab.stop])
