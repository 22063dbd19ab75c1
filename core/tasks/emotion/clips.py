"""Features of labelled clips, computed once: kept by content, stretch, model and settings.

A clip's features are small (a few vectors a layer), so a corpus is read again in a fraction of a second. Clips of one
recording are cut from one decoding of it.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.audio.signal import Signal, hash_file, open_signal
from core.embed.pipeline import plan, stream_states
from core.errors import DataError, OutputError, StrataError
from core.figures.names import file_label
from core.scoring import Clip, LabelledCorpus
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

SUMMED_UP = ("mean", "std", "max", "attention")
"""What is kept of each clip's frames, in this order; every pooling without weights of its own is made of these."""

KEPT_VERSION = 1
"""Of what the files hold: a change gives other names."""

NAMED = 5
"""Files that an error names."""


@dataclass(frozen=True)
class HashedClip:
    """A clip with the hash of its recording's bytes."""

    clip: Clip
    sha256: str


@dataclass(frozen=True)
class ClipFeatures:
    """What was computed of clips.

    Attributes:
        clips: Those that have features.
        arrays: Of each of them, as the extractor returned them.
        failures: ``{"file", "error"}`` for each clip that has none.
        n_computed: Clips computed now; the others lay there.
        seconds: Wall time of those.
    """

    clips: tuple[HashedClip, ...]
    arrays: tuple[Arrays, ...]
    failures: tuple[dict[str, str], ...]
    n_computed: int
    seconds: float


class Extractor(Protocol):
    """What turns the sound of a clip into arrays."""

    name: str
    key: str

    @property
    def sampling_rate(self) -> int:
        """Hz of the signal it wants."""

    def __call__(self, signal: Signal, what: str) -> Arrays:
        """Compute; ``what`` names the clip in errors."""


# ------------------------------------------------------------------------------------------------ the same clip twice


def hash_clips(corpus: LabelledCorpus) -> tuple[list[HashedClip], list[str], list[dict[str, str]]]:
    """Hash every recording once, and leave out clips whose sound came before under another name.

    A clip that counts twice may stand on both sides of a split.

    Returns:
        Clips, a sentence for each that was left out, and the files that cannot be read.

    Raises:
        DataError: the same sound has two classes or two speakers.
    """
    hashes: dict[Path, str] = {}
    first: dict[tuple[str, float | None, float | None], Clip] = {}
    kept, notes, failures = [], [], []
    for clip in corpus.clips:
        try:
            sha = hashes[clip.source] if clip.source in hashes else hash_file(clip.source)
        except OSError as error:
            failures.append({"file": str(clip.source), "error": f"cannot be read: {error.strerror}"})
            continue
        hashes[clip.source] = sha
        before = first.setdefault((sha, clip.start, clip.stop), clip)
        if before is clip:
            kept.append(HashedClip(clip, sha))
            continue
        _refuse_contradiction(before, clip)
        notes.append(f"{clip.name} holds the same sound as {before.name}; it counts once.")
    return kept, notes, failures


def _refuse_contradiction(first: Clip, second: Clip) -> None:
    if (first.label, first.speaker) != (second.label, second.speaker):
        raise DataError(
            f"{first.source} ({first.label}, speaker {first.speaker}) and {second.source} ({second.label}, speaker "
            f"{second.speaker}) hold the same sound. Correct the labels, or leave one of them out."
        )


# ------------------------------------------------------------------------------------------------------- extractors


class EncoderExtractor:
    """Pooled states of all layers of an encoder, or all of their frames; the model loads when the first clip needs it.

    Args:
        source: Where the encoder's weights lie.
        settings: How it runs; all layers are taken.
        frames: Whether to return every frame as well.
    """

    def __init__(
        self, source: Source, settings: EmbedSettings, frames: bool = False, on_progress: OnProgress = ignore_progress
    ) -> None:
        self.source, self.frames, self.on_progress = source, frames, on_progress
        self.settings = replace(settings, layers="all")
        self.name = source.name
        decides = {k: v for k, v in asdict(self.settings).items() if k not in ("model", "max_seconds")}
        self.key = json.dumps([source.model_hash(), decides, frames], sort_keys=True)

    def ready(self) -> ReadyEncoder:
        """The encoder, loaded."""
        return ready_encoder(self.source, self.settings, self.on_progress)

    @property
    def sampling_rate(self) -> int:
        """See :class:`Extractor`."""
        return self.ready().encoder.spec.clock.sampling_rate

    def __call__(self, signal: Signal, what: str) -> Arrays:
        """Return ``pooled`` (n_layers, 4, dim): mean, std, max and attention; and ``frames`` where asked for."""
        from core.emotion.pooling import Pool

        ready, pool, kept = self.ready(), Pool(), []
        windows = plan(ready.encoder.spec, signal.n_samples, self.settings, what)
        for block in stream_states(ready.encoder, ready.runners, signal, windows, ignore_progress):
            pool.add(block)
            if self.frames:
                kept.append(block)
        pooled = np.stack([pool.result(name) for name in SUMMED_UP], axis=1).astype(np.float32)
        if not np.isfinite(pooled).all():
            raise DataError(f"{what}: {self.name} gives values that are not finite. Use --precision fp32.")
        found: Arrays = {"pooled": pooled, "layers": np.asarray(ready.layers)}
        return found | ({"frames": np.concatenate(kept, axis=1)} if self.frames else {})


class BaselineExtractor:
    """Statistics of the spectrogram: what needs no model."""

    def __init__(self, kind: str) -> None:
        from core.emotion.baseline import baseline

        self._baseline = baseline(kind)
        self.name, self.key = self._baseline.name, self._baseline.key
        self.sampling_rate: int = self._baseline.sampling_rate

    def __call__(self, signal: Signal, what: str) -> Arrays:
        """Return ``pooled`` (1, 1, dim)."""
        return {"pooled": self._baseline(signal)[None], "layers": np.zeros(1, dtype=np.int64)}


# ------------------------------------------------------------------------------------------------------------ corpus


def clip_features(
    clips: Sequence[HashedClip], extractor: Extractor, folder: Path, on_progress: OnProgress
) -> ClipFeatures:
    """Read the features that lie in ``folder``, and compute and keep the others.

    Raises:
        StrataError: the model cannot be loaded, the folder cannot be written, or no clip can be used.
    """
    folder = folder / file_label(extractor.name)
    found = {number: _read(_path(folder, clip, extractor.key)) for number, clip in enumerate(clips)}
    missing = [number for number, arrays in found.items() if arrays is None]
    if len(missing) < len(clips):
        log.info("Features of %d clips are there already, in %s", len(clips) - len(missing), folder)
    began, failures = perf_counter(), list[dict[str, str]]()
    for done, (number, outcome) in enumerate(computed(clips, missing, extractor)):
        on_progress(Progress(f"embed with {extractor.name}", done, len(missing), "clips"))
        if isinstance(outcome, StrataError):
            failures.append({"file": str(clips[number].clip.source), "error": str(outcome)})
            continue
        _write(_path(folder, clips[number], extractor.key), outcome)
        found[number] = outcome
    if missing:
        on_progress(Progress(f"embed with {extractor.name}", len(missing), len(missing), "clips"))
    usable = [(clip, kept) for number, clip in enumerate(clips) if (kept := found[number]) is not None]
    if not usable:
        raise DataError(f"No clip could be used. {listed(failures)}")
    return ClipFeatures(
        tuple(clip for clip, _ in usable),
        tuple(kept for _, kept in usable),
        tuple(failures),
        len(missing) - len(failures),
        perf_counter() - began,
    )


def listed(failures: Sequence[dict[str, str]]) -> str:
    """Name the first few files that failed, and say how many more there are."""
    named = "; ".join(f"{failure['file']}: {failure['error']}" for failure in failures[:NAMED])
    more = len(failures) - NAMED
    return named + (f"; and {more} more" if more > 0 else "")


def computed(
    clips: Sequence[HashedClip], numbers: Sequence[int], extractor: Extractor
) -> Iterator[tuple[int, Arrays | StrataError]]:
    """Compute the clips of these numbers one by one; those of one recording from one decoding of it."""
    rate = extractor.sampling_rate if numbers else 0
    channel = getattr(getattr(extractor, "settings", None), "channel", None)
    limit = getattr(getattr(extractor, "settings", None), "max_seconds", None)
    for source, group in groupby(numbers, key=lambda number: clips[number].clip.source):
        try:
            signal = open_signal(source, rate, channel, limit)
        except StrataError as error:
            yield from ((number, error) for number in group)
            continue
        with signal:
            for number in group:
                yield number, _outcome(signal, clips[number].clip, extractor)


def _outcome(signal: Signal, clip: Clip, extractor: Extractor) -> Arrays | StrataError:
    try:
        if clip.start is None and clip.stop is None:
            return _extracted(signal, clip.name, extractor)
        with cut(signal, clip) as part:
            return _extracted(part, clip.name, extractor)
    except StrataError as error:
        return error


def _extracted(signal: Signal, what: str, extractor: Extractor) -> Arrays:
    if signal.peak == 0:
        raise DataError("Every sample is zero: silence has no emotion.")
    return extractor(signal, what) | {"facts": np.array([signal.duration_seconds, signal.std, signal.peak])}


def cut(signal: Signal, clip: Clip) -> Signal:
    """Cut a clip out of its recording, as a signal of its own to close.

    Raises:
        DataError: the clip begins after the recording's end, or ends more than a tenth of a second after it.
    """
    rate, n = signal.sampling_rate, signal.n_samples
    start, stop = round((clip.start or 0.0) * rate), n if clip.stop is None else round(clip.stop * rate)
    if not start < min(stop, n) or stop > n + rate // 10:
        raise DataError(
            f"The clip from {start / rate:g} to {stop / rate:g} s lies outside of the recording, which is "
            f"{n / rate:g} s long. Correct start and end."
        )
    return Signal.from_array(signal.read(start, min(stop, n)), rate)


# --------------------------------------------------------------------------------------------------------- on disk


def _path(folder: Path, hashed: HashedClip, key: str) -> Path:
    decides = [KEPT_VERSION, hashed.sha256, hashed.clip.start, hashed.clip.stop, key]
    return folder / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> Arrays | None:
    """Read what an earlier run kept; None where there is nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception as error:  # zipfile has errors of its own for a damaged file
        log.debug("%s is computed again: %s", path, error)
        return None


def _write(path: Path, arrays: Arrays) -> None:
    """Write under a temporary name and rename: what has the final name is whole."""
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        Path(partial).replace(path)
    except OSError as error:
        if partial is not None:
            with suppress(OSError):
                Path(partial).unlink()
        raise OutputError(
            f"Features cannot be kept in {path.parent}: {error.strerror}. Free space, or name another --features-dir."
        ) from error
