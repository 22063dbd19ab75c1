"""The tab "Runs": every run of this browser, whichever tab started it; and the panel in which any tab shows one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.ui import runs_views, widgets
from core.ui.runs_actions import RunsActions
from core.ui.settings import UiSettings
from core.ui.widgets import PRIVATE, QUICK

TICK_SECONDS = 1.0
"""How often a page asks how its training stands."""

LOOK_SECONDS = 60.0
"""How often an open page says that it is there, so that what was trained on it is kept."""

WATCHING: dict[str, Any] = {**PRIVATE, "show_progress": "hidden", "concurrency_limit": None}
"""Looking at a training takes no time; in the queue all the same, since only from there a state tells of its change."""


@dataclass(frozen=True)
class RunPanel:
    """How one run stands, wherever it is shown.

    Attributes:
        run_id: Which run; empty for none.
        shown: What the page shows of it already.
    """

    card: gr.HTML
    stop: gr.Button
    resume: gr.Button
    curves: gr.HTML
    run_id: gr.State
    shown: gr.State

    def watched(self, timer: gr.Timer) -> list[Any]:
        """Return what :meth:`RunsActions.watch` fills."""
        return [self.card, self.stop, self.resume, self.curves, timer, self.shown]


@dataclass(frozen=True)
class RunsTab:
    """The widgets of the tab."""

    tab: gr.Tab
    empty: gr.HTML
    chosen: gr.Radio
    results: gr.Column
    panel: RunPanel
    remove: gr.Button
    sure: gr.Column
    yes: gr.Button
    no: gr.Button
    settings: gr.HTML
    log: gr.HTML
    files: gr.File


def build_panel(name: str, empty: str, buttons: dict[str, gr.Button]) -> RunPanel:
    """Return the panel of a run: a card, then the curves; Stop and Resume stand wherever the caller put them."""
    card = widgets.status(empty, name)
    curves = widgets.gallery(f"{name}-curves")
    widgets.plotly_loader()
    return RunPanel(card, buttons["stop"], buttons["resume"], curves, gr.State(""), gr.State(""))


def build_buttons(name: str) -> dict[str, gr.Button]:
    """Return the buttons that end a run and go on with it."""
    stop = gr.Button("Stop", variant="stop", visible=False, elem_id=f"{name}-stop", scale=1)
    resume = gr.Button("Resume", visible=False, elem_id=f"{name}-resume", scale=1)
    return {"stop": stop, "resume": resume}


def wire_panel(panel: RunPanel, actions: RunsActions, tabs: Sequence[gr.Tab] = ()) -> gr.Timer:
    """Tie a panel to its run, and return the timer; to be called outside of all tabs.

    Args:
        panel: Its widgets.
        actions: The callbacks.
        tabs: Where it stands: whoever comes back to one of them sees what was done to the run elsewhere.
    """
    timer = gr.Timer(TICK_SECONDS, active=False)
    known, watched = [panel.run_id, panel.shown], panel.watched(timer)
    for look in (timer.tick, panel.run_id.change, *(tab.select for tab in tabs)):
        look(actions.watch, known, watched, **WATCHING)
    for button, act in ((panel.stop, actions.stop), (panel.resume, actions.resume)):
        button.click(act, panel.run_id, None, **QUICK).then(actions.watch, known, watched, **WATCHING)
    return timer


def build(tab: gr.Tab, settings: UiSettings) -> RunsTab:
    """Lay out the tab, which the caller has opened."""
    empty = gr.HTML(runs_views.EMPTY, elem_id="runs-empty")
    with gr.Row(equal_height=False, elem_classes="strata-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="strata-inputs"):
            chosen = gr.Radio([], label="Runs of this browser", visible=False, elem_id="runs-list")
            gr.HTML(runs_views.about_keeping(settings), elem_id="runs-about")
        with gr.Column(scale=5, min_width=340, visible=False, elem_classes="strata-outputs") as results:
            shown = _build_run()
    return RunsTab(tab=tab, empty=empty, chosen=chosen, results=results, **shown)


def _build_run() -> dict[str, Any]:
    with gr.Row():
        buttons = build_buttons("runs")
    panel = build_panel("runs", "", buttons)
    files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="runs-files")
    with gr.Accordion("Settings", open=False):
        settings = gr.HTML(elem_id="runs-settings")
    with gr.Accordion("Log", open=False):
        log = gr.HTML(elem_id="runs-log")
    remove = gr.Button("Remove", visible=False, size="sm", elem_id="runs-remove")
    with gr.Column(visible=False, elem_id="runs-sure") as sure:
        gr.HTML('<p class="strata-note">The run goes with all that it left: curves, log and checkpoints.</p>')
        with gr.Row():
            yes = gr.Button("Remove for good", variant="stop", elem_id="runs-yes")
            no = gr.Button("Keep it", elem_id="runs-no")
    return {
        "panel": panel, "remove": remove, "sure": sure, "yes": yes, "no": no, "settings": settings, "log": log,
        "files": files,
    }  # fmt: skip


def wire(app: gr.Blocks, tab: RunsTab, actions: RunsActions, visitor: gr.BrowserState) -> None:
    """Tie the widgets to the callbacks; to be called outside of all tabs."""
    panel, asked = tab.panel, [visitor, tab.panel.run_id]
    listed = [tab.chosen, panel.run_id, tab.empty, tab.results]
    details = [tab.settings, tab.log, tab.files, tab.remove, tab.sure]
    timer = wire_panel(panel, actions)
    tab.tab.select(actions.listed, asked, listed, **WATCHING).then(
        actions.watch, [panel.run_id, panel.shown], panel.watched(timer), **WATCHING
    )
    tab.chosen.input(lambda run_id: run_id, tab.chosen, panel.run_id, **QUICK)
    # What is shown changes with every measurement: log, files and list follow.
    panel.shown.change(actions.details, panel.run_id, details, **WATCHING)
    panel.shown.change(actions.listed, asked, listed, **WATCHING)
    tab.remove.click(lambda: gr.Column(visible=True), None, tab.sure, **QUICK)
    tab.no.click(lambda: gr.Column(visible=False), None, tab.sure, **QUICK)
    tab.yes.click(actions.remove, panel.run_id, None, **QUICK).then(actions.listed, asked, listed, **WATCHING)
    gr.Timer(LOOK_SECONDS).tick(actions.look, visitor, None, **QUICK)
