"""Findings to files: the report, figures, tables and the summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.arrays import OnProgress, Progress, ignore_progress
from core.embed.corpus import read_json
from core.embed.formats import json_bytes
from core.embed.writers import check_folder, replace_file
from core.errors import OutputError
from core.figures.exports import write_exports
from core.figures.paper import write_figures
from core.figures.report import report_html
from core.figures.summary import summary
from core.tasks.layerwise import LayersAnalysis

REPORT, SUMMARY, FIGURES, DATA = "report.html", "summary.json", "figures", "data"

SUFFIXES = (".html", ".json", ".png", ".svg", ".csv", ".npz", ".parquet", ".tsv", ".pbtxt")

KIND = "strata layers"
"""Written into the summary, so that a later run knows the files that it lists for ours and may remove them."""


def summarise_layers(analysis: LayersAnalysis) -> dict[str, Any]:
    """Put together what ``summary.json`` says."""
    return {"kind": KIND, **summary(analysis.findings)}


def check_layers_target(folder: Path, *, force: bool = False) -> None:
    """Find out before anything is computed whether the results can be written.

    Raises:
        OutputError: the folder cannot be written, or holds results and ``force`` is not given.
    """
    check_folder(folder)
    there = [name for name in (REPORT, SUMMARY, FIGURES, DATA) if (folder / name).exists()]
    if there and not force:
        raise OutputError(f"{folder} already holds {', '.join(there)}. Use --force to replace, or another --output.")


def write_layers(
    analysis: LayersAnalysis, folder: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> dict[str, Path]:
    """Write the report, figures, tables and the summary; ``summary.json`` comes last.

    Returns:
        Paths by name.

    Raises:
        OutputError: as :func:`check_layers_target`, or the disk is full.
    """
    check_layers_target(folder, force=force)
    _remove_earlier(folder)
    findings = analysis.findings
    steps: list[Callable[[], dict[str, Path]]] = [
        lambda: write_figures(findings, folder / FIGURES),
        lambda: write_exports(findings, analysis.points, folder / DATA),
        lambda: _write(folder / REPORT, report_html(findings, analysis.comparison).encode("utf-8", "replace")),
    ]
    files: dict[str, Path] = {}
    for number, step in enumerate(steps):
        on_progress(Progress("write", number, len(steps), "parts"))
        files |= step()
    names = sorted(path.relative_to(folder).as_posix() for path in files.values())
    files |= _write(folder / SUMMARY, json_bytes(summarise_layers(analysis) | {"files": names}))
    on_progress(Progress("write", len(steps), len(steps), "parts"))
    return files


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else: its tables beside new ones would tell of other numbers."""
    earlier = read_json(folder / SUMMARY) or {}
    names = earlier.get("files", []) if earlier.get("kind") == KIND else []
    for path in [folder / SUMMARY, *(folder / str(name) for name in names)] if names else []:
        inside = path.resolve().is_relative_to(folder.resolve())
        if inside and path.suffix in SUFFIXES and path.is_file():
            path.unlink()


def _write(path: Path, content: bytes) -> dict[str, Path]:
    replace_file(path, content)
    return {path.stem: path}
