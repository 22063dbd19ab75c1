"""The recipe of the HuBERT encoder, from archives through two iterations to a folder, on made-up speech."""

import json
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from transformers import HubertConfig, HubertModel

from core.checkpoints.load import load_model
from core.errors import InputError
from core.recipes import hubert_small as recipe_module
from core.recipes import speech_recipe
from core.training import runs
from core.training.loop import LoopSettings
from core.training.units import UnitSettings


@pytest.fixture(scope="module")
def recipe():
    made = recipe_module.default_recipe(first_updates=2, updates=3)
    crops = replace(made.crops, crop_seconds=(0.5,), length_weights=(1.0,), seconds_per_batch=1.0)
    loops = (LoopSettings(updates=n, checkpoint_every=2, warmup=1) for n in (2, 3))
    units = (UnitSettings(4), UnitSettings(6))
    iterations = tuple(recipe_module.Iteration(*pair) for pair in zip(loops, units, strict=True))
    return replace(made, crops=crops, iterations=iterations)


def test_the_encoder_is_small_enough_to_ship():
    model = HubertModel(HubertConfig(**speech_recipe.ENCODER))
    assert model.num_parameters() * 2 < 10e6
    assert "masked_spec_embed" not in model.state_dict()


def test_one_command_does_both_iterations_goes_on_and_exports(
    data, tmp_path, no_evaluation, tiny_encoder, recipe, monkeypatch
):
    work, output = tmp_path / "work", tmp_path / "checkpoints"

    @contextmanager
    def after_three_updates(stop_file):
        asked = count()
        yield lambda: next(asked) >= 3

    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requests", after_three_updates)
        assert not recipe_module.run(data, work, output, recipe)
    assert (work / "iteration2" / "run" / "state.pt").exists() and not output.exists()

    assert recipe_module.run(data, work, output, recipe)
    folder = output / recipe_module.NAME
    training = json.loads((folder / "training.json").read_text())
    assert [entry["step"] for entry in training["history"]] == [2, 3]
    assert [entry["step"] for entry in training["earlier_iterations"][0]["history"]] == [2]
    assert {"emodb/12", "librivox/Sonia", "librispeech/19"} <= set(training["split"]["held_out"])
    assert [table["title"] for table in training["metrics"]] == [
        *(f"Masked frames of held-out speakers, iteration {number}" for number in (1, 2)), "T",
    ]  # fmt: skip
    loaded = load_model(folder, recipe_module.NAME, from_user=True)
    assert type(loaded.model) is HubertModel and not loaded.warnings
    assert loaded.model.config.mask_time_prob == 0
    first, second = (np.load(work / f"iteration{number}" / "units.npz")["units"] for number in (1, 2))
    assert len(first) == len(second) and first.max() < 4 <= second.max() < 6

    at_once = tmp_path / "at_once"
    assert recipe_module.run(data, at_once, at_once, recipe)
    written = (place / recipe_module.NAME / "model.safetensors" for place in (output, at_once))
    assert next(written).read_bytes() == next(written).read_bytes()

    other = replace(recipe, iterations=(replace(recipe.iterations[0], units=UnitSettings(5)), recipe.iterations[1]))
    with pytest.raises(InputError, match="holds 4 units; expected 5"):
        recipe_module.run(data, work, output, other)
    (work / "iteration1" / "units.npz").unlink()
    with pytest.raises(InputError, match="data"):  # other units are other data: that run does not go on
        recipe_module.run(data, work, output, other)
