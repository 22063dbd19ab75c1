"""What the bundled speech encoders are probed for: emotion, phones and speakers, from pooled or from single frames.

The probes themselves are those of :mod:`core.analysis.probes`: each takes features of every layer and gives one score
for each layer and one with the layer chosen on the training folds only. Speakers (or utterances, where speakers are
what is asked) never stand on both sides of a split.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator, GroupKFold, LeaveOneGroupOut
from transformers import HubertModel, Wav2Vec2Model
from transformers.audio_utils import mel_filter_bank

from core.analysis.mel import MelFrames
from core.analysis.probes import (
    Outcome,
    Probe,
    ShrunkenDiscriminant,
    balanced_logistic,
    chance_level,
)
from core.analysis.scores import accuracy, unweighted_recall
from core.training.corpus import SAMPLING_RATE
from core.training.distill import STUDENT_CLOCK, normalise

Array = NDArray[np.float32]
Features = Callable[[Array], Array]
"""Maps audio ``(time,)`` to frame features ``(layers, frames, dim)``."""


def encoder_features(model: Wav2Vec2Model | HubertModel) -> Features:
    """States 0..N of an encoder of raw samples, each ``(frames, dim)``, from normalised audio."""

    @torch.inference_mode()
    def features(audio: Array) -> Array:
        output = model.eval()(torch.from_numpy(normalise(audio[None])), output_hidden_states=True)
        return torch.stack(output.hidden_states)[:, 0].numpy()

    return features


def log_mel_features(n_mels: int = 80, n_fft: int = STUDENT_CLOCK.field) -> Features:
    """Log-mel energies of the same 25 ms that a frame of the encoder sees: one layer of ``(frames, n_mels)``."""
    bank = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE, norm="slaney")

    def features(audio: Array) -> Array:
        power = MelFrames(np.hanning(n_fft), bank, STUDENT_CLOCK.hop).add(normalise(audio))
        return np.log(power + 1e-6)[None].astype(np.float32)

    return features


def pooled(features: Features, recordings: Sequence[Array]) -> Array:
    """Mean and standard deviation over time: ``(layers, recordings, 2 * dim)``."""
    rows = [features(audio) for audio in recordings]
    return np.stack([np.concatenate([row.mean(axis=1), row.std(axis=1)], axis=1) for row in rows], axis=1)


def emotion_probe(title: str, note: str, folds: BaseCrossValidator) -> Probe:
    """Emotion from pooled features: unweighted average recall."""
    return Probe(title, note, "unweighted average recall", unweighted_recall, balanced_logistic, folds)


def table(probe: Probe, outcomes: dict[str, Outcome], labels: NDArray, groups: str) -> dict[str, Any]:
    """The measurement as ``training.json`` and the card hold it."""
    rows = [
        {
            "model": name,
            "scores": outcome.scores,
            "chosen": outcome.chosen,
            "interval": list(outcome.interval),
        }
        for name, outcome in outcomes.items()
    ]
    return {
        "title": probe.title,
        "note": probe.note,
        "measure": probe.measure,
        "n": len(labels),
        "groups": groups,
        "chance": chance_level(probe.score, labels),
        "rows": rows,
    }


# ------------------------------------------------------------------------------------------------- phones of EmoDB


def read_xlabel(path: Path) -> list[tuple[float, str]]:
    """Read an EmoDB label file: ``(onset in seconds, phone)`` for each segment, in order.

    The xwaves format means a time to be a segment's end, but EmoDB's phone times are onsets: read as such the closures
    are silent, the bursts loud, and log-mel frames tell the phones apart more than twice as well. A line that holds
    only a diacritic (+hoe, -sth) marks a point inside a phone and is left out.
    """
    lines = path.read_text(encoding="latin-1").splitlines()
    fields = [line.split() for line in lines[lines.index("#") + 1 :]]
    return [(float(row[0]), row[2]) for row in fields if len(row) > 2 and row[2][0] not in "+-("]


def frame_labels(segments: Sequence[tuple[float, str]], n_samples: int) -> list[str]:
    """The label at the centre of each frame; empty before the first segment."""
    onsets = np.array([onset for onset, _ in segments])
    names = ["", *(name for _, name in segments)]
    centres = STUDENT_CLOCK.centre(np.arange(STUDENT_CLOCK.n_frames(n_samples)))
    return [names[k] for k in np.searchsorted(onsets, centres, side="right")]


def phone_probe(title: str, note: str) -> Probe:
    """Phones from single frames: accuracy, five speaker-disjoint folds."""
    return Probe(title, note, "accuracy", accuracy, ShrunkenDiscriminant, GroupKFold(5))


def leave_one_speaker_out() -> BaseCrossValidator:
    """Each speaker is the test set once."""
    return LeaveOneGroupOut()
