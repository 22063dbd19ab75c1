"""From a trained head to its checkpoint folder and back, and from an evaluation to the facts that stand beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpoints.heads import HeadConfig, HearingConfig, ReferenceConfig, load_head, save_head
from core.embed.formats import json_bytes
from core.emotion.head import Affine, Head, Reference
from core.scoring import EmotionFindings, Evaluation


@dataclass(frozen=True)
class EncoderFacts:
    """The encoder that a head goes with.

    Attributes:
        name: Of the encoder.
        sha256: Hash of its weights.
        config_sha256: Hash of the files that say how they are used; both as
            :func:`core.checkpoints.load.checkpoint_hashes` gives them.
        sampling_rate: Hz that it wants.
        folder: Where it lies, if a person gave a folder; empty else. For one that was trained with the head, a path in
            the head's folder.
    """

    name: str
    sha256: str
    config_sha256: str
    sampling_rate: int
    folder: str = ""


@dataclass(frozen=True)
class SavedHead:
    """A head as it lies in a folder: ready to judge what its encoder makes of a recording."""

    name: str
    folder: Path
    head: Head
    config: HeadConfig
    training: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.config.labels

    @property
    def model(self) -> str:
        """Name of the encoder."""
        return self.config.encoder


def write_head(
    folder: Path,
    head: Head,
    config: HeadConfig,
    training: Mapping[str, Any],
    *,
    encoder: Path | None = None,
    force: bool = False,
) -> Path:
    """Write a head's checkpoint folder, whole or not at all.

    Args:
        folder: Its name becomes the head's.
        head: What was trained.
        config: See :func:`head_config`.
        training: See :func:`training_facts`.
        encoder: Folder of an encoder that was trained with the head, to be copied to ``config.encoder_folder``.
        force: Whether a head that is there may be replaced.

    Raises:
        CheckpointError: The head holds numbers that cannot be kept.
        OutputError: The folder is taken or cannot be written.
    """
    return save_head(folder, config, head_arrays(head), training, encoder=encoder, force=force)


def read_head(folder: Path, name: str = "") -> SavedHead:
    """Read a head's checkpoint folder.

    Raises:
        CheckpointError: It is incomplete, damaged, of another format or no head's.
    """
    stored = load_head(folder, name)
    head = _head_of(stored.config, stored.arrays)
    return SavedHead(stored.name, folder, head, stored.config, stored.training)


def head_config(
    head: Head,
    labels: Sequence[str],
    encoder: EncoderFacts,
    least_seconds: float = 0.0,
    hearing: HearingConfig | None = None,
) -> HeadConfig:
    """Say what a head is.

    Args:
        head: What was trained.
        labels: Names of its classes, sorted.
        encoder: What it goes with.
        least_seconds: Length of the shortest clip that it was trained on.
        hearing: How the encoder heard the clips; None for torch in float32, as they are.
    """
    reference = head.reference
    return HeadConfig(
        labels=tuple(labels),
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        encoder_config_sha256=encoder.config_sha256,
        encoder_folder=encoder.folder,
        sampling_rate=encoder.sampling_rate,
        layers=tuple(int(layer) for layer in head.layers),
        dim=int(head.mean.shape[1]),
        pooling=head.pooling,
        mixture=head.mixture,
        hidden=tuple(len(step.bias) for step in head.maps[:-1]),
        attention=head.attention is not None,
        temperature=float(head.temperature),
        threshold=float(head.threshold),
        reference=None
        if reference is None
        else ReferenceConfig(len(reference.deviations), float(reference.rest), float(reference.threshold)),
        least_seconds=float(least_seconds),
        hearing=hearing or HearingConfig(),
    )


def head_arrays(head: Head) -> dict[str, np.ndarray]:
    """Name the arrays of a head as ``model.safetensors`` does."""
    arrays = {"mean": head.mean, "scale": head.scale, "layer_weights": head.layer_weights}
    for number, step in enumerate(head.maps):
        arrays |= {f"maps.{number}.weight": step.weight, f"maps.{number}.bias": step.bias}
    if head.attention is not None:
        arrays["attention"] = head.attention
    if head.reference is not None:
        for name in ("mean", "axes", "deviations"):
            arrays[f"reference.{name}"] = getattr(head.reference, name)
    return arrays


def _head_of(config: HeadConfig, arrays: Mapping[str, np.ndarray]) -> Head:
    reference = None
    if config.reference is not None:
        mean, axes, deviations = (arrays[f"reference.{name}"] for name in ("mean", "axes", "deviations"))
        reference = Reference(mean, axes, deviations, config.reference.rest, config.reference.threshold)
    return Head(
        layers=config.layers,
        pooling=config.pooling,
        mean=arrays["mean"],
        scale=arrays["scale"],
        layer_weights=arrays["layer_weights"],
        mixture=config.mixture,
        maps=tuple(
            Affine(arrays[f"maps.{number}.weight"], arrays[f"maps.{number}.bias"])
            for number in range(len(config.hidden) + 1)
        ),
        temperature=config.temperature,
        threshold=config.threshold,
        reference=reference,
        attention=arrays.get("attention"),
    )


# --------------------------------------------------------------------------------------------------------------- facts


def training_facts(findings: EmotionFindings, head: Head, card: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Collect what a head comes from and what its kind was found to be worth, JSON-ready, for ``training.json``.

    Args:
        findings: Of the evaluation of heads of this kind on the same clips.
        head: Fitted on all of them.
        card: What only a person can say; see :func:`core.checkpoints.head_card.head_card`.
    """
    main = findings.main
    facts = {
        "settings": findings.settings,
        "seed": findings.settings.get("seed"),
        "data": {"n": len(main.truth), "n_speakers": len(set(main.speakers.tolist())), **findings.corpus},
        "encoder": findings.model,
        "metrics": {
            "n": len(main.truth),
            "n_speakers": len(set(main.speakers.tolist())),
            "chance": main.chance,
            "majority": main.majority,
            "head": _evaluation_facts(main),
            "baseline": _evaluation_facts(findings.baseline),
            "shuffled": findings.shuffled and _evaluation_facts(findings.shuffled),
            "cross": [asdict(cross) for cross in findings.cross],
        },
        "folds": [asdict(fold) for fold in main.folds],
        "calibration": {
            "temperature": head.temperature,
            "threshold": head.threshold,
            "coverage": main.abstention.coverage,
            "accuracy": main.abstention.accuracy,
            "unlike": main.abstention.unlike,
        },
        "warnings": list(findings.warnings),
        "failures": list(findings.failures),
        "notes": head.notes,
        "layer_weights": {str(layer): float(one) for layer, one in zip(head.layers, head.layer_weights, strict=True)},
        "card": dict(card or {}),
    }
    plain: dict[str, Any] = json.loads(json_bytes(facts))
    return plain


def _evaluation_facts(found: Evaluation) -> dict[str, Any]:
    scores = ("uar", "wa", "macro_f1", "ece", "ece_uncalibrated")
    recalls = zip(found.labels, found.recalls, strict=True)
    return {
        "name": found.name,
        **{name: asdict(getattr(found, name)) for name in scores},
        "recalls": {label: asdict(recall) for label, recall in recalls},
        "confusion": found.confusion,
    }
