"""How far a run is, in words."""

import time
from collections.abc import Callable

from core.arrays import Progress

SETTLED_SECONDS = 1.0
"""No time left is named before a stage has run this long: the first reports include loading."""

DOING = {
    "load the model": "Loading the model",
    "fit the sensors": "Bringing the sensors to the model's",
    "write": "Writing the report",
}
"""What is said of stages of one step, where the stage's name is no noun."""


class TimeLeft:
    """Put progress reports into words, with the time left in the present stage."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stage = ""
        self._begun = 0.0
        self._first = 0.0

    def describe(self, progress: Progress) -> str:
        """Say what is being done, how far it is, and about how long it still takes."""
        if progress.stage != self._stage:
            self._stage, self._begun, self._first = progress.stage, self._now(), progress.done
        words = DOING.get(progress.stage, f"{progress.stage[:1].upper()}{progress.stage[1:]}")
        if is_one_step(progress):
            return words
        far = f"{words}: {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}"
        return f"{far}, {self._left(progress)}"[: len(far) + 40].rstrip(", ")

    def _left(self, progress: Progress) -> str:
        taken, done = self._now() - self._begun, progress.done - self._first
        if taken < SETTLED_SECONDS or done <= 0 or progress.done >= progress.total:
            return ""
        return f"about {in_words(taken * (progress.total - progress.done) / done)} left"


def is_one_step(progress: Progress) -> bool:
    """Whether a stage has no parts that one could count: it is under way, or done."""
    return progress.total <= 0 or (progress.total == 1 and progress.done in (0, 1))


def in_words(seconds: float) -> str:
    """Round a duration to what a reader wants to know: ``8 s``, ``3 min 20 s``, ``20 min``, ``1 h 5 min``.

    >>> in_words(200.4)
    '3 min 20 s'
    """
    whole = max(1, round(seconds))
    if whole >= 3_600:
        whole = round(whole / 60) * 60
    units = (("h", 3_600), ("min", 60), ("s", 1))
    parts = [(whole % (size * 60) // size if unit != "h" else whole // size, unit) for unit, size in units]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
