"""What the callbacks of every tab share: whose run it is, what may be sent, how far it is, what is said on failure."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import gradio as gr
from gradio.components.plot import PlotData

from core.arrays import OnProgress, Progress
from core.embed.recordings import RecordingInfo, probe_recording, size_of
from core.errors import InputError
from core.ui import cards
from core.ui.errors import explain
from core.ui.progress import TimeLeft, in_words, is_one_step
from core.ui.sessions import Run, Sessions, Stopped
from core.ui.settings import UiSettings
from core.ui.theme import ASSETS


class ModelTasks(Protocol):
    """What every tab needs done."""

    def list_models(self, *, ask_hub: bool = True) -> Sequence[Any]:
        """Name the models at hand, the default first: records with name, where and n_layers."""


TabTasks = TypeVar("TabTasks", bound=ModelTasks)


class TabActions(Generic[TabTasks]):
    """The callbacks of a tab, with what they need: the tasks, the limits, and the runs of all open pages."""

    tab: ClassVar[str]

    def __init__(self, tasks: TabTasks, settings: UiSettings, sessions: Sessions) -> None:
        self.tasks, self.settings, self.sessions = tasks, settings, sessions

    def find(self, run_id: str, request: gr.Request) -> Run:
        """Return a run of the page that asks, or raise InputError."""
        return self.sessions.get(page_of(request), run_id)

    def end(self) -> list[Any]:
        """Show that nothing is under way any more."""
        return buttons(busy=False)

    def fail(self, request: gr.Request) -> list[Any]:
        """Show why there is no result."""
        run = self.sessions.current(page_of(request), self.tab)
        card = cards.stopped() if run is None or run.stop.is_set() else cards.failed(run.problem)
        return [gr.HTML(card, visible=True), *buttons(busy=False)]

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the tab's run."""
        self.sessions.stop(page_of(request), self.tab)
        return [gr.HTML(cards.stopped(), visible=True), *buttons(busy=False)]

    def models(self) -> gr.Dropdown:
        """List the models at hand, the default first; the hub is not asked."""
        entries = self.tasks.list_models(ask_hub=False)
        here = [entry.name for entry in entries if not entry.where.startswith("hub")] or [e.name for e in entries]
        return gr.Dropdown(self.model_choices(), value=here[0] if here else "")

    def model_choices(self) -> list[tuple[str, str]]:
        """Return what the list of models shows and stands for."""
        entries = self.tasks.list_models(ask_hub=False)
        return [(f"{entry.name} ({_place(entry.where)})", entry.name) for entry in entries]

    def check_model(self, model: str) -> None:
        """Raise InputError for a model that this app does not take."""
        if not self.settings.local_folders and _is_folder(model):
            raise InputError(f"Got the folder {model!r} as model; this app takes a model of its list or a hub id.")

    def check_recording(self, recording: str) -> RecordingInfo:
        """Read what the file says, and hold it against the limits."""
        path, limits = Path(recording), self.settings
        size = size_of(path)
        if size > limits.max_upload_bytes:
            raise too_much(path.name, f"has {size / 1e6:,.1f} MB", f"{limits.max_upload_mb:,g} MB", "--max-upload-mb")
        info = probe_recording(path)
        self.check_length(path.name, "is", info.duration_seconds or 0.0)
        return info

    def check_length(self, name: str, verb: str, seconds: float) -> None:
        """Raise InputError for more sound than this app takes."""
        # Half a second of grace: what a header says of the length may include padding.
        if seconds > self.settings.max_seconds + 0.5:
            limit = in_words(self.settings.max_seconds)
            raise too_much(name, f"{verb} {in_words(seconds)} long", limit, "--max-minutes")

    def copy_example(self, name: str) -> str:
        """Copy an example to where Gradio hands out files from, and return its path."""
        folder = self.sessions.root / "examples"
        folder.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(ASSETS / "examples" / name, folder))


def page_of(request: gr.Request) -> str:
    """Return the key of the page that asks."""
    return str(request.session_hash)


@contextmanager
def problems_of(run: Run) -> Iterator[None]:
    """Note on the run what goes wrong within, for its card."""
    try:
        yield
    except Exception as error:
        run.problem = explain(error)
        raise


def reporter(run: Run, progress: gr.Progress) -> OnProgress:
    """Return a listener that moves the bar, and ends the run once it was stopped."""
    words = TimeLeft()

    def report(done: Progress) -> None:
        if run.stop.is_set():
            raise Stopped
        if is_one_step(done):
            show_step(progress, words.describe(done))
        else:
            progress(min(1.0, done.done / done.total), desc=words.describe(done))

    return report


def show_step(progress: gr.Progress, what: str) -> None:
    """Name a stage of one step, without a percentage.

    Gradio adds one to every text; two lines further down it is cut off (``assets/app.css``).
    """
    progress(0, desc=f"{what}\n\n")


def buttons(busy: bool) -> list[Any]:
    """Return the states of the start and the stop button."""
    return [gr.Button(interactive=not busy), gr.Button(visible=busy)]


def plot(figure: dict[str, Any]) -> PlotData:
    """Return a figure as what a plot widget shows."""
    from core.figures.plotly_json import to_json

    return PlotData(type="plotly", plot=to_json(figure))


def too_much(name: str, what: str, limit: str, flag: str) -> InputError:
    """Return the error for more than this app takes."""
    return InputError(
        f"{name} {what}; this app takes up to {limit}. Send less, or run the app on your own machine with "
        f"a higher {flag}."
    )


def _place(where: str) -> str:
    return "from the hub" if where.startswith("hub") else where


def _is_folder(model: str) -> bool:
    return model.startswith((".", "~", "/")) or "\\" in model or model.count("/") > 1 or Path(model).is_dir()
