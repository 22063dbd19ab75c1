"""Settings of trainings on sites, read as strictly as Meg2Vec's."""

from dataclasses import fields, replace

import pytest
import yaml

from core.errors import InputError
from core.models.wav2vec2_2d import token_grid
from core.training.settings_reader import settings_facts
from core.training.site_presets import PRESETS, READER, describe_grid, resolve, validated, with_overrides
from core.training.site_pretraining import mask_rule, model_config
from core.training.site_settings import SiteSettings

DEFAULTS = SiteSettings()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_found_by_both_names_and_keep_the_documents_embedding(name):
    settings = resolve(name)
    assert resolve(f"sites_{name}") == settings
    assert (settings.spatial_embed_dim, settings.spatial_embed_dropout) == (256, 0.1)
    assert settings.use_spatial_embedding and settings.num_recording_sites == 0
    config = model_config(settings, 64)
    assert config.num_recording_sites == 64
    assert mask_rule(settings, config).count(token_grid(config).n_tokens) > 2


def test_small_makes_the_documents_grid_and_tokens():
    settings = resolve("small")
    assert (settings.grid_height, settings.grid_width) == (128, 128)
    assert token_grid(model_config(settings, 64)).n_tokens == 1024


def test_all_settings_survive_a_file(tmp_path):
    settings = replace(DEFAULTS, spacing="log", split_by="recording", sites_per_grid=8, gap_seconds=0.0)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(settings_facts(settings)))
    assert resolve(path) == settings


def test_a_control_is_a_switch():
    assert with_overrides(DEFAULTS, ["use_spatial_embedding=false"]) == replace(DEFAULTS, use_spatial_embedding=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("spatial_learning_rat=1", "Did you mean spatial_learning_rate"),
        ("mask_time_prob=0.1", "Did you mean mask_prob"),
        ("spacing=mel", "expected linear, log"),
        ("reference=mastoids", "expected none, average"),
        ("split_by=subject", "time, recording"),
        ("sites_per_grid=7", "7 sites in a grid of 128 rows"),
        ("grid_width=30", "do not divide 30"),
        ("grid_height=32", "2 rows of each site"),
        ("l_freq=50", "from 50 to 40 Hz"),
        ("hop_seconds=2", "every 2 s"),
        ("spatial_embed_dropout=1.0", "less than 1"),
        ("mask_prob=1.0", "less than 1"),
        ("hidden_size=130", "num_attention_heads 4 does not divide hidden_size 130"),
        ("use_spatial_embedding=1", "true or false"),
        ("spatial_learning_rate=.inf", "finite"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(change, words):
    with pytest.raises(InputError) as caught:
        with_overrides(DEFAULTS, [change])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_number_has_a_range():
    """Minus one is a sensible value of no setting: a field that is added later has to be checked as well."""
    for field in fields(SiteSettings):
        value = getattr(DEFAULTS, field.name)
        if isinstance(value, bool | str):
            continue
        bad = (-1,) * len(value) if isinstance(value, tuple) else type(value)(-1)
        with pytest.raises(InputError, match=field.name):
            validated(replace(DEFAULTS, **{field.name: bad}))
    assert all(hasattr(DEFAULTS, name) for name in READER.may_be_zero | READER.below_one | set(READER.words))


def test_the_grid_is_told():
    text = describe_grid(DEFAULTS, 128.0, 64)
    assert "128 x 128, 16 of 64 sites at once with 8 rows each from 1 to 40 Hz, 8 s" in text and "50%" in text
