"""The tab "Emotion" without a browser: what is said, what is trained, what is kept."""

import csv
import json
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import soundfile

from core.errors import InputError
from core.scoring import INTENDED_USE, EmotionFindings, Prediction
from core.ui import emotion_views, runs_views
from core.ui.emotion_actions import TRAINED
from core.ui.emotion_classify_actions import ClassifyActions
from core.ui.emotion_map_actions import MapActions
from core.ui.emotion_runs import Trainings
from core.ui.emotion_train_actions import TrainActions
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from tests.emotion_fakes import FakeEmotionTasks
from tests.scoring_fakes import make_corpus, make_emotion, make_metrics, make_prediction
from tests.ui.conftest import ROOT

PAGE = SimpleNamespace(session_hash="page")
VOICES = str(ROOT / "assets" / "examples" / "made_voices.zip")
RUNNING = ("auto", "auto", "auto")


def silent(*_, **__):
    """A bar that nobody sees."""


@pytest.fixture
def parts(tmp_path):
    """Make the three parts' callbacks over one set of trainings; they end with the test."""
    made = []

    def make(keep_seconds: float = 600, ends_unseen: bool = False, **limits) -> SimpleNamespace:
        trainings = Trainings(
            tmp_path / "trainings", keep_seconds, ends_unseen=ends_unseen, module="tests.fake_training"
        )
        needs = (FakeEmotionTasks(), UiSettings(**limits), Sessions(tmp_path / "results"), trainings)
        made.append(trainings)
        return SimpleNamespace(
            classify=ClassifyActions(*needs), train=TrainActions(*needs), map=MapActions(*needs), trainings=trainings
        )

    yield make
    for trainings in made:
        trainings.end()


@pytest.fixture
def clip(tmp_path):
    """Make a clip of so many seconds."""

    def make(name: str, seconds: float = 5.0) -> str:
        sound = np.random.default_rng(0).uniform(-0.5, 0.5, round(16_000 * seconds))
        soundfile.write(tmp_path / name, sound, 16_000)
        return str(tmp_path / name)

    return make


def classify(actions: ClassifyActions, path: str, head: str = "fake-head", threshold: float = -1.0):
    return actions.classify(path, head, threshold, *RUNNING, PAGE, silent)


def train(actions: TrainActions, paths=(VOICES,), training_id: str = "", head: str = "linear", **changed):
    asked = {"scheme": "auto", "mapping": "", "skip": False, "model": "fake-encoder", "head": head, "layer": "all",
             "pooling": "mean_std", "folds": "auto", "seed": 0} | changed  # fmt: skip
    return actions.train(list(paths), *asked.values(), *RUNNING, training_id, PAGE)


def wait_for(actions: TrainActions, training_id: str, *states: str) -> str:
    end = time.monotonic() + 60
    while (state := actions.trainings.status(actions.trainings.get(training_id)).state) not in states:
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


# --------------------------------------------------------------------------------------------------------- classify


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sure.wav", "<h2>fear</h2>"),
        ("unsure.wav", "No answer: unsure"),
        ("silence.wav", "No answer: silence"),
        ("short.wav", "No answer: too short"),
        ("unlike.wav", "No answer: unlike anything it learned from"),
    ],
)
def test_an_answer_is_one_or_says_why_there_is_none(parts, clip, name, told):
    actions = parts().classify
    numbers, run_id = classify(actions, clip(name))
    _, _, sound, slider, answer, bars, timeline, caption, _, shown = actions.show(run_id, PAGE, silent)
    assert told in answer
    assert "not what a person feels" in answer
    assert answer.count("prohibited (AI Act") == 1
    assert numbers["predictions"][0]["abstained"] == (name != "sure.wav")
    assert slider.value == shown["predictions"][0]["threshold"]
    # Of silence a head says the class that is loudest in nothing: no bar shows that.
    assert bars.count("<li") == (0 if name == "silence.wav" else 7)
    assert timeline.visible == (name != "short.wav")
    assert ("no longer than one window" in caption) == (name == "short.wav")
    assert soundfile.info(sound["url"].partition("=")[2]).duration == 5.0


def test_the_threshold_changes_what_is_said_and_asks_no_head(parts, clip, monkeypatch):
    actions = parts().classify
    _, run_id = classify(actions, clip("sure.wav"))
    monkeypatch.setattr(FakeEmotionTasks, "classify_emotion", lambda *_: pytest.fail("computed again"))
    before = actions.find(run_id, PAGE).result(Prediction)
    for threshold, told in ((0.99, "No answer: unsure"), (0.0, "<h2>fear</h2>")):
        answer, _, _, _, files, numbers = actions.redraw(run_id, threshold, PAGE)
        assert told in answer
        assert numbers["predictions"][0]["threshold"] == threshold
        assert json.loads(Path(files[0]).read_text()) == numbers
    rows = list(csv.DictReader(Path(files[1]).read_text(encoding="utf-8").splitlines()))
    assert [row["what"] for row in rows] == ["clip"] + ["window"] * len(before.timeline)
    # At a threshold of zero only silence keeps silent: the rows hold what the windows were.
    assert [row["why"] for row in rows[1:]] == [said.why.replace("unsure", "") for said in before.timeline]


@pytest.mark.parametrize("why", ["silence", "short", "unlike"])
def test_what_cannot_be_judged_stays_without_an_answer_at_any_threshold(why):
    prediction = make_prediction(why)
    assert emotion_views.at_threshold(prediction, 0.0).clip.why == why
    assert emotion_views.at_threshold(prediction, None) is prediction


def test_rounding_neither_contradicts_the_answer_nor_makes_it_certain():
    made = make_prediction("sure", seconds=30)
    close = replace(made, clip=replace(made.clip, probabilities=np.array([0.6786] + [0.3214 / 6] * 6)))
    assert "with 67.9 %; below 68.4 % nothing" in emotion_views.answer(emotion_views.at_threshold(close, 0.684))
    certain = replace(made, clip=replace(made.clip, probabilities=np.array([0.9997] + [0.0003 / 6] * 6)))
    said = emotion_views.at_threshold(certain, 0.5)
    assert "over 99 % sure" in emotion_views.answer(said).lower()
    assert "100 %" not in emotion_views.bars(said)
    assert "<em>under 1 %</em>" in emotion_views.bars(said)


def test_thresholds_agree_with_the_probabilities():
    prediction = make_prediction("sure", seconds=30)
    for threshold in (0.0, 0.3, 0.6, 1.0):
        for said in emotion_views.at_threshold(prediction, threshold).timeline:
            if said.why != "silence":
                best = prediction.labels[int(said.probabilities.argmax())]
                assert said.label == (best if said.probabilities.max() >= threshold else "")
                assert said.why == ("" if said.label else "unsure")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"path": None}, "There is no recording yet"),
        ({"head": "no-head"}, "There is no head 'no-head'"),
        ({"head": ""}, "There is no head yet"),
        ({"head": f"{TRAINED}guess"}, "no longer kept"),
        ({"threshold": 1.5}, "Got 1.5 as threshold"),
        ({"path": "broken.wav"}, "broken.wav is empty"),
    ],
)
def test_what_is_not_taken_is_said(parts, clip, changed, told):
    asked = {"path": "sure.wav", "head": "fake-head", "threshold": -1.0} | changed
    path = asked.pop("path")
    with pytest.raises(gr.Error, match=told):
        classify(parts().classify, path and clip(path), **asked)


def test_a_folder_as_head_is_refused_where_folders_are(parts, clip):
    with pytest.raises(gr.Error, match="Got the folder '/etc'"):
        classify(parts(local_folders=False).classify, clip("sure.wav"), head="/etc")


# ------------------------------------------------------------------------------------------------------------ train


def test_new_voices_take_away_what_was_told_of_those_before(parts):
    made = parts()
    _, training_id = made.train.describe([VOICES], "auto", "", False, "")
    for unknown in (training_id, ""):
        card, results, folds, _, resume = made.train.clear(unknown)
        assert "Nothing trained yet" in card.value
        assert (results.visible, folds, resume.visible) == (False, "", False)
    train(made.train, training_id=training_id)
    assert all(kept == gr.skip() for kept in made.train.clear(training_id))


def test_what_was_sent_is_described_and_read_once(parts, monkeypatch):
    actions = parts().train
    about, training_id = actions.describe([VOICES], "auto", "", False, "")
    for told in ("54 clips", "6 speakers", "3 classes", "calm 18", "intervals over them are wide"):
        assert told in about
    data = actions.trainings.get(training_id).data
    # Another mapping is read from the same files.
    about, again = actions.describe([VOICES], "auto", "calm=calm,gloomy=sad,excited=", False, training_id)
    assert (again, actions.trainings.get(again).data) == (training_id, data)
    assert "36 clips" in about
    assert "left out" in about
    assert "A zip of up to" in actions.describe(None, "auto", "", False, training_id)[0]


def test_a_list_and_recordings_are_read_together(parts, clip, tmp_path):
    rows = [(clip(f"{who}{take}.wav", 0.5), who, mood) for who in "ab" for take, mood in enumerate(("calm", "angry"))]
    # As people write them: with the folders of their own machine.
    lines = ["file,speaker,emotion", *(f"C:\\voices\\{Path(path).name},{who},{mood}" for path, who, mood in rows)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    about, _ = parts().train.describe(
        [*(path for path, _, _ in rows), str(tmp_path / "labels.csv")], "auto", "", False, ""
    )
    assert "<strong>4 clips</strong>, <strong>2 speakers</strong>" in about


def test_bad_uploads_are_said_and_nothing_is_written_outside(parts, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.wav", b"RIFF")
    (tmp_path / "two.zip").write_bytes(Path(VOICES).read_bytes())
    (tmp_path / "no.zip").write_text("no zip")
    actions = parts().train
    for paths, told in (
        (["evil.zip"], "leaves the folder"),
        (["no.zip"], "no zip archive"),
        (["evil.zip", "two.zip"], "Got 2 zips; expected one"),
    ):
        about, training_id = actions.describe([str(tmp_path / path) for path in paths], "auto", "", False, "")
        assert told in about
        assert training_id == ""
    assert not list(tmp_path.rglob("evil.wav"))


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"max_clips": 53}, "holds 54 clips; this app takes up to 53"), ({"max_upload_mb": 0.1}, "has 0.7 MB")],
)
def test_limits_hold(parts, limits, told):
    assert told in parts(**limits).train.describe([VOICES], "auto", "", False, "")[0]


def test_a_head_is_trained_watched_and_used(parts, clip):
    made = parts()
    _, training_id = made.train.describe([VOICES], "auto", "", False, "")
    facts, again = train(made.train, training_id=training_id, head="mlp", folds="-1", mapping="")
    assert again == training_id == facts["training"]
    assert facts["classes"] == {"calm": 18, "excited": 18, "gloomy": 18}
    assert wait_for(made.train, training_id, "finished", "failed") == "finished"
    *states, _, curves, timer, shown, finished = made.train.watch(training_id, "")
    card, start, stop, resume, results = states
    assert (card.visible, start.interactive, stop.visible, resume.visible, results.visible) == (
        False, True, False, False, True,
    )  # fmt: skip
    assert not timer.active
    assert finished in shown
    assert len(curves["figures"]) == 1
    # Nothing new: nothing is drawn again.
    assert all(part == gr.skip() for part in made.train.watch(training_id, shown)[1:])
    headline, figures, _, files, summary = made.train.show(training_id, PAGE, silent)
    assert [Path(path).name for path in files] == ["head.zip", "report.html", "report.zip"]
    assert len(figures["figures"]) == 7
    assert f"{make_emotion().main.uar.value:.3f}" in headline
    assert "Shuffled labels" in headline
    assert summary["uar"] == pytest.approx(make_emotion().main.uar.value)
    # The command line was asked for exactly this; a value with a dash is a value.
    with zipfile.ZipFile(files[0]) as archive:
        command = json.loads(archive.read("head/config.json"))["command"]
    assert command[:2] == ["emotion", "train"]
    assert {"--folds=-1", "--head=mlp", "--model=fake-encoder", "--json"} <= set(command)
    # The list of heads begins with the new one.
    choice = made.classify.heads(training_id)
    assert choice.value == f"{TRAINED}{training_id}"
    numbers, _ = classify(made.classify, clip("sure.wav"), head=choice.value)
    assert numbers["predictions"][0]["head"] == "trained"
    # A second training takes the features and the voices of the first, and has results of its own.
    train(made.train, training_id=training_id)
    assert wait_for(made.train, training_id, "finished", "failed") == "finished"
    assert made.trainings.get(training_id).attempts == 2
    told = made.train.report(training_id)
    assert (told["state"], told["summary"]) == ("finished", json.loads(json.dumps(told["summary"])))
    assert list(told["files"]) == ["head.zip", "report.html", "report.zip"]


def test_a_training_is_stopped_found_again_and_resumed(parts):
    made = parts()
    _, training_id = train(made.train, head="mlp", seed=7)
    end = time.monotonic() + 60
    while not made.trainings.metrics(made.trainings.get(training_id)):
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(gr.Error, match="Another training is under way"):
        train(made.train)
    assert made.train.watch(training_id, "")[2].visible
    # Other voices do not push it out of sight.
    for paths in (None, [VOICES, VOICES]):
        about, again = made.train.describe(paths, "auto", "", False, training_id)
        assert "The training under way is of the voices before" in about
        assert again == training_id
    made.train.stop_training(training_id)
    assert wait_for(made.train, training_id, "stopped", "failed", "finished") == "stopped"
    # A page that was opened since knows nothing but the id.
    known, about, card, start, stop, resume, *_ = made.train.restore(training_id)
    assert known == training_id
    assert "54 clips" in about
    assert "Finished folds and features are kept" in card.value
    assert (start.interactive, stop.visible, resume.visible) == (True, False, True)
    made.train.resume(training_id)
    assert wait_for(made.train, training_id, "finished", "failed") == "finished"


def test_a_training_that_fails_says_why(parts):
    made = parts()
    _, training_id = train(made.train, seed=13)
    assert wait_for(made.train, training_id, "finished", "failed") == "failed"
    card, start, *_ = made.train.watch(training_id, "")
    assert "has clips of 1 speaker that can be used; at least 2 are needed." in card.value
    assert start.interactive
    assert made.classify.heads(training_id).value == "fake-head"
    assert made.train.show(training_id, PAGE, silent) == [gr.skip()] * 5


@pytest.mark.parametrize(
    ("changed", "told"), [({"seed": -1}, "Got -1 as the seed"), ({"model": "/etc"}, "folder '/etc'")]
)
def test_a_training_that_cannot_begin_is_said(parts, changed, told):
    with pytest.raises(gr.Error, match=told):
        train(parts(local_folders=False).train, **changed)


def test_what_nobody_looks_at_goes(parts):
    trainings = parts(keep_seconds=0.2).trainings
    training = trainings.open(())
    assert trainings.find(training.id) is training
    end = time.monotonic() + 10
    while training.folder.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(InputError, match="no longer kept"):
        trainings.get(training.id)


@pytest.mark.parametrize("ends_unseen", [True, False])
def test_a_training_under_way_goes_on_unseen_unless_the_machine_is_shared(parts, ends_unseen):
    made = parts(keep_seconds=3_600, ends_unseen=ends_unseen)
    _, training_id = train(made.train, seed=7)
    training = made.trainings.get(training_id)
    training.seen -= 4_000
    made.trainings.sweep()
    assert (made.trainings.find(training_id) is None) == ends_unseen
    assert training.folder.exists() != ends_unseen


def test_folds_of_the_control_are_not_those_of_the_head():
    own = {"part": "main", "fold": 0, "uar": 0.75}
    rows = [own, own, {"part": "shuffled", "fold": 0, "uar": 0.25}, *make_metrics(1)]
    shown = emotion_views.fold_bars(rows)
    assert "1 fold so far, mean UAR 0.750" in shown
    assert emotion_views.fold_bars(make_metrics(1)) == ""


# -------------------------------------------------------------------------------------------------------------- map


def test_a_clip_of_the_map_is_heard_with_its_neighbours(parts):
    made = parts()
    _, training_id = made.train.describe([VOICES], "auto", "", False, "")
    files, run_id = made.map.embed(training_id, "fake-encoder", "all", "mean_std", *RUNNING, PAGE, silent)
    assert [Path(path).name for path in files] == ["embeddings.npy", "labels.npy", "sources.npy"]
    _, _, about, methods, clips, player, drawn, _, likeness, clusters = made.map.show(run_id, "emotion", PAGE)
    assert "54 clips" in about
    assert (methods.value, len(clips.choices), player) == ("t-SNE", 54, {"run": run_id})
    assert len(likeness["figures"]) == 2
    assert "DBSCAN" in clusters
    heard = made.map.choose(run_id, PAGE, SimpleNamespace(clip=3.0))
    assert (heard["name"], heard["label"], heard["speaker"]) == ("anna_excited_0", "excited", "anna")
    assert soundfile.info(heard["url"].partition("=")[2]).duration > 0.5
    cosines = [one["cosine"] for one in heard["neighbours"]]
    assert cosines == sorted(cosines, reverse=True)
    assert heard["clip"] not in [one["clip"] for one in heard["neighbours"]]
    assert made.map.choose_named(run_id, 3, PAGE) == heard
    assert json.loads(made.map.redraw(run_id, "PCA", "speaker", PAGE)[0].plot) != json.loads(drawn.plot)
    for nothing in (54, -1, "x", 1.5):
        with pytest.raises(gr.Error, match="of 54"):
            made.map.choose(run_id, PAGE, SimpleNamespace(clip=nothing))


def test_a_map_needs_voices(parts):
    with pytest.raises(gr.Error, match="Send them under"):
        parts().map.embed("", "fake-encoder", "all", "mean_std", *RUNNING, PAGE, silent)


# ------------------------------------------------------------------------------------------------------------ words


def test_what_is_shown_has_no_foreign_markup():
    bad = "<img src=x>"
    prediction = make_prediction("unsure")
    foreign = replace(prediction, labels=(bad, *prediction.labels[1:]), head=bad, model=bad, source=Path(f"/{bad}.wav"))
    corpus = make_corpus()
    warned = replace(corpus, scheme=bad, warnings=(bad,), failures=({"file": bad, "error": bad},), mapping={bad: "x"})
    findings: EmotionFindings = make_emotion()
    findings = replace(findings, baseline=replace(findings.baseline, name=bad), warnings=(bad,))
    told = (
        emotion_views.answer(foreign), emotion_views.bars(foreign), emotion_views.about_corpus(warned),
        emotion_views.headline(findings), emotion_views.fold_bars([{"uar": 0.5, "speakers": [bad]}]),
        runs_views.under_way(bad, None),
    )  # fmt: skip
    for shown in told:
        assert bad not in shown
        assert "&lt;img" in shown


def test_scores_without_intervals_are_shown_without():
    findings = make_emotion(n_speakers=2)
    assert "<small>" not in emotion_views.headline(findings)
    assert f"{findings.main.wa.value:.3f}</td>" in emotion_views.scores(findings.main)
    assert INTENDED_USE[:20] in emotion_views.headline(findings)
