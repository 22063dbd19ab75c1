"""Finding a model: bundled, in a folder, in the cache, on a hub that is really asked, and on one that does not answer.

huggingface_hub reads its settings when it is imported, so whatever touches the hub runs in a process of its own.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.checkpoints import find
from core.checkpoints.find import find_model
from core.checkpoints.load import load_model
from core.errors import CheckpointError
from tests.checkpoints.fake_hub import Hub, serve
from tests.tiny_models import save_tiny

ROOT = Path(__file__).resolve().parents[2]
FIND = """
import json, sys, time
import core
from core.checkpoints.find import find_model
from core.errors import CheckpointError
began = time.monotonic()
try:
    found = find_model(sys.argv[1])
    answer = {"where": found.where, "folder": str(found.folder), "from_user": found.from_user}
except CheckpointError as error:
    answer = {"error": str(error)}
print(json.dumps(answer | {"seconds": time.monotonic() - began, "torch": "torch" in sys.modules}))
"""
LIST = """
import dataclasses, json, time
import core
from core.checkpoints.find import list_models
began = time.monotonic()
entries = [dataclasses.asdict(entry) for entry in list_models()]
print(json.dumps({"entries": entries, "seconds": time.monotonic() - began}))
"""


def in_process(program, *arguments, url, home, **environment):
    """Run a program against a hub, with a cache of its own; return what it printed as JSON, and stderr as ``log``."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    # The test's hub is on loopback: no proxy stands before it.
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=clean | settings | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"log": done.stderr}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """Folders as a hub holds them: with files that nobody here needs."""
    root = tmp_path_factory.mktemp("hub")
    save_tiny(root / "safe", "wavlm")
    (root / "safe" / "README.md").write_text("# A model")
    (root / "safe" / "tf_model.h5").write_bytes(b"not for us")
    (root / "safe" / "pytorch_model.bin").write_bytes(b"not for us either")
    settings = json.loads((root / "safe" / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (root / "safe" / "preprocessor_config.json").write_text(json.dumps(settings))
    save_tiny(root / "old", "wav2vec2-stable")
    torch.save(load_file(root / "old" / "model.safetensors"), root / "old" / "pytorch_model.bin")
    (root / "old" / "model.safetensors").unlink()
    (root / "foreign").mkdir()
    (root / "foreign" / "model.onnx").write_bytes(b"x")
    return root


@pytest.fixture
def hub(repositories):
    folders = {f"tiny/{name}": repositories / name for name in ("safe", "old", "foreign")}
    with serve(Hub(folders | {"tiny/gated": repositories / "safe"}, gated=frozenset({"tiny/gated"}))) as running:
        yield running


def dead_url():
    """An address where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def load(answer):
    """Load what a process found, without believing in it more than the process did."""
    return load_model(Path(answer["folder"]), "mine", from_user=answer["from_user"])


def names(answer):
    return sorted(path.name for path in Path(answer["folder"]).iterdir())


def test_a_model_is_downloaded_once_then_found_without_a_network(hub, repositories, tmp_path):
    first = in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)
    assert (first["where"], first["from_user"]) == ("hub", False)
    assert names(first) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert "%|" in first["log"]  # the progress bar went to stderr: stdout was JSON
    loaded, expected = load(first), load_model(repositories / "safe", "safe", from_user=True)
    assert loaded.sha256 == expected.sha256
    assert loaded.preprocessor["do_normalize"] is False
    hub.requests.clear()
    again = in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)
    assert (again["where"], again["folder"], again["torch"]) == ("cached", first["folder"], False)
    assert hub.requests == []  # the cache needs no hub, neither a dead nor a forbidden one
    offline = in_process(FIND, "tiny/safe", url=dead_url(), home=tmp_path, HF_HUB_OFFLINE="1")
    assert (offline["where"], offline["folder"]) == ("cached", first["folder"])


def test_an_older_repository_with_only_a_bin_is_read_as_weights_only(hub, tmp_path):
    answer = in_process(FIND, "tiny/old", url=hub.url, home=tmp_path)
    assert names(answer) == ["config.json", "preprocessor_config.json", "pytorch_model.bin"]
    assert load(answer).architecture == "Wav2Vec2Model"
    assert in_process(FIND, "tiny/old", url=dead_url(), home=tmp_path)["where"] == "cached"


def test_preparation_missing_from_another_programs_cache_is_fetched(hub, tmp_path):
    """A cache that AutoModel filled lacks preprocessor_config.json; WavLM base would be normalised wrongly without."""
    first = in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)
    preparation = Path(first["folder"]) / "preprocessor_config.json"
    preparation.resolve().unlink()
    preparation.unlink()
    without = in_process(FIND, "tiny/safe", url=dead_url(), home=tmp_path)
    assert without["seconds"] < 10
    assert "preprocessor_config.json" in load(without).warnings[0]
    completed = load(in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path))
    assert completed.preprocessor["do_normalize"] is False
    assert completed.warnings == ()


def test_a_download_that_broke_off_is_taken_up_again(hub, tmp_path):
    first = in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)
    weights = Path(first["folder"]) / "model.safetensors"
    weights.resolve().unlink()
    weights.unlink()
    refused = in_process(FIND, "tiny/safe", url=dead_url(), home=tmp_path)
    assert "cannot be reached" in refused["error"]
    assert in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)["folder"] == first["folder"]
    assert weights.is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny/gated", ["gated", "hf auth login"]),
        ("tiny/nowhere", ["no model 'tiny/nowhere'", "spelling", "path"]),
        ("tiny/foreign", ["transformers' format", "model.onnx"]),
    ],
)
def test_what_the_hub_refuses_is_said(name, words, hub, tmp_path):
    error = in_process(FIND, name, url=hub.url, home=tmp_path)["error"]
    assert "\n" not in error
    assert all(word in error for word in words)


def test_a_dead_network_gives_one_sentence_at_once(tmp_path):
    answer = in_process(FIND, "facebook/wav2vec2-base", url=dead_url(), home=tmp_path)
    for word in ("cannot be reached", "facebook/wav2vec2-base", "Bundled: ", "give its path"):
        assert word in answer["error"]
    assert answer["seconds"] < 10
    offline = in_process(FIND, "facebook/wav2vec2-base", url=dead_url(), home=tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in offline["error"]
    assert offline["seconds"] < 5


def test_a_hub_that_never_answers_is_given_up(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer = in_process(FIND, "facebook/wav2vec2-base", url=url, home=tmp_path)
        assert "cannot be reached" in answer["error"]
        assert answer["seconds"] < 10
        listed = in_process(LIST, url=url, home=tmp_path)
        assert listed["seconds"] < 10
        assert {entry["where"] for entry in listed["entries"]} <= {"bundled", "hub, not reached"}


def test_the_list_shows_what_is_here_and_what_could_be(hub, tmp_path):
    in_process(FIND, "tiny/safe", url=hub.url, home=tmp_path)
    listed = in_process(LIST, url=hub.url, home=tmp_path)
    places = [entry["where"] for entry in listed["entries"]]
    assert places == sorted(places)  # bundled, cached, hub
    (cached,) = [entry for entry in listed["entries"] if entry["where"] == "cached"]
    assert (cached["name"], cached["n_layers"], cached["dim"], cached["sampling_rate"]) == ("tiny/safe", 3, 32, 16_000)
    assert cached["architecture"] == "WavLMModel"
    assert cached["size_mb"] > 0
    assert "facebook/w2v-bert-2.0" in [entry["name"] for entry in listed["entries"] if entry["where"] == "hub"]
    away = in_process(LIST, url=dead_url(), home=tmp_path)
    assert away["seconds"] < 10
    assert {entry["where"] for entry in away["entries"]} >= {"cached", "hub, not reached"}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder of bundled models: the default, another one, and what is none."""
    root = tmp_path / "checkpoints"
    for name in ("another", find.DEFAULT_BUNDLED):
        save_tiny(root / name, "wav2vec2")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    monkeypatch.setattr(find, "BUNDLED", root)
    return root


@pytest.mark.parametrize("name", ["", "  ", find.DEFAULT_BUNDLED, f" {find.DEFAULT_BUNDLED}\n"])
def test_the_default_is_bundled(name, bundle):
    found = find_model(name)
    assert (found.name, found.where) == (find.DEFAULT_BUNDLED, "bundled")
    assert found.folder == bundle / find.DEFAULT_BUNDLED
    assert found.from_user


def test_bundled_models_are_listed_with_the_default_first(bundle):
    entries = [entry for entry in find.list_models(ask_hub=False) if entry.where == "bundled"]
    assert [entry.name for entry in entries] == [find.DEFAULT_BUNDLED, "another"]
    assert all((entry.n_layers, entry.dim, entry.sampling_rate) == (3, 32, 16_000) for entry in entries)
    weights = bundle / "another" / "model.safetensors"
    assert np.isclose(entries[1].size_mb, weights.stat().st_size / 1e6, atol=0.06)


@pytest.mark.parametrize("folder", ["model", "with space", "modèle 声", "-dash"])
def test_folders_are_found_however_they_are_written(folder, tmp_path, monkeypatch):
    path = tmp_path / "home" / folder
    save_tiny(path, "hubert")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(path)
    for name in (
        str(path),
        f"{path}/",
        f"~/{folder}",
        f"~/{folder}/",
        ".",
        "./",
        f"../{folder}",
        f"{path}/../{folder}",
    ):
        found = find_model(name)
        assert (found.name, found.folder, found.where) == (folder, path.resolve(), "folder")
        assert found.from_user
    loaded = load_model(path, folder, from_user=True)
    assert loaded.name == folder


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(tmp_path, monkeypatch):
    save_tiny(tmp_path / "facebook" / "mine", "hubert")
    monkeypatch.chdir(tmp_path)
    assert find_model("facebook/mine").where == "folder"


@pytest.mark.parametrize(
    "name",
    [
        "nothing-here",
        "/nowhere/at all",
        "a/b/c",
        "../x/y",
        "a\0b",
        "x" * 5000,
        "https://huggingface.co/a/b",
        "~nobody-here/x",
    ],
)
def test_a_name_that_is_nothing_says_what_there_is(name, bundle):
    with pytest.raises(CheckpointError, match="neither bundled nor a folder nor a hub id") as caught:
        find_model(name)
    assert find.DEFAULT_BUNDLED in str(caught.value)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        find_model(str(tmp_path / "model.safetensors"))
