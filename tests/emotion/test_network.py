"""The head as a network: equal to its numbers, seeded, resumable, and stopped by speakers it was not trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.emotion import network as networks
from core.emotion.calibration import calibrated
from core.emotion.head import Examples
from core.emotion.network import NetworkTrainer
from core.errors import InputError
from core.scoring import HeadSettings
from core.training.runs import Stopped

MLP = HeadSettings(head="mlp", epochs=12, patience=3, learning_rate=2e-3, batch_size=16)
LEARNED = replace(MLP, pooling="learned", epochs=30, learning_rate=5e-3)
N_LAYERS, DIM, N_CLASSES = 3, 8, 3


def made(n_speakers=4, each=12, seed=0, frames=False):
    """Clips whose class is in layer 1 alone; with frames, in the few frames that are marked by their first value."""
    rng = np.random.default_rng(seed)
    codes = np.tile(np.arange(N_CLASSES), n_speakers * each)[: n_speakers * each]
    speakers = np.repeat([f"s{number:02}" for number in range(n_speakers)], each)
    pieces = []
    for code in codes:
        clip = 5.0 + 2.0 * rng.standard_normal((N_LAYERS, int(rng.integers(6, 15)), DIM))
        marked = rng.permutation(clip.shape[1])[:2] if frames else slice(None)
        clip[1, marked, 0] += 12.0 if frames else 0.0
        clip[1, marked, 1 + code] += 6.0
        pieces.append(clip.astype(np.float32))
    pooled = np.stack([clip.mean(axis=1) for clip in pieces], axis=1)
    return Examples((0, 1, 2), pooled, codes, speakers, N_CLASSES, tuple(pieces) if frames else ())


def same(first, second):
    pairs = zip(first.maps, second.maps, strict=True)
    arrays = [(a.weight, b.weight) for a, b in pairs] + [(first.layer_weights, second.layer_weights)]
    return all(np.array_equal(a, b) for a, b in [*arrays, (first.held_out.logits, second.held_out.logits)])


def stop_after(n):
    calls = iter(range(n + 1))
    return lambda: next(calls) >= n


@pytest.fixture(scope="module")
def pooled_head():
    return NetworkTrainer(MLP)(made())


@pytest.fixture(scope="module")
def learned_head():
    return NetworkTrainer(LEARNED)(made(frames=True))


@pytest.mark.parametrize("settings", [MLP, LEARNED, replace(MLP, layer="1")])
def test_a_head_is_its_network_in_numbers(monkeypatch, settings):
    kept, as_head = [], networks.as_head
    monkeypatch.setattr(networks, "as_head", lambda network, *rest: kept.append(network) or as_head(network, *rest))
    examples = made(frames=settings.pooling == "learned")
    head = NetworkTrainer(replace(settings, epochs=2))(examples)
    (network,) = kept
    assert not network.training
    for row in range(len(examples)):
        frames = torch.from_numpy(examples.frames[row][None]) if examples.frames else None
        pooled = torch.from_numpy(examples.features[:, row].copy()[None])
        with torch.inference_mode():
            expected = network(pooled if frames is None else frames)
        found = head.logits(head.pooled(examples.take(np.array([row]))).features)
        assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_padding_changes_nothing_and_the_attention_finds_what_counts(learned_head):
    strangers = made(frames=True, seed=9)
    said = learned_head.logits(learned_head.pooled(strangers).features)
    assert np.mean(said.argmax(axis=1) == strangers.codes) > 0.9
    clip = strangers.frames[0]
    marked = clip[1, :, 0] > 11.0
    scores = learned_head.mixed(clip) @ learned_head.attention
    assert scores[marked].min() > scores[~marked].max()
    reader = networks._reader(strangers)
    frames, lengths = reader(np.array([0, 1, 2]))
    assert lengths.tolist() == [strangers.frames[row].shape[1] for row in range(3)]
    torch.manual_seed(0)
    network = networks.EmotionNetwork(
        networks.Mixture(networks.scales_of(strangers.frames), None), N_CLASSES, attention=True
    ).eval()
    torch.nn.init.normal_(network.attention.query)
    with torch.inference_mode():
        alone = torch.cat([network(*reader(np.array([row]))) for row in range(3)])
        assert network(frames, lengths).numpy() == pytest.approx(alone.numpy(), abs=1e-6)


def test_speakers_who_were_not_heard_are_recognised(pooled_head):
    strangers = made(seed=9)
    assert np.mean(pooled_head.logits(strangers.features).argmax(axis=1) == strangers.codes) > 0.9
    assert pooled_head.layer_weights.argmax() == 1
    assert pooled_head.layer_weights.sum() == pytest.approx(1.0)


def test_the_seed_decides_every_bit(pooled_head):
    torch.manual_seed(123)  # whatever was done before
    before = torch.get_rng_state()
    assert same(NetworkTrainer(MLP)(made()), pooled_head)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(NetworkTrainer(replace(MLP, seed=1))(made()), pooled_head)


def test_frames_are_only_for_a_learned_pooling():
    examples, settings = made(frames=True), replace(MLP, epochs=1)
    assert same(NetworkTrainer(settings)(examples), NetworkTrainer(settings)(replace(examples, frames=())))


def test_scales_come_from_the_clips_that_are_trained_on(pooled_head):
    examples = made()
    assert pooled_head.mean == pytest.approx(examples.features.mean(axis=1, dtype=np.float64), rel=1e-6)
    assert pooled_head.scale == pytest.approx(examples.features.std(axis=1, dtype=np.float64), rel=1e-5)


def test_held_out_clips_were_not_heard():
    """Other labels of one speaker change what others get, but not what that speaker gets from fits without them."""
    examples, settings = made(), replace(MLP, epochs=3, patience=0)
    own = examples.speakers == "s00"
    first = NetworkTrainer(settings)(examples).held_out
    other = NetworkTrainer(settings)(replace(examples, codes=np.where(own, 0, examples.codes))).held_out
    assert first.rows.tolist() == list(range(len(examples)))
    assert np.array_equal(first.logits[own], other.logits[own])
    assert not np.isclose(first.logits[~own], other.logits[~own]).all(axis=1).any()


def test_it_stops_early_where_there_is_nothing_to_learn():
    examples = made()
    shuffled = replace(examples, codes=np.random.default_rng(0).permutation(examples.codes))
    told = []
    head = NetworkTrainer(replace(MLP, epochs=60), on_metrics=told.append)(shuffled)
    assert head.notes["epochs"] < 15
    assert max(len(history) for history in head.notes["histories"]) < 40
    names = {row["fit"] for row in told}
    assert names == {*(f"fold {number} of 4" for number in range(1, 5)), "all speakers"}
    assert {row["epoch"] for row in told if row["fit"] == "all speakers"} == set(range(1, head.notes["epochs"] + 1))


def test_one_batch_is_learned_by_heart():
    examples = made(n_speakers=2, each=8)
    noise = np.random.default_rng(0).standard_normal(examples.features.shape).astype(np.float32)
    reader = networks._reader(replace(examples, features=noise))
    material = networks.Material(reader, examples.codes, N_CLASSES, replace(MLP, epochs=80))
    network = networks.EmotionNetwork(networks.Mixture(networks.scales_of([noise]), None), N_CLASSES, attention=False)
    rows = np.arange(16)
    wanted = networks.loop_settings(material, rows, patience=0)
    networks.fit(network, material.step(rows), wanted, None, networks.Hooks())
    assert (material.logits(network, rows).argmax(axis=1) == examples.codes).all()


@pytest.mark.parametrize("first", [1, 13, 40])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, pooled_head, first):
    with pytest.raises(Stopped):
        NetworkTrainer(MLP, tmp_path, should_stop=stop_after(first))(made())
    resumed = NetworkTrainer(MLP, tmp_path)(made())
    assert same(resumed, pooled_head)
    assert same(NetworkTrainer(MLP, tmp_path, should_stop=lambda: True)(made()), pooled_head)  # nothing is left to do
    with pytest.raises(InputError, match="data"):
        NetworkTrainer(MLP, tmp_path)(made(seed=1))


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 30])
def test_any_number_of_speakers(n_speakers):
    examples = made(n_speakers, each=6)
    head = NetworkTrainer(replace(MLP, epochs=2))(examples)
    assert sorted(head.held_out.rows.tolist()) == list(range(len(examples)))
    assert np.isfinite(head.held_out.logits).all()
    assert ("one speaker" in head.notes["held_out"]) == (n_speakers == 1) == (not head.held_out.speakers)


def test_a_class_of_one_speaker_alone_and_one_that_never_occurs():
    examples = made()
    codes = np.where(examples.speakers == "s00", 2, examples.codes % 2)
    head = NetworkTrainer(MLP)(replace(examples, codes=codes, n_classes=4))
    logits = head.logits(examples.features)
    assert logits.shape == (len(examples), 4) and np.isfinite(logits).all()
    assert (logits.argmax(axis=1) != 3).all()


def test_a_class_of_one_speaker_alone_does_not_wreck_calibration():
    """Fits without that speaker cannot say it: what the speaker's clips got from them sets no temperature."""
    usual, rng = made(n_speakers=6), np.random.default_rng(0)
    features = usual.features + 2 * rng.standard_normal(usual.features.shape).astype(np.float32)
    own = usual.speakers == "s00"
    codes = np.where(own & (np.arange(len(usual)) % 3 == 0), 3, usual.codes)
    examples = replace(usual, features=features, codes=codes, n_classes=4)
    head = calibrated(NetworkTrainer(replace(MLP, learning_rate=5e-3))(examples))
    logits = head.held_out.logits
    never = np.isneginf(logits)
    assert never[own, 3].all() and not never[~own].all() and not never[:, :3].any()
    assert set(head.held_out.complete.rows) <= set(np.flatnonzero(~own))
    low = replace(head.held_out, logits=np.where(never, logits[~never].min(), logits))
    assert head.temperature < 0.5 * calibrated(replace(head, held_out=low)).temperature


def test_speakers_without_a_common_class_are_trained_to_the_end():
    examples = made(n_speakers=2)
    codes = (examples.speakers == "s00").astype(np.int64)
    head = NetworkTrainer(replace(MLP, epochs=3))(replace(examples, codes=codes))
    assert head.notes["epochs"] == 3


def test_a_single_clip_has_nothing_to_hold_out():
    head = NetworkTrainer(replace(MLP, epochs=2))(made().take(np.array([0])))
    assert head.held_out is None and np.isfinite(head.logits(made().features)).all()


def test_classes_weigh_alike():
    codes = np.array([0] * 6 + [1] * 2 + [2] * 4)
    rows = np.arange(8)
    material = networks.Material(lambda rows: (), codes, 3, MLP)
    assert material.class_weights(rows).tolist() == pytest.approx([8 / 12, 8 / 4, 0.0])
    plain = replace(material, settings=replace(MLP, class_weights=False))
    assert plain.class_weights(rows).tolist() == [1.0, 1.0, 0.0]


def test_one_layer_is_taken_where_one_is_named():
    head = NetworkTrainer(replace(MLP, layer="2", epochs=1))(made())
    assert head.layer_weights.tolist() == [0.0, 0.0, 1.0]
    for layer in ("3", "first"):
        with pytest.raises(InputError, match="expected all or one of 0, 1, 2"):
            NetworkTrainer(replace(MLP, layer=layer))(made())


def test_a_learned_pooling_needs_frames(pooled_head):
    with pytest.raises(InputError, match="needs the frames"):
        NetworkTrainer(LEARNED)(made())
    with pytest.raises(ValueError, match="no query"):
        pooled_head.pool(np.zeros((N_LAYERS, 4, DIM)))
    examples = made()
    assert pooled_head.pooled(examples) is examples


def test_what_is_constant_stays_constant():
    features = np.full((1, 5, 2), 7.1, np.float32)
    features[0, :, 1] = np.arange(5)
    scales = networks.scales_of([features])
    assert scales.scale[0].tolist() == pytest.approx([1.0, np.sqrt(2)])
