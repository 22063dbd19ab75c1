"""Meg2Vec folders: read as strictly as the others, with the record of how recordings are prepared."""

import json

import pytest
import torch

from core.checkpoints.find import Found, describe_model
from core.checkpoints.load import load_model, randomised
from core.checkpoints.save import save_checkpoint
from core.errors import CheckpointError
from core.models.meg2vec import Meg2VecModel
from core.models.model_input import from_preprocessor, to_preprocessor
from tests.checkpoints.test_save import CARD, TRAINING
from tests.tiny_meg import VARIANTS, model_input_for, save_tiny_meg, tiny_meg


@pytest.fixture
def folder(tmp_path):
    save_tiny_meg(tmp_path / "meg")
    return tmp_path / "meg"


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, "mine", from_user=True)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_saved_is_loaded(variant, tmp_path):
    model = save_tiny_meg(tmp_path / variant, variant)
    loaded = load_model(tmp_path / variant, variant, from_user=True)
    assert (loaded.architecture, loaded.fine_tuned, loaded.warnings) == ("Meg2VecForPreTraining", False, ())
    assert loaded.model_type == "meg2vec"
    expected, got = model.meg2vec.state_dict(), loaded.model.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    wanted = model_input_for(model.config)
    assert from_preprocessor(loaded.preprocessor).fingerprint() == wanted.fingerprint()


@pytest.mark.parametrize("saved", ["whole", "encoder"])
def test_save_checkpoint_writes_what_loads(saved, tmp_path):
    model = tiny_meg()
    written = model if saved == "whole" else model.meg2vec
    preparation = to_preprocessor(model_input_for(model.config))
    folder = save_checkpoint(tmp_path / "meg", written, TRAINING, CARD, preparation=preparation)
    loaded = load_model(folder, "meg", from_user=True)
    for key, value in model.meg2vec.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value.half().float()), key
    assert f"{type(written).__name__}: 12,345 parameters, 3 blocks of width 32" in (folder / "README.md").read_text()
    entry = describe_model(Found("meg", folder, "bundled"))
    assert (entry.n_layers, entry.dim, entry.sampling_rate) == (3, 32, 250)


def test_a_misspelt_key_is_refused(folder):
    edit(folder / "config.json", in_chanels=6)
    refused(folder, "in_chanels", "did you mean 'in_channels'")


def test_a_key_of_other_models_is_refused(folder):
    edit(folder / "config.json", num_mel_bins=80)
    refused(folder, "num_mel_bins", "no meg2vec model knows")


@pytest.mark.parametrize("key", ["in_channels", "sampling_rate", "sensor_input", "conv_stride", "hidden_size"])
def test_a_missing_key_is_refused(key, folder):
    edit(folder / "config.json", **{key: None})
    refused(folder, "lacks", key)


def test_a_value_that_cannot_be_is_refused(folder):
    edit(folder / "config.json", sensor_input="both", in_channels=6)
    refused(folder, "both")


def test_other_models_configs_gained_no_keys(tmp_path):
    from tests.tiny_models import save_tiny

    save_tiny(tmp_path, "wav2vec2")
    edit(tmp_path / "config.json", in_channels=6)
    refused(tmp_path, "in_channels")


def test_a_folder_that_does_not_say_how_recordings_are_prepared_is_refused(folder):
    (folder / "preprocessor_config.json").unlink()
    refused(folder, "preprocessor_config.json", "missing")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feature_extractor_type": None}, ["expected 'meg2vec'"]),
        ({"preparation": None}, ["preparation"]),
        ({"surprise": 1}, ["surprise"]),
        ({"sensors": None}, ["no sensors", "'channels'"]),
    ],
)
def test_a_broken_preprocessor_is_refused(changes, words, folder):
    edit(folder / "preprocessor_config.json", **changes)
    if "sensors" in changes:
        content = json.loads((folder / "preprocessor_config.json").read_text()) | {"sensors": None}
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
    refused(folder, *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling_rate": 1000}, ["250 Hz", "1000"]),
        ({"sensor_input": "positions"}, ["6 sensors", "'positions'"]),
        ({"in_channels": 7}, ["6 channels", "7"]),
    ],
)
def test_a_preprocessor_of_another_model_is_refused(changes, words, folder):
    edit(folder / "config.json", **changes)
    refused(folder, *words)


def test_weights_of_another_size_are_refused(folder, tmp_path):
    save_tiny_meg(tmp_path / "other", hidden_size=16)
    (tmp_path / "other/model.safetensors").replace(folder / "model.safetensors")
    refused(folder, "do not fit the config")


def test_the_control_has_other_weights(folder):
    loaded = load_model(folder, "mine", from_user=True)
    control = randomised(loaded, 0)
    assert isinstance(control.model, Meg2VecModel)
    ours, theirs = loaded.model.state_dict(), control.model.state_dict()
    for key in ("feature_extractor.conv_layers.0.conv.weight", "encoder.layers.0.feed_forward.output_dense.weight"):
        assert ours[key].shape == theirs[key].shape
        assert not torch.equal(ours[key], theirs[key])
    assert torch.equal(randomised(loaded, 0).model.masked_spec_embed, control.model.masked_spec_embed)
