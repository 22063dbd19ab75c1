"""The tab "Sites" without a browser: what is told of a recording, what is asked of tasks, what is kept."""

import json
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from core.ui import runs_views, sites_views
from core.ui.meg_views import SIMULATED
from core.ui.runs_actions import RunsActions
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from core.ui.sites_actions import (
    SitesCompareActions,
    SitesLearnedActions,
    SitesRecordingActions,
    SitesTrainActions,
)
from core.ui.sites_runs import SiteStudies
from core.ui.trainings import AllTrainings
from tests.sites_fakes import N_SITES, FakeSitesTasks, make_similarity

PAGE = SimpleNamespace(session_hash="page")
ME, SOMEBODY = "my key", "another key"


def silent(*_, **__):
    """A bar that nobody sees."""


@pytest.fixture
def parts(tmp_path):
    """Make the callbacks of the tab over one set of trainings; they end with the test."""
    made = []

    def make(**limits) -> SimpleNamespace:
        everything = AllTrainings()
        studies = SiteStudies(tmp_path / "studies", module="tests.fake_training", everything=everything)
        needs = (FakeSitesTasks(), UiSettings(**limits), Sessions(tmp_path / "results"), studies)
        made.append(studies)
        return SimpleNamespace(
            recording=SitesRecordingActions(*needs), train=SitesTrainActions(*needs),
            learned=SitesLearnedActions(*needs), compare=SitesCompareActions(*needs), runs=RunsActions(everything),
            studies=studies,
        )  # fmt: skip

    yield make
    for studies in made:
        studies.end()


def read(made, *paths: Path, montage: str = "", rate: str = "") -> list:
    return made.recording.read([str(path) for path in paths], montage, rate, ME, PAGE, silent)


def simulated(made) -> str:
    return made.recording.simulate(ME, PAGE, silent)[0]


def train(made, study_id: str, preset: str = "tiny", steps: float = 60, band=(1.0, 40.0), seed: float = 0) -> str:
    return made.train.train(study_id, preset, steps, *band, seed, "auto", PAGE)[0]


def wait_for(made, run_id: str, *states: str) -> str:
    end = time.monotonic() + 120
    while (state := made.runs.everything.get(run_id).status.state) not in states:
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


def written(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"recording")
    return path


def titles(shown: dict) -> list[str]:
    return [json.loads(one["figure"])["layout"]["title"]["text"] for one in shown["figures"]]


# --------------------------------------------------------------------------------------------------------- recording


def test_what_is_in_a_recording_is_told_and_a_montage_gives_it_places(parts, tmp_path):
    made = parts()
    study_id, card, results, about, figures, montage, run_id = read(made, written(tmp_path, "rest.edf"))
    assert (card.visible, results.visible, montage, run_id) == (False, True, "", "")
    for told in ("24 sites", "24 EEG", "0 of 24 known", "EOG&lt;1&gt;", "48 s at 128 Hz", "Choose a montage."):
        assert told in about
    assert SIMULATED not in about
    assert "--montage" not in about
    assert figures["figures"] == []
    again = made.recording.place(study_id, "standard_1005", "", PAGE)
    assert "24 of 24 known" in again[3]
    assert titles(again[4]) == ["Where the sites are"]
    assert again[5] == "standard_1005"
    # A page that is opened later finds it again, but no other browser does.
    assert made.recording.restore(ME)[3] == again[3]
    assert made.recording.restore(SOMEBODY) == [gr.skip()] * 7


def test_the_simulated_recording_says_so(parts):
    made = parts()
    _, _, _, about, figures, *_ = made.recording.simulate(ME, PAGE, silent)
    assert SIMULATED in about
    assert "24 magnetometer" in about
    assert len(figures["figures"]) == 1


@pytest.mark.parametrize(
    ("name", "rate", "limits", "told"),
    [
        ("broken.edf", "", {}, "broken.edf is truncated"),
        ("data.npy", "", {}, "does not say its sampling rate"),
        ("data.npy", "fast", {}, "Got the sampling rate 'fast'; expected a number of Hz"),
        ("places.tsv", "", {}, "Found no recording in places.tsv"),
        ("rest.edf", "", {"max_upload_mb": 1e-6}, "this app takes up to 1e-06 MB"),
        ("rest.edf", "", {"max_minutes": 0.5}, "rest.edf is 48 s long"),
    ],
)
def test_what_cannot_be_read_is_said(parts, tmp_path, name, rate, limits, told):
    made = parts(**limits)
    with pytest.raises(gr.Error, match=told):
        read(made, written(tmp_path, name), rate=rate)
    assert made.recording.restore(ME) == [gr.skip()] * 7


def test_parts_of_a_recording_and_a_table_are_told_from_recordings(parts, tmp_path):
    made = parts()
    names = ("rest.vhdr", "rest.vmrk", "rest.eeg", "places.tsv")
    read(made, *(written(tmp_path, name) for name in names), montage="standard_1005")
    sent = made.studies.latest(ME).sent_files
    assert [path.name for path in sent.recordings] == ["rest.vhdr"]
    assert sent.table.name == "places.tsv"
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.edf", b"x")
    with pytest.raises(gr.Error, match="leaves the folder"):
        read(made, tmp_path / "evil.zip")


# ------------------------------------------------------------------------------------------------------------- train


def test_what_a_training_is_asked_follows_from_the_recording(parts, tmp_path):
    made = parts()
    study_id = read(made, written(tmp_path, "rest.fif"))[0]
    assert made.train.defaults(study_id, "tiny") == [60, 1.0, 40.0]
    assert "At once: 8 of 24 sites, 4 s, 8 rows" in made.train.describe(study_id, "tiny", 1, 40)
    assert "expected it to rise, and to end by 64 Hz" in made.train.describe(study_id, "tiny", 1, 100)
    assert "expected a number above 0" in made.train.describe(study_id, "tiny", None, 40)
    assert made.train.describe("", "tiny", 1, 40) == ""
    # Two microphones stand in a grid at once, and the band is that of sound.
    sound = read(made, written(tmp_path, "stereo.wav"))[0]
    assert made.train.defaults(sound, "tiny") == [60, 80.0, 7_200.0]
    assert "At once: 2 of 2 sites, 4 s, 8 rows of frequency each from 80 to 7200 Hz" in made.train.describe(
        sound, "tiny", 80, 7_200
    )
    one = read(made, written(tmp_path, "one.fif"))[0]
    assert "one site only" in made.train.describe(one, "tiny", 1, 40)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"steps": 101}, "has 101 steps; this app takes up to 100"),
        ({"steps": 2.5}, "Got 2.5 as steps"),
        ({"seed": -1}, "Got -1 as the seed"),
        ({"band": (40.0, 1.0)}, "expected it to rise"),
    ],
)
def test_a_training_that_cannot_begin_is_said(parts, asked, told):
    made = parts(max_steps=100)
    study_id = simulated(made)
    with pytest.raises(gr.Error, match=told):
        train(made, study_id, **asked)
    card, start = made.train.fail(PAGE)
    assert told.split(";")[0] in card.value
    assert start.interactive
    with pytest.raises(gr.Error, match="There is no recording here"):
        train(made, "guess")


def test_a_model_is_trained_watched_stopped_resumed_analysed_and_used(parts):
    made = parts(max_training_minutes=5)
    study_id = simulated(made)
    run_id = train(made, study_id, seed=7)
    end = time.monotonic() + 120
    while len(made.runs.everything.get(run_id).metrics) < 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    live, _ = made.train.live(run_id, "")
    assert [title.rpartition(" ")[0] for title in titles(live)] == ["Sites after step", "Loss of each site after step"]
    assert made.learned.offer(run_id, ME, "")[0].interactive is False
    made.runs.stop(run_id)
    assert wait_for(made, run_id, "stopped", "failed", "finished") == "stopped"
    # Of the last evaluation, of which there are no more now; the page draws it once.
    _, shown = made.train.live(run_id, "")
    assert made.train.live(run_id, shown) == [gr.skip(), shown]
    assert made.recording.restore(ME)[-1] == run_id
    made.runs.resume(run_id)
    assert wait_for(made, run_id, "finished", "failed") == "finished"
    again, _ = made.train.live(run_id, shown)
    assert again["again"] is True

    start, models, files, commands = made.learned.offer(run_id, ME, "")
    assert start.interactive
    assert models.value == f"run:{run_id}"
    assert [value for _, value in models.choices] == [f"run:{run_id}", "sites-tiny-eeg"]
    assert {"metrics.jsonl", "sites.zip"} <= {one["orig_name"] for one in files.value}
    assert "sites similarity ./sites" in commands.value
    with zipfile.ZipFile(made.runs.details(run_id)[2][-1]) as archive:
        command = json.loads(archive.read("sites/config.json"))["command"]
    # A short training looks up sooner, and ends by the limit of the app.
    expected = {"max_steps=60", "eval_every=6", "seed=7", "l_freq=1.0", "max_minutes=5"}
    assert {f"--set={one}" for one in expected} <= set(command)
    assert "data" not in runs_views.settings(command)
    analysis_id = made.learned.analyse(models.value, PAGE, silent)[1]
    page = made.compare.compare(analysis_id, "", 0, 1, -1, 0.0, PAGE, silent)
    assert "<strong>E1</strong> as E1 or as E2" in made.compare.show(page[1], PAGE)[2]


# ----------------------------------------------------------------------------------------------------------- learned


def analysed(made) -> str:
    files, run_id = made.learned.analyse("sites-tiny-eeg", PAGE, silent)
    assert {Path(path).suffix for path in files} == {".csv", ".npz", ".svg"}
    return run_id


def test_what_was_learned_stands_beside_what_it_is_to_be_compared_with(parts):
    made = parts()
    card, results, facts, matrices, clicks, site, maps, near, colour, embeddings, first, second, source = (
        made.learned.show(analysed(made), PAGE)
    )
    assert (card.visible, results.visible) == (False, True)
    for told in ("0.82 (p &lt; 0.001), 276 pairs", "before training 0.01 (p = 0.4)", "raw signals 0.79",
                 "92% of 24 sites", "shuffled labels 50%"):  # fmt: skip
        assert told in facts
    assert titles(matrices)[1] == "Before training"
    assert clicks["order"] == list(range(N_SITES))[::-1]
    assert site.value == first.value == N_SITES - 1
    assert second.value == 0
    assert source.value == -1
    assert titles(maps) == [f"Similarity to E{N_SITES}"] * 2
    assert f"Most alike to <strong>E{N_SITES}</strong>" in near
    assert (colour.value, len(embeddings["figures"])) == ("hemisphere", 2)


def test_a_click_compares_all_others_with_the_site(parts):
    made = parts()
    run_id = analysed(made)
    site, maps, near = made.learned.click(run_id, PAGE, SimpleNamespace(site=4))
    assert site == 4
    assert maps["again"] is True
    assert titles(maps) == ["Similarity to E5"] * 2
    # The nearest of the list are nearest on the sphere as well, in millimetres.
    found = make_similarity()
    best, cosine = found.nearest["E5"][0]
    gap = 1_000 * np.linalg.norm(found.positions[4] - found.positions[found.names.index(best)])
    assert f"<td>{best}</td><td>{cosine:.2f}</td><td>{gap:.0f} mm</td>" in near
    assert made.learned.choose(run_id, 4, PAGE) == [site, maps, near]
    assert len(made.learned.colour(run_id, "region", PAGE)["figures"]) == 2
    for wrong in (None, "E1", 2.5, N_SITES, -1):
        with pytest.raises(gr.Error, match="Choose one of the list"):
            made.learned.click(run_id, PAGE, SimpleNamespace(site=wrong))
    with pytest.raises(gr.Error, match="Got the colouring 'name'"):
        made.learned.colour(run_id, "name", PAGE)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("speech", "expected one of recording sites"),
        (None, "There is no model to analyse yet"),
        ("run:guess", "There is no such run"),
        ("/etc", "takes a model of its list"),
    ],
)
def test_a_model_that_cannot_be_analysed_is_said(parts, model, told):
    made = parts(local_folders=False)
    with pytest.raises(gr.Error, match=told):
        made.learned.analyse(model, PAGE, silent)


# ----------------------------------------------------------------------------------------------------------- compare


def test_two_sites_are_compared_and_the_same_one_differs_by_nothing(parts, tmp_path):
    made = parts()
    study_id, analysis_id = read(made, written(tmp_path, "rest.fif"))[0], analysed(made)

    def compared(first: int, second: int, source: int = -1, start: float | None = None) -> list:
        _, run_id = made.compare.compare(analysis_id, study_id, first, second, source, start, PAGE, silent)
        return made.compare.show(run_id, PAGE)

    card, results, facts, figures = compared(0, 3, 2, 8.0)
    assert (card.visible, results.visible, len(figures["figures"])) == (False, True, 1)
    for told in ("Signal of <strong>E3</strong> as E1 or as E4", "<strong>0.25</strong>", "begins at 8.0 s"):
        assert told in facts
    assert "<strong>0</strong>, 0.0%" in compared(2, 2)[2]
    with pytest.raises(gr.Error, match="expected 0 to 120 s"):
        compared(0, 1, start=500)
    with pytest.raises(gr.Error, match="Got a start at -1 s"):
        compared(0, 1, start=-1)
    with pytest.raises(gr.Error, match="Analyse one in step 3 first"):
        made.compare.compare("", study_id, 0, 1, -1, 0, PAGE, silent)
    with pytest.raises(gr.Error, match="There is no recording here"):
        made.compare.compare(analysis_id, "", 0, 1, -1, 0, PAGE, silent)


def test_what_is_not_known_is_left_out(parts):
    unknown = make_similarity()
    nowhere = np.full((N_SITES, 3), np.nan)
    found = SimpleNamespace(
        **{name: getattr(unknown, name) for name in unknown.__dataclass_fields__}
        | {"positions": nowhere, "flat": nowhere[:, :2], "distance": None, "recoveries": ()}
    )
    assert sites_views.maps(found, 0) == []
    assert len(sites_views.matrices(found)) == 2
    assert "<td>unknown</td>" in sites_views.about_learned(found)
    assert "<td>unknown</td>" in sites_views.nearest(found, 0)
