"""Every checkpoint that ships meets one contract: small, quick, whole, a card that can be made again, a recipe."""

import importlib.util
import json
import re
import shutil
import time
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.checkpoints.find import BUNDLED, find_model
from core.checkpoints.heads import is_head, load_head
from core.checkpoints.load import load_model
from core.checkpoints.save import write_card
from core.embed.encoders import build_encoder
from core.recipes import wav2vec2_small
from core.training.loop import LoopSettings

FOLDERS = sorted(path for path in BUNDLED.iterdir() if (path / "config.json").exists())
MODELS = [path for path in FOLDERS if not is_head(path)]
MODALITIES = {"meg2vec": "meg", "wav2vec2_2d": "grid"}
EXAMPLE = BUNDLED.parent / "assets" / "examples" / "one_sentence.flac"

each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
each_model = pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)


def training(folder):
    return json.loads((folder / "training.json").read_text())


def modality(folder):
    return MODALITIES.get(json.loads((folder / "config.json").read_text())["model_type"], "audio")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A function from a modality to a recording of it, with its seconds."""

    @cache
    def made(kind):
        if kind == "audio":
            return EXAMPLE, soundfile.info(EXAMPLE).duration
        meg = tmp_path_factory.mktemp("meg") / "rest_meg.fif"
        tasks.simulate_meg(tasks.SimulateRequest(meg, 20.0, seed=7, subject=40))
        return meg, 20.0

    return made


def test_they_fit_into_a_repository_without_large_files():
    sizes = {path: path.stat().st_size for folder in FOLDERS for path in folder.rglob("*") if path.is_file()}
    assert sizes and max(sizes.values()) <= 10e6 and sum(sizes.values()) <= 60e6
    assert {path.suffix for path in sizes} <= {".json", ".md", ".safetensors", ".npz", ".flac"}  # nothing that is code


@each
def test_it_loads_in_under_a_second(folder):
    load = load_head if is_head(folder) else lambda path: load_model(path, path.name, from_user=True)
    seconds = []
    for _ in range(3):  # the first one imports what it needs
        began = time.process_time()
        load(folder)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1.0


@each_model
def test_its_card_is_made_of_its_facts(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    write_card(copy)
    assert (copy / "README.md").read_text() == (folder / "README.md").read_text()


@each_model
def test_its_card_says_what_was_measured_and_who_it_is_of(folder):
    facts = training(folder)
    assert facts["metrics"], "a card without a measurement"
    assert facts["data"]["sha256"] and facts["parameters"] > 0 and facts["versions"]["torch"]
    assert facts["card"]["attribution"] and facts["card"]["data"]
    first = (folder / "README.md").read_text().split(f"# {folder.name}\n\n")[1].split("\n")[0]
    assert ("simulated" in first.lower()) == bool(facts.get("simulated"))


@each_model
def test_its_recipe_is_there(folder):
    module = re.fullmatch(r"python -m (core\.recipes\.\w+)", training(folder)["recipe"])
    assert module, training(folder)["recipe"]
    assert importlib.util.find_spec(module[1]) is not None


def test_the_recipe_is_what_the_encoder_was_made_with():
    """Settings that a run did not know yet have their defaults."""
    stored = training(BUNDLED / wav2vec2_small.NAME)["settings"]
    now = json.loads(json.dumps(asdict(wav2vec2_small.Recipe(loop=LoopSettings(updates=1500)))))
    assert {key: now["loop"][key] for key in stored["loop"]} == stored["loop"]
    assert {key: now[key] for key in stored if key != "loop"} == {key: stored[key] for key in stored if key != "loop"}
    assert now["speeds"] == [1.0]


@each_model
def test_it_is_found_by_its_name(folder):
    assert find_model(folder.name).where == "bundled"
    listed = [entry.name for entry in tasks.list_models(ask_hub=False)]
    assert folder.name in listed


@each_model
def test_its_states_are_those_of_the_encoder_contract(folder, recording, tmp_path):
    if modality(folder) == "grid":
        pytest.skip("A grid has tokens, not frames: tests/tasks/test_site_comparing.py.")
    asked = EmbedSettings(folder.name, "all", precision="fp32")
    path, seconds = recording(modality(folder))
    first, again = (
        tasks.embed(path, asked, OutputSettings(tmp_path / name, formats=("npy",))) for name in ("one", "two")
    )
    values, clock = first.embeddings(), first.info.clock
    spec = build_encoder(load_model(folder, folder.name, from_user=True)).spec
    assert values.shape == (spec.n_layers + 1, clock.n_frames(round(seconds * clock.sampling_rate)), spec.dim)
    assert np.isfinite(values).all() and (values.std(axis=1) > 0).any(axis=1).all()
    np.testing.assert_array_equal(values, again.embeddings())
