"""What the screen needs of a recording and of one layer of its embedding: small arrays, all times in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.analysis.image import FrameImage, frame_image
from core.analysis.projection import Projection, pca_path
from core.analysis.spectrogram import Spectrogram, SpectrogramBuilder
from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.signal import Signal
from core.clock import FrameClock

MOST_BINS = 2_000
"""Bins of a waveform at most: more than the plot has pixels."""

BLOCK_SECONDS = 20


@dataclass(frozen=True)
class SignalView:
    """The sound as the model hears it.

    Attributes:
        envelope: (n_bins, 2) float32, lowest and highest sample of each bin, so that no click is lost however long the
            recording.
        times: (n_bins,) float64, seconds at the middle of each bin.
        samples_a_bin: Samples that a bin spans, on the mean.
        spectrogram: Log-mel power over time.
        seconds: Length of the recording.
        sampling_rate: Of the model's input, Hz.
    """

    envelope: np.ndarray
    times: np.ndarray
    samples_a_bin: float
    spectrogram: Spectrogram
    seconds: float
    sampling_rate: int


@dataclass(frozen=True)
class ImageView:
    """One layer as an image over time.

    Attributes:
        layer: Its number.
        image: All frames as an image.
        edges: (n_columns + 1,) float64, seconds at the borders of the columns: half a stride around the centres.
    """

    layer: int
    image: FrameImage
    edges: np.ndarray


@dataclass(frozen=True)
class PathView:
    """One layer as a path through its space.

    Attributes:
        layer: Its number.
        path: Frames on principal axes.
        centres: (n_shown,) float64, seconds at the centre of each frame of the path.
    """

    layer: int
    path: Projection
    centres: np.ndarray


def view_signal(signal: Signal, listen: Path | None = None, on_progress: OnProgress = ignore_progress) -> SignalView:
    """Read the signal and keep what the screen needs.

    Args:
        signal: What the model hears: mono, at the model's rate.
        listen: Where to write the same samples as 16-bit WAV for the player; None for nowhere.
        on_progress: Told of the seconds read.
    """
    rate, total, done = signal.sampling_rate, signal.n_samples, 0
    spectrogram = SpectrogramBuilder(total, rate)
    with _Recorder(listen, rate) as record:
        for block in signal.blocks(BLOCK_SECONDS * rate):
            spectrogram.add(block)
            record(block)
            done += len(block)
            on_progress(Progress("Drawing", done / rate, total / rate))
    envelope = signal.envelope(min(total, MOST_BINS))
    times = (np.arange(len(envelope)) + 0.5) * signal.duration_seconds / len(envelope)
    return SignalView(envelope, times, total / len(envelope), spectrogram.result(), signal.duration_seconds, rate)


def view_image(values: np.ndarray, clock: FrameClock, layer: int) -> ImageView:
    """Reduce one layer, (n_frames, dim), to an image; a memory map is read in blocks."""
    image = frame_image(values)
    return ImageView(layer, image, clock.centre(image.starts) - clock.stride_seconds / 2)


def view_path(values: np.ndarray, clock: FrameClock, layer: int) -> PathView:
    """Reduce one layer, (n_frames, dim), to a path; of a memory map only the frames needed are read."""
    path = pca_path(values)
    return PathView(layer, path, clock.centre(path.frames))


class _Recorder:
    """Write blocks to a 16-bit WAV, or nowhere."""

    def __init__(self, path: Path | None, sampling_rate: int) -> None:
        self.path, self.sampling_rate = path, sampling_rate

    def __enter__(self) -> Callable[[np.ndarray], None]:
        if self.path is None:
            return lambda _: None
        import soundfile

        self.file = soundfile.SoundFile(self.path, "w", self.sampling_rate, 1, subtype="PCM_16")
        return self.file.write

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.file.close()
