"""What a door offers before a MEG task is asked: recordings among files, presets, layouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.errors import InputError
from core.training.pretrain_settings import PretrainSettings

EXPECTED = "a .fif, .con, .sqd or .npy, or a zip of a CTF .ds folder or of a BTi folder"
"""What a page takes as a recording."""


def find_meg(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """Find the MEG recordings among files and folders; a recording that is split over several files counts once.

    Raises:
        InputError: there is none.
    """
    from core.meg.reader import find_recordings, is_meg

    found = [path for path in find_recordings(inputs, "*") if is_meg(path)]
    if not found:
        names = ", ".join(path.name for path in inputs)
        raise InputError(f"Found no MEG recording in {names}; expected {EXPECTED}.")
    return tuple(found)


def describe_window(settings: PretrainSettings, sampling_rate: int) -> str:
    """Say how many frames a training window has.

    Raises:
        InputError: they are too few for the mask.
    """
    from core.training import presets

    return presets.describe_window(settings, sampling_rate)


def meg_layouts() -> Mapping[str, int]:
    """Name the sensor layouts that recordings can be brought to, with their number of sensors."""
    from core.meg.layouts import LAYOUTS, layout

    return {name: len(layout(name)) for name in LAYOUTS}
