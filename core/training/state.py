"""What a run keeps on disk: ``state.pt``, from which it goes on bit for bit, and the lines of ``metrics.jsonl``."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from core.errors import CheckpointError, OutputError
from core.training.runs import read_metrics

FORMAT = 2
"""Of ``state.pt``; whoever changes what is in it raises it."""


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all, in place of an earlier one.

    Raises:
        OutputError: the disk is full or cannot be written; the earlier state is as it was.
    """
    _replace(path, lambda stream: torch.save({"format": FORMAT, **state}, stream))


def read_state(path: Path) -> dict[str, Any]:
    """Read a state; nothing in it is executed.

    Raises:
        CheckpointError: it is damaged, or of another version of this program.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises a different one for each kind of damage
        raise CheckpointError(f"{path} cannot be read as the state of a run. Start again in a new folder.") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was written by another version (format {state.get('format', 1)}; expected {FORMAT}). Finish the "
            "run with that version, or start again in a new folder."
        )
    return state


def random_state(model: nn.Module) -> dict[str, Tensor]:
    """States of torch's random generators, by device: of the processor, and of each device with weights on it."""
    return {"cpu": torch.get_rng_state()} | {str(device): _device_state(device) for device in _accelerators(model)}


def set_random_state(model: nn.Module, states: Mapping[str, Tensor]) -> None:
    """Give the generators the states of :func:`random_state`; a device that had none then is left as it is."""
    torch.set_rng_state(states["cpu"])
    for device in _accelerators(model):
        if str(device) in states:
            torch.get_device_module(device).set_rng_state(states[str(device)])


def append_metrics(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one line.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, allow_nan=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def drop_later_metrics(path: Path, step: int) -> None:
    """Remove lines that a killed process wrote after its last checkpoint: they will be written again."""
    if not path.exists():
        return
    before = path.read_bytes()
    kept = "".join(json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= step).encode()
    if kept != before:
        _replace(path, lambda stream: stream.write(kept))


def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write under another name, see it onto the disk, and rename: a kill at any moment leaves the old or the new."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save hides what the stream raised
        if not isinstance(cause, OSError):
            raise
        raise _unwritable(path, cause) from error
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Cannot write {path}: {error.strerror or error}. What was there before is kept; free some space, or choose "
        "another folder."
    )


def _accelerators(model: nn.Module) -> list[torch.device]:
    devices = {parameter.device for parameter in model.parameters()}
    return sorted((device for device in devices if device.type != "cpu"), key=str)


def _device_state(device: torch.device) -> Tensor:
    module = torch.get_device_module(device)
    state: Tensor = module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)
    return state
