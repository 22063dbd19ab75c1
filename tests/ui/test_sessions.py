"""Results belong to the page that asked for them, and go with it."""

import time

import pytest

from core.errors import InputError
from core.ui.sessions import Sessions


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_is_found_by_its_page_only(tmp_path):
    sessions = Sessions(tmp_path)
    run = sessions.start("mine", "embed")
    assert sessions.get("mine", run.id) is run
    for page, run_id in (("other", run.id), ("mine", "guess"), ("mine", "")):
        with pytest.raises(InputError, match="no longer kept"):
            sessions.get(page, run_id)


def test_a_program_can_fetch_its_last_result_while_the_next_one_runs(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=60)
    first, second = sessions.start("program", "embed"), sessions.start("program", "embed")
    assert first.folder.is_dir()
    assert sessions.get("program", first.id) is first
    assert sessions.current("program", "embed") is second


def test_a_new_run_removes_the_old_ones(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.02)
    first = sessions.start("page", "embed")
    (first.folder / "x.npy").write_text("x")
    time.sleep(0.05)
    second = sessions.start("page", "embed")
    assert not first.folder.exists()
    assert second.folder.is_dir()


def test_folders_cannot_be_guessed_nor_chosen_by_the_client(tmp_path):
    sessions = Sessions(tmp_path / "results")
    runs = [sessions.start(page, "embed") for page in ("../../escape", "/etc", "a", "b")]
    assert all(run.folder.parent == tmp_path / "results" for run in runs)
    assert len({run.id for run in runs}) == 4
    assert all(len(run.id) >= 20 for run in runs)


def test_a_closed_page_ends_its_run_and_loses_its_folder(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.02)
    run = sessions.start("page", "embed")
    sessions.leave("page")
    assert run.stop.is_set()
    wait_until(lambda: not run.folder.exists())
    assert sessions.current("page", "embed") is None


def test_a_page_that_comes_back_in_time_keeps_its_results(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.2)
    run = sessions.start("page", "embed")
    sessions.leave("page")
    assert sessions.get("page", run.id) is run
    time.sleep(0.4)
    assert run.folder.is_dir()


def test_leaving_without_a_run_is_nothing(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.01)
    sessions.stop("nobody")
    sessions.leave("nobody")


def test_a_new_run_leaves_the_other_tab_alone(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.02)
    layers = sessions.start("page", "layers")
    time.sleep(0.05)
    embed = sessions.start("page", "embed")
    assert sessions.get("page", layers.id).folder.is_dir()
    assert sessions.current("page", "layers") is layers
    sessions.stop("page", "embed")
    assert (embed.stop.is_set(), layers.stop.is_set()) == (True, False)


def test_a_page_keeps_its_cache_from_run_to_run_and_loses_it_with_itself(tmp_path):
    sessions = Sessions(tmp_path, keep_seconds=0.02)
    cache = sessions.cache("page")
    (cache / "features.npz").write_text("x")
    sessions.start("page", "layers")
    assert sessions.cache("page") == cache != sessions.cache("other")
    assert cache.parent == tmp_path
    sessions.leave("page")
    wait_until(lambda: not cache.exists())
    assert sessions.cache("other").is_dir()


def test_a_run_keeps_one_result_of_each_type(tmp_path):
    run = Sessions(tmp_path).start("page", "embed")
    with pytest.raises(InputError, match="has no result"):
        run.result(str)
    run.keep("first")
    run.keep(2)
    run.keep("second")
    assert (run.result(str), run.result(int)) == ("second", 2)
