"""Clips whose truth is known, and a trainer small enough to see through: a linear discriminant of one layer."""

from dataclasses import replace

import numpy as np

from core.analysis.probes import ShrunkenDiscriminant
from core.emotion.folds import speaker_folds
from core.emotion.head import Affine, Examples, Head, HeldOut


def planted(seed=0, n_speakers=10, n_classes=4, each=5, signal=1.2, habit=0.0, voice=0.4, dim=20):
    """Clips of which the class shows by ``signal``, and who speaks by ``voice``.

    ``habit`` is the share of a speaker's clips that are of a favourite class, so that knowing who speaks helps.
    """
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(n_speakers), each * n_classes)
    codes = np.tile(np.arange(n_classes), n_speakers * each)
    favourite = rng.random(len(codes)) < habit
    codes = np.where(favourite, speakers % n_classes, codes)
    voices = voice * rng.standard_normal((n_speakers, dim))
    means = signal * np.linalg.qr(rng.standard_normal((dim, dim)))[0][:n_classes] * np.sqrt(2)
    features = (voices[speakers] + means[codes] + rng.standard_normal((len(codes), dim))).astype(np.float32)
    names = np.array([f"s{number:02d}" for number in speakers])
    return Examples((0,), features[None], codes.astype(np.int64), names, n_classes)


def names_of(examples):
    return tuple(f"clip {number:05d}" for number in range(len(examples)))


def labels_of(examples):
    return tuple(f"class {number}" for number in range(examples.n_classes))


def train_discriminant(examples: Examples) -> Head:
    head, held, rows = _fitted(examples), [], []
    for fold in speaker_folds(examples.speakers, examples.codes, 5):
        held.append(_fitted(examples.take(fold.train)).logits(examples.features[:, fold.test]))
        rows.append(fold.test)
    if held:
        rows = np.concatenate(rows)
        out = HeldOut(np.concatenate(held), examples.codes[rows], rows)
        head = replace(head, held_out=out)
    return head


def _fitted(examples: Examples) -> Head:
    values = examples.features[0].astype(np.float64)
    fit = ShrunkenDiscriminant(0.1).fit(values, examples.codes)
    weight, bias = np.zeros((examples.n_classes, values.shape[1])), np.full(examples.n_classes, -30.0)
    weight[fit.classes], bias[fit.classes] = fit.weights.T, fit.offsets
    maps = (Affine(weight, bias),)
    return Head(examples.layers, "mean", fit.mean[None], fit.scale[None], np.ones(1), "summed", maps)
