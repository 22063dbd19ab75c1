"""Features of all layers of many recordings, computed once: kept by content, model and settings."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.analysis.features import FeatureFile, is_readable_features, open_feature_set
from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings
from core.embed.corpus import CorpusItem, read_json, run_corpus
from core.embed.recordings import hash_recording
from core.embed.team import Team
from core.embed.writers import check_target, output_path
from core.errors import DataError, InputError
from core.figures.names import file_label
from core.tasks.embedding import embed_one
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

log = logging.getLogger(__name__)

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
        notes: What the reader should know of them.
        called: Name of the model where there is no ``source``.
    """

    source: Source | None
    items: tuple[CorpusItem, ...]
    files: tuple[FeatureFile, ...]
    failures: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    called: str = ""

    @property
    def name(self) -> str:
        """The model, as results call it."""
        return self.called if self.source is None else self.source.name

    @property
    def is_control(self) -> bool:
        """Whether the weights are random."""
        return self.source is not None and self.source.seed is not None


@dataclass(frozen=True)
class Hashed:
    """A recording with the hash of its content; None where it cannot be read."""

    item: CorpusItem
    sha256: str | None


def hash_items(items: Sequence[CorpusItem]) -> tuple[list[Hashed], list[str]]:
    """Hash every recording, and leave out those whose content came before under another name.

    A recording that counts twice would stand on both sides of a split, and make intervals too narrow.

    Returns:
        Recordings, and a sentence for each that was left out.
    """
    kept: list[Hashed] = []
    first: dict[tuple[str, int | None], CorpusItem] = {}
    notes = []
    for hashed in map(_hash, items):
        key = (hashed.sha256 or str(hashed.item.source), hashed.item.channel)
        if key in first and hashed.sha256 is not None:
            notes.append(f"{hashed.item.source} holds the same as {first[key].source}; it counts once.")
            continue
        first[key] = hashed.item
        kept.append(hashed)
    return kept, notes


def _hash(item: CorpusItem) -> Hashed:
    if item.error is not None:
        return Hashed(item, None)
    try:
        return Hashed(item, hash_recording(item.source))
    except OSError as error:
        return Hashed(replace(item, error=f"{item.source} cannot be read: {error.strerror}."), None)


def compute_features(
    source: Source, recordings: Sequence[Hashed], settings: EmbedSettings, folder: Path, on_progress: OnProgress
) -> FeatureRun:
    """Compute the features of all layers where they are not there yet; the model is only loaded if some are missing.

    A file's name holds a hash of the recording's content, the model and the settings, so that a changed recording or
    model gives another file, nothing of another origin is overwritten, and the same recording under another path is
    found again.

    Raises:
        StrataError: the model cannot be loaded, the folder cannot be written, or no recording has features.
    """
    settings = replace(settings, layers="all")
    # What lies there under a name with this hash and cannot be read is a leftover of ours.
    output = OutputSettings(folder / file_label(source.name), formats=FORMATS, force=True)
    keyed = [_keyed(recording, settings, source.model_hash()) for recording in recordings]
    ready: list[ReadyEncoder] = []

    def embed_item(item: CorpusItem) -> EmbedResult:
        if not ready:
            ready.append(ready_encoder(source, settings, on_progress))
        target = item.output(output)
        check_target(target, item.base)
        return embed_one(ready[0], item.source, item.settings(settings), target, on_progress)

    Team()  # before the model: it gives each process of a launch a device of its own
    missing = [item for item in keyed if not _is_there(item, output)]
    if len(missing) < len(keyed):
        log.info("Features of %d recordings are there already, in %s", len(keyed) - len(missing), output.folder)
    summary = run_corpus(missing, embed_item, output, on_progress=on_progress) if missing else None
    failures = tuple(summary.failures) if summary else ()
    items = [recording.item for recording in recordings]
    there = [(item, key) for item, key in zip(items, keyed, strict=True) if _is_there(key, output)]
    if not there:
        reasons = "; ".join(f"{failure['file']}: {failure['error']}" for failure in failures[:3])
        raise DataError(f"No recording could be used. {reasons}")
    paths = [output_path(output, key.base, "npz") for _, key in there]
    files = open_feature_set(paths, [recording_name(item) for item, _ in there])
    return FeatureRun(source, tuple(item for item, _ in there), files, failures)


def recording_name(item: CorpusItem) -> str:
    """What results call a recording: its path below the input, without suffix, or what a list calls it."""
    return f"{item.folder}/{item.base}".lstrip("/")


def spoken_names(items: Sequence[CorpusItem]) -> list[str]:
    """What alignments are found by: the recordings' own paths below the input, without suffix, where these differ."""
    paths = [f"{item.folder}/{item.source.stem}".lstrip("/") for item in items]
    return [path if paths.count(path) == 1 else recording_name(item) for item, path in zip(items, paths, strict=True)]


def read_features(folder: Path, num_files: int | None, model: str) -> FeatureRun:
    """Open features that are there already, of whatever origin: every ``.npz`` in the folder, in order of name.

    Args:
        folder: Searched with its sub-folders.
        num_files: How many to take at most; None for all.
        model: What to call the model where the features do not say.

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
    items = _items_of(files)
    known = files[0].metadata.get("model_name")
    notes = ["Speakers and labels are not kept with features; name the recordings or their list to have them."]
    if model and known and model != known:
        notes.append(f"The features say that they are of {known}; {model} is not used.")
    return FeatureRun(None, items, files, notes=tuple(notes), called=str(known or model or "unknown model"))


def _items_of(files: Sequence[FeatureFile]) -> tuple[CorpusItem, ...]:
    """The recordings that features were computed from, as far as they say."""
    sources = [file.recording_path.absolute() for file in files]
    top = Path(os.path.commonpath([source.parent for source in sources]))
    folders = [source.parent.relative_to(top).as_posix() for source in sources]
    return tuple(
        CorpusItem(source, file.name, "" if folder == "." else folder, file.channel)
        for source, file, folder in zip(sources, files, folders, strict=True)
    )


def _keyed(recording: Hashed, settings: EmbedSettings, model_hash: str) -> CorpusItem:
    """Name a recording's features by what decides them."""
    item = recording.item
    if recording.sha256 is None:
        return item
    own = item.settings(settings)
    windows = float(own.chunk_seconds), own.context_seconds
    rate = () if own.numpy_rate is None else (own.numpy_rate,)
    decides = recording.sha256, model_hash, own.channel, own.device, own.engine, own.precision, *windows, *rate
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:HASH_LENGTH]
    return replace(item, base=f"{item.base[:NAME_LENGTH]}-{key}", folder="")


def _is_there(item: CorpusItem, output: OutputSettings) -> bool:
    """Whether the features are complete: the ``.json`` is written last."""
    if item.error is not None or read_json(output_path(output, item.base, "json")) is None:
        return False
    return is_readable_features(output_path(output, item.base, "npz"))
