"""Pre-train a Meg2Vec: open the data, see that settings, data and folder fit, train, and say what came of it."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError
from core.tasks.meg.requests import PretrainRequest, PretrainResult
from core.training.presets import settings_facts, validated
from core.training.pretrain_settings import PretrainSettings

if TYPE_CHECKING:
    from core.meg.window_data import WindowData
    from core.training.pretraining import Place, Watch

log = logging.getLogger(__name__)

RECORD = "run.json"
"""In the run's folder: what it was begun with."""

_ITS_FILES = ("state.pt", "metrics.jsonl", RECORD, "best", "last")
# What may be another when a run goes on: where things are and how they are computed, not what is learnt. Of the
# precision the loop asks that it comes to the same: auto may be what was named before.
_MAY_CHANGE = frozenset(
    {"name", "data_dir", "numpy_data_dir", "libribrain_download", "max_minutes", "device", "num_workers"}
    | {"use_tensorboard", "use_wandb", "wandb_project", "precision"}
)


def pretrain_meg(
    request: PretrainRequest, on_progress: OnProgress = ignore_progress, run: Path | None = None
) -> PretrainResult:
    """Pre-train, or go on with a pre-training.

    Args:
        request: Settings, folder, whether to go on.
        on_progress: Told of each step.
        run: Folder of a run that an app watches (:mod:`core.training.runs`): it gets ``metrics.jsonl``,
            ``progress.json`` and the state, and a run that it holds goes on; ``output_dir`` gets the checkpoints.
            Without it all is in ``output_dir``.

    Raises:
        InputError: Settings, data and model do not fit each other, the folder holds a run and ``resume`` is off, or
            another process is at work in it.
        DataError: The data cannot be read.
        OutputError: The disk is full; the last checkpoint is as it was.
        Stopped: With ``run``, where it was asked to stop; it goes on when it is asked for again.
    """
    from core.training.precision import make_accelerator
    from core.training.pretraining import Place, pretrain
    from core.training.runs import Stopped
    from core.training.workers import Workers

    settings = validated(request.settings)
    trackers = _trackers(settings)
    data = open_data(settings, on_progress)
    check_data(settings, data)
    accelerator = make_accelerator(settings.device, settings.precision, compiled=settings.compile)
    workers = Workers(accelerator)
    place = Place(run or request.output_dir, request.output_dir)
    with ExitStack() as held:
        workers.in_main(lambda: _take(place, request, data, held, watched=run is not None))
        watch, asked = held.enter_context(_watched(request, on_progress, run if workers.is_main else None, place))
        watch = held.enter_context(_tracked(watch, trackers, place, settings))
        outcome = pretrain(settings, data, place, accelerator, watch)
        stopped = asked() and not outcome.done
    if stopped and run is not None:
        raise Stopped
    history = outcome.progress.history
    metrics = {name: value for name, value in history[-1].items() if name != "step"} if history else {}
    facts = dict(outcome.facts) | {"stopped": stopped}
    folder = str(request.output_dir)
    return PretrainResult(folder, outcome.progress.update, outcome.done, metrics, outcome.alarms, facts)


def read_pretrain_settings(config: str | Path, overrides: Sequence[str] = ()) -> PretrainSettings:
    """Settings of a preset or a file, with single ones changed; see :mod:`core.training.presets`."""
    from core.training.presets import resolve, with_overrides

    return with_overrides(resolve(config), overrides)


def with_data(settings: PretrainSettings, folder: Path) -> PretrainSettings:
    """The same settings on the data in a folder: a prepared one, or LibriBrain's where the settings use that."""
    if settings.use_libribrain:
        return replace(settings, data_dir=str(folder))
    return replace(settings, numpy_data_dir=str(folder))


def trained_checkpoint(result: PretrainResult) -> Path:
    """Folder of the best checkpoint of a run, of the last one without any held-out score, or of the run without any."""
    folder = Path(result.folder)
    return next((folder / name for name in ("best", "last") if (folder / name).is_dir()), folder)


# ---------------------------------------------------------------------------------------------------------------- data


def open_data(settings: PretrainSettings, on_progress: OnProgress = ignore_progress) -> "WindowData":
    """Open the prepared folder, or LibriBrain, as the settings say.

    Of several processes the first one reads the folder's files and compares them with their hashes.

    Raises:
        DataError, InputError: It is not there, cannot be read, or has changed since it was prepared.
    """
    if not settings.use_libribrain:
        return _open_prepared(Path(settings.numpy_data_dir), on_progress)
    from core.meg.libribrain import LibriBrainSettings, open_libribrain

    wanted = LibriBrainSettings(
        Path(settings.data_dir),
        settings.libribrain_include_run_keys_train,
        settings.libribrain_include_run_keys_eval,
        settings.libribrain_standardize,
        settings.libribrain_download,
    )
    return open_libribrain(wanted, on_progress)


def _open_prepared(folder: Path, on_progress: OnProgress) -> "WindowData":
    from core.embed.team import is_main_process
    from core.meg.prepared import open_prepared

    data = open_prepared(folder)
    if is_main_process():
        data.verify(on_progress)
    return data


def check_data(settings: PretrainSettings, data: "WindowData") -> None:
    """See that the data are what the model takes.

    Raises:
        InputError: Channels, their order, or the window's length do not fit.
    """
    from core.training.batches import TrainingWindows
    from core.training.presets import window_frames, window_samples

    rate = data.model_input.preparation.sampling_rate
    sensors = data.model_input.sensors
    if not data.segments("train"):
        raise InputError("The data have no training segment. Prepare more recordings, or with a larger --split_ratio.")
    if settings.sensor_input == "channels" and sensors is None:
        raise InputError(
            "The data were prepared with layout native, where each recording has sensors of its own; expected one "
            "layout. Set sensor_input to positions, or prepare with --layout neuromag306."
        )
    if settings.sensor_input == "positions" and sensors is not None:
        raise InputError(
            "The data were brought to one layout, but sensor_input is positions, which takes each recording's own "
            "sensors. Set sensor_input to channels, or prepare with --layout native."
        )
    if sensors is not None and len(sensors) != settings.in_channels:
        raise InputError(
            f"The data have {len(sensors)} channels ({sensors.system or 'unknown system'}), but in_channels is "
            f"{settings.in_channels}. Use --set in_channels={len(sensors)}, or prepare for another layout."
        )
    window_frames(settings, rate)
    TrainingWindows([one.n_times for one in data.segments("train")], window_samples(settings, rate), settings.seed)


# -------------------------------------------------------------------------------------------------------------- folder


def _take(place: "Place", request: PretrainRequest, data: "WindowData", held: ExitStack, *, watched: bool) -> None:
    """Lock the folders, and see that a run may begin in them, or go on.

    Raises:
        InputError: Another process is at work there, a run is there that was not asked for, or it is of other settings.
        OutputError: They cannot be written.
    """
    from core.embed.writers import replace_file
    from core.training.lock import locked

    held.enter_context(locked(place.run))
    held.enter_context(locked(place.checkpoints))
    there = [name for name in _ITS_FILES if (place.checkpoints / name).exists()]
    goes_on = (place.run / RECORD).exists() if watched else request.resume
    if there and not goes_on:
        raise InputError(
            f"{request.output_dir} holds a run already ({', '.join(there)}). Go on with it with --resume, or choose "
            "another --output_dir."
        )
    if request.resume and not watched and not there:
        raise InputError(f"{request.output_dir} holds no run to go on with. Check --output_dir, or leave out --resume.")
    if request.resume and not watched and not (place.run / "state.pt").exists():
        log.warning("%s holds no state to go on from: the run begins at the first step.", place.run)
    now = {"settings": settings_facts(request.settings), "data": data.fingerprint}
    if (place.run / RECORD).exists():
        _refuse_other(_read_record(place.run / RECORD), now, place.run)
    replace_file(place.run / RECORD, json.dumps(now, indent=1).encode())


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        record["settings"].items(), record["data"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}, which says what the run was begun with, is damaged. Begin one elsewhere.") from error
    return record


def _refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """A run goes on with the settings and the data that it was begun with."""
    if before["data"] != now["data"]:
        raise InputError(
            f"The run in {folder} was begun on other data. Go on with those, or begin one in another --output_dir."
        )
    old, new = before["settings"], now["settings"]
    changed = [name for name in new if name not in _MAY_CHANGE and old.get(name) != new[name]]
    if changed:
        got = "; ".join(f"{name} was {old.get(name)} and is now {new[name]}" for name in changed)
        steps = "The learning rate's schedule hangs on max_steps; to stop earlier, use --until. "
        raise InputError(
            f"The run in {folder} was begun with other settings ({got}). {steps if 'max_steps' in changed else ''}Go "
            "on with those, or begin a new run in another --output_dir."
        )


# --------------------------------------------------------------------------------------------------------------- watch


@contextmanager
def _watched(
    request: PretrainRequest, on_progress: OnProgress, run: Path | None, place: "Place"
) -> "Iterator[tuple[Watch, Any]]":
    """Who is told and who may stop: signals, a file ``stop`` in the run's folder, and the clock."""
    from core.training.loop_settings import stop_after
    from core.training.pretraining import Watch
    from core.training.runs import RunFolder, stop_requests

    folder = RunFolder(run) if run is not None else None

    def report(progress: Progress) -> None:
        on_progress(progress)
        if folder is not None:
            folder.progress(progress)

    with stop_requests(place.run / "stop") as asked:
        should_stop = stop_after(request.settings.max_minutes, asked)
        yield Watch(report, should_stop=should_stop, until=request.until), asked


def _trackers(settings: PretrainSettings) -> tuple[str, ...]:
    """Those that are asked for; found out before anything else whether they can be had."""
    from core.training.trackers import check_trackers

    wanted = {"tensorboard": settings.use_tensorboard, "wandb": settings.use_wandb}
    names = tuple(name for name, on in wanted.items() if on)
    check_trackers(names)
    return names


@contextmanager
def _tracked(watch: "Watch", names: tuple[str, ...], place: "Place", settings: PretrainSettings) -> "Iterator[Watch]":
    """The same watch, whose lines go to the trackers as well."""
    from core.training.trackers import TrackerSettings, open_trackers

    wanted = TrackerSettings(names, place.run, settings.wandb_project, settings_facts(settings))
    with open_trackers(wanted) as on_log:
        yield replace(watch, on_log=on_log)
