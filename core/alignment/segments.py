"""What an alignment is: who said what from when to when."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with one label; ``start`` and ``stop`` are seconds from the recording's beginning."""

    start: float
    stop: float
    label: str


@dataclass(frozen=True)
class Alignment:
    """The segments of one recording, by tier: in order, without overlap; silence and unlabelled gaps are left out.

    Attributes:
        source: The file they were read from.
        tiers: Segments of ``phone`` and of ``word``; a kind that the file does not hold is missing.
    """

    source: Path
    tiers: dict[str, tuple[Segment, ...]]
