"""One process, two, and micro-batches do the same; and what ends processes at any moment loses nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from core.training.lock import locked
from core.training.loop import Hooks, train
from core.training.state import read_state
from tests.training.loop_worker import KILLS, SETTINGS, make_model, make_step, weights

SECONDS = 150
"""Nothing here takes as long; a test that hangs is to say so."""


def start(what, folder, **environ):
    command = [sys.executable, "-m", "tests.training.loop_worker", what, str(folder)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environ}, stdout=subprocess.PIPE)


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def wait_for(path):
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def said(folder):
    """What each of two gloo processes says; only the second one gets SIGTERM in the end."""
    shared = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    with locked(folder / "in-use"):
        pair = [start("together", folder, RANK=str(n), LOCAL_RANK=str(n), **shared) for n in range(2)]
        try:
            for number in range(2):
                wait_for(folder / f"ready-{number}")
            time.sleep(0.2)
            pair[1].send_signal(signal.SIGTERM)
            assert [process.wait(SECONDS) for process in pair] == [0, 0]
        finally:
            for process in pair:
                process.kill()
                process.communicate()
    return [json.loads((folder / f"said-{number}.json").read_text()) for number in range(2)]


@pytest.fixture(scope="module")
def alone():
    """Weights after the updates of one process and one batch, without any Accelerator."""
    model = make_model()
    train(model, make_step(), SETTINGS, None)
    return weights(model)


def relative(found, expected):
    return float((torch.as_tensor(found) - expected).norm() / expected.norm())


def test_two_processes_do_what_one_does(said, alone):
    assert said[0]["plain"]["weights"] == said[1]["plain"]["weights"]
    assert relative(said[0]["plain"]["weights"], alone) < 1e-5


def test_two_processes_with_micro_batches_do_what_one_does(said, alone):
    assert said[0]["accumulated"]["weights"] == said[1]["accumulated"]["weights"]
    assert relative(said[0]["accumulated"]["weights"], alone) < 1e-5


@pytest.mark.parametrize("count", [2, 4])
def test_micro_batches_do_what_one_batch_does(tmp_path, alone, count):
    model, whole = make_model(), make_model()
    train(model, make_step(micro_batches=count), replace(SETTINGS, micro_batches=count), tmp_path / "parts")
    assert relative(weights(model), alone) < 1e-5
    train(whole, make_step(), SETTINGS, tmp_path / "whole")
    for part, one in zip(lines(tmp_path / "parts"), lines(tmp_path / "whole"), strict=True):
        assert (part["examples"], part["temperature"]) == (one["examples"], one["temperature"]) == (24, 2)
        assert (part["loss"], part["grad_norm"]) == pytest.approx((one["loss"], one["grad_norm"]))
    for wrong in (count - 1, count + 1):
        with pytest.raises(ValueError, match="micro-batches"):
            train(make_model(), make_step(micro_batches=wrong), replace(SETTINGS, micro_batches=count), None)


@pytest.mark.parametrize("count", [2, 4, 5, 8, 10])
def test_updates_are_counted_and_not_micro_batches(tmp_path, count):
    """Counted in micro-batches, the steps of the lines miss those of the evaluations, and there are none."""
    hooks = Hooks(validate=lambda model: {"loss": 1.0})
    settings = replace(SETTINGS, micro_batches=count, log_every=2, validate_every=3)
    train(make_model(), make_step(micro_batches=count), settings, tmp_path, hooks)
    steps = {split: [line["step"] for line in lines(tmp_path) if line["split"] == split] for split in ("train", "eval")}
    assert steps == {"train": [2, 4, 6], "eval": [3, 6]}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_of_two_processes_tell_of_the_whole_batch(said, folder, tmp_path):
    train(make_model(), make_step(), SETTINGS, tmp_path)
    found = [line for line in lines(folder / "plain") if line["split"] == "train"]
    for one, two in zip(lines(tmp_path), found, strict=True):
        assert (two["examples"], two["temperature"]) == (24, 2)
        assert (two["loss"], two["grad_norm"]) == pytest.approx((one["loss"], one["grad_norm"]), rel=1e-5)
        assert two["windows_per_second"] > 0
    assert said[0]["sums"] == said[1]["sums"] == {"n": 3.0, "rate": 0.5}


def test_the_main_process_alone_exports_and_its_scores_count(said):
    names = ["0.bias", "0.weight", "3.bias", "3.weight"]
    assert [each["plain"]["exported"] for each in said] == [[[3, names], [6, names]], []]
    assert (
        said[0]["plain"]["history"] == said[1]["plain"]["history"] == [{"step": 3, "loss": 1}, {"step": 6, "loss": 1}]
    )


def test_two_processes_resume_bit_for_bit(said):
    """Each has a random state of its own, from which its dropout comes."""
    assert [(each["two"]["update"], each["two"]["done"]) for each in said] == [(2, False)] * 2
    assert said[0]["resumed"]["weights"] == said[0]["dropout"]["weights"] == said[1]["resumed"]["weights"]
    assert said[0]["dropout"]["weights"] != said[0]["plain"]["weights"]


def test_one_sigterm_stops_both_at_the_same_update(said, folder):
    assert said[0]["told"]["update"] == said[1]["told"]["update"] > 0
    assert not said[0]["told"]["done"] and not said[1]["told"]["done"]
    state = read_state(folder / "told" / "state.pt")
    assert state["progress"]["update"] == said[0]["told"]["update"]
    assert len(state["random"]) == 2 and not torch.equal(state["random"][0]["cpu"], state["random"][1]["cpu"])


def test_what_the_main_process_refuses_all_refuse(said, folder):
    assert said[0]["in use"] == said[1]["in use"] and "Another run is at work in" in said[0]["in use"]
    assert said[0]["other"] == said[1]["other"] and "micro_batches: 1 -> 2" in said[0]["other"]
    assert not (folder / "in-use" / "metrics.jsonl").exists()


def test_a_kill_at_any_moment_of_writing_loses_no_state(tmp_path):
    process = start("killed", tmp_path / "run")
    (tmp_path / "run").mkdir()
    found = json.loads(process.communicate(timeout=SECONDS)[0])
    assert process.returncode == 0 and found["same"]
    assert len(found["reached"]) == KILLS and found["reached"] == sorted(found["reached"])
