"""A folder of results: report, figures, tables, and last the summary that lists them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.arrays import OnProgress, Progress
from core.embed.corpus import read_json
from core.embed.formats import json_bytes
from core.embed.writers import check_folder, replace_file
from core.errors import OutputError

REPORT, SUMMARY, FIGURES, DATA = "report.html", "summary.json", "figures", "data"

SUFFIXES = (".html", ".json", ".png", ".svg", ".pdf", ".csv", ".npy", ".npz", ".parquet", ".tsv", ".pbtxt")

Step = Callable[[], Mapping[str, Path]]
"""Writes some of the files, and returns their paths by name."""


def check_results_target(folder: Path, *, force: bool = False) -> None:
    """Find out before anything is computed whether the results can be written.

    Raises:
        OutputError: the folder cannot be written, or holds results and ``force`` is not given.
    """
    check_folder(folder)
    there = [name for name in (REPORT, SUMMARY, FIGURES, DATA) if (folder / name).exists()]
    if there and not force:
        raise OutputError(f"{folder} already holds {', '.join(there)}. Use --force to replace, or another folder.")


def write_results(
    folder: Path, steps: Sequence[Step], summary: Mapping[str, Any], on_progress: OnProgress, *, force: bool = False
) -> dict[str, Path]:
    """Take the steps, then write the summary, which names all files.

    Args:
        folder: Where to; it is made.
        steps: What writes report, figures and tables.
        summary: Numbers; ``kind`` says whose they are.
        on_progress: Told of the steps.
        force: Whether what an earlier run of the same kind wrote is removed first.

    Returns:
        Paths by name.

    Raises:
        OutputError: as :func:`check_results_target`, or the disk is full.
    """
    check_results_target(folder, force=force)
    _remove_earlier(folder, str(summary["kind"]))
    files: dict[str, Path] = {}
    for number, step in enumerate(steps):
        on_progress(Progress("write", number, len(steps), "parts"))
        files |= step()
    names = sorted(path.relative_to(folder).as_posix() for path in files.values())
    files |= write_one(folder / SUMMARY, json_bytes({**summary, "files": names}))
    on_progress(Progress("write", len(steps), len(steps), "parts"))
    return files


def write_one(path: Path, content: bytes) -> dict[str, Path]:
    """Write a file as a whole or not at all; returns its path by its stem."""
    replace_file(path, content)
    return {path.stem: path}


def _remove_earlier(folder: Path, kind: str) -> None:
    """Remove what an earlier run wrote, and nothing else: its tables beside new ones would tell of other numbers."""
    earlier = read_json(folder / SUMMARY) or {}
    names = earlier.get("files", []) if earlier.get("kind") == kind else []
    for path in [folder / SUMMARY, *(folder / str(name) for name in names)] if names else []:
        inside = path.resolve().is_relative_to(folder.resolve())
        if inside and path.suffix in SUFFIXES and path.is_file():
            path.unlink()
