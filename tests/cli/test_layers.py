"""The layers verb for real: a small network, made recordings, the files on disk, refusals with exit code 2."""

import json

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings
from core.cli.main import main
from core.findings import LayersSettings
from tests.tiny_models import save_tiny

QUICK = ["--engine", "torch", "--precision", "fp32", "--no-tsne", "--no-properties"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model and two recordings."""
    folder = tmp_path_factory.mktemp("layers")
    save_tiny(folder / "tiny", "wav2vec2")
    (folder / "in").mkdir()
    for index in range(2):
        samples = np.random.default_rng(index).standard_normal(32_000 + 8_000 * index) * 0.1
        soundfile.write(folder / "in" / f"r{index}.wav", samples, 16_000)
    return folder


@pytest.fixture
def line(place, tmp_path):
    return ["layers", str(place / "in"), "--output", str(tmp_path / "out"), "--model", str(place / "tiny"), *QUICK]


def test_the_verb_gives_what_the_task_gives(place, line, tmp_path, capsys):
    assert main([*line, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "summary.json").read_text())
    embed = EmbedSettings(str(place / "tiny"), engine="torch", precision="fp32")
    settings = LayersSettings(tsne=False, properties=False)
    analysis = tasks.analyse_layers(tasks.LayersRequest((place / "in",), embed, settings, tmp_path / "features"))
    np.testing.assert_array_equal(printed["similarity"]["matrix"], analysis.findings.models[0].similarity.matrix)


@pytest.mark.usefixtures("one_figure")
def test_it_prints_what_to_open(line, tmp_path, capsys):
    assert main(line) == 0
    printed = capsys.readouterr().out.split()
    assert printed[:2] == [str(tmp_path / "out" / name) for name in ("report.html", "summary.json")]


@pytest.mark.usefixtures("one_figure")
def test_underscores_and_the_documents_names(place, tmp_path):
    """The document's own line: --features_dir, --output_dir, --num_files, --model_name."""
    features = tmp_path / "features"
    first = ["layers", str(place / "in"), "--output", str(tmp_path / "1"), "--features_dir", str(features)]
    assert main([*first, "--model_name", str(place / "tiny"), *QUICK]) == 0
    words = ["layers", "--features_dir", str(features), "--output_dir", str(tmp_path / "2"), "--num_files", "1"]
    assert main([*words, "--model_name", "wav2vec2-base", *QUICK]) == 0
    summary = json.loads((tmp_path / "2" / "summary.json").read_text())
    assert summary["n_recordings"] == 1 and summary["n_frames"] == 99
    assert summary["model"] == "tiny"  # what the features say of themselves


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--span", "word"], "--alignments"),
        (["--layers", "0,99"], "99"),
        (["--compare", "no-such-model-here"], "no-such-model-here"),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(line, tmp_path, caplog, more, words):
    assert main([*line, *more]) == 2
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert words in said.getMessage() and "\n" not in said.getMessage() and not said.exc_info
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.usefixtures("one_figure")
def test_results_are_not_overwritten(line, caplog):
    assert main(line) == 0
    assert main(line) == 2
    assert "--force" in caplog.text
    assert main([*line, "--force"]) == 0


@pytest.mark.usefixtures("one_figure")
def test_a_bad_recording_is_reported_and_the_exit_code_says_so(place, line, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nothing")
    assert main(["layers", str(bad), *line[1:]]) == 2
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["n_recordings"] == 2 and len(summary["failures"]) == 1
