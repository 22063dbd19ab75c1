"""A corpus of mono speech on disk: one int16 memory map and a table of clips.

Decoding thousands of compressed files once and reading crops from a memory map afterwards makes a batch cost
microseconds, and the table carries what a leak-proof split needs: who speaks in each clip.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from core.audio.resample import resample_blocks
from core.audio.signal import open_signal
from core.errors import InputError

SAMPLING_RATE = 16_000
INT16_SCALE = 32_767


@dataclass(frozen=True)
class Source:
    """One file to put into a corpus.

    Attributes:
        path: Of the file.
        corpus: It belongs to.
        group: The speaker or reader: groups are never split.
        speed: To play it at, as on a tape: faster is higher too, and shorter.
    """

    path: Path
    corpus: str
    group: str
    speed: float = 1.0

    @property
    def name(self) -> str:
        """Unique in its corpus."""
        return self.path.stem if self.speed == 1.0 else f"{self.path.stem}@{self.speed:g}"


@dataclass(frozen=True)
class Clip:
    """One file inside the memory map: samples [start, start + n_samples) at 16 kHz."""

    name: str
    corpus: str
    group: str
    sha256: str
    start: int
    n_samples: int
    speed: float = 1.0


@dataclass(frozen=True)
class Corpus:
    """All clips, and their samples one after the other as int16 of shape ``(time,)``."""

    clips: tuple[Clip, ...]
    audio: np.ndarray

    def samples(self, clip: Clip, start: int = 0, length: int | None = None) -> np.ndarray:
        """Float32 samples in [-1, 1] of shape ``(length,)``, from ``start`` samples into the clip."""
        stop = clip.n_samples if length is None else start + length
        return self.audio[clip.start + start : clip.start + stop].astype(np.float32) / INT16_SCALE

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted SHA-256 of the files: the same for the same data, whatever its order."""
        return hashlib.sha256("\n".join(sorted({clip.sha256 for clip in self.clips})).encode()).hexdigest()

    @property
    def recordings(self) -> list[Clip]:
        """The clips at their own speed."""
        return list(as_recorded(self.clips))

    def hours(self) -> float:
        """Length of all recordings, each once, in hours."""
        return sum(clip.n_samples for clip in self.recordings) / SAMPLING_RATE / 3600


def read_mono(path: Path, speed: float = 1.0) -> np.ndarray:
    """Read a file as float32 mono at 16 kHz, shape ``(time,)``, played at ``speed`` as on a tape."""
    with open_signal(path, SAMPLING_RATE) as signal:
        samples = signal.read(0, signal.n_samples)
    if speed == 1.0:
        return samples
    return np.concatenate(list(resample_blocks([samples], round(SAMPLING_RATE * speed), SAMPLING_RATE)))


def build_corpus(sources: Iterable[Source], folder: Path) -> Corpus:
    """Decode ``sources`` into ``folder`` and open the result; a folder that is complete is only opened.

    Raises:
        InputError: The folder holds other clips.
    """
    sources = list(sources)
    if not (folder / "clips.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        clips = _write_audio(sources, folder / "audio.int16")
        partial = folder / "clips.json.partial"
        partial.write_text(json.dumps([asdict(clip) for clip in clips]))
        partial.replace(folder / "clips.json")
    corpus = open_corpus(folder)
    wanted = [(source.corpus, source.name) for source in sources]
    if [(clip.corpus, clip.name) for clip in corpus.clips] != wanted:
        raise InputError(
            f"{folder} holds {len(corpus.clips)} clips that are not the {len(wanted)} of this recipe. Give another "
            "--work."
        )
    return corpus


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus that :func:`build_corpus` wrote."""
    clips = tuple(Clip(**entry) for entry in json.loads((folder / "clips.json").read_text()))
    return Corpus(clips, np.memmap(folder / "audio.int16", dtype=np.int16, mode="r"))


def _write_audio(sources: Iterable[Source], path: Path) -> list[Clip]:
    """Append every source to one raw file and return where each of them lies."""
    clips: list[Clip] = []
    position = 0
    with path.open("wb") as stream:
        for source in sources:
            samples = np.round(np.clip(read_mono(source.path, source.speed), -1, 1) * INT16_SCALE).astype(np.int16)
            digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
            clips.append(Clip(source.name, source.corpus, source.group, digest, position, len(samples), source.speed))
            stream.write(samples.tobytes())
            position += len(samples)
    return clips


def split_groups(corpus: Corpus, held_out: frozenset[tuple[str, str]]) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Split into training and validation clips by whole ``(corpus, group)`` pairs."""
    train = tuple(clip for clip in corpus.clips if (clip.corpus, clip.group) not in held_out)
    held = tuple(clip for clip in corpus.clips if (clip.corpus, clip.group) in held_out)
    return train, held


def as_recorded(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Those at their own speed."""
    return tuple(clip for clip in clips if clip.speed == 1.0)


def joined(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Make one clip of all that lie one after the other and are of one voice at one speed.

    Short utterances become stretches that a longer crop fits into.
    """
    stretches: list[Clip] = []
    for clip in sorted(clips, key=lambda one: one.start):
        last = stretches[-1] if stretches else None
        if last and last.start + last.n_samples == clip.start and _voice(last) == _voice(clip):
            stretches[-1] = replace(last, n_samples=last.n_samples + clip.n_samples)
        else:
            stretches.append(clip)
    return tuple(stretches)


def _voice(clip: Clip) -> tuple[str, str, float]:
    return clip.corpus, clip.group, clip.speed
