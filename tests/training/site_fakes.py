"""Sites in memory with the interface of opened recordings, and a model small enough to train in a test."""

from dataclasses import dataclass, field

import numpy as np

from core.sensors import Sensors
from core.sites.site_data import Stretch
from core.sites.site_input import PatchSettings, SiteInput
from core.training.site_settings import SiteSettings

TINY_SITES = SiteSettings(
    name="sites-test", grid_height=16, grid_width=16, sites_per_grid=4, conv_dim=(8, 8), conv_kernel=(2, 2),
    conv_stride=(2, 2), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    spatial_embed_dim=8, num_codevectors_per_group=8, codevector_dim=8, proj_codevector_dim=8, num_negatives=5,
    mask_rows=1, mask_columns=2, batch_size=2, learning_rate=1e-3, warmup_steps=2, max_steps=6, eval_every=3,
    eval_windows=4, checkpoint_every=3, precision="fp32", device="cpu", num_workers=0,
)  # fmt: skip


def sensors(n_sites):
    """On a line, a centimetre apart."""
    positions = np.zeros((n_sites, 3))
    positions[:, 0] = 0.01 * np.arange(n_sites)
    names = tuple(f"S{number}" for number in range(1, n_sites + 1))
    return Sensors(names, ("eeg",) * n_sites, positions, np.full((n_sites, 3), np.nan))


@dataclass
class FakeSites:
    """Log power (sites, rows, columns) by part."""

    train: np.ndarray
    eval: np.ndarray
    patches: PatchSettings = field(default_factory=lambda: TINY_SITES.patches)
    fingerprint: str = "fake"
    simulated: bool = True
    held: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def n_sites(self):
        return len(self.train)

    @property
    def site_input(self):
        n, rows = self.n_sites, self.patches.rows_per_site
        mean, std = np.zeros((n, rows)), np.ones((n, rows))
        return SiteInput(self.patches, sensors(n), ("",) * n, mean, std, 128.0, self.simulated)

    @property
    def facts(self):
        return {"recordings": ["made up"], "warnings": self.warnings}

    @property
    def signal_correlation(self):
        return np.corrcoef(self.train.reshape(self.n_sites, -1))

    def stretches(self, part):
        values, everyone = getattr(self, part), tuple(range(1, self.n_sites + 1))
        held = self.held.get(part, (everyone,))
        return tuple(Stretch(f"recording {i}", 0, values.shape[2], sites) for i, sites in enumerate(held))

    def read(self, stretch, first, sites):
        values = self.train if stretch in self.stretches("train") else self.eval
        assert 0 <= first <= values.shape[2] - self.patches.grid_width and set(sites) <= set(stretch.sites)
        part = values[np.asarray(sites) - 1, :, first : first + self.patches.grid_width]
        return part.reshape(-1, self.patches.grid_width).astype(np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def noise_sites(n_sites=8, columns=(200, 100), rows=4, seed=0):
    random = np.random.default_rng(seed)
    train, held_out = (random.standard_normal((n_sites, rows, n)).astype(np.float32) for n in columns)
    return FakeSites(train, held_out[:, :, : columns[1]])
