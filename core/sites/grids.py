"""A recording as a trained model wants it: its sites by name, its statistics, grids from any second on."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from core.arrays import OnProgress, ignore_progress
from core.errors import DataError, InputError
from core.sites.data import Mapped, standardised, without_flat
from core.sites.names import clean_names, listed
from core.sites.patches import Plan, PowerMap, map_power
from core.sites.recordings import SiteRecording, open_site_recording
from core.sites.site_input import SiteInput
from core.sites.table import Grouping, channels_as_sites, known_as_sites


@dataclass(frozen=True)
class GridSource:
    """Where grids come from.

    Attributes:
        montage: One of MNE's, for EEG without positions; empty for none.
        numpy_rate: Hz of a ``.npy`` that does not say it.
        family: As in :func:`core.sites.recordings.open_site_recording`.
    """

    montage: str = ""
    numpy_rate: float | None = None
    family: str = ""


class Grids:
    """Grids of one recording for a trained model. Close it, or use it in a ``with``.

    Attributes:
        site_input: The model's.
        sites: Ids of the model's sites that the recording holds, ascending.
        seconds: Of the last column's centre.
        simulated: Whether the recording says so.
        warnings: Sentences.
    """

    def __init__(self, mapped: Mapped, site_input: SiteInput, warnings: tuple[str, ...]) -> None:
        self._mapped = mapped
        self.site_input, self.warnings = site_input, warnings
        self.sites = tuple(sorted(int(site) for site in mapped.ids if site))
        self.seconds = float(mapped.power.times[-1])
        self.simulated = mapped.recording.simulated

    def grid(self, start_seconds: float, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A grid.

        Args:
            start_seconds: Its first column is the one whose centre is nearest.
            sites: (n,) ids.

        Returns:
            tuple: (n * rows per site, grid_width) float32, and the columns' centres (grid_width,) in seconds.

        Raises:
            InputError: the recording does not reach so far, or does not hold a site.
        """
        width, times = self.site_input.patches.grid_width, self._mapped.power.times
        first = int(np.abs(times - start_seconds).argmin())
        latest = times[len(times) - width]
        if start_seconds < 0 or first > len(times) - width:
            raise InputError(
                f"Got a grid from {start_seconds:g} s on; expected 0 to {latest:.2f} s, because a grid of "
                f"{self._mapped.name} lasts {self.site_input.patches.seconds:g} s."
            )
        values = self._mapped.read(first, first + width, np.asarray(sites))
        return standardised(values, self.site_input, sites), times[first : first + width]

    def close(self) -> None:
        """Drop the map. A second call does nothing."""
        self._mapped.power.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_grids(
    path: Path | str,
    site_input: SiteInput,
    source: GridSource | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Grids:
    """Open a recording for a trained model; use the result in a ``with``.

    Args:
        path: The recording.
        site_input: The model's.
        source: How to read it.
        on_progress: Told of the stage ``power`` in seconds.

    Raises:
        InputError: there is no such recording, or a setting cannot be used.
        DataError: it cannot be read, is shorter than a grid, or holds none of the model's sites.
        OutputError: the temporary file cannot be written.
    """
    source = source or GridSource()
    with open_site_recording(path, source.montage, source.numpy_rate, source.family) as opened:
        recording = without_flat(opened)
        grouping = _grouping(recording, site_input)
        ids = site_input.ids_of(clean_names(grouping.sites.names, site_input.sites.names))
        unknown = [name for name, site in zip(grouping.sites.names, ids, strict=True) if not site]
        if not ids.any():
            raise DataError(
                f"{path} holds none of the model's {len(site_input.sites)} sites "
                f"({listed(site_input.sites.names)}), but {listed(unknown)}. Give a recording with some of its sites."
            )
        power = _map(recording, site_input, on_progress)
    told = (f"{recording.name}: the model does not know {listed(unknown)}.",) if unknown else ()
    return Grids(Mapped(recording.name, recording, grouping, power, ids), site_input, (*recording.warnings, *told))


def _grouping(recording: SiteRecording, site_input: SiteInput) -> Grouping:
    if not site_input.channels:
        return channels_as_sites(recording.sites, recording.regions)
    channels = dict(zip(site_input.sites.names, site_input.channels, strict=True))
    return known_as_sites(recording.sites, recording.regions, channels)


def _map(recording: SiteRecording, site_input: SiteInput, on_progress: OnProgress) -> PowerMap:
    """The map of a recording that is long enough for a grid."""
    plan = Plan(site_input.patches, site_input.sampling_rate)
    plan.require_band(recording)
    if plan.n_columns_of(recording) < site_input.patches.grid_width:
        raise DataError(
            f"{recording.path} lasts {recording.seconds:.1f} s; a grid of this model takes "
            f"{site_input.patches.reach_seconds:.1f} s. Give a longer recording."
        )
    return map_power(recording, plan, None, on_progress)
