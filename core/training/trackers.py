"""TensorBoard and Weights & Biases beside ``metrics.jsonl``, through Accelerate's trackers; nothing is on by itself."""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.embed.writers import replace_file
from core.errors import InputError, MissingPackage, OutputError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "wandb")

OnLog = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrackerSettings:
    """Where a run's numbers go as well.

    Attributes:
        names: Of :data:`TRACKERS`.
        folder: Of the run; trackers keep what they write in ``tensorboard`` and ``wandb`` in it.
        project: Of Weights & Biases.
        config: Settings to show beside the curves.
    """

    names: Sequence[str]
    folder: Path
    project: str = "strata"
    config: Mapping[str, Any] = field(default_factory=dict)


def check_trackers(names: Sequence[str]) -> None:
    """Find out before a training whether its trackers can be had.

    Raises:
        InputError: an unknown name.
        MissingPackage: a tracker is not installed.
    """
    unknown = sorted(set(names) - set(TRACKERS))
    if unknown:
        raise InputError(f"Got tracker {', '.join(unknown)}; expected some of {', '.join(TRACKERS)}.")
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"The tracker {missing[0]} needs a package that is not installed: pip install {' '.join(missing)}. Or "
            "train without it: metrics.jsonl has the same numbers."
        )


@contextmanager
def open_trackers(settings: TrackerSettings) -> Iterator[OnLog]:
    """Give an ``on_log`` of the training loop, for the main process; the trackers are closed at the end.

    A tracker starts with the first line. Where a run goes on, TensorBoard hides what an earlier process wrote of later
    steps, and Weights & Biases goes on with the same run.

    Raises:
        InputError, MissingPackage: as :func:`check_trackers`; or Weights & Biases does not start.
    """
    from accelerate import PartialState

    check_trackers(settings.names)
    started: list[GeneralTracker] = []
    with ExitStack() as held:

        def on_log(entry: Mapping[str, Any]) -> None:
            if not started:
                PartialState()  # Accelerate's trackers log through it; a run of several processes has made it before
                for name in settings.names:
                    started.append(_start(name, settings, entry["step"]))
                    held.callback(started[-1].finish)
            for tracker in started:
                tracker.log(values_of(entry), step=entry["step"])

        yield on_log


def values_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a line by the names they have in a tracker.

    >>> values_of({"step": 2, "split": "eval", "loss": 0.5, "perplexity": None})
    {'eval/loss': 0.5}
    """
    numbers = {name: value for name, value in entry.items() if name not in ("step", "split") and value is not None}
    return {f"{entry['split']}/{name}": float(value) for name, value in numbers.items()}


def _start(name: str, settings: TrackerSettings, step: int) -> "GeneralTracker":
    tracker = _wandb(settings) if name == "wandb" else _tensorboard(settings, step)
    tracker.start()
    return tracker


def _tensorboard(settings: TrackerSettings, step: int) -> "GeneralTracker":
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", settings.folder, purge_step=step)


def _wandb(settings: TrackerSettings) -> "GeneralTracker":
    import wandb
    from accelerate.tracking import WandBTracker

    class Tracker(WandBTracker):
        def start(self) -> None:
            try:
                super().start()
            except wandb.Error as error:
                raise InputError(
                    f"Weights & Biases does not start ({error}). Log in with: wandb login; or set WANDB_MODE=offline."
                ) from error

    return Tracker(
        settings.project,
        dir=str(settings.folder),
        id=_wandb_id(settings.folder),
        resume="allow",
        config=dict(settings.config),
        settings=wandb.Settings(console="off", silent=True),
    )


def _wandb_id(folder: Path) -> str:
    """The run's name there, kept in its folder, so that it goes on as the same one.

    A training is worth more than that: where the name cannot be kept, it goes on with another one.
    """
    path, fresh = folder / "wandb-id.txt", secrets.token_hex(8)
    try:
        if not path.exists():
            replace_file(path, fresh.encode())
        return path.read_text(encoding="utf-8").strip() or fresh
    except (OSError, ValueError, OutputError) as error:
        log.warning("%s cannot be kept (%s). A resumed run will be a new one at Weights & Biases.", path, error)
        return fresh
