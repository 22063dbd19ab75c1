"""The callbacks that watch runs: in the tab "Runs" all of a visitor's, in other tabs the one that was started there."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from core.ui import runs_views
from core.ui.errors import shown_errors
from core.ui.files import packed
from core.ui.layers_views import gallery
from core.ui.trainings import AllTrainings, KeptRun


class RunsActions:
    """The callbacks of the tab "Runs", and of every place that shows a run."""

    def __init__(self, everything: AllTrainings) -> None:
        self.everything = everything

    def visitor(self, known: str | None) -> str:
        """Return the key of this browser; a new one where it has none yet."""
        return known or secrets.token_urlsafe(16)

    def look(self, visitor: str) -> None:
        """Note that a visitor's page is open: what was trained there is kept."""
        self.everything.of(visitor)

    # ----------------------------------------------------------------------------------------------------- watching

    def watch(self, run_id: str, shown: str) -> list[Any]:
        """Show how a run stands.

        Args:
            run_id: Of the page; empty for none.
            shown: What the page shows already, as this function said it the last time.

        Returns:
            Card, buttons to stop and to resume, curves, timer, and what is shown now.
        """
        one = self.everything.find(run_id)
        if one is None:
            return [gr.skip()] * 4 + [gr.Timer(active=False), ""]
        state, metrics = one.status.state, one.metrics
        card, now = gr.HTML(runs_views.card(one), visible=True), f"{run_id} {state} {len(metrics)}"
        if now == shown:
            return [card, *[gr.skip()] * 5]
        running = state == "running"
        # Another run's figures are drawn anew; those of the same one change without a flicker.
        curves = gallery(runs_views.curves(metrics), again=shown.startswith(run_id))
        return [
            card, gr.Button(visible=running), gr.Button(visible=state == "stopped"), curves, gr.Timer(active=running),
            now,
        ]  # fmt: skip

    @shown_errors
    def stop(self, run_id: str) -> None:
        """Ask a run to keep what it has and to end."""
        one = self.everything.get(run_id)
        one.kept.stop(one.training, one.run)

    @shown_errors
    def resume(self, run_id: str) -> None:
        """Go on with a run that was stopped."""
        one = self.everything.get(run_id)
        one.kept.resume(one.training, one.run)

    # ------------------------------------------------------------------------------------------------------ the list

    def listed(self, visitor: str, chosen: str | None) -> list[Any]:
        """List the runs of a visitor, and keep the chosen one chosen; without one, the newest.

        Returns:
            The list, the id of the chosen run, the card that says that there is none, and the column of the run.
        """
        mine = self.everything.of(visitor)
        ids = [one.run.id for one in mine]
        chosen = chosen if chosen in ids else next(iter(ids), "")
        choices = [(runs_views.label(one), one.run.id) for one in mine]
        shown = gr.Radio(choices, value=chosen or None, visible=bool(mine))
        return [shown, chosen, gr.HTML(visible=not mine), gr.Column(visible=bool(mine))]

    def details(self, run_id: str) -> list[Any]:
        """Show settings, log and files of a run, and whether it may be removed."""
        one = self.everything.find(run_id)
        if one is None:
            return ["", "", None, gr.Button(visible=False), gr.Column(visible=False)]
        log, running = one.kept.printed(one.training, one.run), one.status.state == "running"
        return [
            runs_views.settings(one.run.command), runs_views.printed(log), [str(path) for path in files_of(one)],
            gr.Button(visible=not running), gr.Column(visible=False),
        ]  # fmt: skip

    @shown_errors
    def remove(self, run_id: str) -> None:
        """Delete a run with all that it left."""
        one = self.everything.get(run_id)
        one.kept.remove(one.training, one.run)


def files_of(one: KeptRun) -> list[Path]:
    """Return what a run offers: its measurements, and what it trained as zips."""
    metrics = one.run.folder / "metrics.jsonl"
    if one.status.state == "running":
        return [metrics] if metrics.is_file() else []
    made = [_as_file(path, name) for name, path in one.training.outputs(one.run).items()]
    return [*([metrics] if metrics.is_file() else []), *made]


def _as_file(path: Path, name: str) -> Path:
    """Return a file as it is, and a folder as a zip; one that was made since its last change is taken again."""
    if path.is_file():
        return path
    made = path.with_name(f"{name}.zip")
    if made.is_file() and made.stat().st_mtime > _newest(path.rglob("*")):
        return made
    return packed(path, name)


def _newest(paths: Iterable[Path]) -> float:
    return max((path.stat().st_mtime for path in paths), default=0.0)
