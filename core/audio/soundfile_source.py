"""Reading through libsndfile: wav, flac, ogg, opus, mp3, aiff and their kin, told apart by content, never by suffix."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from core.audio.source import AudioInfo, truncated
from core.errors import DataError

# libsndfile states this or so many frames where a header leaves the length open.
_UNKNOWN_FRAMES = 2**62
# An MP3's length counts whole frames of up to 1,152 samples, give or take the encoder's padding.
_MP3_TOLERANCE = 2 * 1152
# Samples are lost with the piece in which a stream breaks: short pieces place the damage.
_PIECES_A_SECOND = 4


class SoundFileSource:
    """A file open in libsndfile, with an exact length."""

    def __init__(self, sound: soundfile.SoundFile, info: AudioInfo, n_samples: int) -> None:
        self.info = info
        self._sound = sound
        self._n_samples = n_samples

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield (n, n_channels) float32; raise DataError where the stream breaks or ends before its stated length."""
        done = 0
        while len(piece := self._read(done)):
            done += len(piece)
            yield piece
        tolerance = _MP3_TOLERANCE if self.info.container == "MP3" else 0
        if done + tolerance < self._n_samples:
            raise self._broken(done)

    def _read(self, done: int) -> np.ndarray:
        n = max(1, self.info.sampling_rate // _PIECES_A_SECOND)
        try:
            return self._sound.read(n, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._broken(done) from error

    def _broken(self, done: int) -> DataError:
        rate = self.info.sampling_rate
        return truncated(self.info.path, done / rate, f"its header states {self._n_samples / rate:.2f} s")

    def close(self) -> None:
        """Release libsndfile's part; the file itself belongs to the caller."""
        self._sound.close()


def open_with_soundfile(path: Path, file: BinaryIO) -> SoundFileSource | None:
    """Open ``file`` in libsndfile, or return None where it does not know the content or its length.

    An open file is handed over rather than the path: libsndfile takes some suffixes for a format of their own.
    """
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        return None
    if not _states_length(sound):
        sound.close()
        return None
    info = AudioInfo(
        path=path,
        container=sound.format,
        codec=sound.subtype,
        sampling_rate=sound.samplerate,
        n_channels=sound.channels,
        n_samples=sound.frames,
        duration_seconds=sound.frames / sound.samplerate,
        reader="soundfile",
    )
    return SoundFileSource(sound, info, sound.frames)


def _states_length(sound: soundfile.SoundFile) -> bool:
    """Refuse what FFmpeg reads better: wav and flac from a pipe that left their length at 0, and MP3 inside a wav."""
    guessed = sound.subtype.startswith("MPEG") and sound.format != "MP3"
    return 0 < sound.frames < _UNKNOWN_FRAMES and not guessed
