"""Runs: real processes that finish, fail, are killed, stopped, resumed, and outlive who started them."""

import json
import os
import signal
import time

import psutil
import pytest

from core.arrays import Progress
from core.errors import InputError
from core.training.runs import STOPPED, RunFolder, Runs, read_metrics, stop_requests

MODULE = "tests.training.run_fakes"


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
    return value


@pytest.fixture
def runs(tmp_path):
    store = Runs(tmp_path / "runs", MODULE)
    yield store
    for run in store.list():
        store.stop(run, kill_after=5.0)


def ended(store, run):
    wait_for(lambda: store.status(run).state != "running")
    return store.status(run)


def at_work(store, run):
    """Wait until it has done what it does before it waits."""
    wait_for(lambda: len(store.metrics(run)) == 3)


def process_of(run):
    return psutil.Process(json.loads((run.folder / "process.json").read_text())["pid"])


def test_measurements_are_read_while_it_runs(runs):
    run = runs.start(["5", "wait"], "counting")
    at_work(runs, run)
    assert runs.status(run).state == "running"
    assert runs.progress(run) in [Progress("count", done, 5, "numbers") for done in (1, 2, 3)]  # not each is written
    assert runs.metrics(run, since=2) == [{"number": 2, "loss": 1 / 3}]
    assert runs.metrics(run)[1] == {"number": 1, "loss": None}
    (run.folder / "go").touch()
    assert ended(runs, run).state == "finished"
    assert runs.status(run).exit_code == 0
    assert [row["number"] for row in runs.metrics(run)] == list(range(5))
    assert runs.progress(run).done == 5


def test_a_killed_run_has_failed_and_goes_on_later(runs):
    run = runs.start(["5", "wait"], "counting")
    at_work(runs, run)
    process = process_of(run)
    process.send_signal(signal.SIGKILL)
    status = ended(runs, run)
    assert (status.state, status.exit_code) == ("failed", None)
    assert status.error == "The process was killed."
    wait_for(lambda: not process.is_running())  # no zombie either: is_running() is true for one
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"number": 3, "lo')  # as a process that is killed leaves it
    assert len(runs.metrics(run)) == 3
    (run.folder / "go").touch()
    runs.resume(run)
    assert ended(runs, run).state == "finished"
    assert [row["number"] for row in runs.metrics(run)] == list(range(5))


def test_a_stopped_run_goes_on_later_though_the_app_was_started_again(runs, monkeypatch, tmp_path):
    run = runs.start(["5", "wait"], "counting")
    at_work(runs, run)
    again = Runs(runs.root, MODULE)
    assert again.list() == (run,)
    assert again.get(run.id) == run
    assert again.status(run).state == "running"
    with pytest.raises(InputError, match="at work already"):
        again.resume(run)
    with pytest.raises(InputError, match="Stop it before"):
        again.remove(run)
    again.stop(run)
    assert ended(again, run) == ended(runs, run)
    assert (again.status(run).state, again.status(run).exit_code) == ("stopped", STOPPED)
    again.stop(run)  # it has ended: nothing to do
    (run.folder / "go").touch()
    monkeypatch.chdir(tmp_path)
    again.resume(run)
    assert ended(runs, run).state == "finished"
    assert [row["number"] for row in again.metrics(run)] == list(range(5))
    again.remove(run)
    assert again.list() == () and not run.folder.exists()


def test_two_at_once_know_nothing_of_each_other(runs):
    first, second = runs.start(["5", "wait"], "one"), runs.start(["4", "wait"], "two")
    at_work(runs, first)
    at_work(runs, second)
    assert runs.list() == (second, first)
    assert os.getsid(process_of(first).pid) != os.getsid(process_of(second).pid) != os.getsid(0)
    runs.stop(first)
    assert ended(runs, first).state == "stopped"
    assert runs.status(second).state == "running"
    (second.folder / "go").touch()
    assert ended(runs, second).state == "finished"


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [("refuse", 2, "Got nothing; expected something. Give something."), ("raise", 1, "RuntimeError: no such luck")],
)
def test_a_failed_run_says_why(runs, how, code, said):
    run = runs.start(["3", how], "in vain")
    status = ended(runs, run)
    assert (status.state, status.exit_code, status.error) == ("failed", code, said)
    assert said in runs.log(run)


def test_a_run_that_does_not_listen_is_killed_where_that_was_asked(runs):
    run = runs.start(["5", "wait"], "deaf")
    at_work(runs, run)
    process_of(run).suspend()  # a stopped process acts on no signal but this one
    runs.stop(run, kill_after=0.1)
    assert ended(runs, run).state == "stopped"


def test_a_process_that_was_given_the_same_number_is_another_one(runs):
    run = runs.start(["3", "count"], "gone")
    assert ended(runs, run).state == "finished"
    content = json.loads((run.folder / "process.json").read_text())
    content |= {"pid": os.getpid()}
    (run.folder / "process.json").write_text(json.dumps(content | {"began": content["began"] - 1000}))
    assert runs.status(run).state == "finished"
    runs.stop(run)  # would end this test


@pytest.mark.parametrize("number", ["../elsewhere", "", "0" * 32, "a/b"])
def test_an_unknown_run_is_refused(runs, number):
    with pytest.raises(InputError, match="There is no run"):
        runs.get(number)


def test_lines_that_are_no_objects_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_bytes(b'{"a": 1}\n{"a": \n[1]\n\xff\n{"a": 2}\n{"a": 3}')
    assert read_metrics(path) == [{"a": 1}, {"a": 2}]


def test_progress_is_written_seldom_but_its_news_always(tmp_path):
    run = RunFolder(tmp_path)
    seen = []
    for stage, done in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 9)):
        run.progress(Progress(stage, done, 9))
        content = json.loads((tmp_path / "progress.json").read_text())
        seen.append((content["stage"], content["done"]))
    assert seen == [("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 9)]


def test_sigterm_and_the_stop_file_ask_for_a_stop(tmp_path):
    stop_file = tmp_path / "stop"
    stop_file.touch()
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests(stop_file) as should_stop:
        assert not should_stop()
        stop_file.touch()
        assert should_stop()
        stop_file.unlink()
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)  # to this thread: among many, kill may reach another, and later
        assert should_stop()
    assert signal.getsignal(signal.SIGTERM) == before
