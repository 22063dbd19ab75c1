"""What the tab "Layers" shows of an analysis: figures with captions, facts, tables. All foreign text is escaped."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.comparison import ComparisonRow, compared, training_mark
from core.figures.plotly_json import Figure, packed, to_json
from core.findings import LayersFindings, ModelFindings, RowTable
from core.ui import cards
from core.ui.progress import in_words

ROWS_LISTED = 200
"""Chosen rows that the page lists at most; the CSV has all."""

EMPTY = """
<div class="strata-card strata-empty">
  <svg viewBox="0 0 240 64" aria-hidden="true"><path d="M40 10h160M52 21h136M40 32h160M60 43h120M40 54h160" />
  <path d="M70 10v11l-10 11 14 11v11M120 10l12 11v11l-8 11 6 11M170 10l-8 11 10 11-6 11 12 11" /></svg>
  <h2>Nothing analysed yet</h2>
  <p>Choose recordings, or try an example. You will see how alike the layers are, where every moment lies in each of
  them, and what each layer holds.</p>
</div>
"""


def gallery(drawings: Sequence[tuple[Figure, str]], again: bool = False) -> dict[str, Any]:
    """Return figures with their captions as what ``assets/gallery.js`` draws; ``again`` changes those that are there.

    Figures travel as text: Gradio would look for files in every number of a dictionary.
    """
    figures = [{"figure": to_json(figure), "caption": caption} for figure, caption in drawings]
    return {"figures": figures, "again": again} if again else {"figures": figures}


def similarities(findings: LayersFindings) -> list[tuple[Figure, str]]:
    """Draw one matrix a model, and the one of both, which comes after the two trained models."""
    from core.figures.layers.similarity import similarity_caption, similarity_figure

    trained = [model.similarity for model in findings.models if not model.control]
    controls = [model.similarity for model in findings.models if model.control]
    shown = [*trained, *([findings.cross] if findings.cross is not None else []), *controls]
    return [(similarity_figure(one, findings.span), similarity_caption(one, findings.span)) for one in shown]


def statistics(findings: LayersFindings) -> list[tuple[Figure, str]]:
    """Draw everything that has a number a layer, and the distribution of variances."""
    from core.figures.layers import curves, variances

    drawn = [
        (curves.statistic_figure(findings, name), curves.statistic_caption(findings, name))
        for name in curves.STATISTICS
    ]
    spread = (variances.variance_figure(findings.models, findings.span), variances.variance_caption(findings.models))
    explained = (curves.explained_figure(findings), curves.explained_caption(findings))
    return [drawn[0], spread, explained, *drawn[1:]]


def properties(findings: LayersFindings) -> list[tuple[Figure, str]]:
    """Draw what the layers hold, one figure a property."""
    from core.figures.layers.curves import property_caption, property_figure, property_names

    return [(property_figure(findings, name), property_caption(findings, name)) for name in property_names(findings)]


def skipped(findings: LayersFindings) -> str:
    """Say which properties could not be computed, and why."""
    reasons = {name: reason for model in findings.models for name, reason in model.skipped.items()}
    told = "".join(f"<li>{escape(name.replace('_', ' '))}: {escape(reason)}</li>" for name, reason in reasons.items())
    if told:
        return f'<div class="strata-facts"><p>Not computed:</p><ul class="strata-plain">{told}</ul></div>'
    return "" if any(model.curves for model in findings.models) else cards.note("No property was asked for.")


def pca(model: ModelFindings, layer: int | None, three_d: bool, span: str) -> tuple[Figure, str]:
    """Draw the rows of a model on principal axes; the page's own slider and list move and colour them."""
    from core.figures.layers.scatter import pca_caption, pca_figure

    return _steered(pca_figure(model, three_d, layer=layer, span=span)), pca_caption(model, span)


def tsne(model: ModelFindings, layer: int, span: str) -> tuple[Figure, str]:
    """Draw the t-SNE maps that a model has so far."""
    from core.figures.layers.scatter import tsne_caption, tsne_figure

    return _steered(tsne_figure(model, layer=layer, span=span)), tsne_caption(model, span)


def _steered(figure: Figure) -> Figure:
    """Hide the figure's own slider and list, which a keyboard cannot reach: the page has one of each for all maps."""
    layout = figure["layout"]
    hidden = {name: [{**part, "visible": False} for part in layout[name]] for name in ("sliders", "updatemenus")}
    return {**figure, "layout": {**layout, **hidden, "margin": {**layout["margin"], "t": 58}}}


def moved(points: np.ndarray, layer: int, note: str) -> dict[str, Any]:
    """Return a layer's map, (n, 2), with a note, as what ``assets/gallery.js`` moves the points of its figure to."""
    limit = 1.04 * max(float(np.abs(points).max()), float(np.finfo(np.float32).tiny))
    places = {"x": packed(points[:, 0]), "y": packed(points[:, 1])}
    return {"move": {**places, "limit": limit, "layer": layer, "note": note}}


def facts(findings: LayersFindings) -> str:
    """Say what was analysed, from how much, and what to mind."""
    minded = [*findings.warnings, *(f"{fail['file']}: {fail['error']}" for fail in findings.failures)]
    listed = "".join(f"<li>{escape(str(note))}</li>" for note in minded)
    warnings = f'<ul class="strata-warnings">{listed}</ul>' if minded else ""
    models = "".join(f"<p>{_model(model, findings.span)}</p>" for model in findings.models)
    return f'<div class="strata-facts">{models}<p class="strata-how">{_how(findings)}</p>{warnings}</div>'


def _model(model: ModelFindings, span: str) -> str:
    mark = training_mark(model)
    tuned = f", {mark}" if mark else ""
    layers = f"{len(model.layers)} layers ({model.layers[0]} to {model.layers[-1]}) of {model.dim:,} values"
    return f"<strong>{escape(cards.model_name(model.model))}</strong>{tuned}: {layers}, {_counts(model, span)}."


def _counts(model: ModelFindings, span: str) -> str:
    """Say how many rows there are, and how many of them are drawn and compared."""
    rows = f"{model.n_rows:,} {span}s" + (f" of {model.n_frames:,} frames" if span != "frame" else "")
    shown, total = len(model.table), model.n_rows
    drawn = f"showing {shown:,} of {rows}" if shown < total else rows
    return drawn + (f", similarity of {model.n_used:,}" if model.n_used < total else "")


def _how(findings: LayersFindings) -> str:
    seconds = sum(float(one.get("seconds") or 0.0) for one in findings.recordings)
    n = len(findings.recordings)
    recordings = f"{n} recording" + ("s" if n != 1 else "") + (f", {in_words(seconds)}" if seconds else "")
    spent = ", ".join(f"{stage} {taken:,.1f} s" for stage, taken in findings.seconds.items())
    return escape(f"{recordings}." + (f" Time: {spent}." if spent else ""))


def comparison(rows: Sequence[ComparisonRow], findings: LayersFindings) -> str:
    """Show the comparison as a table."""
    names = [cards.model_name(model.model) for model in compared(findings)]
    if len(names) == 1:
        return table(["", names[0]], ([row.aspect, row.first] for row in rows), "strata-comparison")
    cells = ([row.aspect, row.first, row.second, row.verdict] for row in rows)
    return table(["", *names, "What the numbers support"], cells, "strata-comparison")


def chosen(rows: RowTable) -> str:
    """List rows: where they come from and what is known of them."""
    n = len(rows)
    more = f", the first {ROWS_LISTED:,} of them below" if n > ROWS_LISTED else ""
    listed = table(_columns(rows), _cells(rows.take(np.arange(min(n, ROWS_LISTED)))), "strata-chosen")
    return cards.note(f"{n:,} rows chosen{more}.") + listed


def write_rows(rows: RowTable, path: Path) -> None:
    """Write rows as CSV."""
    from core.figures.exports import csv_text

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_columns(rows))
        writer.writerows([csv_text(cell) for cell in cells] for cells in _cells(rows))


def _columns(rows: RowTable) -> list[str]:
    return ["recording", "start (s)", "stop (s)", *rows.labels]


def _cells(rows: RowTable) -> Iterator[list[str]]:
    for place, recording in enumerate(rows.recording.tolist()):
        times = [f"{time:.4f}" if np.isfinite(time) else "" for time in (rows.start[place], rows.stop[place])]
        yield [rows.recordings[recording], *times, *(str(labels[place]) for labels in rows.labels.values())]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], css_class: str) -> str:
    """Return a table that scrolls by itself where the page is narrow, and by keyboard."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows)
    inside = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="strata-table {css_class}" tabindex="0" role="region" aria-label="Table">{inside}</div>'
