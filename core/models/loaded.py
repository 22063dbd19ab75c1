"""A model as it comes out of a checkpoint folder, before an encoder is built around it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LoadedModel:
    """Weights in memory, in eval mode and float32, with what their folder says about them.

    Attributes:
        name: What the user asked for: bundled name, folder name or hub id.
        folder: Where it was read.
        model: The transformers model (any of its classes, whose parts the encoders know by name).
        preprocessor: Content of preprocessor_config.json; empty where there is none.
        sha256: Hash of the weight files' bytes.
        config_sha256: Hash of the files that say how weights and samples are used.
        architecture: First entry of the config's ``architectures``, or the model type.
        fine_tuned: Whether the checkpoint was tuned on labels (ASR and the like) after pre-training.
        warnings: Sentences a user should see beside the results.
    """

    name: str
    folder: Path
    model: Any
    preprocessor: dict[str, Any]
    sha256: str
    architecture: str
    fine_tuned: bool
    warnings: tuple[str, ...] = field(default=())
    config_sha256: str = ""

    @property
    def model_type(self) -> str:
        """The config's model type, such as ``wav2vec2``."""
        return str(self.model.config.model_type)
