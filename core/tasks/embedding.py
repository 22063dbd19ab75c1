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
from core.audio.reader import probe
from core.audio.signal import Signal, open_signal
from core.checkpoints.find import find_model
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
from core.embed.team import Team
from core.embed.writers import check_target, write_embeddings
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

log = logging.getLogger(__name__)

# Packages whose version can change a number.
_VERSIONED = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "openvino", "soundfile", "av", "soxr")


def embed(
    source: Path | str, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress = ignore_progress
) -> EmbedResult:
    """Embed one recording and write the results.

    Args:
        source: An audio file of any common format.
        settings: Model, layers, device, windows.
        output: Folder, base name (default: the file's stem), formats.
        on_progress: Told of the stages ``read`` and ``embed`` in seconds of audio, then of the formats written.

    Raises:
        StrataError: anything that is wrong with the recording, the model, a setting or the output folder; nothing
            half-written is left.
    """
    source = Path(source)
    base = output.base or source.stem
    # Cheap refusals come before the model is loaded.
    check_target(output, base)
    probe(source)
    ready = ready_encoder(Source(find_model(settings.model)), settings, on_progress)
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
    items = list_inputs([Path(path) for path in inputs])
    check_corpus(output)
    Team()  # before the model: it gives each process of a launch a device of its own
    ready = ready_encoder(Source(find_model(settings.model)), settings, on_progress)

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


def embed_one(
    ready: ReadyEncoder, source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
) -> EmbedResult:
    """Embed one recording with an encoder that is ready."""
    began = monotonic()
    clock = ready.encoder.spec.clock
    with open_signal(source, clock.sampling_rate, settings.channel, settings.max_seconds, on_progress) as signal:
        windows = plan(ready.encoder.spec, signal.n_samples, settings, str(source))
        metadata = _metadata(ready, source, signal, settings, windows)
        metadata["settings_fingerprint"] = ready.fingerprint(settings, output)
        info = EmbeddingInfo(clock, ready.layers, windows.n_frames, ready.encoder.spec.dim, metadata)
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
    ready: ReadyEncoder, source: Path, signal: Signal, settings: EmbedSettings, windows: WindowPlan
) -> dict[str, Any]:
    """The facts of the JSON that are known before the first frame; see :func:`complete_metadata` for the rest."""
    clock, info = ready.encoder.spec.clock, signal.info
    return {
        "audio_path": str(source.absolute()),
        "model_name": ready.source.name,
        "model_path": str(ready.source.found.folder),
        "model_source": ready.source.found.where,
        "architecture": ready.loaded.architecture,
        "fine_tuned": ready.loaded.fine_tuned,
        "model_sha256": ready.loaded.sha256,
        "model_config_sha256": ready.loaded.config_sha256,
        "input_sha256": signal.sha256,
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
        "original_sample_rate": info.sampling_rate if info else signal.sampling_rate,
        "original_channels": info.n_channels if info else 1,
        "channel": settings.channel if settings.channel is not None else "mean of all",
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
        "warnings": [*ready.loaded.warnings, *ready.choice.warnings, *_silence(signal)],
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _named(ready: ReadyEncoder) -> dict[str, Any]:
    """What the layers are where numbers alone do not say it, and what the encoder does to a recording."""
    names, notes = ready.encoder.spec.layer_names, ready.encoder.spec.notes
    said = {"layer_names": [names[layer] for layer in ready.layers]} if names else {}
    return said | ({"encoder_notes": list(notes)} if notes else {})


def _silence(signal: Signal) -> list[str]:
    """A warning for digital silence, which two channels in opposite phase give as well."""
    if signal.peak > 0:
        return []
    return ["Every sample is zero after mixing down; if the file is not silent, take one channel with --channel."]


def package_versions() -> dict[str, str]:
    """Versions of what can change a number."""
    versions = {"strata": core.__version__, "python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
