"""The MEG verbs: what they ask of the tasks, what they print, and how they end."""

import json

import pytest

from core import tasks
from core.cli.main import main
from core.sensors import Preparation
from core.tasks.meg.requests import (
    PrepareRequest,
    PrepareSummary,
    PretrainRequest,
    PretrainResult,
    ProbeFindings,
    ProbeRequest,
    ProbeScore,
    SimulateRequest,
    Simulation,
)
from core.training.presets import resolve, with_overrides
from core.training.runs import Stopped


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the tasks were asked; each answers with something small."""
    seen = []
    counts = {"train": 3, "eval": 1}
    rows = ({"name": "a.fif", "channels": "names"}, {"name": "b.fif", "channels": "interpolated"})
    findings = ProbeFindings(
        "label", ("a", "b"), {"a": 2, "b": 2}, ("x", "y"), 2, 0.5, (ProbeScore("model", 1, 0.75, (0.5, 1.0)),), (),
        {"window_seconds": 2.0, "held_out": "whole recordings", "interval_over": "recordings", "n_drawn": 2,
         "gains": {}},
    )  # fmt: skip
    answers = {
        "simulate_meg": Simulation(tmp_path / "one.fif", {"left": 3}, {"seed": 0}),
        "prepare_meg": PrepareSummary(tmp_path / "P", counts, {"train": 6.0, "eval": 2.0}, rows, ("Mind.",)),
        "pretrain_meg": PretrainResult(str(tmp_path), 7, False, {}, ("Step 2: trouble.",), {"stopped": False}),
        "probe_meg": findings,
    }

    def fake(name):
        def task(*given):
            seen.append(given)
            return answers[name]

        return task

    for name in answers:
        monkeypatch.setattr(tasks, name, fake(name))
    return seen, answers


def test_simulate(asked, tmp_path, capsys):
    line = "simulate-meg --seconds 30 --seed 3 --subject 2 --sfreq 500 --force --json --output"
    assert main([*line.split(), str(tmp_path / "one.fif")]) == 0
    assert asked[0][0][0] == SimulateRequest(tmp_path / "one.fif", 30.0, 3, 2, 500.0, True)
    assert json.loads(capsys.readouterr().out)["labels"] == {"left": 3}


def test_prepare_defaults_are_the_requests_own(asked, tmp_path):
    assert main(["prepare", "--input-dir", "in", "--output-dir", str(tmp_path)]) == 0
    ((request, _),) = asked[0]
    assert (list(map(str, request.inputs)), request) == (["in"], PrepareRequest(request.inputs, tmp_path))


def test_the_documents_line_prepares_and_every_flag_arrives(asked, tmp_path, capsys, caplog):
    line = "prepare --input_dir in --file_pattern *.npy --segment_length 400 --split_ratio 0.8 --l_freq none"
    line += (
        " --h_freq 30 --sfreq 200 --layout ctf275 --fit-channels pad --bads keep --clip 5 --notch 60 --numpy-rate 1000"
    )
    line += " --gap-seconds 9 --seed 4 --workers 2 --force --split_by subject"
    assert main([*line.split(), "--output_dir", str(tmp_path)]) == 0
    ((request, _),) = asked[0]
    preparation = Preparation(200, None, 30.0, "60", "ctf275", "pad", "keep", 5.0)
    settings = (400, 0.8, preparation, 1000.0, 9.0, 4, 2, True, "subject")
    assert request == PrepareRequest(request.inputs, tmp_path, "*.npy", *settings)
    assert capsys.readouterr().out == f"{tmp_path / 'P'}\n"
    assert "Mind." in caplog.text and "channels of 2 recordings by: 1 names, 1 interpolated." in caplog.text


def test_prepare_without_recordings_is_one_sentence(asked, tmp_path, caplog):
    assert main(["prepare", "--output_dir", str(tmp_path)]) == 2
    assert caplog.messages[-1].startswith("Got no recording.") and not asked[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("simulate-meg --output x.fif --seconds -1", "got -1, expected seconds, a number from 0 on"),
        ("simulate-meg", "--output"),
        ("prepare --output_dir o --split-by person", "invalid choice: 'person'"),
        ("probe", "FILE"),
    ],
)
def test_flags_that_cannot_be_are_one_line(line, told, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ") and said.count("\n") == 1 and told in said
    assert said.endswith(f"See python -m core {line.split()[0]} --help.\n")


def test_pretrain_takes_preset_data_and_changes(asked, tmp_path, capsys, caplog):
    (tmp_path / "best").mkdir()
    line = "pretrain --config pretrain_tiny --data_dir data --set learning_rate=0.01 --max-steps 9 --until 5 --resume"
    assert main([*line.split(), "--output_dir", str(tmp_path)]) == 0
    ((request, _, run),) = asked[0]
    settings = with_overrides(resolve("tiny"), ["learning_rate=0.01", "max_steps=9", "numpy_data_dir=data"])
    assert (request, run) == (PretrainRequest(settings, tmp_path, True, 5), None)
    assert capsys.readouterr().out == f"{tmp_path / 'best'}\n"
    assert "trouble" not in caplog.text  # it was said when it came up


def test_a_training_that_was_stopped_says_how_to_go_on(asked, tmp_path, caplog, monkeypatch):
    asked[1]["pretrain_meg"].facts["stopped"] = True
    assert main(["pretrain", "--output_dir", str(tmp_path)]) == 143
    assert "Stopped after step 7; --resume goes on with it." in caplog.text

    def stopped(*_):
        raise Stopped

    monkeypatch.setattr(tasks, "pretrain_meg", stopped)
    assert main(["pretrain", "--run", str(tmp_path)]) == 143


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("--config nope.yaml", "Found no settings 'nope.yaml'"),
        ("--set learning_rat=1", "Did you mean learning_rate?"),
        ("--set seed=99999999999999999999999", "got seed"),
        ("--set max_steps", "expected key=value"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_sentence(asked, line, word, caplog):
    assert main(["pretrain", *line.split()]) == 2
    assert word in caplog.messages[-1] and len(caplog.messages) == 1 and not asked[0]


def test_probe(asked, capsys):
    line = "probe a.npy b.npy --model m --target subject --window_seconds 3 --layers 0,2 --controls riemann"
    assert main([*line.split(), *["--device", "cpu", "--seed", "5", "--numpy-rate", "250"]]) == 0
    ((request, _),) = asked[0]
    assert request == ProbeRequest("m", request.recordings, "subject", 3.0, "0,2", ("riemann",), "cpu", 5, 250.0)
    assert list(map(str, request.recordings)) == ["a.npy", "b.npy"]
    assert "model       0.750 [0.500, 1.000]  layer 1" in capsys.readouterr().out
