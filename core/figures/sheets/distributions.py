"""Means, deviations and variances of layers, on paper."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.figures.sheets.sheet import (
    COLOURS,
    DOUBLE,
    FAINT,
    INK,
    MM,
    chosen_layers,
    layer_axis,
    listed,
    log_scale_suits,
    new_figure,
    plain_log,
)
from core.figures.sheets.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def feature_distributions(subject: Subject) -> "Figure":
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


def feature_variance(subject: Subject) -> "Figure":
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
        f"least and largest dim (triangles). Right: share of dims, layers {listed(shown)}, the same bins."
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
