"""The tabs "MEG" and "Runs" without a browser: what is told of a recording, what is asked of tasks, what is kept."""

import json
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from core.errors import InputError
from core.ui import meg_views, runs_views
from core.ui.emotion_runs import Trainings
from core.ui.meg_actions import PrepareActions, PretrainActions, RecordingActions, UseActions
from core.ui.meg_runs import Studies, Study
from core.ui.runs_actions import RunsActions
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from core.ui.trainings import AllTrainings
from tests.meg_fakes import FakeMegTasks
from tests.pretrain_lines import make_lines

PAGE = SimpleNamespace(session_hash="page")
ME, SOMEBODY = "my key", "another key"
BAND = {"low": 1.0, "high": 40.0, "rate": 250, "notch": "auto", "segment": 20.0, "split": 0.9,
        "by": "recording", "layout": "neuromag306", "fit": "auto", "bads": "interpolate"}  # fmt: skip


def silent(*_, **__):
    """A bar that nobody sees."""


@pytest.fixture
def parts(tmp_path):
    """Make the callbacks of both tabs over one set of trainings; they end with the test."""
    made = []

    def make(**limits) -> SimpleNamespace:
        everything = AllTrainings()
        kept = {"module": "tests.fake_training", "everything": everything}
        studies = Studies(tmp_path / "studies", **kept)
        needs = (FakeMegTasks(), UiSettings(**limits), Sessions(tmp_path / "results"), studies)
        made.append(studies)
        return SimpleNamespace(
            recording=RecordingActions(*needs), prepare=PrepareActions(*needs), train=PretrainActions(*needs),
            use=UseActions(*needs), runs=RunsActions(everything), studies=studies,
            voices=Trainings(tmp_path / "voices", **kept),
        )  # fmt: skip

    yield make
    for studies in made:
        studies.end()


@pytest.fixture
def prepared(parts):
    """The callbacks, and the id of a simulated study that is prepared."""
    made = parts()
    study_id = made.recording.simulate(ME, PAGE, silent)[0]
    prepare(made, study_id)
    return made, study_id


def read(made: SimpleNamespace, *paths: Path, rate: str = "", visitor: str = ME) -> list:
    return made.recording.read([str(path) for path in paths], rate, visitor, PAGE, silent)


def prepare(made: SimpleNamespace, study_id: str, **changed) -> list:
    return made.prepare.prepare(study_id, *(BAND | changed).values(), PAGE, silent)


def train(made: SimpleNamespace, study_id: str, steps: float = 60, seconds: float = 10, seed: float = 0) -> str:
    return made.train.train(study_id, "tiny", steps, seconds, seed, "auto", PAGE)[0]


def wait_for(made: SimpleNamespace, run_id: str, *states: str) -> str:
    end = time.monotonic() + 60
    while (state := made.runs.everything.get(run_id).status.state) not in states:
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


def recording(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"recording")
    return path


# --------------------------------------------------------------------------------------------------------- recording


def test_the_simulated_recording_says_so_wherever_it_shows(parts):
    made = parts()
    _, card, results, about, figures, choice, *_ = made.recording.simulate(ME, PAGE, silent)
    assert (card.visible, results.visible, choice.visible) == (False, True, False)
    assert meg_views.SIMULATED in about
    titles = [json.loads(one["figure"])["layout"]["title"]["text"] for one in figures["figures"]]
    assert len(titles) == 3
    assert all(title.endswith("(simulated)") for title in titles)
    *_, told, _, _ = made.recording.shown(made.studies.latest(ME))
    assert told == ""
    assert meg_views.SIMULATED in prepare(made, made.studies.latest(ME).id)[1]


def test_what_is_in_a_recording_is_told_without_its_markup(parts, tmp_path):
    made = parts()
    _, _, _, about, figures, *_ = read(made, recording(tmp_path, "rest_raw.fif"))
    for told in (
        "102 sensors", "34 magnetometers and 68 gradiometers", "250 Hz", "1 min", "<dd>MEG0012</dd>",
        "3 stim, 2 eog", "speech (12)", "&lt;i&gt;silence", "MaxShield",
    ):  # fmt: skip
        assert told in about
    assert "<i>" not in about
    assert meg_views.SIMULATED not in about
    assert "simulated" not in figures["figures"][0]["figure"]


@pytest.mark.parametrize(
    ("name", "rate", "told"),
    [
        ("eeg_raw.fif", "", "eeg_raw.fif has no MEG channels"),
        ("data.npy", "", "does not say its sampling rate"),
        ("data.npy", "fast", "Got the sampling rate 'fast'; expected a number of Hz"),
        ("data.npy", "-5", "Got -5.0 Hz as the sampling rate"),
        ("notes.txt", "", "Found no MEG recording in notes.txt"),
    ],
)
def test_what_cannot_be_read_is_said(parts, tmp_path, name, rate, told):
    made = parts()
    with pytest.raises(gr.Error, match=told):
        read(made, recording(tmp_path, name), rate=rate)
    # What failed is not what a reloaded page finds.
    assert made.recording.restore(ME) == [gr.skip()] * 10


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_upload_mb": 1e-6}, "this app takes up to 1e-06 MB"),
        ({"max_minutes": 0.5}, "rest_raw.fif is 1 min long"),
        ({"max_recordings": 1}, "holds 2 recordings; this app takes up to 1"),
    ],
)
def test_limits_hold(parts, tmp_path, limits, told):
    with pytest.raises(gr.Error, match=told):
        read(parts(**limits), *(recording(tmp_path, name) for name in ("rest_raw.fif", "task_raw.fif")))


def test_a_folder_comes_as_a_zip_with_all_of_its_files(parts, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for name in ("rest.ds/rest.meg4", "rest.ds/rest.res4", "rest.ds/BadChannels"):
            archive.writestr(name, b"x")
    made = parts()
    assert "rest.ds" in read(made, tmp_path / "study.zip")[3]
    (found,) = made.studies.latest(ME).recordings
    assert sorted(path.name for path in found.iterdir()) == ["BadChannels", "rest.meg4", "rest.res4"]
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.fif", b"x")
    with pytest.raises(gr.Error, match="leaves the folder"):
        read(made, tmp_path / "evil.zip")
    assert not list(tmp_path.rglob("evil.fif"))


def test_of_several_recordings_each_can_be_looked_into(parts, tmp_path):
    made = parts()
    study_id, _, _, about, _, choice, *_ = read(
        made, *(recording(tmp_path, name) for name in ("rest_raw.fif", "task_raw.fif"))
    )
    assert "<strong>rest_raw.fif</strong>" in about
    assert (choice.visible, choice.value) == (True, "0")
    _, _, _, about, _, choice, *_ = made.recording.choose(study_id, "1")
    assert "<strong>task_raw.fif</strong>" in about
    assert choice.value == "1"


# ----------------------------------------------------------------------------------------------------------- prepare


def test_what_is_asked_of_the_preparation_is_what_the_page_says(parts, monkeypatch):
    made, asked = parts(), []
    original = FakeMegTasks.prepare_meg
    monkeypatch.setattr(
        FakeMegTasks,
        "prepare_meg",
        lambda self, request, listen: asked.append(request) or original(self, request, listen),
    )
    study_id = made.recording.simulate(ME, PAGE, silent)[0]
    card, about, further = prepare(made, study_id, low=None, rate=100, segment=4.0, split=0.7, by="subject", notch="")
    assert (card.visible, further.visible) == (False, True)
    for told in ("2 segments", "(40 s) to train on", "1 segment", "<td>train, eval</td>", "shorter than a segment",
                 "sensors matched", "<td>by name</td>", "bad channels", "<td>MEG0012</td>"):  # fmt: skip
        assert told in about
    assert "subject" not in about  # nobody has one
    (request,) = asked
    assert (request.segment_length, request.split_ratio, request.split_by) == (400, 0.7, "subject")
    wanted = request.preparation
    assert (wanted.sampling_rate, wanted.l_freq, wanted.h_freq, wanted.notch) == (100, None, 40.0, "none")
    # A training may still read what was prepared before.
    prepare(made, study_id)
    assert asked[1].output_dir != asked[0].output_dir
    assert asked[0].output_dir.is_dir()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"high": 200.0}, "Got a band of 1 to 200 Hz at 250 Hz"),
        ({"rate": None}, "Got None as the sampling rate"),
        ({"segment": 0}, "Got 0 s as the length of a segment"),
        ({"layout": "ctf151"}, "Take another layout"),
    ],
)
def test_a_preparation_that_cannot_be_is_said(parts, changed, told):
    made = parts()
    study_id = made.recording.simulate(ME, PAGE, silent)[0]
    with pytest.raises(gr.Error, match=told):
        prepare(made, study_id, **changed)
    with pytest.raises(gr.Error, match="There is no recording here"):
        prepare(made, "guess")


# ------------------------------------------------------------------------------------------------------------- train


def test_a_window_is_told_with_its_frames_or_why_there_are_too_few(prepared):
    made, study_id = prepared
    assert made.train.defaults("tiny") == [60, 10.0]
    assert "10 s at 250 Hz = 62 frames" in made.train.describe(study_id, "tiny", 10)
    assert "expected 12 or more" in made.train.describe(study_id, "tiny", 1)
    assert "expected a number above 0" in made.train.describe("", "tiny", None)
    prepare(made, study_id, rate=100)
    assert "at 100 Hz" in made.train.describe(study_id, "tiny", 10)


def test_a_model_is_trained_watched_and_used(prepared):
    made, study_id = prepared
    run_id = train(made, study_id, steps=30)
    assert wait_for(made, run_id, "finished", "failed") == "finished"
    card, stop, resume, curves, timer, shown = made.runs.watch(run_id, "")
    # What the run measured itself, 4 s a step; a pause would not count.
    assert "30 steps in 2 min." in card.value
    assert (stop.visible, resume.visible, timer.active) == (False, False, False)
    assert len(curves["figures"]) == 4
    assert "again" not in curves
    # Nothing new: nothing is drawn again.
    assert made.runs.watch(run_id, shown)[1:] == [gr.skip()] * 5
    start, empty, offer, about, commands, files = made.use.offer(run_id)
    assert (start.interactive, empty.visible, offer.visible) == (True, False, True)
    assert "after 30 steps, learned from simulated data" in about
    assert "--model ./meg2vec --layers all" in commands
    assert [Path(path).name for path in files] == ["metrics.jsonl", "meg2vec.zip"]
    with zipfile.ZipFile(files[1]) as archive:
        assert sorted(archive.namelist()) == ["meg2vec/config.json", "meg2vec/model.safetensors"]
        command = json.loads(archive.read("meg2vec/config.json"))["command"]
    # A short training warms up and looks up sooner: a tenth of 30 steps, half of the preset's warm-up.
    expected = {"max_steps=30", "window_seconds=10.0", "warmup_steps=6", "eval_every=3", "in_channels=306", "seed=0"}
    assert {f"--set={one}" for one in expected} <= set(command)
    assert not any("max_minutes" in one for one in command)
    embeddings, use_id = made.use.embed(run_id, "auto", PAGE, silent)
    assert np.load(embeddings[0]).shape == (5, 300, 16)
    _, results, facts, layer, _, figures = made.use.show(use_id, PAGE)
    assert (results.visible, layer.value, len(layer.choices)) == (True, 4, 5)
    assert "<strong>meg2vec</strong>" in facts
    assert len(figures["figures"]) > 3


def test_a_training_is_stopped_found_again_and_resumed(prepared):
    made, study_id = prepared
    run_id = train(made, study_id, seed=7)
    end = time.monotonic() + 60
    while len(made.runs.everything.get(run_id).metrics) < 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(gr.Error, match="Another training is under way"):
        train(made, study_id)
    # Nor may another tab start one, and what runs is not removed.
    with pytest.raises(InputError, match="Another training is under way"):
        made.voices.begin(made.voices.open(()), list, "voices")
    with pytest.raises(gr.Error, match="Stop it before you remove it"):
        made.runs.remove(run_id)
    card, stop, resume, _, timer, shown = made.runs.watch(run_id, "")
    assert (stop.visible, resume.visible, timer.active) == (True, False, True)
    assert "You may close or reload the page" in card.value
    assert not made.use.offer(run_id)[0].interactive
    asked = made.runs.everything.get(run_id).run.folder / "stopping"
    asked.touch()
    stopping = made.runs.watch(run_id, shown)[0].value
    assert "Stopping: what was learned" in stopping
    assert "the training goes on" not in stopping
    asked.unlink()
    made.runs.stop(run_id)
    assert wait_for(made, run_id, "stopped", "failed", "finished") == "stopped"
    # A page that was opened since knows nothing but whose it is.
    assert made.recording.restore(SOMEBODY) == [gr.skip()] * 10
    restored = made.recording.restore(ME)
    assert (restored[0], restored[-1]) == (study_id, run_id)
    assert "2 segments" in restored[-3]
    card, stop, resume, *_ = made.runs.watch(run_id, shown)
    assert "After 20 steps. The last checkpoint is kept" in card.value
    assert (stop.visible, resume.visible) == (False, True)
    assert made.use.offer(run_id)[2].visible
    made.runs.resume(run_id)
    assert wait_for(made, run_id, "finished", "failed") == "finished"
    steps = [row["step"] for row in made.runs.everything.get(run_id).metrics if row["split"] == "train"]
    assert steps == list(range(1, 61))


def test_a_training_that_fails_says_why(prepared):
    made, study_id = prepared
    run_id = train(made, study_id, seed=13)
    assert wait_for(made, run_id, "finished", "failed") == "failed"
    card, *_ = made.runs.watch(run_id, "")
    assert "holds no windows. Prepare again." in card.value
    with pytest.raises(gr.Error, match="There is no checkpoint yet"):
        made.use.embed(run_id, "auto", PAGE, silent)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"steps": 101}, "has 101 steps; this app takes up to 100"),
        ({"steps": 2.5}, "Got 2.5 as the number of steps"),
        ({"seed": -1}, "Got -1 as the seed"),
        ({"seconds": 1}, "expected 12 or more"),
    ],
)
def test_a_training_that_cannot_begin_is_said(parts, asked, told):
    made = parts(max_steps=100)
    study_id = made.recording.simulate(ME, PAGE, silent)[0]
    with pytest.raises(gr.Error, match="Nothing is prepared yet"):
        train(made, study_id)
    prepare(made, study_id)
    with pytest.raises(gr.Error, match=told):
        train(made, study_id, **asked)


def test_limits_of_a_shared_machine_reach_the_training_and_are_told(parts):
    made = parts(max_steps=40, max_training_minutes=5)
    assert made.train.defaults("tiny")[0] == 40
    study_id = made.recording.simulate(ME, PAGE, silent)[0]
    prepare(made, study_id, layout="native")
    run_id = train(made, study_id, steps=10)
    command = made.runs.everything.get(run_id).run.command
    assert {"--set=max_minutes=5", "--set=sensor_input=positions", "--set=in_channels=102"} <= set(command)
    assert "ends after 40 steps or 5 min" in meg_views.about_caps(UiSettings(max_steps=40, max_training_minutes=5))
    assert meg_views.about_caps(UiSettings()) == ""


# -------------------------------------------------------------------------------------------------------------- runs


def test_runs_are_listed_for_their_visitor_only_and_removed(prepared):
    made, study_id = prepared
    first = train(made, study_id, steps=20)
    wait_for(made, first, "finished")
    second = train(made, study_id, steps=30)
    wait_for(made, second, "finished")
    listed, chosen, empty, results = made.runs.listed(ME, "")
    assert [value for _, value in listed.choices] == [second, first]
    assert chosen == listed.value == second
    assert "tiny on simulated_raw.fif · MEG pre-training · finished · 30 steps · started" in listed.choices[0][0]
    assert (empty.visible, results.visible) == (False, True)
    for nobody in (SOMEBODY, ""):
        listed, chosen, empty, _ = made.runs.listed(nobody, second)
        assert (listed.choices, chosen, empty.visible) == ([], "", True)
    settings, log, files, remove, _ = made.runs.details(first)
    assert "<td>max_steps</td><td>20</td>" in settings
    assert str(made.studies.root) not in settings
    assert "Nothing was printed yet" in log
    assert (len(files), remove.visible) == (2, True)
    made.runs.remove(second)
    assert not Path(files[0]).parent.parent.joinpath(second).exists()
    listed, chosen, *_ = made.runs.listed(ME, second)
    assert (chosen, len(listed.choices)) == (first, 1)
    with pytest.raises(gr.Error, match="no longer kept"):
        made.runs.stop(second)
    assert made.runs.watch(second, "")[:4] == [gr.skip()] * 4


def test_what_was_started_on_ones_own_machine_stays_and_elsewhere_goes(prepared):
    made, study_id = prepared
    wait_for(made, train(made, study_id, steps=10), "finished")
    unused = made.studies.open(())
    for study in made.studies.all():
        study.seen -= 4_000
    made.studies.sweep()
    assert [study.id for study in made.studies.all()] == [study_id]
    assert not unused.folder.exists()
    made.studies._ends_unseen = True
    made.studies.get(study_id).seen -= 4_000
    # A page that is open keeps what was trained on it.
    made.runs.look(ME)
    made.studies.sweep()
    assert made.studies.find(study_id) is not None
    made.studies.get(study_id).seen -= 4_000
    made.studies.sweep()
    assert made.studies.find(study_id) is None


def test_codes_that_collapse_raise_an_alarm():
    lines = make_lines(60)
    assert runs_views.alarm(lines) == ""
    assert "Only about 47 codes" in runs_views.alarm(lines[:5])
    assert "Only about" in runs_views.under_way("Train", None, runs_views.alarm(lines[:5]))
    assert runs_views.alarm([{"fold": 0, "uar": 0.5}]) == ""
    # A model with 64 codes is in trouble below 5, not below 50.
    few = [{**line, "least_perplexity": 5.0} for line in lines]
    assert runs_views.alarm(few[:5]) == ""
    assert "Only about 4 codes are in use, and below 5" in runs_views.alarm([{**few[0], "perplexity": 4.2}])


def test_a_log_is_shown_as_a_terminal_shows_it_and_without_markup():
    shown = runs_views.printed("reading\n10 %\r50 %\r100 %\n<script>\n")
    assert "100 %" in shown
    assert "50 %" not in shown
    assert "&lt;script&gt;" in shown


def test_a_key_of_a_browser_is_kept_and_cannot_be_guessed(parts):
    runs = parts().runs
    first, second = runs.visitor(""), runs.visitor(None)
    assert first != second
    assert len(first) > 20
    assert runs.visitor(first) == first


def test_a_study_finds_the_best_checkpoint_wherever_the_run_wrote_it(tmp_path):
    study = Study("id", tmp_path, ())
    run = SimpleNamespace(id="run", folder=tmp_path / "runs" / "run")
    study.results["run"] = tmp_path / "training-1"
    assert study.outputs(run) == {}
    for name in ("last", "best"):
        folder = run.folder / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"")
        assert study.outputs(run) == {"meg2vec": folder}
