"""The figures of recording sites for print."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.figures.names import file_label
from core.figures.sheets.sheet import COLOURS, DOUBLE, FAINT, MARKERS, MM, add_legend, new_figure, short, write_sheets
from core.figures.sites.comparing import band_starts, named_rows
from core.figures.sites.distance import binned_medians, pair_distances
from core.figures.sites.embedding import classes_of, colourings
from core.figures.sites.findings import Comparison, SiteFindings, agreement_text, upper_pairs
from core.figures.sites.matrix import named_places
from core.figures.sites.places import spread_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FORMATS = ("png", "svg")
MOST_NAMES = 32
MOST_COLOURS = len(MARKERS)
LEGEND_COLUMNS = 5
SCALE = "RdBu_r"
"""Of a cosine, -1 to 1: safe for colour-blind readers."""


def write_site_figures(found: SiteFindings, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw all figures of an analysis and write each whole or not at all, in place of an earlier one.

    Args:
        found: The analysis.
        folder: Where to; made if it is not there.
        formats: Of ``png``, ``svg`` and ``pdf``.

    Returns:
        The path of each file by its name; what needs positions is left out without any.

    Raises:
        InputError: Another format.
        OutputError: The folder cannot be written to.
    """
    return write_sheets(_drawings(found), folder, formats)


def write_comparison_figure(found: Comparison, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw what a site changes; as :func:`write_site_figures`."""
    stem = "_".join(("site_comparison", *map(file_label, found.sites)))
    return write_sheets([(stem, partial(comparison_sheet, found))], folder, formats)


def _drawings(found: SiteFindings) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    yield "site_similarity", partial(similarity_sheet, found)
    yield "site_embedding", partial(embedding_sheet, found)
    if np.isfinite(pair_distances(found.positions)).any():
        yield "site_distance", partial(distance_sheet, found)
    if np.isfinite(found.flat).all(axis=1).any():
        yield "site_map", partial(map_sheet, found)


def similarity_sheet(found: SiteFindings) -> "Figure":
    """Draw the learned matrix beside the untrained one, in one order and on one scale."""
    caption = (
        f"Cosine of site embeddings, {len(found.names)} sites, in the order of a hierarchical clustering of the "
        "learned ones (average linkage). Right: the same sites before training."
    )
    figure = new_figure(DOUBLE, 88 * MM, f"Site similarity: {short(found.model)}", caption)
    panels = figure.subplots(1, 2)
    names = [found.names[place] for place in found.order.tolist()]
    for axes, matrix, heading in zip(
        panels, (found.similarity, found.untrained), ("Learned", "Untrained"), strict=True
    ):
        image = axes.imshow(matrix[np.ix_(found.order, found.order)], cmap=SCALE, vmin=-1, vmax=1, aspect="equal")
        axes.set_title(heading, loc="left")
        _name_sites(axes, names)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=28, pad=0.02)
    bar.set_label("Cosine")
    bar.outline.set_visible(False)
    return figure


def _name_sites(axes: "Axes", names: Sequence[str]) -> None:
    shown = named_places(len(names), MOST_NAMES)
    labels = [short(names[place], 12) for place in shown]
    axes.set_xticks(shown, labels, rotation=90, size=5)
    axes.set_yticks(shown, labels, size=5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def distance_sheet(found: SiteFindings) -> "Figure":
    """Draw similarity over distance, learned beside untrained."""
    distances = pair_distances(found.positions)
    known = np.isfinite(distances)
    caption = (
        f"{int(known.sum()):,} pairs of sites; the line is the median of pairs of alike distance. Spearman with minus "
        "the distance; p by Mantel's permutation of sites, one-sided."
    )
    figure = new_figure(DOUBLE, 62 * MM, f"Similarity and distance: {short(found.model)}", caption)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    rows = ((found.similarity, "Learned", found.distance), (found.untrained, "Untrained", found.untrained_distance))
    for axes, (matrix, heading, agreed), colour in zip(panels, rows, (COLOURS[0], FAINT), strict=True):
        values = upper_pairs(matrix)[known]
        axes.scatter(distances[known], values, s=2, color=colour, alpha=0.3, linewidths=0, rasterized=True)
        axes.plot(*binned_medians(distances[known], values), color="#222222", marker="o")
        axes.set_title(f"{heading}: {agreement_text(agreed)}", loc="left")
        axes.set_xlabel("Distance (mm)")
        axes.set_xlim(left=0)
    panels[0].set_ylabel("Cosine")
    return figure


def map_sheet(found: SiteFindings, n_chosen: int = 4) -> "Figure":
    """Draw similarity to some sites, far from each other on the map, at the places of all."""
    places = spread_places(found.flat)
    chosen = scattered(found.flat, n_chosen)
    caption = (
        "Colour: cosine of each site's embedding with that of the ringed one. Seen from above, nose up; sensors that "
        "share a place stand around it."
    )
    figure = new_figure(DOUBLE, 52 * MM, f"Similarity at the sites' places: {short(found.model)}", caption)
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    size = float(np.clip(1_500 / len(places), 4, 40))
    for axes, site in zip(panels, chosen, strict=True):
        colours = found.similarity[site]
        drawn = axes.scatter(
            *places.T, c=colours, cmap=SCALE, vmin=-1, vmax=1, s=size, linewidths=0.2, edgecolors=FAINT
        )
        axes.scatter(*places[site], s=3 * size, facecolors="none", edgecolors="#222222", linewidths=1)
        axes.set_title(short(found.names[site], 16), loc="left")
        axes.set_aspect("equal")
        axes.set_axis_off()
    bar = figure.colorbar(drawn, ax=panels, shrink=0.8, aspect=28, pad=0.02)
    bar.set_label("Cosine")
    bar.outline.set_visible(False)
    return figure


def scattered(places: np.ndarray, most: int) -> list[int]:
    """Choose sites far from each other: the foremost, then always the one farthest from those chosen.

    Args:
        places: (sites, 2), the second axis to the front; NaN where unknown.
        most: Sites at most.
    """
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    chosen = [int(known[places[known, 1].argmax()])]
    while len(chosen) < min(most, len(known)):
        gaps = np.linalg.norm(places[known][:, None] - places[chosen][None, :], axis=2).min(axis=1)
        chosen.append(int(known[gaps.argmax()]))
    return chosen


def embedding_sheet(found: SiteFindings) -> "Figure":
    """Draw the maps of the embeddings, coloured by the best that is known of the sites."""
    colour = colourings(found)[0]
    colour = colour if colour in ("hemisphere", "region") else "none"
    classes = classes_of(found, colour)
    kinds = [kind for kind in ("pca2", "tsne2") if kind in found.maps]
    told = "" if colour == "none" else f" Colour: {colour}."
    caption = (
        f"{len(found.names)} sites, embeddings scaled to length one.{told} t-SNE distances of far points mean little."
    )
    legend = classes if colour != "none" else []
    lines = -(-len(legend) // LEGEND_COLUMNS)
    figure = new_figure(len(kinds) * DOUBLE / 2, 74 * MM, f"Site embeddings: {short(found.model)}", caption, lines)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    looks = [
        {"color": COLOURS[place % MOST_COLOURS], "marker": MARKERS[place % MOST_COLOURS], "linestyle": "none"}
        for place in range(len(classes))
    ]
    for axes, kind in zip(panels, kinds, strict=True):
        for (_, own), look in zip(classes, looks, strict=True):
            axes.scatter(*found.maps[kind][own].T, s=12, color=look["color"], marker=look["marker"], linewidths=0)
        axes.set_title({"pca2": "Principal axes", "tsne2": "t-SNE"}[kind], loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
    if legend:
        add_legend(figure, looks, [f"{name} ({len(own)})" for name, own in legend], LEGEND_COLUMNS)
    return figure


def comparison_sheet(found: Comparison) -> "Figure":
    """Draw the map over tokens beside the input."""
    caption = (
        f"The same input ({short(found.source)}) under two site ids, in evaluation and without a mask: mean absolute "
        f"difference of the last states {found.mean_difference:.3g}, {100 * found.relative:.2g} % of the mean state."
    )
    heading = f"What a site changes: {short(found.sites[0], 16)} or {short(found.sites[1], 16)}"
    figure = new_figure(DOUBLE, 62 * MM, heading, caption)
    panels = figure.subplots(1, 2)
    limit = float(np.quantile(np.abs(found.grid), 0.99)) or 1.0
    top = float(np.max(found.map, initial=0.0)) or 1.0
    changed = _picture(panels[0], found, found.map, ("cividis", 0.0, top))
    given = _picture(panels[1], found, found.grid, (SCALE, -limit, limit))
    for axes, image, name in zip(panels, (changed, given), ("Change, by token", "Input, standardised"), strict=True):
        axes.set_title(name, loc="left")
        figure.colorbar(image, ax=axes, shrink=0.85, aspect=24, pad=0.02).outline.set_visible(False)
    return figure


def _picture(axes: "Axes", found: Comparison, values: np.ndarray, look: tuple[str, float, float]) -> "AxesImage":
    colours, low, high = look
    step = float(found.times[1] - found.times[0]) if len(found.times) > 1 else 1.0
    ends = (found.times[0] - step / 2, found.times[-1] + step / 2, -0.5, len(values) - 0.5)
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto", extent=ends)
    places, texts, what = named_rows(found, len(values))
    axes.set_yticks(places, texts)
    axes.set_ylabel({"Hz": "Frequency (Hz)", "sites": "Sites"}[what])
    for row in band_starts(found.frequencies)[1:]:
        axes.axhline(row * len(values) / len(found.frequencies) - 0.5, color="white", linewidth=0.6)
    axes.set_xlabel("Time (s)")
    return image
