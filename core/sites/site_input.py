"""What turns recordings into grids, and the sites that a model knows; it travels into the checkpoint."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.records import to_plain
from core.sensors import Sensors

SPACINGS = ("linear", "log")
REFERENCES = ("none", "average")


@dataclass(frozen=True)
class PatchSettings:
    """How recordings become grids of log power. Frequencies in Hz, times in seconds.

    A grid has ``grid_height`` rows and ``grid_width`` columns. Its rows are ``sites_per_grid`` bands of equal height,
    one for each of as many simultaneous sites; within a band the rows are frequencies, rising. Columns are moments.

    Attributes:
        grid_height: Rows.
        grid_width: Columns, one every ``hop_seconds``.
        sites_per_grid: Simultaneous sites in a grid; 1 is the document's grid.
        l_freq: Lower edge of the lowest row.
        h_freq: Upper edge of the highest row.
        spacing: ``linear`` or ``log``: rows between them that are equally wide in Hz or in octaves.
        window_seconds: Length of the Hann window.
        hop_seconds: From one column to the next.
        reference: ``average`` takes the mean over sites of one kind away from each sample; ``none`` takes the file's.
    """

    grid_height: int = 128
    grid_width: int = 128
    sites_per_grid: int = 1
    l_freq: float = 1.0
    h_freq: float = 40.0
    spacing: str = "linear"
    window_seconds: float = 0.5
    hop_seconds: float = 0.0625
    reference: str = "none"

    def __post_init__(self) -> None:
        for name, value, words in (("spacing", self.spacing, SPACINGS), ("reference", self.reference, REFERENCES)):
            if value not in words:
                raise InputError(f"Got {name} {value!r}; expected {' or '.join(words)}.")
        if self.sites_per_grid < 1 or self.grid_height % self.sites_per_grid:
            raise InputError(
                f"Got {self.sites_per_grid} sites in a grid of {self.grid_height} rows; expected a number that divides "
                "the rows."
            )
        if not 0 < self.l_freq < self.h_freq:
            raise InputError(f"Got rows from {self.l_freq:g} to {self.h_freq:g} Hz; expected them above 0 and rising.")
        if not 0 < self.hop_seconds <= self.window_seconds:
            raise InputError(
                f"Got windows of {self.window_seconds:g} s every {self.hop_seconds:g} s; expected the step to be above "
                "0 and no longer than the window."
            )

    @property
    def rows_per_site(self) -> int:
        """Frequency rows of each site in a grid."""
        return self.grid_height // self.sites_per_grid

    @property
    def reach_seconds(self) -> float:
        """What of a recording a grid rests on, from its first window's beginning to its last one's end."""
        return self.window_seconds + (self.grid_width - 1) * self.hop_seconds

    @property
    def edges(self) -> np.ndarray:
        """Where the rows of a site begin and end, (rows_per_site + 1,) Hz, rising."""
        space = np.linspace if self.spacing == "linear" else np.geomspace
        return space(self.l_freq, self.h_freq, self.rows_per_site + 1)

    @property
    def frequencies(self) -> np.ndarray:
        """Centre of each row of a site, (rows_per_site,) Hz; with log spacing the geometric one."""
        low, high = self.edges[:-1], self.edges[1:]
        return (low + high) / 2 if self.spacing == "linear" else np.sqrt(low * high)

    @property
    def seconds(self) -> float:
        """Of a grid, from its first column's centre to its last's, plus a step."""
        return self.grid_width * self.hop_seconds


@dataclass(frozen=True)
class SiteInput:
    """All that turns a recording into a model's input.

    Attributes:
        patches: The grids.
        sites: The sites that the model knows; row i is site i + 1, as 0 is no site. Positions in metres in the frame
            of the head where the recording has one (MEG: of the helmet), NaN where unknown.
        regions: Of each site, such as a lobe or an anatomical label; empty text where unknown.
        mean: (sites, rows per site) of log power over the training time, float64.
        std: The same of its standard deviation.
        sampling_rate: Hz that recordings are brought to before their power is taken.
        simulated: Whether any of the training data was.
        channels: Of each site, the names of the channels whose maps are averaged; empty where each site is one channel
            of its name.
    """

    patches: PatchSettings
    sites: Sensors
    regions: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    sampling_rate: float
    simulated: bool = False
    channels: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        n, rows = len(self.sites), self.patches.rows_per_site
        shapes = (len(self.regions), np.shape(self.mean), np.shape(self.std))
        if shapes != (n, (n, rows), (n, rows)):
            raise ValueError(f"{n} sites of {rows} rows need as many regions, means and deviations; got {shapes}.")
        if len(self.channels) not in (0, n):
            raise ValueError(f"{n} sites need as many lists of channels, or none; got {len(self.channels)}.")

    def ids_of(self, names: tuple[str, ...]) -> np.ndarray:
        """Site ids (n,) int64 of channel names; 0 where the model does not know one."""
        known = {name: number for number, name in enumerate(self.sites.names, start=1)}
        return np.array([known.get(name, 0) for name in names], dtype=np.int64)

    def fingerprint(self) -> str:
        """Hash of everything."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()
