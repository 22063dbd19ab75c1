"""Distance to the training clips: new voices of the same kind pass, what is something else does not."""

import time
from dataclasses import replace

import numpy as np
import pytest

from core.emotion.domain import MOST_AXES, MOST_CLIPS, _Space, distance, drawn_evenly, with_reference
from core.emotion.head import Examples, Head
from tests.emotion.planted import planted, train_discriminant


def rich(n_speakers=12, seed=0, dim=60, each=4):
    """Clips whose voices and noise are larger in some directions than in others, as those of an encoder are."""
    examples = planted(seed, n_speakers=n_speakers, each=each, voice=0.8, dim=dim)
    mix = np.random.default_rng(99).standard_normal((dim, dim)) * np.geomspace(3, 0.05, dim)
    return replace(examples, features=(examples.features @ mix).astype(np.float32))


def of(examples):
    return with_reference(train_discriminant(examples), examples)


def test_a_twentieth_of_the_clips_of_new_speakers_is_called_unlike():
    shares = []
    for seed in range(6):
        examples = rich(32, seed)
        head = of(examples.take(np.flatnonzero(examples.speakers < "s12")))
        shares.append(np.mean(distance(head, examples.take(np.flatnonzero(examples.speakers >= "s12")).features) > 1))
    assert 0.02 < np.mean(shares) < 0.09


def test_a_threshold_from_the_very_clips_that_were_fitted_would_call_more_of_them_unlike():
    examples = rich(32)
    heard = examples.take(np.flatnonzero(examples.speakers < "s12"))
    head = of(heard)
    itself = np.quantile(distance(head, heard.features), 0.95)
    strangers = distance(head, examples.take(np.flatnonzero(examples.speakers >= "s12")).features)
    assert itself < 1 and np.mean(strangers > itself) > 1.5 * np.mean(strangers > 1)


@pytest.mark.parametrize("kind", ["noise", "one direction", "louder in every dim", "other dims"])
def test_what_is_something_else_is_far(kind):
    examples = rich()
    head, rng = of(examples), np.random.default_rng(1)
    usual, spread = examples.features.mean(axis=1), examples.features.std(axis=1)
    if kind == "noise":
        strange = usual + 6 * spread * rng.standard_normal((1, 20, 60))
    elif kind == "one direction":
        strange = usual + 12 * spread * (np.arange(60) == 7)[None, None]
    elif kind == "louder in every dim":
        strange = usual + 8 * spread * np.ones((1, 1, 60))
    else:
        strange = examples.features[:, :20, rng.permutation(60)]
    assert (distance(head, strange) > 1).all()


def test_the_distance_is_the_closed_form_and_does_not_touch_training_clips():
    """Two ways to the same numbers: products of clips, by which the threshold was set, and the axes that are stored."""
    examples = rich(6)
    head = of(examples)
    rows = head.mixed(examples.features)
    stored = distance(head, examples.features) * head.reference.threshold
    space = _Space.of(rows)
    np.testing.assert_allclose(stored, space.distances(space.fit(np.arange(0)), np.arange(len(rows))))
    # By hand, from all principal axes of the covariance.
    values, axes = np.linalg.eigh(np.cov(rows.T))
    count = head.reference.axes.shape[1]
    scores = (rows - rows.mean(axis=0)) @ axes[:, ::-1]
    inside = (scores[:, :count] ** 2 / values[::-1][:count]).mean(axis=1)
    outside = (scores[:, count:] ** 2).sum(axis=1) / values[::-1][count:].sum()
    np.testing.assert_allclose(stored, np.sqrt(inside + outside))
    assert count == len(rows) // 8


@pytest.mark.parametrize("dim", [60, 350])
def test_a_fit_without_some_speakers_is_the_one_of_the_others_alone(dim):
    """The witness fits the others' covariance from nothing; wide rows go through products in single precision."""
    examples = rich(20, dim=dim, each=4)
    rows = of(examples).mixed(examples.features)
    left = np.flatnonzero(examples.speakers == "s03")
    others = np.delete(rows, left, axis=0)
    _, sizes, axes = np.linalg.svd(others - others.mean(axis=0), full_matrices=False)
    powers, count = sizes**2 / (len(others) - 1), MOST_AXES
    scores = (rows[left] - others.mean(axis=0)) @ axes.T
    away = np.square(rows[left] - others.mean(axis=0)).sum(axis=1) - np.square(scores[:, :count]).sum(axis=1)
    inside = (scores[:, :count] ** 2 / powers[:count]).mean(axis=1)
    space = _Space.of(rows)
    found = space.distances(space.fit(left), left)
    np.testing.assert_allclose(found, np.sqrt(inside + away / powers[count:].sum()), rtol=0.03)


def test_twenty_thousand_clips_take_no_longer_than_a_thousand():
    """Speakers of 10 to 1,900 clips; the head mixes what is drawn alone."""
    rng = np.random.default_rng(0)
    speakers = np.repeat([f"s{number:02d}" for number in range(21)], np.arange(10, 1911, 95)[:21])
    features = rng.standard_normal((1, len(speakers), 100), dtype=np.float32)
    examples = Examples((0,), features, rng.integers(0, 4, len(speakers)), speakers, 4)
    assert len(examples) > 20_000
    ones = np.ones((1, 100))
    head = Head((0,), "mean", 0 * ones, ones, np.ones(1), "summed", ())
    began = time.process_time()
    found = with_reference(head, examples)
    assert time.process_time() - began < 2.0
    assert 0.02 < np.mean(distance(found, features[:, ::20]) > 1) < 0.08
    drawn = drawn_evenly(speakers, MOST_CLIPS)
    counts = np.unique(speakers[drawn], return_counts=True)[1]
    assert counts.sum() == MOST_CLIPS and counts[0] == 10 and np.ptp(counts[1:]) <= 1
    np.testing.assert_array_equal(np.unique(drawn), drawn)
    assert len(np.unique(speakers[drawn_evenly(speakers, 15)])) == 15


def test_the_reference_is_small_and_its_threshold_is_the_next_clip_above():
    examples = rich(35, each=2, dim=80)
    head = of(examples)
    assert head.reference.axes.shape == (80, MOST_AXES)
    np.testing.assert_allclose(head.reference.axes.T @ head.reference.axes, np.eye(MOST_AXES), atol=1e-8)


def test_with_one_speaker_nothing_is_known_of_others():
    examples = planted(n_speakers=1)
    head = of(examples)
    assert head.reference is None
    assert (distance(head, examples.features) == 0).all()


@pytest.mark.parametrize("dim", [1, 5])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_poor_clips_do_no_harm(dim, spread):
    features = 1 + spread * np.random.default_rng(0).standard_normal((1, 24, dim))
    speakers = np.array([f"s{number % 3}" for number in range(24)])
    examples = Examples((0,), features.astype(np.float32), np.arange(24) // 3 % 2, speakers, 2)
    head = of(examples)
    found = distance(head, examples.features)
    assert np.isfinite(found).all() and (found >= 0).all()
    assert (distance(head, examples.features + 100) > 1).all()
    few = examples.take(np.arange(6))
    assert of(few).reference is None
