"""Checkpoint folders: whole or not there, float16 that computes the same, a card with the measured numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from core.checkpoints import save
from core.checkpoints.card import model_card
from core.checkpoints.save import save_checkpoint, write_card
from core.errors import CheckpointError

CARD = {
    "license": "cc-by-4.0",
    "language": ["en"],
    "tags": ["speech"],
    "summary": "A model for a test.",
    "snippet": "print('hello')",
    "trust": "Not at all.",
    "intended_use": "Tests.",
    "data": ["Noise: no licence needed."],
    "attribution": ["Nobody."],
}
TRAINING = {
    "recipe": "python -m nothing",
    "seed": 3,
    "updates": 40,
    "updates_planned": 50,
    "cpu_seconds": 720,
    "device": "CPU",
    "parameters": 12345,
    "data": {"sha256": "ab" * 32, "clips": 7, "hours": 1.5},
    "split": {"held_out_text": "1 whole speaker (x)"},
    "history": [{"step": 20, "loss": 1.25, "cosine": 0.3}, {"step": 40, "loss": 0.875, "cosine": 0.6}],
    "metrics": [
        {
            "title": "Emotion on nothing", "note": "Made up.", "measure": "UAR", "n": 535, "groups": "10 speakers",
            "chance": 0.142857,
            "rows": [
                {"model": "mine", "scores": [0.5, 0.6182, 0.7], "chosen": 0.6543, "interval": [0.6, 0.71]},
                {"model": "log-mel", "scores": [0.4217], "chosen": 0.4217, "interval": [0.38, 0.45]},
            ],
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
    )  # fmt: skip
    return Wav2Vec2Model(config).eval()


def save_one(folder, model, **changes):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    return save_checkpoint(folder, model, TRAINING | changes, CARD, extractor)


def test_the_written_model_computes_nearly_the_same(tmp_path, model):
    folder = save_one(tmp_path / "small", model)
    loaded, report = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    inputs = extractor(np.random.default_rng(0).standard_normal(8000), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs, output_hidden_states=True).hidden_states
        got = loaded.eval()(**inputs, output_hidden_states=True).hidden_states
    for a, b in zip(wanted, got, strict=True):
        assert torch.nn.functional.cosine_similarity(a, b, dim=-1).min() > 0.9999
    assert any(not torch.equal(a, b) for a, b in zip(wanted, got, strict=True))  # it was rounded, so it was written


def test_the_folder_holds_what_it_should_and_float16_only(tmp_path, model):
    folder = save_one(tmp_path / "small", model)
    names = {"config.json", "model.safetensors", "preprocessor_config.json", "training.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118
    training = json.loads((folder / "training.json").read_text())
    assert training["metrics"] == TRAINING["metrics"]
    assert training["versions"]["torch"] == torch.__version__
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Wav2Vec2Model"]
    assert json.loads((folder / "preprocessor_config.json").read_text())["do_normalize"] is True


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("broken", ["card", "weights", "metrics"])
def test_a_failure_leaves_what_was_there(tmp_path, model, monkeypatch, there_before, broken):
    folder = tmp_path / "models" / "small"
    if there_before:
        save_one(folder, model)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if broken == "card":
        monkeypatch.setattr(save, "model_card", lambda *arguments: 1 / 0)
    if broken == "weights":
        monkeypatch.setattr(save, "save_file", lambda *arguments, **options: 1 / 0)
    changes = {"metrics": [{"score": float("nan")}]} if broken == "metrics" else {}
    with pytest.raises((ZeroDivisionError, ValueError)):
        save_one(folder, model, **changes)
    if there_before:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir()] == ["small"]
    else:
        assert list(folder.parent.iterdir()) == []


def test_an_older_folder_is_replaced_whole(tmp_path, model):
    folder = save_one(tmp_path / "small", model)
    (folder / "leftover.bin").write_text("old")
    save_one(folder, model, updates=50)
    assert not (folder / "leftover.bin").exists()
    assert json.loads((folder / "training.json").read_text())["updates"] == 50
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_weight_that_float16_cannot_hold_is_an_error(tmp_path):
    model = Wav2Vec2Model(Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    ))  # fmt: skip
    model.feature_projection.projection.bias.data[0] = 1e6
    with pytest.raises(CheckpointError, match=r"feature_projection\.projection\.bias .* 1e\+06"):
        save_one(tmp_path / "small", model)
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_was_measured_and_nothing_else(tmp_path, model):
    text = (save_one(tmp_path / "small", model) / "README.md").read_text()
    assert text.startswith('---\nlicense: "cc-by-4.0"\n')
    row = "| mine | 0.500 | 0.618 | 0.700 | 0.654 [0.600, 0.710] |"
    assert row in text
    assert "| log-mel | 0.422 |  |  | 0.422 [0.380, 0.450] |" in text
    for fact in (
        "n = 535",
        "10 speakers",
        "chance 0.143",
        "40 of 50 updates",
        "12 minutes",
        "1.50 h",
        "1.250",
        "0.875",
    ):
        assert fact in text
    other = json.loads(json.dumps(TRAINING | {"card": CARD}))
    other["metrics"][0]["rows"][0]["scores"][1] = 0.3
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert row not in model_card("small", config, other)
    assert "Not yet." in model_card("small", config, other | {"metrics": []})


def test_the_card_can_be_written_again_from_the_folder_alone(tmp_path, model):
    folder = save_one(tmp_path / "small", model)
    before = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    write_card(folder)
    assert (folder / "README.md").read_text() == before


def test_the_front_matter_is_yaml_with_the_licence(tmp_path, model):
    yaml = pytest.importorskip("yaml")
    text = (save_one(tmp_path / "small", model) / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"
    assert Path(tmp_path / "small").exists()
