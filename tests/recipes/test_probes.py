"""Probes: planted answers, leak-proof layer choice, and labels at the right frames."""

import numpy as np
import pytest
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold

from core.recipes import probes
from core.training.corpus import read_mono
from core.training.distill import STUDENT_CLOCK


def planted(n_layers=3, n=240, informative=1, seed=0):
    """Two classes, eight groups; one layer tells the classes apart, the others hold noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(["angry", "calm"])[rng.integers(0, 2, n)]
    groups = np.arange(n) % 8
    layers = rng.standard_normal((n_layers, n, 6)).astype(np.float32)
    layers[informative, :, 2] += 3.0 * (labels == "angry")
    return layers, labels, groups


def test_the_informative_layer_is_found_and_chosen():
    layers, labels, groups = planted()
    probe = probes.emotion_probe("planted", "", GroupKFold(4))
    outcome = probes.run_probe(probe, layers, labels, groups)
    assert outcome.scores[1] > 0.85
    assert max(outcome.scores[0], outcome.scores[2]) < 0.65
    assert outcome.chosen == outcome.scores[1]
    assert outcome.interval[0] < outcome.chosen < outcome.interval[1]
    assert probes.chance_level(probe.score, labels) == 0.5


def test_the_layer_is_chosen_without_the_test_groups():
    """A layer that is right in the test fold alone must not be taken for it."""
    layers, labels, groups = planted(n_layers=2, informative=0)
    outside = groups >= 2
    layers[1] = np.random.default_rng(1).standard_normal(layers[1].shape)
    layers[1, ~outside, 0] = 100 * (labels[~outside] == "angry")
    probe = probes.emotion_probe("planted", "", GroupKFold(4))
    best = probes._best_layer(probe, layers[:, outside], labels[outside], groups[outside])
    assert best == 0


def test_speakers_that_give_away_the_label_do_not_help():
    """Features that only name the group: a leak between folds would score 1."""
    groups = np.repeat(np.arange(8), 30)
    labels = np.array(["a", "b"])[groups % 2]
    layers = np.eye(8, dtype=np.float32)[groups][None]
    outcome = probes.run_probe(probes.emotion_probe("leak", "", GroupKFold(8)), layers, labels, groups)
    assert outcome.scores[0] < 0.6


def test_uar_is_the_mean_recall():
    labels, predictions = np.array(list("aaaabbc")), np.array(list("aaabbac"))
    probe = probes.emotion_probe("", "", GroupKFold(2))
    wanted = recall_score(labels, predictions, average="macro")
    assert probe.score(labels, predictions) == pytest.approx(wanted)
    assert wanted == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)


def test_labels_stand_at_the_centres_of_their_frames(tmp_path):
    text = "signal x\ntype 0\n#\n 0.100000   -1 _t\n 0.25 -1 E\t+asp\n 0.27 -1 \t+hoe\n 0.3 -1 l\n"
    (tmp_path / "a.lablaut").write_text(text, "latin-1")
    segments = probes.read_xlabel(tmp_path / "a.lablaut")
    assert segments == [(0.1, "_t"), (0.25, "E"), (0.3, "l")]
    labels = probes.frame_labels(segments, 16_000 // 2)
    centres = STUDENT_CLOCK.centre(np.arange(len(labels)))
    for centre, label in zip(centres, labels, strict=True):
        assert label == ("" if centre < 0.1 else "_t" if centre < 0.25 else "E" if centre < 0.3 else "l")
    assert {"_t", "E", "l", ""} == set(labels)


def test_phone_times_of_emodb_are_onsets(shared_data):
    """Closures (t, p, k) are quieter than the bursts (!t, !p, !k) that follow them, as they cannot be otherwise."""
    folder = shared_data("emodb_2s")
    levels = {"closure": [], "burst": []}
    for path in sorted((folder / "lablaut").glob("*a0*.lablaut"))[:60]:
        recording = folder / "flac16k" / f"{path.stem[:7]}.flac"
        if not recording.exists():
            continue
        energy = probes.log_mel_features()(read_mono(recording))[0].mean(axis=1)
        for label, level in zip(probes.frame_labels(probes.read_xlabel(path), 32_000), energy, strict=False):
            if label.strip("!") in ("t", "p", "k"):
                levels["burst" if label.startswith("!") else "closure"].append(level)
    assert min(map(len, levels.values())) > 50
    assert np.mean(levels["burst"]) > np.mean(levels["closure"]) + 2


def test_log_mel_frames_share_the_encoders_grid_and_peak_at_the_tone():
    time = np.arange(16_000) / 16_000
    tone = np.where(time < 0.5, np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 3000 * time)).astype(np.float32)
    frames = probes.log_mel_features()(tone)[0]
    assert len(frames) == STUDENT_CLOCK.n_frames(16_000)
    change = np.flatnonzero(np.diff(frames.argmax(axis=1)) != 0)
    assert STUDENT_CLOCK.centre(int(change[0]) + 1) == pytest.approx(0.5, abs=0.02)


def test_pooling_gives_mean_and_deviation():
    frames = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float32)
    pooled = probes.pooled(lambda audio: frames * audio[0], [np.array([1.0]), np.array([2.0])])
    assert pooled.shape == (2, 2, 8)
    assert np.allclose(pooled[1, 1], np.concatenate([2 * frames[1].mean(0), 2 * frames[1].std(0)]), atol=1e-6)
