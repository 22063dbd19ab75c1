"""The task of pre-training: data and folder are checked first, and a run goes on as it was begun."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import DataError, InputError
from core.tasks import pretrain_run
from core.tasks.meg import pretraining as task
from core.tasks.meg.pretraining import (
    check_data,
    pretrain_meg,
    read_pretrain_settings,
    with_data,
)
from core.tasks.meg.requests import PretrainRequest
from core.tasks.pretrain_run import trained_checkpoint
from core.training.lock import locked
from core.training.precision import pick_precision
from core.training.runs import Stopped
from tests.meg.test_prepared import make_folder
from tests.training.pretrain_fakes import TINY, FakeData, noise, noise_data

SHORT = replace(TINY, max_steps=4, eval_every=2, checkpoint_every=2)


@pytest.fixture(autouse=True)
def data(monkeypatch):
    held = noise_data()
    monkeypatch.setattr(task, "open_data", lambda settings, on_progress: held)
    return held


def asked(folder, **changes):
    fields = {key: changes.pop(key) for key in ("resume", "until") if key in changes}
    return PretrainRequest(replace(SHORT, **changes), folder, **fields)


def test_a_run_leaves_what_it_says(tmp_path):
    told = []
    result = pretrain_meg(asked(tmp_path / "out"), told.append)
    assert (result.done, result.step, result.folder) == (True, 4, str(tmp_path / "out"))
    names = {"state.pt", "metrics.jsonl", "run.json", "best", "last"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    last = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()][-1]
    assert result.metrics["loss"] == last["loss"] and last["split"] == "eval"
    assert [(one.done, one.total, one.unit) for one in told] == [(n, 4, "steps") for n in (1, 2, 3, 4)]
    assert 0 <= result.facts["data_wait_share"] < 1 and "18 frames" in result.facts["window"]
    assert result.facts["stopped"] is False


def test_a_folder_with_a_run_is_left_alone_without_resume(tmp_path):
    pretrain_meg(asked(tmp_path, until=2))
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(InputError, match=r"holds a run already.*--resume"):
        pretrain_meg(asked(tmp_path))
    assert (tmp_path / "state.pt").read_bytes() == before
    result = pretrain_meg(asked(tmp_path, resume=True))
    assert (result.done, result.step) == (True, 4)


def test_a_run_goes_on_with_its_own_settings_and_data_only(tmp_path, data):
    pretrain_meg(asked(tmp_path, until=2))
    with pytest.raises(InputError, match=r"batch_size was 2 and is now 3.*--output_dir"):
        pretrain_meg(asked(tmp_path, resume=True, batch_size=3))
    data.fingerprint = "other"
    with pytest.raises(InputError, match="other data"):
        pretrain_meg(asked(tmp_path, resume=True))
    data.fingerprint = "fake"
    assert pretrain_meg(asked(tmp_path, resume=True, numpy_data_dir="moved", max_minutes=5.0)).done


def test_what_may_change_does_and_of_the_steps_it_is_said_what_to_do(tmp_path):
    pretrain_meg(asked(tmp_path, until=2, precision="auto"))
    with pytest.raises(InputError, match=r"max_steps was 4 and is now 6.*use --until.*new run in another --output_dir"):
        pretrain_meg(asked(tmp_path, resume=True, precision="auto", max_steps=6))
    other = {
        "name": "other", "data_dir": "a", "numpy_data_dir": "b", "libribrain_download": not SHORT.libribrain_download,
        "max_minutes": 5.0, "device": "auto", "num_workers": 1, "use_tensorboard": True, "use_wandb": False,
        "wandb_project": "other", "precision": pick_precision("auto", "cpu"),
    }  # fmt: skip
    assert set(other) == task._MAY_CHANGE | pretrain_run._MAY_CHANGE
    result = pretrain_meg(asked(tmp_path, resume=True, **other))
    assert (result.done, result.step) == (True, 4)


def test_a_changed_file_of_the_data_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.undo()
    folder = make_folder(tmp_path / "prepared")
    settings, told = with_data(SHORT, folder), []
    assert task.open_data(settings, told.append).fingerprint
    assert {one.stage for one in told} == {"check"} and told[-1].done == told[-1].total
    path = folder / "meg_000000_001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=r"meg_000000_001\.npy has changed since it was prepared"):
        pretrain_meg(PretrainRequest(settings, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RANK", "1")
    assert task.open_data(settings)  # the first process speaks for all


@pytest.mark.parametrize("damage", ["", "[]", '{"data": "fake"}', '{"settings": {}}'])
def test_a_damaged_record_of_a_run_is_a_sentence(tmp_path, damage):
    pretrain_meg(asked(tmp_path, until=2))
    (tmp_path / "run.json").write_text(damage)
    with pytest.raises(DataError, match=r"run\.json.*damaged"):
        pretrain_meg(asked(tmp_path, resume=True))


def test_resume_where_nothing_is_is_refused_and_before_the_first_state_begins_and_says_so(tmp_path, caplog):
    with pytest.raises(InputError, match="holds no run to go on with"):
        pretrain_meg(asked(tmp_path / "new", resume=True))
    pretrain_meg(asked(tmp_path / "begun", until=2))
    (tmp_path / "begun" / "state.pt").unlink()
    assert pretrain_meg(asked(tmp_path / "begun", resume=True)).done
    assert "begins at the first step" in caplog.text


def test_two_runs_do_not_share_a_folder(tmp_path):
    held, finished = threading.Event(), threading.Event()

    def another():
        with locked(tmp_path):
            held.set()
            finished.wait(60)

    thread = threading.Thread(target=another)
    thread.start()
    try:
        assert held.wait(60)
        with pytest.raises(InputError, match="Another run is at work"):
            pretrain_meg(asked(tmp_path))
    finally:
        finished.set()
        thread.join()
    assert pretrain_meg(asked(tmp_path)).done


def test_a_watched_run_keeps_its_state_beside_the_checkpoints_and_goes_on_by_itself(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    stop_at = 2

    def press_stop(progress):
        if progress.done == stop_at:
            (run / "stop").touch()

    with pytest.raises(Stopped):
        pretrain_meg(asked(out), press_stop, run)
    assert {"state.pt", "metrics.jsonl", "progress.json", "run.json"} <= {path.name for path in run.iterdir()}
    assert json.loads((run / "progress.json").read_text())["done"] <= 2
    assert (out / "last" / "model.safetensors").exists() and not (out / "state.pt").exists()
    result = pretrain_meg(asked(out), run=run)  # the same command again
    assert (result.done, result.step) == (True, 4)
    with pytest.raises(InputError, match="holds a run already"):
        pretrain_meg(asked(out), run=tmp_path / "another")


def test_a_watched_run_never_replaces_the_checkpoints_of_another_one(tmp_path):
    """Whoever starts runs asks for all of them to go on; a new run's folder is no reason to take another's output."""
    pretrain_meg(asked(tmp_path / "out"))
    before = (tmp_path / "out" / "last" / "training.json").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        pretrain_meg(asked(tmp_path / "out", resume=True), run=tmp_path / "new")
    assert (tmp_path / "out" / "last" / "training.json").read_bytes() == before


def test_settings_take_overrides_and_the_folder_of_their_data(tmp_path):
    settings = read_pretrain_settings("tiny", ["max_steps=5"])
    assert settings.max_steps == 5 and settings.hidden_size == 128
    assert with_data(settings, tmp_path).numpy_data_dir == str(tmp_path)
    libribrain = replace(settings, use_libribrain=True)
    assert with_data(libribrain, tmp_path) == replace(libribrain, data_dir=str(tmp_path))


def test_the_best_checkpoint_is_what_a_run_is_worth(tmp_path):
    result = pretrain_meg(asked(tmp_path / "a"))
    assert trained_checkpoint(result) == tmp_path / "a" / "best"
    result = pretrain_meg(asked(tmp_path / "b", eval_windows=0))
    assert trained_checkpoint(result) == tmp_path / "b" / "last"
    assert trained_checkpoint(replace(result, folder=str(tmp_path / "c"))) == tmp_path / "c"


def test_a_limit_of_minutes_ends_with_a_checkpoint(tmp_path):
    result = pretrain_meg(asked(tmp_path, max_minutes=1e-9))
    assert (result.done, result.step) == (False, 0) and result.facts["stopped"] is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_channels": 306}, ("4 channels", "in_channels is 306", "--set in_channels=4")),
        ({"sensor_input": "positions"}, ("one layout", "--layout native")),
        ({"window_seconds": 0.5}, ("2 frames at 250 Hz", "window_seconds")),
        ({"hidden_size": 15}, ("num_attention_heads 2", "hidden_size 15")),
        ({"window_seconds": 100.0}, ("25,000 samples", "3,000", "--segment_length")),
        ({"precision": "fp16"}, ("fp16",)),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_with_the_remedy(tmp_path, changes, words):
    with pytest.raises(InputError) as caught:
        pretrain_meg(asked(tmp_path / "out", **changes))
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "out").exists()


def test_recordings_with_sensors_of_their_own_want_positions():
    data = FakeData([noise(12)], native=True)
    with pytest.raises(InputError, match="sensor_input to positions"):
        check_data(SHORT, data)
    check_data(replace(SHORT, sensor_input="positions"), data)
    with pytest.raises(InputError, match="no training segment"):
        check_data(SHORT, Empty())


class Empty(FakeData):
    def __init__(self):
        super().__init__([noise(1)])

    def segments(self, part):
        return ()


def test_a_folder_that_was_not_prepared_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"nowhere.*prepare"):
        pretrain_meg(asked(tmp_path / "out", numpy_data_dir=str(Path(tmp_path, "nowhere"))))
    assert not (tmp_path / "out").exists()


LAUNCHED = """
pretrain --config tiny --max-steps 4 --set warmup_steps=2 --set in_channels=3 --set conv_dim=[8,8,8,8]
--set hidden_size=16 --set num_hidden_layers=1 --set num_attention_heads=2 --set intermediate_size=16 --set batch_size=2
--set window_seconds=4 --set num_negatives=5 --set eval_every=2 --set eval_windows=2 --set checkpoint_every=2
"""


def test_torchrun_trains_in_two_processes_on_a_processor(tmp_path):
    """README's command, on a port of its own."""
    folder = make_folder(tmp_path / "prepared", length=1500)
    words = [*LAUNCHED.split(), "--data_dir", str(folder), "--output_dir", str(tmp_path / "run")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "core"]
    environ = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *words], env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run' / 'best'}\n" and done.stderr.count("Window:") == 1
    assert json.loads((tmp_path / "run" / "last" / "training.json").read_text())["running"]["processes"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2, 3, 4]
