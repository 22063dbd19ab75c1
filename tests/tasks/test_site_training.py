"""The task of training on sites: data and folder are checked first, and a run goes on as it was begun."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.arrays import ignore_progress
from core.errors import DataError, InputError
from core.tasks.pretrain_run import checkpoint_in, trained_checkpoint
from core.tasks.sites import training as task
from core.tasks.sites.requests import SimilarityRequest, SiteTrainRequest
from core.tasks.sites.similarity import site_similarity
from core.tasks.sites.training import read_site_settings, train_sites
from core.training.runs import Stopped
from tests.training.site_fakes import TINY_SITES, noise_sites

SHORT = replace(TINY_SITES, max_steps=4, eval_every=2, checkpoint_every=2)


@pytest.fixture
def data(monkeypatch):
    held = noise_sites()
    monkeypatch.setattr(task, "open_sites", lambda request, on_progress: held)
    return held


def asked(folder, **changes):
    fields = {key: changes.pop(key) for key in ("resume", "until", "data", "numpy_rate") if key in changes}
    return SiteTrainRequest(fields.pop("data", (Path("a.edf"),)), folder, replace(SHORT, **changes), **fields)


def test_a_run_leaves_what_it_says(data, tmp_path):
    told = []
    result = train_sites(asked(tmp_path), told.append)
    assert (result.done, result.step, result.folder) == (True, 4, str(tmp_path))
    names = {"state.pt", "metrics.jsonl", "sites.jsonl", "similarity.npz", "run.json", "best", "last"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert [(one.done, one.total, one.unit) for one in told] == [(n, 4, "steps") for n in (1, 2, 3, 4)]
    assert "4 of 8 sites at once" in result.facts["window"]
    assert trained_checkpoint(result) == checkpoint_in(tmp_path) == tmp_path / "best"


def test_a_run_is_neither_replaced_nor_gone_on_with_unasked_or_otherwise(data, tmp_path):
    train_sites(asked(tmp_path, until=2))
    with pytest.raises(InputError, match="another --output"):
        train_sites(asked(tmp_path))
    with pytest.raises(InputError, match=r"mask_columns was 2 and is now 1.*another --output"):
        train_sites(asked(tmp_path, resume=True, mask_columns=1))
    data.fingerprint = "other"
    with pytest.raises(InputError, match="other data"):
        train_sites(asked(tmp_path, resume=True))
    data.fingerprint = "fake"
    assert train_sites(asked(tmp_path, resume=True)).done


def test_a_watched_run_keeps_what_is_live_beside_the_checkpoints_and_goes_on_by_itself(data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"

    def press_stop(progress):
        if progress.done == 2:
            (run / "stop").touch()

    with pytest.raises(Stopped):
        train_sites(asked(out), press_stop, run)
    live = {"state.pt", "metrics.jsonl", "sites.jsonl", "similarity.npz", "progress.json", "run.json"}
    assert live <= {path.name for path in run.iterdir()}
    assert (out / "last" / "sites.npz").exists() and not (out / "state.pt").exists()
    assert train_sites(asked(out), run=run).done  # the same command again


def test_sites_without_a_training_grid_are_named(data, tmp_path, caplog):
    data.held = {"train": ((1, 2, 3, 4, 5),)}
    train_sites(asked(tmp_path, max_steps=2))
    assert "No training grid holds 3 sites: S6, S7, S8." in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_recording_sites": 5}, ("8 sites", "num_recording_sites=8")),
        ({"grid_width": 400}, ("400 columns", "grid_width")),
        ({"hidden_size": 15}, ("num_attention_heads 2", "hidden_size 15")),
        ({"spatial_embed_dropout": 1.5}, ("spatial_embed_dropout", "less than 1")),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_remedy_before_there_is_a_folder(data, tmp_path, changes, words):
    with pytest.raises(InputError) as caught:
        train_sites(asked(tmp_path / "out", **changes))
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "out").exists()


def test_files_of_several_channels_are_trained_on(tmp_path):
    """Through the readers: noise in eight channels, no positions."""
    values = np.random.default_rng(0).standard_normal((8, 128 * 30)).astype(np.float32)
    np.save(tmp_path / "noise.npy", values)
    settings = {"max_steps": 2, "gap_seconds": 1.0}
    result = train_sites(asked(tmp_path / "out", data=(tmp_path / "noise.npy",), numpy_rate=128.0, **settings))
    assert result.done
    sites = np.load(tmp_path / "out" / "last" / "sites.npz")
    off_diagonal = sites["signal_correlation"][np.triu_indices(8, 1)]
    assert sites["seen"].tolist() == [2] * 8 and np.abs(off_diagonal).max() < 0.1
    facts = json.loads((tmp_path / "out" / "last" / "training.json").read_text())
    assert facts["data"]["n_sites"] == 8


def test_the_real_eeg_is_trained_on_and_its_checkpoint_analysed(shared_data, tmp_path):
    """An epoch on 124 s of 64 electrodes; raw signals (.79) and untrained rows (0) are the file's own anchors."""
    path = shared_data("meg_small") / "eeg" / "test_edf_overlapping_annotations.edf"
    request = replace(asked(tmp_path, data=(path,), max_steps=2, batch_size=8), montage="standard_1005")
    result = train_sites(request)
    found = site_similarity(SimilarityRequest(str(trained_checkpoint(result)), permutations=99))
    assert len(found.names) == 64 and found.signal_distance.spearman == pytest.approx(0.79, abs=0.02)
    assert abs(found.untrained_distance.spearman) < 0.1 and found.distance.n_pairs == 64 * 63 // 2


@pytest.mark.parametrize(("shape", "word"), [((1, 4000), "one site"), ((8, 300), "s")])
def test_one_site_or_too_little_time_is_an_error_that_says_so(tmp_path, shape, word):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    request = asked(tmp_path / "out", data=(tmp_path / "noise.npy",), numpy_rate=128.0)
    with pytest.raises(DataError, match=word):
        train_sites(request, ignore_progress)
    assert not (tmp_path / "out").exists()


def test_settings_take_overrides():
    assert read_site_settings("tiny", ["max_steps=5"]).max_steps == 5
