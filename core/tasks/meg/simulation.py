"""Simulate a MEG recording with known labels and write it as a ``.fif``."""

import uuid
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arrays import OnProgress, Progress, ignore_progress
from core.checkpoints.folders import package_versions
from core.embed.writers import check_folder
from core.errors import InputError, OutputError
from core.meg.reader import SIMULATED
from core.synthetic.meg import LABELS, PACES, VERSION, SimulationSettings, simulate_raw
from core.tasks.meg.requests import SimulateRequest, Simulation

if TYPE_CHECKING:
    import mne

MOST_VALUES = 480_000_000
"""Values that one ``.fif`` holds with four bytes each; beyond 2 GB MNE would split it."""

N_CHANNELS = 306
STAGE = "simulate"


def simulate_meg(request: SimulateRequest, on_progress: OnProgress = ignore_progress) -> Simulation:
    """Simulate a recording and write it, whole or not at all.

    Args:
        request: Where to, how long, which seed and subject.
        on_progress: Told of the stage ``simulate`` in steps.

    Returns:
        The file, how often each label occurs, and what it is made of.

    Raises:
        InputError: Not a ``.fif``, too short, too long for one file, or a sampling rate that is too low.
        OutputError: The file is there already, or cannot be written.
    """
    settings = SimulationSettings(request.seconds, request.seed, request.subject, request.sampling_rate)
    _check(request, settings)
    on_progress(Progress(STAGE, 0, 2, "steps"))
    raw = simulate_raw(settings)
    on_progress(Progress(STAGE, 1, 2, "steps"))
    _write(raw, request.output)
    on_progress(Progress(STAGE, 2, 2, "steps"))
    counts = Counter(str(label) for label in raw.annotations.description)
    return Simulation(request.output, {label: counts[label] for label in LABELS}, _facts(settings))


def _check(request: SimulateRequest, settings: SimulationSettings) -> None:
    """Refuse before anything is computed."""
    path = request.output
    if path.suffix != ".fif":
        raise InputError(f"Got the output {path.name!r}; expected a name that ends with .fif, such as made_raw.fif.")
    if settings.n_times * N_CHANNELS > MOST_VALUES:
        longest = MOST_VALUES / N_CHANNELS / settings.sampling_rate
        raise InputError(
            f"Got {settings.seconds:g} s at {settings.sampling_rate:g} Hz; one .fif holds {longest:.0f} s. Simulate "
            "several recordings with other seeds."
        )
    check_folder(path.parent)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; a file of that name is to be written. Choose another --output.")
    if path.exists() and not request.force:
        raise OutputError(f"{path} is there already. Use --force to replace it, or choose another --output.")


def _write(raw: "mne.io.BaseRaw", path: Path) -> None:
    # Under a name as MNE wants it, so that it does not warn of the one that was asked for.
    partial = path.with_name(f".strata-{uuid.uuid4().hex}_raw.fif")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw.save(partial, fmt="single", verbose="ERROR")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}. Choose another --output.") from error
    finally:
        partial.unlink(missing_ok=True)


def _facts(settings: SimulationSettings) -> dict[str, Any]:
    plain = asdict(settings)
    levels = plain.pop("levels")
    return {
        "simulated": SIMULATED,
        "version": VERSION,
        **plain,
        "n_times": settings.n_times,
        "sources": {label: {"frequency": pace} for label, pace in PACES.items()},
        "levels": levels,
        "versions": package_versions(("mne", "numpy", "scipy")),
    }
