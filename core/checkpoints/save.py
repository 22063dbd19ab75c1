"""Write a checkpoint folder so that it is there as a whole or not at all."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from core.checkpoints.card import model_card
from core.checkpoints.folders import package_versions, whole_folder, write_json
from core.errors import CheckpointError

PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "soundfile", "soxr")


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    training: dict[str, Any],
    card: dict[str, Any],
    extractor: Wav2Vec2FeatureExtractor | None = None,
    preparation: Mapping[str, Any] | None = None,
    files: Mapping[str, Callable[[Path], None]] | None = None,
) -> Path:
    """Write ``folder`` under a temporary name beside it, then rename; an older folder of that name is replaced.

    Args:
        folder: where the checkpoint shall be; its name is the model's, unless ``training`` has a ``name``.
        model: written as float16; what ``from_pretrained`` reads.
        training: facts of the run for ``training.json``: settings, data, split, history, metrics; the versions of the
            packages are added.
        card: what only a person can say: see :func:`core.checkpoints.card.model_card`. Kept in ``training.json`` too,
            so that the card can be generated again from the folder alone.
        extractor: how audio is prepared, for ``preprocessor_config.json``.
        preparation: the same as settings, where a model had such a file of its own.
        files: what writes each further file, by name.

    Returns:
        ``folder``.
    """
    facts = training | {"card": card, "versions": package_versions(PACKAGES)}
    with whole_folder(folder) as partial:
        _write(partial, facts.get("name", folder.name), model, facts, extractor)
        if preparation:
            write_json(partial / "preprocessor_config.json", dict(preparation))
        for name, write in (files or {}).items():
            write(partial / name)
    return folder


def write_card(folder: Path) -> None:
    """Write README.md again from ``config.json`` and ``training.json`` of a checkpoint folder."""
    config = json.loads((folder / "config.json").read_text())
    training = json.loads((folder / "training.json").read_text())
    (folder / "README.md").write_text(model_card(training.get("name", folder.name), config, training), encoding="utf-8")


def _write(
    partial: Path,
    name: str,
    model: PreTrainedModel,
    training: dict[str, Any],
    extractor: Wav2Vec2FeatureExtractor | None,
) -> None:
    """Fill the temporary folder."""
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float16"}
    config = {key: value for key, value in config.items() if key != "_name_or_path"}
    write_json(partial / "config.json", config)
    write_json(partial / "training.json", training)
    weights = {key: _as_half(key, value) for key, value in model.state_dict().items()}
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    if extractor is not None:
        extractor.save_pretrained(partial)
    (partial / "README.md").write_text(model_card(name, config, training), encoding="utf-8")


def _as_half(name: str, value: torch.Tensor) -> torch.Tensor:
    """Round to float16; a weight that does not fit or is not finite is an error, not an infinity in a file."""
    half = value.detach().cpu().to(torch.float16) if value.is_floating_point() else value.detach().cpu()
    if half.is_floating_point() and not torch.isfinite(half).all():
        raise CheckpointError(
            f"{name} holds values that float16 cannot (largest {value.abs().max():g}); nothing was written."
        )
    return half.contiguous().clone()
