"""Features of labelled clips, computed once: kept by content, stretch, model and settings.

A clip's features are small (a few vectors a layer), so a corpus is read again in a fraction of a second. Clips of one
recording are cut from one decoding of it.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.audio.signal import Signal, hash_file, open_signal
from core.embed.corpus import settings_fingerprint
from core.embed.pipeline import plan, stream_states
from core.errors import DataError, OutputError, StrataError
from core.figures.names import file_label
from core.scoring import Clip, LabelledCorpus
from core.tasks.emotion.running import check_chosen
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

SUMMED_UP = ("mean", "std", "max", "attention")
"""What is kept of each clip's frames, in this order; every pooling without weights of its own is made of these."""

KEPT_VERSION = 2
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
        arrays: Of each of them, as the extractor returned them, with ``facts`` (duration in seconds, standard
            deviation, peak) and ``seconds``, the wall time of decoding and computing it.
        failures: ``{"file", "error"}`` for each clip that has none.
        n_computed: Clips computed now; the others lay there.
    """

    clips: tuple[HashedClip, ...]
    arrays: tuple[Arrays, ...]
    failures: tuple[dict[str, str], ...]
    n_computed: int


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
        on_progress: Told of the model while it loads.
        running: The settings with what ``auto`` comes to here, see :func:`core.tasks.emotion.running.chosen`; features
            are kept under these. None where nothing is kept.
    """

    def __init__(
        self,
        source: Source,
        settings: EmbedSettings,
        frames: bool = False,
        on_progress: OnProgress = ignore_progress,
        running: EmbedSettings | None = None,
    ) -> None:
        self.source, self.frames, self.on_progress = source, frames, on_progress
        self.settings = replace(settings, layers="all")
        self.name = source.name
        self._running = running
        decides = replace(running or settings, model="", layers="all")
        self.key = json.dumps([settings_fingerprint(decides, (), source.model_hash()), frames])

    def ready(self) -> ReadyEncoder:
        """The encoder, loaded.

        Raises:
            StrataError: it cannot be loaded, or runs otherwise than its features were kept.
        """
        ready = ready_encoder(self.source, self.settings, self.on_progress)
        if self._running is not None:
            check_chosen(ready, self._running)
        return ready

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
    clips: Sequence[HashedClip],
    extractor: Extractor,
    folder: Path,
    on_progress: OnProgress,
    take: Callable[[Arrays], Arrays] = lambda arrays: arrays,
) -> ClipFeatures:
    """Read the features that lie in ``folder``, and compute and keep the others.

    Args:
        clips: What is asked for.
        extractor: Computes what is not there.
        folder: Keeps all that is computed.
        on_progress: Told of the clips that are computed.
        take: What is held in memory of a clip's arrays.

    Raises:
        StrataError: the model cannot be loaded, the folder cannot be written, or no clip can be used.
    """
    folder, key = folder / file_label(extractor.name), extractor.key
    found = {number: _taken(_path(folder, clip, key), take) for number, clip in enumerate(clips)}
    missing = [number for number, arrays in found.items() if arrays is None]
    if len(missing) < len(clips):
        log.info("Features of %d clips are there already, in %s", len(clips) - len(missing), folder)
    failures = list[dict[str, str]]()
    for done, (number, outcome) in enumerate(computed(clips, missing, extractor)):
        on_progress(Progress(f"embed with {extractor.name}", done, len(missing), "clips"))
        if isinstance(outcome, StrataError):
            failures.append({"file": str(clips[number].clip.source), "error": str(outcome)})
            continue
        _write(_path(folder, clips[number], key), outcome)
        found[number] = take(outcome)
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
    )


def _taken(path: Path, take: Callable[[Arrays], Arrays]) -> Arrays | None:
    arrays = _read(path)
    return None if arrays is None else take(arrays)


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
    for source, grouped in groupby(numbers, key=lambda number: clips[number].clip.source):
        group, began = list(grouped), perf_counter()
        try:
            signal = open_signal(source, rate, channel, limit)
        except StrataError as error:
            yield from ((number, error) for number in group)
            continue
        decoding = (perf_counter() - began) / len(group)  # each clip of a recording has its share
        with signal:
            for number in group:
                yield number, _outcome(signal, clips[number].clip, extractor, decoding)


def _outcome(signal: Signal, clip: Clip, extractor: Extractor, decoding: float) -> Arrays | StrataError:
    began = perf_counter()
    try:
        if clip.start is None and clip.stop is None:
            found = _extracted(signal, clip.name, extractor)
        else:
            with cut(signal, clip) as part:
                found = _extracted(part, clip.name, extractor)
    except StrataError as error:
        return error
    return found | {"seconds": np.array(decoding + perf_counter() - began)}


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
