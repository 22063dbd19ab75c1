"""Values that cannot be used: not finite, or the same all along."""

from pathlib import Path

import numpy as np

from core.errors import DataError
from core.sensors import Sensors

_NAMED = 5
"""Stretches or channels that a sentence lists."""


def check_finite(values: np.ndarray, sampling_rate: float, path: Path, first_second: float = 0.0) -> None:
    """Refuse NaN and infinite values.

    Args:
        values: (channels, times).
        sampling_rate: Hz.
        path: Whose they are.
        first_second: Where in the recording the first column stands.

    Raises:
        DataError: some are not finite; says where, in seconds.
    """
    broken = ~np.isfinite(values)
    if not broken.any():
        return
    edges = np.flatnonzero(np.diff(broken.any(0).astype(np.int8), prepend=0, append=0))
    seconds = (edges / sampling_rate + first_second).reshape(-1, 2)
    where = _listed([f"{start:.3f} to {stop:.3f} s" for start, stop in seconds])
    raise DataError(
        f"{path} holds NaN or infinite values in {int(broken.any(1).sum())} of {len(values)} MEG channels, at {where}. "
        "Mark those channels as bad or cut the stretches out, and save it again."
    )


def flat_channels(values: np.ndarray, sensors: Sensors) -> tuple[str, ...]:
    """Names of the channels (rows of (channels, times)) whose value never changes."""
    flat = np.flatnonzero(np.ptp(values, axis=1) == 0)
    return tuple(sensors.names[index] for index in flat)


def flat_warnings(values: np.ndarray, sensors: Sensors, path: Path) -> tuple[str, ...]:
    """A sentence about flat channels, if there are any.

    Raises:
        DataError: all of them are flat.
    """
    flat = flat_channels(values, sensors)
    if len(flat) == len(sensors):
        raise DataError(f"All {len(flat)} MEG channels of {path} are flat: there is no signal in it. Record it again.")
    if not flat:
        return ()
    return (f"{len(flat)} of {len(sensors)} MEG channels are flat: {_listed(flat)}. Mark them as bad.",)


def _listed(words: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more
