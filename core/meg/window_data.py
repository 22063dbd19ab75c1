"""What training reads windows from, whatever holds the recordings: a prepared folder, LibriBrain, or arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.sensors import ModelInput, Sensors


@dataclass(frozen=True)
class Segment:
    """Data of one recording without a gap: its own name, its recording's, and its samples."""

    name: str
    recording: str
    n_times: int


class WindowData(Protocol):
    """Prepared and standardised recordings in two parts."""

    @property
    def model_input(self) -> ModelInput:
        """What turns a recording into such data."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what a model would learn from."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON-ready: what the data are."""
        ...

    def segments(self, part: str) -> tuple[Segment, ...]:
        """Segments of ``train`` or ``eval``."""
        ...

    def read(self, segment: Segment, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) of a segment, (channels, stop - start) float32."""
        ...

    def sensors(self, segment: Segment) -> Sensors:
        """Where the channels of a segment are."""
        ...
