"""What the checkpoints of a Wav2Vec2_2D say of it and of the sites that it was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from core.sites.preprocessor import SITES_FILE, to_preprocessor
from core.training.site_presets import describe_grid
from core.training.site_settings import SiteSettings
from core.training.site_watch import npz_bytes, site_embeddings
from core.training.site_windows import TrainingGrids

if TYPE_CHECKING:
    from core.sites.site_data import SiteData

SIMULATED = (
    "**Trained on simulated recordings**: what it knows of sites is what the simulation puts into them. For trying "
    "out, teaching and testing; not for conclusions about people."
)

_SUMMARY = (
    "A Wav2Vec2_2D encoder: wav2vec 2.0 on time-frequency grids of recording sites, trained without labels to tell the "
    "quantised code of a masked patch from those of other hidden patches. It learned a vector for each site."
)

_SNIPPET = """
from pathlib import Path

from core.checkpoints.load import load_model

loaded = load_model(Path("{folder}"), "wav2vec2-2d", from_user=True)
print(loaded.model.config.num_recording_sites, loaded.model.config.use_spatial_embedding)
"""

_TRUST = (
    "What is alike in its site vectors is what helped to fill gaps in these recordings: neighbourhood, but also shared "
    "noise, reference and artefacts. Compare them with the vectors before training, with the distance of the sites and "
    "with the correlation of the raw signals (python -m core sites similarity), which often says more. Accuracy and "
    "loss below are those of the training task on held-out time. A site of another recording is not known to it."
)

_INTENDED = "Research on recordings of several sites. Not for diagnoses, and not for decisions about people."


@dataclass(frozen=True)
class SitesTrained:
    """A :class:`core.training.pretrain_checkpoints.Trained`.

    Attributes:
        settings: Of the run.
        recordings: What it is trained on.
        grids: That it is trained on.
        untrained: (sites, dim) float32 vectors before the first step; (sites, 0) of a model that is not told its sites.
        recipe: The command.
    """

    settings: SiteSettings
    recordings: "SiteData"
    grids: TrainingGrids
    untrained: np.ndarray
    recipe: str = "python -m core sites train"

    @classmethod
    def of(cls, settings: SiteSettings, data: "SiteData", grids: TrainingGrids, model: nn.Module) -> "SitesTrained":
        """Of a model before its first step."""
        n = len(data.site_input.sites)
        rows = site_embeddings(model, n)
        return cls(settings, data, grids, np.zeros((n, 0), np.float32) if rows is None else rows)

    @property
    def fingerprint(self) -> str:
        """Of the recordings."""
        return self.recordings.fingerprint

    @property
    def window(self) -> str:
        """The grid."""
        site_input = self.recordings.site_input
        return describe_grid(self.settings, site_input.sampling_rate, len(site_input.sites))

    @property
    def simulated(self) -> bool:
        """Whether any of the recordings was."""
        return self.recordings.site_input.simulated

    def data(self) -> dict[str, Any]:
        """Facts of the training stretches."""
        train = self.recordings.stretches("train")
        hours = sum(one.n_columns for one in train) * self.settings.hop_seconds / 3600
        return {**self.recordings.facts, "hours": hours, "clips": len(train), "counted": "stretches"}

    def split(self) -> dict[str, Any]:
        """Stretches of each part."""
        parts = {part: self.recordings.stretches(part) for part in ("train", "eval")}
        seconds = sum(one.n_columns for one in parts["eval"]) * self.settings.hop_seconds
        spans = {
            part: [{"recording": one.recording, "columns": [one.start, one.stop]} for one in stretches]
            for part, stretches in parts.items()
        }
        return {"held_out_text": f"{len(parts['eval'])} stretches, {seconds:.1f} s in all", **spans}

    def preparation(self) -> dict[str, Any]:
        """How recordings become grids, and the sites."""
        return to_preprocessor(self.recordings.site_input)

    def files(self, n_windows: int) -> Mapping[str, Callable[[Path], None]]:
        """What an analysis of the sites needs beside the model."""
        seen = self.grids.shown(n_windows, len(self.untrained))
        content = npz_bytes(
            untrained=self.untrained,
            signal_correlation=self.recordings.signal_correlation.astype(np.float64),
            seen=seen,
        )
        return {SITES_FILE: lambda path: _write(path, content)}

    def card(self, folder: str) -> dict[str, Any]:
        """Of recordings, simulated or not."""
        n_sites, simulated = len(self.recordings.site_input.sites), self.simulated
        names = sorted({one.recording for one in self.recordings.stretches("train")})
        return {
            "library_name": "strata",
            "tags": ["wav2vec2-2d", "wav2vec2", "recording-sites", *(["simulated"] if simulated else [])],
            "summary": f"{SIMULATED}\n\n{_SUMMARY}" if simulated else _SUMMARY,
            "snippet": _SNIPPET.format(folder=folder),
            "trust": f"{SIMULATED} {_TRUST}" if simulated else _TRUST,
            "intended_use": _INTENDED,
            "data": [f"{'Simulated r' if simulated else 'R'}ecordings: {len(names)}, of {n_sites} sites."],
            "attribution": [
                "Loss and blocks: Baevski et al. 2020, wav2vec 2.0, https://arxiv.org/abs/2006.11477.",
            ],
        }


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
