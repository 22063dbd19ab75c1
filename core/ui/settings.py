"""What the app allows; a laptop is trusted with more than a public Space."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.errors import InputError

UNLIMITED = ("max_steps", "max_training_minutes")
"""Limits that somebody's own machine does not have."""


@dataclass(frozen=True)
class UiSettings:
    """Limits of the app.

    Attributes:
        max_upload_mb: Largest file accepted, in MB (10^6 bytes).
        max_minutes: Longest recording accepted, in minutes; of several recordings together, too.
        max_recordings: Recordings accepted at once.
        max_clips: Labelled clips accepted for one training.
        local_folders: Whether visitors may name a model by a folder on this machine.
        keep_minutes: How long results outlive the page that asked for them: a phone that sleeps finds them again.
        max_steps: Steps of one pre-training at most; infinite for no limit.
        max_training_minutes: Minutes of one pre-training at most, after which it stops with a checkpoint; infinite for
            no limit.
    """

    max_upload_mb: float = 2_000
    max_minutes: float = 240
    max_recordings: int = 500
    local_folders: bool = True
    keep_minutes: float = 10
    max_clips: int = 20_000
    max_steps: float = math.inf
    max_training_minutes: float = math.inf

    def __post_init__(self) -> None:
        for name in ("max_upload_mb", "max_minutes", "max_recordings", "max_clips"):
            self._check(name, 0 < getattr(self, name) < math.inf)
        for name in UNLIMITED:
            self._check(name, getattr(self, name) > 0)

    def _check(self, name: str, is_good: bool) -> None:
        flag = "" if name in UNLIMITED else f"--{name.replace('_', '-')} or "
        if not is_good:
            raise InputError(
                f"Got {getattr(self, name):g} as {name}; expected a number above 0. Change {flag}STRATA_{name.upper()}."
            )

    @property
    def max_seconds(self) -> float:
        """Longest recording accepted, in seconds."""
        return self.max_minutes * 60

    @property
    def max_upload_bytes(self) -> int:
        """Largest file accepted, in bytes."""
        return round(self.max_upload_mb * 1e6)

    def shared(self, publicly: bool) -> "UiSettings":
        """Return the same limits; visitors of a public link may not name folders of this machine."""
        return replace(self, local_folders=False) if publicly else self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "UiSettings":
        """Take the defaults of this kind of machine, changed by STRATA_MAX_ and a limit's name, such as _UPLOAD_MB.

        Hugging Face sets SPACE_ID on a Space; there the limits are 200 MB, 20 minutes, 20 recordings, 2,000 clips to
        train on, 1,000 steps and 20 minutes of pre-training, and no folder of the machine may be named.
        """
        on_space = bool(environment.get("SPACE_ID"))
        return cls(
            max_upload_mb=_number(environment, "STRATA_MAX_UPLOAD_MB", 200 if on_space else cls.max_upload_mb),
            max_minutes=_number(environment, "STRATA_MAX_MINUTES", 20 if on_space else cls.max_minutes),
            max_recordings=_whole(environment, "STRATA_MAX_RECORDINGS", 20 if on_space else cls.max_recordings),
            max_clips=_whole(environment, "STRATA_MAX_CLIPS", 2_000 if on_space else cls.max_clips),
            max_steps=_number(environment, "STRATA_MAX_STEPS", 1_000 if on_space else cls.max_steps),
            max_training_minutes=_number(
                environment, "STRATA_MAX_TRAINING_MINUTES", 20 if on_space else cls.max_training_minutes
            ),
            local_folders=not on_space,
        )


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    """Read a count from the environment."""
    value = _number(environment, name, default)
    if value != value // 1:
        raise InputError(f"Got {name}={value!r}; expected a whole number. Change or unset the variable.")
    return int(value)


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    """Read a number from the environment; an empty variable counts as unset."""
    text = environment.get(name, "").strip()
    try:
        return float(text) if text else default
    except ValueError as error:
        raise InputError(f"Got {name}={text!r}; expected a number above 0. Change or unset the variable.") from error
