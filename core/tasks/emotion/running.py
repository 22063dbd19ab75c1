"""What ``auto`` comes to on this machine: found out by loading the model once, and known without it from then on.

Features are kept under the device, engine and precision that made them: a folder that machines share, or one that is
older than an engine, would mix values else.
"""

import hashlib
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.arrays import EmbedSettings, OnProgress
from core.checkpoints.folders import package_versions
from core.device import available_devices, cpu_capabilities, pick_device
from core.embed.corpus import read_json
from core.embed.writers import replace_file
from core.errors import InputError, OutputError
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

PLACE = "engines"
"""Beside the features: a small file for each model and each machine."""

PACKAGES = ("torch", "openvino", "transformers")


def chosen(source: Source, settings: EmbedSettings, folder: Path, on_progress: OnProgress) -> EmbedSettings:
    """Say how a model runs here: the settings with a device, an engine and a precision instead of ``auto``.

    Args:
        source: The model.
        settings: What is asked for.
        folder: Keeps features, and what was found out.
        on_progress: Told of the model if it has to be loaded.

    Raises:
        StrataError: the model cannot be loaded, or a device cannot be used.
    """
    named = replace(settings, device=pick_device(settings.device).device)
    if "auto" not in (settings.engine, settings.precision):
        return named
    path = folder / PLACE / f"{_machine(source, named)}.json"
    known = read_json(path) or {}
    if not all(isinstance(known.get(key), str) for key in ("engine", "precision")):
        choice = ready_encoder(source, replace(settings, layers="all"), on_progress).choice
        known = {"engine": choice.engine, "precision": choice.precision}
        _keep(path, known)
    return replace(named, engine=known["engine"], precision=known["precision"])


def _keep(path: Path, known: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent} cannot be made: {error.strerror}. Free space, or name another --features-dir."
        ) from error
    replace_file(path, json.dumps(known).encode())


def _machine(source: Source, named: EmbedSettings) -> str:
    """Hash of all that the choice depends on: the model, the wish, the processor and the engines' versions."""
    decides = [
        source.model_hash(),
        (named.device, named.engine, named.precision),
        (available_devices()[named.device], platform.machine(), cpu_capabilities()),
        package_versions(PACKAGES),
    ]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def check_chosen(ready: ReadyEncoder, running: EmbedSettings) -> None:
    """Refuse to go on where a model runs otherwise than was known: values of two kinds would lie under one name.

    Raises:
        InputError: it does.
    """
    now = ready.device.device, ready.choice.engine, ready.choice.precision
    due = running.device, running.engine, running.precision
    if now != due:
        raise InputError(
            f"{ready.source.name} ran as {', '.join(due)} before and comes to {', '.join(now)} now. Name the engine "
            "and the precision (--engine, --precision), or use another --features-dir."
        )
