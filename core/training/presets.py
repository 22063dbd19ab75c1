"""Presets of Meg2Vec's pre-training, its settings read strictly, and the window that they make."""

import math

from core.clock import FrameClock
from core.errors import InputError
from core.models.masking import LEAST_MASKED, least_frames, masked_fraction
from core.training.pretrain_settings import PretrainSettings
from core.training.settings_reader import SettingsReader

PRESETS = ("tiny", "small", "base", "large")


def _check_recordings(settings: PretrainSettings, where: str) -> None:
    if settings.use_libribrain and not (
        settings.libribrain_include_run_keys_train and settings.libribrain_include_run_keys_eval
    ):
        raise InputError(
            f"{where}: use_libribrain needs libribrain_include_run_keys_train and libribrain_include_run_keys_eval: "
            'lists of ["subject", "session", "task", "run"].'
        )


READER = SettingsReader(
    PretrainSettings,
    folder="meg2vec",
    prefix="pretrain_",
    presets=PRESETS,
    words={"sensor_input": ("channels", "positions")},
    below_one=frozenset({"mask_time_prob"}),
    divisions=(("num_conv_pos_embedding_groups", "hidden_size"),),
    replaced={
        "libribrain_partition_train": "libribrain_include_run_keys_train",
        "libribrain_partition_eval": "libribrain_include_run_keys_eval",
        "sequence_length": "window_seconds",
    },
    check=_check_recordings,
)
"""Of Meg2Vec's settings."""

resolve, with_overrides, validated = READER.resolve, READER.with_overrides, READER.validated


# -------------------------------------------------------------------------------------------------------------- window


def clock_of(settings: PretrainSettings, sampling_rate: int) -> FrameClock:
    """The model's frame clock on data of a rate in Hz."""
    return FrameClock.from_convolutions(settings.conv_kernel, settings.conv_stride, sampling_rate)


def window_samples(settings: PretrainSettings, sampling_rate: int) -> int:
    """Samples of a training window."""
    return round(settings.window_seconds * sampling_rate)


def window_frames(settings: PretrainSettings, sampling_rate: int) -> int:
    """Frames of a training window.

    Raises:
        InputError: They are too few for a mask with negatives; the message says how long the window must be.
    """
    clock = clock_of(settings, sampling_rate)
    frames = clock.n_frames(window_samples(settings, sampling_rate))
    least = max(least_frames(settings.mask_time_length), LEAST_MASKED + 1)
    if frames < least:
        _, samples = clock.samples_of(0, least)
        seconds = math.ceil(1000 * samples / sampling_rate) / 1000
        raise InputError(
            f"A window of {settings.window_seconds:g} s gives {frames} frames at {sampling_rate} Hz; masks of "
            f"{settings.mask_time_length} frames need at least {least}. Set window_seconds to {seconds:g} or more."
        )
    return frames


def describe_window(settings: PretrainSettings, sampling_rate: int = 250) -> str:
    """One line for the start of a run: ``10 s at 250 Hz = 2,500 samples = 61 frames, one every 160 ms; ...``."""
    frames = window_frames(settings, sampling_rate)
    clock = clock_of(settings, sampling_rate)
    share = masked_fraction(settings.mask_time_prob, settings.mask_time_length)
    return (
        f"Window: {settings.window_seconds:g} s at {sampling_rate} Hz = {window_samples(settings, sampling_rate):,} "
        f"samples = {frames} frames, one every {1000 * clock.stride_seconds:g} ms; about {share:.0%} are masked."
    )
