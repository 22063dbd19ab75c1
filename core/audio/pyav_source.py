"""Reading through FFmpeg (PyAV): m4a, aac, mp4, webm, mkv and what else libsndfile does not know.

FFmpeg's own rules for encoder delay and edit lists apply, as in the ``ffmpeg`` program; the samples keep their rate and
channels. Sample 0 is the first decoded sample: a track that starts later than its video is not padded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from core.audio.source import AudioInfo, truncated
from core.errors import DataError

# Playlists and concatenation scripts name other files and addresses, which FFmpeg would open for whoever wrote them.
# Only formats that hold their own sound are let in.
_FORMATS = (
    "mov,mp4,m4a,matroska,webm,aac,adts,mp3,flac,ogg,wav,w64,aiff,caf,au,avi,flv,asf,mpegts,mpeg,ac3,eac3,amr,amrnb,amrwb,"
    "ape,wv,tta,dsf,mpc,mpc8,loas,latm,dts,dtshd,truehd,voc,gsm,3gp"
)
# Their headers state a duration; elsewhere FFmpeg guesses it from the bit rate.
_STATING = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf"}
# A stated duration covers whole packets and the longest track; a cut of less than this is not told apart.
_END_TOLERANCE_SECONDS = 0.25
# Time stamps jitter by a packet or two. A longer hole would shift every later sample to too early a time.
_GAP_TOLERANCE_SECONDS = 0.25

_TAGS = (b"ID3", b"TAG", b"APETAGEX")


class PyAvSource:
    """A file open in FFmpeg, at the audio track that the ``ffmpeg`` program would take."""

    def __init__(self, container: InputContainer, stream: AudioStream, path: Path) -> None:
        self._container = container
        self._stream = stream
        self._states_duration = container.format.name in _STATING
        self._reached = 0.0
        self._done = 0
        self._next_time: float | None = None
        self.info = _describe(container, stream, path)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield (n, n_channels) float32; raise DataError where the stream breaks, jumps or ends too early."""
        resampler = av.AudioResampler(format="fltp")
        for frame in self._frames():
            self._require_continuous(frame)
            try:
                pieces = resampler.resample(frame)
            except ValueError as error:
                raise self._broken(f"its sample format or channel layout changes there ({error})") from error
            for piece in pieces:
                self._done += piece.samples
                yield piece.to_ndarray().T
        self._require_end()

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decode; in an MP3 tags between joined recordings, and anything behind the last frame, are no fault."""
        broken: DataError | None = None
        try:
            for packet in self._packets():
                try:
                    frames = self._stream.decode(packet)
                except av.FFmpegError as error:
                    if self.info.codec != "mp3":
                        raise
                    if not bytes(packet).startswith(_TAGS):
                        broken = broken or self._broken(str(error.strerror))
                    continue
                if frames and broken:
                    raise broken
                yield from frames
        except av.FFmpegError as error:
            raise self._broken(str(error.strerror)) from error

    def _packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the audio track, and note how far any track reaches."""
        for packet in self._container.demux():
            if packet.is_corrupt and self._states_duration:
                raise self._broken("a packet is incomplete")
            if packet.pts is not None:
                self._reached = max(self._reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is self._stream:
                yield packet

    def _require_continuous(self, frame: av.AudioFrame) -> None:
        if (frame.sample_rate, len(frame.layout.channels)) != (self.info.sampling_rate, self.info.n_channels):
            raise self._broken(f"it changes to {frame.sample_rate} Hz and {len(frame.layout.channels)} channels there")
        if frame.time is None:
            return
        gap = 0.0 if self._next_time is None else frame.time - self._next_time
        if gap > _GAP_TOLERANCE_SECONDS:
            raise self._broken(
                f"{gap:.2f} s of sound are missing there (`ffmpeg -af aresample=async=1` fills in silence)"
            )
        self._next_time = frame.time + frame.samples / frame.sample_rate

    def _require_end(self) -> None:
        if self._states_duration and self._container.duration is not None:
            stated = ((self._container.start_time or 0) + self._container.duration) / av.time_base
            if self._reached + _END_TOLERANCE_SECONDS < stated:
                raise self._broken(f"its header states {stated:.2f} s")

    def _broken(self, reason: str) -> DataError:
        return truncated(self.info.path, self._done / self.info.sampling_rate, reason)

    def close(self) -> None:
        """Release FFmpeg's part; the file itself belongs to the caller."""
        self._container.close()


def open_with_pyav(path: Path, file: BinaryIO) -> PyAvSource | None:
    """Open ``file`` in FFmpeg, or return None where it does not know the content.

    Raises:
        DataError: The file is media, but without an audio track that can be decoded.
    """
    file.seek(0)
    try:
        container = av.open(file, mode="r", options={"format_whitelist": _FORMATS})
    except av.FFmpegError:
        return None
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        container.close()
        raise DataError(
            f"{path} ({container.format.long_name}) has no audio track; expected a recording with sound. "
            "Choose another file, or record it with sound."
        )
    try:
        return PyAvSource(container, stream, path)
    except BaseException:
        container.close()
        raise


def _describe(container: InputContainer, stream: AudioStream, path: Path) -> AudioInfo:
    context = stream.codec_context
    if context is None or not stream.sample_rate or not stream.channels:
        raise DataError(
            f"{path} has an audio track that FFmpeg cannot decode. Convert it with another program to wav or flac."
        )
    return AudioInfo(
        path=path,
        container=container.format.name,
        codec=context.codec.canonical_name,
        sampling_rate=stream.sample_rate,
        n_channels=stream.channels,
        n_samples=None,
        duration_seconds=_stated_duration(container, stream),
        reader="pyav",
    )


def _stated_duration(container: InputContainer, stream: AudioStream) -> float | None:
    if container.format.name not in _STATING:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base
