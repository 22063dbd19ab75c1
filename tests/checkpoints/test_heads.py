"""A head's folder: what was written comes back, whatever is wrong with it is said, and no other encoder is taken."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.checkpoints import find, heads
from core.checkpoints.find import bundled_names, find_model
from core.checkpoints.heads import (
    HeadConfig,
    check_encoder,
    check_head_target,
    find_encoder,
    find_head,
    list_heads,
    load_head,
    save_head,
    write_head_card,
)
from core.checkpoints.load import checkpoint_hashes
from core.emotion.head import MIXTURES
from core.emotion.head_files import head_arrays, head_config
from core.errors import CheckpointError, OutputError
from tests.emotion.heads_made import ENCODER, LABELS, make_head
from tests.tiny_models import save_tiny

FORMS = {
    "linear": {},
    "one layer": {"layers": (2,), "reference": False},
    "mlp": {"hidden": (5, 3), "mixture": "summed"},
    "learned": {"hidden": (4,), "mixture": "summed", "pooling": "learned"},
}
TRAINING = {"seed": 3, "card": {"summary": "Made up."}}


def save(folder, training=TRAINING, **form):
    head = make_head(**form)
    return save_head(folder, head_config(head, LABELS, ENCODER, 1.5), head_arrays(head), training)


@pytest.mark.parametrize("form", FORMS)
def test_what_was_written_is_read(tmp_path, form):
    head = make_head(**FORMS[form])
    stored = load_head(save(tmp_path / "mine", **FORMS[form]))
    assert stored.name == "mine"
    assert stored.config == head_config(head, LABELS, ENCODER, 1.5)
    wanted = head_arrays(head)
    assert stored.arrays.keys() == wanted.keys()
    for name, array in stored.arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.asarray(wanted[name], np.float32))
    assert stored.training["seed"] == 3
    assert stored.training["versions"]["numpy"] == np.__version__


def test_a_folder_holds_four_files_and_nothing_lies_beside(tmp_path):
    folder = save(tmp_path / "mine")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "training.json",
        "README.md",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000


def test_shapes_follow_from_the_config_for_every_form():
    for form in FORMS.values():
        head = make_head(**form)
        shapes = head_config(head, LABELS, ENCODER).shapes()
        assert shapes == {name: array.shape for name, array in head_arrays(head).items()}


def test_mixtures_are_those_of_heads_and_every_key_is_checked():
    assert heads.MIXTURES == MIXTURES
    assert set(heads._EXPECTED) == {field.name for field in dataclasses.fields(HeadConfig)}


def change_config(folder, **changes):
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": "gone"}, r"lacks labels"),
        ({"tempreature": 2}, r"does not know tempreature"),
        ({"kind": "encoder"}, r"is of no head .*--model"),
        ({"kind": "gone"}, r"is of no head"),
        ({"format": 2}, r"has format 2; this version of Strata reads 1"),
        ({"labels": ["joy", "anger"]}, r"labels \['joy', 'anger'\]; expected two or more names, sorted"),
        ({"labels": ["joy"]}, r"two or more"),
        ({"labels": ["a", "b", ""]}, r"two or more"),
        ({"layers": [1, 0]}, r"layers \[1, 0\]; expected layer numbers, ascending"),
        ({"layers": [True]}, r"expected layer numbers"),
        ({"pooling": "median"}, r"pooling 'median'; expected one of mean_std"),
        ({"pooling": "learned"}, r"attention False; a learned attention goes with"),
        ({"mixture": "stirred"}, r"mixture"),
        ({"temperature": 0}, r"temperature 0; expected a number above 0"),
        ({"temperature": float("nan")}, r"temperature nan"),
        ({"temperature": float("inf")}, r"temperature inf"),
        ({"threshold": 1.5}, r"threshold 1\.5; expected a number from 0 to 1"),
        ({"threshold": "0.5"}, r"threshold '0\.5'"),
        ({"sampling_rate": 16000.5}, r"sampling_rate 16000\.5; expected whole Hz"),
        ({"dim": 7}, r"has mean of shape \(3, 6\); expected \(3, 7\)"),
        ({"hidden": [4]}, r"lacks maps\.1\.weight"),
        ({"reference": None}, r"holds reference\.\w+, which no head has"),
        ({"reference": {"axes": 2, "rest": 1.0}}, r"lacks reference\.threshold"),
        ({"reference": {"axes": 2, "rest": 0.0, "threshold": 1.0}}, r"reference\.rest 0\.0; expected a number above 0"),
        ({"reference": {"axes": 3, "rest": 1.0, "threshold": 1.0}}, r"axes of shape \(18, 2\); expected \(18, 3\)"),
        ({"reference": 5}, r"reference 5"),
        ({"least_seconds": -1}, r"least_seconds"),
        ({"encoder_sha256": ""}, r"encoder_sha256"),
    ],
)  # fmt: skip
def test_a_config_that_is_not_a_heads_is_refused_with_its_reason(tmp_path, changes, said):
    folder = save(tmp_path / "mine")
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_head(folder)
    assert "mine" in str(caught.value)


def change_arrays(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: {k: v for k, v in arrays.items() if k != "scale"}, r"lacks scale"),
        (lambda arrays: arrays | {"extra": np.zeros(2, np.float32)}, r"holds extra, which no head has"),
        (lambda arrays: arrays | {"layer_weights": np.ones(2, np.float32)}, r"layer_weights of shape \(2,\); expected"),
        (lambda arrays: arrays | {"mean": arrays["mean"] * np.nan}, r"values in mean that are not finite"),
        (lambda arrays: arrays | {"mean": arrays["mean"].astype(np.float64)}, r"mean in float64; expected float32"),
        (lambda arrays: arrays | {"scale": arrays["scale"] * 0}, r"a scale that is not positive"),
        (lambda arrays: arrays | {"reference.deviations": arrays["reference.deviations"] * 0}, r"not positive"),
    ],
)
def test_arrays_that_are_not_the_configs_are_refused_with_their_reason(tmp_path, change, said):
    folder = save(tmp_path / "mine")
    change_arrays(folder, change)
    with pytest.raises(CheckpointError, match=said):
        load_head(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "training.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_a_missing_or_damaged_file_is_named(tmp_path, name, damage):
    folder = save(tmp_path / "mine")
    path = folder / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if damage == "cut" else b"\xff\x00garbage")
    with pytest.raises(CheckpointError, match=name):
        load_head(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_numbers_that_float32_cannot_hold_are_not_written(tmp_path, bad):
    head = make_head()
    arrays = head_arrays(head) | {"mean": head.mean * bad}
    with pytest.raises(CheckpointError, match="mean holds values"):
        save_head(tmp_path / "mine", head_config(head, LABELS, ENCODER), arrays, {})
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_could_not_be_read_again_is_not_written(tmp_path):
    head = make_head()
    config = dataclasses.replace(head_config(head, LABELS, ENCODER), temperature=float("nan"))
    with pytest.raises(CheckpointError, match="temperature"):
        save_head(tmp_path / "mine", config, head_arrays(head), {})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_head_as_it_was(tmp_path, monkeypatch):
    folder = save(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(heads, "head_card", lambda *arguments: 1 / 0)
    head = make_head(seed=1)
    with pytest.raises(ZeroDivisionError):
        save_head(folder, head_config(head, LABELS, ENCODER), head_arrays(head), {}, force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_disk_that_fails_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heads, "write_json", full)
    with pytest.raises(OutputError, match="No space left"):
        save(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_only_a_head_is_ever_replaced_and_only_by_force(tmp_path):
    folder = save(tmp_path / "mine")
    with pytest.raises(OutputError, match=r"already holds a head.*--force"):
        check_head_target(folder, force=False)
    check_head_target(folder, force=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    check_head_target(precious, force=False)  # empty: nothing is lost
    (precious / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"thesis\.tex and no head"):
            check_head_target(precious, force=force)
    head = make_head()
    with pytest.raises(OutputError):
        save_head(precious, head_config(head, LABELS, ENCODER), head_arrays(head), {}, force=True)
    assert (precious / "thesis.tex").read_text() == "years of work"
    with pytest.raises(OutputError, match="no folder"):
        check_head_target(precious / "thesis.tex", force=True)


# -------------------------------------------------------------------------------------------------------------- finding


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder of bundled checkpoints with an encoder and two heads, one of them damaged."""
    folder = tmp_path / "checkpoints"
    save_tiny(folder / "tiny", "wav2vec2")
    measured = save(folder / "emotion-a") / "training.json"
    facts = {"metrics": {"head": {"uar": {"value": 0.5}}}, "card": {"summary": "A head."}}
    measured.write_text(json.dumps(facts))
    save(folder / "emotion-b")
    (folder / "emotion-b" / "model.safetensors").write_bytes(b"gone")
    monkeypatch.setattr(find, "BUNDLED", folder)
    monkeypatch.setattr(heads, "BUNDLED", folder)
    return folder


def test_heads_and_encoders_are_listed_apart(bundle):
    assert bundled_names() == ["tiny"]
    first, second = list_heads()
    assert (first.name, first.where, first.path) == ("emotion-a", "bundled", bundle / "emotion-a")
    assert (first.labels, first.encoder, first.uar, first.note) == (LABELS, "tiny", 0.5, "A head.")
    assert second.uar is None
    assert "damaged" in second.note


def test_a_head_is_found_by_name_and_by_folder(bundle, tmp_path, monkeypatch):
    assert find_head("emotion-a").where == "bundled"
    assert find_head("").name == "emotion-a"
    own = save(tmp_path / "own head")
    assert find_head(str(own)).folder == own
    monkeypatch.chdir(tmp_path)
    assert find_head("own head").where == "folder"


@pytest.mark.parametrize("name", ["nothing", "no/such/folder", "tiny", "\0", "x" * 5000])
def test_what_is_no_head_is_said(bundle, name):
    with pytest.raises(CheckpointError, match=r"neither a bundled head nor a folder.* Bundled: emotion-a, emotion-b"):
        find_head(name)


def test_an_encoders_folder_is_no_head_and_a_heads_folder_no_encoder(bundle):
    with pytest.raises(CheckpointError, match="a folder without a head"):
        find_head(str(bundle / "tiny"))
    with pytest.raises(CheckpointError, match="of no head"):
        load_head(bundle / "tiny")
    from core.checkpoints.load import load_model

    found = find_model(str(bundle / "emotion-a"))
    with pytest.raises(CheckpointError, match="model_type None"):
        load_model(found.folder, found.name, from_user=True)


# ---------------------------------------------------------------------------------------------------------- its encoder


def test_an_encoder_is_known_by_what_it_computes(tmp_path):
    config = head_config(make_head(), LABELS, ENCODER)
    right = ENCODER.sha256, ENCODER.config_sha256
    check_encoder(config, "mine", "tiny", right)
    check_encoder(config, "mine", "a copy of it", right)
    with pytest.raises(CheckpointError, match=r"mine was trained on tiny.*weights ffffffffffff, not abababababab"):
        check_encoder(config, "mine", "tiny", ("f" * 64, right[1]))
    with pytest.raises(CheckpointError, match=r"settings ffffffffffff, not cdcdcdcdcdcd"):
        check_encoder(config, "mine", "tiny", (right[0], "f" * 64))
    with pytest.raises(
        CheckpointError, match=r"name other, not tiny; weights .*Use that encoder, or train a head on other"
    ):
        check_encoder(config, "mine", "other", ("f" * 64, right[1]))


def test_the_encoder_is_found_where_it_was_and_refused_when_it_changed(tmp_path, bundle):
    def config_of(folder, name, where=""):
        sha256, config_sha256 = checkpoint_hashes(folder, name, from_user=True)
        facts = dataclasses.replace(ENCODER, name=name, sha256=sha256, config_sha256=config_sha256, folder=where)
        return head_config(make_head(), LABELS, facts)

    own = tmp_path / "own"
    save_tiny(own, "wavlm")
    assert find_encoder(config_of(bundle / "tiny", "tiny"), "mine").where == "bundled"
    config = config_of(own, "own", str(own))
    assert find_encoder(config, "mine").folder == own
    with pytest.raises(CheckpointError, match="name tiny, not own"):
        find_encoder(config, "mine", "tiny")
    moved = own.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"The head mine needs the encoder own \(weights \w{12}\)"):
        find_encoder(config, "mine")
    assert find_encoder(config, "mine", str(moved)).folder == moved
    preprocessor = json.loads((moved / "preprocessor_config.json").read_text())
    preprocessor["do_normalize"] = not preprocessor["do_normalize"]
    (moved / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    with pytest.raises(CheckpointError, match="settings"):
        find_encoder(config, "mine", str(moved))


def test_the_card_is_written_again_from_the_folder_alone(tmp_path):
    folder = save(tmp_path / "mine")
    before = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    write_head_card(folder)
    assert (folder / "README.md").read_text() == before
