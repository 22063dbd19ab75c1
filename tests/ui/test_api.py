"""The page's public door for programs, and what the server does not give away."""

import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.arrays import EmbedSettings, OutputSettings
from tests.fakes import FakeTasks
from tests.ui.conftest import ROOT


@pytest.fixture
def clip(tmp_path) -> Path:
    soundfile.write(tmp_path / "clip.v1.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 20_000), 16_000)
    return tmp_path / "clip.v1.wav"


@pytest.fixture(scope="module")
def client(fake_app, tmp_path_factory):
    from gradio_client import Client

    return Client(fake_app, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def embed(client, recording, **settings):
    from gradio_client import handle_file

    return client.predict(recording=handle_file(recording), **settings, api_name="/embed")


def test_embed_gives_the_arrays_that_the_task_gives(client, clip, tmp_path):
    files, facts = embed(client, clip, model="fake-encoder", layers="all", formats=["npz", "npy"])
    assert [Path(file).name for file in files] == ["clip.v1.npy", "clip.v1.npz"]
    settings = EmbedSettings("fake-encoder", "all")
    expected = FakeTasks().embed(clip, settings, OutputSettings(tmp_path), lambda _: None).embeddings()
    np.testing.assert_array_equal(np.load(files[0]), expected)
    np.testing.assert_array_equal(np.load(files[1])["layer_2"], expected[2])
    assert facts["num_frames"] == expected.shape[1]


def test_only_the_formats_asked_for_are_handed_over(client, clip):
    files, _ = embed(client, clip, model="fake-encoder", formats=["json"])
    assert [Path(file).name for file in files] == ["clip.v1.json"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "nothing"}, "There is no model 'nothing'"),
        ({"model": "fake-encoder", "layers": "first"}, "Got layers"),
    ],
)
def test_errors_reach_the_client_as_sentences(client, clip, settings, told):
    with pytest.raises(Exception, match=told):
        embed(client, clip, **settings)


def test_public_endpoints_are_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert {
        name: [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        for name, endpoint in endpoints.items()
    } == {
        "/embed": ["recording", "model", "layers", "device", "engine", "precision", "formats"],
        "/layers": [
            "recordings", "model", "compare", "control", "layers", "span", "similarity", "max_points", "device",
            "engine", "precision",
        ],
        "/layers_files": [],
        "/emotion_classify": ["recording", "head", "threshold", "device", "engine", "precision"],
        "/emotion_train": [
            "recordings", "scheme", "mapping", "skip_missing", "model", "head", "layer", "pooling", "folds", "seed",
            "device", "engine", "precision",
        ],
        "/emotion_report": ["training"],
    }  # fmt: skip
    assert "Embed a recording" in endpoints["/embed"]["description"]
    assert "Analyse what each layer" in endpoints["/layers"]["description"]
    assert "Not for decisions about people" in endpoints["/emotion_classify"]["description"]
    assert "Train a head on labelled voices" in endpoints["/emotion_train"]["description"]
    assert "Tell how a training goes" in endpoints["/emotion_report"]["description"]
    assert not client.view_api(return_format="dict")["unnamed_endpoints"]


def test_layers_gives_numbers_and_then_the_files_of_the_session(client, clip):
    from gradio_client import handle_file

    summary = client.predict(
        recordings=[handle_file(clip)], model="fake-encoder", control=False, max_points=40, api_name="/layers"
    )
    assert [found["model"] for found in summary["models"]] == ["fake-encoder"]
    files = client.predict(api_name="/layers_files")
    assert [Path(file).name for file in files] == ["layers.zip", "report.html", "summary.json", "pca.svg"]


def test_errors_of_layers_reach_the_client_as_sentences(client, clip):
    from gradio_client import handle_file

    with pytest.raises(Exception, match="no alignment for any of the 1 recordings"):
        client.predict(recordings=[handle_file(clip)], model="fake-encoder", span="word", api_name="/layers")


def test_a_program_classifies_and_trains(client, clip):
    from gradio_client import handle_file

    said = client.predict(recording=handle_file(clip), head="fake-head", threshold=0.99, api_name="/emotion_classify")
    assert said["predictions"][0]["why"] == "unsure"
    voices = handle_file(ROOT / "assets" / "examples" / "made_voices.zip")
    begun = client.predict(recordings=[voices], model="fake-encoder", api_name="/emotion_train")
    assert (begun["n"], begun["n_speakers"]) == (54, 6)
    end = time.monotonic() + 60
    while (told := client.predict(training=begun["training"], api_name="/emotion_report"))["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (told["state"], sorted(told["files"])) == ("finished", ["head.zip", "report.html", "report.zip"])
    assert 0 < told["summary"]["uar"] < 1


@pytest.mark.parametrize("path", ["/etc/passwd", ROOT / "app.py", ROOT / "core/__init__.py", ROOT / "assets/app.css"])
def test_no_other_file_is_served(fake_app, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{fake_app}/gradio_api/file={urllib.parse.quote(str(path))}", timeout=20)
    assert caught.value.code in (403, 404)
