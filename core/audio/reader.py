"""Read any recording as a stream of mono blocks at its own sampling rate.

libsndfile reads what it knows (wav of every width, flac, ogg, opus, mp3, aiff), FFmpeg through PyAV the rest (m4a, aac,
mp4, webm); the content decides, never the suffix. Memory does not depend on the length.
"""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.audio.headers import Header, examine
from core.audio.source import AudioInfo, Source, regroup, truncated
from core.errors import DataError, InputError

__all__ = ["AudioInfo", "mono_blocks", "open_source", "probe", "read_blocks"]

# Ogg counts the samples of Opus at this rate, whatever the recording's own (RFC 7845).
_OPUS_RATE = 48000
KNOWN_FORMATS = "wav, flac, ogg, opus, mp3, aiff, m4a, aac, mp4 or webm"


def probe(path: Path | str) -> AudioInfo:
    """Read what a file says about its audio, without decoding it.

    Raises:
        InputError: The path is missing, a folder, or not readable.
        DataError: The file is empty, no audio, without an audio track, or shorter than its header says.
    """
    with open_source(Path(path)) as source:
        return source.info


def read_blocks(path: Path | str, channel: int | None = None, block_seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Yield a recording as (n,) float32 mono blocks at the file's own rate; only the last may be shorter.

    Args:
        path: The file.
        channel: Channel to take, counted from 1; None takes the mean over channels.
        block_seconds: Length of a block in seconds; memory grows with it.

    Raises:
        InputError: The path cannot be opened, or the channel or block length cannot be met.
        DataError: The content is no audio, is truncated or damaged, or holds NaN or infinite samples.
    """
    with open_source(Path(path)) as source:
        yield from mono_blocks(source, channel, block_seconds)


def mono_blocks(source: Source, channel: int | None = None, block_seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Do as :func:`read_blocks` for a source that is open already."""
    if not block_seconds > 0:
        raise InputError(f"Got blocks of {block_seconds} s; expected a length above 0.")
    _require_channel(source.info, channel)
    yield from regroup(_mono_pieces(source, channel), max(1, round(block_seconds * source.info.sampling_rate)))


def _mono_pieces(source: Source, channel: int | None) -> Iterator[np.ndarray]:
    done = 0
    for piece in source.pieces():
        mono = _mix(piece, channel)
        _require_finite(mono, done, source.info)
        done += len(mono)
        yield mono


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a recording in the reader that knows it; errors as :func:`probe`."""
    with _open_file(path) as file:
        header = examine(file)
        source = _open_in_reader(path, file, header)
        try:
            if header.fault:
                raise _faulty(path, header, source)
            if source is None:
                raise DataError(f"{path} is not audio that can be read. Expected {KNOWN_FORMATS}, whatever the suffix.")
            yield source
        finally:
            if source is not None:
                source.close()


def _open_in_reader(path: Path, file: BinaryIO, header: Header) -> Source | None:
    from core.audio.soundfile_source import open_with_soundfile

    source: Source | None = open_with_soundfile(path, file) if header.exact else None
    if source is None:
        # FFmpeg costs 0.1 s to load, and most recordings never need it.
        from core.audio.pyav_source import open_with_pyav

        try:
            source = open_with_pyav(path, file)
        except DataError:
            # A track that is not found for want of an index is told as the missing index.
            if header.fault is None:
                raise
    return source


def _faulty(path: Path, header: Header, source: Source | None) -> DataError:
    info = None if source is None else source.info
    if info is not None and header.position is not None:
        rate = _OPUS_RATE if info.codec.lower() == "opus" else info.sampling_rate
        return truncated(path, header.position / rate, str(header.fault))
    if info is not None and info.n_samples is not None:
        # libsndfile counts the samples that are there, whatever the header promises.
        return truncated(path, info.n_samples / info.sampling_rate, str(header.fault))
    return DataError(f"{path} is truncated or damaged: {header.fault}. Copy it again from its source.")


class _NamelessFile(io.BufferedReader):
    """A file without a name, so that neither reader can judge it by its suffix (a ``.raw`` would count as raw PCM)."""

    name = ""


def _open_file(path: Path) -> BinaryIO:
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise InputError(f"{path} is a folder; expected an audio file. Name a file inside it.")
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{path} is a device or a pipe; expected an audio file. Save the sound to a file first.")
        if state.st_size == 0:
            raise DataError(f"{path} is empty (0 bytes); expected {KNOWN_FORMATS}. Copy it again from its source.")
        return _NamelessFile(io.FileIO(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the spelling, and the folder you started in.") from error
    except PermissionError as error:
        raise InputError(
            f"{path} cannot be read: permission denied. Allow reading with `chmod u+r`, or copy it."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened: {error}. Check the path.") from error


def _require_channel(info: AudioInfo, channel: int | None) -> None:
    if channel is not None and not 1 <= channel <= info.n_channels:
        raise InputError(
            f"Got channel {channel}, but {info.path} has {info.n_channels}, counted from 1. "
            f"Choose 1 to {info.n_channels}, or no channel for their mean."
        )


def _mix(piece: np.ndarray, channel: int | None) -> np.ndarray:
    """Turn (n, n_channels) into (n,) float32."""
    if channel is not None or piece.shape[1] == 1:
        return np.ascontiguousarray(piece[:, (channel or 1) - 1])
    return piece.mean(axis=1, dtype=np.float64).astype(np.float32)


def _require_finite(mono: np.ndarray, done: int, info: AudioInfo) -> None:
    bad = ~np.isfinite(mono)
    if bad.any():
        first = done + int(bad.argmax())
        raise DataError(
            f"{info.path} holds a sample that is not a number ({mono[bad.argmax()]}) at second "
            f"{first / info.sampling_rate:.4f} (sample {first}). Export the recording again, or cut that part out."
        )
