"""What a run keeps: whole states on full disks, and lines that a kill cut off."""

import pickle

import pytest
import torch

from core.errors import CheckpointError, OutputError
from core.training.loop import Hooks, train
from core.training.state import append_metrics, drop_later_metrics, read_state, write_state
from tests.training.test_loop import SETTINGS, make_model, step, stop_after, weights


@pytest.mark.parametrize("size", [10, 1_000_000])  # less and more than what is written at once
def test_a_full_disk_keeps_the_state_before_and_no_part_of_the_new_one(tmp_path, size):
    path = tmp_path / "state.pt"
    write_state(path, {"weights": torch.ones(3)})
    (tmp_path / "state.pt.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=rf"Cannot write {path}: No space left on device\. What was there"):
        write_state(path, {"weights": torch.zeros(size)})
    assert torch.equal(read_state(path)["weights"], torch.ones(3))
    assert [found.name for found in tmp_path.iterdir()] == ["state.pt"]


def test_a_run_goes_on_after_the_disk_was_full(tmp_path):
    whole, resumed = make_model(), make_model()
    train(whole, step, SETTINGS, tmp_path / "whole")

    def fill(progress):
        if progress.update == 7:
            (tmp_path / "run" / "state.pt.partial").symlink_to("/dev/full")

    with pytest.raises(OutputError, match="No space left"):
        train(make_model(), step, SETTINGS, tmp_path / "run", Hooks(on_update=fill))
    train(resumed, step, SETTINGS, tmp_path / "run")
    assert torch.equal(weights(whole), weights(resumed))


def test_lines_that_cannot_be_written_are_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"metrics\.jsonl: No space left"):
        append_metrics(path, {"step": 1})


def test_an_error_that_is_not_the_disks_is_not_told_as_one(tmp_path):
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_state(tmp_path / "state.pt", {"weights": lambda: 1})
    assert not list(tmp_path.iterdir())


class Bomb:
    def __reduce__(self):
        return (open, ("burst", "w"))


@pytest.mark.parametrize("content", [{"format": 2, "x": Bomb()}, {"format": 1}, {}])
def test_foreign_states_are_refused_and_not_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="new folder"):
        train(make_model(), step, SETTINGS, tmp_path)
    assert not (tmp_path / "burst").exists()


def test_a_damaged_state_is_refused(tmp_path):
    train(make_model(), step, SETTINGS, tmp_path, Hooks(should_stop=stop_after(5)))
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"state\.pt cannot be read"):
        train(make_model(), step, SETTINGS, tmp_path)


def test_lines_after_the_state_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    drop_later_metrics(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_run_killed_before_its_first_state_leaves_no_lines(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), interrupted, SETTINGS, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    train(make_model(), step, SETTINGS, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == SETTINGS.updates


def interrupted(model, update):
    if update == 2:
        raise KeyboardInterrupt
    return step(model, update)
