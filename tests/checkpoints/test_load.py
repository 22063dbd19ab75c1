"""Loading a folder: equal to transformers where it is sound, one clear sentence where it is not."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.checkpoints.load import check_config_keys, load_model, randomised, read_config
from core.errors import CheckpointError
from tests.tiny_models import CONFIGS, RAW_SAMPLES, save_tiny

# Key names of configs as the hub publishes them, beside those that today's transformers writes.
PUBLISHED = json.loads((Path(__file__).parent / "published_configs.json").read_text())

WITH_HEADS = {
    ("wav2vec2", "Wav2Vec2ForPreTraining"): False,
    ("wav2vec2", "Wav2Vec2ForCTC"): True,
    ("wav2vec2-stable", "Wav2Vec2ForSequenceClassification"): True,
    ("hubert", "HubertForCTC"): True,
    ("wavlm", "WavLMForXVector"): True,
    ("data2vec-audio", "Data2VecAudioForCTC"): True,
    ("w2v-bert", "Wav2Vec2BertForCTC"): True,
    ("whisper", "WhisperForConditionalGeneration"): True,
}


@pytest.fixture
def folder(tmp_path):
    """A sound wav2vec 2.0 folder for a test to spoil."""
    save_tiny(tmp_path / "model", "wav2vec2")
    return tmp_path / "model"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(folder, *words, from_user=True):
    """Loading fails with one line that holds these words and ends like a sentence."""
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, "mine", from_user=from_user)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message
    return message


def encoder_part(model):
    """The part of a model that embeds."""
    base = model.base_model
    if model.config.model_type == "whisper":
        return (base.model if hasattr(base, "model") else base).encoder
    return base


def assert_same_weights(loaded, model):
    expected, got = encoder_part(model).state_dict(), loaded.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_loads_as_transformers_saved_it(family, tmp_path):
    model = save_tiny(tmp_path, family)
    loaded = load_model(tmp_path, family, from_user=True)
    assert_same_weights(loaded.model, model)
    assert not loaded.model.training
    assert loaded.fine_tuned == (family == "whisper")
    assert loaded.warnings == ()
    assert loaded.architecture == type(model).__name__
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("which", "fine_tuned"), WITH_HEADS.items(), ids=lambda value: str(value))
def test_heads_are_left_aside_and_labels_are_told(which, fine_tuned, tmp_path):
    model = save_tiny(tmp_path, *which)
    loaded = load_model(tmp_path, "mine", from_user=True)
    assert_same_weights(loaded.model, model)
    assert (loaded.architecture, loaded.fine_tuned) == (which[1], fine_tuned)


def test_a_label_head_is_told_even_where_the_config_does_not_name_its_class(tmp_path):
    save_tiny(tmp_path, "hubert", "HubertForCTC")
    edit(tmp_path / "config.json", lambda config: config.pop("architectures"))
    assert load_model(tmp_path, "mine", from_user=True).fine_tuned


def test_the_bare_encoder_of_whisper(shared_data):
    folder = shared_data("whisper_tiny_en_encoder")
    loaded = load_model(folder, "tiny", from_user=True)
    stored = load_file(folder / "model.safetensors")
    assert len(stored) == len(loaded.model.state_dict()) == 67
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, stored[f"model.encoder.{key}"].float())
    assert loaded.fine_tuned
    assert loaded.warnings == ()


def test_float16_weights_are_widened_exactly(tmp_path):
    model = save_tiny(tmp_path, "wavlm").half()
    model.save_pretrained(tmp_path)
    assert_same_weights(load_model(tmp_path, "mine", from_user=True).model, model.float())


def test_weights_in_several_files(tmp_path):
    model = save_tiny(tmp_path, "hubert")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    first = load_model(tmp_path, "mine", from_user=True)
    assert_same_weights(first.model, model)
    shards[1].unlink()
    refused(tmp_path, shards[1].name, "Download or copy")


@pytest.mark.parametrize("where", ["../elsewhere.safetensors", "/tmp/a.safetensors", "model.bin", 7])
def test_an_index_cannot_point_out_of_its_folder(where, tmp_path):
    model = save_tiny(tmp_path, "hubert")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    edit(tmp_path / "model.safetensors.index.json", lambda index: index["weight_map"].update(extra=where))
    refused(tmp_path, str(where), "same folder")


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm-stable", "encodec"])
def test_the_old_names_of_normalised_weights(family, tmp_path):
    """Checkpoints from before torch 2.1 hold weight_g and weight_v, as the hub's xlsr-53 and encodec_24khz do."""
    model = save_tiny(tmp_path, family)
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in load_file(tmp_path / "model.safetensors").items()
    }
    assert any(key.endswith("weight_g") for key in old)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_weights(load_model(tmp_path, "mine", from_user=True).model, model)


def test_the_same_bytes_have_the_same_hash(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    assert load_model(folder, "a", from_user=True).sha256 == load_model(other, "b", from_user=True).sha256
    save_tiny(other, "wav2vec2-stable")
    assert load_model(folder, "a", from_user=True).sha256 != load_model(other, "b", from_user=True).sha256


@pytest.mark.parametrize("from_user", [True, False])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read(name, from_user, tmp_path):
    """The key check passes, the values are accepted, and a network of that shape can be built."""
    from core.checkpoints.load import _build_config, _model_class

    raw = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert check_config_keys(read_config(tmp_path, name), name, strict=from_user) == []
    with torch.device("meta"):
        model = _model_class(raw["model_type"])(_build_config(raw))
    assert sum(parameter.numel() for parameter in model.parameters()) > 5e6


def test_a_hub_config_with_an_unknown_key_is_read_with_a_warning(folder):
    edit(folder / "config.json", lambda config: config.update(colour_of_the_cover="blue"))
    refused(folder, "colour_of_the_cover", "Remove")
    (warning,) = load_model(folder, "mine", from_user=False).warnings
    assert "colour_of_the_cover" in warning


def rename(old, new):
    return lambda config: config.update({new: config.pop(old)})


BAD_CONFIGS = {
    "misspelt stride": (rename("conv_stride", "conv_strides"), ["lacks conv_stride ", "'conv_strides'"]),
    "misspelt size": (rename("hidden_size", "hiden_size"), ["lacks hidden_size ", "'hiden_size'"]),
    "bogus beside the right one": (lambda c: c.update(conv_strides=[2] * 7), ["'conv_stride'", "'conv_strides'"]),
    "misspelt optional key": (rename("layer_norm_eps", "layer_norm_ep"), ["'layer_norm_eps'", "'layer_norm_ep'"]),
    "missing kernel": (lambda c: c.pop("conv_kernel"), ["lacks conv_kernel", "Restore"]),
    "missing type": (lambda c: c.pop("model_type"), ["model_type None", "wav2vec2"]),
    "unsupported type": (lambda c: c.update(model_type="bert"), ["'bert'", "hubert"]),
    "a list as type": (lambda c: c.update(model_type=["wav2vec2"]), ["model_type"]),
    "a word for a number": (lambda c: c.update(hidden_size="wide"), ["hidden_size", "wide"]),
    "lists of two lengths": (lambda c: c.update(conv_stride=[5, 2]), ["conv_stride"]),
    "another width": (lambda c: c.update(hidden_size=64), ["together"]),
    "one block more": (lambda c: c.update(num_hidden_layers=4), ["lack", "layers.3"]),
    "one block fewer": (lambda c: c.update(num_hidden_layers=2), ["unexpected", "layers.2"]),
    "other norms": (lambda c: c.update(feat_extract_norm="layer"), ["together"]),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_is_refused(case, folder):
    change, words = BAD_CONFIGS[case]
    edit(folder / "config.json", change)
    refused(folder, *words)


@pytest.mark.parametrize(
    "content", ["{not json", "", "[1, 2]", "\udcff", "[" * 100_000], ids=["broken", "empty", "list", "bytes", "deep"]
)
def test_a_config_that_is_no_json_object_is_refused(content, folder):
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(folder, "config.json", "Restore")


def test_missing_pieces_are_named(folder, tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "does not exist", "Check")
    (folder / "config.json").rename(tmp_path / "config.json")
    refused(folder, "config.json is missing", str(folder))
    (tmp_path / "config.json").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights", "model.safetensors")


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


KEY = "encoder.layers.1.attention.k_proj.weight"
BAD_WEIGHTS = {
    "missing": (lambda w: w.pop(KEY), ["lack", KEY]),
    "unknown": (lambda w: w.update(surprise=torch.zeros(3)), ["unexpected", "surprise"]),
    "unknown inside a block": (lambda w: w.update({"encoder.layers.0.classifier.x": torch.zeros(3)}), ["unexpected"]),
    "another shape": (lambda w: w.update({KEY: torch.zeros(3, 3)}), [KEY]),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_do_not_belong_are_refused(case, folder):
    change, words = BAD_WEIGHTS[case]
    change_weights(folder, change)
    refused(folder, "together", *words)


def test_the_mask_embedding_may_be_missing_or_left_over(folder):
    """It is used in training only, and published checkpoints differ in having it."""
    change_weights(folder, lambda weights: weights.pop("masked_spec_embed"))
    assert load_model(folder, "mine", from_user=True)
    change_weights(folder, lambda weights: weights.update(masked_spec_embed=torch.zeros(32)))
    edit(folder / "config.json", lambda config: config.update(mask_time_prob=0.0, mask_feature_prob=0.0))
    assert load_model(folder, "mine", from_user=True)


@pytest.mark.parametrize("keep", [0.5, 0.001, 0.0])
def test_a_truncated_file_is_refused(keep, folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refused(folder, str(path), "cut short", "again")


class Marker:
    """A pickle that creates a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "best.ckpt", "weights.pkl"])
@pytest.mark.parametrize("beside", [(), ("other.safetensors",)])
def test_a_pickle_is_never_opened(name, beside, folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Marker(tmp_path / "opened")))
    for other in beside:
        save_file({"x": torch.zeros(1)}, folder / other)
    refused(folder, name, "pickle", "model.safetensors")
    assert not (tmp_path / "opened").exists()


def test_a_pickle_from_the_hub_is_read_as_weights_only(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    expected = load_model(folder, "mine", from_user=True)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert_same_weights(load_model(folder, "mine", from_user=False).model, expected.model)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marker(tmp_path / "opened")))
    refused(folder, "cannot be loaded", from_user=False)
    torch.save({"x": Marker(tmp_path / "opened")}, folder / "pytorch_model.bin")
    refused(folder, "cannot be loaded", from_user=False)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("family", RAW_SAMPLES)
def test_without_preprocessor_settings_the_assumption_is_said(family, tmp_path):
    save_tiny(tmp_path, family, preprocessor=False)
    loaded = load_model(tmp_path, "mine", from_user=True)
    assert loaded.preprocessor == {"sampling_rate": 16_000, "do_normalize": True}
    (warning,) = loaded.warnings
    assert all(word in warning for word in ("preprocessor_config.json", "16 kHz", "normalisation"))


@pytest.mark.parametrize("family", ["whisper", "w2v-bert", "encodec"])
def test_families_that_need_no_preprocessor_settings_do_not_warn(family, tmp_path):
    save_tiny(tmp_path, family, preprocessor=False)
    assert load_model(tmp_path, "mine", from_user=True).warnings == ()


def test_a_preprocessor_file_that_is_silent_on_one_point(folder):
    edit(folder / "preprocessor_config.json", lambda settings: settings.pop("sampling_rate"))
    loaded = load_model(folder, "mine", from_user=True)
    assert loaded.preprocessor["sampling_rate"] == 16_000
    assert "16 kHz" in loaded.warnings[0]
    assert "normalisation" not in loaded.warnings[0]


def test_preprocessor_settings_inside_the_file_of_transformers_5(folder):
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    loaded = load_model(folder, "mine", from_user=True)
    assert loaded.preprocessor["do_normalize"] is False
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.update(sampling_rate="16k"), "sampling_rate"),
        (lambda s: s.update(sampling_rate=0), "sampling_rate"),
        (lambda s: s.update(sampling_rate=16000.5), "sampling_rate"),
        (lambda s: s.update(sampling_rate=True), "sampling_rate"),
        (lambda s: s.update(sampling_rate=None), "sampling_rate"),
        (lambda s: s.update(do_normalize="yes"), "do_normalize"),
    ],
)
def test_bad_preprocessor_settings_are_refused(change, word, folder):
    edit(folder / "preprocessor_config.json", change)
    refused(folder, "preprocessor_config.json", word, "Restore")


def test_a_broken_preprocessor_file_is_refused(folder):
    (folder / "preprocessor_config.json").write_text("{")
    refused(folder, "preprocessor_config.json", "JSON")


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("whisper", {"feature_size": 128}),
        ("whisper", {"sampling_rate": 8_000}),
        ("w2v-bert", {"stride": 4}),
        ("encodec", {"sampling_rate": 48_000}),
    ],
)
def test_preprocessor_settings_of_another_model_are_refused(family, change, tmp_path):
    save_tiny(tmp_path, family)
    edit(tmp_path / "preprocessor_config.json", lambda settings: settings.update(change))
    refused(tmp_path, "preprocessor_config.json", *change)


# ---- the control: random weights ----

# What no training moves, or what no class draws: norms, biases, and Whisper's sinusoids.
NOT_DRAWN = ("norm", "bias", "embed_positions", "running_", "codebook", "num_batches", "inited", "original0", "const")


@pytest.mark.parametrize("family", CONFIGS)
def test_the_control_has_the_same_architecture_and_weights_of_its_own(tmp_path, family):
    save_tiny(tmp_path, family)
    loaded = load_model(tmp_path, "x", from_user=True)
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    control, again, other = (randomised(loaded, seed) for seed in (0, 0, 1))
    weights, twin, third = (one.model.state_dict() for one in (control, again, other))

    assert type(control.model) is type(loaded.model) and not control.model.training
    assert {key: value.shape for key, value in weights.items()} == {key: value.shape for key, value in before.items()}
    assert all(value.dtype == before[key].dtype and value.isfinite().all() for key, value in weights.items())
    assert all(torch.equal(weights[key], twin[key]) for key in weights)
    drawn = [key for key in weights if weights[key].ndim > 1 and not any(part in key for part in NOT_DRAWN)]
    assert len(drawn) >= 8
    for key in drawn:
        assert not torch.equal(weights[key], before[key]) and not torch.equal(weights[key], third[key]), key
    assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("family", CONFIGS)
def test_the_norms_of_a_control_are_as_before_any_training(tmp_path, family):
    save_tiny(tmp_path, family)
    control = randomised(load_model(tmp_path, "x", from_user=True), 0).model
    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.BatchNorm1d)
    for module in (module for module in control.modules() if isinstance(module, norms) and module.weight is not None):
        assert (module.weight == 1).all() and (module.bias == 0).all()
        if isinstance(module, torch.nn.BatchNorm1d):
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()


def test_a_control_says_what_it_is_and_keeps_the_preprocessing(tmp_path):
    save_tiny(tmp_path, "wav2vec2", "Wav2Vec2ForCTC")
    loaded = load_model(tmp_path, "tuned", from_user=True)
    control = randomised(loaded, 7)
    assert loaded.fine_tuned and not control.fine_tuned and control.name == "tuned (random weights)"
    assert control.sha256 == f"random-7-{loaded.config_sha256[:32]}" != randomised(loaded, 8).sha256
    assert control.preprocessor == loaded.preprocessor and control.config_sha256 == loaded.config_sha256
    assert control.model.config.to_dict() == loaded.model.config.to_dict()
    assert control.model.config is not loaded.model.config


def test_a_control_disturbs_no_other_draw_and_none_disturbs_it(folder):
    loaded = load_model(folder, "x", from_user=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = randomised(loaded, 0)
    assert torch.equal(torch.rand(4), expected)
    second = randomised(loaded, 0)
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_control_is_not_the_beginning_of_a_model_trained_from_the_same_seed(folder):
    """The tiny models are drawn from seed 0: a control from seed 0 must not be their beginning."""
    loaded = load_model(folder, "x", from_user=True)
    both = (loaded, randomised(loaded, 0))
    trained, control = (one.model.encoder.layers[0].attention.q_proj.weight for one in both)
    assert abs(torch.corrcoef(torch.stack([trained.flatten(), control.flatten()]))[0, 1]) < 0.15
    assert trained.std().item() == pytest.approx(control.std().item(), rel=0.2)  # drawn from the same distribution
