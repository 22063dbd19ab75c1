"""The callbacks of the tab "Layers": each reads widgets, calls one task, and returns what widgets show."""

import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gradio as gr
import numpy as np

from core.arrays import EmbedSettings, OnProgress, Progress
from core.embed.recordings import MEG, modality_of
from core.errors import InputError
from core.findings import LayerProjection, LayersFindings, LayersSettings, ModelFindings
from core.tasks import LayersAnalysis, LayersRequest
from core.ui import cards, layers_views
from core.ui.actions import ModelTasks, TabActions, buttons, page_of, plot, problems_of, reporter, show_step, too_much
from core.ui.errors import explain, shown_errors
from core.ui.files import packed, write_sound
from core.ui.progress import in_words
from core.ui.sessions import Run
from core.ui.uploads import Marks, Uploads, about_marks, sort_uploads, write_manifest
from core.ui.warm_up import import_all

if TYPE_CHECKING:
    from core.analysis.tsne import TsneState

NO_MODEL = "none"
"""Value of the second model where there is none: Gradio shows no label for an empty one."""

SINGLY = (".html", ".json", ".png", ".svg")
"""Suffixes of the files that are offered singly, in this order: report, summary and figures."""

STATE_ITERATIONS = 10
"""Iterations from one state of a watched map to the next."""

STATE_SECONDS = 0.08
"""How long a state of a watched map stays at least: 500 iterations of 1,000 points would be over in a second."""


class LayersTasks(ModelTasks, Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def analyse_layers(self, request: LayersRequest, on_progress: OnProgress) -> LayersAnalysis:
        """Analyse recordings."""

    def summarise_layers(self, analysis: LayersAnalysis) -> dict[str, Any]:
        """Return what was found as JSON-ready numbers."""

    def write_layers(
        self, analysis: LayersAnalysis, folder: Path, on_progress: OnProgress, *, force: bool = False
    ) -> dict[str, Path]:
        """Write report, figures and tables."""


@dataclass(frozen=True)
class Analysis:
    """A finished analysis on a page.

    Attributes:
        found: What the task returned.
        maps: t-SNE maps so far by model and layer, (n, 2), with a note on each.
    """

    found: LayersAnalysis
    maps: dict[tuple[str, int], tuple[np.ndarray, str]] = field(default_factory=dict)

    @property
    def findings(self) -> LayersFindings:
        """What was found, with the maps that were made since."""
        findings = self.found.findings
        return replace(findings, models=tuple(self._with_maps(model) for model in findings.models))

    def model(self, name: str) -> ModelFindings:
        """Return what was found about a model, with its maps."""
        found = [model for model in self.findings.models if model.model == name]
        if not found:
            raise InputError(f"Got the model {name!r}; this analysis has no such model. Analyse again.")
        return found[0]

    def complete(self) -> LayersAnalysis:
        """Return what the task returned, with the maps, for the files."""
        return replace(self.found, findings=self.findings)

    def nearest_map(self, model: str, layer: int) -> np.ndarray | None:
        """Return the map of the layer that is nearest to another, (n, 2), or None."""
        made = [index for name, index in self.maps if name == model and index != layer]
        return self.maps[model, min(made, key=lambda index: abs(index - layer))][0] if made else None

    def _with_maps(self, model: ModelFindings) -> ModelFindings:
        def with_map(layer: LayerProjection) -> LayerProjection:
            made = self.maps.get((model.model, layer.index))
            return layer if made is None else replace(layer, tsne=made[0], tsne_note=made[1])

        return replace(model, projections=tuple(with_map(layer) for layer in model.projections))


class LayersActions(TabActions[LayersTasks]):
    """The callbacks of the tab."""

    tab = "layers"

    @shown_errors
    def layers(
        self,
        recordings: list[str] | None,
        model: str,
        compare: str,
        control: bool,
        layers: str,
        span: str,
        similarity: str,
        max_points: float,
        device: str,
        engine: str,
        precision: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> tuple[dict[str, Any], str]:
        """Analyse what each layer of a model holds; the files come from /layers_files afterwards.

        Args:
            recordings: Audio files, for MEG models MEG files, whose annotations are labels; alignments among them
                (TextGrid, CTM, CSV, JSON) go by the recording's name, and so do the rows of a CSV with the columns file
                and speaker, label or both.
            model: Bundled name, hub id or folder, as listed in the app.
            compare: Second model on the same recordings, or "none".
            control: Whether to analyse the same architecture with random weights beside.
            layers: "all" or numbers such as "0,6,12"; 0 is the transformer's input.
            span: What a row is: "frame"; "phone" or "word", which need alignments; "label", an annotation of MEG.
            similarity: Between layers: "cka", "cosine" or "pwcca".
            max_points: Rows drawn at most.
            device: "auto", "cuda", "mps" or "cpu".
            engine: "auto", "torch" or "openvino".
            precision: "auto", "fp32" or "bf16".
            request: Filled in by Gradio.
            progress: Filled in by Gradio.

        Returns:
            The numbers found.
        """
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            sent, marks = self._acceptable(recordings, [model, compare], span)
            embed = EmbedSettings(model, "all", device, engine, precision, max_seconds=self.settings.max_seconds)
            # t-SNE waits until somebody watches it.
            settings = LayersSettings(
                layers, span, _gathered(sent, run.folder), similarity=similarity, max_points=_count(max_points),
                tsne=False, control=control,
            )  # fmt: skip
            features = self.sessions.cache(page_of(request)) / "features"
            second = None if compare in ("", NO_MODEL) else compare
            show_step(progress, "Loading the model")
            import_all()
            asked = LayersRequest(_inputs(sent, marks, run.folder), embed, settings, features, second)
            analysis = Analysis(self.tasks.analyse_layers(asked, reporter(run, progress)))
        run.keep(analysis)
        return self.tasks.summarise_layers(analysis.found), run.id

    def _acceptable(self, paths: Sequence[str] | None, models: Sequence[str], span: str) -> tuple[Uploads, Marks]:
        """Tell the files apart and read the lists, or raise StrataError for what this app does not take."""
        sent = sort_uploads(paths)
        if not sent.recordings:
            raise InputError("There is no recording yet. Upload some, or take an example.")
        if span in ("phone", "word") and not sent.aligned:
            raise InputError(
                f"Got the span {span!r} and no alignment for any of the {len(sent.recordings)} recordings. Add "
                "TextGrid, CTM, CSV or JSON files that are named as the recordings, or take frames."
            )
        for model in models:
            self.check_model(model)
        self._seconds(sent)
        return sent, sent.marks()

    def _seconds(self, sent: Uploads) -> float:
        """Hold the recordings against the limits and return their length together."""
        limit = self.settings.max_recordings
        if len(sent.recordings) > limit:
            raise too_much(
                "The choice", f"holds {len(sent.recordings)} recordings", str(limit), "STRATA_MAX_RECORDINGS"
            )
        total = sum(self.check_recording(str(path)).duration_seconds or 0.0 for path in sent.recordings)
        self.check_length("All together", "are", total)
        return total

    def describe(self, paths: list[str] | None) -> str:
        """Say what the chosen files hold, or why they cannot be used."""
        sent = sort_uploads(paths)
        if not paths:
            return cards.about_limits(self.settings.max_minutes, self.settings.max_upload_mb)
        try:
            seconds, marks = self._seconds(sent), sent.marks()
        except Exception as error:
            return cards.problem_note(explain(error))
        n = len(sent.recordings)
        told = f"{n} recording{'' if n == 1 else 's'}" + (f", {in_words(seconds)}" if seconds else "")
        known = about_marks(marks, n)
        told += f"; {known}" if known else ""
        if not sent.alignments and all(modality_of(path) == MEG for path in sent.recordings):
            return cards.note(f"{told}; the annotations in the files are labels.")
        if not sent.alignments:
            more = "" if known else ", and a CSV with the columns file and speaker"
            return cards.note(
                f"{told}; no alignments: add TextGrid, CTM, CSV or JSON files of the same names if you can{more}."
            )
        return cards.note(f"{told}; alignments for {len(sent.aligned)} of them.")

    def second_models(self) -> gr.Dropdown:
        """Offer a second model."""
        return gr.Dropdown([("None", NO_MODEL), *self.model_choices()], value=NO_MODEL)

    def begin(self, paths: list[str] | None) -> list[Any]:
        """Show that work is under way."""
        n = len(sort_uploads(paths).recordings)
        what = f"Analysing {n} recording{'' if n == 1 else 's'}" if n else "Analysing"
        return [gr.HTML(cards.working(what), visible=True), gr.Column(visible=False), *buttons(busy=True)]

    def begin_example(self, names: str) -> list[Any]:
        """Choose examples, separated by blanks, and show that work is under way."""
        copied = [self.copy_example(name) for name in names.split()]
        return [copied, *self.begin(copied)]

    @shown_errors
    def show(
        self,
        run_id: str,
        three_d: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Fill the page with a finished analysis."""
        run = self.find(run_id, request)
        analysis = run.result(Analysis)
        findings = analysis.findings
        with problems_of(run):
            sounds = self._listen(run, page_of(request), reporter(run, progress))
        names = [model.model for model in findings.models]
        choice = gr.Radio([(cards.model_name(name), name) for name in names], value=names[0], visible=len(names) > 1)
        compared = layers_views.comparison(analysis.found.comparison, findings)
        return [
            gr.HTML(visible=False), gr.Column(visible=True), layers_views.facts(findings),
            layers_views.gallery(layers_views.similarities(findings)),
            {"run": run.id, "urls": sounds, "span": findings.span}, choice,
            *_draw_pca(analysis, names[0], three_d, None), *_no_map(), *_no_rows(),
            layers_views.gallery(layers_views.statistics(findings)),
            layers_views.gallery(layers_views.properties(findings)), layers_views.skipped(findings), compared, None,
        ]  # fmt: skip

    def _listen(self, run: Run, page: str, on_progress: OnProgress) -> list[str]:
        """Write each recording as the player needs it, once a page, and return the addresses; MEG has no sound."""
        folder = self.sessions.cache(page) / "listen"
        folder.mkdir(exist_ok=True)
        recordings = run.result(Analysis).findings.recordings
        if any(modality_of(Path(str(recording["path"]))) == MEG for recording in recordings):
            return []
        urls = []
        for place, recording in enumerate(recordings):
            on_progress(Progress("making the sound ready", place, len(recordings), "recordings"))
            target = folder / f"{recording['sha256']}.wav"
            if not target.is_file():
                write_sound(Path(str(recording["path"])), target)
            urls.append(f"gradio_api/file={target}")
        return urls

    @shown_errors
    def redraw(self, run_id: str, model: str, three_d: str, layer: float, request: gr.Request) -> list[Any]:
        """Draw the rows of another model, or in another number of dimensions."""
        return _draw_pca(self.find(run_id, request).result(Analysis), model, three_d, int(layer))

    @shown_errors
    def show_maps(self, run_id: str, model: str, layer: float, request: gr.Request) -> list[Any]:
        """Draw the maps that another model has so far."""
        analysis = self.find(run_id, request).result(Analysis)
        made = [index for name, index in analysis.maps if name == model]
        return _draw_maps(analysis, model, int(layer) if int(layer) in made else made[-1]) if made else _no_map()

    @shown_errors
    def watch(
        self, run_id: str, model: str, perplexity: float, layer: float, request: gr.Request
    ) -> Iterator[list[Any]]:
        """Make the t-SNE map of a layer, and show it while it forms; a stop keeps what there is."""
        run = self.find(run_id, request)
        run.stop.clear()
        with problems_of(run):
            yield from _watched(run, model, int(layer), perplexity)

    def begin_watching(self) -> list[Any]:
        """Show that a map is under way."""
        return [*buttons(busy=True), cards.note("Waiting for the first points.")]

    def fail_watching(self, request: gr.Request) -> list[Any]:
        """Show why there is no map."""
        run = self.sessions.current(page_of(request), self.tab)
        return [*buttons(busy=False), cards.problem_note(run.problem if run else "")]

    def stop_watching(self, request: gr.Request) -> None:
        """End the map that is under way; what there is stays."""
        self.sessions.stop(page_of(request), self.tab)

    @shown_errors
    def choose(self, run_id: str, model: str, request: gr.Request, event: gr.EventData) -> list[Any]:
        """List the rows that were chosen in a map."""
        run = self.find(run_id, request)
        table = run.result(Analysis).model(model).table
        rows = np.unique(np.asarray(event.rows, dtype=np.int64))
        if not len(rows):
            return _no_rows()
        if rows[0] < 0 or rows[-1] >= len(table):
            raise InputError(f"Got row {rows[-1]:,} of {len(table):,}. Choose the rows again.")
        chosen, path = table.take(rows), run.folder / "chosen_rows.csv"
        layers_views.write_rows(chosen, path)
        return [layers_views.chosen(chosen), gr.DownloadButton(value=str(path), visible=True)]

    @shown_errors
    def files(
        self,
        run_id: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[str]:
        """Write the last analysis of this session: report, figures and tables.

        Args:
            run_id: Kept by Gradio.
            request: Filled in by Gradio.
            progress: Filled in by Gradio.

        Returns:
            One zip of everything, then the report, the summary and the figures singly.
        """
        run = self.find(run_id, request)
        run.stop.clear()
        folder = run.folder / "layers"
        written = self.tasks.write_layers(run.result(Analysis).complete(), folder, reporter(run, progress), force=True)
        singly = sorted((path for path in written.values() if _is_single(path, folder)), key=_by_use)
        return [str(packed(folder)), *map(str, singly)]


def _count(value: float) -> int:
    """Return a count that a widget or a program gave, or raise InputError."""
    if not value >= 1:
        raise InputError(f"Got {value} as the number of points; expected 1 or more, such as 5000.")
    return int(value)


def _inputs(sent: Uploads, marks: Marks, folder: Path) -> tuple[Path, ...]:
    """Return the recordings, or the manifest that names them with what the lists say."""
    return (write_manifest(sent.recordings, marks, folder / "recordings.csv"),) if marks else sent.recordings


def _gathered(sent: Uploads, folder: Path) -> Path | None:
    """Copy the alignments into one folder, where they are found by name; None where there are none."""
    if not sent.alignments:
        return None
    target = folder / "alignments"
    target.mkdir()
    for path in sent.alignments:
        shutil.copy(path, target)
    return target


def _draw_pca(analysis: Analysis, model: str, three_d: str, layer: int | None) -> list[Any]:
    figure, caption = layers_views.pca(analysis.model(model), layer, three_d == "3-D", analysis.findings.span)
    return [plot(figure), cards.how_to_read(caption)]


def _watched(run: Run, model: str, layer: int, perplexity: float) -> Iterator[list[Any]]:
    """Make a map from the one of the nearest layer, if there is one, so that the slider moves points."""
    from core.analysis.tsne import TsneSettings, finished_map, tsne_steps

    analysis = run.result(Analysis)
    settings = TsneSettings(perplexity, every=STATE_ITERATIONS, seed=LayersSettings.seed)
    points = analysis.found.points[model]
    rows = points.values[points.layers.index(layer)]
    for state in _paced(tsne_steps(rows, settings, analysis.nearest_map(model, layer)), run.stop):
        note = f"Layer {layer}: iteration {state.iteration:,} of {state.total:,}, KL {state.kl:.2f}"
        analysis.maps[model, layer] = (state.points, note)
        if state.iteration:
            yield [layers_views.moved(state.points, layer, note), cards.note(note)]
        else:
            yield _draw_maps(analysis, model, layer)
        if run.stop.is_set():
            analysis.maps[model, layer] = (state.points, f"{note}, stopped")
            break
    else:
        finished = finished_map(rows, state, settings)
        analysis.maps[model, layer] = (finished.points, f"layer {layer}: {finished.note}")
    yield _draw_maps(analysis, model, layer)


def _paced(states: Iterable["TsneState"], stop: threading.Event) -> Iterator["TsneState"]:
    """Hand out states no faster than one can see them; what takes longer anyway is not held up, nor is a stop."""
    until = 0.0
    for state in states:
        stop.wait(max(0.0, until - time.monotonic()))
        yield state
        # From here on the page has it.
        until = time.monotonic() + STATE_SECONDS


def _draw_maps(analysis: Analysis, model: str, layer: int) -> list[Any]:
    found = analysis.model(model)
    note = analysis.maps[model, layer][1]
    return [layers_views.gallery([layers_views.tsne(found, layer, analysis.findings.span)]), cards.note(note)]


def _no_map() -> list[Any]:
    return [layers_views.gallery([]), ""]


def _no_rows() -> list[Any]:
    return ["", gr.DownloadButton(value=None, visible=False)]


def _is_single(path: Path, folder: Path) -> bool:
    """Whether a file is offered by itself: no two of these have one name."""
    return path.suffix in SINGLY and path.parent in (folder, folder / "figures")


def _by_use(path: Path) -> tuple[int, str]:
    return SINGLY.index(path.suffix), path.name
