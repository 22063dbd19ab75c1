"""What the screen needs of a recording and of one layer of its embedding: small arrays, all times in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from core.analysis.bands import BANDS, WINDOW_SECONDS, Sensed, power_spectrum
from core.analysis.image import FrameImage, frame_image
from core.analysis.projection import Projection, pca_path
from core.analysis.spectrogram import FLOOR_DB, Spectrogram, SpectrogramBuilder
from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.signal import Signal
from core.clock import FrameClock

MOST_BINS = 2_000
"""Bins of a waveform at most: more than the plot has pixels."""

BLOCK_SECONDS = 20

MOST_COLUMNS = 1_500
"""Columns of a spectrogram of MEG at most."""


@dataclass(frozen=True)
class SignalView:
    """The sound, or the MEG, as the model takes it.

    Attributes:
        envelope: (n_bins, 2) float32, lowest and highest sample of each bin, so that no click is lost however long the
            recording; of MEG over all sensors, in standard deviations.
        times: (n_bins,) float64, seconds at the middle of each bin.
        samples_a_bin: Samples that a bin spans, on the mean.
        spectrogram: Log-mel power over time; of MEG the mean power of all sensors.
        seconds: Length of the recording.
        sampling_rate: Of the model's input, Hz.
        n_sensors: Of MEG; 0 for sound.
    """

    envelope: np.ndarray
    times: np.ndarray
    samples_a_bin: float
    spectrogram: Spectrogram
    seconds: float
    sampling_rate: int
    n_sensors: int = 0

    @property
    def is_meg(self) -> bool:
        """Whether it is MEG."""
        return self.n_sensors > 0


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


def view_meg(recording: Sensed, on_progress: OnProgress = ignore_progress) -> SignalView:
    """Do the same for MEG: the outline of all sensors, and the mean of their power spectra in windows of a second.

    Args:
        recording: What the model takes: (channels, samples), prepared and standardised.
        on_progress: Told of the seconds read.
    """
    rate, total = recording.sampling_rate, recording.n_samples
    edges = np.linspace(0, total, min(total, MOST_BINS) + 1).round().astype(int)
    blocks = (recording.read(first, last) for first, last in pairwise(edges))
    envelope = np.array([(block.min(), block.max()) for block in blocks], dtype=np.float32)
    times = (edges[:-1] + edges[1:]) / 2 / rate
    spectrogram = _meg_spectrogram(recording, on_progress)
    n_sensors = len(recording.read(0, 1))
    return SignalView(envelope, times, total / len(envelope), spectrogram, total / rate, rate, n_sensors)


def _meg_spectrogram(recording: Sensed, on_progress: OnProgress) -> Spectrogram:
    rate, total = recording.sampling_rate, recording.n_samples
    n = min(total, round(WINDOW_SECONDS * rate))
    firsts = np.arange(0, total - n + 1, max(1, n // 2))
    columns = np.array_split(firsts, min(len(firsts), MOST_COLUMNS))
    top = max(high for _, high in BANDS.values())
    power = []
    for column in columns:
        spectra = [power_spectrum(recording.read(first, first + n), rate) for first in column.tolist()]
        shown = (spectra[0][0] >= 1) & (spectra[0][0] <= min(top, rate / 2))
        power.append(np.mean([spectrum.mean(axis=0) for _, spectrum in spectra], axis=0)[shown])
        on_progress(Progress("Drawing", (column[-1] + n) / rate, total / rate))
    values = np.array(power).T
    loudest = max(float(values.max()), np.finfo(float).tiny)
    levels = 10 * np.log10(np.maximum(values / loudest, 10 ** (FLOOR_DB / 10)))
    middles = np.array([(column[0] + column[-1] + n) / 2 / rate for column in columns])
    hertz = spectra[0][0][shown]
    return Spectrogram(middles, hertz, levels.astype(np.float32), len(firsts) / len(columns))


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
