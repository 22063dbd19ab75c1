"""What pre-training reads windows from, whichever way the data came: a prepared folder, or LibriBrain through pnpl."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.sensors import ModelInput, Sensors


@dataclass(frozen=True)
class Segment:
    """A stretch of one recording without gaps.

    Attributes:
        name: Its own.
        recording: The recording's; two segments of one recording never stand in different parts unless a gap is
            between them.
        n_times: Samples.
    """

    name: str
    recording: str
    n_times: int


class WindowData(Protocol):
    """Standardised MEG in segments, each in one of the parts ``train`` and ``eval``."""

    @property
    def model_input(self) -> ModelInput:
        """What turned recordings into these values."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of all that a model could learn from."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What to say about the data, ready for JSON."""
        ...

    def segments(self, part: str) -> tuple[Segment, ...]:
        """The segments of a part."""
        ...

    def read(self, segment: Segment, start: int, stop: int) -> np.ndarray:
        """Samples of a segment: (channels, stop - start) float32."""
        ...

    def sensors(self, segment: Segment) -> Sensors:
        """The channels of a segment, row by row."""
        ...
