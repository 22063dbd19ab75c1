"""Checkpoint folders of a pre-training run: ``last`` and ``best``, each with a card whose numbers were measured."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from core.checkpoints.save import save_checkpoint
from core.models.model_input import to_preprocessor
from core.training.loop_settings import Progress
from core.training.presets import describe_window, settings_facts
from core.training.pretrain_settings import PretrainSettings

if TYPE_CHECKING:
    from core.meg.window_data import WindowData

NAMES = ("best", "last")
"""Folders that are written: at the lowest held-out loss, and with each state."""

SIMULATED = (
    "**Trained on simulated recordings**: what it knows of brains is what the simulation puts into them. For trying "
    "out, teaching and testing; not for conclusions about people."
)

_SUMMARY = (
    "A Meg2Vec encoder: wav2vec 2.0 on multi-channel MEG, pre-trained without labels to tell the quantised code of a "
    "masked moment from those of other moments of the same window."
)

_SNIPPET = """
from pathlib import Path

from core.checkpoints.load import load_model

loaded = load_model(Path("{folder}"), "meg2vec", from_user=True)
print(loaded.model.config.in_channels, loaded.model.config.sampling_rate)
"""

_TRUST = (
    "It was pre-trained, not tested on any question: before anything is read from its layers, compare it on held-out "
    "recordings with the same architecture with random weights, with band power and with Riemannian features "
    "(python -m core probe). Accuracy and loss below are those of the pre-training task on held-out windows, and say "
    "how well it predicts signals, noise and artefacts included. Recordings have to be prepared as "
    "preprocessor_config.json says, which Strata does by itself."
)

_INTENDED = "Research on MEG signals. Not for diagnoses, and not for decisions about people."


@dataclass(frozen=True)
class Exporter:
    """Writes checkpoint folders of one run.

    Attributes:
        settings: Of the run.
        data: What it is trained on.
        folder: Gets ``best`` and ``last``.
        running: Facts of where and how it computes.
    """

    settings: PretrainSettings
    data: "WindowData"
    folder: Path
    running: Mapping[str, Any]

    def write(self, name: str, model: nn.Module, progress: Progress, alarms: Sequence[str]) -> Path:
        """Write a checkpoint in place of an earlier one: float16 weights, settings, facts and card.

        Raises:
            OutputError: The disk is full; the earlier checkpoint is as it was.
        """
        folder = self.folder / name
        training = self.facts(model, progress) | {"alarms": list(alarms)}
        preparation = to_preprocessor(self.data.model_input)
        return save_checkpoint(folder, model, training, self._card(folder), preparation=preparation)

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
            "recipe": "python -m core pretrain",
            "seed": self.settings.seed,
            "updates": progress.update,
            "updates_planned": self.settings.max_steps,
            "wall_seconds": round(progress.wall_seconds, 1),
            "cpu_seconds": round(progress.cpu_seconds, 1),
            "device": str(next(model.parameters()).device),
            "running": dict(self.running),
            "parameters": sum(one.numel() for one in model.parameters()),
            "settings": settings_facts(self.settings),
            "window": describe_window(self.settings, self._rate),
            "simulated": self.data.model_input.simulated,
            "data": self._data_facts(),
            "split": {"held_out_text": self._held_out(), **self._names()},
            "history": [_finite(entry) for entry in progress.history],
            "metrics": [self._table(progress)] if progress.history else [],
        }

    @property
    def _rate(self) -> int:
        return self.data.model_input.preparation.sampling_rate

    def _data_facts(self) -> dict[str, Any]:
        train = self.data.segments("train")
        hours = sum(one.n_times for one in train) / self._rate / 3600
        facts = {"hours": hours, "clips": len(train), "counted": "segments", "sha256": self.data.fingerprint}
        return {**self.data.facts, **facts}

    def _names(self) -> dict[str, list[str]]:
        return {part: sorted({one.recording for one in self.data.segments(part)}) for part in ("train", "eval")}

    def _held_out(self) -> str:
        names, segments = self._names()["eval"], self.data.segments("eval")
        return (
            f"{len(segments)} segments of {len(names)} recordings ({', '.join(names[:8])}{', ...' * (len(names) > 8)})"
        )

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

    def _card(self, folder: Path) -> dict[str, Any]:
        simulated = self.data.model_input.simulated
        recordings = self.data.facts.get("recordings", self._names()["train"])
        tags = ["meg2vec", "meg", "wav2vec2", "feature-extraction", *(["simulated"] if simulated else [])]
        return {
            "library_name": "strata",
            "tags": tags,
            "summary": f"{SIMULATED}\n\n{_SUMMARY}" if simulated else _SUMMARY,
            "snippet": _SNIPPET.format(folder=folder.name),
            "trust": f"{SIMULATED} {_TRUST}" if simulated else _TRUST,
            "intended_use": _INTENDED,
            "data": [f"{'Simulated r' if simulated else 'R'}ecordings: {len(recordings)}; see training.json."],
            "attribution": [
                "Architecture and loss: Baevski et al. 2020, wav2vec 2.0, https://arxiv.org/abs/2006.11477."
            ],
        }


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A number that is not finite is none: JSON lacks the word."""
    return {name: value if math.isfinite(value) else None for name, value in entry.items()}
