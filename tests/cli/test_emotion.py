"""The emotion verb for real: a tiny network, synthetic voices, the files on disk, refusals with exit code 2."""

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings
from core.cli.main import REFUSED, STOPPED, main
from tests.tiny_models import save_tiny

ROOT = Path(__file__).resolve().parents[2]
VOICES = ROOT / "assets" / "examples" / "made_voices.zip"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny encoder and a cache of features."""
    folder = tmp_path_factory.mktemp("emotion")
    save_tiny(folder / "tiny", "wav2vec2-stable")
    return folder


@pytest.fixture(scope="module")
def common(place):
    model = ["--model", str(place / "tiny"), "--engine", "torch", "--precision", "fp32"]
    return ["--data", str(VOICES), *model, "--features-dir", str(place / "features"), "--no-shuffled"]


def test_evaluate_prints_what_the_task_finds(place, common, capsys):
    assert main(["emotion", "evaluate", *common, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    embed = EmbedSettings(str(place / "tiny"), engine="torch", precision="fp32")
    found = tasks.evaluate_emotion(tasks.EmotionRequest(VOICES, place / "features", embed=embed, shuffled=False))
    assert printed["uar"] == found.main.uar.value
    assert printed["uar_ci"] == [found.main.uar.low, found.main.uar.high]
    assert {"wa", "macro_f1", "ece", "n", "n_speakers", "chance"} <= printed.keys()
    assert len(printed["folds"]) == 6


def test_train_writes_a_head_that_classify_takes(common, tmp_path, capsys):
    head, report = tmp_path / "head", tmp_path / "report"
    assert main(["emotion", "train", *common, "--output", str(head), "--report", str(report)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert printed == [head, report / "report.html", report / "summary.json"]
    clip = tmp_path / "noise.wav"
    soundfile.write(clip, np.random.default_rng(0).standard_normal(16_000) * 0.1, 16_000)
    assert main(["emotion", "classify", str(clip), "--checkpoint", str(head), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["predictions"][0]["probabilities"]) == {"calm", "excited", "gloomy"}
    assert main(["emotion", "classify", str(clip), str(tmp_path / "gone.wav"), "--checkpoint", str(head)]) == REFUSED
    assert capsys.readouterr().out.startswith(f"{clip}\t")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--folds", "7"], "7"),
        (["--mapping", "calm=quiet"], "excited"),
        (["--mapping", "calm=one,excited=one,gloomy=one"], "one"),
        (["--scheme", "ravdess"], "ravdess"),
        (["--bandwidth", "6"], "no codec"),
        (["--pooling", "learned"], "--head mlp"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_met_is_refused_in_one_line(common, flags, said, caplog):
    assert main(["emotion", "evaluate", *common, *flags]) == REFUSED
    assert said in caplog.records[-1].getMessage()


def test_a_training_that_is_asked_to_stop_ends_with_its_own_code_and_goes_on(common, tmp_path):
    words = [
        sys.executable,
        "-m",
        "core",
        "emotion",
        "train",
        *common,
        "--head",
        "mlp",
        "--epochs",
        "1",
        "--folds",
        "2",
    ]
    words += ["--output", str(tmp_path / "head"), "--run", str(tmp_path / "run")]
    first = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not metrics.exists() and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, log = first.communicate(timeout=60)
    assert first.returncode == STOPPED, log
    assert "the same command goes on" in log
    assert not (tmp_path / "head").exists()
    assert main([*words[3:]]) == 0
    assert (tmp_path / "head" / "model.safetensors").is_file()


def test_what_was_asked_to_be_left_out_is_named_and_is_no_failure(common, tmp_path, caplog):
    with zipfile.ZipFile(VOICES) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "anna_calm_0.ogg").write_text("no sound")
    wanted = ["--data", str(tmp_path), "--skip-missing", "--folds", "2"]
    assert main(["emotion", "evaluate", *common, *wanted]) == 0
    (told,) = [record.getMessage() for record in caplog.records if "Left out" in record.getMessage()]
    assert told.count("anna_calm_0.ogg") == 1


def test_embeddings_say_at_which_loudness_they_were_heard(common, tmp_path, capsys):
    data = [word for word in common if word != "--no-shuffled"]
    words = [*data, "--loudness", "normalise", "--layer", "last", "--output", str(tmp_path), "--json"]
    assert main(["emotion", "embeddings", *words]) == 0
    running = json.loads(capsys.readouterr().out)["model"]["running"]
    assert (running["loudness"], running["engine"], running["precision"]) == ("normalise", "torch", "fp32")
