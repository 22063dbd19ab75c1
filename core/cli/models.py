"""``models``: list the encoders that are bundled, cached or reachable, and the bundled heads."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.cli import console

if TYPE_CHECKING:
    from core.tasks import HeadEntry, ModelEntry

ABOUT = "List what can be embedded with: bundled with Strata, in the local cache, or reachable on the hub."
HEAD_HEADINGS = ("head", "where", "encoder", "UAR", "classes")
HEADINGS = ("name", "where", "architecture", "blocks", "dim", "Hz", "MB", "note")


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb's parser to ``verbs``, what ``add_subparsers`` returned."""
    parser = verbs.add_parser("models", parents=[common], help="list the models", description=ABOUT, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the models as a table or as JSON."""
    from core import tasks

    entries, heads = tasks.list_models(), tasks.list_heads()
    if args.json:
        models = [{**asdict(entry), "path": _text(entry.path)} for entry in entries]
        console.emit_json({"models": models, "heads": [{**asdict(head), "path": str(head.path)} for head in heads]})
    else:
        both = f"{table(entries)}\n{head_table(heads)}" if heads else table(entries)
        console.emit(both.encode("utf-8", "backslashreplace"))
    return 0


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def table(entries: "list[ModelEntry]") -> str:
    """Lay the entries out in columns as wide as need be."""
    return _columns([HEADINGS, *(_row(entry) for entry in entries)])


def head_table(heads: "list[HeadEntry]") -> str:
    """Lay out the heads, for ``python -m core emotion classify --checkpoint``; UAR is of speakers never heard."""
    rows = [(one.name, one.where, one.encoder, _score(one.uar), ", ".join(one.labels)) for one in heads]
    return _columns([HEAD_HEADINGS, *rows])


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _columns(rows: "list[tuple[str, ...]]") -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def _row(entry: "ModelEntry") -> tuple[str, ...]:
    """Cells of one line; what is not known stays empty."""
    size = "" if entry.size_mb is None else f"{entry.size_mb:.0f}"
    facts = (entry.name, entry.where, entry.architecture, entry.n_layers, entry.dim, entry.sampling_rate)
    return (*("" if fact is None else str(fact) for fact in facts), size, entry.note or "")
