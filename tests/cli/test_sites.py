"""The verb ``sites``: what its parts ask of the tasks, what they print, and how they end."""

import json
from pathlib import Path

import numpy as np
import pytest

from core import tasks
from core.cli.main import main
from core.tasks.sites.requests import (
    Agreement,
    CompareFindings,
    CompareRequest,
    Recovery,
    SimilarityRequest,
    SiteSimilarity,
    SiteTrainRequest,
)
from core.training.pretrain_settings import PretrainResult
from core.training.site_presets import resolve, with_overrides


def similarity():
    names, eye, nothing = ("a", "b", "c"), np.eye(3), np.full((3, 3), np.nan)
    return SiteSimilarity(
        model="m", names=names, ids=(1, 2, 3), similarity=eye, untrained=eye, order=np.arange(3), nearest={},
        positions=nothing, flat=nothing[:, :2], regions=("",) * 3, kinds=("eeg",) * 3,
        distance=Agreement(0.5, 0.001, 3), untrained_distance=Agreement(0.0, 0.5, 3), signal=None,
        signal_distance=None, recoveries=(Recovery("hemisphere", 0.9, (0.4, 0.5, 0.6), 0.01, 3, ("left", "right")),),
        maps={}, files={"matrix": Path("m.csv")}, warnings=("Mind.",),
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the tasks were asked; each answers with something small."""
    seen = []
    answers = {
        "train_sites": PretrainResult(str(tmp_path), 7, False, {}, (), {"stopped": False}),
        "site_similarity": similarity(),
        "compare_sites": CompareFindings(
            "m", ("a", "b"), "a", 0.25, (0.1, 0.25), 0.0, 0.5, *([np.zeros((1, 1))] * 2), np.zeros(1), np.zeros(1)
        ),
    }

    def fake(name):
        def run(*given):
            seen.append(given)
            return answers[name]

        return run

    for name in answers:
        monkeypatch.setattr(tasks, name, fake(name))
    return seen, answers


def test_train_takes_recordings_preset_and_changes(asked, tmp_path, capsys):
    (tmp_path / "best").mkdir()
    line = "sites train --data a.edf b.edf --preset tiny --sites sites.tsv --montage standard_1005 --numpy_rate 128"
    line += " --set use_spatial_embedding=false --seed 3 --until 5 --resume"
    assert main([*line.split(), "--output", str(tmp_path)]) == 0
    ((request, _, run),) = asked[0]
    settings = with_overrides(resolve("tiny"), ["use_spatial_embedding=false", "seed=3"])
    data = (Path("a.edf"), Path("b.edf"))
    expected = SiteTrainRequest(data, tmp_path, settings, "sites.tsv", "standard_1005", 128.0, True, 5)
    assert (request, run) == (expected, None)
    assert capsys.readouterr().out == f"{tmp_path / 'best'}\n"


def test_train_has_the_requests_own_defaults_and_a_watched_run_goes_on(asked, tmp_path):
    line = ["sites", "train", "--data", "a.edf", "--output", str(tmp_path)]
    assert main(line) == 0 and main([*line, "--run", "runs/one"]) == 0
    (first, _, _), (second, _, run) = asked[0]
    assert first == SiteTrainRequest((Path("a.edf"),), tmp_path, resolve("tiny"))
    assert second.resume and run == Path("runs/one")


def test_a_training_that_was_stopped_says_how_to_go_on(asked, tmp_path, caplog):
    asked[1]["train_sites"].facts["stopped"] = True
    assert main(["sites", "train", "--data", "a.edf", "--output", str(tmp_path)]) == 143
    assert "Stopped after step 7; --resume goes on with it." in caplog.text


@pytest.mark.parametrize("inside", [("best", "last"), ("last",), ()])
def test_similarity_takes_a_run_or_a_checkpoint_and_prints_numbers(asked, tmp_path, capsys, caplog, inside):
    for name in inside:
        (tmp_path / name).mkdir()
    line = ["sites", "similarity", str(tmp_path), "--output", "out", "--permutations", "99", "--json", "--force"]
    assert main(line) == 0
    model = str(tmp_path.joinpath(*inside[:1]))
    assert asked[0][0][0] == SimilarityRequest(model, Path("out"), 99, force=True)
    said = json.loads(capsys.readouterr().out)
    wanted = {"n_sites": 3, "spearman_distance": 0.5, "p": 0.001, "spearman_untrained": 0.0, "spearman_signal": None,
              "left_right_accuracy": 0.9, "files": {"matrix": "m.csv"}}  # fmt: skip
    assert {key: said[key] for key in wanted} == wanted and "Mind." in caplog.text


def test_similarity_in_words(asked, capsys):
    assert main(["sites", "similarity", "bundled-name"]) == 0
    assert asked[0][0][0] == SimilarityRequest("bundled-name")
    said = capsys.readouterr().out.splitlines()
    assert {"n_sites: 3", "spearman_distance: 0.5", "spearman_signal: unknown", "left_right_accuracy: 0.9"} <= set(said)


def test_compare(asked, capsys):
    line = "sites compare m --input a.edf --sites 1,2 --source 3 --start_seconds 4 --output out --json"
    assert main(line.split()) == 0
    expected = CompareRequest("m", Path("a.edf"), ("1", "2"), "3", 4.0, output_dir=Path("out"))
    assert asked[0][0][0] == expected
    said = json.loads(capsys.readouterr().out)
    assert (said["mean_difference"], said["same_site"]) == (0.25, 0.0)
    assert main(["sites", "compare", "m", "--input", "a.edf", "--sites", "1,2"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "mean_difference: 0.25"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train --data a --output b --preset nope", "Found no settings 'nope'"),
        ("train --data a --output b --set spatial_learning_rat=1", "Did you mean spatial_learning_rate?"),
        ("train --data a --output b --seed -1", "got seed -1"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_sentence(asked, line, word, caplog):
    assert main(["sites", *line.split()]) == 2
    assert word in caplog.messages[-1] and len(caplog.messages) == 1 and not asked[0]


@pytest.mark.parametrize("sites", ["1", "1,2,3", "1,", ","])
def test_two_sites_are_compared_and_not_more(asked, sites, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sites", "compare", "m", "--input", "a", "--sites", sites])
    assert ended.value.code == 2 and "expected two sites" in capsys.readouterr().err
