"""Properties and statistics by layer, of all models in one sheet, on paper."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core.figures.sheets.sheet import DOUBLE, FAINT, MM, add_legend, layer_axis, look, new_figure
from core.figures.sheets.subject import Subject, title_of
from core.findings import Curve, LayersFindings, ModelFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def properties(findings: LayersFindings) -> "Figure":
    """Draw every property and the main statistics by layer, all models and their controls in each panel."""
    names = list(dict.fromkeys(curve.name for found in findings.models for curve in found.curves))
    panels: list[Callable[[Axes], None]] = [
        partial(_property_panel, models=findings.models, name=name) for name in names
    ]
    panels += [partial(_statistic_panel, models=findings.models, statistic=statistic) for statistic in _STATISTICS]
    columns = 3
    rows = -(-len(panels) // columns)
    asked = [title_of(found) for found in findings.models if not found.control]
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
    add_legend(figure, looks, [title_of(found) for found in findings.models], 2)
    return figure


def _properties_caption(findings: LayersFindings) -> str:
    subject = Subject(findings.models[0], len(findings.recordings), findings.span)
    counts = {curve.title: f"{curve.title} {curve.n:,}" for found in findings.models for curve in found.curves}
    parts = [f"Statistics: {subject.counted(subject.found.n_rows)}."]
    if counts:
        parts.append(f"Rows of the properties: {', '.join(counts.values())}.")
        has_bands = any(curve.low is not None for found in findings.models for curve in found.curves)
        parts.append("Bands: 95 % intervals." if has_bands else "No intervals: too few recordings or speakers.")
        parts.append("Dotted: shuffled labels, the noise floor of principal axes. Grey: chance.")
    skipped = {
        f"{name.replace('_', ' ')}: {reason}" for found in findings.models for name, reason in found.skipped.items()
    }
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
