"""What is shown of a run, whichever tab started it: how it stands, curves, settings, log. All text is escaped."""

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from core.arrays import Progress
from core.figures.plotly_json import Figure
from core.ui import cards, emotion_views
from core.ui.errors import without_folders
from core.ui.layers_views import table
from core.ui.progress import in_words, is_one_step
from core.ui.settings import UiSettings
from core.ui.trainings import KeptRun

STATES = {"running": "running", "finished": "finished", "failed": "failed", "stopped": "stopped"}
LATER = "You may close or reload the page: the training goes on, and this browser finds it again."
PLACES = ("data", "output", "report", "run", "features-dir", "data_dir", "output_dir")
"""Flags that name folders of this machine, which say nothing to a visitor."""

EMPTY = """
<div class="strata-card strata-empty">
  <svg viewBox="0 0 240 64" aria-hidden="true"><path d="M30 8v46h190M30 14c20 26 40 30 70 32s60 3 118 4" />
  <path d="M30 50c30-2 50-26 90-30s60-4 98-5" /></svg>
  <h2>No runs yet</h2>
  <p>What you train under “MEG”, “Sites” or “Emotion” is listed here: its curves, how it stands, its settings and
  what it left.</p>
</div>
"""


def card(one: KeptRun) -> str:
    """Say how a run stands."""
    status = one.status
    if status.state == "running":
        progress = one.kept.progress(one.training, one.run)
        told = "Starting" if progress is None else one.training.words.describe(progress)
        if one.is_stopping:
            return under_way("Stopping: what was learned is kept first", None, note="")
        return under_way(told, progress, alarm(one.metrics))
    if status.state == "stopped":
        done = how_far(one.metrics)
        return stopped(f"After {done}. {one.training.when_stopped}" if done else one.training.when_stopped)
    if status.state == "failed":
        return cards.failed(without_folders(status.error))
    return finished(one)


def under_way(told: str, progress: Progress | None, alarm: str = "", note: str = LATER) -> str:
    """Say how far a training is, with a bar that fills where its stage has parts, and one that only moves elsewhere."""
    if progress is None or is_one_step(progress):
        bar = '<div class="strata-progress strata-endless" aria-hidden="true"><b></b></div>'
    else:
        share = 100 * min(1.0, progress.done / progress.total)
        bar = f'<div class="strata-progress" aria-hidden="true"><b style="width: {share:.1f}%"></b></div>'
    return (
        f'<div class="strata-card strata-lower strata-training" role="status"><h2>{escape(told)}</h2>'
        f"{bar}<p>{note}</p>{cards.problem_note(alarm) if alarm else ''}</div>"
    )


def alarm(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Say what goes wrong in a pre-training: codes that collapse; empty where nothing does."""
    from core.training.alarms import has_few_codes

    known = [row for row in metrics if row.get("perplexity") is not None]
    if not known or not has_few_codes(known[-1]):
        return ""
    used, least = known[-1]["perplexity"], known[-1]["least_perplexity"]
    return (
        f"Only about {used:.0f} codes are in use, and below {least:.0f} the model learns little. If this stays so, "
        "stop, and train on more data."
    )


def about_keeping(settings: UiSettings) -> str:
    """Say how long runs are kept, and who sees them."""
    if settings.local_folders:
        return cards.note("Runs are kept until the app ends. Take with you what you want to keep.")
    left = in_words(settings.keep_minutes * 60)
    return cards.note(f"Only this browser sees its runs. They go {left} after its last page was closed.")


def stopped(told: str) -> str:
    """Say what is kept of a run that was stopped."""
    return f'<div class="strata-card strata-lower" role="status"><h2>Stopped</h2><p>{escape(told)}</p></div>'


def finished(one: KeptRun) -> str:
    """Say that a run is at its end, and how long it took."""
    taken = _seconds_taken(one)
    told = how_far(one.metrics) + (f" in {in_words(taken)}" if taken else "")
    said = f"{told[:1].upper()}{told[1:]}." if told else ""
    return f'<div class="strata-card strata-done" role="status"><h2>Finished</h2><p>{escape(said)}</p></div>'


def _seconds_taken(one: KeptRun) -> float:
    """Return what a run measured of its own time, without pauses; seconds from start to end where it did not."""
    measured = [row["wall_seconds"] for row in one.metrics if isinstance(row.get("wall_seconds"), int | float)]
    if measured:
        return float(measured[-1])
    ended = one.run.folder / "exit.json"
    return max(0.0, ended.stat().st_mtime - one.run.created) if ended.is_file() else 0.0


def how_far(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Say how much of a run is done: steps, or folds where it has no steps of its own."""
    folds = {row["fold"] for row in metrics if "uar" in row and "epoch" not in row}
    if folds:
        return f"{len(folds)} fold{'s' if len(folds) > 1 else ''}"
    steps = [row["step"] for row in metrics if isinstance(row.get("step"), int | float)]
    return f"{int(max(steps)):,} steps" if steps else ""


def label(one: KeptRun) -> str:
    """Return what the list says of a run: name, kind, state, steps, beginning."""
    began = time.strftime("%d %b %H:%M", time.localtime(one.run.created))
    parts = [one.run.name, one.training.kind, STATES[one.status.state], how_far(one.metrics), f"started {began}"]
    return " · ".join(filter(None, parts))


def curves(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[Figure, str]]:
    """Draw what a run has measured: a pre-training by step, a head by epoch."""
    from core.figures.meg.training import training_figures

    if any("contrastive_loss" in row for row in metrics):
        return training_figures(metrics)
    return emotion_views.curves(metrics)


def settings(command: Sequence[str]) -> str:
    """List what a run was asked for, as its command says; folders of the machine are left out."""
    verbs = [part for part in command if not part.startswith("-")]
    given = [_setting(part) for part in command if part.startswith("--") and "=" in part]
    rows = [[name, value] for name, value in given if name not in PLACES and value]
    switches = [[part.removeprefix("--"), "yes"] for part in command if part.startswith("--") and "=" not in part]
    shown = [row for row in switches if row[0] not in (*PLACES, "json")]
    asked = " ".join(verb for verb in verbs if "/" not in verb)
    return table(["Setting", "Value"], [["what", asked], *rows, *shown], "strata-comparison")


def _setting(part: str) -> tuple[str, str]:
    """Split ``--seed=0`` and ``--set=max_steps=50`` into name and value."""
    name, _, value = part.removeprefix("--").partition("=")
    if name == "set":
        name, _, value = value.partition("=")
    return (name, without_folders(value)) if name not in ("numpy_data_dir",) else ("data", "")


def printed(text: str) -> str:
    """Show the end of what a run printed; a progress bar's many states on one line are shown as its last."""
    lines = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")]
    said = escape(without_folders("\n".join(lines[-40:]))) or "Nothing was printed yet."
    return f'<pre class="strata-log" tabindex="0" role="region" aria-label="Log">{said}</pre>'
