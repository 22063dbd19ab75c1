"""The recipe of the contrastive encoder, from archives to a folder, on made-up speech."""

import json
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining, Wav2Vec2Model

from core.checkpoints.load import load_model
from core.errors import InputError
from core.recipes import wav2vec2_contrastive as recipe_module
from core.training import runs


@pytest.fixture
def recipe(tiny_encoder):
    settings = replace(
        recipe_module.settings(updates=3), batch_size=2, eval_windows=2, eval_every=2, checkpoint_every=2, log_every=1,
        precision="fp32",
    )  # fmt: skip
    return recipe_module.Recipe(settings=settings, crop_seconds=1.0)


def stop_before(update):
    @contextmanager
    def requests(stop_file):
        asked = count()
        yield lambda: next(asked) >= update

    return requests


def test_one_command_trains_stops_goes_on_and_exports(data, tmp_path, no_evaluation, recipe, monkeypatch):
    work, output = tmp_path / "work", tmp_path / "checkpoints"
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requests", stop_before(1))
        assert not recipe_module.run(data, work, output, recipe)
    assert not (output / recipe_module.NAME).exists()
    assert load_model(work / "run" / "last", "last", from_user=True).architecture == "SpeechForPreTraining"

    assert recipe_module.run(data, work, output, recipe)
    folder = output / recipe_module.NAME
    training = json.loads((folder / "training.json").read_text())
    assert training["updates"] == training["updates_planned"] == 3
    assert [entry["step"] for entry in training["history"]] == [2, 3]
    assert {"emodb/12", "librivox/Sonia", "librispeech/19"} <= set(training["split"]["held_out"])
    assert training["data"]["clips"] == 7 and training["settings"]["mask"] == {
        "prob": 0.065, "length": 10, "negatives": 100,
    }  # fmt: skip
    assert [table["title"] for table in training["metrics"]] == ["Held-out windows after 3 steps", "T"]
    loaded = load_model(folder, recipe_module.NAME, from_user=True)
    assert type(loaded.model) is Wav2Vec2Model and not loaded.warnings
    assert loaded.model.config.mask_time_prob == 0

    at_once = tmp_path / "at_once"
    assert recipe_module.run(data, work=at_once, output=at_once, recipe=recipe)
    assert (at_once / recipe_module.NAME / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    trained = load_file(work / "run" / "last" / "model.safetensors")
    shipped = load_file(folder / "model.safetensors")
    assert all(torch.equal(trained[f"wav2vec2.{name}"], value) for name, value in shipped.items())
    assert {name for name in trained if not name.startswith("head.")} - {f"wav2vec2.{name}" for name in shipped} == {
        "wav2vec2.masked_spec_embed"
    }


def test_the_loss_is_that_of_transformers(recipe):
    """Same weights, mask and negatives: the contrastive and the diversity loss of the class of the paper."""
    model = recipe_module.make_model(recipe).eval()
    stock = Wav2Vec2ForPreTraining(Wav2Vec2Config(**model.config.to_diff_dict())).eval()
    stock.load_state_dict({name.removeprefix("head."): value for name, value in model.state_dict().items()})
    mask, negatives = recipe.mask.draw([3, 4], 49)
    audio = torch.randn(2, 49 * 320 + 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model(audio, mask, negatives)
        theirs = stock(audio, mask_time_indices=mask, sampled_negative_indices=negatives)
    assert ours.n_masked == 48
    torch.testing.assert_close(ours.loss, theirs.loss)
    torch.testing.assert_close(ours.contrastive_loss, theirs.contrastive_loss)
    torch.testing.assert_close(ours.diversity_loss, theirs.diversity_loss)


def test_the_gumbel_temperature_ends_at_the_papers_minimum():
    settings = recipe_module.settings(updates=4000)
    assert settings.gumbel_temperature * settings.gumbel_temperature_decay**4000 == pytest.approx(0.5)


def test_other_settings_do_not_go_on(data, tmp_path, no_evaluation, recipe, monkeypatch):
    monkeypatch.setattr(runs, "stop_requests", stop_before(1))
    recipe_module.run(data, tmp_path, tmp_path, recipe)
    with pytest.raises(InputError, match="learning_rate"):
        changed = replace(recipe, settings=replace(recipe.settings, learning_rate=2e-3))
        recipe_module.run(data, tmp_path, tmp_path, changed)
