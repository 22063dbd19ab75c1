"""Embed recordings: one, or a corpus."""

import importlib.metadata
import logging
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

import core
from core.arrays import EmbeddingInfo, EmbedResult, EmbedSettings, OnProgress, OutputSettings, ignore_progress
from core.checkpoints.find import Found, describe_model, find_model
from core.embed.corpus import (
    CorpusItem,
    CorpusSummary,
    check_corpus,
    is_done,
    list_inputs,
    run_corpus,
)
from core.embed.formats import complete_metadata
from core.embed.pipeline import WindowPlan, plan, stream_states
from core.embed.recordings import (
    SIMULATED,
    AnySignal,
    check_readable,
    check_settings,
    facts_of,
    open_for,
    require_modality,
    warnings_of,
)
from core.embed.team import Team
from core.embed.writers import check_target, write_embeddings
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

log = logging.getLogger(__name__)

# Packages whose version can change a number.
_VERSIONED = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "openvino", "soundfile", "av", "soxr", "mne")


def embed(
    source: Path | str, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress = ignore_progress
) -> EmbedResult:
    """Embed one recording and write the results.

    Args:
        source: An audio file of any common format; for a MEG model a MEG recording, which may be a folder.
        settings: Model, layers, device, windows.
        output: Folder, base name (default: the file's stem), formats.
        on_progress: Told of the stages ``read`` and ``embed`` in seconds of the recording, then of the formats written.

    Raises:
        StrataError: anything that is wrong with the recording, the model, a setting or the output folder; nothing
            half-written is left.
    """
    source = Path(source)
    base = output.base or source.stem
    # Cheap refusals come before the model is loaded.
    check_target(output, base)
    check_readable(source)
    found = find_model(settings.model)
    modality = check_model_takes(found, settings)
    require_modality(source, modality, found.name)
    ready = ready_encoder(Source(found), settings, on_progress)
    return embed_one(ready, source, settings, replace(output, base=base), on_progress)


def embed_many(
    inputs: Sequence[Path | str],
    settings: EmbedSettings,
    output: OutputSettings,
    on_progress: OnProgress = ignore_progress,
) -> CorpusSummary:
    """Embed files, folders and CSV manifests; finished files are skipped, bad ones reported, the others go on.

    Under ``accelerate launch`` the list is split over the processes.

    Raises:
        StrataError: the model cannot be loaded, or there is nothing to do.
    """
    found = find_model(settings.model)
    items = list_inputs([Path(path) for path in inputs], check_model_takes(found, settings))
    check_corpus(output)
    Team()  # before the model: it gives each process of a launch a device of its own
    ready = ready_encoder(Source(found), settings, on_progress)

    def fingerprint(item: CorpusItem) -> str:
        return ready.fingerprint(item.settings(settings), output)

    def embed_item(item: CorpusItem) -> EmbedResult:
        target = item.output(output)
        check_target(target, target.base or item.base)
        log.info("Embedding %s", item.source)
        return embed_one(ready, item.source, item.settings(settings), target, on_progress)

    def done(item: CorpusItem) -> bool:
        return not output.force and is_done(item.source, item.output(output), fingerprint(item))

    return run_corpus(items, embed_item, output, done, on_progress)


def check_model_takes(found: Found, settings: EmbedSettings) -> str:
    """Return the model's modality, by its folder's small files; refuse settings that it has no use for."""
    modality = describe_model(found).modality
    check_settings(modality, settings)
    return modality


def embed_one(
    ready: ReadyEncoder, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
) -> EmbedResult:
    """Embed one recording with an encoder that is ready."""
    began = monotonic()
    spec, clock = ready.encoder.spec, ready.encoder.spec.clock
    with open_for(source, spec, ready.loaded.preprocessor, settings, on_progress) as signal:
        windows = plan(spec, signal.n_samples, settings, str(source))
        metadata = _metadata(ready, source, signal, settings, windows)
        metadata["settings_fingerprint"] = ready.fingerprint(settings, output)
        info = EmbeddingInfo(clock, ready.layers, windows.n_frames, spec.dim, metadata)
        metadata["warnings"] += check_target(output, output.base or source.stem, info)
        states = stream_states(ready.encoder, ready.runners, signal, windows, on_progress)
        blocks = _watched(states, metadata, began)
        files, problems = write_embeddings(blocks, info, output, output.base or source.stem, on_progress)
    return EmbedResult(source, files, replace(info, metadata=complete_metadata(info, files, problems)), problems)


def _watched(blocks: Iterator[np.ndarray], metadata: dict[str, Any], began: float) -> Iterator[np.ndarray]:
    """Pass blocks on, count frames with values that are not finite, and note the time after the last."""
    broken = 0
    for block in blocks:
        broken += int((~np.isfinite(block)).any(axis=(0, 2)).sum())
        yield block
    if broken:
        metadata["warnings"].append(f"{broken} frames hold values that are not finite. Do not use them.")
    metadata["seconds_taken"] = round(monotonic() - began, 3)


def _metadata(
    ready: ReadyEncoder, source: Path, signal: AnySignal, settings: EmbedSettings, windows: WindowPlan
) -> dict[str, Any]:
    """The facts of the JSON that are known before the first frame; see :func:`complete_metadata` for the rest."""
    clock = ready.encoder.spec.clock
    return {
        **facts_of(source, signal, settings),
        "model_name": ready.source.name,
        "model_path": str(ready.source.found.folder),
        "model_source": ready.source.found.where,
        "architecture": ready.loaded.architecture,
        "fine_tuned": ready.loaded.fine_tuned,
        "model_sha256": ready.loaded.sha256,
        "model_config_sha256": ready.loaded.config_sha256,
        "device": ready.device.device,
        "device_reason": ready.device.reason,
        "engine": ready.choice.engine,
        "engine_reason": ready.choice.engine_reason,
        "precision": ready.choice.precision,
        "precision_reason": ready.choice.precision_reason,
        "chunk_seconds": windows.chunk_seconds,
        "context_seconds": windows.context_seconds,
        "n_windows": len(windows.windows),
        "n_layers_total": ready.encoder.spec.n_layers + 1,
        **_named(ready),
        "n_samples": signal.n_samples,
        "duration_seconds": signal.duration_seconds,
        "clock": {
            "hop": clock.hop,
            "field": clock.field,
            "start": clock.start,
            "sampling_rate": clock.sampling_rate,
            "onset": "(start + hop * frame) / sampling_rate",
            "centre": "(start + hop * frame + field / 2) / sampling_rate",
        },
        "warnings": _warnings(ready, signal),
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _named(ready: ReadyEncoder) -> dict[str, Any]:
    """What the layers are where numbers alone do not say it, and what the encoder does to a recording."""
    names, notes = ready.encoder.spec.layer_names, ready.encoder.spec.notes
    said = {"layer_names": [names[layer] for layer in ready.layers]} if names else {}
    return said | ({"encoder_notes": list(notes)} if notes else {})


def _warnings(ready: ReadyEncoder, signal: AnySignal) -> list[str]:
    """What to mind: simulated material first, then the model, how it runs, and the recording."""
    own = warnings_of(signal, ready.loaded.preprocessor)
    simulated = [warning for warning in own if warning in SIMULATED]
    rest = [warning for warning in own if warning not in SIMULATED]
    return [*simulated, *ready.loaded.warnings, *ready.choice.warnings, *rest]


def package_versions() -> dict[str, str]:
    """Versions of what can change a number."""
    versions = {"strata": core.__version__, "python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
