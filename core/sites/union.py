"""The sites of several recordings together: those of one name are one site."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import DataError
from core.sensors import MEG_KINDS, Sensors
from core.sites.names import listed
from core.sites.table import Grouping

AGREES_METRES = 0.005
"""Positions of one site in two recordings that differ by more are reported."""


@dataclass(frozen=True)
class Union:
    """All sites; row i is site i + 1.

    Attributes:
        sites: In the order in which recordings first have them.
        regions: Of each.
        warnings: Sentences.
    """

    sites: Sensors
    regions: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def ids_of(self, names: Sequence[str]) -> np.ndarray:
        """Ids (n,) of sites by name."""
        known = {name: number for number, name in enumerate(self.sites.names, start=1)}
        return np.array([known[name] for name in names], dtype=np.int64)


def union_of(groupings: Sequence[Grouping], names: Sequence[str]) -> Union:
    """Put the sites of recordings together.

    Positions and regions are those of the first recording that knows them.

    Raises:
        DataError: a site is of one kind here and of another there.
    """
    first: dict[str, tuple[str, np.ndarray, np.ndarray, str]] = {}
    warnings = []
    for grouping, recording in zip(groupings, names, strict=True):
        moved = []
        for index, name in enumerate(grouping.sites.names):
            mine = (
                grouping.sites.kinds[index],
                grouping.sites.positions[index],
                grouping.sites.orientations[index],
                grouping.regions[index],
            )
            known = first.setdefault(name, mine)
            if known[0] != mine[0] and not {known[0], mine[0]} <= set(MEG_KINDS):  # a place has sensors of both
                raise DataError(f"The site {name} is {known[0]} elsewhere and {mine[0]} in {recording}. Rename one.")
            moved += [name] if np.linalg.norm(known[1] - mine[1]) > AGREES_METRES else []
            first[name] = _completed(known, mine)
        if moved:
            warnings.append(
                f"{recording} places {len(moved)} sites more than {AGREES_METRES * 1000:g} mm from where recordings "
                f"before it do: {listed(moved)}. The first position counts."
            )
    columns = list(zip(*first.values(), strict=True))
    system = groupings[0].sites.system if len({one.sites.system for one in groupings}) == 1 else ""
    sites = Sensors(tuple(first), tuple(columns[0]), np.array(columns[1]), np.array(columns[2]), system)
    return Union(sites, tuple(columns[3]), tuple(warnings))


def _completed(
    known: tuple[str, np.ndarray, np.ndarray, str], mine: tuple[str, np.ndarray, np.ndarray, str]
) -> tuple[str, np.ndarray, np.ndarray, str]:
    place, way = (one if np.isfinite(one).all() else other for one, other in zip(known[1:3], mine[1:3], strict=True))
    return known[0], place, way, known[3] or mine[3]
