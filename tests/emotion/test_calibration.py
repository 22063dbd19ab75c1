"""Temperature: what was planted comes out, what is said stays, and few clips do no harm."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from core.analysis import scores
from core.emotion.abstention import with_threshold
from core.emotion.calibration import calibrated, fit_temperature
from core.emotion.head import HeldOut
from tests.emotion.planted import planted, train_discriminant


def clips_of(temperature, n=20_000, n_classes=5, seed=0):
    """Logits that are too large by the factor ``temperature``, and the truth as they ought to say it."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((n, n_classes))
    chances = np.cumsum(softmax(logits, axis=1), axis=1)
    return logits * temperature, (rng.random((n, 1)) > chances).sum(axis=1).clip(0, n_classes - 1)


@pytest.mark.parametrize("planted_temperature", [0.02, 0.5, 1.0, 3.0, 200.0])
def test_the_planted_temperature_is_found(planted_temperature):
    logits, codes = clips_of(planted_temperature)
    assert fit_temperature(logits, codes) == pytest.approx(planted_temperature, rel=0.03)


def test_it_is_the_least_of_the_likelihood():
    logits, codes = clips_of(2.0, n=400)
    found = fit_temperature(logits, codes)

    def loss(temperature):
        return -np.log(softmax(logits / temperature, axis=1)[np.arange(400), codes]).mean()

    grid = np.geomspace(0.2, 20, 2000)
    assert found == pytest.approx(grid[np.argmin([loss(each) for each in grid])], rel=0.05)


def test_calibration_lowers_the_error_on_clips_that_it_has_not_seen():
    logits, codes = clips_of(4.0, n=3000)
    temperature = fit_temperature(logits[:1500], codes[:1500])

    def error(values):
        said = softmax(values, axis=1)
        return scores.ece(scores.reliability(said.max(axis=1), said.argmax(axis=1) == codes[1500:]))

    assert error(logits[1500:]) > 0.15 > 0.05 > error(logits[1500:] / temperature)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 7), st.floats(-6, 6))
def test_any_clips_give_a_positive_temperature_that_leaves_what_is_said(seed, n, n_classes, power):
    rng = np.random.default_rng(seed)
    logits, codes = 10**power * rng.standard_normal((n, n_classes)), rng.integers(0, n_classes, n)
    found = fit_temperature(logits, codes)
    assert 0 < found < np.inf
    np.testing.assert_array_equal((logits / found).argmax(axis=1), logits.argmax(axis=1))
    assert np.isfinite(softmax(logits / found, axis=1)).all()


def test_few_clips_that_are_all_right_are_no_certainty():
    """Ten clips of ten that are alike: Platt's targets ask for 11/12, not for 1."""
    logits, codes = np.tile([3.0, 0.0], (10, 1)), np.zeros(10, dtype=np.int64)
    assert softmax(logits[0] / fit_temperature(logits, codes))[0] == pytest.approx(11 / 12, abs=1e-3)


def test_what_tells_nothing_leaves_the_temperature():
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, dtype=np.int64)) == 1.0
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)) == 1.0
    assert fit_temperature(np.full((2, 3), -np.inf), np.zeros(2, dtype=np.int64)) == 1.0
    worse = fit_temperature(np.tile([5.0, 0.0], (20, 1)), np.ones(20, dtype=np.int64))
    assert softmax(np.array([5.0, 0.0]) / worse)[0] == pytest.approx(0.5, abs=0.01)  # always wrong: it knows nothing


def test_a_head_takes_it_from_its_held_out_clips():
    examples = planted(signal=0.8)
    head = train_discriminant(examples)
    found = calibrated(head)
    assert found.temperature == fit_temperature(head.held_out.logits, head.held_out.codes) != 1.0
    before, after = head.probabilities(examples.features), found.probabilities(examples.features)
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert calibrated(replace(head, held_out=None)).temperature == 1.0
    none = HeldOut(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert calibrated(replace(head, held_out=none)).temperature == 1.0


def test_clips_whose_fits_lacked_a_class_do_not_count():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 200)
    logits = 2 * np.eye(3)[codes] + rng.standard_normal((200, 3))
    lacking, rows = logits.copy(), np.arange(200)
    lacking[150:, 1] = -np.inf
    examples = planted(n_speakers=2, n_classes=3)
    head = replace(train_discriminant(examples), held_out=HeldOut(lacking, codes, rows))
    without = replace(head, held_out=HeldOut(logits[:150], codes[:150], rows[:150]))
    found, expected = (with_threshold(calibrated(each)) for each in (head, without))
    assert found.temperature == expected.temperature != 1 and found.threshold == expected.threshold > 0
    none = replace(head, held_out=HeldOut(lacking[150:], codes[150:], rows[150:]))
    assert with_threshold(calibrated(none)).temperature == 1 and with_threshold(none).threshold == 0
