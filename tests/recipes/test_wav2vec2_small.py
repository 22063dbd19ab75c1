"""The recipe of the bundled encoder, from archives to a folder, on made-up speech and a random teacher."""

import json
from dataclasses import replace

import pytest
from transformers import Wav2Vec2Model

from core.checkpoints.load import load_model
from core.errors import InputError
from core.recipes import speech_data
from core.recipes import wav2vec2_small as recipe_module
from core.training.distill import CONV_KERNELS, CONV_STRIDES, CropSettings
from core.training.loop import LoopSettings


def test_the_student_is_small_enough_to_ship_and_has_the_standard_geometry():
    config = recipe_module.student_config()
    model = Wav2Vec2Model(config)
    assert model.num_parameters() * 2 < 10e6
    assert tuple(config.conv_kernel) == CONV_KERNELS and tuple(config.conv_stride) == CONV_STRIDES
    assert config.feat_extract_norm == "group" and not config.do_stable_layer_norm
    assert "masked_spec_embed" not in model.state_dict()


def test_one_command_trains_resumes_and_exports(data, tmp_path, no_evaluation):
    crops = CropSettings(crop_seconds=(0.5,), length_weights=(1.0,), seconds_per_batch=1.0)
    recipe = recipe_module.Recipe(LoopSettings(updates=3, checkpoint_every=2, warmup=1), crops)
    work, output = tmp_path / "work", tmp_path / "checkpoints"

    assert recipe_module.run(data, work, output, recipe)
    folder = output / recipe_module.NAME
    training = json.loads((folder / "training.json").read_text())
    assert training["updates"] == 3
    assert [entry["step"] for entry in training["history"]] == [2, 3]
    assert {"emodb/12", "librivox/Sonia", "librispeech/19"} <= set(training["split"]["held_out"])
    assert training["data"]["clips"] == 7
    assert training["data"]["hours"] == pytest.approx((2 * 1.5 + 3 * 2.5 + 2 * 4) / 3600, rel=0.01)
    assert training["metrics"] == no_evaluation
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    loaded = load_model(folder, recipe_module.NAME, from_user=True)
    assert loaded.model.config.num_hidden_layers == 6

    before = (folder / "model.safetensors").read_bytes()
    assert recipe_module.run(data, work, output, recipe)  # all done: nothing is trained again
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="seed"):
        recipe_module.run(data, work, output, replace(recipe, loop=replace(recipe.loop, seed=1)))


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(InputError, match=r"neither a folder emodb_2s nor emodb_2s\.tar"):
        speech_data.find_archive(tmp_path, tmp_path, "emodb_2s")
