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
        duration: Seconds of the recording, as far as the file says (a TextGrid does); None where it does not.
        taken: How each kind was found, in words: the tier's name, the columns.
        n_silent: Segments left out as silence.
    """

    source: Path
    tiers: dict[str, tuple[Segment, ...]]
    duration: float | None = None
    taken: tuple[str, ...] = ()
    n_silent: int = 0
