"""The figures of a layerwise analysis for print, under the names of the layerwise document, PNG and SVG.

Each says how many rows it shows, of how many recordings, and the noise floor where there is one; layers stand in
numeric order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.embed.writers import replace_file
from core.errors import InputError
from core.figures.names import file_labels, make_folder
from core.figures.sheet import (
    COLOURS,
    DOUBLE,
    FAINT,
    INK,
    MARKERS,
    MM,
    Style,
    add_legend,
    chosen_layers,
    layer_axis,
    log_scale_suits,
    look,
    new_figure,
    plain_log,
    short,
    sparse,
    to_bytes,
)
from core.findings import Curve, LayerProjection, LayersFindings, ModelFindings, Similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FORMATS = ("png", "svg")

MOST_CLASSES = 8
"""Classes with a colour of their own; more are not told apart."""

LEGEND_COLUMNS = 5

MOST_VALUES = 13
"""Layers up to which each cell of a matrix has its value written in it."""

LABELS = ("phone", "speaker", "label")
"""Labels to colour points by, best first; then come recordings, then time."""

KINDS = {"cka": "Unbiased linear CKA", "cosine": "Cosine of the same rows", "pwcca": "PWCCA, held out"}


def write_figures(findings: LayersFindings, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw all figures and write each whole or not at all, in place of an earlier one.

    Args:
        findings: What was found.
        folder: Where to; made if it is not there.
        formats: Of ``png`` and ``svg``.

    Returns:
        The path of each file by its name. What :func:`missing_figures` names is not among them.

    Raises:
        InputError: Another format, or two models of one name.
        OutputError: The folder cannot be written to.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise InputError(f"Got the formats {', '.join(formats) or 'none'}; expected png, svg or both.")
    make_folder(folder)
    written = {}
    for stem, draw in _drawings(findings):
        with Style():
            figure = draw()
            contents = {f"{stem}.{name}": to_bytes(figure, name) for name in dict.fromkeys(formats)}
        for name, content in contents.items():
            replace_file(folder / name, content)
            written[name] = folder / name
    return written


def missing_figures(findings: LayersFindings) -> dict[str, str]:
    """Say which figures of the document there are not, and why, by their names without suffix."""
    labels = file_labels(findings)
    return {
        f"tsne_visualization_{labels[found.model]}": found.projections[0].tsne_note or "No t-SNE was computed."
        for found in findings.models
        if not (_with_tsne(found) or found.control)
    }


def _drawings(findings: LayersFindings) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    """Name every figure and say how to draw it."""
    labels = file_labels(findings)
    n_recordings = len(findings.recordings)
    for found in findings.models:
        subject = _Subject(found, n_recordings, findings.span)
        draws = _CONTROL_DRAWINGS if found.control else _DRAWINGS
        if not _with_tsne(found):
            draws = {name: draw for name, draw in draws.items() if draw is not tsne_visualization}
        yield from ((f"{name}_{labels[found.model]}", partial(draw, subject)) for name, draw in draws.items())
    asked = [labels[found.model] for found in findings.models if not found.control]
    if findings.cross is not None:
        yield f"layer_similarity_{'_vs_'.join(asked)}", partial(cross_similarity, findings)
    if len(asked) > 1 or any(found.curves for found in findings.models):
        yield f"properties_{'_vs_'.join(asked)}", partial(properties, findings)


@dataclass(frozen=True)
class _Subject:
    """A model and what a caption says of where its rows come from."""

    found: ModelFindings
    n_recordings: int
    span: str

    @property
    def title(self) -> str:
        """The model's name, marked where it is not a pre-trained model as it came."""
        return _title(self.found)

    def counted(self, n: int) -> str:
        """Say a count of rows: ``n = 1,200 frames of 3 recordings``."""
        rows = self.span if n == 1 else f"{self.span}s"
        recordings = "recording" if self.n_recordings == 1 else "recordings"
        return f"n = {n:,} {rows} of {self.n_recordings:,} {recordings}"


def _title(found: ModelFindings) -> str:
    return f"{found.model} (fine-tuned)" if found.fine_tuned else found.model


def _with_tsne(found: ModelFindings) -> list[int]:
    return [layer.index for layer in found.projections if layer.tsne is not None]


# Means, deviations and variances


def feature_distributions(subject: _Subject) -> "Figure":
    """Draw mean and standard deviation of each layer."""
    found = subject.found
    layers = list(found.layers)
    mean = np.array([layer.mean for layer in found.statistics])
    std = np.array([layer.std for layer in found.statistics])
    caption = (
        f"{subject.counted(found.n_rows)}, {found.dim:,} dims, all values of all rows, no padding. Left: mean, "
        "bars of one standard deviation. Right: the standard deviation by itself."
    )
    figure = new_figure(DOUBLE, 62 * MM, f"Feature distributions: {subject.title}", caption)
    left, right = figure.subplots(1, 2)
    left.axhline(0, color=FAINT, linewidth=0.6)
    left.errorbar(layers, mean, std, color=COLOURS[0], marker="o", linestyle="none", elinewidth=1, capsize=2)
    left.set_ylabel("Mean ± standard deviation")
    right.plot(layers, std, color=COLOURS[0], marker="o")
    _scale_from_zero(right, std)
    right.set_ylabel("Standard deviation")
    for axes in (left, right):
        layer_axis(axes, layers)
    return figure


def _scale_from_zero(axes: "Axes", values: np.ndarray) -> None:
    """Start at zero, or take a logarithmic axis where that would hide most of the values."""
    if log_scale_suits(values):
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    else:
        axes.set_ylim(0, 1.08 * float(np.nanmax(values)) or 1.0)


def feature_variance(subject: _Subject) -> "Figure":
    """Draw how the variances of dims are distributed: quantiles of all layers, histograms of some, on shared axes."""
    found = subject.found
    variances = np.stack([layer.variances for layer in found.statistics])
    positive = variances[variances > 0]
    constant = int((variances <= 0).sum())
    log = log_scale_suits(positive)
    shown = chosen_layers(found.layers)
    caption = (
        f"{subject.counted(found.n_rows)}. Variance of each of {found.dim:,} dims over rows; "
        f"{'logarithmic' if log else 'linear'} axis. Left: median (line), 25 to 75 % and 5 to 95 % of dims (bands), "
        f"least and largest dim (triangles). Right: share of dims, layers {_listed(shown)}, the same bins."
    )
    if constant:
        caption += f" Left out: {constant:,} values of dims that do not vary, over all layers."
    figure = new_figure(DOUBLE, 78 * MM, f"Feature variances: {subject.title}", caption)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    _variance_bands(left, found.layers, np.where(variances > 0, variances, np.nan))
    if len(positive):
        _variance_histograms(right, [(layer, variances[found.layers.index(layer)]) for layer in shown], positive, log)
    if log:
        left.set_yscale("log")
        plain_log(left.yaxis)
    left.set_ylabel("Variance of a dim")
    layer_axis(left, found.layers)
    return figure


def _variance_bands(axes: "Axes", layers: Sequence[int], variances: np.ndarray) -> None:
    quantiles = np.nanquantile(variances, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), axis=1)
    least, low, lower, median, upper, high, most = quantiles
    axes.fill_between(layers, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.fill_between(layers, lower, upper, color=COLOURS[0], alpha=0.35, linewidth=0)
    axes.plot(layers, median, color=COLOURS[0], marker="o")
    for extreme, marker in ((least, "v"), (most, "^")):
        axes.plot(layers, extreme, color=INK, marker=marker, markersize=2.5, linestyle="none")


def _variance_histograms(axes: "Axes", rows: Sequence[tuple[int, np.ndarray]], positive: np.ndarray, log: bool) -> None:
    """Draw a histogram a layer side by side, each lying on the variance axis that all share."""
    ends = (float(positive.min()), float(positive.max()))
    edges = np.geomspace(*ends, 31) if log else np.linspace(0, ends[1], 31)
    counts = [np.histogram(values[values > 0], edges)[0] / len(values) for _, values in rows]
    widest = max(float(count.max()) for count in counts) or 1.0
    for place, count in enumerate(counts):
        axes.stairs(
            place + 0.85 * count / widest,
            edges,
            baseline=place,
            orientation="horizontal",
            fill=True,
            color=COLOURS[0],
            alpha=0.45,
        )
        axes.stairs(place + 0.85 * count / widest, edges, baseline=place, orientation="horizontal", color=COLOURS[0])
    axes.set_xticks(range(len(rows)), [str(layer) for layer, _ in rows])
    axes.set_xlim(-0.15, len(rows))
    axes.set_xlabel(f"Layer (full width: {100 * widest:.0f} % of dims in a bin)")


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


# Similarity


def layer_similarity(subject: _Subject) -> "Figure":
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
    names = [_title(models[name]) for name in cross.models]
    subject = _Subject(models[cross.models[0]], len(findings.recordings), findings.span)
    figure = _matrix_figure(cross, f"Layer similarity: {names[0]} against {names[1]}", subject)
    axes = figure.axes[0]
    axes.set_ylabel(f"Layer of {short(names[0])}")
    axes.set_xlabel(f"Layer of {short(names[1])}")
    return figure


def _matrix_figure(similarity: Similarity, title: str, subject: _Subject) -> "Figure":
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


def _matrix_caption(similarity: Similarity, subject: _Subject) -> str:
    parts = [
        f"{KINDS[similarity.kind]}, {subject.counted(similarity.n)}.",
        f"Noise floor {similarity.noise_floor:.3f} at {similarity.n_floor:,} rows (the line on the scale);",
        f"cells within it are crossed ({_n_noise(similarity)}).",
    ]
    if similarity.low is not None and similarity.high is not None:
        widest = float(np.nanmax(similarity.high - similarity.low))
        parts.append(f"95 % intervals over recordings are {widest:.2f} wide at most.")
    else:
        parts.append("No intervals: they need two recordings.")
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


# Points


def pca_visualization(subject: _Subject) -> "Figure":
    """Draw the points of chosen layers on their two first principal axes."""
    layers = chosen_layers(subject.found.layers)
    fitted = subject.found.projections[0].n_fitted
    caption = f"axes fitted on {fitted:,}. Noise: the share an axis has with independent dims of the same variances."
    return _scatter(subject, layers, "PCA", caption, _pca_panel)


def tsne_visualization(subject: _Subject) -> "Figure":
    """Draw the points of chosen layers on their t-SNE map."""
    layers = chosen_layers(_with_tsne(subject.found))
    caption = "distances between far points and sizes of clusters mean little in such a map."
    return _scatter(subject, layers, "t-SNE", caption, _tsne_panel)


def _pca_panel(axes: "Axes", layer: LayerProjection) -> np.ndarray:
    texts = [
        f"PC {axis}: {100 * share:.1f} % (noise {100 * floor:.1f} %)"
        for axis, (share, floor) in enumerate(zip(layer.explained[:2], layer.noise_floor[:2], strict=True), 1)
    ]
    axes.set_xlabel(texts[0] if texts else "PC 1")
    axes.set_ylabel(texts[1] if len(texts) > 1 else "PC 2: none")
    return layer.pca[:, :2]


def _tsne_panel(axes: "Axes", layer: LayerProjection) -> np.ndarray:
    import textwrap

    assert layer.tsne is not None  # only such layers are chosen
    axes.set_xlabel("\n".join(textwrap.wrap(layer.tsne_note, 44)), size=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=FAINT)
    return layer.tsne


def _scatter(
    subject: _Subject,
    layers: Sequence[int],
    kind: str,
    remark: str,
    prepare: Callable[["Axes", LayerProjection], np.ndarray],
) -> "Figure":
    """Draw one panel a layer, all with the same colours, and one legend below."""
    found = subject.found
    projections = [found.projections[found.layers.index(layer)] for layer in layers]
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    which = "all layers" if len(layers) == len(found.layers) else f"layers {_listed(layers)} of {len(found.layers)}"
    colouring = colour_points(found)
    of = "" if len(found.table) == found.n_rows else f" (a sample of {found.n_rows:,})"
    caption = f"{subject.counted(len(found.table))}{of}, {which}; {remark} Colour: {colouring.name}."
    height = rows * (54 if columns > 1 else 80) * MM
    lines = -(-len(colouring.classes) // LEGEND_COLUMNS)
    figure = new_figure(DOUBLE, height, f"{kind}: {subject.title}", caption, lines)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(layers) :]:
        axes.remove()
    for axes, layer in zip(panels.flat, projections, strict=False):
        places = prepare(axes, layer)
        axes.set_title(f"Layer {layer.index}", loc="left")
        _draw_points(axes, places, colouring)
    _legend(figure, panels.flat[0], colouring)
    return figure


@dataclass(frozen=True)
class Colouring:
    """What colours points.

    Attributes:
        name: What it shows, for the caption.
        classes: Name of each class and which points are in it, most frequent first; the rest last. Empty for time.
        times: (n,) seconds, where time colours; else None.
    """

    name: str
    classes: tuple[tuple[str, np.ndarray], ...]
    times: np.ndarray | None = None


def colour_points(found: ModelFindings) -> Colouring:
    """Choose the best label there is: phone, speaker, label, recording; time where none has two classes."""
    table = found.table
    kinds = {kind: np.asarray(table.labels[kind]) for kind in LABELS if kind in table.labels}
    kinds["recording"] = np.array(table.recordings)[table.recording]
    for kind, values in kinds.items():
        names, counts = np.unique(values[values != ""], return_counts=True)
        if len(names) > 1:
            return Colouring(*_classes(kind, values, names[np.argsort(-counts, kind="stable")]))
    return Colouring("time in the recording", (), table.start)


def _classes(kind: str, values: np.ndarray, names: np.ndarray) -> tuple[str, tuple[tuple[str, np.ndarray], ...]]:
    shown = names[:MOST_CLASSES]
    classes = [(str(name), values == name) for name in shown]
    rest, unknown = ~np.isin(values, shown) & (values != ""), values == ""
    if rest.any():
        classes.append((f"{len(names) - len(shown)} others", rest))
    if unknown.any():
        classes.append((f"no {kind}", unknown))
    text = f"{kind}, the {len(shown)} most frequent of {len(names)}" if rest.any() else f"{kind} ({len(names)})"
    return text, tuple(classes)


def _draw_points(axes: "Axes", places: np.ndarray, colouring: Colouring) -> None:
    """Draw the points, as pixels even in SVG: thousands of vector marks would make it slow to open."""
    size = float(np.clip(2_500 / max(1, len(places)), 1.5, 14))
    shared: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    x, y = places.T
    if colouring.times is not None:
        axes.scatter(x, y, c=colouring.times, cmap="cividis", **shared)
    # The rest is drawn first, below what has a name.
    for place, (_, chosen) in reversed(list(enumerate(colouring.classes))):
        colour, marker = _class_look(place)
        axes.scatter(x[chosen], y[chosen], color=colour, marker=marker, alpha=0.75, **shared)
    axes.set_aspect("equal", adjustable="datalim")


def _class_look(place: int) -> tuple[str, str]:
    return (COLOURS[place], MARKERS[place]) if place < MOST_CLASSES else ("#b9bec6", ".")


def _legend(figure: "Figure", axes: "Axes", colouring: Colouring) -> None:
    if colouring.times is not None:
        bar = figure.colorbar(axes.collections[0], ax=figure.axes, location="bottom", shrink=0.4, aspect=40)
        bar.set_label("Seconds")
        bar.outline.set_visible(False)
        return
    looks = [_class_look(place) for place in range(len(colouring.classes))]
    styles = [{"color": colour, "marker": marker, "linestyle": "none"} for colour, marker in looks]
    add_legend(figure, styles, [short(name, 24) for name, _ in colouring.classes], LEGEND_COLUMNS)


# Properties


def properties(findings: LayersFindings) -> "Figure":
    """Draw every property and the main statistics by layer, all models and their controls in each panel."""
    names = list(dict.fromkeys(curve.name for found in findings.models for curve in found.curves))
    panels: list[Callable[[Axes], None]] = [
        partial(_property_panel, models=findings.models, name=name) for name in names
    ]
    panels += [partial(_statistic_panel, models=findings.models, statistic=statistic) for statistic in _STATISTICS]
    columns = 3
    rows = -(-len(panels) // columns)
    asked = [_title(found) for found in findings.models if not found.control]
    title = f"Properties by layer: {' against '.join(asked)}"
    legend_lines = -(-len(findings.models) // 2)
    figure = new_figure(DOUBLE, rows * 46 * MM, title, _properties_caption(findings), legend_lines)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes)
        layer_axis(axes, sorted({layer for found in findings.models for layer in found.layers}))
    looks = [look(place) for place in range(len(findings.models))]
    add_legend(figure, looks, [_title(found) for found in findings.models], 2)
    return figure


def _properties_caption(findings: LayersFindings) -> str:
    subject = _Subject(findings.models[0], len(findings.recordings), findings.span)
    counts = {curve.title: f"{curve.title} {curve.n:,}" for found in findings.models for curve in found.curves}
    parts = [f"Statistics: {subject.counted(subject.found.n_rows)}."]
    if counts:
        parts.append(f"Rows of the properties: {', '.join(counts.values())}.")
        has_bands = any(curve.low is not None for found in findings.models for curve in found.curves)
        parts.append("Bands: 95 % intervals." if has_bands else "No intervals: they need two recordings.")
        parts.append("Dotted: shuffled labels, the noise floor of principal axes. Grey: chance.")
    skipped = {f"{name.replace('_', ' ')}: {reason}" for found in findings.models for name, reason in found.skipped.items()}
    return " ".join([*parts, *([f"Not computed: {' '.join(sorted(skipped))}"] if skipped else [])])


def _property_panel(axes: "Axes", models: Sequence[ModelFindings], name: str) -> None:
    for place, found in enumerate(models):
        for curve in (curve for curve in found.curves if curve.name == name):
            axes.set_title(curve.title, loc="left")
            _draw_curve(axes, curve, look(place))


def _draw_curve(axes: "Axes", curve: Curve, style: Mapping[str, Any]) -> None:
    axes.plot(curve.layers, curve.values, **style)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.layers, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0)
    if curve.shuffled is not None:
        axes.plot(curve.layers, curve.shuffled, color=style["color"], linestyle=":", linewidth=0.9)
    if curve.chance is not None:
        axes.axhline(curve.chance, color=FAINT, linewidth=0.7)


_STATISTICS = ("std", "effective_rank", "anisotropy", "explained")


def _statistic_panel(axes: "Axes", models: Sequence[ModelFindings], statistic: str) -> None:
    titles = {
        "std": "Standard deviation",
        "effective_rank": "Effective rank",
        "anisotropy": "Anisotropy (mean cosine)",
        "explained": "Variance on two axes",
    }
    axes.set_title(titles[statistic], loc="left")
    for place, found in enumerate(models):
        if statistic == "explained":
            values = [float(layer.explained[:2].sum()) for layer in found.projections]
            floors = [float(layer.noise_floor[:2].sum()) for layer in found.projections]
            axes.plot(found.layers, floors, color=look(place)["color"], linestyle=":", linewidth=0.9)
        else:
            values = [float(getattr(layer, statistic)) for layer in found.statistics]
        axes.plot(found.layers, values, **look(place))


_DRAWINGS = {
    "feature_distributions": feature_distributions,
    "layer_similarity": layer_similarity,
    "pca_visualization": pca_visualization,
    "tsne_visualization": tsne_visualization,
    "feature_variance": feature_variance,
}

_CONTROL_DRAWINGS = {"layer_similarity": layer_similarity}
"""A control's other numbers stand beside its model's in the properties."""
