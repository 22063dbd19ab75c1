"""Pre-train a Meg2Vec: open the data, see that settings, data and folder fit, train, and say what came of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.arrays import OnProgress, ignore_progress
from core.errors import InputError
from core.tasks.meg.requests import PretrainRequest, PretrainResult
from core.tasks.pretrain_run import Asked, carry_out, wanted_trackers
from core.training.presets import validated
from core.training.pretrain_settings import PretrainSettings

if TYPE_CHECKING:
    from core.meg.window_data import WindowData

_MAY_CHANGE = frozenset({"data_dir", "numpy_data_dir", "libribrain_download"})


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
    from core.training.meg_pretraining import pretrain

    settings = validated(request.settings)
    wanted_trackers(settings)
    data = open_data(settings, on_progress)
    check_data(settings, data)
    asked = Asked(settings, request.output_dir, data.fingerprint, request.resume, request.until, _MAY_CHANGE)
    return carry_out(asked, partial(pretrain, settings, data), on_progress, run)


def read_pretrain_settings(config: str | Path, overrides: Sequence[str] = ()) -> PretrainSettings:
    """Settings of a preset or a file, with single ones changed; see :mod:`core.training.presets`."""
    from core.training.presets import resolve, with_overrides

    return with_overrides(resolve(config), overrides)


def with_data(settings: PretrainSettings, folder: Path) -> PretrainSettings:
    """The same settings on the data in a folder: a prepared one, or LibriBrain's where the settings use that."""
    if settings.use_libribrain:
        return replace(settings, data_dir=str(folder))
    return replace(settings, numpy_data_dir=str(folder))


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
    from core.training.meg_windows import TrainingWindows
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
