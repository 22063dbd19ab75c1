"""What the recipes on simulated MEG share: recordings of many heads, and how a trained folder becomes a bundled one.

The simulation is drawn on MNE's own table of the sensors, so that weights trained on it may ship.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import tasks
from core.checkpoints.folders import whole_folder, write_json
from core.checkpoints.save import write_card

Table = Mapping[str, Any]
"""A measurement as :func:`core.checkpoints.card.metric_table` takes it."""


def simulated_recordings(folder: Path, subjects: Sequence[int], seconds: float) -> tuple[Path, ...]:
    """Simulate a recording of each subject, where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"sub-{subject:02d}_meg.fif" for subject in subjects)
    for subject, path in zip(subjects, paths, strict=True):
        if not path.exists():
            tasks.simulate_meg(tasks.SimulateRequest(path, seconds, seed=100 * subject, subject=subject))
    return paths


def bundle(trained: Path, folder: Path, recipe: str, tables: Sequence[Table]) -> Path:
    """Copy a trained checkpoint to where it ships, under that name, with what was measured of it in its card.

    Args:
        trained: Folder of the checkpoint.
        folder: To write; an older one is replaced.
        recipe: The command that made it.
        tables: Added to what training measured.

    Raises:
        OutputError: It cannot be written; an older one is as it was.
    """
    facts = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    facts |= {"name": folder.name, "recipe": recipe, "metrics": [*facts["metrics"], *tables]}
    facts["card"]["snippet"] = facts["card"]["snippet"].replace(f'"{trained.name}"', f'"checkpoints/{folder.name}"')
    with whole_folder(folder) as partial:
        shutil.copytree(trained, partial, dirs_exist_ok=True)
        write_json(partial / "training.json", facts)
        write_card(partial)
    return folder


def command_line(description: str, run: Callable[[Path, Path], Path], arguments: Sequence[str] | None = None) -> None:
    """Read ``--work`` and ``--output``, and run a recipe in them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for recordings and the run; kept to go on from"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder that gets the checkpoint's")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run(options.work, options.output)
