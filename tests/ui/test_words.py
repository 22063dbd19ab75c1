"""What the page says: limits, progress, errors, facts."""

import logging
import math

import gradio as gr
import pytest

from core.arrays import EmbeddingInfo, EmbedResult, Progress
from core.clock import FrameClock
from core.errors import DataError, InputError
from core.ui import cards
from core.ui.errors import explain, shown_errors
from core.ui.progress import TimeLeft, in_words
from core.ui.sessions import Stopped
from core.ui.settings import UiSettings


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (8, "8 s"),
        (59.6, "1 min"),
        (200.4, "3 min 20 s"),
        (1_200, "20 min"),
        (3_600, "1 h"),
        (3_899, "1 h 5 min"),
    ],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


def test_time_left_is_extrapolated_from_the_present_stage():
    now = [0.0]
    told = TimeLeft(lambda: now[0])
    assert told.describe(Progress("read", 0, 300)) == "Read: 0 of 300 s"
    now[0] = 50.0
    assert told.describe(Progress("embed", 0, 300)) == "Embed: 0 of 300 s"
    now[0] = 60.0
    assert told.describe(Progress("embed", 100, 300)) == "Embed: 100 of 300 s, about 20 s left"
    assert told.describe(Progress("embed", 300, 300)) == "Embed: 300 of 300 s"


def test_a_stage_without_a_length_has_just_its_name():
    assert TimeLeft().describe(Progress("writing", 0, 0)) == "Writing"


def test_a_stage_of_one_step_has_no_numbers():
    assert TimeLeft().describe(Progress("load the model", 0, 1, "model")) == "Loading the model"
    assert TimeLeft().describe(Progress("embed", 0.5, 1, "recording")).startswith("Embed: ")


def test_a_laptop_is_trusted_with_more_than_a_space():
    laptop, space = UiSettings.from_environment({}), UiSettings.from_environment({"SPACE_ID": "someone/strata"})
    assert laptop.local_folders
    assert not space.local_folders
    assert space.max_minutes < laptop.max_minutes
    assert space.max_upload_mb < laptop.max_upload_mb
    assert not laptop.shared(True).local_folders
    assert (laptop.max_steps, laptop.max_training_minutes) == (math.inf, math.inf)
    assert (space.max_steps, space.max_training_minutes) == (1_000, 20)


def test_limits_come_from_the_environment():
    settings = UiSettings.from_environment({"STRATA_MAX_MINUTES": "1.5", "STRATA_MAX_UPLOAD_MB": "3"})
    assert (settings.max_seconds, settings.max_upload_bytes) == (90, 3_000_000)


@pytest.mark.parametrize("name", ["STRATA_MAX_STEPS", "STRATA_MAX_TRAINING_MINUTES"])
def test_a_training_can_be_limited_on_any_machine(name):
    limited = UiSettings.from_environment({name: "50"})
    assert 50 in (limited.max_steps, limited.max_training_minutes)
    with pytest.raises(InputError, match=f"Change {name}"):
        UiSettings.from_environment({name: "0"})


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_that_is_none_names_its_variable(text):
    with pytest.raises(InputError, match="STRATA_MAX_MINUTES"):
        UiSettings.from_environment({"STRATA_MAX_MINUTES": text})


def fails_with(error):
    @shown_errors
    def callback():
        raise error

    with pytest.raises(gr.Error) as caught:
        callback()
    return caught.value


def test_a_strata_error_reaches_the_page_as_its_sentence_and_is_no_bug(caplog):
    with caplog.at_level(logging.ERROR):
        assert (
            fails_with(DataError("clip.wav is empty. Record it again.")).message
            == "clip.wav is empty. Record it again."
        )
    assert caplog.records == []


def test_a_bug_is_said_and_its_trace_logged(caplog):
    with caplog.at_level(logging.ERROR):
        told = fails_with(KeyError("hop")).message
    assert "KeyError" in told
    assert "report" in told
    assert caplog.records[0].exc_info[1].args == ("hop",)


def test_a_stopped_run_raises_no_alarm():
    assert fails_with(Stopped()).visible is False


def test_messages_carry_no_markup_and_no_server_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    error = DataError(f"{tmp_path}/0f3a/b-c_d/<img src=x>.wav is empty.")
    assert explain(error) == "<img src=x>.wav is empty."
    assert fails_with(error).message == "&lt;img src=x&gt;.wav is empty."
    assert "<img" not in cards.failed(explain(error))


def result(tmp_path, **metadata):
    info = EmbeddingInfo(FrameClock(320, 400, 16_000), (0, 6, 12), 1_234, 768, metadata)
    return EmbedResult(tmp_path / "<b>clip</b>.wav", {}, info, {"mat": "too large"})


def test_facts_are_told_with_reasons_warnings_and_no_foreign_markup(tmp_path):
    told = cards.facts(result(
        tmp_path, model_name="/models/mine<i>", fine_tuned=True, device="cpu", device_reason="no GPU", engine="torch",
        seconds_taken=2.0, duration_seconds=25.0, warnings=["a & b"],
    ))  # fmt: skip
    assert "1,234 frames of 768 values" in told
    assert "one each 20 ms" in told
    assert "3 layers (0 to 12)" in told
    assert "mine&lt;i&gt;" in told
    assert "fine-tuned" in told
    assert "Device <strong>cpu</strong>: no GPU." in told
    assert "25.0 s of sound in 2.0 s, 12.5 times real time" in told
    assert "a &amp; b" in told
    assert "No .mat file: too large" in told
    assert "<b>clip" not in told


def test_a_run_without_a_finished_file_has_no_speed(tmp_path):
    assert "real time" not in cards.facts(result(tmp_path, seconds_taken=0))
