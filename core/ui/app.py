"""Put the tabs together. ``build_app()`` is pure: it starts nothing, loads no model and asks no other machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.utils import get_upload_folder

from core.ui import embed_tab, emotion_tab, layers_tab, meg_tab, runs_tab, sites_tab
from core.ui.embed_actions import Actions, Tasks
from core.ui.emotion_actions import EmotionTasks
from core.ui.emotion_classify_actions import ClassifyActions
from core.ui.emotion_map_actions import MapActions
from core.ui.emotion_runs import Trainings
from core.ui.emotion_tab import EmotionParts
from core.ui.emotion_train_actions import TrainActions
from core.ui.layers_actions import LayersActions, LayersTasks
from core.ui.meg_actions import MegTasks, PrepareActions, PretrainActions, RecordingActions, UseActions
from core.ui.meg_runs import Studies
from core.ui.meg_tab import MegParts
from core.ui.runs_actions import RunsActions
from core.ui.runs_tab import WATCHING
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from core.ui.sites_actions import (
    SitesCompareActions,
    SitesLearnedActions,
    SitesRecordingActions,
    SitesTasks,
    SitesTrainActions,
)
from core.ui.sites_runs import SiteStudies
from core.ui.sites_tab import SitesParts
from core.ui.trainings import AllTrainings

HEADER = '<header class="strata-header"><h1>Strata</h1><p>Speech and brain models, layer by layer</p></header>'


class AppTasks(Tasks, LayersTasks, EmotionTasks, MegTasks, SitesTasks, Protocol):
    """What all tabs need done; ``core.tasks`` does it."""


KEPT_AS = "strata-visitor"
"""Where the browser keeps the key under which its runs are listed."""


@dataclass(frozen=True)
class Ground:
    """What all tabs stand on: the limits, what does the work, where results lie, and the runs of all visitors."""

    settings: UiSettings
    tasks: AppTasks
    sessions: Sessions
    runs: RunsActions
    module: str

    @property
    def kept(self) -> dict[str, Any]:
        """How trainings are kept; what is trusted with folders of the machine is somebody's own machine."""
        return {
            "keep_seconds": self.settings.keep_minutes * 60,
            "ends_unseen": not self.settings.local_folders,
            "module": self.module,
            "everything": self.runs.everything,
        }


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
    ground = Ground(settings, tasks, sessions, RunsActions(AllTrainings()), training_module)
    # Gradio's own copies of uploads are swept each hour once they are a day old.
    with gr.Blocks(title="Strata", analytics_enabled=False, delete_cache=(3_600, 86_400), fill_width=True) as app:
        gr.HTML(HEADER)
        with gr.Tabs():
            with gr.Tab("Embed", id="embed"):
                embed = embed_tab.build(settings)
            with gr.Tab("Layers", id="layers"):
                layers = layers_tab.build(settings)
            with gr.Tab("Emotion", id="emotion") as tab:
                emotion = emotion_tab.build(tab, settings)
            with gr.Tab("MEG", id="meg") as tab:
                meg = meg_tab.build(tab, settings)
            with gr.Tab("Sites", id="sites") as tab:
                sites = sites_tab.build(tab, settings)
            with gr.Tab("Runs", id="runs") as tab:
                runs = runs_tab.build(tab, settings)
        visitor = gr.BrowserState("", storage_key=KEPT_AS, secret=KEPT_AS)
        embed_tab.wire(app, embed, Actions(tasks, settings, sessions))
        layers_tab.wire(app, layers, LayersActions(tasks, settings, sessions))
        emotion_tab.wire(app, emotion, _emotion_parts(ground), visitor)
        meg_restored = meg_tab.wire(app, meg, _meg_parts(ground), visitor)
        sites_restored = sites_tab.wire(app, sites, _sites_parts(ground), visitor)
        runs_tab.wire(app, runs, ground.runs, visitor)
        known = app.load(ground.runs.visitor, visitor, visitor, **WATCHING)
        known.then(*meg_restored, **WATCHING)
        known.then(*sites_restored, **WATCHING)
        app.unload(_leaving(sessions))
    return app


def _emotion_parts(ground: Ground) -> EmotionParts:
    trainings = Trainings(ground.sessions.root.parent / "trainings", **ground.kept)
    needs = (ground.tasks, ground.settings, ground.sessions, trainings)
    return EmotionParts(ClassifyActions(*needs), TrainActions(*needs), MapActions(*needs))


def _meg_parts(ground: Ground) -> MegParts:
    studies = Studies(ground.sessions.root.parent / "studies", **ground.kept)
    needs = (ground.tasks, ground.settings, ground.sessions, studies)
    steps = (RecordingActions(*needs), PrepareActions(*needs), PretrainActions(*needs), UseActions(*needs))
    return MegParts(*steps, ground.runs)


def _sites_parts(ground: Ground) -> SitesParts:
    studies = SiteStudies(ground.sessions.root.parent / "sites", **ground.kept)
    needs = (ground.tasks, ground.settings, ground.sessions, studies)
    return SitesParts(
        SitesRecordingActions(*needs),
        SitesTrainActions(*needs),
        SitesLearnedActions(*needs),
        SitesCompareActions(*needs),
        ground.runs,
    )


def _own_tasks() -> AppTasks:
    from core import tasks

    return tasks


def _leaving(sessions: Sessions) -> Callable[[gr.Request], None]:
    def leave(request: gr.Request) -> None:
        sessions.leave(str(request.session_hash))

    return leave
