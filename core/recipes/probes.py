"""Linear probes on frozen frame features: what a bundled speech encoder is worth, beside controls.

Each probe takes frame features of every layer and gives one score for each layer and one with the layer chosen on the
training folds only. Speakers (or utterances, where speakers are what is asked) never stand on both sides of a split.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import BaseCrossValidator, GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from transformers import Wav2Vec2Model
from transformers.audio_utils import mel_filter_bank

from core.training.corpus import SAMPLING_RATE
from core.training.distill import STUDENT_CLOCK, normalise

Array = NDArray[np.float32]
Features = Callable[[Array], Array]
"""Maps audio ``(time,)`` to frame features ``(layers, frames, dim)``."""
Measure = Callable[[NDArray, NDArray], float]


@dataclass(frozen=True)
class Probe:
    """A labelled set, split by groups, and how it is scored."""

    title: str
    note: str
    measure: str
    score: Measure
    classifier: Callable[[], Pipeline]
    folds: BaseCrossValidator


@dataclass(frozen=True)
class Outcome:
    """Scores ``(layers,)`` over all test folds, and predictions with the layer chosen inside each training set."""

    scores: list[float]
    chosen: float
    interval: tuple[float, float]


def encoder_features(model: Wav2Vec2Model) -> Features:
    """States 0..N of a wav2vec 2.0 encoder, each ``(frames, dim)``, from normalised audio."""

    @torch.inference_mode()
    def features(audio: Array) -> Array:
        output = model.eval()(torch.from_numpy(normalise(audio[None])), output_hidden_states=True)
        return torch.stack(output.hidden_states)[:, 0].numpy()

    return features


def log_mel_features(n_mels: int = 80, n_fft: int = STUDENT_CLOCK.field) -> Features:
    """Log-mel energies of the same 25 ms that a frame of the encoder sees: one layer of ``(frames, n_mels)``."""
    bank = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE, norm="slaney")
    window = np.hanning(n_fft)

    def features(audio: Array) -> Array:
        frames = np.lib.stride_tricks.sliding_window_view(normalise(audio), n_fft)[:: STUDENT_CLOCK.hop]
        power = np.abs(np.fft.rfft(frames * window)) ** 2
        return np.log(power @ bank + 1e-6)[None].astype(np.float32)

    return features


def pooled(features: Features, recordings: Sequence[Array]) -> Array:
    """Mean and standard deviation over time: ``(layers, recordings, 2 * dim)``."""
    rows = [features(audio) for audio in recordings]
    return np.stack([np.concatenate([row.mean(axis=1), row.std(axis=1)], axis=1) for row in rows], axis=1)


def unweighted_recall(labels: NDArray, predictions: NDArray) -> float:
    """Mean over the classes that occur of the share that was recognised (UAR)."""
    return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro"))


def balanced_logistic() -> Pipeline:
    """Standardise, then a strongly regularised logistic regression with balanced classes."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))


def shrunken_discriminant() -> Pipeline:
    """Linear discriminant analysis: a linear classifier with a closed form, for many frames and classes."""
    return make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01))


def emotion_probe(title: str, note: str, folds: BaseCrossValidator) -> Probe:
    """Emotion from pooled features: unweighted average recall."""
    return Probe(title, note, "unweighted average recall", unweighted_recall, balanced_logistic, folds)


def run_probe(probe: Probe, layers: Array, labels: NDArray, groups: NDArray) -> Outcome:
    """Probe every layer of ``layers`` ``(layers, n, dim)``; the layer is also chosen inside each training set."""
    predictions = np.empty((len(layers), len(labels)), dtype=labels.dtype)
    chosen = np.empty(len(labels), dtype=labels.dtype)
    with threadpool_limits(1):  # the fits are small: threads would wait for each other longer than they work
        for train, test in probe.folds.split(layers[0], labels, groups):
            for index, features in enumerate(layers):
                fitted = probe.classifier().fit(features[train], labels[train])
                predictions[index, test] = fitted.predict(features[test])
            best = _best_layer(probe, layers[:, train], labels[train], groups[train])
            chosen[test] = predictions[best, test]
    return Outcome(
        [float(probe.score(labels, row)) for row in predictions],
        float(probe.score(labels, chosen)),
        bootstrap_interval(probe.score, labels, chosen, groups),
    )


def _best_layer(probe: Probe, layers: Array, labels: NDArray, groups: NDArray) -> int:
    """The layer that is best in three inner folds over the training groups."""
    if len(layers) == 1:
        return 0
    scores = np.zeros(len(layers))
    for train, test in GroupKFold(3).split(layers[0], labels, groups):
        for index, features in enumerate(layers):
            fitted = probe.classifier().fit(features[train], labels[train])
            scores[index] += probe.score(labels[test], fitted.predict(features[test]))
    return int(np.argmax(scores))


def bootstrap_interval(
    score: Measure, labels: NDArray, predictions: NDArray, groups: NDArray, draws: int = 500
) -> tuple[float, float]:
    """95 % interval of a score when whole groups are drawn with replacement."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    scores = []
    for _ in range(draws):
        rows = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        scores.append(score(labels[rows], predictions[rows]))
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


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


def chance_level(score: Measure, labels: NDArray) -> float:
    """Score of always giving the most frequent class."""
    return float(score(labels, np.full_like(labels, Counter(labels.tolist()).most_common(1)[0][0])))


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
    return Probe(title, note, "accuracy", accuracy_score, shrunken_discriminant, GroupKFold(5))


def leave_one_speaker_out() -> BaseCrossValidator:
    """Each speaker is the test set once."""
    return LeaveOneGroupOut()
