"""The tab "Embed": a recording in, the frames of a model out, on screen and as files."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.components.plot import PlotData

from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress
from core.errors import InputError
from core.ui import cards
from core.ui.errors import explain, shown_errors
from core.ui.progress import TimeLeft
from core.ui.sessions import Run, Sessions, Stopped
from core.ui.settings import UiSettings
from core.ui.theme import ASSETS

HEAVY = {"concurrency_id": "heavy", "concurrency_limit": 1}
"""All events that compute share one place in the queue: two models at once would not fit, nor be faster."""

QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

FORMATS = {"npy": "NumPy .npy", "mat": "MATLAB .mat", "json": "Facts .json", "npz": "Layers .npz", "parquet": "Table .parquet"}
LAYERS = [("Last", "last"), ("All", "all")]
EXAMPLES = {
    "one_sentence.flac": "A sentence",
    "two_voices.flac": "Two voices",
    "test_sounds.flac": "Test sounds",
}


class Tasks(Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def embed(
        self, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
    ) -> EmbedResult:
        """Embed one recording and write the files."""

    def list_models(self, *, ask_hub: bool = True) -> Sequence[Any]:
        """Name the models at hand, the default first: records with name, where and n_layers."""


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
    with gr.Row(elem_classes="strata-examples"):
        gr.HTML('<p class="strata-note">Examples</p>')
        examples = {name: gr.Button(label, size="sm", min_width=60) for name, label in EXAMPLES.items()}
    models = gr.Dropdown(
        [""], value="", label="Model", info="A model from the list, a hub id or a folder", allow_custom_value=True, elem_id="embed-model"
    )
    layers = gr.Dropdown(
        LAYERS, value="last", label="Layers", info="0 is the transformer's input; several as 0,6,12", allow_custom_value=True
    )
    with gr.Accordion("Device, precision and files", open=False):
        options = _build_options()
    with gr.Row():
        start = gr.Button("Embed", variant="primary", elem_id="embed-start", scale=2)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="embed-stop", scale=1)
    return {
        "source": source, "about": about, "microphone": microphone, "inputs": inputs, "examples": examples,
        "model": models, "layers": layers, **options, "start": start, "stop": stop,
    }  # fmt: skip


def _build_options() -> dict[str, Any]:
    device = gr.Dropdown(["auto", "cuda", "mps", "cpu"], value="auto", label="Device", filterable=False)
    engine = gr.Dropdown(["auto", "torch", "openvino"], value="auto", label="Engine", filterable=False)
    precision = gr.Dropdown(["auto", "fp32", "bf16"], value="auto", label="Precision", filterable=False)
    files = [(label, name) for name, label in FORMATS.items()]
    formats = gr.CheckboxGroup(files, value=["npy", "mat", "json"], label="Files to download")
    return {"device": device, "engine": engine, "precision": precision, "formats": formats}


def _build_results() -> dict[str, Any]:
    card = gr.HTML(cards.EMPTY, elem_id="embed-card")
    with gr.Column(visible=False, elem_id="embed-results") as results:
        facts = gr.HTML(elem_id="embed-facts")
        player = gr.HTML(
            {},
            html_template=(ASSETS / "player.html").read_text(encoding="utf-8"),
            js_on_load=(ASSETS / "bridge.js").read_text(encoding="utf-8"),
            elem_id="embed-player",
        )
        layer = gr.Radio([], label="Layer shown", elem_id="embed-layer", visible=False)
        timeline = gr.Plot(show_label=False, elem_id="embed-timeline")
        caption = gr.HTML(elem_id="embed-caption")
        dimensions = gr.Radio(["2-D", "3-D"], value="2-D", label="Path of the frames", elem_id="embed-dimensions")
        path = gr.Plot(show_label=False, elem_id="embed-path")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="embed-files")
        with gr.Accordion("All facts about this run", open=False):
            metadata = gr.JSON(label="Facts", show_label=False)
    return {
        "card": card, "results": results, "facts": facts, "player": player, "layer": layer, "timeline": timeline,
        "caption": caption, "dimensions": dimensions, "path": path, "files": files, "metadata": metadata,
    }  # fmt: skip


class Actions:
    """The callbacks of the tab: each reads widgets, calls one task, and returns what widgets show."""

    def __init__(self, tasks: Tasks, settings: UiSettings, sessions: Sessions) -> None:
        self.tasks, self.settings, self.sessions = tasks, settings, sessions

    @shown_errors
    def embed(
        self,
        recording: str | None,
        model: str,
        layers: str,
        device: str,
        engine: str,
        precision: str,
        formats: list[str],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> tuple[list[str], dict[str, Any], str]:
        """Embed a recording: one vector for each 20 ms or so of sound, with the time of each.

        Args:
            recording: Audio file of any common format.
            model: Bundled name, hub id or folder, as listed in the app.
            layers: "last", "all", or numbers such as "0,6,12"; 0 is the transformer's input.
            device: "auto", "cuda", "mps" or "cpu".
            engine: "auto", "torch" or "openvino".
            precision: "auto", "fp32" or "bf16".
            formats: Which files to write: any of "npy", "mat", "json", "npz" and "parquet".

        Returns:
            The files, and all facts about the run: times, layers, model, device, versions.
        """
        run = self.sessions.start(request.session_hash)
        try:
            source = self._acceptable(recording, model)
            settings = EmbedSettings(
                model, layers, device, engine, precision, max_seconds=self.settings.max_seconds
            )
            # The page itself draws from the .npy, so that is written in any case.
            output = OutputSettings(run.folder, formats=tuple(dict.fromkeys(["npy", *formats])))
            run.result = self.tasks.embed(source, settings, output, _reporter(run, progress))
        except Exception as error:
            run.problem = explain(error)
            raise
        return _downloads(run.result, formats), run.result.info.metadata, run.id

    def _acceptable(self, recording: str | None, model: str) -> Path:
        """Return the recording's path, or raise InputError for what this app does not take."""
        if not recording:
            raise InputError("There is no recording yet. Upload one, record one, or take an example.")
        size = Path(recording).stat().st_size
        if size > self.settings.max_upload_bytes:
            raise InputError(
                f"{Path(recording).name} has {size / 1e6:,.1f} MB; this app takes up to {self.settings.max_upload_mb:,.0f} MB. "
                "Send a shorter or compressed recording, or run the app on your own machine with --max-upload-mb."
            )
        if not self.settings.local_folders and _is_folder(model):
            raise InputError(f"Got the folder {model!r} as model; this app takes a model of its list or a hub id.")
        return Path(recording)

    @shown_errors
    def show(
        self, run_id: str, three_d: str, request: gr.Request, progress: gr.Progress = gr.Progress()  # noqa: B008
    ) -> list[Any]:
        """Fill the page with a finished run."""
        run = self.sessions.get(request.session_hash, run_id)
        result = _result(run)
        try:
            self._listen(run, _reporter(run, progress))
        except Exception as error:
            run.problem = explain(error)
            raise
        layers = result.info.layers
        choice = gr.Radio([(str(n), n) for n in layers], value=layers[-1], visible=len(layers) > 1)
        sound = {"url": f"gradio_api/file={run.folder / 'listen.wav'}", "run": run.id}
        return [
            gr.HTML(visible=False), gr.Column(visible=True), cards.facts(result), sound, choice,
            *self._draw(run, layers[-1], three_d),
        ]  # fmt: skip

    def _listen(self, run: Run, on_progress: OnProgress) -> None:
        from core.analysis.views import view_signal
        from core.audio.signal import open_signal

        told = _result(run).info.metadata
        rate, channel = told["sample_rate"], told.get("channel")
        channel = channel if isinstance(channel, int) else None
        with open_signal(_result(run).source, rate, channel, on_progress=on_progress) as signal:
            run.signal = view_signal(signal, run.folder / "listen.wav", on_progress)

    @shown_errors
    def redraw(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> tuple[PlotData, str, PlotData]:
        """Draw another computed layer."""
        return self._draw(self.sessions.get(request.session_hash, run_id), layer, three_d)

    @shown_errors
    def redraw_path(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> PlotData:
        """Draw the path with another number of axes."""
        return self._draw(self.sessions.get(request.session_hash, run_id), layer, three_d)[2]

    def _draw(self, run: Run, layer: int, three_d: str) -> tuple[PlotData, str, PlotData]:
        from core.analysis.views import view_layer
        from core.figures.path import path_figure
        from core.figures.timeline import timeline_caption, timeline_figure

        result, values = _result(run), _result(run).embeddings()
        frames = values if values.ndim == 2 else values[result.info.layers.index(layer)]
        view, name = view_layer(frames, result.info.clock, layer), f"{result.source.stem}_layer_{layer}"
        timeline = timeline_figure(run.signal, view, name)
        path = path_figure(view, f"{name}_pca", three_d == "3-D")
        return _plot(timeline), cards.note(timeline_caption(run.signal, view)), _plot(path)

    def begin(self, recording: str | None) -> list[Any]:
        """Show that work is under way."""
        name = Path(recording).name if recording else "..."
        return [gr.HTML(cards.working(name), visible=True), gr.Column(visible=False), *_buttons(busy=True)]

    def begin_example(self, name: str, request: gr.Request) -> list[Any]:
        """Choose an example and show that work is under way."""
        folder = self.sessions.start(request.session_hash).folder.parent / "examples"
        folder.mkdir(exist_ok=True)
        copied = Path(shutil.copy(ASSETS / "examples" / name, folder))
        return [str(copied), gr.Tabs(selected="file"), *self.begin(str(copied))]

    def end(self) -> list[Any]:
        """Show that nothing is under way any more."""
        return _buttons(busy=False)

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why there is no result."""
        run = self.sessions.current(request.session_hash)
        stopped = run is None or run.stop.is_set()
        return [gr.HTML(cards.stopped() if stopped else cards.failed(run.problem), visible=True), *_buttons(busy=False)]

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the page's run."""
        self.sessions.stop(request.session_hash)
        return [gr.HTML(cards.stopped(), visible=True), *_buttons(busy=False)]

    def describe(self, recording: str | None) -> str:
        """Say what the chosen file holds, or why it cannot be used."""
        if not recording:
            return cards.about_limits(self.settings.max_minutes, self.settings.max_upload_mb)
        from core.audio.reader import probe

        try:
            return cards.about_recording(probe(recording))
        except Exception as error:
            return cards.unusable_recording(explain(error))

    def take_recording(self, recorded: str | None) -> list[Any]:
        """Make what was recorded the chosen file."""
        return [recorded, gr.Tabs(selected="file")] if recorded else [gr.skip(), gr.skip()]

    def models(self) -> gr.Dropdown:
        """List the models at hand, the default first; the hub is not asked."""
        entries = self.tasks.list_models(ask_hub=False)
        here = [entry.name for entry in entries if not entry.where.startswith("hub")]
        choices = [(f"{entry.name} ({_place(entry.where)})", entry.name) for entry in entries]
        return gr.Dropdown(choices, value=here[0] if here else "")

    def layer_choices(self, model: str) -> gr.Dropdown:
        """Offer the numbers of the layers that the chosen model has."""
        known = {entry.name: entry.n_layers for entry in self.tasks.list_models(ask_hub=False)}
        numbers = [(f"Layer {n}", str(n)) for n in range((known.get(model) or -1) + 1)]
        return gr.Dropdown([*LAYERS, *numbers])


def _place(where: str) -> str:
    return "from the hub" if where.startswith("hub") else where


def _reporter(run: Run, progress: gr.Progress) -> OnProgress:
    """Return a listener that moves the bar, and ends the run once it was stopped."""
    words = TimeLeft()

    def report(done: Progress) -> None:
        if run.stop.is_set():
            raise Stopped
        share = min(1.0, done.done / done.total) if done.total > 0 else 0.0
        progress(share, desc=words.describe(done))

    return report


def _plot(figure: dict[str, Any]) -> PlotData:
    from core.figures.plotly_json import to_json

    return PlotData(type="plotly", plot=to_json(figure))


def _result(run: Run) -> EmbedResult:
    if run.result is None:
        raise InputError("This run has no result. Embed again.")
    return run.result


def _downloads(result: EmbedResult, formats: Sequence[str]) -> list[str]:
    """Name the files that were asked for and written, in the order of the formats."""
    return [str(result.files[kind]) for kind in FORMATS if kind in formats and kind in result.files]


def _is_folder(model: str) -> bool:
    return model.startswith((".", "~", "/")) or "\\" in model or model.count("/") > 1 or Path(model).is_dir()


def _buttons(busy: bool) -> list[Any]:
    return [gr.Button(interactive=not busy), gr.Button(visible=busy)]


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
        begun = button.click(_example(actions, name), None, [tab.source, tab.inputs, *states], **QUICK)
        running += _chain(begun, tab, actions, api_visibility="private")
    tab.stop.click(actions.stop, None, [tab.card, tab.start, tab.stop], cancels=running, **QUICK)


def _chain(begun: Any, tab: EmbedTab, actions: Actions, **public: Any) -> list[Any]:
    """After ``begun``: embed, then show; whatever fails is said on the page."""
    settings = [tab.model, tab.layers, tab.device, tab.engine, tab.precision, tab.formats]
    files = [tab.files, tab.metadata, tab.run_id]
    page = [tab.card, tab.results, tab.facts, tab.player, tab.layer, tab.timeline, tab.caption, tab.path]
    on_card: dict[str, Any] = {"show_progress_on": tab.card}
    embedded = begun.then(actions.embed, [tab.source, *settings], files, **HEAVY, **on_card, **public)
    shown = embedded.success(
        actions.show, [tab.run_id, tab.dimensions], page, **HEAVY, **on_card, api_visibility="private"
    )
    shown.success(actions.end, None, [tab.start, tab.stop], **QUICK)
    for event in (embedded, shown):
        event.failure(actions.fail, None, [tab.card, tab.start, tab.stop], **QUICK)
    return [embedded, shown]


def _example(actions: Actions, name: str) -> Callable[[gr.Request], list[Any]]:
    def begin(request: gr.Request) -> list[Any]:
        return actions.begin_example(name, request)

    return begin
