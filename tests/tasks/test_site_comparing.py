"""The same input under two sites, on a small model with planted embeddings."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import DataError, InputError
from core.tasks.sites import comparing
from core.tasks.sites.comparing import Companion, companions, compare_grids, compare_sites, token_means
from core.tasks.sites.loading import load_trained_sites
from core.tasks.sites.requests import CompareRequest
from tests.tasks.site_fakes import NoiseGrids, planted, site_input_of, write_model


@pytest.fixture(scope="module", params=[1, 4])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites") / f"ring{request.param}"
    return load_trained_sites(str(write_model(folder, site_input_of(sites_per_grid=request.param), planted())))


def asked(first, second, **changes):
    return CompareRequest("ring", Path("noise.fif"), (first, second), **changes)


def compared(trained, *sites, **changes):
    return compare_grids(trained, NoiseGrids(trained.site_input), asked(*sites, **changes))


def test_the_documents_difference(trained):
    """Its usage example, corrected: eval, no mask, and an id for the first sub-grid alone."""
    found, model = compared(trained, "E2", "E7"), trained.loaded.model
    ids = [[2, 1, 4, 8][: trained.site_input.patches.sites_per_grid]]
    others = [[7, *ids[0][1:]]]
    if len(ids[0]) == 4:
        ids, others = ([[site, 1, 5, 9]] for site in (2, 7))
    grid = torch.from_numpy(NoiseGrids(trained.site_input).grid(0, ids[0])[0])[None, None]
    with torch.no_grad():
        one, other = (model(grid, recording_site_ids=torch.tensor(i), features_only=True)["x"] for i in (ids, others))
    assert np.array_equal(found.grid, grid[0, 0])
    assert found.mean_difference == pytest.approx(float((one - other).abs().mean()), rel=1e-5)
    assert found.mean_difference > 0
    assert found.relative == pytest.approx(found.mean_difference / float(one.abs().mean()), rel=1e-5)
    assert found.map.mean() == pytest.approx(found.mean_difference)


def test_the_same_site_is_exactly_0(trained):
    found = compared(trained, "E2", "2")
    assert (found.sites, found.mean_difference, found.same_site) == (("E2", "E2"), 0.0, 0.0)
    assert found.by_layer == (0.0, 0.0, 0.0)
    assert not found.map.any()
    trained.loaded.model.train()  # dropout that someone left on is turned off
    assert compared(trained, "E2", "E7").same_site == 0.0


def test_sites_of_like_embeddings_change_less(trained):
    near, far = compared(trained, "E1", "E2"), compared(trained, "E1", "E7")
    assert near.mean_difference < far.mean_difference


def test_before_any_block_only_tokens_of_the_site_change(trained):
    grids = NoiseGrids(trained.site_input)
    per_grid = trained.site_input.patches.sites_per_grid
    ids = np.array([1, 4, 5, 6][:per_grid])
    grid = grids.grid(0, ids)[0]
    one, other = (comparing.layer_states(trained.loaded.model, grid, (site, *ids[1:]))[0] for site in (1, 2))
    changed = np.abs(one - other).max(axis=1).reshape(per_grid, -1)
    assert (changed[0] > 0).all()
    assert not changed[1:].any()


def test_tokens_have_frequencies_and_times(trained):
    found, patches = compared(trained, "E1", "E2", start_seconds=1.0), trained.site_input.patches
    assert found.map.shape == (len(found.frequencies), len(found.times)) == (4, 4)
    step = patches.hop_seconds * 4
    assert np.allclose(np.diff(found.times), step)
    assert found.times[0] == pytest.approx(1.0 + 1.5 * patches.hop_seconds)
    if patches.sites_per_grid == 1:
        width = (patches.h_freq - patches.l_freq) / 4
        assert np.allclose(found.frequencies, patches.l_freq + width * (np.arange(4) + 0.5))
    else:
        assert len(set(found.frequencies.tolist())) == 1


def test_the_signal_may_be_of_a_third_site(trained):
    found = compared(trained, "E1", "E2", source="E3")
    rows = trained.site_input.patches.rows_per_site
    assert found.source == "E3"
    assert np.array_equal(found.grid[:rows], NoiseGrids(trained.site_input).grid(0, [3])[0][:rows])


def test_other_sub_grids_hold_other_sites():
    assert companions(range(1, 13), (2, 7, 2), 3) == tuple(Companion(site, site) for site in (1, 5, 9))
    assert companions((1, 2), (1, 2, 1), 0) == ()
    with pytest.raises(DataError, match="does not hold site 3"):
        companions((1, 2), (1, 2, 3), 0)
    with pytest.raises(DataError, match="holds 4 sites at once; the recording has 3"):
        companions((1, 2, 3), (1, 2, 1), 3)


def test_a_grid_that_takes_all_sites_is_filled_with_the_other_one_unnamed(trained):
    """Every model of a recording with no more sites than a grid: it could not be asked at all."""
    assert companions((1, 2, 3, 4), (1, 3, 1), 3) == (Companion(2, 2), Companion(4, 4), Companion(3, 0))
    assert companions((1, 2), (1, 2, 2), 1) == (Companion(1, 0),)
    assert companions((1, 2, 3), (1, 1, 1), 2) == (Companion(2, 2), Companion(3, 3))
    if trained.site_input.patches.sites_per_grid == 4:
        grids = NoiseGrids(trained.site_input, sites=(1, 2, 3, 4))
        found = compare_grids(trained, grids, asked("E1", "E3"))
        rows = trained.site_input.patches.rows_per_site
        assert found.mean_difference > found.same_site == 0.0
        assert np.array_equal(found.grid[-rows:], grids.grid(0, [3])[0])
        assert "To fill the grid it also holds the signal of E3, said to be of no site." in found.warnings


@pytest.mark.parametrize("name", ["E99", "0", "13", "-1", ""])
def test_unknown_sites(trained, name):
    with pytest.raises(InputError, match="an id from 1 to 12"):
        compared(trained, "E1", name)


def test_an_unseen_site_is_said(trained):
    seen = trained.seen.copy()
    seen[4] = 0
    found = compare_grids(replace(trained, seen=seen), NoiseGrids(trained.site_input), asked("E1", "E5"))
    assert found.warnings[0] == "noise.fif: a warning of the recording."
    assert any("E5 stood in no training grid" in words for words in found.warnings)


def test_means_of_what_a_token_stands_for():
    assert token_means(np.arange(8.0), 4).tolist() == [0.5, 2.5, 4.5, 6.5]
    assert token_means(np.arange(5.0), 2).tolist() == [1.0, 3.5]


def test_files(trained, tmp_path, monkeypatch):
    grids = NoiseGrids(trained.site_input)
    monkeypatch.setattr(comparing, "open_grids", lambda *_: nullcontext(grids))
    request = replace(asked("E1", "E2", output_dir=tmp_path / "out"), model=str(trained.loaded.folder))
    found = compare_sites(request)
    assert {"comparison_E1_E2.npz", "site_comparison_E1_E2.png", "summary"} <= set(found.files)
    with np.load(found.files["comparison_E1_E2.npz"], allow_pickle=False) as arrays:
        assert np.array_equal(arrays["map"], found.map)


def test_a_recording_from_its_file(trained, tmp_path):
    """numpy with names: the row of E3 alone decides what is shown, whatever ids are compared."""
    rate, noise = 128.0, np.random.default_rng(0).normal(size=(12, 128 * 8))
    path = tmp_path / "noise.npy"
    np.save(path, noise)
    names = [f"E{number}" for number in range(1, 13)]
    (tmp_path / "noise.json").write_text(json.dumps({"names": names, "sampling_rate": rate}))
    request = CompareRequest(str(trained.loaded.folder), path, ("E1", "E2"), source="E3", start_seconds=2.0)
    found = compare_sites(request)
    assert found.mean_difference > 0
    assert found.same_site == 0
    assert found.times[0] == pytest.approx(2.0 + 1.5 * trained.site_input.patches.hop_seconds, abs=0.07)
    with pytest.raises(InputError, match="a grid"):
        compare_sites(replace(request, start_seconds=7.5))
