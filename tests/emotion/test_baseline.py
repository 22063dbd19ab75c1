"""The baseline: statistics that numpy and scipy give as well, of a spectrum that is the project's own."""

import csv
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from scipy.fft import dct
from scipy.stats import skew

from core.analysis.mel import FLOOR, MelFrames, mel_clock
from core.audio.signal import Signal, open_signal
from core.emotion import baseline as module
from core.emotion.baseline import N_CEPSTRA, N_MELS, PIECE_FRAMES, baseline
from core.errors import InputError, MissingPackage

RATE = 16_000
WIDTH = N_MELS + N_CEPSTRA


def noise(seconds, seed=0):
    generator = np.random.default_rng((seed, 13))
    return (0.05 * np.repeat(generator.uniform(0.2, 1, 200), 160)[: int(seconds * RATE)]) * generator.normal(
        size=int(seconds * RATE)
    )


def vector_of(samples):
    with Signal.from_array(np.asarray(samples, dtype=np.float32), RATE) as signal:
        return baseline("log-mel")(signal)


def spectrum_of(samples):
    clock = mel_clock(RATE)
    samples = np.asarray(samples, dtype=np.float32)
    return np.log(MelFrames.at(RATE, clock.field, clock.hop, N_MELS).add(samples - samples.mean()) + FLOOR)


def test_statistics_are_those_of_numpy_and_scipy():
    samples = noise(1.5)
    log_mel = spectrum_of(samples)
    values = np.concatenate([log_mel, dct(log_mel, axis=1, norm="ortho")[:, :N_CEPSTRA]], axis=1)
    parts = vector_of(samples)[0].reshape(-1, WIDTH)
    assert len(parts) == 16
    change = values[2:] - values[:-2]
    wanted = [
        values.mean(axis=0),
        values.std(axis=0),
        skew(values, axis=0),
        *np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0),
        *np.quantile(change, [0.05, 0.25, 0.75, 0.95], axis=0),
        *((values[apart:] - values[:-apart]).std(axis=0) for apart in (2, 5, 10, 20)),
    ]
    np.testing.assert_allclose(parts, np.stack(wanted), rtol=1e-3, atol=1e-3)


def test_a_longer_recording_is_the_mean_of_its_minutes(monkeypatch):
    monkeypatch.setattr(module, "PIECE_FRAMES", 50)
    samples = noise(1.6)
    frames = spectrum_of(samples)
    # The first piece lacks the frames whose windows reach into the second.
    edges = [0, 48, 98, 148, len(frames)]
    pieces = [module._statistics(frames[low:high]) for low, high in pairwise(edges)]
    wanted = np.average(pieces, axis=0, weights=np.diff(edges))
    np.testing.assert_allclose(vector_of(samples)[0], wanted, rtol=1e-3, atol=2e-3)
    assert PIECE_FRAMES == 6_000


@pytest.mark.parametrize("samples", [np.zeros(16_000), np.zeros(3) + 0.5, noise(0.01), noise(0.03), noise(0.05)])
def test_silence_and_the_shortest_clips_have_a_vector(samples):
    vector = vector_of(samples)
    assert vector.shape == (1, 16 * WIDTH)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()


def test_loudness_moves_levels_and_nothing_else():
    samples = noise(1.5)
    quiet, loud = (vector_of(samples * gain)[0].reshape(-1, WIDTH)[:, :N_MELS] for gain in (1.0, 4.0))
    np.testing.assert_allclose(loud[0] - quiet[0], np.log(16), atol=0.02)
    np.testing.assert_allclose(loud[1], quiet[1], atol=0.02)


def test_the_key_tells_one_version_from_another(monkeypatch):
    one = baseline("log-mel")
    assert (one.name, one.sampling_rate) == ("log-mel", RATE)
    assert str(module.VERSION) in one.key


def test_an_unknown_baseline_is_refused():
    with pytest.raises(InputError, match=r"'mfcc'; expected log-mel or egemaps"):
        baseline("mfcc")


@pytest.mark.skipif(find_spec("opensmile") is not None, reason="opensmile is installed")
def test_without_opensmile_the_remedy_and_its_licence_are_said():
    with pytest.raises(MissingPackage, match=r"pip install opensmile.*licence.*log-mel needs nothing"):
        baseline("egemaps")


@pytest.mark.skipif(find_spec("opensmile") is None, reason="opensmile is not installed")
def test_egemaps_has_88_values():
    with Signal.from_array(noise(1.5).astype(np.float32), RATE) as signal:
        vector = baseline("egemaps")(signal)
    assert vector.shape == (1, 88)
    assert np.isfinite(vector).all()


def test_anger_and_sadness_of_unheard_speakers_are_told_apart(shared_data):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = shared_data("emodb_2s")
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] in ("anger", "sadness")]
    rows = [row for speaker in ("03", "08", "09") for row in rows if row["speaker"] == speaker]
    features, measure = [], baseline("log-mel")
    for row in rows:
        with open_signal(folder / "flac16k" / row["file"], RATE) as signal:
            features.append(measure(signal)[0])
    features, labels = np.stack(features), np.array([row["emotion"] for row in rows])
    speakers = np.array([row["speaker"] for row in rows])
    right = []
    for speaker in np.unique(speakers):
        tested = speakers == speaker
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
        right.extend(model.fit(features[~tested], labels[~tested]).predict(features[tested]) == labels[tested])
    assert np.mean(right) > 0.9
