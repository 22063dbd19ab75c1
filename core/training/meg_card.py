"""What the checkpoints of a Meg2Vec say of it and of the recordings that it was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.models.model_input import to_preprocessor
from core.training.presets import describe_window
from core.training.pretrain_settings import PretrainSettings

if TYPE_CHECKING:
    from core.meg.window_data import WindowData

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
class Meg2VecTrained:
    """A :class:`core.training.pretrain_checkpoints.Trained`.

    Attributes:
        settings: Of the run.
        recordings: What it is trained on.
    """

    settings: PretrainSettings
    recordings: "WindowData"
    recipe: str = "python -m core pretrain"

    @property
    def fingerprint(self) -> str:
        """Of the recordings."""
        return self.recordings.fingerprint

    @property
    def window(self) -> str:
        """Its length and its frames."""
        return describe_window(self.settings, self._rate)

    @property
    def simulated(self) -> bool:
        """Whether any of the recordings was."""
        return self.recordings.model_input.simulated

    def data(self) -> dict[str, Any]:
        """Facts of the training segments."""
        train = self.recordings.segments("train")
        hours = sum(one.n_times for one in train) / self._rate / 3600
        return {**self.recordings.facts, "hours": hours, "clips": len(train), "counted": "segments"}

    def split(self) -> dict[str, Any]:
        """Names of the recordings of each part."""
        names, segments = self._names()["eval"], self.recordings.segments("eval")
        first = f"{', '.join(names[:8])}{', ...' * (len(names) > 8)}"
        return {"held_out_text": f"{len(segments)} segments of {len(names)} recordings ({first})", **self._names()}

    def preparation(self) -> dict[str, Any]:
        """How recordings become windows."""
        return to_preprocessor(self.recordings.model_input)

    def files(self, n_windows: int) -> Mapping[str, Callable[[Path], None]]:
        """None."""
        return {}

    @property
    def _rate(self) -> int:
        return self.recordings.model_input.preparation.sampling_rate

    def _names(self) -> dict[str, list[str]]:
        return {part: sorted({one.recording for one in self.recordings.segments(part)}) for part in ("train", "eval")}

    def card(self, folder: str) -> dict[str, Any]:
        """Of recordings, simulated or not."""
        recordings = self.recordings.facts.get("recordings", self._names()["train"])
        tags = ["meg2vec", "meg", "wav2vec2", "feature-extraction", *(["simulated"] if self.simulated else [])]
        return {
            "library_name": "strata",
            "tags": tags,
            "summary": f"{SIMULATED}\n\n{_SUMMARY}" if self.simulated else _SUMMARY,
            "snippet": _SNIPPET.format(folder=folder),
            "trust": f"{SIMULATED} {_TRUST}" if self.simulated else _TRUST,
            "intended_use": _INTENDED,
            "data": [f"{'Simulated r' if self.simulated else 'R'}ecordings: {len(recordings)}; see training.json."],
            "attribution": [
                "Architecture and loss: Baevski et al. 2020, wav2vec 2.0, https://arxiv.org/abs/2006.11477."
            ],
        }
