"""The callbacks of the tab "Embed": each reads widgets, calls one task, and returns what widgets show."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
import numpy as np
from gradio.components.plot import PlotData

from core.analysis.views import SignalView
from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings
from core.errors import InputError
from core.ui import cards
from core.ui.actions import ModelTasks, TabActions, buttons, page_of, plot, problems_of, reporter, show_step
from core.ui.errors import explain, shown_errors
from core.ui.sessions import Run
from core.ui.warm_up import import_all

FORMATS = ("npy", "mat", "json", "npz", "parquet")
LAYERS = [("Last", "last"), ("All", "all")]


class Tasks(ModelTasks, Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def embed(
        self, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
    ) -> EmbedResult:
        """Embed one recording and write the files."""


class Actions(TabActions[Tasks]):
    """The callbacks of the tab."""

    tab = "embed"

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
            recording: Audio file of any common format; for a MEG model a MEG recording that is one file.
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
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            source = self._acceptable(recording, model)
            settings = EmbedSettings(model, layers, device, engine, precision, max_seconds=self.settings.max_seconds)
            # The page itself draws from the .npy, so that is written in any case.
            output = OutputSettings(run.folder, formats=tuple(dict.fromkeys(["npy", *formats])))
            show_step(progress, "Loading the model")
            import_all()
            result = self.tasks.embed(source, settings, output, reporter(run, progress))
        run.keep(result)
        return _downloads(result, formats), result.info.metadata, run.id

    def _acceptable(self, recording: str | None, model: str) -> Path:
        """Return the recording's path, or raise StrataError for what this app does not take."""
        if not recording:
            raise InputError("There is no recording yet. Upload one, record one, or take an example.")
        self.check_model(model)
        self.check_recording(recording)
        return Path(recording)

    @shown_errors
    def show(
        self,
        run_id: str,
        three_d: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Fill the page with a finished run."""
        run = self.find(run_id, request)
        result = run.result(EmbedResult)
        with problems_of(run):
            self._listen(run, reporter(run, progress))
        layers = result.info.layers
        listen = run.folder / "listen.wav"
        choice = gr.Radio([(str(n), n) for n in layers], value=layers[-1], visible=len(layers) > 1)
        sound = {"url": f"gradio_api/file={listen}" if listen.is_file() else "", "run": run.id}
        return [
            gr.HTML(visible=False), gr.Column(visible=True), cards.facts(result), sound, choice,
            *_draw_timeline(run, layers[-1]), _draw_path(run, layers[-1], three_d),
        ]  # fmt: skip

    def _listen(self, run: Run, on_progress: OnProgress) -> None:
        from core.analysis.views import view_meg, view_signal
        from core.audio.signal import open_signal
        from core.embed.recordings import MEG, open_model_input, read_model_input

        result = run.result(EmbedResult)
        told = result.info.metadata
        if told.get("modality") == MEG:  # there is nothing to hear
            with open_model_input(result.source, read_model_input(Path(told["model_path"])), EmbedSettings()) as meg:
                run.keep(view_meg(meg, on_progress))
            return
        rate, channel = told["sample_rate"], told.get("channel")
        channel = channel if isinstance(channel, int) else None
        with open_signal(result.source, rate, channel, on_progress=on_progress) as signal:
            run.keep(view_signal(signal, run.folder / "listen.wav", on_progress))

    @shown_errors
    def redraw(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> list[Any]:
        """Draw another computed layer."""
        run = self.find(run_id, request)
        return [*_draw_timeline(run, layer), _draw_path(run, layer, three_d)]

    @shown_errors
    def redraw_path(self, run_id: str, layer: int, three_d: str, request: gr.Request) -> PlotData:
        """Draw the path with another number of axes."""
        return _draw_path(self.find(run_id, request), layer, three_d)

    def begin(self, recording: str | None) -> list[Any]:
        """Show that work is under way."""
        name = Path(recording).name if recording else "..."
        card = gr.HTML(cards.working(f"Embedding {name}"), visible=True)
        return [card, gr.Column(visible=False), *buttons(busy=True)]

    def begin_example(self, name: str) -> list[Any]:
        """Choose an example and show that work is under way."""
        copied = self.copy_example(name)
        return [copied, gr.Tabs(selected="file"), *self.begin(copied)]

    def describe(self, recording: str | None) -> str:
        """Say what the chosen file holds, or why it cannot be used."""
        if not recording:
            return cards.about_limits(self.settings.max_minutes, self.settings.max_upload_mb)
        try:
            return cards.about_recording(self.check_recording(recording))
        except Exception as error:
            return cards.problem_note(explain(error))

    def take_recording(self, recorded: str | None) -> list[Any]:
        """Make what was recorded the chosen file, named by its time: every recording arrives as ``audio.wav``."""
        if not recorded:
            return [gr.skip(), gr.skip()]
        named = f"recording_{datetime.now():%Y-%m-%d_%H-%M-%S}{Path(recorded).suffix}"
        return [str(Path(recorded).replace(Path(recorded).with_name(named))), gr.Tabs(selected="file")]

    def layer_choices(self, model: str) -> gr.Dropdown:
        """Offer the numbers of the layers that the chosen model has."""
        known = {entry.name: entry.n_layers for entry in self.tasks.list_models(ask_hub=False)}
        numbers = [(f"Layer {n}", str(n)) for n in range((known.get(model) or -1) + 1)]
        return gr.Dropdown([*LAYERS, *numbers])


def _draw_timeline(run: Run, layer: int) -> tuple[PlotData, str]:
    """Return the plot over time and its caption."""
    from core.analysis.views import view_image
    from core.figures.timeline import timeline_caption, timeline_figure

    result, signal = run.result(EmbedResult), run.result(SignalView)
    view = view_image(_frames(result, layer), result.info.clock, layer)
    figure = timeline_figure(signal, view, f"{result.source.stem}_layer_{layer}")
    return plot(figure), cards.note(timeline_caption(signal, view))


def _draw_path(run: Run, layer: int, three_d: str) -> PlotData:
    from core.analysis.views import view_path
    from core.figures.path import path_figure

    result = run.result(EmbedResult)
    view = view_path(_frames(result, layer), result.info.clock, layer)
    return plot(path_figure(view, f"{result.source.stem}_layer_{layer}_pca", three_d == "3-D"))


def _frames(result: EmbedResult, layer: int) -> np.ndarray:
    """Open one layer of the result, (n_frames, dim), as a memory map."""
    values = result.embeddings()
    return values if values.ndim == 2 else values[result.info.layers.index(layer)]


def _downloads(result: EmbedResult, formats: Sequence[str]) -> list[str]:
    """Name the files that were asked for and written, in the order of the formats."""
    return [str(result.files[kind]) for kind in FORMATS if kind in formats and kind in result.files]
