"""The tab "MEG": look into a recording, prepare it, pre-train on it, and use what was learned."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core.sensors import BADS, FITS, Preparation
from core.ui import meg_views, runs_tab, widgets
from core.ui.meg_actions import PrepareActions, PretrainActions, RecordingActions, UseActions
from core.ui.runs_actions import RunsActions
from core.ui.runs_tab import WATCHING, RunPanel
from core.ui.settings import UiSettings
from core.ui.widgets import HEAVY, PRIVATE, QUICK

PRESETS = [("Tiny: minutes", "tiny"), ("Small: hours", "small"), ("Base: days on a GPU", "base")]
SEGMENT_SECONDS = 20.0
FIT_NAMES = {
    "auto": "By name, else by interpolation",
    "names": "By name only",
    "interpolate": "By interpolation",
    "pad": "Zeros for what is missing",
}
SPLIT_NAMES = {"recording": "Whole recordings", "subject": "All recordings of a person"}
BAD_NAMES = {"interpolate": "Estimate from their neighbours", "keep": "Keep as they are"}
DEFAULT = Preparation()


@dataclass(frozen=True)
class RecordingPart:
    """The widgets of step 1."""

    source: gr.File
    rate: gr.Textbox
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    about: gr.HTML
    recording: gr.Dropdown
    figures: gr.HTML
    further: gr.Button
    study_id: gr.State


@dataclass(frozen=True)
class PreparePart:
    """The widgets of step 2."""

    low: gr.Number
    high: gr.Number
    rate: gr.Number
    notch: gr.Textbox
    segment: gr.Number
    split: gr.Slider
    by: gr.Radio
    layout: gr.Dropdown
    fit: gr.Dropdown
    bads: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    about: gr.HTML
    further: gr.Button


@dataclass(frozen=True)
class PretrainPart:
    """The widgets of step 3."""

    preset: gr.Radio
    steps: gr.Number
    window: gr.Number
    frames: gr.HTML
    seed: gr.Number
    device: gr.Dropdown
    start: gr.Button
    panel: RunPanel


@dataclass(frozen=True)
class UsePart:
    """The widgets of step 4."""

    empty: gr.HTML
    offer: gr.Column
    about: gr.HTML
    files: gr.File
    commands: gr.Code
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    facts: gr.HTML
    layer: gr.Radio
    path: gr.Plot
    figures: gr.HTML
    embeddings: gr.File
    run_id: gr.State


@dataclass(frozen=True)
class MegTab:
    """The four steps of the tab; ``seen``: the tabs in which the training stands."""

    seen: tuple[gr.Tab, gr.Tab]
    steps: gr.Tabs
    recording: RecordingPart
    prepare: PreparePart
    train: PretrainPart
    use: UsePart


@dataclass(frozen=True)
class MegParts:
    """The callbacks of the four steps."""

    recording: RecordingActions
    prepare: PrepareActions
    train: PretrainActions
    use: UseActions
    runs: RunsActions


def build(tab: gr.Tab, settings: UiSettings) -> MegTab:
    """Lay out the tab, which the caller has opened."""
    with gr.Tabs(elem_id="meg-parts") as steps:
        with gr.Tab("1 Recording", id="meg-recording"):
            recording = _build_recording(settings)
        with gr.Tab("2 Prepare", id="meg-prepare"):
            prepare = _build_prepare()
        with gr.Tab("3 Pre-train", id="meg-train") as third:
            train = _build_train(settings)
        with gr.Tab("4 Use", id="meg-use"):
            use = _build_use()
    return MegTab((tab, third), steps, recording, prepare, train, use)


# --------------------------------------------------------------------------------------------------------- recording


def _build_recording(settings: UiSettings) -> RecordingPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            source = gr.File(label="MEG recording", file_count="multiple", elem_id="recording-source", height=150)
            gr.HTML(meg_views.about_limits(settings), elem_id="recording-about")
            rate = gr.Textbox(
                "", label="Sampling rate of a .npy, in Hz", info="Other formats say theirs", placeholder="such as 1000",
                elem_id="recording-rate",
            )  # fmt: skip
            buttons = widgets.start_and_stop("Take the simulated recording", "recording", "secondary")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            card = widgets.status(meg_views.EMPTY_RECORDING, "recording")
            with gr.Column(visible=False, elem_id="recording-results") as results:
                recording = gr.Dropdown([], label="Recording", visible=False, elem_id="recording-choice")
                about = gr.HTML(elem_id="recording-facts")
                further = gr.Button("Go on: prepare it", variant="primary", elem_id="recording-further")
                figures = widgets.gallery("recording-figures")
                widgets.plotly_loader()
    return RecordingPart(
        source, rate, **buttons, card=card, results=results, about=about, recording=recording, figures=figures,
        further=further, study_id=gr.State(""),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- prepare


def _build_prepare() -> PreparePart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            band = _build_band()
            cut = _build_cut()
            with gr.Accordion("Sensors", open=False):
                sensors = _build_sensors()
            buttons: dict[str, Any] = widgets.start_and_stop("Prepare", "prepare")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            card = widgets.status(meg_views.EMPTY_PREPARE, "prepare")
            about = gr.HTML(elem_id="prepare-facts")
            further = gr.Button("Go on: pre-train on it", variant="primary", visible=False, elem_id="prepare-further")
    return PreparePart(**band, **cut, **sensors, **buttons, card=card, about=about, further=further)


def _build_band() -> dict[str, Any]:
    with gr.Row():
        low = gr.Number(DEFAULT.l_freq, label="Keep from, in Hz", minimum=0, min_width=120, elem_id="prepare-low")
        high = gr.Number(DEFAULT.h_freq, label="Keep up to, in Hz", minimum=0, min_width=120, elem_id="prepare-high")
    rate = gr.Number(
        DEFAULT.sampling_rate, label="Sampling rate, in Hz", info="Of what the model takes", precision=0,
        elem_id="prepare-rate",
    )  # fmt: skip
    notch = gr.Textbox(
        DEFAULT.notch, label="Power line", info="Filtered out: auto for the recording's own, none, or Hz such as 50",
        elem_id="prepare-notch",
    )  # fmt: skip
    return {"low": low, "high": high, "rate": rate, "notch": notch}


def _build_cut() -> dict[str, Any]:
    segment = gr.Number(
        SEGMENT_SECONDS, label="Segment, in seconds", info="The recording is cut into such pieces",
        elem_id="prepare-segment",
    )  # fmt: skip
    split = gr.Slider(
        0.5, 0.95, value=0.9, step=0.05, label="Share to train on", buttons=["reset"], elem_id="prepare-split",
        info="The rest is held out; of a single recording its end",
    )  # fmt: skip
    by = gr.Radio(
        [(told, name) for name, told in SPLIT_NAMES.items()], value="recording", label="What stays together",
        info="People are known by names such as sub-01", elem_id="prepare-by",
    )  # fmt: skip
    return {"segment": segment, "split": split, "by": by}


def _build_sensors() -> dict[str, Any]:
    layout = gr.Dropdown(
        [DEFAULT.layout, "native"], value=DEFAULT.layout, label="Sensors of the model", filterable=False,
        info="A system's layout; native keeps the recording's own, for a model that knows positions",
        elem_id="prepare-layout",
    )  # fmt: skip
    fit = gr.Dropdown(
        [(FIT_NAMES[name], name) for name in FITS], value=DEFAULT.fit_channels, label="How sensors are brought there",
        filterable=False, elem_id="prepare-fit",
    )  # fmt: skip
    bads = gr.Dropdown(
        [(BAD_NAMES[name], name) for name in BADS], value=DEFAULT.bads, label="Bad channels", filterable=False,
        elem_id="prepare-bads",
    )  # fmt: skip
    return {"layout": layout, "fit": fit, "bads": bads}


# ------------------------------------------------------------------------------------------------------------- train


def _build_train(settings: UiSettings) -> PretrainPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            asked = _build_asked(settings)
            with gr.Row():
                start = gr.Button("Pre-train", variant="primary", elem_id="pretrain-start", scale=2)
                buttons = runs_tab.build_buttons("pretrain")
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            panel = runs_tab.build_panel("pretrain", meg_views.EMPTY_TRAIN, buttons)
    return PretrainPart(**asked, start=start, panel=panel)


def _build_asked(settings: UiSettings) -> dict[str, Any]:
    preset = gr.Radio(
        PRESETS, value=PRESETS[0][1], label="Size of the model", elem_id="pretrain-preset",
        info="How long a full training takes; start with tiny",
    )  # fmt: skip
    steps = gr.Number(
        None, label="Steps", minimum=1, precision=0, elem_id="pretrain-steps",
        info="A step looks at a batch of windows and improves the model once",
    )  # fmt: skip
    window = gr.Number(
        None, label="Window, in seconds", elem_id="pretrain-window", info="What the model sees at once, cut into frames"
    )
    frames = gr.HTML(elem_id="pretrain-frames")
    with gr.Accordion("Seed and device", open=False):
        seed = gr.Number(0, label="Seed", minimum=0, precision=0, elem_id="pretrain-seed")
        device = gr.Dropdown(["auto", "cuda", "mps", "cpu"], value="auto", label="Device", filterable=False)
    gr.HTML(meg_views.about_caps(settings), elem_id="pretrain-caps")
    return {"preset": preset, "steps": steps, "window": window, "frames": frames, "seed": seed, "device": device}


# --------------------------------------------------------------------------------------------------------------- use


def _build_use() -> UsePart:
    empty = gr.HTML(meg_views.EMPTY_USE, elem_id="use-empty")
    with gr.Column(visible=False, elem_id="use-offer") as offer:
        about = gr.HTML(elem_id="use-about")
        buttons: dict[str, Any] = widgets.start_and_stop("Embed this recording and look at its layers", "use")
        card = widgets.status("", "use")
        shown = _build_shown()
        files = gr.File(
            label="The trained model, to take with you", file_count="multiple", interactive=False, elem_id="use-files"
        )
        commands = gr.Code(
            label="The same on the command line", language=None, interactive=False,
            show_line_numbers=False, wrap_lines=True, buttons=["copy"], elem_id="use-commands",
        )  # fmt: skip
    return UsePart(
        empty=empty, offer=offer, about=about, files=files, commands=commands, **buttons, card=card, **shown,
        run_id=gr.State(""),
    )  # fmt: skip


def _build_shown() -> dict[str, Any]:
    with gr.Column(visible=False, elem_id="use-results") as results:
        facts = gr.HTML(elem_id="use-facts")
        layer = gr.Radio([], label="Layer", elem_id="use-layer")
        path = gr.Plot(show_label=False, elem_id="use-path")
        figures = widgets.gallery("use-figures")
        embeddings = gr.File(label="Embeddings", file_count="multiple", interactive=False, elem_id="use-embeddings")
    return {
        "results": results, "facts": facts, "layer": layer, "path": path, "figures": figures, "embeddings": embeddings,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- wire


def wire(app: gr.Blocks, tab: MegTab, parts: MegParts, visitor: gr.BrowserState) -> list[Any]:
    """Tie the widgets to the callbacks; to be called outside of all tabs.

    Returns:
        What a page fills on opening: a function, what it takes and what it fills.
    """
    study = [
        tab.recording.study_id, tab.recording.card, tab.recording.results, tab.recording.about, tab.recording.figures,
        tab.recording.recording, tab.prepare.card, tab.prepare.about, tab.prepare.further, tab.train.panel.run_id,
    ]  # fmt: skip
    _wire_recording(tab, parts.recording, visitor, study)
    _wire_prepare(app, tab, parts.prepare)
    _wire_train(app, tab, parts)
    _wire_use(tab, parts.use)
    return [parts.recording.restore, visitor, study]


def _wire_recording(tab: MegTab, actions: RecordingActions, visitor: gr.BrowserState, study: list[Any]) -> None:
    part = tab.recording
    states = [part.card, part.start, part.stop]
    on_card: dict[str, Any] = {"show_progress_on": part.card}
    running = []
    for event in (part.source.change, part.rate.submit):
        begun = event(partial(actions.begin, "Reading the recording"), None, states, **QUICK)
        read = begun.then(actions.read, [part.source, part.rate, visitor], study, **HEAVY, **on_card, **PRIVATE)
        running += widgets.follow([read], actions, states)
    begun = part.start.click(partial(actions.begin, "Simulating a recording"), None, states, **QUICK)
    made = begun.then(actions.simulate, visitor, study, **HEAVY, **on_card, **PRIVATE)
    running += widgets.follow([made], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
    part.recording.input(actions.choose, [part.study_id, part.recording], study, **HEAVY, **PRIVATE)
    part.further.click(partial(gr.Tabs, selected="meg-prepare"), None, tab.steps, **QUICK)


def _wire_prepare(app: gr.Blocks, tab: MegTab, actions: PrepareActions) -> None:
    part = tab.prepare
    app.load(actions.layouts, None, part.layout, **QUICK)
    asked = [
        tab.recording.study_id, part.low, part.high, part.rate, part.notch, part.segment, part.split, part.by,
        part.layout, part.fit, part.bads,
    ]  # fmt: skip
    states = [part.card, part.start, part.stop]
    begun = part.start.click(partial(actions.begin, "Preparing"), None, states, **QUICK)
    done = begun.then(
        actions.prepare, asked, [part.card, part.about, part.further], **HEAVY, **PRIVATE, show_progress_on=part.card
    )
    running = widgets.follow([done], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
    part.further.click(partial(gr.Tabs, selected="meg-train"), None, tab.steps, **QUICK)


def _wire_train(app: gr.Blocks, tab: MegTab, parts: MegParts) -> None:
    part, actions, panel = tab.train, parts.train, tab.train.panel
    window = [tab.recording.study_id, part.preset, part.window]
    defaults = [part.steps, part.window]
    for filled in (app.load, part.preset.input):
        filled(actions.defaults, part.preset, defaults, **QUICK).then(actions.describe, window, part.frames, **QUICK)
    # A sampling rate other than the usual one makes other frames of the same window.
    for changed in (part.window.change, tab.prepare.about.change):
        changed(actions.describe, window, part.frames, **QUICK)
    runs_tab.wire_panel(panel, parts.runs, tab.seen)
    asked = [tab.recording.study_id, part.preset, part.steps, part.window, part.seed, part.device]
    started = part.start.click(actions.train, asked, [panel.run_id, part.start], **PRIVATE, show_progress="hidden")
    started.failure(actions.fail, None, [panel.card, part.start], **QUICK)
    use = tab.use
    offered = [part.start, use.empty, use.offer, use.about, use.commands, use.files]
    panel.shown.change(parts.use.offer, panel.run_id, offered, **WATCHING)


def _wire_use(tab: MegTab, actions: UseActions) -> None:
    part = tab.use
    states = [part.card, part.start, part.stop]
    on_card: dict[str, Any] = {"show_progress_on": part.card}
    begun = part.start.click(partial(actions.begin, "Embedding this recording"), None, states, **QUICK)
    asked = [tab.train.panel.run_id, tab.train.device]
    embedded = begun.then(actions.embed, asked, [part.embeddings, part.run_id], **HEAVY, **on_card, **PRIVATE)
    page = [part.card, part.results, part.facts, part.layer, part.path, part.figures]
    shown = embedded.success(actions.show, part.run_id, page, **HEAVY, **on_card, **PRIVATE)
    running = widgets.follow([embedded, shown], actions, states)
    part.stop.click(actions.stop, None, states, cancels=running, **QUICK)
    part.layer.input(actions.redraw, [part.run_id, part.layer], part.path, **QUICK)
