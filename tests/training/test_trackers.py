"""Trackers: TensorBoard's own reader and Weights & Biases' own files give back what was logged."""

import json
import time

import pytest

from core.errors import InputError, MissingPackage
from core.training import trackers
from core.training.loop import Hooks, train
from core.training.loop_settings import LoopSettings
from core.training.trackers import TrackerSettings, check_trackers, open_trackers
from tests.training.test_loop import make_model, step, stop_after

SETTINGS = LoopSettings(updates=6, warmup=3, log_every=1, checkpoint_every=3, learning_rate=1e-2)


def trained(folder, names, should_stop=lambda: False):
    """A run that is tracked, and its lines."""
    with open_trackers(TrackerSettings(names, folder, "strata-tests", {"updates": 6})) as on_log:
        hooks = Hooks(validate=lambda model: {"loss": 1.5}, should_stop=should_stop, on_log=on_log)
        train(make_model(), step, SETTINGS, folder, hooks)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder):
    """What TensorBoard shows: (step, value) by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_tensorboard_shows_what_metrics_jsonl_says_and_goes_on_after_a_kill(tmp_path):
    def killed(model, update):
        if update == 5:
            raise KeyboardInterrupt
        return step(model, update)

    with pytest.raises(KeyboardInterrupt), open_trackers(TrackerSettings(["tensorboard"], tmp_path)) as on_log:
        train(make_model(), killed, SETTINGS, tmp_path, Hooks(on_log=on_log))
    assert [number for number, _ in events(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5]
    lines = [line for line in trained(tmp_path, ["tensorboard"]) if line["split"] == "train"]
    shown = events(tmp_path)
    assert [number for number, _ in shown["train/loss"]] == [1, 2, 3, 4, 5, 6]  # 4 and 5 once
    assert [value for _, value in shown["train/loss"]] == pytest.approx([line["loss"] for line in lines])
    assert [value for _, value in shown["train/grad_norm"]] == pytest.approx([line["grad_norm"] for line in lines])
    assert shown["eval/loss"] == [(6, 1.5)]


def test_wandb_keeps_the_run_in_its_folder_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained(tmp_path, ["wandb"], stop_after(4))
    time.sleep(1.1)  # W&B names a run's folder by the second
    lines = trained(tmp_path, ["wandb"])
    runs = sorted(path for path in (tmp_path / "wandb").iterdir() if path.name.startswith("offline-run"))
    assert len({path.name.rsplit("-", 1)[1] for path in runs}) == 1
    end, logged = time.monotonic() + 30, {}
    while len(logged) < 6 and time.monotonic() < end:  # W&B's own process writes the files
        logged = {number: row for path in runs for number, row in wandb_history(path)}
        time.sleep(0.1)
    told = {line["step"]: line["loss"] for line in lines if line["split"] == "train"}
    assert {number: row["train/loss"] for number, row in logged.items()} == pytest.approx(told)
    assert {number for number, row in logged.items() if "eval/loss" in row} == {3, 6}


def test_a_disk_that_is_full_costs_the_name_at_wandb_and_not_the_training(tmp_path, caplog):
    kept = trackers._wandb_id(tmp_path)
    assert trackers._wandb_id(tmp_path) == kept
    (tmp_path / "wandb-id.txt").unlink()
    (tmp_path / "wandb-id.txt").mkdir()
    assert trackers._wandb_id(tmp_path) not in ("", kept)
    assert trackers._wandb_id(tmp_path / "not there") and len(caplog.records) == 2
    assert "wandb-id.txt cannot be kept" in caplog.text


def wandb_history(folder):
    """(step, numbers) of the file that ``wandb sync`` would send: LevelDB's log format, of less than a block here."""
    from wandb.proto import wandb_internal_pb2

    content, at = next(folder.glob("*.wandb")).read_bytes(), 7
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 6], "little")  # after four bytes of checksum, before one of kind
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content[at + 7 : at + 7 + length])
        at += 7 + length
        if record.HasField("history"):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            yield record.history.step.num, row


def test_what_cannot_be_tracked_is_refused_before_the_training(monkeypatch):
    check_trackers(["tensorboard", "wandb"])
    with pytest.raises(InputError, match="mlflow; expected some of tensorboard, wandb"):
        check_trackers(["mlflow"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="pip install wandb"):
        check_trackers(["wandb"])


def test_wandb_without_a_login_is_told_to_its_user(tmp_path, monkeypatch):
    import wandb

    def not_logged_in(**_):
        raise wandb.errors.UsageError("api_key not configured (no-tty)")

    monkeypatch.setattr(wandb, "init", not_logged_in)
    with pytest.raises(InputError, match=r"api_key not configured.*wandb login.*WANDB_MODE=offline"):
        trained(tmp_path, ["wandb"])
