"""Pre-training: noise stays at chance, every way of dealing is the same update, going on is not stopping."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.checkpoints.load import load_model
from core.models.model_input import from_preprocessor
from core.training.alarms import Alarms
from core.training.batches import Batches, BatchPlan
from core.training.meg_pretraining import make_model, plan_meg2vec, pretrain, window_shape
from core.training.meg_windows import TrainingWindows, WindowReader
from core.training.precision import make_accelerator
from core.training.pretraining import Evaluation, Place, PretrainStep, Watch, gumbel_temperature_at, loop_settings
from core.training.schedule import learning_rate_at
from core.training.workers import Workers
from tests.training import pretrain_worker
from tests.training.pretrain_fakes import RATE, TINY, FakeData, noise, noise_data, structured
from tests.training.pretrain_worker import EQUAL, weights, without_noise

SECONDS = 120
"""Nothing here takes as long; a test that hangs is to say so."""


def run(settings, folder, data=None, watch=None):
    return pretrain(settings, data or noise_data(), Place(folder, folder), make_accelerator("cpu", "fp32"), watch)


def lines(folder, split=None):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if split in (None, row["split"])]


def relative(found, expected):
    """Over all weights, in double precision."""
    a, b = (torch.cat([one.flatten().double() for one in state.values()]) for state in (found, expected))
    return float((a - b).norm() / b.norm())


# ------------------------------------------------------------------------------------------------------------ learning

NOISE = replace(
    TINY, in_channels=16, conv_dim=(32,) * 4, hidden_size=32, num_attention_heads=4, intermediate_size=64,
    window_seconds=10.0, mask_time_length=10, mask_time_prob=0.065, num_negatives=20, num_codevectors_per_group=32,
    codevector_dim=32, proj_codevector_dim=32, num_conv_pos_embeddings=16, batch_size=4, max_steps=250, warmup_steps=25,
    eval_every=250, checkpoint_every=250, eval_windows=60, learning_rate=5e-3, gumbel_temperature_decay=0.995,
    log_every=50,
)  # fmt: skip


def trained(make, folder):
    made = [make(200, 16, seed) for seed in range(7)]
    return run(NOISE, folder, FakeData(made[:4], made[4:]))


def interval(score, n_windows, n_frames=62):
    """Half of the 99.9 % binomial interval of the accuracy of guessing."""
    chance = score["chance"]
    return 3.29 * math.sqrt(chance * (1 - chance) / (score["masked_fraction"] * n_windows * n_frames))


def test_white_noise_stays_at_chance_and_structure_does_not(tmp_path):
    """The document's code reaches 81 % on white noise: its transformer sees its targets."""
    outcome = trained(noise, tmp_path / "noise")
    score = outcome.progress.history[-1]
    assert score["chance"] == pytest.approx(1 / 21, abs=0.002)
    assert abs(score["contrastive_accuracy"] - score["chance"]) < interval(score, 60) < 0.02
    assert score["contrastive_loss"] == pytest.approx(math.log(21), abs=0.03)
    assert any("guessing" in alarm for alarm in outcome.alarms)

    outcome = trained(structured, tmp_path / "structured")
    score = outcome.progress.history[-1]
    assert score["contrastive_accuracy"] > score["chance"] + 5 * interval(score, 60)
    assert score["contrastive_loss"] < math.log(21) - 0.3
    assert not any("guessing" in alarm for alarm in outcome.alarms)


# ------------------------------------------------------------------------------------------------------------- equality


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights after five updates of one process and one batch."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_worker.Quantizer, "_draw", without_noise)
        run(EQUAL, folder)
    return folder


@pytest.fixture
def noiseless(monkeypatch):
    monkeypatch.setattr(pretrain_worker.Quantizer, "_draw", without_noise)


def test_accumulation_is_the_same_update(whole, noiseless, tmp_path):
    run(replace(EQUAL, batch_size=2, gradient_accumulation_steps=4), tmp_path)
    moved = relative(make_model(EQUAL, RATE).state_dict(), weights(whole))
    assert relative(weights(tmp_path), weights(whole)) < 1e-5 < 1e-2 * moved
    for one, other in zip(lines(tmp_path), lines(whole), strict=True):
        for name in ("loss", "contrastive_loss", "contrastive_accuracy", "chance", "diversity_loss", "perplexity"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


@pytest.mark.parametrize("micro_batches", [2, 4, 5, 8, 10])
def test_evaluations_saves_and_lines_count_updates_and_not_micro_batches(tmp_path, micro_batches):
    """The document's code counted micro-batches: with these numbers it never evaluated or saved."""
    saved = []
    often = {"eval_every": 1, "checkpoint_every": 1, "log_every": 2, "max_steps": 2, "batch_size": 1}
    settings = replace(TINY, **often, gradient_accumulation_steps=micro_batches)
    run(settings, tmp_path, watch=Watch(on_log=lambda entry: saved.append((tmp_path / "state.pt").exists())))
    assert [line["step"] for line in lines(tmp_path, "eval")] == [1, 2]
    assert [line["step"] for line in lines(tmp_path, "train")] == [2]
    assert saved == [False, True, True]
    assert json.loads((tmp_path / "last" / "training.json").read_text())["updates"] == 2


def test_the_diversity_of_each_micro_batch_alone_would_be_another_update(whole, noiseless, tmp_path, monkeypatch):
    """The control of the test above: what many programs do is far outside its tolerance."""
    monkeypatch.setattr(PretrainStep, "_over_processes", lambda self, mass: None)  # no total is known beforehand

    def alone(self, out, total):
        mass = out.code_mass
        spread = (mass.numel() - torch.exp(-torch.xlogy(p := mass / out.n_masked, p).sum(-1)).sum()) / mass.numel()
        parts = self.batches.plan.micro_batches
        return {"loss": out.contrastive_loss / self.n_masked + self.settings.diversity_loss_weight * spread / parts}

    monkeypatch.setattr(PretrainStep, "_scalars", alone)
    run(replace(EQUAL, batch_size=2, gradient_accumulation_steps=4), tmp_path)
    assert relative(weights(tmp_path), weights(whole)) > 1e-4


def start(what, folder, **environ):
    command = [sys.executable, "-m", "tests.training.pretrain_worker", what, str(folder)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environ})


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def test_two_processes_do_the_same_update(whole, tmp_path):
    shared = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    pair = [start("together", tmp_path, RANK=str(n), LOCAL_RANK=str(n), **shared) for n in range(2)]
    try:
        assert [process.wait(SECONDS) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
            process.wait()
    assert relative(weights(tmp_path), weights(whole)) < 1e-5
    for one, other in zip(lines(tmp_path), lines(whole), strict=True):
        for name in ("loss", "contrastive_loss", "contrastive_accuracy", "chance", "diversity_loss", "perplexity"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), (one["split"], name)


def test_the_diversity_loss_has_the_gradient_of_the_whole_batch(noiseless):
    """Against autograd through the model's own loss of one batch."""
    model = make_model(EQUAL, RATE).train()
    data, shape = noise_data(), window_shape(EQUAL, RATE)
    windows = TrainingWindows([one.n_times for one in data.segments("train")], shape.n_times, 0)
    batches = Batches(WindowReader(data, "train", windows, shape), BatchPlan(8))
    step = PretrainStep(model, batches, EQUAL, Workers())
    (scalars,) = step(model, 0)
    scalars["loss"].backward()
    ours = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    batch = next(batches.of_step(0))
    out = model(batch.values, batch.mask, batch.negatives)
    (out.loss / out.n_masked).backward()
    theirs = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert scalars["loss"].item() == pytest.approx((out.loss / out.n_masked).item(), rel=1e-6)
    assert relative(ours, theirs) < 1e-5


# ------------------------------------------------------------------------------------------------------- going on


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with dropout and noise, from beginning to end."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(TINY, folder)


@pytest.mark.parametrize("until", [2, 3])
def test_going_on_equals_not_stopping_bit_for_bit(finished, tmp_path, until):
    folder, outcome = finished
    first = run(TINY, tmp_path, watch=Watch(until=until))
    assert (first.progress.update, first.done) == (until, False)
    torch.manual_seed(999)  # whatever the new process did before
    second = run(TINY, tmp_path)
    assert second.done and second.progress.history == outcome.progress.history
    for name, value in weights(folder).items():
        assert torch.equal(value, weights(tmp_path)[name]), name
    timeless = [
        [{k: v for k, v in row.items() if not k.endswith(("seconds", "second"))} for row in lines(place)]
        for place in (folder, tmp_path)
    ]
    assert timeless[0] == timeless[1]
    again = run(TINY, tmp_path, watch=Watch(until=until))
    assert again.done and again.progress.update == 6


def test_sigterm_leaves_a_checkpoint(tmp_path):
    process = start("until_told", tmp_path)
    try:
        end = time.monotonic() + SECONDS
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    done = lines(tmp_path, "train")[-1]["step"]
    assert done >= 1 and (tmp_path / "state.pt").exists()
    assert json.loads((tmp_path / "last" / "training.json").read_text())["updates"] == done


# --------------------------------------------------------------------------------------------------- lines, checkpoints


def test_lines_have_the_names_that_every_reader_expects(finished):
    folder, _ = finished
    both = {"step", "split", "loss", "contrastive_loss", "contrastive_accuracy", "chance", "diversity_loss",
            "perplexity", "least_perplexity", "masked_fraction"}  # fmt: skip
    train = {"grad_norm", "learning_rate", "gumbel_temperature", "windows_per_second"}
    assert [row["step"] for row in lines(folder, "train")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in lines(folder, "eval")] == [3, 6]
    assert all(both | train <= set(row) for row in lines(folder, "train"))
    assert all(both <= set(row) for row in lines(folder, "eval"))
    for row in lines(folder):
        assert row["loss"] == pytest.approx(row["contrastive_loss"] + 0.1 * row["diversity_loss"], rel=1e-5)
        assert 1 / 6 - 1e-6 <= row["chance"] <= 1 and 2 <= row["perplexity"] <= 16
        assert row["diversity_loss"] == pytest.approx((16 - row["perplexity"]) / 16, rel=1e-5)
        assert row["masked_fraction"] == pytest.approx(0.5)
        assert row["least_perplexity"] == pytest.approx(16 * 50 / 640)


def test_the_schedules_are_the_documents():
    settings = replace(TINY, gumbel_temperature_decay=0.9, warmup_steps=10, max_steps=110)
    assert [gumbel_temperature_at(step, settings) for step in (0, 2, 10**6)] == [2.0, pytest.approx(1.62), 0.5]
    told = loop_settings(settings, "data")
    rates = np.array([learning_rate_at(step, told) for step in range(110)]) / settings.learning_rate
    assert rates[0] == pytest.approx(0.1) and rates.argmax() == 9 and rates[9] == 1.0
    assert rates[-1] == pytest.approx(0.01) and np.allclose(np.diff(rates[10:]), -0.01)


def test_checkpoints_load_strictly_and_say_what_they_are(finished):
    folder, outcome = finished
    for name in ("best", "last"):
        loaded = load_model(folder / name, "meg2vec", from_user=True)
        assert loaded.model.config.in_channels == 4
    facts = json.loads((folder / "last" / "training.json").read_text())
    assert facts["settings"]["mask_time_prob"] == 0.15 and facts["seed"] == 0
    assert facts["history"] == outcome.progress.history and facts["data"]["sha256"] == "fake"
    assert facts["split"]["eval"] == ["eval0", "eval1"] and facts["alarms"] == list(outcome.alarms)
    best = json.loads((folder / "best" / "training.json").read_text())
    assert best["updates"] == min(outcome.progress.history, key=lambda one: one["loss"])["step"]
    preprocessor = json.loads((folder / "last" / "preprocessor_config.json").read_text())
    assert from_preprocessor(preprocessor).fingerprint() == noise_data().model_input.fingerprint()


@pytest.mark.parametrize("simulated", [True, False])
def test_the_card_begins_with_simulated_where_the_data_were(tmp_path, simulated):
    data = noise_data()
    data.simulated = simulated
    run(replace(TINY, max_steps=3), tmp_path, data)
    text = (tmp_path / "last" / "README.md").read_text()
    first = text.split("# meg2vec-test after 3 steps\n\n")[1].splitlines()[0]
    assert ("simulated" in first) == simulated and ("simulated" in text.lower()) == simulated
    score = lines(tmp_path, "eval")[-1]
    assert f"| contrastive accuracy | {score['contrastive_accuracy']:.3f} | {score['chance']:.3f} |" in text


def test_masked_values_are_nowhere_in_what_predicts_them():
    """Perturbing what only masked frames see leaves every context state as it was."""
    model = make_model(replace(TINY, dropout=0.0), RATE).eval()
    model.meg2vec.feature_extractor.conv_layers[0].layer_norm = torch.nn.Identity()  # its statistics see everything
    data, shape = noise_data(), window_shape(TINY, RATE)
    reader = WindowReader(data, "train", TrainingWindows([3000] * 3, shape.n_times, 0), shape)
    batch = reader.batch([0])
    changed = batch.values.clone()
    free = torch.ones(shape.n_times, dtype=torch.bool)
    for frame in torch.nonzero(~batch.mask[0]).flatten().tolist():
        free[40 * frame : 40 * frame + 60] = False
    assert free.sum() > 100
    changed[..., free] += 5.0
    with torch.no_grad():
        both = (batch.values, changed)
        states = [model.meg2vec(values, mask_time_indices=batch.mask).last_hidden_state for values in both]
        features = [model.meg2vec(values).extract_features for values in both]
    assert torch.equal(*states)
    assert not torch.allclose(*features)


def test_attention_over_sensors_is_trained_on_recordings_of_any_size(tmp_path):
    data = FakeData([noise(12, 3), noise(12, 5)], [noise(12, 4)], native=True)
    settings = replace(TINY, sensor_input="positions", max_steps=3, gradient_accumulation_steps=2)
    outcome = run(settings, tmp_path, data)
    assert outcome.done and load_model(tmp_path / "last", "meg2vec", from_user=True)


def test_without_held_out_windows_nothing_is_best(tmp_path):
    run(replace(TINY, max_steps=3), tmp_path, FakeData([noise(12)]))
    assert (tmp_path / "last").exists() and not (tmp_path / "best").exists() and not lines(tmp_path, "eval")


def test_held_out_scores_do_not_depend_on_the_batch_they_are_computed_in():
    model = make_model(TINY, RATE).eval()
    task = plan_meg2vec(TINY, noise_data())
    settings = [replace(TINY, batch_size=size) for size in (1, 3, 4)]
    scores = [Evaluation(task.held_out, task.n_held_out, one, Workers())(model) for one in settings]
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-5)


# -------------------------------------------------------------------------------------------------------------- alarms


def line(step, split="train", **changes):
    entry = {"step": step, "split": split, "loss": 3.0, "contrastive_loss": 3.0, "contrastive_accuracy": 0.2,
             "chance": 1 / 101, "perplexity": 300.0}  # fmt: skip
    return entry | changes


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (line(11, perplexity=49.0), "49.0 of 640 codes"),
        (line(11, perplexity=12.0, contrastive_accuracy=0.0099), "collapsed"),
        (line(50, "eval", contrastive_loss=4.61), "guessing"),
        (line(1, loss=None), "not finite"),
        (line(1, "eval", loss=math.nan), "not finite"),
    ],
)
def test_trouble_is_said_once_with_its_step(entry, word, caplog):
    alarms = Alarms(replace(TINY, num_codevectors_per_group=320, warmup_steps=10, max_steps=100))
    alarms.see(entry)
    alarms.see(entry | {"step": entry["step"] + 1})
    said = [one for one in alarms.messages if word in one]
    assert len(said) == 1 and re.match(rf"Step {entry['step']}(:| of 100 steps)", said[0]) and word in caplog.text


def test_a_run_that_ends_before_its_warm_up_is_watched_as_well():
    alarms = Alarms(replace(TINY, num_codevectors_per_group=320, warmup_steps=1000, max_steps=100))
    alarms.see(line(50, perplexity=20.0))
    assert not alarms.messages
    alarms.see(line(51, perplexity=20.0))
    assert len(alarms.messages) == 1
    guessing = {"split": "eval", "contrastive_loss": 4.61, "contrastive_accuracy": 0.01, "chance": 0.01}
    alarms.see(line(60) | guessing)
    assert "still warming up" in alarms.messages[1]


@pytest.mark.parametrize(
    "entry",
    [
        line(50), line(10, perplexity=10.0), line(11, perplexity=50.0), line(49, "eval", contrastive_loss=4.61),
        line(99, "eval", contrastive_loss=4.4), line(99, "eval", perplexity=40.0, contrastive_accuracy=0.0099),
    ],
)  # fmt: skip
def test_no_trouble_is_not_told(entry):
    alarms = Alarms(replace(TINY, num_codevectors_per_group=320, warmup_steps=10, max_steps=100))
    alarms.see(entry)
    assert not alarms.messages
