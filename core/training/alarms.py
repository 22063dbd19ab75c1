"""What may go wrong in a contrastive pre-training without stopping it: codes that die, and a model that guesses."""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from core.training.contrastive_settings import ContrastiveSettings

log = logging.getLogger(__name__)

LEAST_PERPLEXITY = 50 / 640
"""Of the codes there are: the document's rule is 50 of its 640."""

COLLAPSED_PERPLEXITY = 0.02
"""Of the codes there are: below it, with accuracy at chance, the quantiser says the same of everything."""

NEAR = 1.02
"""Accuracy up to so many times chance counts as guessing, and a loss of ln(K + 1) divided by it."""


def least_perplexity(codes: int) -> float:
    """Perplexity below which too few of so many codes are in use; lines of ``metrics.jsonl`` carry it.

    >>> least_perplexity(640)
    50.0
    """
    return LEAST_PERPLEXITY * codes


def has_few_codes(entry: Mapping[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` says so; one without these numbers (of other trainings) does not."""
    used, least = entry.get("perplexity"), entry.get("least_perplexity")
    return used is not None and least is not None and used < least


class Alarms:
    """Looks at the lines of ``metrics.jsonl``, warns once of each kind of trouble, and keeps what it said.

    Args:
        settings: Of the run.
    """

    def __init__(self, settings: ContrastiveSettings) -> None:
        self._settings = settings
        # A run that ends before its warm-up does is watched as well.
        self._quiet = min(settings.warmup_steps, settings.max_steps // 2)
        self._codes = settings.num_codevector_groups * settings.num_codevectors_per_group
        self._said: dict[str, str] = {}
        self.primed = False

    @property
    def messages(self) -> tuple[str, ...]:
        """What was said so far, in the order in which it was."""
        return tuple(self._said.values())

    def prime(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Look at the lines of earlier processes of the run."""
        self.primed = True
        for entry in entries:
            self.see(entry)

    def see(self, entry: Mapping[str, Any]) -> None:
        """Look at a line."""
        for kind, sentence in self._troubles(entry):
            if kind not in self._said:
                self._said[kind] = f"Step {entry['step']}{sentence}"
                log.warning("%s", self._said[kind])

    def _troubles(self, entry: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        numbers = {name: entry.get(name) for name in ("loss", "contrastive_loss", "contrastive_accuracy", "perplexity")}
        if any(name in entry and not _is_finite(value) for name, value in numbers.items()):
            yield "not finite", ": a loss is not finite. Lower the learning rate, or train in fp32."
            return
        if entry["step"] <= self._quiet or None in numbers.values():
            return
        yield from self._about_codes(entry)
        if entry["split"] == "eval" and 2 * entry["step"] >= self._settings.max_steps:
            yield from self._about_guessing(entry)

    def _about_codes(self, entry: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        used, right, least = entry["perplexity"], entry["contrastive_accuracy"], least_perplexity(self._codes)
        in_use = f"{used:.1f} of {self._codes} codes are in use"
        if used < COLLAPSED_PERPLEXITY * self._codes and right <= NEAR * entry["chance"]:
            advice = "Lower the learning rate or raise diversity_loss_weight."
            yield (
                "collapse",
                f": the model has collapsed: {in_use}, and accuracy is at chance ({right:.3f}). {advice}",
            )
        if used < least and entry["split"] == "train":
            advice = "A slower Gumbel decay or a larger diversity_loss_weight helps."
            yield "few codes", f": only {in_use}; expected {least:.0f} or more. {advice}"

    def _about_guessing(self, entry: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        loss, guessing = entry["contrastive_loss"], -math.log(entry["chance"])
        if guessing > 0 and loss * NEAR >= guessing:
            told = f" of {self._settings.max_steps} steps, the held-out loss ({loss:.3f}) is still that of guessing"
            warming = entry["step"] <= self._settings.warmup_steps
            advice = "Look at the data (are they noise?), or raise the learning rate."
            advice = (
                "The learning rate is still warming up: train longer, or lower warmup_steps." if warming else advice
            )
            yield "guessing", f"{told} ({guessing:.3f}). {advice}"


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
