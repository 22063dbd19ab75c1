"""From what a user asks for to an encoder that runs: found, loaded, compiled, and kept for the next call."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from core.arrays import EmbedSettings, OnProgress, OutputSettings, Progress
from core.checkpoints.find import Found
from core.checkpoints.load import load_model
from core.device import DeviceChoice, pick_device
from core.embed.corpus import settings_fingerprint
from core.embed.encoder import Encoder, Runner
from core.embed.pipeline import resolve_layers
from core.errors import CheckpointError
from core.models.loaded import LoadedModel

if TYPE_CHECKING:
    from core.embed.engines import EngineChoice

log = logging.getLogger(__name__)

# Models kept in memory between two calls: the one in use and the one before.
_KEPT_MODELS = 2


@dataclass(frozen=True)
class ReadyEncoder:
    """An encoder with its networks compiled for certain layers, and how that was chosen."""

    found: Found
    loaded: LoadedModel
    encoder: Encoder
    layers: tuple[int, ...]
    runners: dict[str, Runner]
    device: DeviceChoice
    choice: "EngineChoice"

    @property
    def model_hash(self) -> str:
        """Hash of weights and config: a changed preprocessing gives other values from the same weights."""
        return self.loaded.sha256 + self.loaded.config_sha256

    def fingerprint(self, settings: EmbedSettings, output: OutputSettings) -> str:
        """Hash what decides the values, with what ``auto`` came to here: another machine may choose otherwise."""
        chosen = replace(
            settings, device=self.device.device, engine=self.choice.engine, precision=self.choice.precision
        )
        return settings_fingerprint(chosen, output.formats, self.model_hash)


def ready_encoder(found: Found, settings: EmbedSettings, on_progress: OnProgress) -> ReadyEncoder:
    """Load, wrap and compile a model; the last ones stay in memory for the next call."""
    try:
        files = [path for path in sorted(found.folder.iterdir()) if path.is_file()]
    except OSError as error:
        raise CheckpointError(f"Model folder {found.folder} cannot be read: {error.strerror}.") from error
    stamp = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    on_progress(Progress("load the model", 0, 1, "model"))
    ready = _ready_cached(found, stamp, settings.layers, settings.device, settings.engine, settings.precision)
    on_progress(Progress("load the model", 1, 1, "model"))
    return ready


@lru_cache(maxsize=_KEPT_MODELS)
def _ready_cached(
    found: Found, _stamp: tuple[tuple[str, int, int], ...], layers: str, device: str, engine: str, precision: str
) -> ReadyEncoder:
    from core.embed.encoders import build_encoder
    from core.embed.engines import EngineRequest, build_runners

    chosen_device = pick_device(device)
    loaded = load_model(found.folder, found.name, from_user=found.from_user)
    encoder = build_encoder(loaded)
    numbers = resolve_layers(layers, encoder.spec)
    runners, choice = build_runners(encoder, numbers, EngineRequest(engine, precision, chosen_device))
    log.info("%s on %s, %s (%s)", choice.engine, chosen_device.device, choice.precision, choice.precision_reason)
    return ReadyEncoder(found, loaded, encoder, numbers, runners, chosen_device, choice)
