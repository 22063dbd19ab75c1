"""A small model of sites with planted embeddings, and grids of noise."""

import json
from dataclasses import dataclass

import numpy as np

from core.records import to_plain
from core.sensors import Sensors
from core.sites.site_input import PatchSettings, SiteInput

N_SITES = 12


def positions_of(n=N_SITES):
    """A ring of electrodes, a little tilted, and none on the midline."""
    angles = 2 * np.pi * (np.arange(n) + 0.5) / n
    return 0.09 * np.column_stack([np.cos(angles), np.sin(angles), 0.3 + 0.2 * np.cos(angles)])


def site_input_of(n=N_SITES, sites_per_grid=1, unknown=()):
    positions = positions_of(n)
    positions[list(unknown)] = np.nan
    names = tuple(f"E{number}" for number in range(1, n + 1))
    sites = Sensors(names, ("eeg",) * n, positions, np.full((n, 3), np.nan))
    patches = PatchSettings(grid_height=16, grid_width=16, sites_per_grid=sites_per_grid, hop_seconds=0.125)
    rows = patches.rows_per_site
    regions = tuple("front" if number < n // 2 else "back" for number in range(n))
    return SiteInput(patches, sites, regions, np.zeros((n, rows)), np.ones((n, rows)), 128.0)


def planted(n=N_SITES, dim=8, seed=0):
    return 10 * positions_of(n) @ np.random.default_rng(seed).normal(size=(3, dim))


def write_model(folder, site_input, embeddings, **changes):
    """A checkpoint folder whose table holds ``embeddings``."""
    import torch

    from core.checkpoints.save import save_checkpoint
    from core.models.wav2vec2_2d import Wav2Vec2_2DConfig, Wav2Vec2_2DForPreTraining
    from tests.checkpoints.test_save import CARD, TRAINING

    n, dim = embeddings.shape
    patches = site_input.patches
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "conv_dim": (8, 16), "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16,
        "grid_height": patches.grid_height, "grid_width": patches.grid_width, "num_recording_sites": n + 1,
        "spatial_embed_dim": dim, "sites_per_grid": patches.sites_per_grid,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wav2Vec2_2DForPreTraining(Wav2Vec2_2DConfig(**size | changes))
    if model.spatial_embedding is not None:
        model.spatial_embedding.weight.data[1 : n + 1] = torch.from_numpy(embeddings).float()
    preparation = to_plain(site_input) | {"feature_extractor_type": "wav2vec2_2d"}
    save_checkpoint(folder, model, TRAINING, CARD, preparation=preparation)
    write_arrays(folder, n, dim)
    return folder


def write_arrays(folder, n, dim, **changes):
    positions = positions_of(n)
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    arrays = {
        "untrained": np.random.default_rng(9).normal(size=(n, dim)).astype(np.float32),
        "signal_correlation": np.exp(-10 * gaps),
        "seen": np.full(n, 7),
    }
    np.savez(folder / "sites.npz", **arrays | changes)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@dataclass
class NoiseGrids:
    """Grids of noise, each site its own."""

    site_input: SiteInput
    sites: tuple[int, ...] = tuple(range(1, N_SITES + 1))
    warnings: tuple[str, ...] = ("noise.fif: a warning of the recording.",)

    def grid(self, start_seconds, sites):
        patches = self.site_input.patches
        size = (patches.rows_per_site, patches.grid_width)
        bands = [np.random.default_rng(int(site)).normal(size=size) for site in sites]
        times = start_seconds + patches.hop_seconds * np.arange(patches.grid_width)
        return np.concatenate(bands).astype(np.float32), times
