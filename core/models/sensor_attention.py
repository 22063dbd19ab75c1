"""Attention over sensors: any number of them, anywhere, in any order, become a fixed number of virtual channels.

After the spatial attention of Défossez et al. (2023, Nature Machine Intelligence 5, 1097), in three dimensions and with
orientation and kind: learned queries, keys from Fourier features of where a sensor is. The weights do not depend on
time or values. Signs are left to the convolution that follows, which mixes virtual channels freely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from core.errors import InputError
from core.sensors import MEG_KINDS, Sensors

if TYPE_CHECKING:
    from core.models.meg2vec import Meg2VecConfig

N_FREQUENCIES = 8
PERIOD_METRES = 0.5
"""Longest wave over a helmet, which is less than half as wide as that on either side; the shortest is 6 cm."""


@dataclass(frozen=True)
class SensorTensors:
    """Sensors of a batch of recordings, padded to the largest number.

    Attributes:
        positions: (batch, channels, 3), metres.
        orientations: (batch, channels, 3), unit vectors.
        kinds: (batch, channels) int64, indices into MEG_KINDS.
        mask: (batch, channels) bool, false for padding.
    """

    positions: torch.Tensor
    orientations: torch.Tensor
    kinds: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def of(cls, recordings: Sequence[Sensors]) -> "SensorTensors":
        """Pad the sensors of some recordings to one length.

        Raises:
            InputError: a sensor whose place is not known, or a recording without any.
        """
        for sensors in recordings:
            if not len(sensors) or not sensors.are_located:
                raise InputError(
                    f"Got {len(sensors)} sensors ({sensors.system or 'unknown system'}), some without position or "
                    "orientation; this model needs them all. Use a recording with positions, or a model of channels."
                )
        most = max(len(sensors) for sensors in recordings)
        positions, orientations = np.zeros((2, len(recordings), most, 3), dtype=np.float32)
        kinds, mask = np.zeros((len(recordings), most), dtype=np.int64), np.zeros((len(recordings), most), dtype=bool)
        for row, sensors in enumerate(recordings):
            n = len(sensors)
            positions[row, :n], orientations[row, :n] = sensors.positions, sensors.orientations
            kinds[row, :n], mask[row, :n] = [MEG_KINDS.index(kind) for kind in sensors.kinds], True
        return cls(*(torch.from_numpy(array) for array in (positions, orientations, kinds, mask)))

    def to(self, device: torch.device | str) -> "SensorTensors":
        """The same on a device."""
        return SensorTensors(
            self.positions.to(device), self.orientations.to(device), self.kinds.to(device), self.mask.to(device)
        )


class SensorAttention(nn.Module):
    """Virtual channels as weighted means of sensors.

    Args:
        config: Its ``virtual_channels`` and ``sensor_dim``.
    """

    def __init__(self, config: "Meg2VecConfig") -> None:
        super().__init__()
        dim = config.sensor_dim
        self.queries = nn.Parameter(torch.empty(config.virtual_channels, dim))
        self.kind = nn.Embedding(len(MEG_KINDS), dim)
        self.place = nn.Linear(6 * N_FREQUENCIES + 3, dim)
        self.key = nn.Sequential(nn.GELU(), nn.Linear(dim, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights that begin neither uniform nor at a single sensor."""
        for linear in (self.place, self.key[1]):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.kind.weight)
        nn.init.normal_(self.queries, std=2.0)

    def forward(self, values: torch.Tensor, sensors: SensorTensors) -> torch.Tensor:
        """Turn (batch, channels, time) into (batch, virtual_channels, time); padded channels have no part in it.

        Raises:
            InputError: as many channels as sensors are needed.
        """
        if values.shape[:2] != sensors.mask.shape:
            raise InputError(
                f"Got values of {tuple(values.shape[:2])} recordings and channels for sensors of "
                f"{tuple(sensors.mask.shape)}; expected the same."
            )
        real = values.masked_fill(~sensors.mask[..., None], 0.0)  # also where padding holds NaN
        return self.weights(sensors).to(values.dtype) @ real

    def weights(self, sensors: SensorTensors) -> torch.Tensor:
        """(batch, virtual_channels, channels): each virtual channel's weights are not negative and sum to one."""
        place = torch.cat([fourier_features(sensors.positions), sensors.orientations], dim=-1)
        keys = self.key(self.place(place) + self.kind(sensors.kinds))
        logits = self.queries @ keys.transpose(1, 2) / math.sqrt(self.queries.shape[1])
        return torch.softmax(logits.float().masked_fill(~sensors.mask[:, None], -torch.inf), dim=-1)


def fourier_features(positions: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of (..., 3) positions in metres along each axis, (..., 6 * N_FREQUENCIES)."""
    frequencies = 2 * math.pi * torch.arange(1, N_FREQUENCIES + 1, device=positions.device) / PERIOD_METRES
    angles = (positions[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
