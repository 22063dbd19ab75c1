"""The default head: its closed forms against fitting again, what it hears of held-out speakers, and planted truth."""

from dataclasses import replace

import numpy as np
import pytest

from core.emotion import linear
from core.emotion.calibration import calibrated
from core.emotion.head import Examples
from core.scoring import HeadSettings

SETTINGS = HeadSettings()


def planted(n_speakers=6, each=6, n_classes=3, n_layers=3, dim=40, seed=0, voice=1.0):
    """Clips of which layer 1 holds the class, and every layer the voice; layer 0 holds nothing else."""
    rng = np.random.default_rng(seed)
    codes = np.tile(np.repeat(np.arange(n_classes), each), n_speakers)
    who = np.repeat(np.arange(n_speakers), n_classes * each)
    features = rng.standard_normal((n_layers, len(codes), dim))
    features += voice * rng.standard_normal((n_layers, n_speakers, dim))[:, who]
    features[1] += 1.2 * rng.standard_normal((n_classes, dim))[codes]
    features[2] += 0.4 * rng.standard_normal((n_classes, dim))[codes]
    return Examples(
        (0, 1, 2)[:n_layers], features.astype(np.float32), codes, np.array([f"s{one}" for one in who]), n_classes
    )


def recall(head, examples):
    said = head.logits(examples.features).argmax(axis=1)
    return np.mean([np.mean(said[examples.codes == code] == code) for code in np.unique(examples.codes)])


def split(examples, speaker):
    there = examples.speakers == speaker
    return examples.take(np.flatnonzero(~there)), examples.take(np.flatnonzero(there))


def problem_and_kernel(examples):
    problem = linear._Problem.of(examples, SETTINGS)
    return problem, linear._kernel(examples.features[1].astype(np.float64))


@pytest.mark.parametrize("class_weights", [True, False])
def test_leaving_a_group_out_in_closed_form_equals_fitting_without_it(class_weights):
    examples = planted()
    problem = linear._Problem.of(examples, replace(SETTINGS, class_weights=class_weights))
    kernel = linear._kernel(examples.features[1].astype(np.float64))
    closed = problem.leave_out(kernel, 0.3)
    for group in np.unique(problem.groups):
        rest, tested = np.flatnonzero(problem.groups != group), np.flatnonzero(problem.groups == group)
        fit = problem.solved(kernel[np.ix_(rest, rest)], 0.3, rest)
        np.testing.assert_allclose(closed[tested], kernel[np.ix_(tested, rest)] @ fit.coefficients + fit.offset)


def test_the_ridge_is_the_one_of_scikit_learn():
    from sklearn.linear_model import Ridge

    examples = planted()
    problem, kernel = problem_and_kernel(examples)
    rows = examples.features[1].astype(np.float64)
    level = np.mean(np.sum(rows**2, axis=1))
    theirs = Ridge(alpha=0.3 * level).fit(rows, np.eye(3)[examples.codes], sample_weight=problem.importance)
    fit = problem.solved(kernel, 0.3)
    np.testing.assert_allclose(kernel @ fit.coefficients + fit.offset, theirs.predict(rows), atol=1e-8)


def test_the_affine_map_is_the_kernel_machine():
    """The head's logits of the clips themselves equal those by kernel, voices made to count less on both sides."""
    examples = planted()
    head = linear.train_linear(examples, SETTINGS)
    layers = (examples.features - head.mean[:, None]) / head.scale[:, None]
    mixture = linear._Mixture.of(layers, head.layer_weights, examples)
    problem = linear._Problem.of(examples, SETTINGS)
    kernel = mixture.quietened_kernel(mixture.voices())
    fit = problem.solved(kernel, head.notes["ridge"])
    scores = linear._held_out_scores(mixture, problem, head.notes["ridge"])
    wanted = problem.discriminant(scores)(kernel @ fit.coefficients + fit.offset)
    np.testing.assert_allclose(head.logits(examples.features), wanted, atol=1e-3)


def test_the_layer_that_holds_the_class_counts_most():
    weights = linear.train_linear(planted(), SETTINGS).layer_weights
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > weights[2] > weights[0]


def test_what_is_said_of_held_out_speakers_is_what_a_head_without_them_says():
    """No voice of a held-out speaker is known: the head's own estimate is no better than the truth (planted voices)."""
    examples = planted(n_speakers=5, each=4, voice=2.0, seed=3)
    held = linear.train_linear(examples, SETTINGS).held_out
    claimed = np.mean(held.logits.argmax(axis=1) == held.codes)
    honest = np.mean([recall(linear.train_linear(train, SETTINGS), test) for train, test in
                      (split(examples, speaker) for speaker in np.unique(examples.speakers))])  # fmt: skip
    assert claimed <= honest + 0.05


def test_voices_are_made_to_count_less_and_that_helps_with_new_ones():
    gains = []
    for seed in range(3):
        examples = planted(n_speakers=8, each=2, dim=30, voice=3.0, seed=seed)
        train, test = split(examples, "s0")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear, "SPEAKER_PENALTY", 0.0)
            without = recall(linear.train_linear(train, SETTINGS), test)
        gains.append(recall(linear.train_linear(train, SETTINGS), test) - without)
    assert np.mean(gains) >= 0


def test_noise_stays_at_chance():
    rng = np.random.default_rng(0)
    examples = planted()
    noise = replace(examples, features=rng.standard_normal(examples.features.shape).astype(np.float32))
    found = [recall(linear.train_linear(train, SETTINGS), test)
             for train, test in (split(noise, speaker) for speaker in np.unique(noise.speakers))]  # fmt: skip
    assert abs(np.mean(found) - 1 / 3) < 0.15


def test_a_class_of_one_speaker_does_not_spoil_the_calibration():
    """Where its only speaker is held out nothing can be said of the class; the others' temperature must not pay."""
    examples = planted(n_speakers=6, n_classes=3)
    kept = np.flatnonzero((examples.codes < 2) | (examples.speakers == "s0"))
    head = linear.train_linear(examples.take(kept), SETTINGS)
    assert np.isfinite(head.held_out.logits).all() and len(head.held_out.rows) < len(kept)
    assert calibrated(head).temperature < 10  # 65 and more where such clips count


def test_speakers_of_one_class_each_have_no_voices():
    examples = planted(n_speakers=3, n_classes=3)
    one_each = examples.take(np.flatnonzero(examples.codes == np.char.lstrip(examples.speakers, "s").astype(int)))
    voices = linear._Voices.of(one_each.features[1], one_each.codes, one_each.speakers)
    assert len(voices.axes) == 0


def test_the_order_of_the_clips_does_not_matter():
    examples = planted()
    order = np.random.default_rng(1).permutation(len(examples))
    first, second = (linear.train_linear(each, SETTINGS) for each in (examples, examples.take(order)))
    np.testing.assert_allclose(first.logits(examples.features), second.logits(examples.features), atol=0.02)


def test_one_training_speaker_and_dims_that_do_not_vary():
    examples = planted(n_speakers=1)
    examples.features[:, :, 3] = 7.0
    head = linear.train_linear(examples, SETTINGS)
    assert np.isfinite(head.logits(examples.features)).all() and np.isfinite(head.scale).all()
    assert recall(head, examples) > 0.9


def test_many_clips_are_drawn_evenly(monkeypatch):
    monkeypatch.setattr(linear, "MOST_COMPARED", 40)
    monkeypatch.setattr(linear, "MOST_FITTED", 80)
    examples = planted()
    head = linear.train_linear(examples, SETTINGS)
    assert head.notes["n_fitted"] == 80
    assert recall(head, examples) > 0.9


def test_one_training_speaker_is_told_from_several():
    examples = planted()
    assert linear.train_linear(examples, SETTINGS).held_out.speakers
    assert not linear.train_linear(split(examples, "s0")[1], SETTINGS).held_out.speakers
