"""Heads with an encoder of their own: nobody's labels are heard twice, and what is written is what was measured."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import open_signal
from core.checkpoints.find import find_model
from core.emotion.domain import distance
from core.emotion.head_files import read_head
from core.errors import CheckpointError, InputError
from core.scoring import HeadSettings
from core.tasks.emotion.clips import EncoderExtractor
from core.tasks.encoders import Source
from core.training.runs import Stopped, read_metrics
from tests.tiny_models import save_tiny

VOICES = Path(__file__).resolve().parents[2] / "assets" / "examples" / "made_voices.zip"
SPEAKERS = ("anna", "bela", "cora")
TUNING = HeadSettings(head="mlp", epochs=2, patience=2, batch_size=9, encoder_learning_rate=1e-3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny encoder with random weights, and a moment of each voice."""
    folder = tmp_path_factory.mktemp("tuning")
    save_tiny(folder / "tiny", "wav2vec2-stable")
    with zipfile.ZipFile(VOICES) as archive:
        archive.extractall(folder / "voices")
    for path in (folder / "voices").glob("*.ogg"):
        samples, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(".wav"), samples[rate // 4 : rate], rate)
    return folder


def rows_of(place):
    header, *lines = (place / "voices" / "labels.csv").read_text().splitlines()
    return [dict(zip(header.split(","), line.replace("ogg", "wav").split(","), strict=True)) for line in lines]


def request_(place, name, rows, **changes):
    """A request for rows of the list; ``name`` is the list's."""
    path = place / "voices" / f"{name}.csv"
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    embed = EmbedSettings(str(place / "tiny"), engine="torch", precision="fp32")
    usual = {"head": TUNING, "folds": "2", "shuffled": False}
    return tasks.EmotionRequest(path, place / "features", embed=embed, **usual | changes)


def probabilities_of(findings, speaker):
    return findings.main.probabilities[findings.main.speakers == speaker]


def anna_tested(place, name, change=lambda row: row, **changes):
    """Tune on two speakers, test the first."""
    rows = [
        change(row | {"split": "test" if row["speaker"] == "anna" else "train"})
        for row in rows_of(place)
        if row["speaker"] in SPEAKERS
    ]
    return tasks.evaluate_emotion(request_(place, name, rows, folds="split", **changes))


@pytest.fixture(scope="module")
def tested(place):
    return anna_tested(place, "tested")


@pytest.fixture(scope="module")
def trained(place):
    """A head of the two speakers that :func:`tested` is tuned on."""
    rows = [row for row in rows_of(place) if row["speaker"] in SPEAKERS[1:]]
    return tasks.train_emotion(request_(place, "two", rows), place / "head", run_folder=place / "run")


def anna(place):
    return sorted((place / "voices").glob("anna*.wav"))


def said_of(sources, head):
    outcome = tasks.classify_emotion(sources, str(head), tasks.ClassifySettings(engine="torch", precision="fp32"))
    assert not outcome.failures
    return outcome.predictions


def test_a_fold_never_hears_the_labels_that_it_is_tested_on(place, tested):
    turn = {"calm": "excited", "excited": "gloomy", "gloomy": "calm"}

    def turned(speaker):
        return lambda row: row | {"emotion": turn[row["emotion"]]} if row["speaker"] == speaker else row

    same = anna_tested(place, "turned", turned("anna"))
    np.testing.assert_array_equal(same.main.probabilities, tested.main.probabilities)
    assert same.main.truth.tolist() != tested.main.truth.tolist()
    other = anna_tested(place, "other", turned("bela"))
    assert np.abs(other.main.probabilities - tested.main.probabilities).max() > 1e-3


def test_the_encoder_is_really_tuned_and_this_is_said(place, tested):
    frozen = anna_tested(place, "tested", head=replace(TUNING, encoder_learning_rate=0.0))
    assert np.abs(frozen.main.probabilities - tested.main.probabilities).max() > 1e-3
    assert tested.main.name == "tiny (fine-tuned)" and frozen.main.name == "tiny"
    assert "each fold" in tested.settings["encoder"] and "encoder" not in frozen.settings
    assert any("fine-tuned anew in each fold" in warning for warning in tested.warnings)
    assert not any("fine-tuned" in warning for warning in frozen.warnings)
    assert tested.baseline.uar == frozen.baseline.uar


def test_a_fold_says_what_classify_says_with_a_head_of_the_same_speakers(place, tested, trained):
    found = np.stack([said.clip.probabilities for said in said_of(anna(place), trained.folder)])
    np.testing.assert_allclose(found, tested.main.probabilities, atol=1e-6)


def test_the_written_encoder_is_the_one_that_the_head_was_calibrated_with(place, trained):
    saved = read_head(trained.folder)
    assert saved.config.encoder_folder == "encoder" and not Path(saved.config.encoder_folder).is_absolute()
    source = Source(find_model(str(trained.folder / "encoder")))
    assert source.model_hash() == saved.config.encoder_sha256 + saved.config.encoder_config_sha256
    extractor = EncoderExtractor(source, EmbedSettings(engine="torch", precision="fp32"))
    features = []
    for path in anna(place):
        with open_signal(path, 16_000, None, None, ignore_progress) as signal:
            statistics = extractor(signal, path.name)["pooled"]
        features.append(np.concatenate([statistics[:, 0], statistics[:, 1]], axis=1))
    said, heard = said_of(anna(place), trained.folder), np.stack(features, axis=1)
    np.testing.assert_allclose([one.clip.probabilities for one in said], saved.head.probabilities(heard), atol=1e-6)
    np.testing.assert_allclose([one.clip.distance for one in said], distance(saved.head, heard), rtol=1e-4)
    assert json.loads((trained.folder / "encoder" / "config.json").read_text())["dtype"] == "float16"
    assert "was fine-tuned with it" in (trained.folder / "README.md").read_text()


def test_a_head_takes_its_encoder_along(place, trained, tmp_path):
    shutil.make_archive(str(tmp_path / "head"), "zip", trained.folder)
    shutil.unpack_archive(tmp_path / "head.zip", tmp_path / "moved")
    one = anna(place)[:1]
    expected = said_of(one, trained.folder)[0].clip.probabilities
    (place / "tiny").rename(tmp_path / "tiny")
    try:
        np.testing.assert_array_equal(said_of(one, tmp_path / "moved")[0].clip.probabilities, expected)
    finally:
        (tmp_path / "tiny").rename(place / "tiny")
    shutil.rmtree(tmp_path / "moved" / "encoder")
    with pytest.raises(CheckpointError, match=r"missing from .*encoder: copy that folder as well"):
        tasks.classify_emotion(one, str(tmp_path / "moved"))


def test_a_run_tells_its_curves_and_keeps_no_weights(place, trained):
    rows = [row for row in read_metrics(place / "run" / "metrics.jsonl") if "epoch" in row]
    assert {(row["part"], row["fold"]) for row in rows} == {
        ("tiny_fine-tuned", 0),
        ("tiny_fine-tuned", 1),
        ("final", -1),
    }
    assert all(row.keys() >= ({"loss"} if row["split"] == "train" else {"loss", "uar"}) for row in rows)
    assert [row["epoch"] for row in rows if row["split"] == "train" and row["fold"] == -1] == [1, 2]
    assert not list((place / "run" / "states").rglob("*.pt"))
    assert not list((place / "features").glob("tuned-*"))
    assert len(list((place / "run" / "folds" / "tiny_fine-tuned").iterdir())) == 2


def test_a_stopped_run_goes_on_and_says_the_same(place, trained, tmp_path):
    rows = [row for row in rows_of(place) if row["speaker"] in SPEAKERS[1:]]
    request = request_(place, "two", rows)

    def stop_in_the_second_fold(progress):
        if progress.stage == "fine-tune for fold 2" and progress.done == 1:
            (tmp_path / "stop").touch()

    with pytest.raises(Stopped):
        tasks.evaluate_emotion(request, stop_in_the_second_fold, tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("state.pt")] == ["01"]
    resumed = tasks.evaluate_emotion(request, run_folder=tmp_path)
    np.testing.assert_array_equal(resumed.main.probabilities, trained.findings.main.probabilities)
    told = [row for row in read_metrics(tmp_path / "metrics.jsonl") if row.get("split") == "train"]
    epochs = [(row["fold"], row["epoch"]) for row in told]
    assert epochs == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_across_corpora_each_way_has_an_encoder_of_its_own(place, trained):
    rows = [row | {"split": "train" if row["speaker"] == "bela" else "test"} for row in rows_of(place)]
    there = request_(place, "there", [row for row in rows if row["speaker"] in ("anna", "dirk")])
    here = [row for row in rows if row["speaker"] in SPEAKERS[1:]]
    way, back = tasks.evaluate_emotion(request_(place, "here", here, folds="split", test=there.data)).cross
    assert (way.train, way.test, way.n, way.n_speakers, back.n) == ("here", "there", 18, 2, 18)
    sources = sorted([*anna(place), *(place / "voices").glob("dirk*.wav")])
    best = [said.labels[said.clip.probabilities.argmax()] for said in said_of(sources, trained.folder)]
    right = np.mean([path.name.split("_")[1] == label for path, label in zip(sources, best, strict=True)])
    assert way.uar.value == pytest.approx(right)  # as many clips of each class


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (replace(TUNING, transductive=True), "one by one"),
        (replace(TUNING, head="linear"), "--head mlp"),
        (replace(TUNING, encoder_learning_rate=1e30), "Use a smaller"),
    ],
)
def test_what_cannot_be_tuned_is_refused(place, head, match):
    rows = [row for row in rows_of(place) if row["speaker"] in SPEAKERS[1:]]
    with pytest.raises(InputError, match=match):
        tasks.evaluate_emotion(request_(place, "two", rows, head=head))


def test_a_codec_s_quantised_forms_are_not_tuned(place):
    save_tiny(place / "codec", "encodec")
    rows = [row for row in rows_of(place) if row["speaker"] in SPEAKERS[1:]]
    request = request_(place, "two", rows, bandwidth=6.0)
    with pytest.raises(InputError, match="quantised cannot be fine-tuned"):
        tasks.evaluate_emotion(replace(request, embed=replace(request.embed, model=str(place / "codec"))))


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_learned_pooling_says_the_same_in_training_and_in_classify(place, rate, tmp_path):
    rows = [row for row in rows_of(place) if row["speaker"] in SPEAKERS[1:]]
    settings = replace(TUNING, pooling="learned", encoder_learning_rate=rate, learning_rate=1e-2, layer="last")
    head = tasks.train_emotion(request_(place, "two", rows, head=settings), tmp_path / "head").folder
    saved = read_head(head)
    assert np.abs(saved.head.attention).max() > 0
    model = head / "encoder" if rate else place / "tiny"
    extractor = EncoderExtractor(
        Source(find_model(str(model))), EmbedSettings(engine="torch", precision="fp32"), frames=True
    )
    path = anna(place)[0]
    with open_signal(path, 16_000, None, None, ignore_progress) as signal:
        frames = extractor(signal, path.name)["frames"][list(saved.head.layers)]
    attended, even = (
        saved.head.probabilities(one[:, None])[0] for one in (saved.head.pool(frames), frames.mean(axis=1))
    )
    said = said_of([path], head)[0].clip.probabilities
    # Whatever the temperature: after two epochs the head is sure of nothing.
    temperature = saved.head.temperature
    np.testing.assert_allclose(temperature * np.log(said / attended), 0, atol=1e-4)
    assert np.abs(temperature * np.log(even / attended)).max() > 1e-3
