"""Wav2Vec2_2D folders: read through the one loader, as strictly as the others."""

import json

import pytest
import torch

from core.checkpoints.find import Found, describe_model
from core.checkpoints.load import load_model, randomised
from core.checkpoints.save import save_checkpoint
from core.errors import CheckpointError
from core.models.wav2vec2_2d import Wav2Vec2_2DConfig, Wav2Vec2_2DForPreTraining
from tests.checkpoints.test_save import CARD, TRAINING

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (8, 16),
    "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16, "grid_height": 16,
    "grid_width": 16, "num_recording_sites": 5,
}  # fmt: skip
VARIANTS = [
    {},
    {"use_spatial_embedding": False},
    {"sites_per_grid": 4, "spatial_attention_bias": True, "conv_stride": ((1, 2), 2), "do_stable_layer_norm": True},
]


def network(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wav2Vec2_2DForPreTraining(Wav2Vec2_2DConfig(**SIZE | changes)).eval()
        for name, value in model.named_parameters():
            if "layer_norm" in name or "scale" in name:  # norms and scales other than one and zero
                value.data += 0.3 * torch.rand_like(value)
    return model


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("saved", ["whole", "encoder"])
def test_what_was_saved_is_loaded(saved, changes, tmp_path):
    model = network(**changes)
    written = model if saved == "whole" else model.wav2vec2_2d
    folder = save_checkpoint(tmp_path / "sites", written, TRAINING, CARD)
    loaded = load_model(folder, "sites", from_user=True)
    assert (loaded.model_type, loaded.fine_tuned, loaded.warnings) == ("wav2vec2_2d", False, ())
    expected, got = model.wav2vec2_2d.state_dict(), loaded.model.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(got[key], value.half().float()) for key, value in expected.items())
    entry = describe_model(Found("sites", folder, "folder"))
    assert (entry.n_layers, entry.dim, entry.modality) == (2, 32, "grid")


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(tmp_path / "sites", network(), TRAINING, CARD)


def edit(folder, **changes):
    content = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_recording_site": 5}, "did you mean 'num_recording_sites'"),
        ({"num_recording_sites": None}, "lacks num_recording_sites"),
        ({"sites_per_grid": None}, "lacks sites_per_grid"),
        ({"num_recording_sites": 6}, "do not fit the config: spatial_embedding.weight"),
        ({"use_spatial_embedding": False}, "hold unexpected .*spatial_embedding"),
        ({"sites_per_grid": 3}, "a number that divides the rows"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes, words, folder):
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder, "sites", from_user=True)


def test_the_control_has_other_weights_of_the_same_kind(folder):
    loaded = load_model(folder, "sites", from_user=True)
    control = randomised(loaded, 0).model
    trained, drawn = (one.spatial_embedding.weight for one in (loaded.model, control))
    assert drawn[1:].std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.allclose(trained, drawn)
    assert (drawn[0] == 0).all()
