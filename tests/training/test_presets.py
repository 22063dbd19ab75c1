"""Settings read strictly: what is misspelt, of the wrong type or senseless is refused with its name."""

import math
from dataclasses import fields, replace

import pytest
import yaml

from core.errors import InputError
from core.training.presets import (
    PRESETS,
    describe_window,
    resolve,
    validated,
    window_frames,
    with_overrides,
)
from core.training.pretrain_settings import PretrainSettings
from core.training.settings_reader import settings_facts

DOCUMENT = PretrainSettings()


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_found_by_both_names_and_keep_the_documents_loss(name):
    settings = resolve(name)
    assert resolve(f"pretrain_{name}") == settings
    for key in ("num_negatives", "contrastive_logits_temperature", "mask_time_prob", "diversity_loss_weight"):
        assert getattr(settings, key) == getattr(DOCUMENT, key)
    assert (settings.conv_kernel, settings.conv_stride) == ((10, 3, 3, 2), (5, 2, 2, 2))
    assert (settings.num_codevector_groups, settings.num_codevectors_per_group) == (2, 320)


@pytest.mark.parametrize(
    ("name", "hidden", "layers"), [("small", 384, 6), ("base", 768, 12), ("large", 1024, 24), ("tiny", 128, 4)]
)
def test_sizes_are_the_documents(name, hidden, layers):
    settings = resolve(name)
    assert (settings.hidden_size, settings.num_hidden_layers) == (hidden, layers)


def test_base_trains_as_the_document_says():
    base = resolve("base")
    assert (base.learning_rate, base.max_steps, base.warmup_steps) == (5e-4, 400_000, 32_000)


@pytest.mark.parametrize("name", PRESETS)
def test_the_gumbel_temperature_reaches_its_minimum_in_the_second_half_of_the_steps(name):
    settings = resolve(name)
    reached = math.log(settings.gumbel_temperature_min / settings.gumbel_temperature) / math.log(
        settings.gumbel_temperature_decay
    )
    assert 0.5 * settings.max_steps < reached <= settings.max_steps


def test_a_file_gets_the_defaults_for_what_it_does_not_name(tmp_path):
    settings = resolve(written(tmp_path, "batch_size: 3\nlearning_rate: 5e-4\nconv_dim: [8, 8, 8, 8]\n"))
    assert settings == replace(DOCUMENT, batch_size=3, learning_rate=5e-4, conv_dim=(8, 8, 8, 8))


def test_all_settings_survive_a_file(tmp_path):
    keys = (("0", "1", "Sherlock1", "1"), ("0", "1", "Sherlock1", "2"))
    settings = replace(DOCUMENT, libribrain_include_run_keys_train=keys, use_tensorboard=True, dropout=0.0)
    assert resolve(written(tmp_path, yaml.safe_dump(settings_facts(settings)))) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batchsize: 3", ("batchsize", "batch_size")),
        ("mask_prob: 0.1", ("mask_prob", "mask_time_prob")),
        ("libribrain_partition_train: train", ("libribrain_include_run_keys_train",)),
        ("batch_size: eight", ("batch_size", "whole number", "'eight'")),
        ("batch_size: 8.0", ("batch_size", "whole number")),
        ("batch_size: true", ("batch_size", "whole number")),
        ("batch_size:", ("batch_size", "nothing")),
        ("batch_size: -1", ("batch_size", "-1")),
        ("max_steps: 0", ("max_steps", "above 0")),
        ("learning_rate: .nan", ("learning_rate", "nan", "finite")),
        ("learning_rate: .inf", ("learning_rate", "inf", "finite")),
        ("learning_rate: '5e-4'", ("learning_rate", "a number")),
        ("use_wandb: 1", ("use_wandb", "true or false")),
        ("conv_dim: 256", ("conv_dim", "list")),
        ("conv_dim: [256, x]", ("conv_dim", "list")),
        ("conv_dim: [256, 256]", ("conv_dim", "conv_kernel", "conv_stride")),
        ("libribrain_include_run_keys_train: [[0, 1, Sherlock1, 1]]", ("run_keys_train", "quotes")),
        ("use_libribrain: true", ("libribrain_include_run_keys_train",)),
        ("dropout: 1.0", ("dropout", "less than 1")),
        ("mask_time_prob: 1", ("mask_time_prob", "less than 1")),
        ("gumbel_temperature_decay: 1.1", ("gumbel_temperature_decay", "at most 1")),
        ("gumbel_temperature_min: 3.0", ("gumbel_temperature_min",)),
        ("num_attention_heads: 5", ("num_attention_heads 5", "hidden_size 768")),
        ("num_codevector_groups: 3", ("num_codevector_groups 3", "codevector_dim 256")),
        ("precision: half", ("precision", "bf16")),
        ("device: gpu", ("device", "cuda")),
        ("sensor_input: names", ("sensor_input", "positions")),
        ("seed: 1\nseed: 2", ("seed", "more than once")),
        ("- 1\n- 2", ("lines such as",)),
        ("just text", ("lines such as",)),
        ("", ("nothing",)),
        ("a: [1", ("plain YAML",)),
        ("a: " + "[" * 5000, ("plain YAML",)),
        ("name: !!python/object/apply:os.getcwd []", ("plain YAML", "python/object/apply")),
        ("name: !!python/name:os.system", ("plain YAML",)),
        ("? [a, b]\n: 1", ("plain YAML", "unhashable")),
        ("1: 2", ("unknown setting 1",)),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        resolve(path)
    assert all(word in str(caught.value) for word in (*words, "mine.yaml")), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'middle'; expected tiny, small, base, large, or a YAML file"):
        resolve("middle")
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match=r"mine\.yaml"):
        resolve(path)


def test_overrides_are_yaml_and_as_strict_as_a_file():
    settings = with_overrides(DOCUMENT, ["max_steps=50", "learning_rate=1e-3", "conv_dim=[8, 8, 8, 8]", "name=mine"])
    assert settings == replace(DOCUMENT, max_steps=50, learning_rate=1e-3, conv_dim=(8, 8, 8, 8), name="mine")
    assert with_overrides(DOCUMENT, []) == DOCUMENT
    for bad, word in (("max_step=5", "max_steps"), ("max_steps", "key=value"), ("=5", "key=value"), ("seed=x", "seed")):
        with pytest.raises(InputError, match=word):
            with_overrides(DOCUMENT, [bad])


def test_every_number_has_a_range():
    """Minus one is a sensible value of no setting: a field that is added later has to be checked as well."""
    for field in fields(PretrainSettings):
        value = getattr(DOCUMENT, field.name)
        if isinstance(value, bool | str) or field.name.startswith("libribrain"):
            continue
        bad = (-1,) * len(value) if isinstance(value, tuple) else type(value)(-1)
        with pytest.raises(InputError, match=field.name):
            validated(replace(DOCUMENT, **{field.name: bad}))


def test_the_documents_500_samples_give_12_frames_and_not_31():
    """FAULTS: 500 -> 99 -> 49 -> 24 -> 12 frames; 31 need 1,260 samples. The document counts with 0.5 s for 500."""
    assert window_frames(replace(DOCUMENT, window_seconds=2.0), 250) == 12
    assert window_frames(replace(DOCUMENT, window_seconds=1260 / 250), 250) == 31
    assert window_frames(replace(DOCUMENT, window_seconds=0.5), 1000) == 12


def test_a_window_too_short_for_the_mask_is_told_how_long_it_must_be():
    short = replace(DOCUMENT, window_seconds=1.0)
    with pytest.raises(InputError, match="5 frames at 250 Hz") as caught:
        window_frames(short, 250)
    seconds = float(str(caught.value).split("Set window_seconds to ")[1].split(" ")[0])
    assert window_frames(replace(short, window_seconds=seconds), 250) == short.mask_time_length + 1
    with pytest.raises(InputError):
        window_frames(replace(short, window_seconds=seconds - 1 / 250), 250)


def test_the_window_is_told_in_seconds_samples_and_frames():
    text = describe_window(DOCUMENT, 250)
    assert "10 s at 250 Hz = 2,500 samples = 62 frames, one every 160 ms" in text
    assert "49%" in text
