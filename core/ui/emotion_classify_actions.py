"""The callbacks of "Classify" in the tab "Emotion": a clip in, what a head says of it out."""

import csv
from pathlib import Path
from typing import Any

import gradio as gr

from core.embed.formats import json_bytes
from core.errors import DataError, InputError
from core.figures.exports import csv_text
from core.scoring import Prediction
from core.tasks.emotion import Classified, ClassifySettings
from core.ui import cards, emotion_views
from core.ui.actions import buttons, page_of, problems_of, reporter, show_step
from core.ui.emotion_actions import EmotionActions
from core.ui.errors import shown_errors
from core.ui.files import write_sound
from core.ui.sessions import Run
from core.ui.warm_up import import_all

OWN_THRESHOLD = -1.0
"""What stands for the head's own threshold."""


class ClassifyActions(EmotionActions):
    """The callbacks of "Classify"."""

    tab = "emotion-classify"

    @shown_errors
    def classify(
        self,
        recording: str | None,
        head: str,
        threshold: float,
        device: str,
        engine: str,
        precision: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> tuple[dict[str, Any], str]:
        """Say which emotion a voice sounds like, with probabilities, or that there is no answer.

        Not for decisions about people; inferring emotions at work and in education is prohibited in the EU.

        Args:
            recording: Audio file of any common format.
            head: Name of a head, as listed in the app.
            threshold: Probability below which nothing is said, 0 to 1; -1 takes the head's own.
            device: "auto", "cuda", "mps" or "cpu".
            engine: "auto", "torch" or "openvino".
            precision: "auto", "fp32" or "bf16".
            request: Filled in by Gradio.
            progress: Filled in by Gradio.

        Returns:
            The class, or why there is none; probabilities of the clip and of windows over it.
        """
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            source, checkpoint = self._acceptable(recording), self.checkpoint(head)
            settings = ClassifySettings(
                threshold=_threshold(threshold), device=device, engine=engine, precision=precision,
                max_seconds=self.settings.max_seconds,
            )  # fmt: skip
            show_step(progress, "Loading the model")
            import_all()
            outcome = self.tasks.classify_emotion([source], checkpoint, settings, reporter(run, progress))
            if outcome.failures:
                raise DataError(outcome.failures[0]["error"])
        run.keep(outcome.predictions[0])
        return self.tasks.predictions_as_json(outcome), run.id

    def _acceptable(self, recording: str | None) -> Path:
        if not recording:
            raise InputError("There is no recording yet. Upload one, record one, or take an example.")
        self.check_recording(recording)
        return Path(recording)

    @shown_errors
    def show(
        self,
        run_id: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        """Fill the page with what was said."""
        run = self.find(run_id, request)
        prediction = run.result(Prediction)
        with problems_of(run):
            show_step(progress, "Making the sound ready")
            sound = write_sound(prediction.source, run.folder / "listen.wav")
        return [
            gr.HTML(visible=False), gr.Column(visible=True), {"url": f"gradio_api/file={sound}", "run": run.id},
            gr.Slider(value=round(prediction.threshold, 2)), *self._shown(run, prediction),
        ]  # fmt: skip

    @shown_errors
    def redraw(self, run_id: str, threshold: float, request: gr.Request) -> list[Any]:
        """Show what is said at another threshold; nothing is computed again."""
        run = self.find(run_id, request)
        return self._shown(run, emotion_views.at_threshold(run.result(Prediction), _threshold(threshold)))

    def _shown(self, run: Run, prediction: Prediction) -> list[Any]:
        """Return answer, bars, timeline with its caption, files and numbers."""
        numbers = self.tasks.predictions_as_json(Classified((prediction,), ()))
        files = self._write(prediction, numbers, run.folder)
        timeline, caption = emotion_views.timeline(prediction)
        return [
            emotion_views.answer(prediction), emotion_views.bars(prediction),
            gr.Plot(timeline, visible=timeline is not None), caption, [str(path) for path in files], numbers,
        ]  # fmt: skip

    def _write(self, prediction: Prediction, numbers: dict[str, Any], folder: Path) -> list[Path]:
        """Write what was said as JSON, and as CSV: the clip first, then the windows."""
        stem = f"{prediction.source.stem}_emotion"
        as_json, as_csv = folder / f"{stem}.json", folder / f"{stem}.csv"
        as_json.write_bytes(json_bytes(numbers))
        rows = list(self.tasks.timeline_rows(prediction))
        with as_csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(map(csv_text, rows[0]))
            writer.writerows([_cell(value) for value in row.values()] for row in rows)
        return [as_json, as_csv]

    def begin(self, recording: str | None) -> list[Any]:
        """Show that work is under way."""
        name = Path(recording).name if recording else "..."
        card = gr.HTML(cards.working(f"Listening to {name}"), visible=True)
        return [card, gr.Column(visible=False), *buttons(busy=True)]

    def begin_example(self, name: str) -> list[Any]:
        """Choose an example and show that work is under way."""
        copied = self.copy_example(name)
        return [copied, *self.begin(copied)]


def _cell(value: object) -> str:
    """Return what a cell of a table says; nothing for what is not known."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else csv_text(str(value))


def _threshold(value: float | None) -> float | None:
    """Return a threshold that a widget or a program gave; None for the head's own."""
    if value is None or value == OWN_THRESHOLD:
        return None
    if not 0 <= value <= 1:
        raise InputError(f"Got {value:g} as threshold; expected 0 to 1, or -1 for the head's own.")
    return float(value)
