"""The tables of a report: what was analysed, each layer in numbers, and what stands against each number."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from core.analysis.comparison import training_mark
from core.figures.layers.style import CONTROL_SUFFIX, number, per_cent, property_title, sentence
from core.figures.tables import Short, Table, fact_rows, failure_rows
from core.findings import Curve, LayerProjection, LayersFindings, LayerStatistics, ModelFindings

NAMED_AXES = 3
"""Principal axes whose shares stand in the table of layers."""

NAMED_DIMS = 8
"""Outlier dimensions that are named there."""


def model_table(findings: LayersFindings) -> Table:
    """Return the models with what they are, how many rows they gave, and their hashes."""
    counted = () if findings.span == "frame" else (f"{findings.span}s",)
    columns = ("model", "training", "architecture", "layers", "dims", "frames", *counted, "checkpoint")
    return Table("Models", columns, tuple(_model_cells(model, bool(counted)) for model in findings.models))


def _model_cells(model: ModelFindings, with_rows: bool) -> tuple[str, ...]:
    return (
        model.model,
        _training(model),
        str(model.facts.get("model_type") or model.facts.get("architecture") or "–"),
        _span_of(model.layers),
        f"{model.dim:,}",
        f"{model.n_frames:,}",
        *((f"{model.n_rows:,}",) if with_rows else ()),
        _checkpoint(model.facts),
    )


def _training(model: ModelFindings) -> str:
    if model.control:
        return "random weights (control)"
    mark = training_mark(model)
    return "trained on labels (fine-tuned)" if mark == "fine-tuned" else mark or "not marked as fine-tuned"


def _checkpoint(facts: Mapping[str, Any]) -> str:
    """Return every hash among the facts, however deep, since it says which weights were used."""
    hashes = [
        f"{name}: {value}" for name, value in fact_rows(facts) if "sha256" in name.lower() or "hash" in name.lower()
    ]
    return Short("; ".join(hashes)) if hashes else "–"


def _span_of(layers: Sequence[int]) -> str:
    """Write layer numbers as people do.

    >>> _span_of((0, 1, 2, 3)), _span_of((0, 6, 12))
    ('0 to 3', '0, 6, 12')
    """
    together = list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if together and len(layers) > 2 else ", ".join(map(str, layers))


def _recording(facts: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, frames = facts.get("seconds"), facts.get("frames")
    return (
        str(facts.get("name", "–")),
        "–" if seconds is None else f"{seconds:,.2f}",
        "–" if frames is None else f"{frames:,}",
        Short(facts.get("sha256") or "–"),
    )


def layer_table(model: ModelFindings) -> Table:
    """Return every number of every layer of a model."""
    names = ("layer", "n", "mean", "std", "variance, median [5 %, 95 %]", "effective rank", "participation ratio")
    more = ("n for ranks", "anisotropy", "outlier dims")
    columns = (*names, *more, *(f"PC {place} (noise)" for place in range(1, NAMED_AXES + 1)))
    shares = {layer.index: _shares(layer) for layer in model.projections}
    rows = tuple((*_layer_cells(one), *shares.get(one.index, ("–",) * NAMED_AXES)) for one in model.statistics)
    return Table(f"Numbers of {marked(model)}", columns, rows)


def _layer_cells(layer: LayerStatistics) -> tuple[str, ...]:
    low, median, high = (number(float(np.quantile(layer.variances, at))) for at in (0.05, 0.5, 0.95))
    outliers = ", ".join(map(str, layer.outlier_dimensions[:NAMED_DIMS]))
    outliers += " …" if len(layer.outlier_dimensions) > NAMED_DIMS else ""
    return (
        str(layer.index),
        f"{layer.n:,}",
        number(layer.mean),
        number(layer.std),
        f"{median} [{low}, {high}]",
        number(layer.effective_rank),
        number(layer.participation_ratio),
        f"{layer.n_used:,}",
        number(layer.anisotropy),
        outliers or "none",
    )


def _shares(layer: LayerProjection) -> tuple[str, ...]:
    known = min(NAMED_AXES, len(layer.explained), len(layer.noise_floor))
    cells = [f"{per_cent(layer.explained[at])} ({per_cent(layer.noise_floor[at])})" for at in range(known)]
    return (*cells, *("–",) * (NAMED_AXES - known))


def best_table(findings: LayersFindings) -> Table:
    """Return, for each property, the best layer and by how much it is above its controls."""
    names = ("property", "model", "best layer", "value [95 %]", "shuffled labels there", "chance")
    columns = (*names, "random weights, best layer", "above random weights by")
    models = [model for model in findings.models if not model.control]
    rows = tuple(_best_cells(findings, model, curve) for model in models for curve in model.curves)
    note = (
        "The best layer is chosen after the fact, for the model and for its random weights alike, so that both are a "
        "little too good; a difference smaller than the interval is none."
    )
    return Table("Best layers beside their controls", columns, rows, note)


def _best_cells(findings: LayersFindings, model: ModelFindings, curve: Curve) -> tuple[str, ...]:
    best = _best(curve)
    if best is None:
        return (curve.title, marked(model), "–", "not defined", "–", "–", "–", "–")
    control = _control_curve(findings, model, curve.name)
    beside = None if control is None else _best(control)
    shuffled = "–" if curve.shuffled is None else _value(curve.shuffled[best])
    chance = "–" if curve.chance is None else _value(curve.chance)
    return (
        curve.title,
        marked(model),
        str(curve.layers[best]),
        _value(curve.values[best]) + _interval(curve, best),
        shuffled,
        chance,
        *_above(curve, best, control, beside),
    )


def _above(curve: Curve, best: int, control: Curve | None, beside: int | None) -> tuple[str, str]:
    if control is None or beside is None:
        return "not computed", "–"
    told = f"layer {control.layers[beside]}: {_value(control.values[beside])}{_interval(control, beside)}"
    return told, _value(curve.values[best] - control.values[beside])


def _best(curve: Curve) -> int | None:
    return int(np.nanargmax(curve.values)) if np.isfinite(curve.values).any() else None


def _control_curve(findings: LayersFindings, model: ModelFindings, name: str) -> Curve | None:
    controls = [one for one in findings.models if one.control and one.model == model.model + CONTROL_SUFFIX]
    return next((curve for one in controls for curve in one.curves if curve.name == name), None)


def _value(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "not defined"


def _interval(curve: Curve, place: int) -> str:
    if curve.low is None or curve.high is None:
        return ""
    return f" [{_value(curve.low[place])}, {_value(curve.high[place])}]"


def _count_cells(model: ModelFindings) -> tuple[str, ...]:
    similarity = model.similarity
    return (
        marked(model),
        f"{model.n_rows:,}",
        f"{model.n_used:,}",
        f"{number(similarity.noise_floor)} ({similarity.n_floor:,})",
        "none: too few recordings" if similarity.low is None else "bootstrap over recordings",
        f"{len(model.table):,}",
        f"{max(layer.n_fitted for layer in model.projections):,}" if model.projections else "–",
    )


def split_table(findings: LayersFindings) -> Table:
    """Return how each property was measured: counts, classes, split, control."""
    rows = tuple(
        (
            curve.title,
            marked(model),
            f"{curve.n:,}",
            "–" if curve.n_classes is None else str(curve.n_classes),
            f"{curve.split}-disjoint",
            "shuffled labels" if curve.shuffled is not None else "none",
            curve.note or "–",
        )
        for model in findings.models
        for curve in model.curves
    )
    columns = ("property", "model", "n", "classes", "split", "control of labels", "remarks")
    return Table("How properties were measured", columns, rows)


def compared_names(findings: LayersFindings) -> tuple[str, str]:
    """Name the two columns: two models, or one and its control."""
    asked = [model for model in findings.models if not model.control]
    both = [*asked, *(model for model in findings.models if model.control)][:2]
    names = [marked(model) for model in both]
    return names[0], names[1] if len(names) > 1 else "–"


def marked(model: ModelFindings) -> str:
    """Name a model in full; those that labels took part in say so."""
    mark = training_mark(model)
    return f"{model.model} ({mark})" if mark else model.model


def recording_table(findings: LayersFindings) -> Table:
    """Return the recordings with their lengths and hashes."""
    columns = ("name", "seconds", "frames", "SHA-256")
    rows = tuple(_recording(one) for one in findings.recordings)
    return Table(f"Recordings ({len(findings.recordings):,})", columns, rows)


def fact_tables(findings: LayersFindings) -> tuple[Table, ...]:
    """Return all that is known about models, settings, versions and time, a table each; none that is empty."""
    models = [
        Table(f"Facts about {marked(model)}", ("fact", "value"), fact_rows(model.facts)) for model in findings.models
    ]
    settings = Table("Settings", ("setting", "value"), fact_rows(asdict(findings.settings)))
    versions = Table("Versions", ("package", "version"), fact_rows(findings.versions))
    seconds = Table("Time taken", ("stage", "seconds"), fact_rows(findings.seconds))
    return tuple(one for one in (*models, settings, versions, seconds) if one.rows)


def count_table(findings: LayersFindings) -> Table:
    """Return how much stands behind each kind of number, and what is noise."""
    names = ("model", "rows", "rows for similarity and ranks", "similarity: noise floor (n)", "intervals")
    columns = (*names, "points drawn", "axes fitted on")
    return Table("Counts and noise floors", columns, tuple(_count_cells(model) for model in findings.models))


def skipped_table(findings: LayersFindings) -> Table:
    """Return the properties that could not be computed, with the reason."""
    rows = tuple(
        (marked(model), property_title(findings, name), sentence(why))
        for model in findings.models
        for name, why in model.skipped.items()
    )
    return Table("Not computed", ("model", "property", "reason"), rows)


def failure_table(findings: LayersFindings) -> Table:
    """Return the recordings that could not be used, with the reason."""
    return Table("Recordings that could not be used", ("file", "reason"), failure_rows(findings.failures))
