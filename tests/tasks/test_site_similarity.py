"""The analysis of a trained model of sites, from its folder to the files."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from core.arrays import EmbedSettings
from core.embed.recordings import check_settings
from core.errors import CheckpointError, InputError, OutputError
from core.tasks.sites.requests import SimilarityRequest
from core.tasks.sites.similarity import site_similarity, summarise_sites
from tests.tasks.site_fakes import N_SITES, edit_json, planted, positions_of, site_input_of, write_arrays, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("sites") / "ring", site_input_of(), planted())


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "results"
    return site_similarity(SimilarityRequest(str(model), folder, permutations=499))


def changed(tmp_path, site_input=None, embeddings=None, **arrays):
    embeddings = planted() if embeddings is None else embeddings
    folder = write_model(tmp_path / "ring", site_input or site_input_of(), embeddings)
    write_arrays(folder, len(embeddings), embeddings.shape[1], **arrays)
    return site_similarity(SimilarityRequest(str(folder), permutations=99))


def test_the_matrix_is_that_of_the_table_without_row_0_and_spare_rows(found):
    rows = planted().astype(np.float16).astype(float)  # as checkpoints are saved
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert found.similarity.shape == (N_SITES, N_SITES)
    assert np.allclose(found.similarity, units @ units.T, atol=2e-3)
    assert found.ids == tuple(range(1, N_SITES + 1))


def test_geometry_is_found_and_the_untrained_table_has_none(found):
    pairs = np.triu_indices(N_SITES, 1)
    gaps = np.linalg.norm(positions_of()[:, None] - positions_of()[None], axis=2)[pairs]
    expected = stats.spearmanr(found.similarity[pairs], -gaps).statistic
    assert found.distance.spearman == pytest.approx(expected)
    assert found.distance.spearman > 0.8
    assert (found.distance.p, found.distance.n_pairs) == (1 / 500, 66)
    assert abs(found.untrained_distance.spearman) < 0.4
    assert found.signal_distance.spearman == pytest.approx(1.0)
    assert found.signal.spearman == pytest.approx(found.distance.spearman)


def test_sensors_at_one_place_are_permuted_as_one(tmp_path):
    """Six places of two sensors that share an embedding: what they share is no geometry."""
    site_input = site_input_of()
    positions = np.repeat(positions_of(6), 2, axis=0)
    sites = replace(site_input.sites, positions=positions)
    embeddings = np.repeat(np.random.default_rng(1).normal(size=(6, 8)), 2, axis=0)
    found = changed(tmp_path, replace(site_input, sites=sites), embeddings)
    pairs = np.triu_indices(6, 1)
    gaps = np.linalg.norm(positions_of(6)[:, None] - positions_of(6)[None], axis=2)[pairs]
    units = embeddings[::2] / np.linalg.norm(embeddings[::2], axis=1, keepdims=True)
    of_places = stats.spearmanr((units @ units.T)[pairs], -gaps).statistic
    assert found.distance.n_pairs == 66 - 6
    assert found.distance.spearman == pytest.approx(of_places, abs=0.05)
    assert found.distance.p > 0.05


def test_neighbours_on_the_ring_stand_side_by_side(found):
    gaps = np.abs(np.diff(found.order))
    assert np.isin(np.minimum(gaps, N_SITES - gaps), (1, 2)).mean() > 0.8
    assert all(others[0][1] >= others[1][1] for others in found.nearest.values())


def test_sides_and_regions_are_recovered(found):
    assert [(one.what, one.n) for one in found.recoveries] == [("hemisphere", 12), ("region", 12)]
    assert all(one.accuracy > one.shuffled[1] for one in found.recoveries)


def test_files_hold_what_was_found(found):
    names = set(found.files)
    assert {"similarity.csv", "order.csv", "nearest.csv", "sites.npz", "site_similarity.png", "summary"} <= names
    assert {"site_distance.svg", "site_map.png", "site_embedding.png"} <= names
    with found.files["similarity.csv"].open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(found.names)
    assert np.array_equal(np.array([row[1:] for row in rows[1:]], dtype=float), found.similarity)
    with np.load(found.files["sites.npz"], allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(found.names)
        assert np.array_equal(arrays["untrained"], found.untrained)
        assert {"pca2", "pca3", "tsne2", "order", "flat"} <= set(arrays)
    with found.files["order.csv"].open() as file:
        assert [row["site"] for row in csv.DictReader(file)] == [found.names[place] for place in found.order]
    summary = json.loads(found.files["summary"].read_text())
    assert summary["spearman_distance"] == found.distance.spearman
    assert summary["n_sites"] == N_SITES
    assert summary["p"] == found.distance.p


def test_results_are_not_replaced_unasked(model, found, monkeypatch):
    monkeypatch.setattr("core.tasks.sites.similarity.write_site_figures", lambda *_: {})  # they take seconds
    folder = found.files["summary"].parent
    with pytest.raises(OutputError, match="--force"):
        site_similarity(SimilarityRequest(str(model), folder, permutations=9))
    again = site_similarity(SimilarityRequest(str(model), folder, permutations=9, force=True))
    assert again.distance.p == 1 / 10


def test_sites_without_position_stay_in_the_matrix_and_out_of_distances(tmp_path):
    found = changed(tmp_path, site_input_of(unknown=(3,)))
    assert found.similarity.shape == (N_SITES, N_SITES)
    assert found.excluded == {"E4": "no position"}
    assert found.distance.n_pairs == 55
    assert found.signal.n_pairs == 66
    assert "1 of 12 sites have no position; distances leave them out." in found.warnings
    assert "E4" in found.nearest


def test_sites_of_no_training_grid_are_named_and_left_out(tmp_path):
    seen = np.full(N_SITES, 3)
    seen[[0, 5]] = 0
    found = changed(tmp_path, seen=seen)
    assert found.unseen == ("E1", "E6")
    assert found.excluded == {"E1": "in no training grid", "E6": "in no training grid"}
    assert found.distance.n_pairs == found.signal.n_pairs == 45


def test_no_position_at_all(tmp_path):
    found = changed(tmp_path, site_input_of(unknown=range(N_SITES)))
    assert found.distance is found.untrained_distance is found.signal_distance is None
    assert [one.what for one in found.recoveries] == ["region"]
    assert found.signal is not None
    assert summarise_sites(found)["spearman_distance"] is None
    json.dumps(summarise_sites(found), allow_nan=False)


def test_signals_that_are_unknown_for_some_or_all_pairs(tmp_path):
    signal = np.full((N_SITES, N_SITES), np.nan)
    assert changed(tmp_path / "none", signal_correlation=signal).signal is None
    signal[:6, :6] = np.corrcoef(np.random.default_rng(0).normal(size=(6, 9)))
    found = changed(tmp_path / "some", signal_correlation=signal)
    assert found.signal.n_pairs == 15
    assert found.signal_distance.n_pairs == 15


def test_one_site_is_nothing_to_compare(tmp_path):
    found = changed(tmp_path, site_input_of(1), planted(1))
    assert (found.distance, found.recoveries, found.similarity.tolist()) == (None, (), [[1.0]])
    assert "one site only" in found.warnings[0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "sites.npz").unlink(), "sites.npz cannot be read"),
        (lambda folder: (folder / "sites.npz").write_bytes(b"no zip"), "sites.npz cannot be read"),
        (lambda folder: write_arrays(folder, N_SITES - 1, 8), "does not fit 12 sites"),
        (lambda folder: np.savez(folder / "sites.npz", seen=np.zeros(12)), "untrained"),
        (lambda folder: np.savez(folder / "sites.npz", untrained=np.array([{}])), "cannot be read"),
        (lambda folder: edit_json(folder / "preprocessor_config.json", sites=3), "which sites the model knows"),
        (lambda folder: edit_json(folder / "config.json", grid_height=32), "has grids"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(damage, words, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "ring")
    damage(folder)
    with pytest.raises(CheckpointError, match=words):
        site_similarity(SimilarityRequest(str(folder)))


def test_models_that_know_no_sites_are_refused(tmp_path):
    folder = write_model(tmp_path / "deaf", site_input_of(), planted(), use_spatial_embedding=False)
    with pytest.raises(CheckpointError, match="without spatial embedding"):
        site_similarity(SimilarityRequest(str(folder)))
    with pytest.raises(CheckpointError, match="expected one of recording sites"):
        site_similarity(SimilarityRequest("wav2vec2-small-whisper"))


@pytest.mark.parametrize("change", [{"permutations": 0}, {"neighbours": 0}, {"seed": -1}])
def test_numbers_that_cannot_be_used(change):
    with pytest.raises(InputError, match=next(iter(change))):
        site_similarity(SimilarityRequest("anything", **change))


def test_a_model_of_sites_takes_no_recording_as_it_is():
    with pytest.raises(InputError, match="takes grids of several sites"):
        check_settings("grid", EmbedSettings())
