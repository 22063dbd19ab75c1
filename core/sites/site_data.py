"""What a training on sites reads its grids from."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.sites.site_input import SiteInput


@dataclass(frozen=True)
class Stretch:
    """A stretch of one recording without gaps, in one part.

    Attributes:
        recording: Its recording's name.
        start: Its first column in the recording's time-frequency map.
        stop: The column after its last.
        sites: Ids of the sites that the recording holds, ascending.
    """

    recording: str
    start: int
    stop: int
    sites: tuple[int, ...]

    @property
    def n_columns(self) -> int:
        """Columns."""
        return self.stop - self.start


class SiteData(Protocol):
    """Standardised log power of sites, in stretches, each in one of the parts ``train`` and ``eval``."""

    @property
    def site_input(self) -> SiteInput:
        """What turned recordings into these values."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of all that a model could learn from."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What to say about the data, ready for JSON: recordings, hours, left-out channels, sites without position."""
        ...

    @property
    def signal_correlation(self) -> np.ndarray:
        """Correlation of the raw signals in the grid's band over the training time, (sites, sites) float64.

        NaN where two sites never stood in one recording.
        """
        ...

    def stretches(self, part: str) -> tuple[Stretch, ...]:
        """The stretches of a part."""
        ...

    def read(self, stretch: Stretch, first: int, sites: np.ndarray) -> np.ndarray:
        """A grid of standardised log power.

        Args:
            stretch: One of those above.
            first: Its column in the stretch.
            sites: (sites_per_grid,) ids.

        Returns:
            (grid_height, grid_width) float32; the rows of the first site stand first.
        """
        ...
