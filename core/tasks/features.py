"""Features of all layers of many recordings, computed once: kept by content, model and settings."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.analysis.features import FeatureFile, open_feature_set
from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings
from core.embed.corpus import CorpusItem, read_json, run_corpus
from core.embed.team import Team
from core.embed.writers import check_target, output_path
from core.errors import DataError, InputError
from core.figures.names import file_label
from core.tasks.embedding import embed_one
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

FORMATS = ("npz", "json")
# Characters of a recording's own name that its feature file keeps: with hash and suffix it stays a file name.
NAME_LENGTH = 100
HASH_LENGTH = 16


@dataclass(frozen=True)
class FeatureRun:
    """Features of one model.

    Attributes:
        source: Where the weights came from; None where features of an earlier run were read.
        items: Recordings that have features.
        files: Their features, in the same order.
        failures: ``{"file", "error"}`` for each recording that has none.
    """

    source: Source | None
    items: tuple[CorpusItem, ...]
    files: tuple[FeatureFile, ...]
    failures: tuple[dict[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The model, as results call it."""
        return self.files[0].model if self.source is None else self.source.name

    @property
    def is_control(self) -> bool:
        """Whether the weights are random."""
        return self.source is not None and self.source.seed is not None


def compute_features(
    source: Source, items: Sequence[CorpusItem], settings: EmbedSettings, folder: Path, on_progress: OnProgress
) -> FeatureRun:
    """Compute the features of all layers where they are not there yet; the model is only loaded if some are missing.

    A file's name holds a hash of the recording's content, the model and the settings, so that a changed recording or
    model gives another file, nothing is overwritten, and the same recording under another path is found again.

    Raises:
        StrataError: the model cannot be loaded, the folder cannot be written, or no recording has features.
    """
    settings = replace(settings, layers="all")
    output = OutputSettings(folder / file_label(source.name), formats=FORMATS)
    keyed = [_keyed(item, settings, source.model_hash()) for item in items]
    ready: list[ReadyEncoder] = []

    def embed_item(item: CorpusItem) -> EmbedResult:
        if not ready:
            ready.append(ready_encoder(source, settings, on_progress))
        target = item.output(output)
        check_target(target, item.base)
        return embed_one(ready[0], item.source, item.settings(settings), target, on_progress)

    Team()  # before the model: it gives each process of a launch a device of its own
    summary = run_corpus(keyed, embed_item, output, lambda item: _is_there(item, output), on_progress)
    there = [(item, key) for item, key in zip(items, keyed, strict=True) if _is_there(key, output)]
    if not there:
        reasons = "; ".join(f"{failure['file']}: {failure['error']}" for failure in summary.failures[:3])
        raise DataError(f"No recording could be used. {reasons}")
    paths = [output_path(output, key.base, "npz") for _, key in there]
    files = open_feature_set(paths, [f"{item.folder}/{item.base}".lstrip("/") for item, _ in there])
    return FeatureRun(source, tuple(item for item, _ in there), files, tuple(summary.failures))


def read_features(folder: Path, num_files: int | None) -> FeatureRun:
    """Open features that are there already, of whatever origin: every ``.npz`` in the folder, in order of name.

    Raises:
        StrataError: there are none, or they do not belong together.
    """
    paths = sorted(path for path in folder.rglob("*.npz") if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise InputError(
            f"Got no recording, and {folder} holds no features (.npz with layer_0, layer_1, ...). "
            "Name a recording, a folder or a CSV list, or the --features-dir of an earlier run."
        )
    files = open_feature_set(paths[:num_files])
    items = tuple(CorpusItem(Path(str(file.metadata.get("audio_path", file.path))), file.name) for file in files)
    return FeatureRun(None, items, files)


def _keyed(item: CorpusItem, settings: EmbedSettings, model_hash: str) -> CorpusItem:
    """Name a recording's features by what decides them."""
    if item.error is not None:
        return item
    try:
        with item.source.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return replace(item, error=f"{item.source} cannot be read: {error.strerror}.")
    own = item.settings(settings)
    windows = float(own.chunk_seconds), own.context_seconds
    decides = content, model_hash, own.channel, own.device, own.engine, own.precision, *windows
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:HASH_LENGTH]
    return replace(item, base=f"{item.base[:NAME_LENGTH]}-{key}", folder="")


def _is_there(item: CorpusItem, output: OutputSettings) -> bool:
    """Whether the features are complete: the ``.json`` is written last."""
    if item.error is not None:
        return False
    content = read_json(output_path(output, item.base, "json"))
    return content is not None and output_path(output, item.base, "npz").is_file()
