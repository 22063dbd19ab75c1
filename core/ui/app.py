"""Put the tabs together. ``build_app()`` is pure: it starts nothing, loads no model and asks no other machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import gradio as gr
from gradio.utils import get_upload_folder

from core.ui import embed_tab, emotion_tab, layers_tab
from core.ui.embed_actions import Actions, Tasks
from core.ui.emotion_actions import EmotionTasks
from core.ui.emotion_classify_actions import ClassifyActions
from core.ui.emotion_map_actions import MapActions
from core.ui.emotion_runs import Trainings
from core.ui.emotion_tab import EmotionParts
from core.ui.emotion_train_actions import TrainActions
from core.ui.layers_actions import LayersActions, LayersTasks
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings

HEADER = '<header class="strata-header"><h1>Strata</h1><p>Speech and brain models, layer by layer</p></header>'


class AppTasks(Tasks, LayersTasks, EmotionTasks, Protocol):
    """What all tabs need done; ``core.tasks`` does it."""


def build_app(
    settings: UiSettings | None = None, tasks: AppTasks | None = None, training_module: str = "core"
) -> gr.Blocks:
    """Build the app.

    Args:
        settings: Its limits; None takes them from the environment.
        tasks: What does the work; None takes ``core.tasks``.
        training_module: What trains in a process of its own, as ``python -m MODULE``.
    """
    settings, tasks = settings or UiSettings.from_environment(), tasks or _own_tasks()
    sessions = Sessions(Path(get_upload_folder()) / "results", settings.keep_minutes * 60)
    # Gradio's own copies of uploads are swept each hour once they are a day old.
    with gr.Blocks(title="Strata", analytics_enabled=False, delete_cache=(3_600, 86_400), fill_width=True) as app:
        gr.HTML(HEADER)
        with gr.Tabs():
            with gr.Tab("Embed", id="embed"):
                embed = embed_tab.build(settings)
            with gr.Tab("Layers", id="layers"):
                layers = layers_tab.build(settings)
            with gr.Tab("Emotion", id="emotion"):
                emotion = emotion_tab.build(settings)
        embed_tab.wire(app, embed, Actions(tasks, settings, sessions))
        layers_tab.wire(app, layers, LayersActions(tasks, settings, sessions))
        emotion_tab.wire(app, emotion, _emotion_parts(settings, tasks, sessions, training_module))
        app.unload(_leaving(sessions))
    return app


def _emotion_parts(settings: UiSettings, tasks: EmotionTasks, sessions: Sessions, module: str) -> EmotionParts:
    keep_seconds = settings.keep_minutes * 60
    # What is trusted with folders of the machine is somebody's own machine.
    trainings = Trainings(
        sessions.root.parent / "trainings", keep_seconds, ends_unseen=not settings.local_folders, module=module
    )
    needs = (tasks, settings, sessions, trainings)
    return EmotionParts(ClassifyActions(*needs), TrainActions(*needs), MapActions(*needs))


def _own_tasks() -> AppTasks:
    from core import tasks

    return tasks


def _leaving(sessions: Sessions) -> Callable[[gr.Request], None]:
    def leave(request: gr.Request) -> None:
        sessions.leave(str(request.session_hash))

    return leave
