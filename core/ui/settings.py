"""What the app allows; a laptop is trusted with more than a public Space."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.errors import InputError


@dataclass(frozen=True)
class UiSettings:
    """Limits of the app.

    Attributes:
        max_upload_mb: Largest file accepted, in MB (10^6 bytes).
        max_minutes: Longest recording accepted, in minutes.
        local_folders: Whether visitors may name a model by a folder on this machine.
        keep_minutes: How long results outlive the page that asked for them: a phone that sleeps finds them again.
    """

    max_upload_mb: float = 2_000
    max_minutes: float = 240
    local_folders: bool = True
    keep_minutes: float = 10

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
        """Take the defaults of this kind of machine, changed by STRATA_MAX_UPLOAD_MB and STRATA_MAX_MINUTES.

        Hugging Face sets SPACE_ID on a Space; there the limits are 200 MB and 20 minutes, and no folder of the machine
        may be named.
        """
        on_space = bool(environment.get("SPACE_ID"))
        return cls(
            max_upload_mb=_positive(environment, "STRATA_MAX_UPLOAD_MB", 200 if on_space else cls.max_upload_mb),
            max_minutes=_positive(environment, "STRATA_MAX_MINUTES", 20 if on_space else cls.max_minutes),
            local_folders=not on_space,
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    """Read a number above 0 from the environment."""
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"Got {name}={text!r}; expected a number above 0. Change or unset the variable.")
    return value
