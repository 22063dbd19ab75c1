"""Keeping silent: the threshold's rule, and what it does to clips that were not seen."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from core.emotion.abstention import abstention, silence_threshold, with_threshold
from core.emotion.calibration import calibrated
from tests.emotion.planted import planted, train_discriminant


def test_the_error_of_calibrated_clips_is_halved_on_new_ones():
    rng = np.random.default_rng(0)
    seen, new = (rng.uniform(0.4, 1.0, n) ** 0.3 for n in (400, 40_000))
    found = abstention(new, rng.random(40_000) < new, np.array([silence_threshold(seen)]))
    assert found.coverage > 0.5
    assert 1 - found.accuracy == pytest.approx((1 - new).mean() / 2, rel=0.1)


def test_the_rule_is_the_largest_coverage_at_which_half_of_the_error_is_left():
    rng = np.random.default_rng(1)
    confidence = rng.beta(5, 1, 200)
    threshold = silence_threshold(confidence)
    ordered = np.sort(confidence)
    within = [low for low in ordered if (1 - confidence[confidence >= low]).mean() <= (1 - confidence).mean() / 2]
    assert threshold == min(min(within), ordered[100])
    assert threshold in confidence


def test_half_of_the_clips_are_answered_however_unsure():
    confidence = np.linspace(0.2, 0.21, 101)
    assert (confidence >= silence_threshold(confidence)).mean() == pytest.approx(0.5, abs=0.01)
    assert silence_threshold(np.array([0.4])) == 0.4
    assert silence_threshold(np.full(9, 0.7)) == 0.7  # alike: all are answered


def test_coverage_and_accuracy_are_those_of_each_clips_own_head():
    confidence, right = np.array([0.9, 0.6, 0.6, 0.3]), np.array([True, False, True, True])
    found = abstention(confidence, right, np.array([0.5, 0.7]), np.array([0, 0, 1, 1]))
    assert (found.threshold, found.coverage, found.accuracy) == (pytest.approx(0.6), 0.5, 0.5)
    silent = abstention(confidence, right, np.array([0.95]))
    assert silent.coverage == 0 and np.isnan(silent.accuracy)
    assert abstention(confidence, right, np.array([0.6])).coverage == 0.75  # the threshold itself is answered


def test_a_head_takes_it_from_held_out_speakers():
    examples = planted(signal=1.0, n_speakers=30, voice=0.5)
    head = calibrated(train_discriminant(examples.take(np.arange(200))))
    found = with_threshold(head)
    said = softmax(head.held_out.logits / head.temperature, axis=1).max(axis=1)
    assert head.temperature != 1 and found.threshold == silence_threshold(said)
    strangers = examples.take(np.arange(200, 600))
    said = found.probabilities(strangers.features)
    result = abstention(said.max(axis=1), said.argmax(axis=1) == strangers.codes, np.array([found.threshold]))
    assert result.accuracy > result.curve[0, 2] + 0.05
    assert with_threshold(replace(head, held_out=None)).threshold == 0
