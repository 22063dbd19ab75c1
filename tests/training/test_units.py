"""Units of speech: planted clusters, the encoder's clock, and names that stay."""

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from transformers import HubertConfig, HubertModel

from core.training.corpus import SAMPLING_RATE, Clip, Corpus
from core.training.distill import CONV_KERNELS, CONV_STRIDES, STUDENT_CLOCK, normalise
from core.training.units import (
    UnitSettings,
    build_units,
    encoder_states,
    find_clusters,
    fingerprint,
    mfcc,
)

LENGTHS = [400, 401, 559, 560, 719, 720, 721, 1039, 1040, 16_000, 16_001, 16_079, 16_080, 23_999]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return HubertModel(
        HubertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
            conv_kernel=CONV_KERNELS, conv_stride=CONV_STRIDES, num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
    ).eval()  # fmt: skip


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_features_have_the_frames_of_the_clock(n_samples, encoder):
    noise = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
    assert mfcc(noise).shape == (STUDENT_CLOCK.n_frames(n_samples), 39)
    assert len(encoder_states(encoder, 1)(noise)) == STUDENT_CLOCK.n_frames(n_samples)


def test_the_slopes_are_those_of_a_regression_over_five_frames():
    """Against the formula of HTK: sum of n (c[t + n] - c[t - n]) over 2 sum of n squared, in frames of 10 ms."""
    noise = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    # The same sound from 10 and 20 ms later or earlier holds the frames that the encoder's clock leaves out.
    shifted = {n: mfcc(noise[1600 + 160 * n : 1600 + 160 * n + 4_000] * 1.0) for n in (-2, -1, 1, 2)}
    scale = {n: noise[1600 + 160 * n : 1600 + 160 * n + 4_000].std() for n in shifted}
    here = mfcc(noise[1600:5600])
    # Another level shifts the first coefficient alone: 2 log(scale) times the square root of 80 bands.
    first = {n: value[:, 0] + np.sqrt(80) * 2 * np.log(scale[n]) for n, value in shifted.items()}
    slope = (first[1] - first[-1] + 2 * (first[2] - first[-2])) / 10
    np.testing.assert_allclose(here[3:-3, 13], slope[3:-3], atol=2e-3)


def test_loudness_is_of_no_account():
    noise = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    np.testing.assert_allclose(mfcc(noise), mfcc(noise * 0.01), atol=1e-3)


def test_planted_clusters_are_found():
    random = np.random.default_rng(0)
    truth = random.integers(5, size=3_000)
    features = (10 * random.standard_normal((5, 6)))[truth] + random.standard_normal((3_000, 6))
    clusters = find_clusters(features.astype(np.float32) * [1, 1, 1, 1, 1, 1_000], UnitSettings(5))
    found = clusters.units(features * [1, 1, 1, 1, 1, 1_000])
    assert normalized_mutual_info_score(truth, found) > 0.99
    shuffled = random.permutation(truth)
    assert normalized_mutual_info_score(shuffled, found) < 0.02


def tones(*heights):
    """Half a second of each."""
    times = np.arange(8_000) / SAMPLING_RATE
    return np.concatenate([np.sin(2 * np.pi * height * times) for height in heights]).astype(np.float32)


def corpus_of(*signals):
    starts = np.cumsum([0, *map(len, signals)])
    clips = tuple(Clip(f"c{k}", "made", f"g{k}", str(k), int(starts[k]), len(one)) for k, one in enumerate(signals))
    return Corpus(clips, np.round(np.concatenate(signals) * 20_000).astype(np.int16))


def test_units_change_where_the_sound_does_and_stay_on_disk(tmp_path):
    noise = 0.05 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    corpus = corpus_of(tones(300, 2_000) + noise, tones(2_000, 300) + noise, tones(300, 300) + noise)
    calls = []

    def features(samples):
        calls.append(len(samples))
        return mfcc(samples)[:, 1:13]

    settings = UnitSettings(2)
    units = build_units(corpus, corpus.clips[:2], features, settings, tmp_path / "units.npz")
    n_frames = STUDENT_CLOCK.n_frames(16_000)
    assert units.states.shape == (3 * n_frames,) and units.states.dtype == np.int16
    first, second, steady = (units.crop(clip, 0, n_frames) for clip in corpus.clips)
    # Frame 24 is the last one whose 400 samples begin before the tone changes at sample 8,000 by more than half.
    assert STUDENT_CLOCK.centre(24) < 0.5 < STUDENT_CLOCK.centre(25)
    for one in (first, second):
        changes = np.flatnonzero(np.diff(one)) + 1
        assert len(changes) == 1 and abs(changes[0] - 25) <= 1
    assert set(steady) == {first[0]} == {second[-1]}

    n_calls = len(calls)
    again = build_units(corpus, corpus.clips[:2], features, settings, tmp_path / "units.npz")
    assert len(calls) == n_calls and fingerprint(again) == fingerprint(units)
    assert fingerprint(type(units)(units.states[::-1], units.starts)) != fingerprint(units)


def test_states_of_a_short_clip_are_the_encoders_own(encoder):
    _, n_samples = STUDENT_CLOCK.samples_of(0, 27)
    noise = np.random.default_rng(1).standard_normal(n_samples).astype(np.float32)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(normalise(noise[None])), output_hidden_states=True).hidden_states[2][0]
    np.testing.assert_array_equal(encoder_states(encoder, 2)(noise), expected.numpy())
