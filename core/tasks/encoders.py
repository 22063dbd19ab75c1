"""From what a user asks for to an encoder that runs: found, loaded, compiled, and kept for the next call."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from core.arrays import EmbedSettings, OnProgress, OutputSettings, Progress
from core.checkpoints.find import Found
from core.checkpoints.load import checkpoint_hashes, load_model, randomised
from core.device import DeviceChoice, pick_device
from core.embed.corpus import settings_fingerprint
from core.embed.encoder import Encoder, Runner, at_loudness
from core.embed.pipeline import resolve_layers
from core.errors import CheckpointError
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.embed.engines import EngineChoice

log = logging.getLogger(__name__)

# Models kept in memory between two calls: the one in use and the one before.
_KEPT_MODELS = 2

Stamp = tuple[tuple[str, int, int], ...]
"""Name, time and size of each file of a model's folder: what tells that it changed."""


@dataclass(frozen=True)
class Source:
    """Where a network's weights come from.

    Attributes:
        found: The model's folder.
        seed: None for the weights of the folder; a number for random ones of the same architecture, the control.
    """

    found: Found
    seed: int | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        return self.found.name if self.seed is None else f"{self.found.name} (random weights)"

    def stamp(self) -> Stamp:
        """Look at the folder's files.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            files = [path for path in sorted(self.found.folder.iterdir()) if path.is_file()]
        except OSError as error:
            raise CheckpointError(f"Model folder {self.found.folder} cannot be read: {error.strerror}.") from error
        return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)

    def model_hash(self) -> str:
        """Hash of weights and config, without loading them: a changed preprocessing gives other values too."""
        return _model_hash(self, self.stamp())


@lru_cache(maxsize=16)
def _model_hash(source: Source, _stamp: Stamp) -> str:
    found = source.found
    weights, config = checkpoint_hashes(found.folder, found.name, from_user=found.from_user)
    return (weights if source.seed is None else f"random-{source.seed}") + config


@dataclass(frozen=True)
class ReadyEncoder:
    """An encoder with its networks compiled for certain layers, and how that was chosen."""

    source: Source
    loaded: LoadedModel
    encoder: Encoder
    layers: tuple[int, ...]
    runners: dict[str, Runner]
    device: DeviceChoice
    choice: "EngineChoice"

    def fingerprint(self, settings: EmbedSettings, output: OutputSettings) -> str:
        """Hash what decides the values, with what ``auto`` came to here: another machine may choose otherwise."""
        chosen = replace(
            settings, device=self.device.device, engine=self.choice.engine, precision=self.choice.precision
        )
        return settings_fingerprint(chosen, output.formats, self.source.model_hash())


def ready_encoder(source: Source, settings: EmbedSettings, on_progress: OnProgress) -> ReadyEncoder:
    """Load, wrap and compile a model; the last ones stay in memory for the next call."""
    stamp = source.stamp()
    on_progress(Progress("load the model", 0, 1, "model"))
    # What is left out changes no encoder: the next call with other windows finds this one.
    wanted = EmbedSettings(
        layers=settings.layers,
        device=settings.device,
        engine=settings.engine,
        precision=settings.precision,
        loudness=settings.loudness,
    )
    ready = _ready_cached(source, stamp, wanted)
    on_progress(Progress("load the model", 1, 1, "model"))
    return ready


@lru_cache(maxsize=_KEPT_MODELS)
def _ready_cached(source: Source, _stamp: Stamp, wanted: EmbedSettings) -> ReadyEncoder:
    from core.embed.encoders import build_encoder
    from core.embed.engines import EngineRequest, build_runners

    found, chosen_device = source.found, pick_device(wanted.device)
    loaded = load_model(found.folder, found.name, from_user=found.from_user)
    if source.seed is not None:
        loaded = randomised(loaded, source.seed)
    encoder = at_loudness(build_encoder(loaded), wanted.loudness)
    spec = encoder.spec
    numbers = resolve_layers(wanted.layers, spec.name, spec.n_layers, spec.last)
    runners, choice = build_runners(encoder, numbers, EngineRequest(wanted.engine, wanted.precision, chosen_device))
    log.info("%s on %s, %s (%s)", choice.engine, chosen_device.device, choice.precision, choice.precision_reason)
    return ReadyEncoder(source, loaded, encoder, numbers, runners, chosen_device, choice)
