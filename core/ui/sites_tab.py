"""The tab "Sites": look into a recording of many sites, train on it, see what was learned of them, compare two."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core.ui import meg_views, runs_tab, sites_views, widgets
from core.ui.runs_actions import RunsActions
from core.ui.runs_tab import WATCHING, RunPanel
from core.ui.settings import UiSettings
from core.ui.sites_actions import (
    NO_MONTAGE,
    SitesCompareActions,
    SitesLearnedActions,
    SitesRecordingActions,
    SitesTrainActions,
)
from core.ui.widgets import HEAVY, PRIVATE, QUICK

PRESETS = [("Tiny: minutes", "tiny"), ("Small: hours, or a GPU", "small")]


@dataclass(frozen=True)
class RecordingPart:
    """The widgets of step 1."""

    source: gr.File
    montage: gr.Dropdown
    rate: gr.Textbox
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    about: gr.HTML
    figures: gr.HTML
    further: gr.Button
    study_id: gr.State


@dataclass(frozen=True)
class TrainPart:
    """The widgets of step 2."""

    preset: gr.Radio
    steps: gr.Number
    low: gr.Number
    high: gr.Number
    grid: gr.HTML
    seed: gr.Number
    device: gr.Dropdown
    start: gr.Button
    live: gr.HTML
    panel: RunPanel
    live_shown: gr.State


@dataclass(frozen=True)
class LearnedPart:
    """The widgets of step 3."""

    model: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    trained: gr.File
    commands: gr.Code
    card: gr.HTML
    results: gr.Column
    facts: gr.HTML
    matrices: gr.HTML
    clicks: gr.HTML
    site: gr.Dropdown
    maps: gr.HTML
    near: gr.HTML
    colour: gr.Radio
    embeddings: gr.HTML
    files: gr.File
    run_id: gr.State


@dataclass(frozen=True)
class ComparePart:
    """The widgets of step 4."""

    first: gr.Dropdown
    second: gr.Dropdown
    source: gr.Dropdown
    at: gr.Number
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    facts: gr.HTML
    figures: gr.HTML
    files: gr.File
    run_id: gr.State


@dataclass(frozen=True)
class SitesTab:
    """The four steps of the tab; ``seen``: the tabs in which the training stands."""

    tab: gr.Tab
    seen: tuple[gr.Tab, gr.Tab]
    steps: gr.Tabs
    recording: RecordingPart
    train: TrainPart
    learned: LearnedPart
    compare: ComparePart


@dataclass(frozen=True)
class SitesParts:
    """The callbacks of the four steps."""

    recording: SitesRecordingActions
    train: SitesTrainActions
    learned: SitesLearnedActions
    compare: SitesCompareActions
    runs: RunsActions


def build(tab: gr.Tab, settings: UiSettings) -> SitesTab:
    """Lay out the tab, which the caller has opened."""
    with gr.Tabs(elem_id="sites-parts") as steps:
        with gr.Tab("1 Recording", id="sites-recording"):
            recording = _build_recording(settings)
        with gr.Tab("2 Train", id="sites-train") as second:
            train = _build_train(settings)
        with gr.Tab("3 What it learned", id="sites-learned"):
            learned = _build_learned(settings)
        with gr.Tab("4 Compare", id="sites-compare"):
            compare = _build_compare()
    return SitesTab(tab, (tab, second), steps, recording, train, learned, compare)


# --------------------------------------------------------------------------------------------------------- recording


def _build_recording(settings: UiSettings) -> RecordingPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            source = gr.File(
                label="Recording of several sites", file_count="multiple", elem_id="places-source", height=150
            )
            gr.HTML(sites_views.about_limits(settings), elem_id="places-about")
            montage = gr.Dropdown(
                [NO_MONTAGE], value="", label="Montage", elem_id="places-montage",
                info="Where electrodes of these names usually sit, for a recording that does not say it",
            )  # fmt: skip
            rate = gr.Textbox(
                "", label="Sampling rate of a .npy, in Hz", info="Other formats say theirs", placeholder="such as 1000",
                elem_id="places-rate",
            )  # fmt: skip
            buttons = widgets.start_and_stop("Take a simulated MEG recording", "places", "secondary")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            card = widgets.status(sites_views.EMPTY_RECORDING, "places")
            with gr.Column(visible=False, elem_id="places-results") as results:
                about = gr.HTML(elem_id="places-facts")
                further = gr.Button("Go on: train on it", variant="primary", elem_id="places-further")
                figures = widgets.gallery("places-figures")
                widgets.plotly_loader()
    return RecordingPart(
        source, montage, rate, **buttons, card=card, results=results, about=about, figures=figures, further=further,
        study_id=gr.State(""),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- train


def _build_train(settings: UiSettings) -> TrainPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            asked = _build_asked(settings)
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="sitetrain-start", scale=2)
                buttons = runs_tab.build_buttons("sitetrain")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            live = widgets.gallery("sitetrain-live")
            panel = runs_tab.build_panel("sitetrain", sites_views.EMPTY_TRAIN, buttons)
    return TrainPart(**asked, start=start, live=live, panel=panel, live_shown=gr.State(""))


def _build_asked(settings: UiSettings) -> dict[str, Any]:
    preset = gr.Radio(
        PRESETS, value=PRESETS[0][1], label="Size of the model", elem_id="sitetrain-preset",
        info="How long a full training takes; start with tiny",
    )  # fmt: skip
    steps = gr.Number(
        None, label="Steps", minimum=1, precision=0, elem_id="sitetrain-steps",
        info="A step looks at a batch of grids and improves the model once",
    )  # fmt: skip
    with gr.Row():
        low = gr.Number(None, label="From, in Hz", minimum=0, min_width=120, elem_id="sitetrain-low")
        high = gr.Number(None, label="Up to, in Hz", minimum=0, min_width=120, elem_id="sitetrain-high")
    grid = gr.HTML(elem_id="sitetrain-grid")
    with gr.Accordion("Seed and device", open=False):
        seed = gr.Number(0, label="Seed", minimum=0, precision=0, elem_id="sitetrain-seed")
        device = gr.Dropdown(["auto", "cuda", "mps", "cpu"], value="auto", label="Device", filterable=False)
    gr.HTML(meg_views.about_caps(settings), elem_id="sitetrain-caps")
    return {"preset": preset, "steps": steps, "low": low, "high": high, "grid": grid, "seed": seed, "device": device}


# ----------------------------------------------------------------------------------------------------------- learned


def _build_learned(settings: UiSettings) -> LearnedPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            info = "Your trainings and bundled models" + (", or a folder" if settings.local_folders else "")
            model = gr.Dropdown(
                [], value=None, label="Model", info=info, allow_custom_value=settings.local_folders,
                elem_id="learned-model",
            )  # fmt: skip
            buttons: dict[str, Any] = widgets.start_and_stop("Analyse", "learned")
            trained = gr.File(
                label="The trained model, to take with you", file_count="multiple", interactive=False, visible=False,
                elem_id="learned-trained",
            )  # fmt: skip
            commands = gr.Code(
                label="The same on the command line", language=None, interactive=False, visible=False,
                show_line_numbers=False, wrap_lines=True, buttons=["copy"], elem_id="learned-commands",
            )  # fmt: skip
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            card = widgets.status(sites_views.EMPTY_LEARNED, "learned")
            shown = _build_shown()
    return LearnedPart(
        model=model, **buttons, trained=trained, commands=commands, card=card, **shown, run_id=gr.State("")
    )


def _build_shown() -> dict[str, Any]:
    with gr.Column(visible=False, elem_id="learned-results") as results:
        facts = gr.HTML(elem_id="learned-facts")
        matrices = widgets.gallery("learned-matrices")
        clicks = widgets.scripted("sites", "learned-clicks")
        site = gr.Dropdown(
            [], label="Site", info="All others are compared with it; or click one", elem_id="learned-site"
        )
        maps = widgets.gallery("learned-maps")
        near = gr.HTML(elem_id="learned-near")
        colour = gr.Radio([], label="Maps of the embeddings coloured by", elem_id="learned-colour")
        embeddings = widgets.gallery("learned-embeddings")
        widgets.plotly_loader()
        files = gr.File(
            label="Figures and tables (PNG, SVG, CSV, NPZ)", file_count="multiple", interactive=False,
            elem_id="learned-files",
        )  # fmt: skip
    return {
        "results": results, "facts": facts, "matrices": matrices, "clicks": clicks, "site": site, "maps": maps,
        "near": near, "colour": colour, "embeddings": embeddings, "files": files,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- compare


def _build_compare() -> ComparePart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            first = gr.Dropdown([], label="As if from", elem_id="compare-first")
            second = gr.Dropdown([], label="Or as if from", elem_id="compare-second")
            source = gr.Dropdown([], label="Whose signal", elem_id="compare-source")
            at = gr.Number(0, label="From, in seconds of the recording", minimum=0, elem_id="compare-at")
            buttons: dict[str, Any] = widgets.start_and_stop("Compare", "compare")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            card = widgets.status(sites_views.EMPTY_COMPARE, "compare")
            with gr.Column(visible=False, elem_id="compare-results") as results:
                facts = gr.HTML(elem_id="compare-facts")
                figures = widgets.gallery("compare-figures")
                widgets.plotly_loader()
                files = gr.File(
                    label="Figure and arrays (PNG, SVG, NPZ)", file_count="multiple", interactive=False,
                    elem_id="compare-files",
                )  # fmt: skip
    return ComparePart(
        first=first, second=second, source=source, at=at, **buttons, card=card, results=results, facts=facts,
        figures=figures, files=files, run_id=gr.State(""),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- wire


def wire(app: gr.Blocks, tab: SitesTab, parts: SitesParts, visitor: gr.BrowserState) -> list[Any]:
    """Tie the widgets to the callbacks; to be called outside of all tabs.

    Returns:
        What a page fills on opening: a function, what it takes and what it fills.
    """
    part = tab.recording
    study = [
        part.study_id, part.card, part.results, part.about, part.figures, part.montage, tab.train.panel.run_id
    ]  # fmt: skip
    _wire_recording(tab, parts.recording, visitor, study)
    _wire_train(app, tab, parts, visitor)
    _wire_learned(tab, parts.learned)
    _wire_compare(tab, parts.compare)
    return [parts.recording.restore, visitor, study]


def _wire_recording(tab: SitesTab, actions: SitesRecordingActions, visitor: gr.BrowserState, study: list[Any]) -> None:
    part = tab.recording
    states = [part.card, part.start, part.stop]
    heavy: dict[str, Any] = {**HEAVY, **PRIVATE, "show_progress_on": part.card}
    tab.tab.select(actions.montages, part.montage, part.montage, **QUICK)
    begin = partial(actions.begin, "Reading the recording")
    begun = part.source.change(begin, None, states, **QUICK)
    read = begun.then(actions.read, [part.source, part.montage, part.rate, visitor], study, **heavy)
    running = widgets.follow([read], actions, states)
    for event in (part.montage.input, part.rate.submit):
        placed = event(actions.place, [part.study_id, part.montage, part.rate], study, **heavy)
        running += widgets.follow([placed], actions, states)
    begun = part.start.click(partial(actions.begin, "Simulating a recording"), None, states, **QUICK)
    made = begun.then(actions.simulate, visitor, study, **heavy)
    running += widgets.follow([made], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
    part.further.click(partial(gr.Tabs, selected="sites-train"), None, tab.steps, **QUICK)


def _wire_train(app: gr.Blocks, tab: SitesTab, parts: SitesParts, visitor: gr.BrowserState) -> None:
    part, actions, panel = tab.train, parts.train, tab.train.panel
    study_id = tab.recording.study_id
    grid = [study_id, part.preset, part.low, part.high]
    defaults = [part.steps, part.low, part.high]
    for filled in (app.load, part.preset.input, tab.recording.about.change):
        filled(actions.defaults, [study_id, part.preset], defaults, **QUICK).then(
            actions.describe, grid, part.grid, **QUICK
        )
    for changed in (part.low.change, part.high.change):
        changed(actions.describe, grid, part.grid, **QUICK)
    runs_tab.wire_panel(panel, parts.runs, tab.seen)
    asked = [study_id, part.preset, part.steps, part.low, part.high, part.seed, part.device]
    started = part.start.click(actions.train, asked, [panel.run_id, part.start], **PRIVATE, show_progress="hidden")
    started.failure(actions.fail, None, [panel.card, part.start], **QUICK)
    panel.shown.change(actions.live, [panel.run_id, part.live_shown], [part.live, part.live_shown], **WATCHING)
    learned = tab.learned
    offered = [part.start, learned.model, learned.trained, learned.commands]
    for changed in (panel.shown.change, tab.tab.select):
        changed(parts.learned.offer, [panel.run_id, visitor, learned.model], offered, **WATCHING)


def _wire_learned(tab: SitesTab, actions: SitesLearnedActions) -> None:
    part, compare = tab.learned, tab.compare
    states = [part.card, part.start, part.stop]
    heavy: dict[str, Any] = {**HEAVY, **PRIVATE, "show_progress_on": part.card}
    begun = part.start.click(partial(actions.begin, "Analysing the sites"), None, states, **QUICK)
    analysed = begun.then(actions.analyse, part.model, [part.files, part.run_id], **heavy)
    chosen = [part.site, part.maps, part.near]
    page = [
        part.card, part.results, part.facts, part.matrices, part.clicks, *chosen, part.colour, part.embeddings,
        compare.first, compare.second, compare.source,
    ]  # fmt: skip
    shown = analysed.success(actions.show, part.run_id, page, **heavy)
    running = widgets.follow([analysed, shown], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
    part.site.input(actions.choose, [part.run_id, part.site], chosen, **QUICK)
    part.clicks.chosen(actions.click, part.run_id, chosen, **QUICK)
    part.colour.input(actions.colour, [part.run_id, part.colour], part.embeddings, **QUICK)


def _wire_compare(tab: SitesTab, actions: SitesCompareActions) -> None:
    part = tab.compare
    states = [part.card, part.start, part.stop]
    heavy: dict[str, Any] = {**HEAVY, **PRIVATE, "show_progress_on": part.card}
    begun = part.start.click(partial(actions.begin, "Comparing the sites"), None, states, **QUICK)
    asked = [
        tab.learned.run_id, tab.recording.study_id, part.first, part.second, part.source, part.at,
    ]  # fmt: skip
    compared = begun.then(actions.compare, asked, [part.files, part.run_id], **heavy)
    page = [part.card, part.results, part.facts, part.figures]
    shown = compared.success(actions.show, part.run_id, page, **heavy)
    running = widgets.follow([compared, shown], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
