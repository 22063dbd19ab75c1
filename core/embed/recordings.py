"""What a recording is, sound or MEG: which of the two, its hash, and opened as a model takes it.

Everything that differs between the modalities before an encoder runs is decided here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from core.arrays import EmbedSettings, OnProgress, ignore_progress
from core.audio.reader import AudioInfo, probe
from core.audio.signal import Signal, hash_file, open_signal
from core.errors import CheckpointError, InputError
from core.meg import parts
from core.meg.reader import is_meg
from core.models.model_input import from_preprocessor
from core.sensors import ModelInput

if TYPE_CHECKING:
    from core.embed.encoder import EncoderSpec
    from core.meg.signal import MegSignal

AnySignal: TypeAlias = "Signal | MegSignal"
"""A recording as a model takes it: mono samples, or (channels, samples)."""

AUDIO, MEG = "audio", "meg"
# Suffixes taken for recordings inside a folder; a file that is named is read whatever it is called.
AUDIO_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "m4a", "m4b", "aac", "mp4", "webm", "weba", "mka"),
        *("aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64", "wma", "amr", "3gp"),
    )
)
TAKES = {AUDIO: "sound", MEG: "MEG (.fif, CTF .ds, KIT .con or .sqd, BTi, .npy)"}
"""What models of each modality take, in words."""

SIMULATED = ("The model was trained on simulated recordings.", "The recording is simulated.")
"""Warnings that stand first wherever they apply."""


@dataclass(frozen=True)
class MegInfo:
    """What a MEG file says about itself: its kind, seconds, Hz, and how many MEG channels it has."""

    format: str
    duration_seconds: float
    sampling_rate: float
    n_channels: int


RecordingInfo: TypeAlias = AudioInfo | MegInfo


def probe_recording(path: Path, numpy_rate: float | None = None) -> RecordingInfo:
    """Read what a recording says about itself, without its samples.

    Raises:
        StrataError: it cannot be read.
    """
    if modality_of(path) == AUDIO:
        return probe(path)
    from core.meg.reader import open_raw

    file = open_raw(path, numpy_rate)
    rate = float(file.raw.info["sfreq"])
    return MegInfo(file.format, file.raw.n_times / rate, rate, len(file.sensors))


def modality_of(path: Path) -> str:
    """Tell by name whether a recording is ``meg`` or, like everything else, ``audio``."""
    # Of a file without a known suffix its neighbours are looked at: too slow for every sound of a large folder.
    return AUDIO if path.suffix.lower() in AUDIO_SUFFIXES or not is_meg(path) else MEG


def require_modality(path: Path, modality: str, model: str) -> None:
    """Refuse a recording of the other modality, before anything is loaded.

    Raises:
        InputError: it is one.
    """
    if modality_of(path) == modality:
        return
    got = "a MEG recording" if modality == AUDIO else "no MEG recording"
    raise InputError(
        f"{path} is {got}, and {model} takes {TAKES[modality]}. Choose another model or another recording."
    )


def check_settings(modality: str, settings: EmbedSettings) -> None:
    """Refuse models that do not take recordings as they are, and settings that only mean something for sound.

    Raises:
        InputError: a model of recording sites, or a channel or a loudness for MEG.
    """
    if modality not in TAKES:
        raise InputError(
            "A model of recording sites takes grids of several sites, not a recording as it is. Use python -m core "
            "sites similarity or sites compare, or another model."
        )
    if modality == MEG and settings.channel is not None:
        raise InputError(f"Got --channel {settings.channel}; a MEG model takes all its sensors. Leave it out.")
    if modality == MEG and settings.loudness != "keep":
        raise InputError(f"Got --loudness {settings.loudness}; it is for sound only. Leave it out.")


def check_readable(path: Path) -> None:
    """Refuse cheaply what cannot be read; of MEG only that it is there, because opening takes MNE.

    Raises:
        StrataError: see :func:`core.audio.reader.probe`.
    """
    if modality_of(path) == AUDIO:
        probe(path)
    elif not path.exists():
        raise InputError(f"{path} does not exist. Check the spelling, and the folder you started in.")


def hash_recording(path: Path) -> str:
    """SHA-256 of a recording's content, all its files: what tells whether it is the same, whatever it is called.

    Raises:
        OSError: it cannot be read.
    """
    return parts.hash_recording(path) if modality_of(path) == MEG else hash_file(path)


def size_of(path: Path) -> int:
    """Bytes of a recording, all its files; see :func:`hash_recording`."""
    return parts.size_of(path) if modality_of(path) == MEG else path.stat().st_size


def is_unchanged(path: Path, sha256: str | None) -> bool:
    """Whether a recording still has the content of that hash; what cannot be read has not."""
    try:
        return hash_recording(path) == sha256
    except OSError:
        return False


def read_model_input(folder: Path) -> ModelInput:
    """Read how the MEG model in a folder wants its recordings, without loading it.

    Raises:
        StrataError: the folder does not say.
    """
    path = folder / "preprocessor_config.json"
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Restore it from where the model came from.") from error
    return from_preprocessor(content)


def open_for(
    path: Path, spec: "EncoderSpec", preprocessor: Mapping[str, Any], settings: EmbedSettings, on_progress: OnProgress
) -> AnySignal:
    """Open a recording as an encoder takes it; use the result in a ``with``.

    Args:
        path: The recording.
        spec: Of the encoder: modality and clock.
        preprocessor: Content of the model's ``preprocessor_config.json``; used for MEG.
        settings: Channel and rate of the recording, and the longest one accepted.
        on_progress: Told of the stage ``read``.

    Raises:
        StrataError: the recording cannot be read, or is not what the model takes.
    """
    require_modality(path, spec.modality, spec.name)
    check_settings(spec.modality, settings)
    if spec.modality == AUDIO:
        return open_signal(path, spec.clock.sampling_rate, settings.channel, settings.max_seconds, on_progress)
    return open_model_input(path, from_preprocessor(preprocessor), settings, on_progress)


def open_model_input(
    path: Path, wanted: ModelInput, settings: EmbedSettings, on_progress: OnProgress = ignore_progress
) -> "MegSignal":
    """Open a MEG recording prepared as a model wants it; use the result in a ``with``."""
    from core.meg.signal import open_meg

    return open_meg(path, wanted, on_progress, settings.max_seconds, settings.numpy_rate)


def facts_of(path: Path, signal: AnySignal, settings: EmbedSettings) -> dict[str, Any]:
    """What the metadata say of the recording itself: where it is, its hash, and what was taken of it."""
    shared = {"recording_path": str(path.absolute()), "modality": modality_of(path)}
    if isinstance(signal, Signal):
        info, channel = signal.info, settings.channel
        return shared | {
            "input_sha256": signal.sha256,
            "original_sample_rate": info.sampling_rate if info else signal.sampling_rate,
            "original_channels": info.n_channels if info else 1,
            "channel": "mean of all" if channel is None else channel,
        }
    return shared | {
        "input_sha256": signal.sha256,
        "sensors": list(signal.sensors.names),
        "numpy_rate": settings.numpy_rate,
        "annotations": [[span.onset, span.duration, span.label] for span in signal.labels],
        **signal.facts,
    }


def warnings_of(signal: AnySignal, preprocessor: Mapping[str, Any]) -> list[str]:
    """What to mind of a recording: that it or the model is simulated comes first."""
    if isinstance(signal, Signal):
        return _silence(signal)
    said = preprocessor.get("simulated"), signal.facts.get("simulated")
    simulated = [warning for warning, is_so in zip(SIMULATED, said, strict=True) if is_so]
    return [*simulated, *(warning for warning in signal.warnings if warning not in SIMULATED)]


def _silence(signal: Signal) -> list[str]:
    """A warning for digital silence, which two channels in opposite phase give as well."""
    if signal.peak > 0:
        return []
    return ["Every sample is zero after mixing down; if the file is not silent, take one channel with --channel."]
