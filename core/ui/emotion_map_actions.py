"""The callbacks of "Map" in the tab "Emotion": labelled voices in, their clips as points that can be played out."""

from pathlib import Path
from typing import Any

import gradio as gr

from core.arrays import EmbedSettings
from core.errors import InputError
from core.scoring import HeadSettings
from core.tasks.emotion import EmotionEmbeddings, EmotionRequest
from core.ui import cards, emotion_views
from core.ui.actions import buttons, page_of, problems_of, reporter, show_step
from core.ui.emotion_actions import EmotionActions
from core.ui.errors import shown_errors
from core.ui.files import write_sound
from core.ui.layers_views import gallery
from core.ui.sessions import Run
from core.ui.warm_up import import_all

NEIGHBOURS = 8
"""Nearest clips that the page lists."""

ARRAYS = ("embeddings", "labels", "sources", "speakers")
"""What is offered first, in this order."""


class MapActions(EmotionActions):
    """The callbacks of "Map"."""

    tab = "emotion-map"

    @shown_errors
    def embed(
        self,
        training_id: str,
        model: str,
        layer: str,
        pooling: str,
        device: str,
        engine: str,
        precision: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for one)
    ) -> tuple[list[str], str]:
        """Embed the clips that were sent under "Train", and map them; returns the files and the run's id."""
        run = self.sessions.start(page_of(request), self.tab)
        with problems_of(run):
            training = self.trainings.get(training_id)
            self.check_model(model)
            asked = EmotionRequest(
                training.data, training.features, training.voices.settings,
                EmbedSettings(model, "all", device, engine, precision), HeadSettings(layer=layer, pooling=pooling),
            )  # fmt: skip
            show_step(progress, "Loading the model")
            import_all()
            found = self.tasks.embed_emotion(asked, run.folder / "embeddings", reporter(run, progress))
        run.keep(found)
        return _downloads(found), run.id

    @shown_errors
    def show(self, run_id: str, colour: str, request: gr.Request) -> list[Any]:
        """Fill the page with a map."""
        found = self._found(run_id, request)[1]
        names = list(found.map.maps)
        # Neighbours are what one looks for; t-SNE keeps them best of the maps that are always there.
        chosen = next((name for name in ("t-SNE", *names) if name in names), "")
        clips = [(f"{clip} ({label}, {who})", number) for number, (clip, label, who) in enumerate(_clips(found))]
        return [
            gr.HTML(visible=False), gr.Column(visible=True), emotion_views.about_map(found.map),
            gr.Radio(names, value=chosen), gr.Dropdown(clips, value=None), {"run": run_id},
            *emotion_views.map_of(found.map, chosen, colour), gallery(emotion_views.likeness(found.map)),
            emotion_views.clusters(found.map.clusters),
        ]  # fmt: skip

    @shown_errors
    def redraw(self, run_id: str, method: str, colour: str, request: gr.Request) -> list[Any]:
        """Draw another map, or in other colours."""
        return list(emotion_views.map_of(self._found(run_id, request)[1].map, method, colour))

    @shown_errors
    def choose(self, run_id: str, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        """Play the clip that was clicked, and name its nearest neighbours."""
        return self._heard(run_id, event.clip, request)

    @shown_errors
    def choose_named(self, run_id: str, clip: int | None, request: gr.Request) -> Any:
        """Play the clip that was chosen from the list."""
        return gr.skip() if clip is None else self._heard(run_id, clip, request)

    def _heard(self, run_id: str, chosen: object, request: gr.Request) -> dict[str, Any]:
        """Return what the player needs of a clip: its sound, what it is, its neighbours."""
        run, found = self._found(run_id, request)
        clips, mapped = found.corpus.clips, found.map
        if not isinstance(chosen, int | float) or chosen != chosen // 1 or not 0 <= chosen < len(clips):
            raise InputError(f"Got the clip {chosen!r} of {len(clips):,}. Choose one in the map.")
        number = int(chosen)
        clip, told = clips[number], _clips(found)
        sound = run.folder / f"clip-{number}.wav"
        if not sound.is_file():
            write_sound(clip.source, sound, clip.start, clip.stop)
        near = [
            {"clip": one.clip, "cosine": round(one.cosine, 3), "name": told[one.clip][0], "label": told[one.clip][1],
             "speaker": told[one.clip][2]}
            for one in mapped.neighbours[number][:NEIGHBOURS]
        ]  # fmt: skip
        name, label, speaker = told[number]
        return {
            "run": run_id, "url": f"gradio_api/file={sound}", "clip": number, "name": name, "label": label,
            "speaker": speaker, "neighbours": near,
        }  # fmt: skip

    def _found(self, run_id: str, request: gr.Request) -> tuple[Run, EmotionEmbeddings]:
        run = self.find(run_id, request)
        return run, run.result(EmotionEmbeddings)

    def begin(self) -> list[Any]:
        """Show that work is under way."""
        card = gr.HTML(cards.working("Embedding the clips"), visible=True)
        return [card, gr.Column(visible=False), *buttons(busy=True)]


def _clips(found: EmotionEmbeddings) -> list[tuple[str, str, str]]:
    """Return name, class and speaker of each clip, in the order of the map."""
    mapped = found.map
    return list(zip(mapped.clips, mapped.labels.tolist(), mapped.speakers.tolist(), strict=True))


def _downloads(found: EmotionEmbeddings) -> list[str]:
    """Return the arrays first, then the rest by name."""
    names = [*(name for name in ARRAYS if name in found.files), *sorted(set(found.files) - set(ARRAYS))]
    return [str(path) for path in map(found.files.__getitem__, names) if Path(path).is_file()]
