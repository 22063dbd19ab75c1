"""Checkpoint folders of a pre-training run: ``last`` and ``best``, each with a card whose numbers were measured."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from core.checkpoints.save import save_checkpoint
from core.training.contrastive_settings import ContrastiveSettings
from core.training.loop_settings import Progress
from core.training.settings_reader import settings_facts

NAMES = ("best", "last")
"""Folders that are written: at the lowest held-out loss, and with each state."""


class Trained(Protocol):
    """What a checkpoint says of what was trained, and on what."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that a model could learn from."""
        ...

    @property
    def window(self) -> str:
        """One line about what the model sees at once."""
        ...

    @property
    def recipe(self) -> str:
        """The command."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether any of the data was."""
        ...

    def data(self) -> Mapping[str, Any]:
        """Facts of the training data, with ``hours``, ``clips`` and what was ``counted``."""
        ...

    def split(self) -> Mapping[str, Any]:
        """What trained and what was held out, with ``held_out_text``."""
        ...

    def preparation(self) -> Mapping[str, Any]:
        """Content of ``preprocessor_config.json``."""
        ...

    def card(self, folder: str) -> Mapping[str, Any]:
        """What only a person can say, of a checkpoint in a folder of this name."""
        ...

    def files(self, n_windows: int) -> Mapping[str, Callable[[Path], None]]:
        """What writes each file that only these checkpoints have, by name, after training on so many windows."""
        ...


@dataclass(frozen=True)
class Exporter:
    """Writes checkpoint folders of one run.

    Attributes:
        settings: Of the run.
        trained: What it is, and what it is trained on.
        folder: Gets ``best`` and ``last``.
        running: Facts of where and how it computes.
    """

    settings: ContrastiveSettings
    trained: Trained
    folder: Path
    running: Mapping[str, Any]

    def write(self, name: str, model: nn.Module, progress: Progress, alarms: Sequence[str]) -> Path:
        """Write a checkpoint in place of an earlier one: float16 weights, settings, facts and card.

        Raises:
            OutputError: The disk is full; the earlier checkpoint is as it was.
        """
        folder = self.folder / name
        training = self.facts(model, progress) | {"alarms": list(alarms)}
        return save_checkpoint(
            folder,
            model,
            training,
            dict(self.trained.card(folder.name)),
            preparation=self.trained.preparation(),
            files=self.trained.files(progress.update * self._windows),
        )

    @property
    def _windows(self) -> int:
        """Of a step."""
        settings, processes = self.settings, self.running.get("processes", 1)
        return int(settings.batch_size * settings.gradient_accumulation_steps * processes)

    def last_step(self) -> int:
        """Steps of the last checkpoint; 0 before there is one."""
        try:
            return int(json.loads((self.folder / "last" / "training.json").read_text())["updates"])
        except (OSError, ValueError, KeyError):
            return 0

    def facts(self, model: nn.Module, progress: Progress) -> dict[str, Any]:
        """What ``training.json`` says, but for alarms and card."""
        return {
            "name": f"{self.settings.name} after {progress.update} steps",
            "recipe": self.trained.recipe,
            "seed": self.settings.seed,
            "updates": progress.update,
            "updates_planned": self.settings.max_steps,
            "wall_seconds": round(progress.wall_seconds, 1),
            "cpu_seconds": round(progress.cpu_seconds, 1),
            "device": str(next(model.parameters()).device),
            "running": dict(self.running),
            "parameters": sum(one.numel() for one in model.parameters()),
            "settings": settings_facts(self.settings),
            "window": self.trained.window,
            "simulated": self.trained.simulated,
            "data": {**self.trained.data(), "sha256": self.trained.fingerprint},
            "split": dict(self.trained.split()),
            "history": [_finite(entry) for entry in progress.history],
            "metrics": [self._table(progress)] if progress.history else [],
        }

    def _table(self, progress: Progress) -> dict[str, Any]:
        last = progress.history[-1]
        guessing = -math.log(last["chance"])
        return {
            "title": f"Held-out windows after {int(last['step'])} steps",
            "note": f"n = {self.running['windows']} windows, always the same, with the same masks.",
            "columns": ["measure", "value", "by guessing"],
            "rows": [
                ["contrastive accuracy", f"{last['contrastive_accuracy']:.3f}", f"{last['chance']:.3f}"],
                ["contrastive loss", f"{last['contrastive_loss']:.3f}", f"{guessing:.3f}"],
                ["codes in use (perplexity)", f"{last['perplexity']:.1f}", "-"],
            ],
        }


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A number that is not finite is none: JSON lacks the word."""
    return {name: value if math.isfinite(value) else None for name, value in entry.items()}
