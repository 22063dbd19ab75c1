"""What the three parts of the tab "Emotion" share: what has to be done for them, and which heads there are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from core.arrays import OnProgress
from core.checkpoints.heads import HeadEntry
from core.errors import InputError
from core.scoring import CorpusSettings, EmotionFindings, LabelledCorpus, Prediction
from core.tasks.emotion import Classified, ClassifySettings, EmotionEmbeddings, EmotionRequest
from core.ui.actions import ModelTasks, TabActions
from core.ui.emotion_runs import Trainings
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings

TRAINED = "trained:"
"""What the name of a head that was trained on this page begins with; the training's id follows."""


class EmotionTasks(ModelTasks, Protocol):
    """What the tab needs done; ``core.tasks`` does it."""

    def list_heads(self) -> Sequence[HeadEntry]:
        """Name the heads at hand, the bundled ones first."""

    def classify_emotion(
        self, sources: Sequence[Path | str], checkpoint: str, settings: ClassifySettings, on_progress: OnProgress
    ) -> Classified:
        """Say what a head makes of recordings."""

    def predictions_as_json(self, outcome: Classified) -> dict[str, Any]:
        """Return what was said as JSON-ready numbers."""

    def timeline_rows(self, one: Prediction) -> Iterable[Mapping[str, Any]]:
        """Return what was said as rows of a table: the clip first, then its windows."""

    def read_mapping(self, text: str | Path) -> Mapping[str, str]:
        """Read which class each label has, such as ``angry=anger,sad=sadness,calm=``."""

    def read_corpus(self, data: Path, settings: CorpusSettings, folder: Path) -> LabelledCorpus:
        """Read who speaks in which clip, and how; what a zip holds is unpacked into ``folder``."""

    def read_emotion(self, folder: Path) -> EmotionFindings:
        """Read back the findings that a training left in a folder."""

    def summarise_emotion(self, findings: EmotionFindings) -> dict[str, Any]:
        """Return what was found as JSON-ready numbers."""

    def embed_emotion(
        self, request: EmotionRequest, output: Path, on_progress: OnProgress, *, force: bool = False
    ) -> EmotionEmbeddings:
        """Embed the clips of a corpus, write the arrays, and map them."""


class EmotionActions(TabActions[EmotionTasks]):
    """What the parts of the tab have in common."""

    def __init__(self, tasks: EmotionTasks, settings: UiSettings, sessions: Sessions, trainings: Trainings) -> None:
        super().__init__(tasks, settings, sessions)
        self.trainings = trainings

    def heads(self, training: str | None) -> gr.Dropdown:
        """List the heads at hand, the bundled ones first; the one that this page trained comes before them."""
        entries = self.tasks.list_heads()
        choices = [(_described(entry), entry.name) for entry in entries]
        chosen = entries[0].name if entries else ""
        if training and self.trainings.head(training) is not None:
            chosen = f"{TRAINED}{training}"
            choices.insert(0, ("Trained on this page", chosen))
        return gr.Dropdown(choices, value=chosen)

    def checkpoint(self, head: str) -> str:
        """Return the name or folder of a head by what the list calls it.

        Raises:
            InputError: there is no such head, or this app takes no folders.
        """
        if head.startswith(TRAINED):
            folder = self.trainings.head(head.removeprefix(TRAINED))
            if folder is None:
                raise InputError("The head that was trained here is no longer kept. Take another, or train again.")
            return str(folder)
        if not head:
            raise InputError("There is no head yet. Take one of the list, or train one.")
        if head not in {entry.name for entry in self.tasks.list_heads()}:
            self.check_model(head)
        return head


def _described(entry: HeadEntry) -> str:
    """Return, say, ``emotion-emodb (7 classes, bundled)``."""
    return f"{entry.name} ({len(entry.labels)} classes, {entry.where})"
