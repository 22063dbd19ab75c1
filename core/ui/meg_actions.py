"""The callbacks of the tab "MEG": a recording in, then prepared windows, a training, and what its model makes of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings
from core.errors import InputError
from core.findings import LayersSettings
from core.sensors import MegDescription, Preparation
from core.tasks import LayersAnalysis, LayersRequest
from core.tasks.meg.requests import PrepareRequest, PrepareSummary, PretrainSettings, SimulateRequest, Simulation
from core.ui import cards, layers_views, meg_views, runs_views
from core.ui.actions import ModelTasks, TabActions, buttons, page_of, problems_of, reporter, show_step, too_much
from core.ui.embed_actions import draw_path
from core.ui.errors import explain, shown_errors
from core.ui.files import linked, linked_folder
from core.ui.layers_views import gallery
from core.ui.meg_runs import Asked, Studies, Study
from core.ui.numbers import hertz, number, whole
from core.ui.runs_actions import files_of
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from core.ui.trainings import KeptRun
from core.ui.warm_up import import_all

ZIP = ".zip"
UNPACKED = 4
"""How many times as large as the largest upload a zip may be once it is unpacked; recordings hardly compress."""

SIMULATED_SECONDS = 120.0
NATIVE = "native"
"""Stands for the recording's own sensors where a layout is asked for."""

MODEL = "meg2vec"
"""Name of a downloaded checkpoint."""

PARTS = 10
"""Evaluations and checkpoints of a training at least, however short it is."""


class MegTasks(ModelTasks, Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def find_meg(self, inputs: Sequence[Path]) -> Sequence[Path]:
        """Find the recordings among files and folders; parts of a split one count once."""

    def simulate_meg(self, request: SimulateRequest, on_progress: OnProgress) -> Simulation:
        """Simulate a recording and write it."""

    def describe_meg(self, path: Path, numpy_rate: float | None = None) -> MegDescription:
        """Say what is in a recording."""

    def prepare_meg(self, request: PrepareRequest, on_progress: OnProgress) -> PrepareSummary:
        """Prepare recordings for a training."""

    def read_pretrain_settings(self, name: str, changes: Sequence[str] = ()) -> PretrainSettings:
        """Return the settings of a preset, with changes such as ``max_steps=50``."""

    def describe_window(self, settings: PretrainSettings, sampling_rate: int) -> str:
        """Say how many frames a training window has."""

    def meg_layouts(self) -> Mapping[str, int]:
        """Name the sensor layouts that recordings can be brought to, with their number of sensors."""

    def embed(
        self, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
    ) -> EmbedResult:
        """Embed one recording and write the files."""

    def analyse_layers(self, request: LayersRequest, on_progress: OnProgress) -> LayersAnalysis:
        """Analyse the layers of a model on recordings."""


class MegActions(TabActions[MegTasks]):
    """What the steps of the tab have in common."""

    def __init__(self, tasks: MegTasks, settings: UiSettings, sessions: Sessions, studies: Studies) -> None:
        super().__init__(tasks, settings, sessions)
        self.studies = studies

    def begin(self, what: str) -> list[Any]:
        """Show what is under way."""
        return [gr.HTML(cards.working(what), visible=True), *buttons(busy=True)]

    def shown(self, study: Study | None) -> list[Any]:
        """Return what the page shows of a study.

        Returns:
            The id; of the recording: card, column, facts, figures, list of recordings; of what was prepared: card,
            facts, button to go on; the run's id.
        """
        if study is None or study.description is None:
            card = gr.HTML(meg_views.EMPTY_RECORDING, visible=True)
            empty = gr.HTML(meg_views.EMPTY_PREPARE, visible=True)
            hidden = gr.Button(visible=False)
            return [
                "", card, gr.Column(visible=False), "", gallery([]), gr.Dropdown(visible=False), empty, "", hidden, "",
            ]  # fmt: skip
        found, several = study.description, len(study.recordings) > 1
        names = [(path.name, str(place)) for place, path in enumerate(study.recordings)]
        chosen = str([str(path) for path in study.recordings].index(found.path))
        return [
            study.id, gr.HTML(visible=False), gr.Column(visible=True), meg_views.about_recording(found),
            gallery(meg_views.figures(found)), gr.Dropdown(names, value=chosen, visible=several),
            *self.shown_prepared(study), study.run.id if study.run else "",
        ]  # fmt: skip

    def shown_prepared(self, study: Study) -> list[Any]:
        """Return card and facts of what was prepared, and the button that goes on."""
        if study.prepared is None:
            return [gr.HTML(meg_views.EMPTY_PREPARE, visible=True), "", gr.Button(visible=False)]
        told = meg_views.prepared(study.prepared, study.described.simulated)
        return [gr.HTML(visible=False), told, gr.Button(visible=True)]


# --------------------------------------------------------------------------------------------------------- recording


class RecordingActions(MegActions):
    """The callbacks of step 1."""

    tab = "meg-recording"

    @shown_errors
    def read(
        self,
        paths: list[str] | None,
        rate: str,
        visitor: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> list[Any]:
        """Look into what was sent."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            if not paths:
                return self.shown(self.studies.latest(visitor))
            show_step(progress, "Reading the recording")
            study = self._received([Path(path) for path in paths], hertz(rate))
            self._describe(study, study.recordings[0])
            study.visitor = visitor
        return self.shown(study)

    @shown_errors
    def simulate(
        self,
        visitor: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Simulate a recording, and look into it."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.open(())
            asked = SimulateRequest(study.data / "simulated_raw.fif", SIMULATED_SECONDS)
            made = self.tasks.simulate_meg(asked, reporter(run, progress))
            study.recordings = (made.path,)
            show_step(progress, "Reading the recording")
            self._describe(study, made.path)
            study.visitor = visitor
        return self.shown(study)

    @shown_errors
    def choose(self, study_id: str, place: str) -> list[Any]:
        """Look into another one of several recordings."""
        study = self.studies.get(study_id)
        self._describe(study, study.recordings[int(place)])
        return self.shown(study)

    def restore(self, visitor: str) -> list[Any]:
        """Find again what this browser worked on last, when a page opens."""
        study = self.studies.latest(visitor)
        return [gr.skip()] * 10 if study is None else self.shown(study)

    def _received(self, files: Sequence[Path], rate: float | None) -> Study:
        """Put what was sent into a folder of its own: the content of a zip, or the files as they are."""
        size, limits = sum(path.stat().st_size for path in files), self.settings
        if size > limits.max_upload_bytes:
            most = f"{limits.max_upload_mb:,g} MB"
            raise too_much("What was sent", f"has {size / 1e6:,.1f} MB", most, "--max-upload-mb")
        study = self.studies.open(tuple(map(str, files)))
        found: list[Path] = []
        for path in files:
            here = self._unpacked(path, study) if path.suffix.lower() == ZIP else linked(path, study.data / path.name)
            found.append(here)
        study.recordings, study.numpy_rate = tuple(self.tasks.find_meg(found)), rate
        if len(study.recordings) > limits.max_recordings:
            n = len(study.recordings)
            raise too_much("What was sent", f"holds {n} recordings", f"{limits.max_recordings}", "--max-recordings")
        return study

    def _unpacked(self, path: Path, study: Study) -> Path:
        from core.emotion.archives import ArchiveLimits, unpack_zip

        limits = ArchiveLimits(max_bytes=UNPACKED * self.settings.max_upload_bytes, suffixes=None)
        return unpack_zip(path, study.data / path.stem, limits)

    def _describe(self, study: Study, recording: Path) -> None:
        found = self.tasks.describe_meg(recording, study.numpy_rate)
        self.check_length(recording.name, "is", found.seconds)
        study.description = replace(found, path=str(recording))


# ----------------------------------------------------------------------------------------------------------- prepare


class PrepareActions(MegActions):
    """The callbacks of step 2."""

    tab = "meg-prepare"

    def layouts(self) -> gr.Dropdown:
        """List the layouts."""
        return gr.Dropdown([*self.tasks.meg_layouts(), NATIVE])

    @shown_errors
    def prepare(
        self,
        study_id: str,
        low: float | None,
        high: float | None,
        rate: float,
        notch: str,
        segment_seconds: float,
        split: float,
        by: str,
        layout: str,
        fit: str,
        bads: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Prepare the recordings of a study; an empty edge of the band stands for none."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.get(study_id)
            length = number(segment_seconds, "the length of a segment", "s")
            wanted = Preparation(
                whole(rate, "the sampling rate"), low or None, high or None, notch.strip() or "none", layout, fit, bads
            )
            asked = PrepareRequest(
                study.recordings, study.next_folder(), segment_length=max(1, round(length * wanted.sampling_rate)),
                split_ratio=float(split), split_by=by, preparation=wanted, numpy_rate=study.numpy_rate,
                workers=1 if len(study.recordings) == 1 else 0,
            )  # fmt: skip
            show_step(progress, "Preparing")
            study.prepared = self.tasks.prepare_meg(asked, reporter(run, progress))
            study.preparation = wanted
        return self.shown_prepared(study)


# ------------------------------------------------------------------------------------------------------------- train


class PretrainActions(MegActions):
    """The callbacks of step 3."""

    tab = "meg-train"

    def defaults(self, preset: str) -> list[Any]:
        """Return steps and window of a preset, within what this app allows."""
        settings = self.tasks.read_pretrain_settings(preset)
        return [int(min(settings.max_steps, self.settings.max_steps)), settings.window_seconds]

    def describe(self, study_id: str, preset: str, seconds: float | None) -> str:
        """Say how many frames a window has, or why it cannot be trained on."""
        study = self.studies.find(study_id)
        rate = study.preparation.sampling_rate if study else Preparation().sampling_rate
        try:
            length = number(seconds, "the window", "s")
            told = self.tasks.describe_window(
                self.tasks.read_pretrain_settings(preset, [f"window_seconds={length:g}"]), rate
            )
        except Exception as error:
            return cards.problem_note(explain(error))
        return cards.note(told)

    @shown_errors
    def train(
        self, study_id: str, preset: str, steps: float, seconds: float, seed: float, device: str, request: gr.Request
    ) -> list[Any]:
        """Start a training; returns the run's id and the state of the button."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.get(study_id)
            study.ready  # noqa: B018 (asked for before anything else is)
            changes = self._changes(preset, whole(steps, "the number of steps"), number(seconds, "the window", "s"))
            changes |= {"seed": whole(seed, "the seed", least=0), "device": device, **self._sensors(study)}
            settings = self.tasks.read_pretrain_settings(preset, [f"{name}={value}" for name, value in changes.items()])
            self.tasks.describe_window(settings, study.preparation.sampling_rate)
            self.studies.start(study, Asked(preset, changes))
        return [study.begun.id, gr.Button(interactive=False)]

    def _changes(self, preset: str, steps: int, seconds: float) -> dict[str, str | int | float]:
        """Return the settings that follow from the number of steps: a short training warms up and looks up sooner."""
        limit, before = self.settings.max_steps, self.tasks.read_pretrain_settings(preset)
        if steps > limit:
            raise too_much("The training", f"has {steps:,} steps", f"{limit:,.0f}", "STRATA_MAX_STEPS")
        each = max(1, steps // PARTS)
        changes: dict[str, str | int | float] = {
            "max_steps": steps, "window_seconds": seconds,
            "warmup_steps": math.ceil(before.warmup_steps * min(1.0, steps / before.max_steps)),
            "eval_every": min(before.eval_every, each), "checkpoint_every": min(before.checkpoint_every, each),
        }  # fmt: skip
        minutes = self.settings.max_training_minutes
        return changes | ({"max_minutes": minutes} if math.isfinite(minutes) else {})

    def _sensors(self, study: Study) -> dict[str, str | int]:
        """Return what the model has to know of the sensors."""
        layout = study.preparation.layout
        if layout == NATIVE:
            return {"sensor_input": "positions", "in_channels": len(study.described.sensors)}
        return {"in_channels": self.tasks.meg_layouts()[layout]}

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why no training was started."""
        run = self.sessions.current(page_of(request), self.tab)
        return [gr.HTML(cards.failed(run.problem if run else ""), visible=True), gr.Button(interactive=True)]


# --------------------------------------------------------------------------------------------------------------- use


class UseActions(MegActions):
    """The callbacks of step 4."""

    tab = "meg-use"

    def offer(self, run_id: str) -> list[Any]:
        """Offer the checkpoint of a run.

        Returns:
            Button to start a training; card, column, facts, commands and files of step 4.
        """
        one = self.studies.everything.find(run_id)
        if one is None or not isinstance(one.training, Study):
            return [gr.Button(interactive=True), gr.HTML(meg_views.EMPTY_USE, visible=True), gr.Column(visible=False),
                    "", "", None]  # fmt: skip
        running = one.status.state == "running"
        start = gr.Button(interactive=not running)
        checkpoint = one.training.checkpoint(one.run)
        if running or checkpoint is None:
            return [start, *[gr.skip()] * 5]
        study = one.training
        simulated = study.described.simulated
        return [
            start, gr.HTML(visible=False), gr.Column(visible=True),
            meg_views.about_checkpoint(one.run.name, runs_views.how_far(one.metrics), simulated),
            meg_views.commands(study.recordings, MODEL), [str(path) for path in files_of(one)],
        ]  # fmt: skip

    @shown_errors
    def embed(
        self,
        run_id: str,
        device: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Embed the recording with the run's checkpoint, then analyse its layers; returns files and the id."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study, checkpoint = self._trained(run_id)
            source, model = Path(study.described.path), linked_folder(checkpoint, run.folder / MODEL)
            show_step(progress, "Loading the model")
            import_all()
            settings = EmbedSettings(str(model), "all", device, max_seconds=self.settings.max_seconds)
            result = self.tasks.embed(source, settings, OutputSettings(run.folder), reporter(run, progress))
            run.keep(result)
            asked = LayersRequest((source,), settings, LayersSettings(tsne=False), run.folder / "features")
            run.keep(self.tasks.analyse_layers(asked, reporter(run, progress)))
        return [[str(path) for path in result.files.values()], run.id]

    def _trained(self, run_id: str) -> tuple[Study, Path]:
        one: KeptRun = self.studies.everything.get(run_id)
        checkpoint = one.training.checkpoint(one.run) if isinstance(one.training, Study) else None
        if checkpoint is None or not isinstance(one.training, Study):
            raise InputError("There is no checkpoint yet. Train a model in step 3 first.")
        return one.training, checkpoint

    @shown_errors
    def show(self, run_id: str, request: gr.Request) -> list[Any]:
        """Show what the model makes of the recording.

        Returns:
            Card, column, facts, choice of the layer, path, figures of the layers.
        """
        run = self.find(run_id, request)
        result, findings = run.result(EmbedResult), run.result(LayersAnalysis).findings
        layers = result.info.layers
        figures = [*layers_views.similarities(findings), *layers_views.statistics(findings)]
        return [
            gr.HTML(visible=False), gr.Column(visible=True), cards.facts(result),
            gr.Radio([(str(n), n) for n in layers], value=layers[-1]), draw_path(run, layers[-1], "2-D"),
            gallery(figures),
        ]  # fmt: skip

    @shown_errors
    def redraw(self, run_id: str, layer: int, request: gr.Request) -> Any:
        """Draw the path of another layer."""
        return draw_path(self.find(run_id, request), layer, "2-D")
