"""The callbacks of "Train" in the tab "Emotion": labelled voices in, a head and its score out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from core.arrays import EmbedSettings
from core.errors import InputError
from core.scoring import CorpusSettings, EmotionFindings, HeadSettings, LabelledCorpus
from core.tasks.emotion import EmotionRequest
from core.ui import cards, emotion_views, runs_views
from core.ui.actions import page_of, problems_of, show_step, too_much
from core.ui.emotion_actions import EmotionActions
from core.ui.emotion_runs import Training, Voices
from core.ui.errors import explain, shown_errors, without_folders
from core.ui.files import linked, packed
from core.ui.layers_views import gallery
from core.ui.progress import TimeLeft
from core.ui.settings import UiSettings
from core.ui.trainings import KeptRun
from core.ui.warm_up import import_all

ZIP = ".zip"
UNPACKED = 8
"""How many times as large as the largest upload a zip may be once it is unpacked."""

BUSY = "The training under way is of the voices before. Wait for its end or stop it, then send these again."


class TrainActions(EmotionActions):
    """The callbacks of "Train"."""

    tab = "emotion-train"

    # ------------------------------------------------------------------------------------------------- what is sent

    def describe(
        self, paths: list[str] | None, scheme: str, mapping: str, skip_missing: bool, training_id: str
    ) -> list[Any]:
        """Say what was recognised in what was sent, or why it cannot be used; then the id under which it is kept."""
        known = self.trainings.find(training_id)
        if known is not None and self.trainings.is_running(known) and tuple(paths or ()) != known.sent:
            return [cards.problem_note(BUSY), training_id]
        if not paths:
            return [gr.skip(), training_id] if known and known.run else [about_limits(self.settings), ""]
        try:
            corpus = self._corpus_settings(scheme, mapping, skip_missing)
            training = self._sent(paths, corpus, training_id)
        except Exception as error:
            return [cards.problem_note(explain(error)), ""]
        return [emotion_views.about_corpus(training.voices.corpus), training.id]

    def clear(self, training_id: str) -> list[Any]:
        """Take away what is told of voices that were sent before: card, report, folds, curves, the button to resume."""
        known = self.trainings.find(training_id)
        if known is not None and known.run is not None:
            return [gr.skip()] * 5
        card = gr.HTML(emotion_views.EMPTY_TRAIN, visible=True)
        return [card, gr.Column(visible=False), "", gallery([]), gr.Button(visible=False)]

    def take_example(self, name: str) -> list[str]:
        """Choose labelled voices that come with the app."""
        return [self.copy_example(name)]

    def _corpus_settings(self, scheme: str, mapping: str, skip_missing: bool) -> CorpusSettings:
        return CorpusSettings(scheme, self.tasks.read_mapping(mapping) if mapping.strip() else None, skip_missing)

    def _sent(self, paths: Sequence[str] | None, settings: CorpusSettings, training_id: str) -> Training:
        """Return what the page has sent and this app has read already, or read it now.

        Raises:
            StrataError: what cannot be used, or is more than this app takes.
        """
        known = self.trainings.find(training_id)
        if known is None or (paths and tuple(paths) != known.sent):
            known = self._received(paths)
        if known.read is None or known.read.settings != settings:
            known.read = Voices(settings, self.tasks.read_corpus(known.data, settings, known.folder / "unpacked"))
        n, limit = len(known.read.corpus.clips), self.settings.max_clips
        if n > limit:
            raise too_much(known.read.corpus.name, f"holds {n:,} clips", f"{limit:,}", "STRATA_MAX_CLIPS")
        return known

    def _received(self, paths: Sequence[str] | None) -> Training:
        """Put what was sent into a folder of its own: the content of a zip, or the files as they are."""
        from core.emotion.archives import ArchiveLimits, unpack_zip

        if not paths:
            raise InputError("There are no labelled voices yet. Send a zip, or recordings with a CSV list.")
        files = [Path(path) for path in paths]
        zips = self._checked(files)
        training = self.trainings.open(tuple(paths))
        if zips:
            # Lists and such come beside the recordings.
            limits = ArchiveLimits(2 * self.settings.max_clips, UNPACKED * self.settings.max_upload_bytes)
            training.data = unpack_zip(zips[0], training.data / zips[0].stem, limits)
        for path in files:
            if path not in zips:
                linked(path, training.data / path.name)
        return training

    def _checked(self, files: Sequence[Path]) -> list[Path]:
        """Hold what was sent against the limits, and return the zips among it: one, or none."""
        size, limits = sum(path.stat().st_size for path in files), self.settings
        if size > limits.max_upload_bytes:
            most = f"{limits.max_upload_mb:,g} MB"
            raise too_much("What was sent", f"has {size / 1e6:,.1f} MB", most, "--max-upload-mb")
        if len(files) > limits.max_clips:
            raise too_much("What was sent", f"has {len(files):,} files", f"{limits.max_clips:,}", "STRATA_MAX_CLIPS")
        zips = [path for path in files if path.suffix.lower() == ZIP]
        if len(zips) > 1:
            raise InputError(f"Got {len(zips)} zips; expected one. Pack all recordings into one zip.")
        return zips

    # ---------------------------------------------------------------------------------------------------- training

    @shown_errors
    def train(
        self,
        recordings: list[str] | None,
        scheme: str,
        mapping: str,
        skip_missing: bool,
        model: str,
        head: str,
        layer: str,
        pooling: str,
        folds: str,
        seed: float,
        device: str,
        engine: str,
        precision: str,
        training_id: str,
        request: gr.Request,
    ) -> tuple[dict[str, Any], str]:
        """Train a head on labelled voices; returns at once: /emotion_report tells how it goes and what came of it.

        Args:
            recordings: One zip, or recordings with a CSV of the columns file, speaker, emotion.
            scheme: How files are named, "auto" for whatever fits.
            mapping: Classes of the labels, such as "angry=anger,sad=sadness,calm="; empty for the scheme's own.
            skip_missing: Whether files that cannot be used are left out and named.
            model: Encoder by bundled name, hub id or folder, as listed in the app.
            head: "linear" or "mlp".
            layer: "all" for a mixture that is learned, or a number.
            pooling: "mean_std", "mean", "max", "std", "multi", "attention" or "learned".
            folds: "auto", "loso", "split" or a number.
            seed: Of every draw.
            device: "auto", "cuda", "mps" or "cpu".
            engine: "auto", "torch" or "openvino".
            precision: "auto", "fp32" or "bf16".
            training_id: Kept by Gradio.
            request: Filled in by Gradio.

        Returns:
            The training's id, and what was recognised.
        """
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            self.check_model(model)
            corpus = self._corpus_settings(scheme, mapping, skip_missing)
            training = self._sent(recordings, corpus, training_id)
            asked = EmotionRequest(
                training.data, training.features, corpus, EmbedSettings(model, "all", device, engine, precision),
                HeadSettings(head, layer.strip() or "all", pooling, seed=_whole(seed)), folds.strip() or "auto",
            )  # fmt: skip
            self.trainings.start(training, asked, mapping.strip())
        return {"training": training.id, **_facts(training.voices.corpus)}, training.id

    def begin(self) -> list[Any]:
        """Show that a training is about to start."""
        return [
            gr.HTML(cards.working("Starting"), visible=True),
            gr.Column(visible=False),
            gr.Button(interactive=False),
        ]

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why no training was started."""
        run = self.sessions.current(page_of(request), self.tab)
        return [gr.HTML(cards.failed(run.problem if run else ""), visible=True), gr.Button(interactive=True)]

    @shown_errors
    def stop_training(self, training_id: str) -> None:
        """Ask the training to keep what it has and to end."""
        self.trainings.stop(self.trainings.get(training_id))

    @shown_errors
    def resume(self, training_id: str) -> None:
        """Go on with a training that was stopped."""
        self.trainings.resume(self.trainings.get(training_id))

    # ----------------------------------------------------------------------------------------------------- watching

    def restore(self, training_id: str | None) -> list[Any]:
        """Find the training again that this browser knows of, when a page opens."""
        training = self.trainings.find(training_id)
        if training is None:
            return ["", gr.skip(), *self.watch("", "")]
        about = emotion_views.about_corpus(training.read.corpus) if training.read else gr.skip()
        return [training.id, about, *self.watch(training.id, "")]

    def watch(self, training_id: str, shown: str) -> list[Any]:
        """Show how a training stands.

        Args:
            training_id: Of the page.
            shown: What the page shows already, as this function said it the last time.

        Returns:
            Card, buttons to start, stop and resume, results, folds, curves, timer, what is shown now, and the id of the
            run that has finished, if it has.
        """
        training = self.trainings.find(training_id)
        if training is None or training.run is None:
            return [gr.skip()] * 7 + [gr.Timer(active=False), "", ""]
        state, metrics = self.trainings.status(training).state, self.trainings.metrics(training)
        now = f"{training.run.id} {state} {len(metrics)}"
        card = self._card(training)
        if now == shown:
            return [card, *[gr.skip()] * 9]
        # The report shows the folds as well.
        folds = "" if state == "finished" else emotion_views.fold_bars(metrics)
        return [
            card, gr.Button(interactive=state != "running"), gr.Button(visible=state == "running"),
            gr.Button(visible=state == "stopped"), gr.Column(visible=state == "finished"),
            folds, gallery(emotion_views.curves(metrics), again=True), gr.Timer(active=state == "running"), now,
            training.run.id if state == "finished" else "",
        ]  # fmt: skip

    def _card(self, training: Training) -> gr.HTML:
        one = KeptRun(self.trainings, training, training.begun)
        # What has finished says so by its report.
        return gr.HTML(visible=False) if one.status.state == "finished" else gr.HTML(runs_views.card(one), visible=True)

    # ------------------------------------------------------------------------------------------------------- report

    @shown_errors
    def show(
        self,
        training_id: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> list[Any]:
        """Fill the page with what a training that has finished is worth; nothing happens where it has not."""
        if self.trainings.head(training_id) is None:
            return [gr.skip()] * 5
        training = self.trainings.get(training_id)
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            show_step(progress, "Reading the scores")
            import_all()
            findings = self._findings(training)
        return [
            emotion_views.headline(findings), gallery(emotion_views.report_figures(findings)),
            emotion_views.scores(findings.main), [str(path) for path in _downloads(training)],
            self.tasks.summarise_emotion(findings),
        ]  # fmt: skip

    def _findings(self, training: Training) -> EmotionFindings:
        """Return what the training found."""
        if training.findings is None:
            training.findings = self.tasks.read_emotion(training.report)
        return training.findings

    @shown_errors
    def report(self, training: str) -> dict[str, Any]:
        """Tell how a training goes, and what came of it.

        Args:
            training: The id that /emotion_train returned.

        Returns:
            ``state`` (running, finished, stopped or failed) with ``error`` and ``progress`` in words; once it has
            finished, the scores as ``summary``, and the addresses of the ``files``.
        """
        known = self.trainings.get(training)
        status, progress = self.trainings.status(known), self.trainings.progress(known)
        told: dict[str, Any] = {
            "state": status.state, "error": without_folders(status.error),
            "progress": "" if progress is None else TimeLeft().describe(progress),
        }  # fmt: skip
        if status.state == "finished":
            told["summary"] = self.tasks.summarise_emotion(self._findings(known))
            told["files"] = {path.name: f"gradio_api/file={path}" for path in _downloads(known)}
        return told


def about_limits(settings: UiSettings) -> str:
    """Say what may be sent."""
    return cards.note(
        f"A zip of up to {settings.max_upload_mb:,.0f} MB and {settings.max_clips:,} clips, with file names of "
        "RAVDESS, EmoDB, CREMA-D, TESS, SAVEE, nEMO or URDU, or with a CSV of the columns file, speaker, emotion. Or "
        "the CSV and the recordings themselves."
    )


def _downloads(training: Training) -> list[Path]:
    """Return the head as a zip, the report, and everything that the report is made from as a zip."""
    made = [packed(folder) for folder in (training.head, training.report) if folder.is_dir()]
    report = training.report / "report.html"
    return [*made[:1], *([report] if report.is_file() else []), *made[1:]]


def _facts(corpus: LabelledCorpus) -> dict[str, Any]:
    """Return what was recognised as JSON-ready numbers."""
    return {
        "scheme": corpus.scheme, "n": len(corpus.clips), "n_speakers": len(set(corpus.speakers.tolist())),
        "classes": dict(sorted(Counter(clip.label for clip in corpus.clips).items())), "mapping": dict(corpus.mapping),
        "warnings": list(corpus.warnings), "failures": list(corpus.failures),
    }  # fmt: skip


def _whole(value: float | None) -> int:
    """Return a seed that a widget or a program gave."""
    if value is None or value != value // 1 or value < 0:
        raise InputError(f"Got {value} as the seed; expected a whole number from 0 on.")
    return int(value)
