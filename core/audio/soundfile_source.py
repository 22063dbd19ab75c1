"""Reading through libsndfile: wav, flac, ogg, opus, mp3, aiff and their kin, told apart by content, never by suffix."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from core.audio.headers import missing_bytes, mp3_states_length
from core.audio.source import AudioInfo
from core.errors import DataError

# libsndfile states this or so many frames where a header leaves the length open.
_UNKNOWN_FRAMES = 2**62
# An MP3's length counts whole frames of up to 1,152 samples, give or take the encoder's padding.
_MP3_TOLERANCE = 2 * 1152


class SoundFileSource:
    """A file open in libsndfile."""

    def __init__(self, sound: soundfile.SoundFile, file: BinaryIO, info: AudioInfo) -> None:
        self.info = info
        self._sound = sound
        self._file = file

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """Yield (n, n_channels) float32; raise DataError where the stream breaks or ends before its stated length."""
        done = 0
        while True:
            try:
                block = self._sound.read(n, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise self._damaged(done) from error
            if not len(block):
                break
            done += len(block)
            yield block
        tolerance = _MP3_TOLERANCE if self.info.container == "MP3" else 0
        if self.info.n_samples is not None and done + tolerance < self.info.n_samples:
            raise self._damaged(done)

    def _damaged(self, done: int) -> DataError:
        stated = self.info.duration_seconds
        promise = "" if stated is None else f" of the {stated:.2f} s that its header states"
        return DataError(
            f"{self.info.path} is truncated or damaged at second {done / self.info.sampling_rate:.2f}{promise}. "
            "Copy it again from its source, or repair it with `ffmpeg -i broken repaired.wav`."
        )

    def close(self) -> None:
        """Release the file."""
        self._sound.close()
        self._file.close()


def open_with_soundfile(path: Path, file: BinaryIO) -> SoundFileSource | None:
    """Open ``file`` in libsndfile, or return None where it does not know the content (the other reader may).

    Raises:
        DataError: The header promises more sound than the file holds.
    """
    missing, mp3_exact = missing_bytes(file), mp3_states_length(file)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        return None
    if not _handles(sound):
        sound.close()
        return None
    if missing:
        raise _truncated(path, missing, sound)
    exact = sound.format != "MP3" or mp3_exact
    info = AudioInfo(
        path=path,
        container=sound.format,
        codec=sound.subtype,
        sampling_rate=sound.samplerate,
        n_channels=sound.channels,
        n_samples=sound.frames if exact else None,
        duration_seconds=sound.frames / sound.samplerate if exact else None,
        reader="soundfile",
    )
    return SoundFileSource(sound, file, info)


def _handles(sound: soundfile.SoundFile) -> bool:
    """Refuse lengths left open: libsndfile reads a wav of size 0 as empty and drops the tail of such a flac."""
    return 0 < sound.frames < _UNKNOWN_FRAMES


def _truncated(path: Path, missing: int, sound: soundfile.SoundFile) -> DataError:
    return DataError(
        f"{path} is truncated: its header promises at least {missing} bytes more than the file holds; "
        f"the sound ends at second {sound.frames / sound.samplerate:.2f}. Copy it again from its source, or keep what "
        "is there with `ffmpeg -i truncated kept.wav`."
    )
