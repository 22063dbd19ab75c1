"""All numbers of a layerwise analysis as one JSON-ready dictionary, ``summary.json``."""

import json
from dataclasses import asdict
from typing import Any

from core.analysis.comparison import compare_models
from core.embed.formats import json_bytes
from core.findings import Curve, LayerProjection, LayersFindings, LayerStatistics, ModelFindings, Similarity


def summary(findings: LayersFindings) -> dict[str, Any]:
    """Say what was found, in strict JSON's own types; what is not a number is None.

    The first model's numbers stand at the top (``model, n_frames, n_recordings, layers, similarity``, ...); ``models``
    holds the same of each, and ``comparison`` and ``cross`` set them side by side.
    """
    found = {
        **_model(findings.models[0]),
        "n_recordings": len(findings.recordings),
        "span": findings.span,
        "comparison": [asdict(row) for row in compare_models(findings)],
        "models": [_model(model) for model in findings.models],
        **({"cross": _similarity(findings.cross)} if findings.cross else {}),
        "settings": asdict(findings.settings),
        "recordings": list(findings.recordings),
        "failures": list(findings.failures),
        "warnings": list(findings.warnings),
        "versions": findings.versions,
        "seconds": findings.seconds,
        "created": findings.created,
    }
    plain: dict[str, Any] = json.loads(json_bytes(found))
    return plain


def _model(found: ModelFindings) -> dict[str, Any]:
    pairs = zip(found.statistics, found.projections, strict=True)
    return {
        "model": found.model,
        "control": found.control,
        "fine_tuned": found.fine_tuned,
        "facts": found.facts,
        "dim": found.dim,
        "n_frames": found.n_frames,
        "n_rows": found.n_rows,
        "n_used": found.n_used,
        "n_points": len(found.table),
        "layers": [_layer(statistics, projection) for statistics, projection in pairs],
        "similarity": _similarity(found.similarity),
        "properties": {curve.name: _curve(curve) for curve in found.curves},
        "skipped": found.skipped,
    }


def _layer(statistics: LayerStatistics, projection: LayerProjection) -> dict[str, Any]:
    numbers = {name: value for name, value in vars(statistics).items() if name != "variances"}
    return {
        **numbers,
        "explained_variance": projection.explained,
        "noise_floor": projection.noise_floor,
        "n_fitted": projection.n_fitted,
        "tsne": projection.tsne_note,
    }


def _similarity(similarity: Similarity) -> dict[str, Any]:
    return {**vars(similarity), "layers": similarity.rows}


def _curve(curve: Curve) -> dict[str, Any]:
    return {name: value for name, value in vars(curve).items() if name != "name"}
