"""What the recipes probe for: labels at the right frames, log-mel on the encoder's grid, pooling."""

import numpy as np
import pytest

from core.recipes import probes
from core.training.corpus import read_mono
from core.training.distill import STUDENT_CLOCK


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
