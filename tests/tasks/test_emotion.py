"""Emotion from recordings to files: evaluate, train, classify, embeddings, through the public tasks."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core import tasks
from core.arrays import EmbedSettings, ignore_progress
from core.emotion.head_files import read_head
from core.errors import CheckpointError, DataError, InputError, OutputError
from core.scoring import CorpusSettings, HeadSettings
from core.tasks import ClassifySettings
from core.tasks.emotion import examples
from core.tasks.emotion.examples import gather, read_labelled, with_layer
from tests.tiny_models import save_tiny

VOICES = Path(__file__).resolve().parents[2] / "assets" / "examples" / "made_voices.zip"
SENTENCE = VOICES.with_name("one_sentence.flac")
QUICK = {"shuffled": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny encoder with random weights, and a folder for features."""
    folder = tmp_path_factory.mktemp("emotion")
    save_tiny(folder / "tiny", "wav2vec2-stable")
    return folder


@pytest.fixture(scope="module")
def request_(place):
    embed = EmbedSettings(str(place / "tiny"), engine="torch", precision="fp32")
    return tasks.EmotionRequest(VOICES, place / "features", embed=embed)


@pytest.fixture(scope="module")
def findings(request_):
    return tasks.evaluate_emotion(request_)


def test_a_baseline_tells_styles_apart_that_a_program_plays_and_shuffled_labels_are_not_told_apart(findings):
    assert findings.corpus["n"] == 54
    assert findings.corpus["n_speakers"] == len(findings.main.folds) == 6
    assert findings.baseline.uar.low > findings.baseline.chance
    low, high = findings.shuffled.uar.low, findings.shuffled.uar.high
    assert low <= 1 / 3 <= high
    assert findings.shuffled.name == "shuffled labels, linear head"


def test_no_speaker_is_on_both_sides(findings):
    tested = [speaker for fold in findings.main.folds for speaker in fold.speakers]
    assert sorted(tested) == sorted(set(findings.main.speakers.tolist()))


def test_a_second_look_computes_no_embedding_and_gives_the_same(request_, findings):
    again = tasks.evaluate_emotion(request_)
    assert (findings.model["n_computed"], again.model["n_computed"]) == (54, 0)
    assert again.model["n_embedded"] == 54
    assert again.model["embed_seconds"] == findings.model["embed_seconds"] > 0
    assert again.main.uar == findings.main.uar
    np.testing.assert_array_equal(again.main.probabilities, findings.main.probabilities)


def test_the_order_of_the_files_does_not_matter(request_, findings, tmp_path):
    folder = tmp_path / "voices"
    with zipfile.ZipFile(VOICES) as archive:
        archive.extractall(folder)
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    turned = tasks.evaluate_emotion(replace(request_, data=folder / "labels.csv", **QUICK))
    assert turned.main.uar.value == pytest.approx(findings.main.uar.value)
    assert turned.model["n_computed"] == 0


def test_what_is_written_can_be_read_and_says_the_same(findings, tmp_path):
    files = tasks.write_emotion(findings, tmp_path / "out")
    summary = json.loads(files["summary"].read_text())
    assert summary["uar"] == pytest.approx(findings.main.uar.value)
    assert summary["n"] == 54
    assert {"uar_ci", "wa", "macro_f1", "ece", "n_speakers", "chance", "folds"} <= summary.keys()
    assert tasks.read_emotion(tmp_path / "out").main.uar == findings.main.uar
    with pytest.raises(OutputError, match="already holds"):
        tasks.write_emotion(findings, tmp_path / "out")


@pytest.fixture(scope="module")
def head(request_, place):
    return tasks.train_emotion(replace(request_, **QUICK), place / "head")


def test_classify_says_what_the_head_says_of_the_same_clips(request_, head, place, tmp_path):
    with zipfile.ZipFile(VOICES) as archive:
        archive.extractall(tmp_path)
    voices = gather(read_labelled(VOICES, CorpusSettings(), request_), request_, ignore_progress)
    wanted = read_head(head.folder).head.probabilities(voices.examples.features)
    files = [tmp_path / f"{clip.name}.ogg" for clip in voices.corpus.clips[::9]]
    found = tasks.classify_emotion(files, str(head.folder), ClassifySettings(engine="torch", precision="fp32"))
    got = np.array([one.clip.probabilities for one in found.predictions])
    np.testing.assert_allclose(got, wanted[::9], atol=1e-4)
    assert not found.failures


def test_classify_prints_one_truth_as_text_and_as_json(head):
    found = tasks.classify_emotion([SENTENCE, VOICES.with_name("gone.wav")], str(head.folder))
    plain = tasks.predictions_as_json(found)
    said = plain["predictions"][0]
    assert sum(said["probabilities"].values()) == pytest.approx(1)
    assert said["timeline"][-1]["stop"] == pytest.approx(said["stop"])
    assert (said["label"] is None) == said["abstained"]
    assert "decisions about people" in plain["intended_use"]
    assert plain["failures"][0]["file"].endswith("gone.wav")
    assert tasks.predictions_as_text(found).count("\n") == 1


def test_a_head_refuses_an_encoder_that_changed(head, place, tmp_path):
    other = tmp_path / "head"
    shutil.copytree(head.folder, other)
    save_tiny(place / "tiny", "wav2vec2")
    try:
        with pytest.raises(CheckpointError, match="weights"):
            tasks.classify_emotion([SENTENCE], str(other))
    finally:
        save_tiny(place / "tiny", "wav2vec2-stable")


def test_a_head_that_is_there_stays(request_, head):
    before = (head.folder / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="force"):
        tasks.train_emotion(request_, head.folder)
    assert (head.folder / "model.safetensors").read_bytes() == before


def test_the_document_s_files(request_, tmp_path):
    request = replace(request_, head=HeadSettings(layer="last", pooling="mean"))
    made = tasks.embed_emotion(request, tmp_path / "out")
    embeddings, labels, sources = (
        np.load(tmp_path / "out" / f"{name}.npy", allow_pickle=False) for name in ("embeddings", "labels", "sources")
    )
    assert embeddings.shape[0] == len(labels) == len(sources) == 54
    assert embeddings.dtype == np.float32
    assert set(labels.tolist()) == {0, 1, 2}
    assert sources[0] == "anna_calm_0"
    assert made.map.maps["PCA"].shape == (54, 2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"head": HeadSettings(pooling="median")}, "pooling"),
        ({"head": HeadSettings(pooling="learned")}, "--head mlp"),
        ({"head": HeadSettings(encoder_learning_rate=1e-5)}, "--head mlp"),
        ({"head": HeadSettings(layer="9")}, "layers 0 to"),
        (
            {"head": HeadSettings("mlp", encoder_learning_rate=1e-5), "embed": EmbedSettings(loudness="normalise")},
            "keep",
        ),
        ({"head": HeadSettings(layer="x")}, "expected all"),
        ({"baseline": "mfcc"}, "baseline"),
        ({"folds": "7"}, "7"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(request_, change, match):
    with pytest.raises(InputError, match=match):
        tasks.evaluate_emotion(replace(request_, **change))


def test_a_file_that_is_no_sound_is_named_and_left_out_if_asked(request_, tmp_path):
    with zipfile.ZipFile(VOICES) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "anna_calm_0.ogg").write_text("no sound")
    broken = replace(request_, data=tmp_path, **QUICK)
    with pytest.raises(DataError, match=r"anna_calm_0\.ogg.*--skip-missing"):
        tasks.evaluate_emotion(broken)
    found = tasks.evaluate_emotion(replace(broken, corpus=CorpusSettings(skip_missing=True)))
    assert found.corpus["n"] == 53
    assert "anna_calm_0.ogg" in found.failures[0]["file"]
    assert any("fewer than 20 clips" in warning and "calm (17)" in warning for warning in found.warnings)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_last_layer_is_a_number_before_anything_is_computed(request_, head):
    asked = with_layer(replace(request_, head=HeadSettings(head, layer="last")))
    n_layers = json.loads((Path(request_.embed.model) / "config.json").read_text())["num_hidden_layers"]
    assert asked.head.layer == str(n_layers)


def test_a_layer_that_is_not_there_is_refused_before_anything_is_computed(request_, tmp_path):
    nothing = replace(request_, features_dir=tmp_path / "none", head=HeadSettings("mlp", layer="9"))
    with pytest.raises(InputError, match="layers 0 to"):
        tasks.evaluate_emotion(nothing)
    assert not (tmp_path / "none").exists()


def test_a_head_keeps_how_its_encoder_heard_and_classify_hears_alike(request_, place, tmp_path):
    normalised = replace(request_, embed=replace(request_.embed, loudness="normalise"), folds="2", **QUICK)
    trained = tasks.train_emotion(normalised, tmp_path / "head")
    hearing = read_head(trained.folder).config.hearing
    assert (hearing.engine, hearing.precision, hearing.loudness) == ("torch", "fp32", "normalise")
    assert "every clip at one loudness" in (trained.folder / "README.md").read_text()
    as_trained, otherwise = (
        tasks.classify_emotion([SENTENCE], str(trained.folder), ClassifySettings(loudness=loudness)).predictions[0]
        for loudness in ("auto", "keep")
    )
    assert not any("loudness" in warning for warning in as_trained.warnings)
    assert any("trained with loudness normalise" in warning for warning in otherwise.warnings)


def test_bf16_that_is_asked_for_is_told_apart_from_what_a_head_was_trained_on(head):
    asked, by_itself = (
        tasks.classify_emotion([SENTENCE], str(head.folder), ClassifySettings(engine="torch", precision=precision))
        for precision in ("bf16", "auto")
    )
    assert any("computed in bf16" in warning for warning in asked.predictions[0].warnings)
    assert not any("bf16" in warning for warning in by_itself.predictions[0].warnings)


def test_frames_that_would_fill_the_memory_are_refused_after_one_clip(request_, tmp_path, monkeypatch):
    learned = replace(request_, features_dir=tmp_path, head=HeadSettings("mlp", pooling="learned"))
    monkeypatch.setattr(examples, "MOST_FRAME_BYTES", 1_000_000)
    with pytest.raises(InputError, match=r"54 clips.*GB.*single --layer"):
        tasks.evaluate_emotion(learned)
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_embeddings_know_no_learned_pooling(request_, tmp_path):
    with pytest.raises(InputError, match="embeddings have none"):
        tasks.embed_emotion(replace(request_, head=HeadSettings(pooling="learned")), tmp_path)


def test_frames_in_memory_are_of_the_layers_that_are_asked_for(request_):
    one = replace(request_, head=HeadSettings("mlp", layer="1", pooling="learned"))
    voices = gather(read_labelled(VOICES, CorpusSettings(), one), one, ignore_progress)
    everything = replace(one, head=HeadSettings("mlp", pooling="learned"))
    all_layers = gather(read_labelled(VOICES, CorpusSettings(), everything), everything, ignore_progress)
    assert all_layers.n_computed == 0
    np.testing.assert_array_equal(voices.examples.frames[0], all_layers.examples.frames[0][1:2])
