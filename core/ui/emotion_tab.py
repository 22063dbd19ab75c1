"""The tab "Emotion": classify a voice, train on labelled voices, and look at them as a map."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core.scoring import HEADS, POOLINGS
from core.ui import emotion_views, widgets
from core.ui.actions import plot
from core.ui.emotion_classify_actions import OWN_THRESHOLD, ClassifyActions
from core.ui.emotion_map_actions import MapActions
from core.ui.emotion_train_actions import TrainActions, about_limits
from core.ui.runs_tab import TICK_SECONDS, WATCHING
from core.ui.settings import UiSettings
from core.ui.widgets import HEAVY, PRIVATE, QUICK

VOICES = {"made_voices.zip": "Made voices: six speakers, three styles"}
EXAMPLES = {"one_sentence.flac": "A sentence", "two_voices.flac": "Two voices"}
HEAD_NAMES = {"linear": "Linear", "mlp": "Network (mlp)"}
POOLING_NAMES = {
    "mean_std": "Mean and deviation",
    "mean": "Mean",
    "max": "Maximum",
    "std": "Deviation",
    "multi": "Mean, maximum and deviation",
    "attention": "Attention, without training",
    "learned": "Attention, learned (mlp only)",
}
COLOURS = [("Emotion", "emotion"), ("Speaker", "speaker")]
KEPT_AS = "strata-training"
"""Where the browser keeps which training is its own."""


@dataclass(frozen=True)
class ClassifyPart:
    """The widgets of "Classify"."""

    source: gr.Audio
    examples: dict[str, gr.Button]
    head: gr.Dropdown
    device: gr.Dropdown
    engine: gr.Dropdown
    precision: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    answer: gr.HTML
    bars: gr.HTML
    threshold: gr.Slider
    player: gr.HTML
    timeline: gr.Plot
    caption: gr.HTML
    files: gr.File
    numbers: gr.JSON
    asked: gr.Number
    run_id: gr.State


@dataclass(frozen=True)
class TrainPart:
    """The widgets of "Train"."""

    source: gr.File
    about: gr.HTML
    examples: dict[str, gr.Button]
    scheme: gr.Textbox
    mapping: gr.Textbox
    skip_missing: gr.Checkbox
    model: gr.Dropdown
    head: gr.Radio
    layer: gr.Textbox
    pooling: gr.Dropdown
    folds: gr.Textbox
    seed: gr.Number
    device: gr.Dropdown
    engine: gr.Dropdown
    precision: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    card: gr.HTML
    folds_done: gr.HTML
    curves: gr.HTML
    results: gr.Column
    headline: gr.HTML
    figures: gr.HTML
    scores: gr.HTML
    files: gr.File
    summary: gr.JSON
    recognised: gr.JSON
    training_id: gr.State
    shown: gr.State
    finished: gr.State


@dataclass(frozen=True)
class MapPart:
    """The widgets of "Map"."""

    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    results: gr.Column
    about: gr.HTML
    method: gr.Radio
    colour: gr.Radio
    clip: gr.Dropdown
    player: gr.HTML
    map: gr.Plot
    caption: gr.HTML
    likeness: gr.HTML
    clusters: gr.HTML
    files: gr.File
    run_id: gr.State


@dataclass(frozen=True)
class EmotionTab:
    """The three parts of the tab; ``seen``: the tab itself."""

    seen: gr.Tab
    classify: ClassifyPart
    train: TrainPart
    map: MapPart


@dataclass(frozen=True)
class Watch:
    """What watches a training whichever tab is open; a tab that was not looked at yet has no widgets in the browser.

    Attributes:
        browser: Keeps the training's id in the browser.
        timer: Asks how it stands.
        visitor: Whose it is.
    """

    browser: gr.BrowserState
    timer: gr.Timer
    visitor: gr.BrowserState


@dataclass(frozen=True)
class EmotionParts:
    """The callbacks of the three parts."""

    classify: ClassifyActions
    train: TrainActions
    map: MapActions


def build(tab: gr.Tab, settings: UiSettings) -> EmotionTab:
    """Lay out the tab, which the caller has opened."""
    with gr.Tabs(elem_id="emotion-parts"):
        with gr.Tab("Classify", id="emotion-classify"):
            classify = _build_classify()
        with gr.Tab("Train", id="emotion-train"):
            train = _build_train(settings)
        with gr.Tab("Map", id="emotion-map"):
            clips = _build_map()
    return EmotionTab(tab, classify, train, clips)


# --------------------------------------------------------------------------------------------------------- classify


def _build_classify() -> ClassifyPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            asked = _build_clip()
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            said = _build_answer()
    own = gr.Number(OWN_THRESHOLD, visible=False)
    return ClassifyPart(**asked, **said, asked=own, run_id=gr.State(""))


def _build_clip() -> dict[str, Any]:
    source = gr.Audio(
        sources=["upload", "microphone"], type="filepath", label="Clip", elem_id="classify-source", buttons=[]
    )
    examples = widgets.examples(EXAMPLES)
    head = gr.Dropdown(
        [""],
        value="",
        label="Classifier",
        info="A head: bundled, trained here, or its folder",
        allow_custom_value=True,
        elem_id="classify-head",
    )
    with gr.Accordion("Device and precision", open=False):
        running = widgets.running()
    started = widgets.start_and_stop("Classify", "classify")
    return {"source": source, "examples": examples, "head": head, **running, **started}


def _build_answer() -> dict[str, Any]:
    card = widgets.status(emotion_views.EMPTY_CLASSIFY, "classify")
    with gr.Column(visible=False, elem_id="classify-results") as results:
        answer = gr.HTML(elem_id="classify-answer")
        bars = gr.HTML(elem_id="classify-bars")
        threshold = gr.Slider(
            0, 1, value=0, step=0.01, label="Speak from this probability on", elem_id="classify-threshold",
            info="Nothing is computed again: move it and see what would be said", buttons=["reset"],
        )  # fmt: skip
        player = widgets.player("emotion")
        timeline = gr.Plot(show_label=False, elem_id="classify-timeline")
        caption = gr.HTML(elem_id="classify-caption")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="classify-files")
        with gr.Accordion("All numbers", open=False):
            numbers = gr.JSON(label="Numbers", show_label=False, elem_id="classify-numbers", elem_classes="strata-json")
    return {
        "card": card, "results": results, "answer": answer, "bars": bars, "threshold": threshold, "player": player,
        "timeline": timeline, "caption": caption, "files": files, "numbers": numbers,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ train


def _build_train(settings: UiSettings) -> TrainPart:
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            asked = _build_voices(settings)
        with gr.Column(scale=5, min_width=340, elem_classes="strata-outputs"):
            found = _build_report()
    states: dict[str, Any] = {name: gr.State("") for name in ("training_id", "shown", "finished")}
    return TrainPart(**asked, **found, **states)


def _build_voices(settings: UiSettings) -> dict[str, Any]:
    source = gr.File(label="Labelled voices", file_count="multiple", elem_id="train-source", height=150)
    about = gr.HTML(about_limits(settings), elem_id="train-about")
    examples = widgets.examples(VOICES)
    with gr.Accordion("How files are read", open=False):
        reading = _build_reading()
    model = widgets.model("train-model")
    head = gr.Radio(
        [(HEAD_NAMES[name], name) for name in HEADS], value="linear", label="Head", elem_id="train-head",
        info="Linear is done in a moment; the network learns in epochs",
    )  # fmt: skip
    with gr.Accordion("Layers, folds and device", open=False):
        options = _build_options()
    with gr.Row():
        start = gr.Button("Train", variant="primary", elem_id="train-start", scale=2)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="train-stop", scale=1)
        resume = gr.Button("Resume", visible=False, elem_id="train-resume", scale=1)
    return {
        "source": source, "about": about, "examples": examples, **reading, "model": model, "head": head, **options,
        "start": start, "stop": stop, "resume": resume,
    }  # fmt: skip


def _build_reading() -> dict[str, Any]:
    scheme = gr.Textbox("auto", label="File names", info="auto, or a corpus such as ravdess", elem_id="train-scheme")
    mapping = gr.Textbox(
        "", label="Classes of the labels", placeholder="angry=anger,sad=sadness,calm=", elem_id="train-mapping",
        info="Empty for the corpus's own; a label without a class is left out",
    )  # fmt: skip
    skip = gr.Checkbox(False, label="Leave out files that cannot be used", elem_id="train-skip")
    return {"scheme": scheme, "mapping": mapping, "skip_missing": skip}


def _build_options() -> dict[str, Any]:
    layer = gr.Textbox("all", label="Layer", info="all for a mixture that is learned, or one", elem_id="train-layer")
    pooling = gr.Dropdown(
        [(POOLING_NAMES[name], name) for name in POOLINGS], value="mean_std", label="Pooling of frames",
        filterable=False, elem_id="train-pooling",
    )  # fmt: skip
    folds = gr.Textbox("auto", label="Folds", info="auto, loso, split or a number", elem_id="train-folds")
    seed = gr.Number(0, label="Seed", minimum=0, precision=0, elem_id="train-seed")
    return {"layer": layer, "pooling": pooling, "folds": folds, "seed": seed, **widgets.running()}


def _build_report() -> dict[str, Any]:
    card = widgets.status(emotion_views.EMPTY_TRAIN, "train")
    with gr.Column(visible=False, elem_id="train-results") as results:
        headline = gr.HTML(elem_id="train-headline")
        figures = widgets.gallery("train-figures")
        scores = gr.HTML(elem_id="train-scores")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="train-files")
        with gr.Accordion("All numbers of this evaluation", open=False):
            summary = gr.JSON(label="Numbers", show_label=False, elem_id="train-summary", elem_classes="strata-json")
    folds_done = gr.HTML(elem_id="train-folds-done")
    curves = widgets.gallery("train-curves")
    # Galleries draw with Plotly, which Gradio loads with a plot of its own.
    gr.Plot(plot({"data": [], "layout": {}}), show_label=False, elem_classes="strata-loader")
    return {
        "card": card, "folds_done": folds_done, "curves": curves, "results": results, "headline": headline,
        "figures": figures, "scores": scores, "files": files, "summary": summary,
        "recognised": gr.JSON(visible=False),
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- map


def _build_map() -> MapPart:
    gr.HTML('<p class="strata-note">The voices, the model, the layer and the pooling are those under “Train”.</p>')
    started = widgets.start_and_stop("Make the map", "map")
    card = widgets.status(emotion_views.EMPTY_MAP, "map")
    with gr.Column(visible=False, elem_id="map-results") as results:
        about = gr.HTML(elem_id="map-about")
        with gr.Row(elem_classes="strata-choices"):
            method = gr.Radio([], label="Map", elem_id="map-method")
            colour = gr.Radio(COLOURS, value="emotion", label="Coloured by", elem_id="map-colour")
            clip = gr.Dropdown([], label="Clip", elem_id="map-clip", info="Or click a point")
        player = widgets.player("emotion_map")
        drawn = gr.Plot(show_label=False, elem_id="map-map")
        caption = gr.HTML(elem_id="map-caption")
        clusters = gr.HTML(elem_id="map-clusters")
        with gr.Accordion("How alike every two clips are", open=False):
            likeness = widgets.gallery("map-likeness")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="map-files")
    return MapPart(
        **started, card=card, results=results, about=about, method=method, colour=colour, clip=clip, player=player,
        map=drawn, caption=caption, likeness=likeness, clusters=clusters, files=files, run_id=gr.State(""),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- wire


def wire(app: gr.Blocks, tab: EmotionTab, parts: EmotionParts, visitor: gr.BrowserState) -> None:
    """Tie the widgets to the callbacks; to be called outside of all tabs."""
    kept = gr.BrowserState("", storage_key=KEPT_AS, secret=KEPT_AS)
    watch = Watch(kept, gr.Timer(TICK_SECONDS, active=False), visitor)
    _wire_classify(tab.classify, parts.classify)
    _wire_train(app, tab, parts, watch)
    _wire_map(tab, parts.map)


def _wire_classify(part: ClassifyPart, actions: ClassifyActions) -> None:
    states = [part.card, part.results, part.start, part.stop]
    begun = part.start.click(actions.begin, part.source, states, **QUICK)
    running = _listen(begun, part, actions, api_name="emotion_classify", api_visibility="public")
    for name, button in part.examples.items():
        begun = button.click(partial(actions.begin_example, name), None, [part.source, *states], **QUICK)
        running += _listen(begun, part, actions, **PRIVATE)
    # What was recorded or sent is listened to at once.
    for chosen in (part.source.stop_recording, part.source.upload):
        begun = chosen(actions.begin, part.source, states, **QUICK)
        running += _listen(begun, part, actions, **PRIVATE)
    part.stop.click(actions.stop, None, [part.card, part.start, part.stop], cancels=running, **QUICK)
    moved: dict[str, Any] = {**QUICK, "trigger_mode": "always_last"}
    part.threshold.input(actions.redraw, [part.run_id, part.threshold], _said(part), **moved)


def _said(part: ClassifyPart) -> list[Any]:
    return [part.answer, part.bars, part.timeline, part.caption, part.files, part.numbers]


def _listen(begun: Any, part: ClassifyPart, actions: ClassifyActions, **public: Any) -> list[Any]:
    """After ``begun``: classify, then show; whatever fails is said on the page."""
    asked = [part.source, part.head, part.asked, part.device, part.engine, part.precision]
    page = [part.card, part.results, part.player, part.threshold, *_said(part)]
    on_card: dict[str, Any] = {"show_progress_on": part.card}
    said = begun.then(actions.classify, asked, [part.numbers, part.run_id], **HEAVY, **on_card, **public)
    shown = said.success(actions.show, part.run_id, page, **HEAVY, **on_card, **PRIVATE)
    return widgets.follow([said, shown], actions, [part.card, part.start, part.stop])


def _wire_train(app: gr.Blocks, tab: EmotionTab, parts: EmotionParts, watch: Watch) -> None:
    part, actions = tab.train, parts.train
    known = [part.training_id, part.shown]
    watched = [
        part.card, part.start, part.stop, part.resume, part.results, part.folds_done, part.curves, watch.timer,
        part.shown, part.finished,
    ]  # fmt: skip
    app.load(actions.models, outputs=part.model, **QUICK)
    app.load(actions.restore, watch.browser, [part.training_id, part.about, *watched], **WATCHING)
    app.load(parts.classify.heads, watch.browser, tab.classify.head, **QUICK)
    # Whoever comes back to the tab sees what was done to the training elsewhere.
    for look in (watch.timer.tick, tab.seen.select):
        look(actions.watch, known, watched, **WATCHING)
    _wire_voices(part, actions, watch)
    _wire_start(part, actions, watch, watched)
    for button, act in ((part.stop, actions.stop_training), (part.resume, actions.resume)):
        done = button.click(act, part.training_id, None, **QUICK)
        done.then(actions.watch, known, watched, **WATCHING)
    report = [part.headline, part.figures, part.scores, part.files, part.summary]
    on_headline: dict[str, Any] = {"show_progress_on": part.headline}
    ended = part.finished.change(actions.show, part.training_id, report, **HEAVY, **PRIVATE, **on_headline)
    ended.success(parts.classify.heads, part.training_id, tab.classify.head, **QUICK)
    gr.api(actions.report, api_name="emotion_report", concurrency_id=HEAVY["concurrency_id"], concurrency_limit=1)


def _wire_voices(part: TrainPart, actions: TrainActions, watch: Watch) -> None:
    """What was sent is read at once, and again when it is to be read in another way."""
    read = [part.source, part.scheme, part.mapping, part.skip_missing, part.training_id]
    told = [part.about, part.training_id]
    before = [part.card, part.results, part.folds_done, part.curves, part.resume]
    for name, button in part.examples.items():
        button.click(partial(actions.take_example, name), None, part.source, **QUICK)
    for changed in (part.source.change, part.scheme.submit, part.mapping.submit, part.skip_missing.input):
        described = changed(actions.describe, read, told, **PRIVATE, show_progress_on=part.about)
        described.then(lambda number: number, part.training_id, watch.browser, **QUICK)
        described.then(actions.clear, part.training_id, before, **QUICK)


def _wire_start(part: TrainPart, actions: TrainActions, watch: Watch, watched: list[Any]) -> None:
    asked = [
        part.source, part.scheme, part.mapping, part.skip_missing, part.model, part.head, part.layer, part.pooling,
        part.folds, part.seed, part.device, part.engine, part.precision, part.training_id,
    ]  # fmt: skip
    begun = part.start.click(actions.begin, None, [part.card, part.results, part.start], **QUICK)
    started = begun.then(
        actions.train, asked, [part.recognised, part.training_id], api_name="emotion_train", api_visibility="public"
    )
    started.success(lambda number: number, part.training_id, watch.browser, **QUICK)
    started.success(actions.trainings.claim, [part.training_id, watch.visitor], None, **QUICK)
    started.success(actions.watch, [part.training_id, part.shown], watched, **WATCHING)
    started.failure(actions.fail, None, [part.card, part.start], **QUICK)


def _wire_map(tab: EmotionTab, actions: MapActions) -> None:
    part, train = tab.map, tab.train
    asked = [
        train.training_id, train.model, train.layer, train.pooling, train.device, train.engine, train.precision,
    ]  # fmt: skip
    page = [
        part.card, part.results, part.about, part.method, part.clip, part.player, part.map, part.caption, part.likeness,
        part.clusters,
    ]  # fmt: skip
    on_card: dict[str, Any] = {"show_progress_on": part.card}
    begun = part.start.click(actions.begin, None, [part.card, part.results, part.start, part.stop], **QUICK)
    embedded = begun.then(actions.embed, asked, [part.files, part.run_id], **HEAVY, **on_card, **PRIVATE)
    shown = embedded.success(actions.show, [part.run_id, part.colour], page, **HEAVY, **on_card, **PRIVATE)
    running = widgets.follow([embedded, shown], actions, [part.card, part.start, part.stop])
    part.stop.click(actions.stop, None, [part.card, part.start, part.stop], cancels=running, **QUICK)
    for choice in (part.method, part.colour):
        choice.input(actions.redraw, [part.run_id, part.method, part.colour], [part.map, part.caption], **QUICK)
    part.clip.input(actions.choose_named, [part.run_id, part.clip], part.player, **QUICK)
    part.player.chosen(actions.choose, part.run_id, part.player, **QUICK)
