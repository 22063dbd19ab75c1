"""Names of models make safe and different file names."""

from dataclasses import replace

import pytest

from core.errors import InputError, OutputError
from core.figures.names import file_label, file_labels, make_folder
from tests.findings_fakes import make_findings


@pytest.mark.parametrize(
    "name, label",
    [
        ("facebook/wav2vec2-base", "facebook_wav2vec2-base"),
        ("facebook/wav2vec2-base (random weights)", "facebook_wav2vec2-base_random_weights"),
        ("../../etc/passwd", "etc_passwd"),
        ("C:\\models\\a b", "C_models_a_b"),
        ("модель", "model"),
        ("", "model"),
        ("a\0b\nc", "a_b_c"),
    ],
)
def test_labels_are_safe(name, label):
    assert file_label(name) == label


def test_long_names_keep_their_end_and_fit_a_file_name():
    label = file_label("x" * 300 + "/base")
    assert label.endswith("_base")
    assert len(label) <= 80


def test_names_that_would_share_a_file_are_numbered():
    findings = make_findings(n_models=2, n_layers=2, n=30)
    first, second = findings.models
    same = replace(findings, models=(replace(first, model="a/b"), replace(second, model="A_b")))
    assert file_labels(same) == {"a/b": "a_b", "A_b": "A_b_2"}


def test_two_models_of_one_name_are_refused():
    findings = make_findings(n_layers=2, n=30)
    with pytest.raises(InputError, match="two models named"):
        file_labels(replace(findings, models=findings.models * 2))


def test_a_folder_that_cannot_be_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        make_folder(tmp_path / "file" / "below")
