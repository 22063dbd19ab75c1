"""Precision: what is chosen where, and what fp16's scaler does in the loop."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.errors import InputError
from core.training import precision
from core.training.loop import Diverged, Hooks, train
from core.training.precision import make_accelerator, pick_precision
from core.training.state import read_state
from tests.training.test_loop import SETTINGS, make_model, step, stop_after, weights


@pytest.mark.parametrize(
    ("wanted", "device", "fast", "chosen"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "mps", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("fp16", "cuda", True, "fp16"),
        ("fp32", "cpu", True, "fp32"),
    ],
)
def test_precision_is_picked(monkeypatch, wanted, device, fast, chosen):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: fast)
    assert pick_precision(wanted, device) == chosen


def test_what_cannot_be_computed_in_is_refused():
    with pytest.raises(InputError, match="fp16 on a CPU"):
        make_accelerator("cpu", "fp16")
    with pytest.raises(InputError, match="'fp8'; expected one of auto, fp32"):
        pick_precision("fp8", "cuda")


def test_fp32_through_accelerate_changes_no_bit(tmp_path):
    plain, placed = make_model(), make_model()
    train(plain, step, SETTINGS, None)
    train(placed, step, SETTINGS, tmp_path, accelerator=make_accelerator("cpu", "fp32"))
    assert torch.equal(weights(plain), weights(placed))
    with pytest.raises(InputError, match="precision: fp32 -> bf16"):
        train(make_model(), step, replace(SETTINGS), tmp_path, accelerator=make_accelerator("cpu", "bf16"))


def test_bf16_is_autocast_around_weights_of_fp32(tmp_path):
    seen = set()

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model()

        def forward(self, x):
            hidden = self.inner[0](x)
            seen.add(hidden.dtype)
            return self.inner[2](hidden)

    model, plain = Watched(), make_model()
    told = []
    train(model, step, SETTINGS, tmp_path, Hooks(on_log=told.append), make_accelerator("cpu", "bf16"))
    train(plain, step, SETTINGS, None)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(isinstance(line["loss"], float) for line in told)
    assert set(read_state(tmp_path / "state.pt")["model"]) == {f"inner.{name}" for name in plain.state_dict()}


def scaled():
    """An Accelerator with fp16's scaler, which it makes on GPUs only; the computing stays fp32 here."""
    accelerator = make_accelerator("cpu", "fp32")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=4)
    return accelerator


def overflowing(model, update):
    """A loss with a gradient that is infinite at two updates."""
    return {"loss": step(model, update)["loss"] * (float("inf") if update in (3, 8) else 1.0)}


def test_fp16_leaves_an_overflow_out_and_counts_it(tmp_path):
    model, before = make_model(), []
    hooks = Hooks(on_update=lambda progress: before.append(weights(model)))
    progress, done = train(model, overflowing, SETTINGS, tmp_path, hooks, scaled())
    assert done and (progress.update, progress.skipped) == (12, 2)
    still = [u for u in range(1, 12) if torch.equal(before[u], before[u - 1])]
    assert still == [3, 8]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped_updates"] for line in lines] == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [line["step"] for line in lines if line["loss"] is None] == [4, 9]


def test_fp16_resumes_bit_for_bit(tmp_path):
    """The scale has grown by then; a fresh one would overflow at other updates."""
    whole, resumed = make_model(), make_model()
    train(whole, overflowing, SETTINGS, tmp_path / "whole", accelerator=scaled())
    train(make_model(), overflowing, SETTINGS, tmp_path / "cut", Hooks(should_stop=stop_after(7)), scaled())
    accelerator = scaled()
    train(resumed, overflowing, SETTINGS, tmp_path / "cut", accelerator=accelerator)
    assert torch.equal(weights(whole), weights(resumed))
    ended = [read_state(tmp_path / name / "state.pt") for name in ("whole", "cut")]
    assert ended[0]["scaler"] == ended[1]["scaler"]


def test_fp16_that_overflows_at_every_scale_ends_the_run(tmp_path):
    def broken(model, update):
        return {"loss": step(model, update)["loss"] * float("nan")}

    settings = replace(SETTINGS, updates=100, checkpoint_every=100)
    with pytest.raises(Diverged, match="not finite"):
        train(make_model(), broken, settings, tmp_path, accelerator=scaled())


def test_a_model_is_given_back_as_it_was(tmp_path):
    model = make_model()
    train(model, step, SETTINGS, None, accelerator=make_accelerator("cpu", "bf16"))
    assert model[0](torch.ones(1, 4)).dtype == torch.float32
    assert "forward" not in model.__dict__ or not hasattr(model.forward, "__wrapped__")
    again = make_accelerator("cpu", "bf16").prepare_model(model)
    x = torch.randn(64, 4)
    assert not torch.equal(again.eval()(x), nn.Sequential(*model)(x))  # autocast, not forgotten a second time


def test_a_compiled_model_has_the_same_weights_and_names(tmp_path):
    from accelerate.utils import DynamoBackend

    accelerator = make_accelerator("cpu", "fp32", compiled=True)
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.INDUCTOR
    accelerator.state.dynamo_plugin.backend = DynamoBackend.EAGER  # inductor takes half a minute
    plain, compiled = make_model(), make_model()
    train(plain, step, SETTINGS, None)
    train(compiled, step, SETTINGS, tmp_path, accelerator=accelerator)
    assert torch.allclose(weights(plain), weights(compiled))
    assert list(read_state(tmp_path / "state.pt")["model"]) == list(plain.state_dict())


def test_split_weights_are_refused(monkeypatch):
    import accelerate

    class Sharded(accelerate.Accelerator):
        distributed_type = accelerate.DistributedType.FSDP

    monkeypatch.setattr(accelerate, "Accelerator", Sharded)
    with pytest.raises(InputError, match=r"Got FSDP .* --multi_gpu"):
        make_accelerator("cpu", "fp32")
