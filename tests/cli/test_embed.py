"""The embed verb for real: a small network with random weights, made recordings, the files on disk, two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import loadmat

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.cli.main import main

ROOT = Path(__file__).parents[2]
QUICK = ["--engine", "torch", "--precision", "fp32", "--device", "cpu"]
LAUNCH = ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A wav2vec 2.0 of a few thousand weights, in transformers' format."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("model") / "tiny"
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


def record(path: Path, seconds: float, seed: int = 0) -> Path:
    """Noise at 22.05 kHz in two channels: resampled and mixed down on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).standard_normal((round(22050 * seconds), 2)) * 0.1
    soundfile.write(path, samples, 22050)
    return path


def call(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, words)]
    environ = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280, env=environ)


def test_the_documents_line_gives_what_the_task_gives(model, tmp_path):
    """The extraction document's own command; and the tab and the README call the same task as this verb."""
    sound = record(tmp_path / "a ü.wav", 3.3)
    words = ["--model", model, "--device", "auto", "--chunk-seconds", "20", "--output-base", "wav2vec2_embeddings"]
    quick = ["--engine", "torch", "--precision", "fp32"]
    done = call("-m", "core", "embed", "--audio", sound, "--output", tmp_path / "out", *words, *quick)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "torch on cpu, fp32 (asked for; it is the reference itself)\n"
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == [f"wav2vec2_embeddings.{suffix}" for suffix in ("npy", "mat", "json")]
    array = np.load(paths[0])
    settings = EmbedSettings(str(model), engine="torch", precision="fp32")
    result = tasks.embed(sound, settings, OutputSettings(tmp_path / "task"))
    np.testing.assert_array_equal(array, result.embeddings())
    mat = loadmat(paths[1])
    np.testing.assert_array_equal(mat["embeddings"], array)
    content = json.loads(paths[2].read_bytes())
    assert mat["model_name"][0] == content["model_name"] and content["shape"] == list(array.shape) == [164, 32]
    np.testing.assert_allclose(mat["time_axis"][0, [0, -1]], content["time_axis_seconds"])
    assert content["original_sample_rate"] == 22050 and content["sample_rate"] == 16000


def test_layers_and_formats(model, tmp_path, capfdbinary):
    sound = record(tmp_path / "x.wav", 1.0)
    words = ["embed", sound, "--output", tmp_path, "--model", model, "--layers", "0,2", "--formats", "npy,npz,parquet"]
    assert main([*map(str, words), "--json", *QUICK]) == 0
    content = json.loads(capfdbinary.readouterr().out)
    assert set(content["files"]) == {"npy", "npz", "parquet"} and content["metadata"]["layers"] == [0, 2]
    array = np.load(content["files"]["npy"])
    with np.load(content["files"]["npz"]) as archive:
        for index, name in enumerate(("layer_0", "layer_2")):
            np.testing.assert_array_equal(archive[name], array[index])


def test_a_model_that_is_none_is_one_line_and_leaves_nothing(tmp_path, capsys, caplog):
    sound = record(tmp_path / "x.wav", 1.0)
    words = ["embed", sound, "--output", tmp_path / "out", "--model", tmp_path / "no such"]
    assert main([*map(str, words), *QUICK]) == 2
    (told,) = caplog.messages
    assert "no such" in told and "\n" not in told
    assert capsys.readouterr().out == "" and not (tmp_path / "out").exists()


def test_a_corpus_alone_and_over_two_processes(model, tmp_path, capfdbinary):
    """Same outputs, no file twice, one summary; then everything is skipped, then only what is new is done."""
    for index, seconds in enumerate((0.5, 1.5, 1.0)):
        record(tmp_path / "in" / f"{index % 2}" / f"{index}.wav", seconds, index)
    (tmp_path / "in" / "broken.wav").write_text("no sound")
    words = ["embed", tmp_path / "in", "--model", model, *QUICK, "--formats", "npy,json", "--output", tmp_path / "two"]
    settings = EmbedSettings(str(model), engine="torch", precision="fp32", device="cpu")
    alone = tasks.embed_many([tmp_path / "in"], settings, OutputSettings(tmp_path / "one", formats=("npy", "json")))
    assert alone.exit_code == 2
    shared = call(*LAUNCH, "-m", "core", *words)
    assert "broken.wav" in shared.stderr
    summaries = [json.loads((tmp_path / name / "summary.json").read_bytes()) for name in ("one", "two")]
    assert [(item["n_done"], item["n_skipped"], item["n_failed"]) for item in summaries] == [(3, 0, 1)] * 2, (
        shared.stderr
    )
    assert summaries[0]["failures"] == summaries[1]["failures"]
    arrays = sorted((tmp_path / "one").rglob("*.npy"))
    assert [path.relative_to(tmp_path / "one").as_posix() for path in arrays] == ["0/0.npy", "0/2.npy", "1/1.npy"]
    for path in arrays:
        np.testing.assert_allclose(
            np.load(tmp_path / "two" / path.relative_to(tmp_path / "one")), np.load(path), atol=1e-5
        )

    (tmp_path / "in" / "broken.wav").unlink()
    record(tmp_path / "in" / "new.wav", 0.5)
    capfdbinary.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    content = json.loads(capfdbinary.readouterr().out)
    assert (content["n_done"], content["n_skipped"]) == (1, 3)
