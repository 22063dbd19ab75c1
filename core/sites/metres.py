"""How far from the origin a site can be: positions are in metres, and those in millimetres are found out."""

import numpy as np

from core.errors import DataError
from core.sensors import Sensors

FARTHEST = 1.0
"""Metres; no site of a brain is farther from the middle of a head."""

FARTHEST_MICROPHONE = 100.0
"""Metres; microphones stand in a hall."""


def farthest_of(kind: str) -> float:
    """Metres from the origin within which a sensor of a kind is."""
    return FARTHEST_MICROPHONE if kind == "audio" else FARTHEST


def require_metres(sensors: Sensors, where: str) -> None:
    """See that positions can be metres.

    Args:
        sensors: Sites with their positions, NaN where unknown.
        where: They come from, for the message.

    Raises:
        DataError: One is farther away than any such sensor.
    """
    reach = np.array([farthest_of(kind) for kind in sensors.kinds])
    far = np.flatnonzero(np.nan_to_num(np.abs(sensors.positions)).max(axis=1, initial=0.0) > reach)
    if len(far):
        first = int(far[0])
        x, y, z = sensors.positions[first]
        raise DataError(
            f"{where}: got the position {x:g}, {y:g}, {z:g} of {sensors.names[first]}, more than {reach[first]:g} m "
            "away; expected metres. If these are millimetres, divide them by 1000; a microphone that stands so far "
            "away needs the kind audio."
        )
