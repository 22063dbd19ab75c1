"""The callbacks of the tab "Embed": each reads widgets, calls one task, and returns what widgets show."""

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
import numpy as np
from gradio.components.plot import PlotData

from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress
from core.audio.reader import AudioInfo, probe
from core.errors import InputError
from core.ui import cards
from core.ui.errors import explain, shown_errors
from core.ui.progress import TimeLeft, in_words
from core.ui.sessions import Run, Sessions, Stopped
from core.ui.settings import UiSettings
from core.ui.theme import ASSETS
from core.ui.warm_up import import_all

FORMATS = ("npy", "mat", "json", "npz", "parquet")
LAYERS = [("Last", "last"), ("All", "all")]


class Tasks(Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def embed(
        self, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
    ) -> EmbedResult:
        """Embed one recording and write the files."""

    def list_models(self, *, ask_hub: bool = True) -> Sequence[Any]:
        """Name the models at hand, the default first: records with name, where and n_layers."""


class Actions:
    """The callbacks, with what they need: the tasks, the limits, and the runs of all open pages."""

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
            request: Filled in by Gradio.
            progress: Filled in by Gradio.

        Returns:
            The files, and all facts about the run: times, layers, model, device, versions.
        """
        run = self.sessions.start(_page(request))
        try:
            source = self._acceptable(recording, model)
            settings = EmbedSettings(model, layers, device, engine, precision, max_seconds=self.settings.max_seconds)
            # The page itself draws from the .npy, so that is written in any case.
            output = OutputSettings(run.folder, formats=tuple(dict.fromkeys(["npy", *formats])))
            progress(0, desc="Loading the model")
            import_all()
            run.result = self.tasks.embed(source, settings, output, _reporter(run, progress))
        except Exception as error:
            run.problem = explain(error)
            raise
        return _downloads(run.result, formats), run.result.info.metadata, run.id

    def _acceptable(self, recording: str | None, model: str) -> Path:
        """Return the recording's path, or raise StrataError for what this app does not take."""
        if not recording:
            raise InputError("There is no recording yet. Upload one, record one, or take an example.")
        if not self.settings.local_folders and _is_folder(model):
            raise InputError(f"Got the folder {model!r} as model; this app takes a model of its list or a hub id.")
        self._probe(recording)
        return Path(recording)

    def _probe(self, recording: str) -> AudioInfo:
        """Read what the file says, and hold it against the limits."""
        path, limits = Path(recording), self.settings
        size = path.stat().st_size
        if size > limits.max_upload_bytes:
            raise _too_much(path, f"has {size / 1e6:,.1f} MB", f"{limits.max_upload_mb:,g} MB", "--max-upload-mb")
        info = probe(path)
        length = info.duration_seconds or 0.0
        # Half a second of grace: what a header says of the length may include padding.
        if length > limits.max_seconds + 0.5:
            raise _too_much(path, f"is {in_words(length)} long", in_words(limits.max_seconds), "--max-minutes")
        return info

    @shown_errors
    def show(
        self,
        run_id: str,
        three_d: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Fill the page with a finished run."""
        run = self.sessions.get(_page(request), run_id)
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
            *_draw_timeline(run, layers[-1]), _draw_path(run, layers[-1], three_d),
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
    def redraw(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> list[Any]:
        """Draw another computed layer."""
        run = self.sessions.get(_page(request), run_id)
        return [*_draw_timeline(run, layer), _draw_path(run, layer, three_d)]

    @shown_errors
    def redraw_path(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> PlotData:
        """Draw the path with another number of axes."""
        return _draw_path(self.sessions.get(_page(request), run_id), layer, three_d)

    def begin(self, recording: str | None) -> list[Any]:
        """Show that work is under way."""
        name = Path(recording).name if recording else "..."
        return [gr.HTML(cards.working(name), visible=True), gr.Column(visible=False), *_buttons(busy=True)]

    def begin_example(self, name: str) -> list[Any]:
        """Choose an example and show that work is under way."""
        # Gradio hands out files of its own folder only.
        folder = self.sessions.root / "examples"
        folder.mkdir(parents=True, exist_ok=True)
        copied = Path(shutil.copy(ASSETS / "examples" / name, folder))
        return [str(copied), gr.Tabs(selected="file"), *self.begin(str(copied))]

    def end(self) -> list[Any]:
        """Show that nothing is under way any more."""
        return _buttons(busy=False)

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why there is no result."""
        run = self.sessions.current(_page(request))
        card = cards.stopped() if run is None or run.stop.is_set() else cards.failed(run.problem)
        return [gr.HTML(card, visible=True), *_buttons(busy=False)]

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the page's run."""
        self.sessions.stop(_page(request))
        return [gr.HTML(cards.stopped(), visible=True), *_buttons(busy=False)]

    def describe(self, recording: str | None) -> str:
        """Say what the chosen file holds, or why it cannot be used."""
        if not recording:
            return cards.about_limits(self.settings.max_minutes, self.settings.max_upload_mb)
        try:
            return cards.about_recording(self._probe(recording))
        except Exception as error:
            return cards.unusable_recording(explain(error))

    def take_recording(self, recorded: str | None) -> list[Any]:
        """Make what was recorded the chosen file, named by its time: every recording arrives as ``audio.wav``."""
        if not recorded:
            return [gr.skip(), gr.skip()]
        named = f"recording_{datetime.now():%Y-%m-%d_%H-%M-%S}{Path(recorded).suffix}"
        return [str(Path(recorded).replace(Path(recorded).with_name(named))), gr.Tabs(selected="file")]

    def models(self) -> gr.Dropdown:
        """List the models at hand, the default first; the hub is not asked."""
        entries = self.tasks.list_models(ask_hub=False)
        here = [entry.name for entry in entries if not entry.where.startswith("hub")] or [e.name for e in entries]
        choices = [(f"{entry.name} ({_place(entry.where)})", entry.name) for entry in entries]
        return gr.Dropdown(choices, value=here[0] if here else "")

    def layer_choices(self, model: str) -> gr.Dropdown:
        """Offer the numbers of the layers that the chosen model has."""
        known = {entry.name: entry.n_layers for entry in self.tasks.list_models(ask_hub=False)}
        numbers = [(f"Layer {n}", str(n)) for n in range((known.get(model) or -1) + 1)]
        return gr.Dropdown([*LAYERS, *numbers])


def _page(request: gr.Request) -> str:
    """Return the key of the page that asks."""
    return str(request.session_hash)


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


def _draw_timeline(run: Run, layer: int) -> tuple[PlotData, str]:
    """Return the plot over time and its caption."""
    from core.analysis.views import view_image
    from core.figures.timeline import timeline_caption, timeline_figure

    result = _result(run)
    if run.signal is None:
        raise InputError("This run was not drawn yet. Embed again.")
    view = view_image(_frames(result, layer), result.info.clock, layer)
    figure = timeline_figure(run.signal, view, f"{result.source.stem}_layer_{layer}")
    return _plot(figure), cards.note(timeline_caption(run.signal, view))


def _draw_path(run: Run, layer: int, three_d: str) -> PlotData:
    from core.analysis.views import view_path
    from core.figures.path import path_figure

    result = _result(run)
    view = view_path(_frames(result, layer), result.info.clock, layer)
    return _plot(path_figure(view, f"{result.source.stem}_layer_{layer}_pca", three_d == "3-D"))


def _frames(result: EmbedResult, layer: int) -> np.ndarray:
    """Open one layer of the result, (n_frames, dim), as a memory map."""
    values = result.embeddings()
    return values if values.ndim == 2 else values[result.info.layers.index(layer)]


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


def _too_much(path: Path, what: str, limit: str, flag: str) -> InputError:
    return InputError(
        f"{path.name} {what}; this app takes up to {limit}. Send less, or run the app on your own machine with "
        f"a higher {flag}."
    )


def _is_folder(model: str) -> bool:
    return model.startswith((".", "~", "/")) or "\\" in model or model.count("/") > 1 or Path(model).is_dir()


def _buttons(busy: bool) -> list[Any]:
    return [gr.Button(interactive=not busy), gr.Button(visible=busy)]
