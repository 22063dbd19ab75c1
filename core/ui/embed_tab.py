"""The tab "Embed": a recording in, the frames of a model out, on screen and as files."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core.ui import cards, widgets
from core.ui.embed_actions import FORMATS, LAYERS, Actions
from core.ui.settings import UiSettings
from core.ui.widgets import HEAVY, PRIVATE, QUICK

FORMAT_NAMES = ("NumPy .npy", "MATLAB .mat", "Facts .json", "Layers .npz", "Table .parquet")
EXAMPLES = {
    "one_sentence.flac": "A sentence",
    "two_voices.flac": "Two voices",
    "test_sounds.flac": "Test sounds",
}


@dataclass(frozen=True)
class EmbedTab:
    """The widgets of the tab."""

    source: gr.File
    about: gr.HTML
    microphone: gr.Audio
    inputs: gr.Tabs
    examples: dict[str, gr.Button]
    model: gr.Dropdown
    layers: gr.Dropdown
    device: gr.Dropdown
    engine: gr.Dropdown
    precision: gr.Dropdown
    formats: gr.CheckboxGroup
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    facts: gr.HTML
    player: gr.HTML
    layer: gr.Radio
    timeline: gr.Plot
    caption: gr.HTML
    dimensions: gr.Radio
    path: gr.Plot
    files: gr.File
    metadata: gr.JSON
    run_id: gr.State


def build(settings: UiSettings) -> EmbedTab:
    """Lay out the tab."""
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            chosen = _build_inputs(settings)
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            shown = _build_results()
    return EmbedTab(**chosen, **shown, run_id=gr.State(""))


def _build_inputs(settings: UiSettings) -> dict[str, Any]:
    with gr.Tabs(elem_id="embed-inputs") as inputs:
        with gr.Tab("File", id="file"):
            source = gr.File(label="Recording", elem_id="embed-source", height=130)
        with gr.Tab("Microphone", id="microphone"):
            microphone = gr.Audio(sources=["microphone"], type="filepath", label="Record", elem_id="embed-microphone")
    about = gr.HTML(cards.about_limits(settings.max_minutes, settings.max_upload_mb), elem_id="embed-about")
    examples = widgets.examples(EXAMPLES)
    models = widgets.model("embed-model")
    layers = gr.Dropdown(
        LAYERS,
        value="last",
        label="Layers",
        info="0 is the transformer's input; several as 0,6,12",
        allow_custom_value=True,
    )
    with gr.Accordion("Device, precision and files", open=False):
        options = _build_options()
    started = widgets.start_and_stop("Embed", "embed")
    return {
        "source": source, "about": about, "microphone": microphone, "inputs": inputs, "examples": examples,
        "model": models, "layers": layers, **options, **started,
    }  # fmt: skip


def _build_options() -> dict[str, Any]:
    running = widgets.running()
    files = list(zip(FORMAT_NAMES, FORMATS, strict=True))
    formats = gr.CheckboxGroup(files, value=["npy", "mat", "json"], label="Files to download")
    return {**running, "formats": formats}


def _build_results() -> dict[str, Any]:
    card = widgets.status(cards.EMPTY, "embed")
    with gr.Column(visible=False, elem_id="embed-results") as results:
        facts = gr.HTML(elem_id="embed-facts")
        player = widgets.player("embed")
        layer = gr.Radio([], label="Layer shown", elem_id="embed-layer", visible=False)
        timeline = gr.Plot(show_label=False, elem_id="embed-timeline")
        caption = gr.HTML(elem_id="embed-caption")
        dimensions = gr.Radio(["2-D", "3-D"], value="2-D", label="Path of the frames", elem_id="embed-dimensions")
        path = gr.Plot(show_label=False, elem_id="embed-path")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="embed-files")
        with gr.Accordion("All facts about this run", open=False):
            metadata = gr.JSON(label="Facts", show_label=False, elem_id="embed-metadata", elem_classes="strata-json")
    return {
        "card": card, "results": results, "facts": facts, "player": player, "layer": layer, "timeline": timeline,
        "caption": caption, "dimensions": dimensions, "path": path, "files": files, "metadata": metadata,
    }  # fmt: skip


def wire(app: gr.Blocks, tab: EmbedTab, actions: Actions) -> None:
    """Tie the widgets to the callbacks."""
    app.load(actions.models, outputs=tab.model, **QUICK)
    tab.source.change(actions.describe, tab.source, tab.about, **QUICK)
    tab.microphone.stop_recording(actions.take_recording, tab.microphone, [tab.source, tab.inputs], **QUICK)
    tab.model.change(actions.layer_choices, tab.model, tab.layers, **QUICK)
    plots = [tab.timeline, tab.caption, tab.path]
    tab.layer.input(actions.redraw, [tab.run_id, tab.layer, tab.dimensions], plots, **QUICK)
    tab.dimensions.input(actions.redraw_path, [tab.run_id, tab.layer, tab.dimensions], tab.path, **QUICK)
    _wire_runs(tab, actions)


def _wire_runs(tab: EmbedTab, actions: Actions) -> None:
    states = [tab.card, tab.results, tab.start, tab.stop]
    begun = tab.start.click(actions.begin, tab.source, states, **QUICK)
    running = _chain(begun, tab, actions, api_name="embed", api_visibility="public")
    for name, button in tab.examples.items():
        begun = button.click(partial(actions.begin_example, name), None, [tab.source, tab.inputs, *states], **QUICK)
        running += _chain(begun, tab, actions, **PRIVATE)
    tab.stop.click(actions.stop, None, [tab.card, tab.start, tab.stop], cancels=running, **QUICK)


def _chain(begun: Any, tab: EmbedTab, actions: Actions, **public: Any) -> list[Any]:
    """After ``begun``: embed, then show; whatever fails is said on the page."""
    settings = [tab.model, tab.layers, tab.device, tab.engine, tab.precision, tab.formats]
    files = [tab.files, tab.metadata, tab.run_id]
    page = [tab.card, tab.results, tab.facts, tab.player, tab.layer, tab.timeline, tab.caption, tab.path]
    on_card: dict[str, Any] = {"show_progress_on": tab.card}
    embedded = begun.then(actions.embed, [tab.source, *settings], files, **HEAVY, **on_card, **public)
    shown = embedded.success(actions.show, [tab.run_id, tab.dimensions], page, **HEAVY, **on_card, **PRIVATE)
    return widgets.follow([embedded, shown], actions, [tab.card, tab.start, tab.stop])
