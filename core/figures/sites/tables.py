"""What an analysis of sites found, as CSV and NPZ for other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.embed.writers import replace_file
from core.figures.exports import Cell, csv_bytes, npz_bytes, readable, unicode_texts
from core.figures.names import file_label, make_folder
from core.figures.sites.findings import Comparison, SiteFindings


def write_site_tables(found: SiteFindings, folder: Path) -> dict[str, Path]:
    """Write ``similarity.csv``, ``order.csv``, ``nearest.csv`` and ``sites.npz``, each whole or not at all.

    Returns:
        Paths by name.

    Raises:
        OutputError: The folder cannot be written to.
    """
    return _write(site_files(found), folder)


def write_comparison_tables(found: Comparison, folder: Path) -> dict[str, Path]:
    """Write ``comparison_A_B.npz``: what :class:`core.tasks.sites.requests.CompareFindings` holds."""
    arrays = {
        "sites": unicode_texts(found.sites),
        "source": unicode_texts([found.source]),
        "map": found.map,
        "grid": found.grid,
        "frequencies": found.frequencies,
        "times": found.times,
        "mean_difference": np.array(found.mean_difference),
        "relative": np.array(found.relative),
    }
    stem = "_".join(("comparison", *map(file_label, found.sites)))
    return _write({f"{stem}.npz": npz_bytes(arrays)}, folder)


def site_files(found: SiteFindings) -> dict[str, bytes]:
    """Contents of the files, by name; rows and columns of the matrices stand in the order of the sites' ids."""
    matrix = [(name, *row) for name, row in zip(found.names, found.similarity, strict=True)]
    return {
        "similarity.csv": csv_bytes(("site", *map(readable, found.names)), matrix),
        "order.csv": csv_bytes(ORDER_COLUMNS, order_rows(found)),
        "nearest.csv": csv_bytes(("site", "rank", "nearest", "similarity"), _nearest_rows(found)),
        "sites.npz": npz_bytes(_arrays(found)),
    }


ORDER_COLUMNS = ("place", "site", "id", "kind", "region", "x_m", "y_m", "z_m")


def order_rows(found: SiteFindings) -> list[Sequence[Cell]]:
    """Sites in hierarchical order, with what is known of each; an unknown position stays empty."""
    rows: list[Sequence[Cell]] = []
    for place, site in enumerate(found.order.tolist(), start=1):
        where = [float(value) if np.isfinite(value) else None for value in found.positions[site]]
        rows.append((place, found.names[site], found.ids[site], found.kinds[site], found.regions[site], *where))
    return rows


def _nearest_rows(found: SiteFindings) -> list[Sequence[Cell]]:
    return [
        (name, rank, other, similarity)
        for name in found.names
        for rank, (other, similarity) in enumerate(found.nearest[name], start=1)
    ]


def _arrays(found: SiteFindings) -> dict[str, np.ndarray]:
    return {
        "names": unicode_texts(found.names),
        "ids": np.array(found.ids, dtype=np.int64),
        "similarity": found.similarity,
        "untrained": found.untrained,
        "order": found.order,
        "positions": found.positions,
        "flat": found.flat,
        "regions": unicode_texts(found.regions),
        "kinds": unicode_texts(found.kinds),
        **found.maps,
    }


def _write(contents: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    make_folder(folder)
    for name, content in contents.items():
        replace_file(folder / name, content)
    return {name: folder / name for name in contents}
