"""Frame-by-frame distillation: a small encoder learns to predict the states of a frozen teacher.

After DistilHuBERT (Chang et al. 2022, https://arxiv.org/abs/2110.01900): linear heads on some of the student's layers
predict some of the teacher's, with an L1 and a cosine term; the heads are dropped afterwards. Different here: the
targets are standardised, each head has its own student layer, and the student hears noise where the targets come from
clean audio.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Model

from core.clock import FrameClock
from core.errors import InputError
from core.training.corpus import SAMPLING_RATE, Clip, Corpus
from core.training.loop import Step
from core.training.teachers import Teacher

CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)  # wav2vec 2.0 (Baevski et al. 2020, section 4.2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
STUDENT_CLOCK = FrameClock.from_convolutions(CONV_KERNELS, CONV_STRIDES, SAMPLING_RATE)
TEACHER_RMS = 0.05  # the teacher's log-mel depends on the level, the student's normalised input does not
CONTEXT_FRAMES = 50  # frames next to a cut between two teacher windows are taken from the window that sees past it


def alignment_shift(teacher: FrameClock, student: FrameClock = STUDENT_CLOCK) -> int:
    """Samples to drop before the teacher so that its frame i is centred where the student's frame i is.

    A wav2vec 2.0 frame i is centred on sample 320 * i + 200 (half its field of 400), Whisper's on 320 * i: without the
    200 samples the student would be asked to predict 12.5 ms into the past.
    """
    if (teacher.hop, teacher.sampling_rate) != (student.hop, student.sampling_rate):
        raise InputError(
            f"The teacher has a frame every {teacher.hop} samples at {teacher.sampling_rate} Hz; expected the "
            f"student's grid, {student.hop} samples at {student.sampling_rate} Hz. Choose another teacher."
        )
    shift = (student.start + student.field // 2) - (teacher.start + teacher.field // 2)
    if shift < 0:
        raise InputError(f"The teacher's frame 0 lies {-shift} samples after the student's; expected it not to.")
    return shift


def n_student_samples(n_frames: int) -> int:
    """Fewest samples that give ``n_frames`` frames of the student."""
    return STUDENT_CLOCK.samples_of(0, n_frames)[1]


# ---------------------------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Targets:
    """What each frame of a whole corpus is to predict, and where each clip starts.

    Standardised teacher states, float16 ``(frames, layers, dim)``, or units, int16 ``(frames,)``.
    """

    states: np.ndarray
    starts: dict[str, int]

    def crop(self, clip: Clip, first: int, n_frames: int) -> np.ndarray:
        """Those of ``n_frames`` frames of a clip from its frame ``first`` on."""
        start = self.starts[_key(clip)] + first
        return self.states[start : start + n_frames]


def teacher_states(teacher: Teacher, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States of a whole clip on the student's frames, window after window with context on both sides.

    Returns:
        float16 ``(frames, layers, dim)`` and, for each frame, its position inside the teacher's window.
    """
    scale = TEACHER_RMS / max(float(np.sqrt(np.mean(samples**2))), 1e-5)
    audible = torch.from_numpy(samples * np.float32(scale))[alignment_shift(teacher.clock) :]
    n_frames, window = STUDENT_CLOCK.n_frames(len(samples)), teacher.window // teacher.clock.hop
    context = min(CONTEXT_FRAMES, window // 4)
    states, positions, done = [], [], 0
    while done < n_frames:
        start = max(0, done - context)
        stop = n_frames if start + window >= n_frames else start + window - context
        piece = audible[start * teacher.clock.hop :][: teacher.window]
        states.append(teacher.states(piece)[:, done - start : stop - start].transpose(0, 1).half().numpy())
        positions.append(np.arange(done - start, stop - start))
        done = stop
    return np.concatenate(states), np.concatenate(positions)


def build_targets(corpus: Corpus, teacher: Teacher, folder: Path) -> Targets:
    """Run the teacher over the corpus once, standardise, and keep the result in ``folder``; later only open it."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = frame_starts(corpus)
    if not (folder / "targets.json").exists():
        shape = _write_raw_states(corpus, teacher, folder)
        _standardise(folder, shape)
        (folder / "targets.json").write_text(json.dumps({"shape": shape}))
        (folder / "raw.npy").unlink()
    return Targets(np.load(folder / "targets.npy", mmap_mode="r"), starts)


def frame_starts(corpus: Corpus) -> dict[str, int]:
    """Where each clip's frames begin, when those of all clips stand one after the other."""
    counts = [STUDENT_CLOCK.n_frames(clip.n_samples) for clip in corpus.clips]
    return dict(zip(map(_key, corpus.clips), np.cumsum([0, *counts[:-1]]).tolist(), strict=True))


def _key(clip: Clip) -> str:
    return f"{clip.corpus}/{clip.name}"


def _write_raw_states(corpus: Corpus, teacher: Teacher, folder: Path) -> list[int]:
    """Write ``raw.npy`` (frames, layers, dim) and ``positions.npy`` (frames,)."""
    total = sum(STUDENT_CLOCK.n_frames(clip.n_samples) for clip in corpus.clips)
    layers, _, dim = teacher.states(torch.zeros(SAMPLING_RATE)).shape
    raw = np.lib.format.open_memmap(folder / "raw.npy", "w+", np.float16, (total, layers, dim))
    done, positions = 0, []
    for clip in corpus.clips:
        states, position = teacher_states(teacher, corpus.samples(clip))
        raw[done : done + len(states)] = states
        positions.append(position)
        done += len(states)
    np.save(folder / "positions.npy", np.concatenate(positions).astype(np.int16))
    return [total, layers, dim]


def _standardise(folder: Path, shape: list[int], chunk: int = 20_000) -> None:
    """Subtract the mean of each position in the teacher's window, divide by the deviation over the corpus.

    Whisper adds a position embedding to its input. What is left of it in the states (16, 8 and 37 % of the variance of
    layers 2, 3 and 4 of tiny.en) says where a frame lies in the 30 s window, which no student can hear.
    """
    raw = np.load(folder / "raw.npy", mmap_mode="r")
    positions = np.load(folder / "positions.npy")
    mean = _mean_by_position(raw, positions, chunk)
    squares, pieces = np.zeros(shape[1:]), range(0, shape[0], chunk)
    for start in pieces:
        residual = raw[start : start + chunk].astype(np.float32) - mean[positions[start : start + chunk]]
        squares += np.square(residual).sum(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / shape[0]).astype(np.float32)
    out = np.lib.format.open_memmap(folder / "targets.npy", "w+", np.float16, tuple(shape))
    for start in pieces:
        residual = raw[start : start + chunk].astype(np.float32) - mean[positions[start : start + chunk]]
        out[start : start + chunk] = residual / deviation
    np.savez(folder / "statistics.npz", mean=mean.astype(np.float16), deviation=deviation)


def _mean_by_position(raw: np.ndarray, positions: np.ndarray, chunk: int, width: int = 51) -> np.ndarray:
    """Mean state ``(positions, layers, dim)``, smoothed over ``width`` positions.

    Only stretches that fill the teacher's window count where there are any: the mean of the early positions would
    otherwise be that of the corpora with short clips, and subtracting it would hide what sets them apart.
    """
    n_positions = int(positions.max()) + 1
    long = _in_full_windows(positions, n_positions)
    sums, counts = np.zeros((n_positions, *raw.shape[1:]), np.float32), np.zeros(n_positions)
    for start in range(0, len(positions), chunk):
        rows = np.flatnonzero(long[start : start + chunk]) + start
        np.add.at(sums, positions[rows], raw[rows].astype(np.float32))
        np.add.at(counts, positions[rows], 1)
    kernel, edge = np.ones(width), width // 2
    smooth = [
        np.convolve(np.pad(column, edge), kernel, "valid") for column in (counts, *sums.reshape(n_positions, -1).T)
    ]
    return (np.stack(smooth[1:], axis=1) / np.maximum(smooth[0], 1)[:, None]).reshape(sums.shape).astype(np.float32)


def _in_full_windows(positions: np.ndarray, n_positions: int) -> np.ndarray:
    """Mark the frames of teacher windows whose last frame comes within 3 % of the longest window's."""
    cuts = np.flatnonzero(np.diff(positions) != 1) + 1
    edges = np.concatenate([[0], cuts, [len(positions)]])
    full = positions[edges[1:] - 1] >= 0.95 * (n_positions - 1)
    return np.repeat(full, np.diff(edges))


# ------------------------------------------------------------------------------------------------------------ crops


@dataclass(frozen=True)
class CropSettings:
    """What a batch is made of. ``seconds_per_batch`` is the same for every crop length."""

    crop_seconds: tuple[float, ...] = (2.0, 4.0, 8.0, 15.0)
    length_weights: tuple[float, ...] = (0.3, 0.25, 0.3, 0.15)
    seconds_per_batch: float = 32.0
    noise_probability: float = 0.6
    babble_probability: float = 0.15
    tilt_probability: float = 0.3
    snr_db: tuple[float, float] = (0.0, 30.0)
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Normalised audio ``(batch, time)`` and targets ``(batch, frames, ...)``."""

    audio: Tensor
    targets: Tensor


class CropSampler:
    """Random crops with their targets. A batch depends on the seed and the update's number only."""

    def __init__(
        self,
        corpus: Corpus,
        clips: Sequence[Clip],
        targets: Targets,
        settings: CropSettings,
        corpus_weights: dict[str, float] | None = None,
    ) -> None:
        """``corpus_weights`` multiplies the share that a corpus has by its duration."""
        self.corpus, self.clips, self.targets, self.settings = corpus, list(clips), targets, settings
        weights = corpus_weights or {}
        self.frames = np.array([STUDENT_CLOCK.n_frames(clip.n_samples) for clip in self.clips])
        self.weights = np.array([weights.get(clip.corpus, 1.0) for clip in self.clips])

    def batch(self, update: int) -> Batch:
        """Draw the batch of one update: crops of one length, so that nothing is padded."""
        rng = np.random.default_rng([self.settings.seed, update])
        seconds = rng.choice(self.settings.crop_seconds, p=self.settings.length_weights)
        n_crops = max(1, round(self.settings.seconds_per_batch / seconds))
        n_frames = min(STUDENT_CLOCK.frames_in(seconds) - 1, int(self.frames.max()))
        crops = [self._crop(rng, n_frames) for _ in range(n_crops)]
        noisy = np.stack([self._augment(rng, audio) for audio, _ in crops])
        return Batch(torch.from_numpy(normalise(noisy)), torch.from_numpy(np.stack([states for _, states in crops])))

    def _crop(self, rng: np.random.Generator, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """One crop of ``n_frames`` frames that starts on a frame of its clip, and its targets."""
        choices = self.frames * self.weights * (self.frames >= n_frames)
        index = rng.choice(len(self.clips), p=choices / choices.sum())
        first = int(rng.integers(0, self.frames[index] - n_frames + 1))
        audio = self.corpus.samples(self.clips[index], first * STUDENT_CLOCK.hop, n_student_samples(n_frames))
        return audio, self.targets.crop(self.clips[index], first, n_frames)

    def _augment(self, rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
        """Tilt the spectrum, flip the polarity, add coloured noise or other speech; the targets stay clean."""
        audio = clean * rng.choice([-1.0, 1.0])
        if rng.random() < self.settings.tilt_probability:
            audio = audio - rng.uniform(-0.5, 0.9) * np.concatenate([[0.0], audio[:-1]])
        kind = rng.random()
        if kind < self.settings.babble_probability:
            noise = np.sum([self._speech(rng, len(clean)) for _ in range(rng.integers(1, 5))], axis=0)
            return mix(audio, noise, rng.uniform(5.0, 25.0))
        if kind < self.settings.babble_probability + self.settings.noise_probability:
            return mix(
                audio, coloured_noise(rng, len(clean), rng.uniform(0.0, 2.0)), rng.uniform(*self.settings.snr_db)
            )
        return audio

    def _speech(self, rng: np.random.Generator, length: int) -> np.ndarray:
        """A stretch of some other clip at unit level, repeated where the clip is too short."""
        clip = self.clips[rng.integers(len(self.clips))]
        start = int(rng.integers(0, max(1, clip.n_samples - length)))
        speech = np.resize(self.corpus.samples(clip, start, min(length, clip.n_samples - start)), length)
        return speech / (speech.std() + 1e-5)


def coloured_noise(rng: np.random.Generator, length: int, exponent: float) -> np.ndarray:
    """Gaussian noise ``(length,)`` whose power falls with frequency to the ``exponent``: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLING_RATE), 20.0)
    return np.fft.irfft(spectrum * frequency ** (-exponent / 2), length)


def mix(audio: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add ``noise`` at a signal-to-noise ratio in decibels."""
    ratio = np.sqrt(np.mean(audio**2) / (np.mean(noise**2) + 1e-12))
    return audio + noise * ratio * 10 ** (-snr_db / 20)


def normalise(audio: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance along time, as Wav2Vec2FeatureExtractor does; ``(batch, time)``, float32."""
    centred = audio - audio.mean(axis=-1, keepdims=True)
    return (centred / np.sqrt(centred.var(axis=-1, keepdims=True) + 1e-7)).astype(np.float32)


# ------------------------------------------------------------------------------------------------- student and loss


class Student(nn.Module):
    """An encoder with one linear head for each (student layer, target) pair."""

    def __init__(self, encoder: Wav2Vec2Model, layers: tuple[int, ...], target_dim: int) -> None:
        """``layers[k]`` is the hidden state (1 = first block) that predicts target k."""
        super().__init__()
        self.encoder, self.layers = encoder, layers
        self.heads = nn.ModuleList(nn.Linear(encoder.config.hidden_size, target_dim) for _ in layers)

    def forward(self, audio: Tensor) -> Tensor:
        """Map normalised audio ``(batch, time)`` to predictions ``(batch, frames, targets, dim)``."""
        hidden = self.encoder(audio, output_hidden_states=True).hidden_states
        return torch.stack([head(hidden[i]) for head, i in zip(self.heads, self.layers, strict=True)], dim=2)


def distillation_loss(predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """L1 plus (1 - cosine), averaged over frames and targets; both ``(batch, frames, targets, dim)``."""
    predictions, targets = predictions.float(), targets.float()
    absolute = functional.l1_loss(predictions, targets)
    cosine = functional.cosine_similarity(predictions, targets, dim=-1).mean()
    return {"loss": absolute + 1 - cosine, "l1": absolute, "cosine": cosine}


def distillation_step(sampler: CropSampler, precision: torch.dtype = torch.bfloat16, device: str = "cpu") -> Step:
    """Make the step of the training loop."""

    def step(model: nn.Module, update: int) -> dict[str, Tensor]:
        batch = sampler.batch(update)
        with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
            predictions = model(batch.audio.to(device))
        return distillation_loss(predictions, batch.targets.to(device))

    return step


@torch.inference_mode()
def validation_scores(model: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Losses on fixed clean batches, float32, with the cosine of each target; frames count alike."""
    frames = [batch.targets.shape[0] * batch.targets.shape[1] for batch in batches]
    rows = []
    for batch in batches:
        predictions = model(batch.audio)
        scores = distillation_loss(predictions, batch.targets)
        each = functional.cosine_similarity(predictions, batch.targets.float(), dim=-1).mean(dim=(0, 1))
        rows.append([float(value) for value in scores.values()] + each.tolist())
    names = ["loss", "l1", "cosine", *(f"cosine_target_{k}" for k in range(len(rows[0]) - 3))]
    return dict(zip(names, np.average(rows, axis=0, weights=frames).tolist(), strict=True))
