"""A pre-training as a task: its folder is taken and checked, it is watched and may be stopped, and what came of it."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arrays import OnProgress, Progress
from core.errors import DataError, InputError
from core.training.contrastive_settings import ContrastiveSettings
from core.training.pretrain_settings import PretrainResult

if TYPE_CHECKING:
    from accelerate import Accelerator

    from core.training.pretraining import Outcome, Place, Watch

log = logging.getLogger(__name__)

RECORD = "run.json"
"""In the run's folder: what it was begun with."""

_ITS_FILES = ("state.pt", "metrics.jsonl", RECORD, "best", "last")
# What may be another when a run goes on: where things are and how they are computed, not what is learnt. Of the
# precision the loop asks that it comes to the same: auto may be what was named before.
_MAY_CHANGE = frozenset(
    {"name", "max_minutes", "device", "num_workers", "use_tensorboard", "use_wandb", "wandb_project", "precision"}
)

Begin = Callable[["Place", "Accelerator", "Watch"], "Outcome"]
"""Trains in a place, or goes on there."""


@dataclass(frozen=True)
class Asked:
    """What every pre-training is asked.

    Attributes:
        settings: All of them, validated.
        output_dir: Gets the checkpoints, and the run where none is watched.
        data: The data's fingerprint.
        resume: Whether to go on with what ``output_dir`` holds.
        until: Stop with a checkpoint after so many steps; None goes to the end.
        may_change: Settings that only say where the data are.
        option: Of the command line, that names ``output_dir``.
    """

    settings: ContrastiveSettings
    output_dir: Path
    data: str
    resume: bool = False
    until: int | None = None
    may_change: frozenset[str] = frozenset()
    option: str = "--output_dir"


def carry_out(asked: Asked, begin: Begin, on_progress: OnProgress, run: Path | None = None) -> PretrainResult:
    """Pre-train, or go on with a pre-training.

    Args:
        asked: Settings, folder, whether to go on.
        begin: Does it.
        on_progress: Told of each step.
        run: Folder of a run that an app watches (:mod:`core.training.runs`): it gets ``metrics.jsonl``,
            ``progress.json`` and the state, and a run that it holds goes on; ``output_dir`` gets the checkpoints.
            Without it all is in ``output_dir``.

    Raises:
        InputError: Settings and data do not fit each other, the folder holds a run and ``resume`` is off, or another
            process is at work in it.
        OutputError: The disk is full; the last checkpoint is as it was.
        Stopped: With ``run``, where it was asked to stop; it goes on when it is asked for again.
    """
    from core.training.precision import make_accelerator
    from core.training.pretraining import Place
    from core.training.runs import Stopped
    from core.training.workers import Workers

    settings = asked.settings
    trackers = wanted_trackers(settings)
    accelerator = make_accelerator(settings.device, settings.precision, compiled=settings.compile)
    workers = Workers(accelerator)
    place = Place(run or asked.output_dir, asked.output_dir)
    with ExitStack() as held:
        workers.in_main(lambda: _take(place, asked, held, watched=run is not None))
        watch, stop = held.enter_context(_watched(asked, on_progress, run if workers.is_main else None, place))
        watch = held.enter_context(_tracked(watch, trackers, place, settings))
        outcome = begin(place, accelerator, watch)
        stopped = stop() and not outcome.done
    if stopped and run is not None:
        raise Stopped
    history = outcome.progress.history
    metrics = {name: value for name, value in history[-1].items() if name != "step"} if history else {}
    facts = dict(outcome.facts) | {"stopped": stopped}
    folder = str(asked.output_dir)
    return PretrainResult(folder, outcome.progress.update, outcome.done, metrics, outcome.alarms, facts)


def trained_checkpoint(result: PretrainResult) -> Path:
    """Folder of the best checkpoint of a run, of the last one without any held-out score, or of the run without any."""
    return checkpoint_in(Path(result.folder))


def checkpoint_in(folder: Path) -> Path:
    """The best checkpoint in a run's folder, else the last one, else the folder itself."""
    return next((folder / name for name in ("best", "last") if (folder / name).is_dir()), folder)


# -------------------------------------------------------------------------------------------------------------- folder


def _take(place: "Place", asked: Asked, held: ExitStack, *, watched: bool) -> None:
    """Lock the folders, and see that a run may begin in them, or go on.

    Raises:
        InputError: Another process is at work there, a run is there that was not asked for, or it is of other settings.
        OutputError: They cannot be written.
    """
    from core.embed.writers import replace_file
    from core.training.lock import locked
    from core.training.settings_reader import settings_facts

    held.enter_context(locked(place.run))
    held.enter_context(locked(place.checkpoints))
    there = [name for name in _ITS_FILES if (place.checkpoints / name).exists()]
    goes_on = (place.run / RECORD).exists() if watched else asked.resume
    if there and not goes_on:
        raise InputError(
            f"{asked.output_dir} holds a run already ({', '.join(there)}). Go on with it with --resume, or choose "
            f"another {asked.option}."
        )
    if asked.resume and not watched and not there:
        raise InputError(f"{asked.output_dir} holds no run to go on with. Check {asked.option}, or leave out --resume.")
    if asked.resume and not watched and not (place.run / "state.pt").exists():
        log.warning("%s holds no state to go on from: the run begins at the first step.", place.run)
    now = {"settings": settings_facts(asked.settings), "data": asked.data}
    if (place.run / RECORD).exists():
        _refuse_other(_read_record(place.run / RECORD), now, asked, place.run)
    replace_file(place.run / RECORD, json.dumps(now, indent=1).encode())


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        record["settings"].items(), record["data"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}, which says what the run was begun with, is damaged. Begin one elsewhere.") from error
    return record


def _refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], asked: Asked, folder: Path) -> None:
    """A run goes on with the settings and the data that it was begun with."""
    if before["data"] != now["data"]:
        raise InputError(
            f"The run in {folder} was begun on other data. Go on with those, or begin one in another {asked.option}."
        )
    old, new = before["settings"], now["settings"]
    may_change = _MAY_CHANGE | asked.may_change
    changed = [name for name in new if name not in may_change and old.get(name) != new[name]]
    if changed:
        got = "; ".join(f"{name} was {old.get(name)} and is now {new[name]}" for name in changed)
        steps = "The learning rate's schedule hangs on max_steps; to stop earlier, use --until. "
        raise InputError(
            f"The run in {folder} was begun with other settings ({got}). {steps if 'max_steps' in changed else ''}Go "
            f"on with those, or begin a new run in another {asked.option}."
        )


# --------------------------------------------------------------------------------------------------------------- watch


@contextmanager
def _watched(asked: Asked, on_progress: OnProgress, run: Path | None, place: "Place") -> "Iterator[tuple[Watch, Any]]":
    """Who is told and who may stop: signals, a file ``stop`` in the run's folder, and the clock."""
    from core.training.loop_settings import stop_after
    from core.training.pretraining import Watch
    from core.training.runs import RunFolder, stop_requests

    folder = RunFolder(run) if run is not None else None

    def report(progress: Progress) -> None:
        on_progress(progress)
        if folder is not None:
            folder.progress(progress)

    with stop_requests(place.run / "stop") as stop:
        should_stop = stop_after(asked.settings.max_minutes, stop)
        yield Watch(report, should_stop=should_stop, until=asked.until), stop


def wanted_trackers(settings: ContrastiveSettings) -> tuple[str, ...]:
    """Those that are asked for; found out before anything else whether they can be had."""
    from core.training.trackers import check_trackers

    wanted = {"tensorboard": settings.use_tensorboard, "wandb": settings.use_wandb}
    names = tuple(name for name, on in wanted.items() if on)
    check_trackers(names)
    return names


@contextmanager
def _tracked(
    watch: "Watch", names: tuple[str, ...], place: "Place", settings: ContrastiveSettings
) -> "Iterator[Watch]":
    """The same watch, whose lines go to the trackers as well."""
    from core.training.settings_reader import settings_facts
    from core.training.trackers import TrackerSettings, open_trackers

    wanted = TrackerSettings(names, place.run, settings.wandb_project, settings_facts(settings))
    with open_trackers(wanted) as on_log:
        yield replace(watch, on_log=on_log)
