"""The recipe of the bundled encoder, from archives to a folder, on made-up speech and a random teacher."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Model, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from core.checkpoints.load import load_model
from core.errors import InputError
from core.recipes import speech_data, speech_evaluation
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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The four archives in small: one packed, three unpacked."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def clip(path, seconds):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(round(16_000 * seconds)), 16_000, format="FLAC")

    emodb = folder / "emodb_2s" / "emodb_2s"
    rows = ["file,speaker"]
    for speaker in ("03", "12"):
        clip(emodb / "flac16k" / f"{speaker}a01Fa.flac", 1.5)
        rows.append(f"{speaker}a01Fa.flac,{speaker}")
    (emodb / "labels.csv").write_text("\n".join(rows))
    for speaker in (19, 26, 27):
        clip(folder / "librispeech_train_opus" / f"{speaker}-1-0000.opus", 2.5)
    packed = folder / "packed" / "librivox_opus"
    rows = ["section,reader,file"]
    for k, reader in enumerate(("Margot", "Sonia")):
        clip(packed / f"poem{k}.opus", 4)
        rows.append(f"{k},{reader},poem{k}.mp3")
    (packed / "sections.csv").write_text("\n".join(rows))
    with tarfile.open(folder / "librivox_opus.tar.xz", "w:xz") as archive:
        archive.add(packed, "librivox_opus")
    write_teacher(folder / "whisper_tiny_en_encoder")
    return folder


def write_teacher(folder):
    folder.mkdir()
    torch.manual_seed(0)
    config = WhisperConfig(d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=16)
    weights = WhisperEncoder(config).state_dict()
    save_file({f"model.encoder.{key}": value for key, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))


def test_one_command_trains_resumes_and_exports(data, tmp_path, monkeypatch):
    row = {"model": "it", "scores": [0.5], "chosen": 0.5, "interval": [0.4, 0.6]}
    table = {"title": "T", "note": "", "measure": "UAR", "n": 1, "groups": "1", "chance": 0.5, "rows": [row]}
    monkeypatch.setattr(speech_evaluation, "evaluate", lambda *arguments: [table])
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
    assert training["metrics"] == [table]
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
