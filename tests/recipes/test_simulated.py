"""The recipes of the checkpoints on simulated MEG, from nothing to a folder, in small."""

import json
from functools import cache

from core import tasks
from core.checkpoints.load import load_model
from core.recipes import meg2vec_small, wav2vec2_2d_small

STEPS = ("max_steps=2", "warmup_steps=1", "eval_every=1", "checkpoint_every=1")


def contents(folder):
    training = json.loads((folder / "training.json").read_text())
    return training, (folder / "README.md").read_text()


def test_a_meg2vec_is_simulated_trained_probed_and_goes_on(tmp_path, monkeypatch):
    probe = cache(lambda model, recordings: real_probe(tasks.ProbeRequest(model, recordings)))
    real_probe = tasks.probe_meg
    monkeypatch.setattr(tasks, "probe_meg", lambda asked: probe(asked.model, asked.recordings))
    small = ("hidden_size=32", "num_hidden_layers=1", "conv_dim=[32,32,32,32]", "window_seconds=4")
    recipe = meg2vec_small.Recipe("tiny", (*STEPS, *small), (0, 1), (20, 21), 21.0, 70.0)
    work, output = tmp_path / "work", tmp_path / "checkpoints"
    folder = meg2vec_small.run(work, output, recipe)
    training, card = contents(folder)
    assert folder == output / "meg2vec-small-simulated"
    assert "# meg2vec-small-simulated\n\n**Trained on simulated recordings**" in card  # the card's first line
    assert "checkpoints/meg2vec-small-simulated" in card and meg2vec_small.RECIPE in card
    table = training["metrics"][-1]
    assert [row[0] for row in table["rows"]] == list(meg2vec_small.CONTROLS.values())
    assert "2 heads" in table["note"]
    assert load_model(folder, folder.name, from_user=True).model.config.in_channels == 306
    again, _ = contents(meg2vec_small.run(work, output, recipe))
    assert (again["updates"], again["cpu_seconds"]) == (2, training["cpu_seconds"])  # nothing was trained again
    assert len(again["metrics"]) == 2  # nor is a table there twice


def test_sites_are_simulated_trained_and_measured(tmp_path):
    small = ("grid_width=8", "sites_per_grid=4", "mask_columns=2", "eval_windows=2", "batch_size=2")
    recipe = wav2vec2_2d_small.Recipe("tiny", (*STEPS, *small), (20,), 30.0)
    folder = wav2vec2_2d_small.run(tmp_path / "work", tmp_path / "checkpoints", recipe)
    training, card = contents(folder)
    assert "# wav2vec2-2d-small-simulated\n\n**Trained on simulated recordings**" in card
    rows = training["metrics"][-1]["rows"]
    assert rows[0][0] == "learned similarity with minus the distance"
    assert any("hemisphere" in row[0] for row in rows)
    assert "102 sites" in training["metrics"][-1]["note"]
    assert load_model(folder, folder.name, from_user=True).model.config.num_recording_sites == 102
