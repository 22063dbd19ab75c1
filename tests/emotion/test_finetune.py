"""Fine-tuning: the features of the ordinary pipeline, two learning rates, exact resuming, and a head that fits both."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal
from core.checkpoints.load import load_model
from core.checkpoints.save import save_checkpoint
from core.embed.encoders import build_encoder
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, stream_states
from core.emotion.finetune import FineTuning, TunedNetwork, finetune, seen, trainable
from core.emotion.network import EmotionNetwork, Mixture, Scales
from core.emotion.pooling import pool
from core.errors import DataError, InputError
from core.models.loaded import LoadedModel
from core.scoring import HeadSettings
from core.training.runs import Stopped
from tests.tiny_models import tiny_model

SETTINGS = HeadSettings(head="mlp", epochs=2, patience=0, batch_size=6, encoder_learning_rate=1e-5)
FAMILIES = ("wav2vec2", "wav2vec2-stable", "wavlm", "data2vec-audio", "w2v-bert", "whisper", "encodec", "encodec-48khz")
N_SPEAKERS = 4


def load(family="wav2vec2"):
    model = tiny_model(family)
    rate = getattr(model.config, "sampling_rate", 16_000)
    model = model.encoder if family == "whisper" else model
    return LoadedModel(family, Path(), model, {"sampling_rate": rate, "do_normalize": True}, "", "", False)


def states_of(loaded, samples):
    """What the ordinary pipeline makes of a clip: (n_layers, frames, dim)."""
    encoder = build_encoder(loaded)
    layers = (0,) if loaded.model_type == "encodec" else tuple(range(encoder.spec.n_layers + 1))
    runners = torch_runners(encoder.networks(layers), "cpu", "fp32")
    with Signal.from_array(samples, encoder.spec.clock.sampling_rate) as signal:
        windows = plan(encoder.spec, signal.n_samples, EmbedSettings(), "it")
        return np.concatenate(list(stream_states(encoder, runners, signal, windows, ignore_progress)), axis=1)


def tones(n=24, rate=16_000):
    """Clips of two classes, a low tone and a high one, of several lengths."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 2
    clips = []
    for code in codes:
        times = np.arange(int(rng.integers(rate // 8, rate // 5))) / rate
        tone = np.sin(2 * np.pi * (300, 1500)[code] * times * rng.uniform(0.9, 1.1))
        clips.append((0.1 * tone + 0.02 * rng.standard_normal(len(times))).astype(np.float32))
    return FineTuning(clips, codes, np.repeat([f"s{k}" for k in range(N_SPEAKERS)], n // N_SPEAKERS), 2, SETTINGS)


def weights(module):
    return torch.cat([value.detach().flatten() for value in module.state_dict().values()])


def stop_after(n):
    calls = iter(range(n + 1))
    return lambda: next(calls) >= n


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_on_what_the_pipeline_computes(family):
    loaded = load(family)
    encoder = trainable(loaded)
    rate = loaded.preprocessor["sampling_rate"]
    samples = np.random.default_rng(0).standard_normal(round(2.3 * rate)).astype(np.float32) * 0.1
    found = seen(encoder.states, encoder.prepare(samples), "cpu")
    assert found.requires_grad
    expected = states_of(loaded, samples)
    assert len(encoder.layers) == len(expected)
    assert found.detach().numpy() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("family", ["wav2vec2", "encodec"])
def test_the_two_learning_rates_are_really_applied(family):
    """The first step of Adam is as long as the learning rate, but for weight decay, whatever the gradient."""
    loaded = load(family)
    before = weights(loaded.model)
    task = tones(rate=loaded.preprocessor["sampling_rate"])
    once = replace(task, settings=replace(SETTINGS, epochs=1, batch_size=24))
    tuned, _ = finetune(loaded, once)
    moved = (weights(tuned) - before).abs()
    assert float(moved.max()) == pytest.approx(1e-5, rel=0.05)
    assert torch.equal(weights(loaded.model), before)
    much, _ = finetune(loaded, replace(once, settings=replace(once.settings, encoder_learning_rate=1e-3)))
    assert float((weights(much) - before).abs().max()) == pytest.approx(1e-3, rel=0.05)


def test_at_a_rate_of_zero_the_encoder_stays_as_it_is():
    loaded, task = load(), tones()
    tuned, head = finetune(loaded, replace(task, settings=replace(SETTINGS, encoder_learning_rate=0.0)))
    assert torch.equal(weights(tuned), weights(loaded.model))
    assert all(parameter.requires_grad for parameter in tuned.parameters())
    assert head.held_out is not None


def test_the_head_fits_what_the_pipeline_makes_of_the_tuned_encoder():
    loaded, task = load(), tones()
    rows = []
    settings = replace(SETTINGS, epochs=8, patience=8, encoder_learning_rate=1e-3)
    tuned, head = finetune(loaded, replace(task, settings=settings), on_metrics=rows.append)
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 8 and np.mean(losses[-3:]) < 0.7 * losses[0]
    held = head.held_out
    assert len(set(task.speakers[held.rows])) == 1
    states = [states_of(replace(loaded, model=tuned), task.clips[row]) for row in held.rows]
    features = torch.stack([pool(torch.from_numpy(one).transpose(1, 2), "mean_std") for one in states], dim=1).numpy()
    assert head.logits(features) == pytest.approx(held.logits, abs=1e-3)
    assert head.layers == (0, 1, 2, 3)
    assert np.mean(held.logits.argmax(axis=1) == task.codes[held.rows]) > 0.8


def test_a_stopped_fine_tuning_goes_on_bit_for_bit(tmp_path):
    loaded, task = load(), tones()
    whole, head = finetune(loaded, task)
    with pytest.raises(Stopped):
        finetune(loaded, task, tmp_path, should_stop=stop_after(4))
    resumed, again = finetune(loaded, task, tmp_path)
    assert torch.equal(weights(whole), weights(resumed))
    assert np.array_equal(head.held_out.logits, again.held_out.logits)
    with pytest.raises(InputError, match="data"):
        finetune(loaded, replace(task, clips=task.clips[::-1]), tmp_path)


def test_learned_attention_and_one_layer():
    task = replace(tones(), settings=replace(SETTINGS, epochs=1, pooling="learned", layer="2"))
    _, head = finetune(load(), task)
    assert head.attention.shape == head.mean[0].shape == (32,)
    assert head.layer_weights.tolist() == [0, 0, 1, 0]


def test_the_encoder_stays_in_eval_mode():
    """In training mode the tiny models drop layers and mask half of the frames."""
    scales = Scales(np.zeros((4, 64), np.float32), np.ones((4, 64), np.float32))
    encoder = trainable(load())
    network = TunedNetwork(encoder.states, EmotionNetwork(Mixture(scales, None), 2, attention=False), "mean_std", "cpu")
    network.train()
    assert network.network.head.training and not any(module.training for module in network.encoder.modules())


def test_one_speaker_and_clips_that_do_not_fit():
    task = tones()
    _, head = finetune(load(), replace(task, speakers=np.full(24, "s"), settings=replace(SETTINGS, epochs=1)))
    assert head.notes["held_out"] == "clips of the one speaker" and len(head.held_out.rows)
    with pytest.raises(DataError, match="one frame needs"):
        finetune(load(), replace(task, clips=[clip[:100] for clip in task.clips]))
    with pytest.raises(DataError, match=r"31\.0 s long; whisper takes at most 30 s"):
        finetune(load("whisper"), replace(task, clips=[np.full(31 * 16_000, 0.1, np.float32)] * 24))


CARD = dict.fromkeys(("license", "summary", "snippet", "trust", "intended_use"), "x") | {
    "data": [],
    "attribution": [],
}
FACTS = {
    "recipe": "it",
    "seed": 0,
    "updates": 1,
    "updates_planned": 1,
    "cpu_seconds": 1,
    "device": "CPU",
    "parameters": 1,
    "data": {"hours": 1.0, "clips": 8, "sha256": "ab"},
    "split": {"held_out_text": "one speaker"},
    "history": [{"step": 1, "loss": 0.5}],
}


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "encodec"])
def test_a_tuned_encoder_is_a_checkpoint_like_any_other(tmp_path, family):
    loaded = load(family)
    rate = loaded.preprocessor["sampling_rate"]
    save_checkpoint(tmp_path / "tuned", loaded.model, FACTS, CARD)
    (tmp_path / "tuned" / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": rate}))
    written = load_model(tmp_path / "tuned", "tuned", from_user=True)
    samples = np.random.default_rng(0).standard_normal(rate // 2).astype(np.float32) * 0.1
    before, after = states_of(loaded, samples), states_of(written, samples)
    assert np.abs(after - before).max() < 0.02 * before.std()  # float16
