"""One HTML file with everything that a layerwise analysis found; see :mod:`core.figures.report_page`."""

from collections.abc import Sequence
from typing import Any, Protocol

from core.analysis.comparison import training_mark
from core.figures.layers.curves import (
    STATISTICS,
    explained_caption,
    explained_figure,
    property_caption,
    property_figure,
    property_names,
    statistic_caption,
    statistic_figure,
)
from core.figures.layers.scatter import pca_caption, pca_figure, tsne_caption, tsne_figure, tsne_layers
from core.figures.layers.similarity import READING, similarity_counts, similarity_figure
from core.figures.layers.style import counted
from core.figures.layers.tables import (
    best_table,
    compared_names,
    count_table,
    fact_tables,
    failure_table,
    layer_table,
    marked,
    model_table,
    recording_table,
    skipped_table,
    split_table,
)
from core.figures.layers.variances import variance_caption, variance_figure
from core.figures.report_page import Drawing, Page, Section, drawing, page_html
from core.figures.tables import Table
from core.findings import LayersFindings, ModelFindings, Similarity


class Compared(Protocol):
    """A line of the comparison in words; ``second`` and ``verdict`` are empty for one model."""

    @property
    def aspect(self) -> str:
        """What is compared."""

    @property
    def first(self) -> str:
        """What the first model shows."""

    @property
    def second(self) -> str:
        """What the second one shows."""

    @property
    def verdict(self) -> str:
        """What the numbers support."""


def report_html(
    findings: LayersFindings,
    comparison: Sequence[Compared] = (),
    tables: Sequence[Table] = (),
    downloads: Sequence[str] = (),
) -> str:
    """Write the report.

    Args:
        findings: What was found.
        comparison: The comparison in words, from the analysis.
        tables: More tables to show at the end, of a caller's own.
        downloads: Names of the files that lie beside the report.

    Returns:
        One HTML document, UTF-8 when encoded.
    """
    page = Page(_title(findings), _lead(findings), tuple(_alerts(findings)))
    return page_html(page, _sections(findings, comparison, tables, downloads))


def _title(findings: LayersFindings) -> str:
    return "Layers of " + " and ".join(marked(model) for model in findings.models if not model.control)


def _lead(findings: LayersFindings) -> str:
    first = findings.models[0]
    rows = "" if findings.span == "frame" else f", {counted(first.n_rows, findings.span)}"
    version = f" by Strata {findings.versions['strata']}" if "strata" in findings.versions else ""
    return (
        f"{counted(len(findings.recordings), 'recording')}, {_length(findings)}, "
        f"{counted(first.n_frames, 'frame')}{rows}. Analysed {findings.created or 'at an unknown time'}{version}."
    )


def _length(findings: LayersFindings) -> str:
    """Add up the recordings' lengths, of which features without a clock do not tell any."""
    known = [float(one["seconds"]) for one in findings.recordings if one.get("seconds") is not None]
    rest = len(findings.recordings) - len(known)
    if not known:
        return "of unknown length"
    return _duration(sum(known)) + (f" and {counted(rest, 'recording')} of unknown length" if rest else "")


def _duration(seconds: float) -> str:
    """Write seconds as people do.

    >>> _duration(7.25), _duration(754)
    ('7.2 s', '12 min 34 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60):,} min {int(seconds % 60)} s"


def _alerts(findings: LayersFindings) -> list[str]:
    marks = [
        f"{name} was trained on labels{' (marked fine-tuned)' * (mark == 'fine-tuned')}: compare with that in mind."
        for name, mark in _marks(findings).items()
    ]
    told = [counted(len(findings.warnings), "warning")] if findings.warnings else []
    told += [f"{counted(len(findings.failures), 'recording')} could not be used"] if findings.failures else []
    return [*marks, *([f"{'; '.join(told)}: see “How far to believe it”."] if told else [])]


def _marks(findings: LayersFindings) -> dict[str, str]:
    return {model.model: training_mark(model) for model in findings.models if training_mark(model)}


def _sections(
    findings: LayersFindings, comparison: Sequence[Compared], tables: Sequence[Table], downloads: Sequence[str]
) -> list[Section]:
    return [
        _analysed(findings),
        _comparison(findings, comparison),
        _similarities(findings),
        _statistics(findings),
        _projections(findings),
        _properties(findings),
        _belief(findings),
        Section("more", "More tables", tables=tuple(tables)),
        Section("files", "Files beside this report", items=tuple(downloads)),
    ]


# What was analysed


def _analysed(findings: LayersFindings) -> Section:
    tables = (model_table(findings), recording_table(findings))
    return Section("analysed", "What was analysed", tables=tables, folded=fact_tables(findings))


def _comparison(findings: LayersFindings, rows: Sequence[Compared]) -> Section:
    if not rows:
        return Section("comparison", "In words")
    if any(row.second or row.verdict for row in rows):
        columns: tuple[str, ...] = ("aspect", *compared_names(findings), "what the numbers support")
        cells: tuple[tuple[Any, ...], ...] = tuple((row.aspect, row.first, row.second, row.verdict) for row in rows)
    else:
        columns, cells = ("aspect", marked(findings.models[0])), tuple((row.aspect, row.first) for row in rows)
    note = (
        "Written from the measurements. In brackets: 95 % intervals; where they overlap, no difference is claimed. "
        "Where there is no interval, only differences over a stated size are named. “From … to” means from the first "
        "layer to the last."
    )
    return Section("comparison", "In words", tables=(Table("", columns, cells, note),))


# Figures


def _similarities(findings: LayersFindings) -> Section:
    matrices = [*([findings.cross] if findings.cross else []), *(model.similarity for model in findings.models)]
    drawings = tuple(_matrix(findings, place, one) for place, one in enumerate(matrices))
    return Section("similarity", "How alike the layers are", texts=(READING,), drawings=drawings)


def _matrix(findings: LayersFindings, place: int, similarity: Similarity) -> Drawing:
    figure = similarity_figure(similarity, findings.span, _marks(findings))
    return drawing(f"figure-similarity-{place}", figure, similarity_counts(similarity, findings.span), "square")


def _statistics(findings: LayersFindings) -> Section:
    lines = [
        drawing(f"figure-{name}", statistic_figure(findings, name), statistic_caption(findings, name))
        for name in STATISTICS
    ]
    explained = drawing("figure-explained", explained_figure(findings), explained_caption(findings))
    variances = drawing(
        "figure-variances", variance_figure(findings.models, findings.span), variance_caption(findings.models), "wide"
    )
    numbers = tuple(layer_table(model) for model in findings.models)
    return Section("statistics", "Each layer in numbers", drawings=(*lines, explained, variances), folded=numbers)


def _projections(findings: LayersFindings) -> Section:
    drawings = [one for place, model in enumerate(findings.models) for one in _clouds(findings, place, model)]
    return Section("projections", "Points on few axes", drawings=tuple(drawings))


def _clouds(findings: LayersFindings, place: int, model: ModelFindings) -> list[Drawing]:
    """Return the model's points in the plane, in space (not for controls) and as t-SNE where there is one."""
    span, caption = findings.span, pca_caption(model, findings.span)
    found = [drawing(f"figure-pca-{place}", pca_figure(model, span=span), caption)]
    if not model.control:
        space = pca_figure(model, three_d=True, span=span)
        found.append(drawing(f"figure-space-{place}", space, "The same rows with a third axis; drag to turn."))
    if tsne_layers(model):
        found.append(drawing(f"figure-tsne-{place}", tsne_figure(model, span=span), tsne_caption(model, span)))
    return found


def _properties(findings: LayersFindings) -> Section:
    drawings = tuple(
        drawing(f"figure-property-{place}", property_figure(findings, name), property_caption(findings, name))
        for place, name in enumerate(property_names(findings))
    )
    tables = (best_table(findings),) if drawings else ()
    return Section("properties", "What the layers hold", tables=tables, drawings=drawings)


# How far to believe it


def _belief(findings: LayersFindings) -> Section:
    tables = (count_table(findings), split_table(findings), skipped_table(findings), failure_table(findings))
    return Section(
        "belief",
        "How far to believe it",
        items=tuple(_caveats(findings)),
        tables=tuple(one for one in tables if one.rows),
    )


def _caveats(findings: LayersFindings) -> list[str]:
    controlled = any(model.control for model in findings.models)
    several = len(findings.recordings) > 1
    control = (
        "Controls with random weights were computed: what they show as well comes from the architecture, not from "
        "training."
        if controlled
        else "No control with random weights was computed, so that what comes from training and what from the "
        "architecture is not told apart."
    )
    recordings = (
        "Intervals, where there are any, come from drawing recordings anew: they hold for recordings like these, by "
        "speakers like these."
        if several
        else "With one recording there is no interval: nothing here is known to hold for another one."
    )
    return [
        control,
        recordings,
        f"Every draw (points, noise, splits) used the seed {findings.settings.seed}.",
        "Layers are described, not explained: no number here says what a model uses, or why.",
        *(f"Warning: {text}" for text in findings.warnings),
    ]
