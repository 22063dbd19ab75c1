"""The callbacks of the tab "Sites": a recording in, a training on it, what the model learned, two sites compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from core.arrays import OnProgress
from core.errors import InputError
from core.tasks.meg.requests import SimulateRequest, Simulation
from core.tasks.sites.requests import (
    CompareFindings,
    CompareRequest,
    SimilarityRequest,
    SiteDescription,
    SiteSettings,
    SiteSimilarity,
    SiteUploads,
)
from core.ui import cards, sites_views
from core.ui.actions import ModelTasks, TabActions, buttons, page_of, problems_of, reporter, show_step, too_much
from core.ui.errors import explain, shown_errors
from core.ui.files import linked, linked_folder
from core.ui.layers_views import gallery
from core.ui.numbers import hertz, number, whole
from core.ui.runs_actions import files_of
from core.ui.sessions import Run, Sessions
from core.ui.settings import UiSettings
from core.ui.sites_runs import MODEL, NO_RECORDING, SitesAsked, SiteStudies, SiteStudy
from core.ui.warm_up import import_all

ZIP = ".zip"
UNPACKED = 4
"""How many times as large as the largest upload a zip may be once it is unpacked; recordings hardly compress."""

SIMULATED_SECONDS = 120.0
PARTS = 10
"""Evaluations and checkpoints of a training at least, however short it is."""

SOUND_BAND = (80.0, 8_000.0)
"""Hz of interest in sound, where a brain's band would be silence."""

OF_RUN = "run:"
"""Stands before the id of a run where a model is asked for."""

NO_MONTAGE = ("None", "")
NOT_ANALYSED = "There is no analysed model here. Analyse one in step 3 first."


class SitesTasks(ModelTasks, Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def find_sites(self, inputs: Sequence[Path]) -> SiteUploads:
        """Tell recordings, their parts and a table of sites apart."""

    def describe_sites(
        self, path: Path, montage: str = "", numpy_rate: float | None = None, table: Path | None = None
    ) -> SiteDescription:
        """Say what is in a recording."""

    def list_montages(self) -> Sequence[str]:
        """Name the montages that can be chosen."""

    def simulate_meg(self, request: SimulateRequest, on_progress: OnProgress) -> Simulation:
        """Simulate a recording and write it."""

    def read_site_settings(self, config: str, overrides: Sequence[str] = ()) -> SiteSettings:
        """Return the settings of a preset, with changes such as ``max_steps=50``."""

    def site_similarity(self, request: SimilarityRequest, on_progress: OnProgress) -> SiteSimilarity:
        """Say what a model learned of its sites."""

    def compare_sites(self, request: CompareRequest, on_progress: OnProgress) -> CompareFindings:
        """Show a model the same input under two sites."""


@dataclass(frozen=True)
class Analysed:
    """A model that was analysed: its folder or name, what was found, and the study that it was trained on, if kept."""

    model: str
    found: SiteSimilarity
    study_id: str = ""


class SitesActions(TabActions[SitesTasks]):
    """What the steps of the tab have in common."""

    def __init__(self, tasks: SitesTasks, settings: UiSettings, sessions: Sessions, studies: SiteStudies) -> None:
        super().__init__(tasks, settings, sessions)
        self.studies = studies

    def begin(self, what: str) -> list[Any]:
        """Show what is under way."""
        return [gr.HTML(cards.working(what), visible=True), *buttons(busy=True)]


# --------------------------------------------------------------------------------------------------------- recording


class SitesRecordingActions(SitesActions):
    """The callbacks of step 1."""

    tab = "sites-recording"

    def montages(self, chosen: str) -> gr.Dropdown:
        """List the montages, and keep the chosen one."""
        return gr.Dropdown([NO_MONTAGE, *((name, name) for name in self.tasks.list_montages())], value=chosen)

    def shown(self, study: SiteStudy | None) -> list[Any]:
        """Return what the page shows of a study: id, card, column, facts, figures, montage, and the run's id."""
        if study is None or study.description is None:
            empty = gr.HTML(sites_views.EMPTY_RECORDING, visible=True)
            return ["", empty, gr.Column(visible=False), "", gallery([]), gr.skip(), ""]
        found = study.description
        return [
            study.id, gr.HTML(visible=False), gr.Column(visible=True),
            sites_views.about_recording(found, len(study.sent_files.recordings)), gallery(sites_views.places(found)),
            study.montage, study.run.id if study.run else "",
        ]  # fmt: skip

    @shown_errors
    def read(
        self,
        paths: list[str] | None,
        montage: str,
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
            study = self._received([Path(path) for path in paths])
            self._describe(study, montage, hertz(rate))
            study.visitor = visitor
        return self.shown(study)

    @shown_errors
    def simulate(
        self,
        visitor: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Simulate a MEG recording, and look into it."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.open(())
            asked = SimulateRequest(study.data / "simulated_raw.fif", SIMULATED_SECONDS)
            made = self.tasks.simulate_meg(asked, reporter(run, progress))
            study.uploads = SiteUploads((made.path,))
            show_step(progress, "Reading the recording")
            self._describe(study, "", None)
            study.visitor = visitor
        return self.shown(study)

    @shown_errors
    def place(self, study_id: str, montage: str, rate: str, request: gr.Request) -> list[Any]:
        """Look into the same recording with another montage."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.find(study_id)
            if study is None:
                return [gr.skip()] * 7
            self._describe(study, montage, hertz(rate))
        return self.shown(study)

    def restore(self, visitor: str) -> list[Any]:
        """Find again what this browser worked on last, when a page opens."""
        study = self.studies.latest(visitor)
        return [gr.skip()] * 7 if study is None else self.shown(study)

    def _received(self, files: Sequence[Path]) -> SiteStudy:
        """Put what was sent into a folder of its own: the content of a zip, or the files as they are."""
        size, limits = sum(path.stat().st_size for path in files), self.settings
        if size > limits.max_upload_bytes:
            most = f"{limits.max_upload_mb:,g} MB"
            raise too_much("What was sent", f"has {size / 1e6:,.1f} MB", most, "--max-upload-mb")
        study = self.studies.open(tuple(map(str, files)))
        study.uploads = self.tasks.find_sites([self._kept(path, study) for path in files])
        n = len(study.uploads.recordings)
        if n > limits.max_recordings:
            raise too_much("What was sent", f"holds {n} recordings", f"{limits.max_recordings}", "--max-recordings")
        return study

    def _kept(self, path: Path, study: SiteStudy) -> Path:
        if path.suffix.lower() != ZIP:
            return linked(path, study.data / path.name)
        from core.emotion.archives import ArchiveLimits, unpack_zip

        limits = ArchiveLimits(max_bytes=UNPACKED * self.settings.max_upload_bytes, suffixes=None)
        return unpack_zip(path, study.data / path.stem, limits)

    def _describe(self, study: SiteStudy, montage: str, rate: float | None) -> None:
        """Read the first recording; what fails leaves the study as it was."""
        sent = study.sent_files
        found = self.tasks.describe_sites(sent.recordings[0], montage, rate, sent.table)
        self.check_length(sent.recordings[0].name, "is", found.seconds)
        study.description = replace(found, path=str(sent.recordings[0]))
        study.montage, study.numpy_rate = montage, rate


# ------------------------------------------------------------------------------------------------------------- train


class SitesTrainActions(SitesActions):
    """The callbacks of step 2."""

    tab = "sites-train"

    def defaults(self, study_id: str, preset: str) -> list[Any]:
        """Return steps, and the band in Hz, of a preset, within what this app allows and what the recording holds."""
        settings, study = self.tasks.read_site_settings(preset), self.studies.find(study_id)
        band = (settings.l_freq, settings.h_freq)
        if study is not None and _is_sound(study):
            band = (SOUND_BAND[0], min(SOUND_BAND[1], 0.45 * study.described.sampling_rate))
        return [int(min(settings.max_steps, self.settings.max_steps)), *band]

    def describe(self, study_id: str, preset: str, low: float | None, high: float | None) -> str:
        """Say what the model sees at once, or why it cannot be trained."""
        study = self.studies.find(study_id)
        try:
            if study is None or study.description is None:
                return ""
            changes = self._changes(study, (low, high))
            settings = self.tasks.read_site_settings(preset, _overrides(changes))
        except Exception as error:
            return cards.problem_note(explain(error))
        return sites_views.about_grid(settings, len(study.described.sites))

    @shown_errors
    def train(
        self,
        study_id: str,
        preset: str,
        steps: float,
        low: float,
        high: float,
        seed: float,
        device: str,
        request: gr.Request,
    ) -> list[Any]:
        """Start a training; returns the run's id and the state of the button."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            study = self.studies.get(study_id)
            changes = self._changes(study, (low, high)) | self._course(preset, whole(steps, "steps"))
            changes |= {"seed": whole(seed, "the seed", least=0), "device": device}
            self.tasks.read_site_settings(preset, _overrides(changes))
            self.studies.start(study, SitesAsked(preset, changes))
        return [study.begun.id, gr.Button(interactive=False)]

    def _changes(self, study: SiteStudy, band: tuple[float | None, float | None]) -> dict[str, str | int | float]:
        """Return the settings that follow from the recording: the band, and how it is cut into rows.

        Raises:
            InputError: It has one site only, or the band does not fit its sampling rate.
        """
        low, high = (number(edge, "an edge of the band", "Hz") for edge in band)
        limit = study.described.sampling_rate / 2
        if not low < high <= limit:
            raise InputError(f"Got a band of {low:g} to {high:g} Hz; expected it to rise, and to end by {limit:g} Hz.")
        if len(study.described.sites) < 2:
            raise InputError("The recording has one site only; there is nothing to compare it with. Send another one.")
        changes: dict[str, str | int | float] = {"l_freq": low, "h_freq": high}
        if _is_sound(study):
            changes["spacing"] = "log"
        return changes

    def _course(self, preset: str, steps: int) -> dict[str, str | int | float]:
        """Return the settings that follow from the number of steps: a short training warms up and looks up sooner."""
        limit, before = self.settings.max_steps, self.tasks.read_site_settings(preset)
        if steps > limit:
            raise too_much("The training", f"has {steps:,} steps", f"{limit:,.0f}", "STRATA_MAX_STEPS")
        each, minutes = max(1, steps // PARTS), self.settings.max_training_minutes
        course: dict[str, str | int | float] = {
            "max_steps": steps,
            "warmup_steps": math.ceil(before.warmup_steps * min(1.0, steps / before.max_steps)),
            "eval_every": min(before.eval_every, each), "checkpoint_every": min(before.checkpoint_every, each),
        }  # fmt: skip
        return course | ({"max_minutes": minutes} if math.isfinite(minutes) else {})

    def live(self, run_id: str, before: str) -> list[Any]:
        """Draw what a training has learned so far: figures, and what they are of, to draw nothing twice."""
        one = self.studies.everything.find(run_id)
        if one is None or not isinstance(one.training, SiteStudy):
            return [gallery([]), ""]
        drawn = sites_views.live(one.run.folder, one.metrics)
        now = f"{run_id} {len(drawn)} {drawn[0][0]['layout']['title']['text'] if drawn else ''}"
        return [gr.skip(), before] if now == before else [gallery(drawn, again=before.startswith(run_id)), now]

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why no training was started."""
        run = self.sessions.current(page_of(request), self.tab)
        return [gr.HTML(cards.failed(run.problem if run else ""), visible=True), gr.Button(interactive=True)]


# ----------------------------------------------------------------------------------------------------------- learned


class SitesLearnedActions(SitesActions):
    """The callbacks of step 3."""

    tab = "sites-learned"

    def offer(self, run_id: str, visitor: str, chosen: str) -> list[Any]:
        """Offer what can be analysed: this browser's trainings, the newest first, then bundled models.

        Returns:
            Button to start a training; list of models; files of the run, commands.
        """
        one = self.studies.everything.find(run_id)
        running = one is not None and one.status.state == "running"
        choices = self._choices(visitor)
        values = [value for _, value in choices]
        wanted = [f"{OF_RUN}{run_id}", chosen, *values]
        value = next((value for value in wanted if value in values), None)
        start, models = gr.Button(interactive=not running), gr.Dropdown(choices, value=value)
        if (
            running
            or one is None
            or not isinstance(one.training, SiteStudy)
            or one.training.checkpoint(one.run) is None
        ):
            return [start, models, gr.skip(), gr.skip()]
        files = gr.File([str(path) for path in files_of(one)], visible=True)
        recording = Path(one.training.described.path).name
        return [start, models, files, gr.Code(sites_views.commands(MODEL, recording), visible=True)]

    def _choices(self, visitor: str) -> list[tuple[str, str]]:
        mine = [
            (f"Your training: {one.run.name}", f"{OF_RUN}{one.run.id}")
            for one in self.studies.everything.of(visitor)
            if isinstance(one.training, SiteStudy) and one.training.checkpoint(one.run) is not None
        ]
        entries = self.tasks.list_models(ask_hub=False)
        bundled = [(f"{one.name} ({one.where})", one.name) for one in entries if one.modality == "grid"]
        return [*mine, *bundled]

    @shown_errors
    def analyse(
        self,
        model: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Analyse a model; returns the files and the id."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            name, study_id = self._model(model, run)
            show_step(progress, "Loading the model")
            import_all()
            asked = SimilarityRequest(name, run.folder / "results")
            found = self.tasks.site_similarity(asked, reporter(run, progress))
            run.keep(Analysed(name, found, study_id))
        return [[str(path) for path in found.files.values()], run.id]

    def _model(self, model: str | None, run: Run) -> tuple[str, str]:
        """Return what the task is to analyse, and the id of the study that it was trained on."""
        if not model:
            raise InputError("There is no model to analyse yet. Train one in step 2 first.")
        if not model.startswith(OF_RUN):
            self.check_model(model)
            return model, ""
        one = self.studies.everything.get(model.removeprefix(OF_RUN))
        checkpoint = one.training.checkpoint(one.run)
        if checkpoint is None:
            raise InputError("This training has kept no checkpoint yet. Wait for its first one.")
        return str(linked_folder(checkpoint, run.folder / MODEL)), one.training.id

    @shown_errors
    def show(self, run_id: str, request: gr.Request) -> list[Any]:
        """Show what a model learned.

        Returns:
            Card, column, facts, matrices, what clicks need; then what :meth:`choose` returns; then colour and maps of
            the embeddings; then the two choices of step 4 with its card and its column.
        """
        found = self.find(run_id, request).result(Analysed).found
        names = [(name, place) for place, name in enumerate(found.names)]
        colours = sites_views.colours(found)
        first, second = int(found.order[0]), int(found.order[-1])
        return [
            gr.HTML(visible=False), gr.Column(visible=True), sites_views.about_learned(found),
            gallery(sites_views.matrices(found)), {"order": [int(one) for one in found.order]},
            gr.Dropdown(names, value=first), gallery(sites_views.maps(found, first)), sites_views.nearest(found, first),
            gr.Radio(list(colours), value=colours[0], visible=len(colours) > 1),
            gallery(sites_views.embeddings(found, colours[0])), gr.Dropdown(names, value=first),
            gr.Dropdown(names, value=second), gr.Dropdown([("The first one’s", -1), *names], value=-1),
        ]  # fmt: skip

    @shown_errors
    def choose(self, run_id: str, place: int | None, request: gr.Request) -> list[Any]:
        """Compare all sites with one; returns the list of sites, the maps and the nearest sites."""
        return self._chosen(run_id, place, request)

    @shown_errors
    def click(self, run_id: str, request: gr.Request, event: gr.EventData) -> list[Any]:
        """Compare all sites with the one that was clicked."""
        return self._chosen(run_id, event.site, request)

    def _chosen(self, run_id: str, place: object, request: gr.Request) -> list[Any]:
        found = self.find(run_id, request).result(Analysed).found
        site = _place(place, found)
        return [site, gallery(sites_views.maps(found, site), again=True), sites_views.nearest(found, site)]

    @shown_errors
    def colour(self, run_id: str, colour: str, request: gr.Request) -> dict[str, Any]:
        """Draw the maps of the embeddings in other colours."""
        found = self.find(run_id, request).result(Analysed).found
        if colour not in sites_views.colours(found):
            raise InputError(f"Got the colouring {colour!r}; expected {', '.join(sites_views.colours(found))}.")
        return gallery(sites_views.embeddings(found, colour), again=True)


# ----------------------------------------------------------------------------------------------------------- compare


class SitesCompareActions(SitesActions):
    """The callbacks of step 4."""

    tab = "sites-compare"

    @shown_errors
    def compare(
        self,
        analysis_id: str,
        study_id: str,
        first: int | None,
        second: int | None,
        source: int,
        start: float | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Show the analysed model the same input under two sites; returns the files and the id."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            if not analysis_id:
                raise InputError(NOT_ANALYSED)
            analysed = self.find(analysis_id, request).result(Analysed)
            study = self.studies.find(analysed.study_id or study_id)
            if study is None:
                raise InputError(NO_RECORDING)
            names = analysed.found.names
            asked = CompareRequest(
                analysed.model, study.sent_files.recordings[0],
                (names[_place(first, analysed.found)], names[_place(second, analysed.found)]),
                source="" if source == -1 else names[_place(source, analysed.found)],
                start_seconds=_start(start), montage=study.montage, numpy_rate=study.numpy_rate,
                output_dir=run.folder / "results",
            )  # fmt: skip
            show_step(progress, "Reading the recording")
            import_all()
            found = self.tasks.compare_sites(asked, reporter(run, progress))
            run.keep(found)
        files = [str(path) for path in found.files.values()]
        return [gr.File(files, visible=bool(files)), run.id]

    @shown_errors
    def show(self, run_id: str, request: gr.Request) -> list[Any]:
        """Show the comparison; returns card, column, facts and figures."""
        found = self.find(run_id, request).result(CompareFindings)
        return [
            gr.HTML(visible=False), gr.Column(visible=True), sites_views.about_comparison(found),
            gallery(sites_views.comparison(found)),
        ]  # fmt: skip


def _place(chosen: object, found: SiteSimilarity) -> int:
    """Return the place of a site that a page chose."""
    n = len(found.names)
    if not isinstance(chosen, int | float) or chosen != chosen // 1 or not 0 <= chosen < n:
        raise InputError(f"Got the site {chosen!r} of {n:,}. Choose one of the list.")
    return int(chosen)


def _start(value: float | None) -> float:
    """Return seconds from the recording's beginning; empty for none."""
    if value is not None and not 0 <= value < math.inf:
        raise InputError(f"Got a start at {value} s; expected 0 or more.")
    return float(value or 0.0)


def _is_sound(study: SiteStudy) -> bool:
    return study.description is not None and set(study.description.sites.kinds) == {"audio"}


def _overrides(changes: dict[str, str | int | float]) -> list[str]:
    return [f"{name}={value}" for name, value in changes.items()]
