"""Discrete units of speech: k-means clusters of frame features, which masked prediction takes as its targets.

After HuBERT (Hsu et al. 2021, https://arxiv.org/abs/2106.07447, section II-A): first of MFCC, then of the states of the
model that the first units trained.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.signal import savgol_filter
from sklearn.cluster import MiniBatchKMeans
from transformers import PreTrainedModel

from core.analysis.mel import log_mel_frames, mel_clock
from core.clock import plan_windows
from core.errors import InputError
from core.training.corpus import SAMPLING_RATE, Clip, Corpus
from core.training.distill import STUDENT_CLOCK, Targets, frame_starts, normalise

FrameFeatures = Callable[[np.ndarray], NDArray[np.float32]]
"""Maps samples (time,) to features (frames, dim) on the clock of the encoder that is to be trained."""

N_CEPSTRA = 13
DELTA_WIDTH = 5
"""Frames of 10 ms over which a slope is fitted: Kaldi's and torchaudio's."""

MEL_CLOCK = mel_clock(SAMPLING_RATE)
WINDOW_FRAMES, CONTEXT_FRAMES = 1_000, 50
"""Of an encoder's pass over a long clip: 20 s, and a second on either side that is thrown away."""


def mfcc(samples: np.ndarray) -> NDArray[np.float32]:
    """Thirteen cepstral coefficients with their first and second slopes, (frames, 39), free of loudness.

    Frames of 25 ms every 10 ms have the slopes; every second one is the encoder's: both begin at the same sample and
    see as many.
    """
    scale = 1 / max(float(samples.std()), 1e-5)
    log_mel = np.concatenate(list(log_mel_frames([samples], MEL_CLOCK, scale)))
    static = dct(log_mel, norm="ortho", axis=1)[:, :N_CEPSTRA]
    slope = _slope(static)
    step = STUDENT_CLOCK.hop // MEL_CLOCK.hop
    every = np.concatenate([static, slope, _slope(slope)], axis=1)[::step]
    return every[: STUDENT_CLOCK.n_frames(len(samples))].astype(np.float32)


def _slope(values: np.ndarray) -> NDArray[np.float32]:
    """The slope of a line through each frame and its neighbours."""
    slope: NDArray[np.float32] = savgol_filter(values, DELTA_WIDTH, polyorder=1, deriv=1, axis=0, mode="nearest")
    return slope


def encoder_states(encoder: PreTrainedModel, layer: int) -> FrameFeatures:
    """Make features of an encoder's state (0 = the transformer's input), window by window with context."""

    @torch.inference_mode()
    def features(samples: np.ndarray) -> NDArray[np.float32]:
        audio = torch.from_numpy(normalise(samples[None]))
        pieces = []
        for window in plan_windows(STUDENT_CLOCK.n_frames(len(samples)), WINDOW_FRAMES, CONTEXT_FRAMES):
            first, stop = STUDENT_CLOCK.samples_of(window.start, window.stop)
            states = encoder.eval()(audio[:, first:stop], output_hidden_states=True).hidden_states[layer][0]
            pieces.append(states[window.keep_start - window.start : window.keep_stop - window.start].numpy())
        return np.concatenate(pieces)

    return features


@dataclass(frozen=True)
class UnitSettings:
    """How units are found.

    Attributes:
        n_units: Clusters.
        fitted_seconds: Of each clip that the clusters are fitted on, at most, so that a long one does not rule.
        seed: Of the clustering.
    """

    n_units: int
    fitted_seconds: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """What k-means found.

    Attributes:
        scale: (dim,), what features are divided by.
        centres: (units, dim) of features so divided.
    """

    scale: NDArray[np.float32]
    centres: NDArray[np.float32]

    def units(self, features: NDArray[np.float32]) -> NDArray[np.int16]:
        """The nearest cluster of each frame, (frames,)."""
        scaled = features / self.scale
        # The square of a frame itself is the same for all clusters.
        distances = (self.centres**2).sum(axis=1) - 2 * scaled @ self.centres.T
        return distances.argmin(axis=1).astype(np.int16)


def find_clusters(features: NDArray[np.float32], settings: UnitSettings) -> Clusters:
    """Cluster frames (n, dim), each dimension scaled to unit variance."""
    scale = np.maximum(features.std(axis=0), 1e-6)
    batch = max(10_000, 4 * settings.n_units)
    found = MiniBatchKMeans(
        settings.n_units, random_state=settings.seed, batch_size=batch, n_init=5, max_no_improvement=50
    )
    centres = found.fit(features / scale).cluster_centers_
    return Clusters(scale.astype(np.float32), centres.astype(np.float32))


def build_units(
    corpus: Corpus, train: Sequence[Clip], features: FrameFeatures, settings: UnitSettings, path: Path
) -> Targets:
    """Find units on the clips that train, name them in the whole corpus, and keep them; later only open the file.

    Args:
        corpus: All clips.
        train: Clips that the clusters are fitted on.
        features: Of one clip.
        settings: How units are found.
        path: Of the file, ``.npz``.

    Returns:
        Units (frames,) int16 of all clips, one after the other.

    Raises:
        InputError: The file holds another number of units.
    """
    if not path.exists():
        longest = round(settings.fitted_seconds * SAMPLING_RATE)
        fitted = [features(corpus.samples(clip, 0, min(clip.n_samples, longest))) for clip in train]
        clusters = find_clusters(np.concatenate(fitted), settings)
        units = np.concatenate([clusters.units(features(corpus.samples(clip))) for clip in corpus.clips])
        _write(path, clusters, units)
    kept = np.load(path)
    if len(kept["centres"]) != settings.n_units:
        raise InputError(
            f"{path} holds {len(kept['centres'])} units; expected {settings.n_units}. Use a new folder, or as many."
        )
    return Targets(kept["units"], frame_starts(corpus))


def _write(path: Path, clusters: Clusters, units: NDArray[np.int16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, units=units, scale=clusters.scale, centres=clusters.centres)
    partial.replace(path)


def fingerprint(units: Targets) -> str:
    """Hash of all units: names what a run is trained on."""
    return hashlib.sha256(np.ascontiguousarray(units.states).tobytes()).hexdigest()
