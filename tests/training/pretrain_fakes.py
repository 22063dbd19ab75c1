"""Recordings in memory with the interface of a prepared folder, and a model small enough to train in a test."""

from dataclasses import dataclass, field

import numpy as np

from core.embed.encoders.meg2vec import noise_sensors
from core.meg.window_data import Segment
from core.sensors import ModelInput, Preparation, Statistics
from core.training.pretrain_settings import PretrainSettings

RATE = 250

TINY = PretrainSettings(
    name="meg2vec-test", window_seconds=3.0, in_channels=4, conv_dim=(8, 8, 8, 8), hidden_size=16, num_hidden_layers=2,
    num_attention_heads=2, intermediate_size=32, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
    num_codevectors_per_group=8, codevector_dim=8, proj_codevector_dim=8, num_negatives=5, mask_time_length=4,
    mask_time_prob=0.15, batch_size=2, learning_rate=1e-3, warmup_steps=2, max_steps=6, eval_every=3, eval_windows=4,
    checkpoint_every=3, precision="fp32", device="cpu", num_workers=0,
)  # fmt: skip


@dataclass
class FakeData:
    """Arrays (channels, time) by part, one a recording."""

    train: list[np.ndarray]
    eval: list[np.ndarray] = field(default_factory=list)
    fingerprint: str = "fake"
    simulated: bool = True
    rate: int = RATE
    native: bool = False

    @property
    def model_input(self):
        n = 2 if self.native else len(self.train[0])
        sensors = None if self.native else noise_sensors(n)
        layout = "native" if self.native else "neuromag306"
        preparation = Preparation(sampling_rate=self.rate, layout=layout)
        return ModelInput(preparation, sensors, Statistics(np.zeros(n), np.ones(n)), self.simulated)

    @property
    def facts(self):
        return {"recordings": ["made up"]}

    def segments(self, part):
        return tuple(Segment(f"{part}{i}", f"{part}{i}", one.shape[1]) for i, one in enumerate(getattr(self, part)))

    def read(self, segment, start, stop):
        assert 0 <= start < stop <= segment.n_times
        return self._array(segment)[:, start:stop]

    def sensors(self, segment):
        return noise_sensors(len(self._array(segment)))

    def _array(self, segment):
        part = segment.name.rstrip("0123456789")
        return getattr(self, part)[int(segment.name[len(part) :])]


def noise(seconds, n_channels=4, seed=0, rate=RATE):
    return np.random.default_rng(seed).standard_normal((n_channels, int(seconds * rate))).astype(np.float32)


def noise_data(n_channels=4, seconds=12.0):
    """Three recordings to train on and two held out."""
    made = [noise(seconds, n_channels, seed) for seed in range(5)]
    return FakeData(made[:3], made[3:])


def structured(seconds, n_channels=16, seed=0, rate=RATE):
    """Four sources that swing slowly, each at its own pace, mixed into all channels, with noise of each sensor.

    What a masked moment holds follows from the moments around it, and differs from moment to moment.
    """
    random = np.random.default_rng([seed, 1])
    mixing = np.random.default_rng(0).standard_normal((n_channels, 4))
    time = np.arange(int(seconds * rate)) / rate
    paces, phases = random.uniform(0.15, 0.5, (4, 1)), random.uniform(0, 2 * np.pi, (4, 1))
    values = mixing @ np.sin(2 * np.pi * paces * time + phases) + 0.3 * random.standard_normal((n_channels, len(time)))
    return (values / values.std(axis=1, keepdims=True)).astype(np.float32)
