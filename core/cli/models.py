"""``models``: list the encoders that are bundled, cached or reachable."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.cli import console

if TYPE_CHECKING:
    from core.tasks import ModelEntry

ABOUT = "List what can be embedded with: bundled with Strata, in the local cache, or reachable on the hub."
HEADINGS = ("name", "where", "architecture", "blocks", "dim", "Hz", "MB", "note")


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb's parser to ``verbs``, what ``add_subparsers`` returned."""
    parser = verbs.add_parser("models", parents=[common], help="list the models", description=ABOUT, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the models as a table or as JSON."""
    from core import tasks

    entries = tasks.list_models()
    if args.json:
        console.emit_json({"models": [{**asdict(entry), "path": _text(entry.path)} for entry in entries]})
    else:
        console.emit(table(entries).encode("utf-8", "backslashreplace"))
    return 0


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def table(entries: "list[ModelEntry]") -> str:
    """Lay the entries out in columns as wide as need be."""
    rows = [HEADINGS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def _row(entry: "ModelEntry") -> tuple[str, ...]:
    """Cells of one line; what is not known stays empty."""
    size = "" if entry.size_mb is None else f"{entry.size_mb:.0f}"
    facts = (entry.name, entry.where, entry.architecture, entry.n_layers, entry.dim, entry.sampling_rate)
    return (*("" if fact is None else str(fact) for fact in facts), size, entry.note or "")
