"""How far from the origin a site can be: positions are in metres, and those in millimetres are found out."""

from collections.abc import Sequence

import numpy as np

from core.errors import DataError

FARTHEST = 1.0
"""Metres; no site of a brain is farther from the middle of a head."""

FARTHEST_MICROPHONE = 100.0
"""Metres; microphones stand in a hall."""


def farthest_of(kind: str) -> float:
    """Metres from the origin within which a sensor of a kind is."""
    return FARTHEST_MICROPHONE if kind == "audio" else FARTHEST


def require_metres(positions: np.ndarray, kinds: Sequence[str], where: str) -> None:
    """See that positions can be metres.

    Args:
        positions: (sites, 3), NaN where unknown.
        kinds: Of the sites.
        where: They come from, for the message.

    Raises:
        DataError: One is farther away than any such sensor.
    """
    reach = np.array([farthest_of(kind) for kind in kinds])
    far = np.flatnonzero(np.nan_to_num(np.abs(positions)).max(axis=1, initial=0.0) > reach)
    if len(far):
        x, y, z = positions[far[0]]
        raise DataError(
            f"{where}: got the position {x:g}, {y:g}, {z:g}, more than {reach[far[0]]:g} m away; expected metres. "
            "These are probably millimetres: divide them by 1000."
        )
