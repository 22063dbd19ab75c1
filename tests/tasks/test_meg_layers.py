"""The layerwise analysis of a Meg2Vec: annotations as labels, band powers as properties, controls, mismatches."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core import tasks
from core.arrays import EmbedSettings
from core.cli.main import main
from core.errors import DataError, InputError
from core.findings import LayersSettings
from tests.meg_models import save_meg_model, write_meg
from tests.tiny_models import save_tiny

FLAGS = ["--engine", "torch", "--precision", "fp32", "--device", "cpu"]
QUICK = LayersSettings(perplexity=9, max_points=200, tsne=False, control=True)
MARKS = [(1.0, 3.0, "face"), (5.0, 0.0, "house"), (9.0, 2.0, "face"), (11.0, 3.0, "house")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_meg_model(tmp_path_factory.mktemp("models") / "tiny-meg")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for seed, seconds in enumerate((15.0, 14.5, 16.0)):
        write_meg(folder / f"s{seed}_raw.fif", seconds, seed, MARKS)
    return folder


def request(model, recordings, features, settings=QUICK, **changes):
    embed = EmbedSettings(str(model), engine="torch", precision="fp32", device="cpu")
    return replace(tasks.LayersRequest((recordings,), embed, settings, features), **changes)


@pytest.fixture(scope="module")
def analysed(model, recordings, tmp_path_factory):
    features = tmp_path_factory.mktemp("features")
    return tasks.analyse_layers(request(model, recordings, features)), features


def expected_labels(centres):
    """By hand: an event without a duration lasts until the next annotation."""
    return np.select(
        [(centres >= 1) & (centres < 4), (centres >= 5) & (centres < 9), (centres >= 9) & (centres < 11),
         (centres >= 11) & (centres < 14)],
        ["face", "house", "face", "house"], "",
    )  # fmt: skip


def test_annotations_label_the_frames(analysed):
    table = analysed[0].findings.models[0].table
    assert table.recordings == ("s0_raw", "s1_raw", "s2_raw")
    np.testing.assert_allclose(table.stop - table.start, 60 / 250)  # the field of the document's stack
    np.testing.assert_array_equal(table.labels["label"], expected_labels((table.start + table.stop) / 2))


def test_layers_are_held_against_band_powers_and_labels_and_what_is_left_out_says_why(analysed):
    for found in analysed[0].findings.models:
        curves = {curve.name: curve for curve in found.curves}
        assert set(curves) == {"band_cca", "label_accuracy"}
        assert curves["label_accuracy"].n_classes == 2
        assert curves["band_cca"].title == "Band powers (CCA)"
        assert "mel_cca" not in found.skipped
        assert set(found.skipped) == {
            *("phone_cca", "word_cca", "phone_mi", "word_mi", "phone_accuracy", "speaker_accuracy"),
        }


def test_annotations_are_rows_too(model, recordings, analysed):
    settings = replace(QUICK, span="label", control=False, properties=False)
    (found,) = tasks.analyse_layers(request(model, recordings, analysed[1], settings)).findings.models
    assert found.table.labels["label"].tolist() == ["face", "house", "face", "house"] * 3
    np.testing.assert_allclose(found.table.start, [1, 5, 9, 11] * 3)
    np.testing.assert_allclose(found.table.stop, [4, 9, 11, 14] * 3)


def test_rows_of_annotations_need_some(model, analysed, tmp_path):
    bare = write_meg(tmp_path / "bare_raw.fif", 4.0)
    asked = request(model, bare, tmp_path / "features", replace(QUICK, span="label", control=False))
    with pytest.raises(DataError, match=r"bare_raw\.fif has no annotations; the span label needs them"):
        tasks.analyse_layers(asked)
    save_tiny(tmp_path / "speech", "wav2vec2")
    with pytest.raises(InputError, match="speech takes sound"):
        tasks.analyse_layers(replace(asked, embed=EmbedSettings(str(tmp_path / "speech"))))


def test_the_control_has_other_weights_and_the_same_rows(analysed):
    model, control = analysed[0].findings.models
    assert control.model == "tiny-meg (random weights)"
    assert control.n_frames == model.n_frames
    assert control.statistics[-1].std != model.statistics[-1].std


def test_features_of_an_earlier_run_keep_their_labels(model, analysed, tmp_path):
    features = analysed[1] / "tiny-meg"
    again = tasks.analyse_layers(request(model, None, features, replace(QUICK, control=False), inputs=()))
    (found,) = again.findings.models
    np.testing.assert_array_equal(found.table.labels["label"], analysed[0].findings.models[0].table.labels["label"])
    assert "band_cca" in {curve.name for curve in found.curves}


def test_two_models_have_to_take_the_same_recordings(model, recordings, tmp_path):
    save_tiny(tmp_path / "speech", "wav2vec2")
    both = request(model, recordings, tmp_path / "features", compare=str(tmp_path / "speech"))
    with pytest.raises(InputError, match=r"tiny-meg takes MEG .* and speech takes sound"):
        tasks.analyse_layers(both)


def test_two_meg_models_compare(model, recordings, analysed, tmp_path):
    second = save_meg_model(tmp_path / "other-meg", l_freq=2.0)
    settings = replace(QUICK, properties=False, control=False)
    both = tasks.analyse_layers(request(model, recordings, analysed[1], settings, compare=str(second)))
    assert both.findings.cross is not None
    assert both.findings.cross.matrix.shape == (4, 4)


def test_the_verb_writes_the_report(model, recordings, analysed, tmp_path, capsys, one_figure):
    words = ["layers", str(recordings), "--model", str(model), "--output", str(tmp_path / "out"), "--no-tsne", *FLAGS]
    assert main([*words, "--features-dir", str(analysed[1]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"][0]["model"] == "tiny-meg"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Band powers" in report
    assert "Log-mel" not in report
