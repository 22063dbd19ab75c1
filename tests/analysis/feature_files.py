"""Small feature files as Strata writes them, with values that say where they come from."""

import json
from pathlib import Path

import numpy as np

from core.arrays import EmbeddingInfo, OutputSettings
from core.clock import FrameClock
from core.embed.writers import write_embeddings

CLOCK = FrameClock(hop=320, field=400, sampling_rate=16_000)
DIM = 5


def planted(n_frames: int, layers=range(13), dim=DIM, seed=0) -> np.ndarray:
    """(n_layers, n_frames, dim) float32; the first value of a row is its frame, the second its layer."""
    values = np.random.default_rng(seed).normal(size=(len(layers), n_frames, dim)).astype(np.float32)
    values[:, :, 0] = np.arange(n_frames)
    values[:, :, 1] = np.array(layers)[:, None]
    return values


def write_features(folder: Path, name: str, values: np.ndarray, clock=CLOCK, layers=None, **facts) -> Path:
    """Write through the real writer; returns the ``.npz``."""
    layers = tuple(range(len(values))) if layers is None else tuple(layers)
    metadata = {
        "model_name": "tiny", "model_sha256": "a" * 64, "input_sha256": f"{name}-bytes",
        "recording_path": f"/somewhere/{name}.wav",
        "clock": {"hop": clock.hop, "field": clock.field, "start": clock.start, "sampling_rate": clock.sampling_rate},
    }  # fmt: skip
    info = EmbeddingInfo(clock, layers, values.shape[1], values.shape[2], metadata | facts)
    output = OutputSettings(folder, name, ("npz", "json"))
    return write_embeddings([values], info, output, name)[0]["npz"]


def edit_json(npz: Path, **changes) -> None:
    path = npz.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
