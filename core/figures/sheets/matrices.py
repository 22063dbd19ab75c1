"""Similarity of layers as a matrix, on paper."""

from typing import TYPE_CHECKING

import numpy as np

from core.figures.sheets.sheet import MM, new_figure, short, sparse
from core.figures.sheets.subject import Subject, title_of
from core.findings import LayersFindings, Similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_VALUES = 13
"""Layers up to which each cell of a matrix has its value written in it."""

KINDS = {"cka": "Unbiased linear CKA", "cosine": "Cosine of the same rows", "pwcca": "PWCCA, held out"}


def layer_similarity(subject: Subject) -> "Figure":
    """Draw the similarity of a model's layers with each other, groups outlined."""
    similarity = subject.found.similarity
    figure = _matrix_figure(similarity, f"Layer similarity: {subject.title}", subject)
    axes = figure.axes[0]
    axes.set_xlabel("Layer")
    axes.set_ylabel("Layer")
    for cluster in similarity.clusters:
        _outline(axes, similarity.rows.index(cluster[0]), len(cluster))
    return figure


def cross_similarity(findings: LayersFindings) -> "Figure":
    """Draw the similarity of one model's layers with another's."""
    cross = findings.cross
    assert cross is not None  # only then is it drawn
    models = {found.model: found for found in findings.models}
    names = [title_of(models[name]) for name in cross.models]
    subject = Subject(models[cross.models[0]], len(findings.recordings), findings.span)
    figure = _matrix_figure(cross, f"Layer similarity: {names[0]} against {names[1]}", subject)
    axes = figure.axes[0]
    axes.set_ylabel(f"Layer of {short(names[0])}")
    axes.set_xlabel(f"Layer of {short(names[1])}")
    return figure


def _matrix_figure(similarity: Similarity, title: str, subject: Subject) -> "Figure":
    figure = new_figure(125 * MM, 105 * MM, title, _matrix_caption(similarity, subject))
    axes = figure.subplots()
    lowest = min(0.0, float(np.nanmin(similarity.matrix, initial=0.0)))
    image = axes.imshow(similarity.matrix, cmap="cividis", vmin=lowest, vmax=1.0, aspect="equal")
    bar = figure.colorbar(image, ax=axes, shrink=0.85, aspect=28, pad=0.02)
    bar.set_label(KINDS[similarity.kind])
    bar.ax.axhline(similarity.noise_floor, color="white", linewidth=0.9)
    bar.outline.set_visible(False)
    _number_cells(axes, similarity)
    axes.spines[:].set_visible(False)
    _write_values(axes, image, similarity)
    return figure


def _matrix_caption(similarity: Similarity, subject: Subject) -> str:
    parts = [
        f"{KINDS[similarity.kind]}, {subject.counted(similarity.n)}.",
        f"Noise floor {similarity.noise_floor:.3f} at {similarity.n_floor:,} rows (the line on the scale);",
        f"cells within it are crossed ({_n_noise(similarity)}).",
    ]
    if similarity.low is not None and similarity.high is not None:
        widest = float(np.nanmax(similarity.high - similarity.low))
        parts.append(f"95 % intervals over recordings are {widest:.2f} wide at most.")
    else:
        parts.append("No intervals: too few recordings.")
    if similarity.clusters:
        groups = ", ".join(f"{cluster[0]}–{cluster[-1]}" for cluster in similarity.clusters)
        parts.append(f"Outlined groups of layers: {groups}.")
    return " ".join(parts)


def _noise(similarity: Similarity) -> np.ndarray:
    return np.abs(similarity.matrix) <= similarity.noise_floor


def _n_noise(similarity: Similarity) -> str:
    count = int(_noise(similarity).sum())
    return f"{count:,} of {similarity.matrix.size:,}" if count else "none"


def _number_cells(axes: "Axes", similarity: Similarity) -> None:
    for axis, layers in ((axes.xaxis, similarity.columns), (axes.yaxis, similarity.rows)):
        named = sparse(layers)
        axis.set_ticks([layers.index(layer) for layer in named], [str(layer) for layer in named])
    axes.tick_params(length=0)


def _write_values(axes: "Axes", image: "AxesImage", similarity: Similarity) -> None:
    """Cross the cells that are noise; write each cell's value, in an ink that its colour lets through."""
    noise, most = _noise(similarity), max(similarity.matrix.shape)
    for row, column in np.argwhere(noise):
        for slope in (1, -1):
            x, y = (column - 0.45, column + 0.45), (row - 0.45 * slope, row + 0.45 * slope)
            axes.plot(x, y, color="white", linewidth=0.6, zorder=2)
    for (row, column), value in np.ndenumerate(similarity.matrix):
        if most <= MOST_VALUES and np.isfinite(value):
            depth = float(np.asarray(image.norm(value)))
            behind = {"facecolor": image.cmap(depth), "edgecolor": "none", "pad": 0.8}
            ink = "white" if depth < 0.5 else "black"
            text = axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=6, color=ink)
            text.set_bbox(behind if noise[row, column] else None)


def _outline(axes: "Axes", first: int, length: int) -> None:
    """Frame a group of neighbouring layers, white around black so that it shows on every colour."""
    from matplotlib.patches import Rectangle

    corner = (first - 0.5, first - 0.5)
    for colour, width in (("white", 2.6), ("black", 1.1)):
        axes.add_patch(Rectangle(corner, length, length, fill=False, edgecolor=colour, linewidth=width, clip_on=False))
