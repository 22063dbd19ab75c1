"""The figures of a layerwise analysis for print, under the names of the layerwise document, PNG and SVG.

Each says how many rows it shows, of how many recordings, and the noise floor where there is one; layers stand in
numeric order.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.figures.names import file_labels
from core.figures.sheets.distributions import feature_distributions, feature_variance
from core.figures.sheets.matrices import cross_similarity, layer_similarity
from core.figures.sheets.points import pca_visualization, tsne_visualization, with_tsne
from core.figures.sheets.properties import properties
from core.figures.sheets.sheet import write_sheets
from core.figures.sheets.subject import Subject
from core.findings import LayersFindings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")

_DRAWINGS = {
    "feature_distributions": feature_distributions,
    "layer_similarity": layer_similarity,
    "pca_visualization": pca_visualization,
    "tsne_visualization": tsne_visualization,
    "feature_variance": feature_variance,
}

_CONTROL_DRAWINGS = {"layer_similarity": layer_similarity}
"""A control's other numbers stand beside its model's in the properties."""


def write_figures(findings: LayersFindings, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw all figures and write each whole or not at all, in place of an earlier one.

    Args:
        findings: What was found.
        folder: Where to; made if it is not there.
        formats: Of ``png``, ``svg`` and ``pdf``.

    Returns:
        The path of each file by its name. What :func:`missing_figures` names is not among them.

    Raises:
        InputError: Another format, or two models of one name.
        OutputError: The folder cannot be written to.
    """
    return write_sheets(_drawings(findings), folder, formats)


def missing_figures(findings: LayersFindings) -> dict[str, str]:
    """Say which figures of the document there are not, and why, by their names without suffix."""
    labels = file_labels(findings)
    return {
        f"tsne_visualization_{labels[found.model]}": found.projections[0].tsne_note or "No t-SNE was computed."
        for found in findings.models
        if not (with_tsne(found) or found.control)
    }


def _drawings(findings: LayersFindings) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    """Name every figure and say how to draw it."""
    labels = file_labels(findings)
    n_recordings = len(findings.recordings)
    for found in findings.models:
        subject = Subject(found, n_recordings, findings.span)
        draws = _CONTROL_DRAWINGS if found.control else _DRAWINGS
        if not with_tsne(found):
            draws = {name: draw for name, draw in draws.items() if draw is not tsne_visualization}
        yield from ((f"{name}_{labels[found.model]}", partial(draw, subject)) for name, draw in draws.items())
    asked = [labels[found.model] for found in findings.models if not found.control]
    if findings.cross is not None:
        yield f"layer_similarity_{'_vs_'.join(asked)}", partial(cross_similarity, findings)
    if len(asked) > 1 or any(found.curves for found in findings.models):
        yield f"properties_{'_vs_'.join(asked)}", partial(properties, findings)
