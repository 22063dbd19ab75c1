"""Findings of a layerwise analysis to files: the report, figures, tables and the summary."""

from pathlib import Path
from typing import Any

from core.arrays import OnProgress, ignore_progress
from core.figures.exports import write_exports
from core.figures.paper import write_figures
from core.figures.report import report_html
from core.figures.summary import summary
from core.tasks.layerwise import LayersAnalysis
from core.tasks.result_folder import DATA, FIGURES, REPORT, Step, write_one, write_results

KIND = "strata layers"
"""Written into the summary, so that a later run knows the files that it lists for ours and may remove them."""


def summarise_layers(analysis: LayersAnalysis) -> dict[str, Any]:
    """Put together what ``summary.json`` says."""
    return {"kind": KIND, **summary(analysis.findings)}


def write_layers(
    analysis: LayersAnalysis, folder: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> dict[str, Path]:
    """Write the report, figures, tables and the summary; ``summary.json`` comes last.

    Returns:
        Paths by name.

    Raises:
        OutputError: the folder cannot be written, holds results and ``force`` is not given, or the disk is full.
    """
    findings = analysis.findings
    steps: list[Step] = [
        lambda: write_figures(findings, folder / FIGURES),
        lambda: write_exports(findings, analysis.points, folder / DATA),
        lambda: write_one(folder / REPORT, report_html(findings, analysis.comparison).encode("utf-8", "replace")),
    ]
    return write_results(folder, steps, summarise_layers(analysis), on_progress, force=force)
