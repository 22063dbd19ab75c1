"""The loop: resuming equals not stopping, the schedule, stopping, and refusals."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.errors import InputError
from core.training.loop import Hooks, LoopSettings, learning_rate_at, train
from core.training.loop import stop_after as stop_after_minutes
from core.training.state import read_state

SETTINGS = LoopSettings(updates=12, warmup=3, log_every=1, checkpoint_every=4, learning_rate=1e-2)


def make_model():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def step(model, update):
    generator = torch.Generator().manual_seed(update)
    x = torch.randn(16, 4, generator=generator)
    return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}


def stop_after(n):
    calls = iter(range(n + 1))
    return lambda: next(calls) >= n


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("first", [1, 4, 7, 11])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, first):
    whole = make_model()
    progress, done = train(whole, step, SETTINGS, tmp_path / "whole")
    assert done and progress.update == 12

    _, done = train(make_model(), step, SETTINGS, tmp_path / "cut", Hooks(should_stop=stop_after(first)))
    assert not done
    torch.manual_seed(999)  # whatever the new process did before
    resumed = make_model()
    nn.init.zeros_(resumed[0].weight)
    progress, done = train(resumed, step, SETTINGS, tmp_path / "cut")
    assert done and progress.update == 12
    assert torch.equal(weights(whole), weights(resumed))

    def metrics(name):
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]

    assert metrics("whole") == metrics("cut")


def test_a_kill_between_checkpoints_loses_only_what_came_after(tmp_path):
    whole, killed, resumed = make_model(), make_model(), make_model()
    train(whole, step, SETTINGS, tmp_path / "whole")

    def failing(model, update):
        if update == 6:
            raise KeyboardInterrupt
        return step(model, update)

    with pytest.raises(KeyboardInterrupt):
        train(killed, failing, SETTINGS, tmp_path / "killed")
    train(resumed, step, SETTINGS, tmp_path / "killed")
    assert torch.equal(weights(whole), weights(resumed))
    updates = [json.loads(line)["step"] for line in (tmp_path / "killed/metrics.jsonl").read_text().splitlines()]
    assert updates == list(range(1, 13))


def test_a_run_that_is_done_is_left_as_it_is(tmp_path):
    scored = Hooks(validate=lambda model: {"loss": 1.0})
    settings = replace(SETTINGS, checkpoint_every=5)
    first, _ = train(make_model(), step, settings, tmp_path, scored)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again, done = train(make_model(), step, settings, tmp_path, scored)
    assert done and again == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_validation_does_not_change_the_training(tmp_path):
    plain, validated = make_model(), make_model()
    train(plain, step, SETTINGS, tmp_path / "a")

    def validate(model):
        assert not model.training
        return {"loss": float(torch.rand(()))}

    progress, _ = train(validated, step, SETTINGS, tmp_path / "b", Hooks(validate=validate))
    assert torch.equal(weights(plain), weights(validated))
    assert [entry["step"] for entry in progress.history] == [4, 8, 12]


def test_the_plateau_does_not_know_the_number_of_updates(tmp_path):
    long, short = replace(SETTINGS, updates=40), replace(SETTINGS, updates=20)
    assert [learning_rate_at(u, long) for u in range(14)] == [learning_rate_at(u, short) for u in range(14)]
    rates = [learning_rate_at(u, short) for u in range(20)]
    assert rates[0] == pytest.approx(1e-2 / 3)
    assert rates[3:15] == [1e-2] * 12
    assert rates[-1] == pytest.approx(1e-2 / 6)
    assert learning_rate_at(20, short) == 0

    changed, straight = make_model(), make_model()
    train(changed, step, long, tmp_path / "run", Hooks(should_stop=stop_after(10)))
    train(changed, step, short, tmp_path / "run")
    train(straight, step, short, tmp_path / "straight")
    assert torch.equal(weights(changed), weights(straight))


def test_other_settings_are_refused(tmp_path):
    train(make_model(), step, SETTINGS, tmp_path, Hooks(should_stop=stop_after(10)))
    with pytest.raises(InputError, match=r"learning_rate: 0\.01 -> 0\.1"):
        train(make_model(), step, replace(SETTINGS, learning_rate=0.1), tmp_path)
    with pytest.raises(InputError, match="updates"):
        train(make_model(), step, replace(SETTINGS, updates=50), tmp_path)  # the decay has begun


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    def broken(model, update):
        return {"loss": step(model, update)["loss"] * (float("nan") if update == 6 else 1.0)}

    model = make_model()
    with pytest.raises(
        InputError, match=r"not finite at update 7 .*last checkpoint, .*state.pt, is from before.* lower learning rate"
    ):
        train(model, broken, SETTINGS, tmp_path)
    assert weights(model).isfinite().all()
    assert read_state(tmp_path / "state.pt")["progress"]["update"] == 4


def test_weight_decay_spares_biases(tmp_path):
    model = make_model()
    nn.init.ones_(model[0].bias)
    settings = replace(SETTINGS, updates=1, weight_decay=1.0, learning_rate=0.1, warmup=1, decay_fraction=0.01)
    before = weights(model)
    train(model, lambda m, u: {"loss": sum((p * 0).sum() for p in m.parameters())}, settings, tmp_path)
    assert torch.equal(model[0].bias, torch.ones(8))
    assert torch.allclose(model[0].weight, before[:32].view(8, 4) * 0.9)


EARLY = replace(SETTINGS, updates=40, warmup=0, decay_fraction=0.0, validate_every=2, checkpoint_every=5, patience=3)


def worse_from(update):
    """Validation losses that fall until an update and rise after it, whatever the model does."""
    calls = iter(range(EARLY.validate_every, EARLY.updates + 1, EARLY.validate_every))
    return lambda model: {"loss": abs(next(calls) - update) + 1.0}


def test_early_stopping_gives_back_the_best_weights(tmp_path):
    best, early = make_model(), make_model()
    train(best, step, replace(EARLY, updates=8, patience=0), tmp_path / "best")
    progress, done = train(early, step, EARLY, tmp_path / "early", Hooks(validate=worse_from(8)))
    assert done and progress.update == 14  # 10, 12 and 14 were no better than 8
    assert torch.equal(weights(best), weights(early))
    again = make_model()
    assert train(again, step, EARLY, tmp_path / "early") == (progress, True)
    assert torch.equal(weights(again), weights(early))


def test_patience_of_zero_keeps_the_last_weights():
    last, plain = make_model(), make_model()
    train(plain, step, replace(EARLY, patience=0), None)
    progress, _ = train(last, step, replace(EARLY, patience=0), None, Hooks(validate=worse_from(8)))
    assert progress.update == 40
    assert torch.equal(weights(last), weights(plain))


@pytest.mark.parametrize("first", [1, 8, 11])
def test_a_stop_does_not_change_what_early_stopping_sees(tmp_path, first):
    @torch.inference_mode()
    def validate(model):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(99))
        return {"loss": float((model(x) - x.sum(1, keepdim=True)).square().mean())}

    settings = replace(EARLY, learning_rate=0.3)
    whole, resumed = make_model(), make_model()
    straight, done = train(whole, step, settings, tmp_path / "whole", Hooks(validate))
    assert done and straight.update < 40
    train(make_model(), step, settings, tmp_path / "cut", Hooks(validate, should_stop=stop_after(first)))
    after, _ = train(resumed, step, settings, tmp_path / "cut", Hooks(validate))
    assert after.history == straight.history
    assert torch.equal(weights(whole), weights(resumed))


def test_weights_have_learning_rates_of_their_own(tmp_path):
    """The first step of Adam is as long as the learning rate, whatever the gradient."""
    model = make_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    settings = LoopSettings(1, 1e-3, warmup=0, decay_fraction=0.0, weight_decay=0.0, own_rates={"0.": 1e-5})
    train(model, step, settings, tmp_path)
    steps = [float((p.detach() - old).abs().max()) for p, old in zip(model.parameters(), before, strict=True)]
    assert steps == pytest.approx([1e-5, 1e-5, 1e-3, 1e-3], rel=0.01)
    with pytest.raises(ValueError, match="encoder"):
        train(model, step, replace(settings, own_rates={"encoder": 1e-5}), None)


def test_a_schedule_without_rise_and_fall_is_constant():
    assert {learning_rate_at(update, EARLY) for update in range(40)} == {EARLY.learning_rate}


def test_without_a_folder_lines_are_still_told():
    told = []
    model, same = make_model(), make_model()
    train(model, step, SETTINGS, None, Hooks(validate=lambda model: {"loss": 1.0}, on_log=told.append))
    train(same, step, replace(SETTINGS), None)
    assert torch.equal(weights(model), weights(same))
    assert [entry["step"] for entry in told if entry["split"] == "eval"] == [4, 8, 12]
    assert [entry["step"] for entry in told if entry["split"] == "train"] == list(range(1, 13))


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    train(make_model(), step, replace(SETTINGS, data="a"), tmp_path, Hooks(should_stop=stop_after(5)))
    with pytest.raises(InputError, match="data: a -> b"):
        train(make_model(), step, replace(SETTINGS, data="b"), tmp_path)


def test_each_best_is_exported_by_the_score_that_is_asked_for(tmp_path):
    scores = iter([(3.0, 0.4), (2.0, 0.5), (1.0, 0.3)])
    exported = []
    hooks = Hooks(
        validate=lambda model: dict(zip(("loss", "error"), next(scores), strict=True)),
        on_best=lambda model, progress: exported.append((progress.update, model.training)),
    )
    train(make_model(), step, replace(SETTINGS, best_by="error"), tmp_path, hooks)
    assert exported == [(4, False), (12, False)]


def test_a_time_limit_stops_and_can_be_gone_on_from(tmp_path, monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: 12.0 * next(seconds))
    limited = Hooks(should_stop=stop_after_minutes(1.0))
    progress, done = train(make_model(), step, SETTINGS, tmp_path, limited)
    assert (progress.update, done) == (4, False)  # at 12, 24, 36 and 48 s there is time left
    assert train(make_model(), step, SETTINGS, tmp_path, Hooks(should_stop=stop_after_minutes(0)))[1]
    assert stop_after_minutes(0, lambda: True)()


def test_windows_a_second_leave_out_validations(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def timed(model, update):
        now[0] += 0.5
        return step(model, update)

    def validate(model):
        now[0] += 100
        return {"loss": 1.0}

    told = []
    settings = replace(SETTINGS, windows=8, log_every=3, validate_every=2)
    train(make_model(), timed, settings, tmp_path, Hooks(validate, on_log=told.append))
    assert [line["windows_per_second"] for line in told if line["split"] == "train"] == [16.0] * 4
    assert told[-1]["wall_seconds"] == 6 + 500  # the last validation is not over yet
