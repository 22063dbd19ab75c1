"""The bundled checkpoints in one table: ``python -m bench.checkpoints``.

Size, parameters and the time to load are measured here. What each is worth was measured by its recipe when it was made;
the table quotes it from ``training.json``, as its card does, so that table, card and README cannot differ.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.embed import Row, print_table
from core.checkpoints.find import BUNDLED
from core.checkpoints.heads import is_head, load_head
from core.checkpoints.load import load_model

ROUNDS = 5


def rows_of(folder: Path) -> Iterator[Row]:
    """All that is to be said of one."""
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    parameters = f", {facts['parameters']:,} parameters" if "parameters" in facts else ""
    yield Row(f"{folder.name}: files", f"{size:.1f} MB{parameters}", "each file <= 10 MB")
    yield Row(f"{folder.name}: seconds to load, median of {ROUNDS}", f"{seconds_to_load(folder):.2f}", "< 1")
    if "cpu_seconds" in facts:
        yield Row(f"{folder.name}: minutes of processor time", f"{facts['cpu_seconds'] / 60:.0f}", "-")
    for table in facts["metrics"] if isinstance(facts["metrics"], list) else ():
        for what, value in _cells(table):
            yield Row(f"{folder.name}: {table['title']}, {what}", value, "-")


def seconds_to_load(folder: Path) -> float:
    """Wall seconds, after everything that has to be imported was."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        _ = load_head(folder) if is_head(folder) else load_model(folder, folder.name, from_user=True)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _cells(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What each row of a measurement says, in words."""
    if "columns" in table:
        for first, *others in table["rows"]:
            named = zip(table["columns"][1:], others, strict=True)
            yield first, "; ".join(f"{name} {cell}" for name, cell in named if cell not in ("", "-"))
        return
    for row in table["rows"]:
        low, high = row["interval"]
        told = f"{row['chosen']:.3f} [{low:.3f}, {high:.3f}] ({table['measure']}, n = {table['n']}, "
        yield (
            row["model"],
            f"{told}{table['groups']}; best layer {max(row['scores']):.3f}; chance {table['chance']:.3f})",
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="those whose names hold this")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    folders = sorted(path for path in BUNDLED.iterdir() if (path / "training.json").exists() and args.only in path.name)
    print_table((row for folder in folders for row in rows_of(folder)), args.json)


if __name__ == "__main__":
    main()
