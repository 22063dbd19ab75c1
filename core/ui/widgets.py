"""The widgets that every tab has, and how their events follow each other."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import gradio as gr

from core.ui.actions import plot
from core.ui.theme import ASSETS

HEAVY: dict[str, Any] = {"concurrency_id": "heavy", "concurrency_limit": 1}
"""All events that compute share one place in the queue: two models at once would not fit, nor be faster."""

QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

PRIVATE: dict[str, Any] = {"api_visibility": "private"}

RUNNING = {
    "device": ("Device", ["auto", "cuda", "mps", "cpu"]),
    "engine": ("Engine", ["auto", "torch", "openvino"]),
    "precision": ("Precision", ["auto", "fp32", "bf16"]),
}
"""How a model runs: the label and the choices, the default first."""


class RunActions(Protocol):
    """The callbacks that every run needs."""

    def end(self) -> list[Any]:
        """Show that nothing is under way any more."""

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why there is no result."""

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the tab's run."""


def model(elem_id: str) -> gr.Dropdown:
    """Return the list of models; it is filled when the page loads."""
    return gr.Dropdown(
        [""],
        value="",
        label="Model",
        info="A model from the list, a hub id or a folder",
        allow_custom_value=True,
        elem_id=elem_id,
    )


def running() -> dict[str, gr.Dropdown]:
    """Return the choices of device, engine and precision."""
    return {
        name: gr.Dropdown(choices, value=choices[0], label=label, filterable=False)
        for name, (label, choices) in RUNNING.items()
    }


def examples(names: dict[str, str]) -> dict[str, gr.Button]:
    """Return a button for each example; ``names`` maps what it stands for to what it says."""
    with gr.Row(elem_classes="strata-examples"):
        gr.HTML('<p class="strata-note">Examples</p>')
        return {name: gr.Button(label, size="sm", min_width=60) for name, label in names.items()}


def start_and_stop(label: str, tab: str, variant: Literal["primary", "secondary"] = "primary") -> dict[str, gr.Button]:
    """Return the two buttons of a run."""
    with gr.Row():
        start = gr.Button(label, variant=variant, elem_id=f"{tab}-start", scale=2)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id=f"{tab}-stop", scale=1)
    return {"start": start, "stop": stop}


def status(empty: str, tab: str) -> gr.HTML:
    """Return the card that says what there is before a result, and on which the bar moves."""
    return gr.HTML(empty, visible=bool(empty), elem_id=f"{tab}-card", elem_classes="strata-status")


def player(tab: str) -> gr.HTML:
    """Return a player with the script that ties it to the tab's plots: ``assets/TAB.html`` and ``TAB.js``."""
    scripts = [_asset(name) for name in ("player.js", f"{tab}.js")]
    return gr.HTML({}, html_template=_asset(f"{tab}.html"), js_on_load="\n".join(scripts), elem_id=f"{tab}-player")


def gallery(elem_id: str) -> gr.HTML:
    """Return a place for any number of figures with captions, which the page draws when they come into view."""
    return gr.HTML(
        {},
        html_template=_asset("gallery.html"),
        js_on_load=_asset("gallery.js"),
        elem_id=elem_id,
        elem_classes="strata-gallery",
    )


def scripted(name: str, elem_id: str) -> gr.HTML:
    """Return a piece of the page with a script of its own: ``assets/NAME.html`` and ``NAME.js``."""
    return gr.HTML({}, html_template=_asset(f"{name}.html"), js_on_load=_asset(f"{name}.js"), elem_id=elem_id)


def plotly_loader() -> None:
    """Put a plot that cannot be seen: galleries draw with Plotly, which Gradio loads with a plot of its own."""
    gr.Plot(plot({"data": [], "layout": {}}), show_label=False, elem_classes="strata-loader")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def follow(steps: Sequence[Any], actions: RunActions, states: Sequence[Any]) -> list[Any]:
    """After the last step give the buttons back; where a step fails, say why.

    Args:
        steps: Events that follow each other.
        actions: The callbacks.
        states: Card, start button, stop button.
    """
    steps[-1].success(actions.end, None, states[1:], **QUICK)
    for step in steps:
        step.failure(actions.fail, None, states, **QUICK)
    return list(steps)
