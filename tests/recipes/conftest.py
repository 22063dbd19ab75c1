"""Made-up speech in the archives that recipes read, and the measurements at their end replaced."""

import json
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from core.recipes import speech_evaluation, speech_recipe


@pytest.fixture
def no_evaluation(monkeypatch):
    """The tables that stand in for what the probes would find."""
    row = {"model": "it", "scores": [0.5], "chosen": 0.5, "interval": [0.4, 0.6]}
    table = {"title": "T", "note": "", "measure": "UAR", "n": 1, "groups": "1", "chance": 0.5, "rows": [row]}
    monkeypatch.setattr(speech_evaluation, "evaluate", lambda *arguments: [table])
    return [table]


@pytest.fixture
def tiny_encoder(monkeypatch):
    """The size of the encoders, small enough to be trained in a test."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    for name, value in ({"conv_dim": (16,) * 7} | sizes | positions).items():
        monkeypatch.setitem(speech_recipe.ENCODER, name, value)


@pytest.fixture(scope="package")
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
