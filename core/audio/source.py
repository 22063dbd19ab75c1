"""What the two readers share: facts about a file, and a stream of its samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from core.errors import DataError


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about its audio, before any sample is decoded.

    Attributes:
        path: The file.
        container: Container or file format, such as ``WAV``, ``FLAC``, ``OGG`` or ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: Sample format or codec inside, such as ``PCM_16``, ``OPUS`` or ``aac``.
        sampling_rate: Samples a second, of each channel.
        n_channels: Channels in the file.
        n_samples: Samples of each channel; None where the file does not state them exactly.
        duration_seconds: Stated duration; None where the file states none.
        reader: ``soundfile`` or ``pyav``.
    """

    path: Path
    container: str
    codec: str
    sampling_rate: int
    n_channels: int
    n_samples: int | None
    duration_seconds: float | None
    reader: str


class Source(Protocol):
    """An open file that yields its samples once, from the beginning."""

    info: AudioInfo

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield (n, n_channels) float32 in [-1, 1], n as it comes and short (a quarter of a second, or a packet).

        Raises:
            DataError: The stream breaks, jumps, or ends before its stated end.
        """
        ...

    def close(self) -> None:
        """Release the reader; the file itself belongs to whoever opened it."""
        ...


def truncated(path: Path, second: float, reason: str) -> DataError:
    """Make the error for sound that ends or breaks before its time."""
    return DataError(
        f"{path} is truncated or damaged at second {second:.2f}: {reason}. Copy it again from its source, or keep what "
        "can be decoded with `ffmpeg -i INPUT kept.wav`."
    )


def regroup(pieces: Iterable[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Cut a stream of arrays of any lengths into arrays of ``n`` along the first axis; the last may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= n:
            joined = np.concatenate(held)
            whole = count - count % n
            yield from (joined[start : start + n] for start in range(0, whole, n))
            held, count = [joined[whole:].copy()], count - whole
    if count:
        yield np.concatenate(held)
