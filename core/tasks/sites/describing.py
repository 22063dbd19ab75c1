"""What a recording of sites holds, before anything is trained on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError
from core.tasks.sites.requests import SiteDescription, SiteUploads

if TYPE_CHECKING:
    from core.sites.recordings import SiteRecording
    from core.sites.table import Grouping

TABLES = (".tsv", ".csv")
"""Suffixes of a table of sites; everything else is a recording, or a part of one."""

PARTS = (".vmrk", ".fdt", ".json", ".txt", ".md")
"""Suffixes of files that lie beside a recording and are none."""

HEADERS = {".eeg": (".vhdr", ".ahdr"), ".dat": (".vhdr",)}
"""Files that are a recording's samples where a header of the same name lies beside them."""


def find_sites(inputs: Sequence[Path]) -> SiteUploads:
    """Tell recordings, their parts and a table of sites apart.

    Args:
        inputs: Files, and folders, which are searched.

    Raises:
        InputError: There is no recording, or more than one table.
    """
    from core.sites.recordings import MNE_SUFFIXES

    files = [one for path in inputs for one in _content(path)]
    tables = [path for path in files if path.suffix.lower() in TABLES]
    recordings = tuple(path for path in files if path not in tables and not _is_part(path, files))
    if not recordings:
        names = ", ".join(path.name for path in inputs)
        raise InputError(f"Found no recording in {names}; expected one of {', '.join(MNE_SUFFIXES[:8])}, .npy or .wav.")
    if len(tables) > 1:
        raise InputError(f"Got {len(tables)} tables of sites ({', '.join(one.name for one in tables)}); send one.")
    return SiteUploads(recordings, tables[0] if tables else None)


def describe_sites(
    path: Path, montage: str = "", numpy_rate: float | None = None, table: Path | None = None
) -> SiteDescription:
    """Say what is in a recording: its sites with what is known of their places, what is left out, its length.

    Args:
        path: The recording.
        montage: One of MNE's, for EEG without positions; empty for none.
        numpy_rate: Hz of a ``.npy`` that does not say it.
        table: Of sites; None takes each channel for a site, or the channels of one place where several share one.

    Raises:
        InputError: There is no such recording or montage, or an array lacks its rate.
        DataError: It cannot be read, or the table does not fit it.
    """
    from core.meg.layouts import flat_positions
    from core.sites.recordings import open_site_recording

    with open_site_recording(path, montage, numpy_rate) as found:
        grouping, told = _grouped(found, table)
        return SiteDescription(
            path=str(path),
            format=found.format,
            sites=grouping.sites,
            flat=flat_positions(grouping.sites),
            regions=grouping.regions,
            sampling_rate=found.sampling_rate,
            seconds=found.seconds,
            left_out=dict(found.left_out),
            simulated=found.simulated,
            warnings=(*found.warnings, *told),
        )


def _grouped(found: "SiteRecording", table: Path | None) -> "tuple[Grouping, tuple[str, ...]]":
    """The sites of a recording as a training takes them, and what to say of that."""
    from core.sites.data import kind_of_sites
    from core.sites.table import channels_as_sites, places_as_sites, read_site_table

    if table is not None:
        return read_site_table(table).group(found.sites, found.name), ()
    if kind_of_sites("auto", [found]) == "channels":
        return channels_as_sites(found.sites, found.regions), ()
    places = places_as_sites(found.sites, found.regions)
    said = f"{len(found.sites)} sensors stand at {len(places.sites)} places; those of one place are one site."
    return places, (said,)


def list_montages() -> tuple[str, ...]:
    """Name the montages that MNE knows."""
    from mne.channels import get_builtin_montages

    return tuple(get_builtin_montages())


def _content(path: Path) -> list[Path]:
    """Files of a folder; a file, or a recording that is a folder, as it is."""
    if not path.is_dir() or path.suffix.lower() in (".ds", ".mff"):
        return [path]
    shown = (one for one in sorted(path.iterdir()) if not one.name.startswith((".", "__MACOSX")))
    return [found for one in shown for found in _content(one)]


def _is_part(path: Path, files: Sequence[Path]) -> bool:
    suffix = path.suffix.lower()
    if suffix in PARTS:
        return True
    beside = {one.suffix.lower() for one in files if one.parent == path.parent and one.stem == path.stem}
    return bool(beside & set(HEADERS.get(suffix, ())))
