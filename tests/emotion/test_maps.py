"""Embeddings as points: planted groups are found, chance is what it is, and scikit-learn agrees."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, pairwise_distances, silhouette_score
from sklearn.preprocessing import StandardScaler

from core.emotion import maps as module
from core.emotion.maps import (
    DBSCAN_LEAST,
    FILES,
    MapSettings,
    dbscan_radius,
    embedding_map,
    standardised,
    write_embeddings,
)
from core.errors import DataError, InputError, OutputError
from core.scoring import Clip, LabelledCorpus

DIM = 12
QUICK = MapSettings(perplexity=8.0, umap=False)


def made(emotion=0.0, speaker=0.0, n_classes=3, n_speakers=4, each=5, seed=0):
    """Clips whose embeddings are noise of unit size, an emotion's place and a speaker's place."""
    generator = np.random.default_rng((seed, 14))
    clips = [
        Clip(Path(f"/voices/{who}{what}{take}.wav"), f"{who}{what}{take}", f"s{who}", "abcdefgh"[what], "")
        for who in range(n_speakers)
        for what in range(n_classes)
        for take in range(each)
    ]
    corpus = LabelledCorpus("made", "manifest", tuple(clips), {})
    who = np.unique(corpus.speakers, return_inverse=True)[1]
    values = generator.normal(size=(len(clips), DIM))
    values += emotion * generator.normal(size=(n_classes, DIM))[corpus.codes]
    values += speaker * generator.normal(size=(n_speakers, DIM))[who]
    return values.astype(np.float32), corpus


@pytest.fixture(scope="module")
def planted():
    """Emotions far apart, speakers nowhere."""
    values, corpus = made(emotion=12.0)
    return values, corpus, embedding_map(values, corpus, QUICK)


def score(found, method, k=None):
    return next(one for one in found.clusters if one.method == method and k in (None, one.settings.get("k")))


def test_planted_emotions_are_found_by_everything(planted):
    _, corpus, found = planted
    kmeans, dbscan = score(found, "k-means", 3), score(found, "DBSCAN")
    for one in (kmeans, dbscan):
        assert one.n_clusters == 3
        assert one.ari["emotion"] > 0.9
        assert abs(one.ari["speaker"]) < 0.1
    assert kmeans.ari["emotion"] == kmeans.nmi["emotion"] == 1.0
    assert kmeans.noise == 0.0
    assert found.silhouettes["emotion"] > 0.5 > 0.0 > found.silhouettes["speaker"]
    assert found.neighbour_shares["emotion"] == 1.0
    for points in found.maps.values():
        assert points.shape == (len(corpus.clips), 2)
        assert points.dtype == np.float32
        assert silhouette_score(points, corpus.codes) > 0.5


def test_planted_speakers_are_found_as_speakers():
    values, corpus = made(speaker=12.0)
    found = embedding_map(values, corpus, QUICK)
    best = score(found, "k-means", 4)
    assert best.ari["speaker"] == 1.0
    assert best.ari["emotion"] < 0.1
    assert found.neighbour_shares["speaker"] > 0.35  # four others of ten can be of the same emotion and speaker
    assert found.silhouettes["speaker"] > found.silhouettes["emotion"]


def test_where_nothing_is_planted_shares_are_chance():
    values, corpus = made(n_classes=2, n_speakers=3, each=40)
    found = embedding_map(values, corpus, QUICK)
    shares = found.neighbour_shares
    assert shares["emotion by chance"] == pytest.approx(119 / 239)
    assert shares["speaker by chance"] == pytest.approx(79 / 239)
    for kind in ("emotion", "speaker"):
        assert shares[kind] == pytest.approx(shares[f"{kind} by chance"], abs=0.05)
    for one in found.clusters:
        assert abs(one.ari["emotion"]) < 0.05
        assert abs(one.ari["speaker"]) < 0.05


def test_chance_counts_unlike_classes_as_they_are():
    values, corpus = made(n_classes=2, n_speakers=2, each=10)
    clips = tuple(clip for clip in corpus.clips if clip.label == "a" or clip.name.endswith("0"))
    rows = [number for number, clip in enumerate(corpus.clips) if clip in clips]
    found = embedding_map(values[rows], replace(corpus, clips=clips), QUICK)
    # 20 of one class, 2 of the other.
    assert found.neighbour_shares["emotion by chance"] == pytest.approx((20 * 19 + 2 * 1) / (22 * 21))


def test_matrices_and_scores_are_those_of_scikit_learn():
    values, corpus = made(emotion=1.0, speaker=1.0)
    values *= np.geomspace(1e-3, 1e3, DIM)  # dims of very unlike sizes
    found = embedding_map(values, corpus, QUICK)
    rows = StandardScaler().fit_transform(values.astype(np.float64))
    np.testing.assert_allclose(standardised(values), rows, atol=1e-9)
    np.testing.assert_allclose(found.euclidean, pairwise_distances(rows), atol=1e-5)
    np.testing.assert_allclose(found.cosine, 1 - pairwise_distances(rows, metric="cosine"), atol=1e-6)
    assert (np.diag(found.euclidean) == 0).all()
    np.testing.assert_array_equal(found.euclidean, found.euclidean.T)
    who = np.unique(corpus.speakers, return_inverse=True)[1]
    assert found.silhouettes["emotion"] == pytest.approx(silhouette_score(rows, corpus.codes), abs=1e-5)
    assert found.silhouettes["speaker"] == pytest.approx(silhouette_score(rows, who), abs=1e-5)
    groups = DBSCAN(eps=dbscan_radius(rows), min_samples=DBSCAN_LEAST).fit_predict(rows)
    dbscan = score(found, "DBSCAN")
    assert dbscan.noise == pytest.approx(np.mean(groups < 0))
    assert dbscan.ari["speaker"] == pytest.approx(adjusted_rand_score(who, groups))
    assert dbscan.nmi["emotion"] == pytest.approx(normalized_mutual_info_score(corpus.codes, groups))


def test_neighbours_are_the_most_alike_in_order(planted):
    _, corpus, found = planted
    assert len(found.neighbours) == len(corpus.clips)
    for clip, near in enumerate(found.neighbours):
        assert len(near) == 10
        assert clip not in [one.clip for one in near]
        cosines = [one.cosine for one in near]
        assert cosines == sorted(cosines, reverse=True)
        others = np.delete(found.cosine[clip], clip)
        assert cosines == pytest.approx(np.sort(others)[::-1][:10])


def test_the_radius_is_where_the_distances_bend():
    generator = np.random.default_rng(0)
    dense = generator.uniform(size=(200, 2))
    strays = 50 + 40 * generator.uniform(size=(10, 2))
    radius = dbscan_radius(np.concatenate([dense, strays]))
    assert 0.03 < radius < 5.0
    groups = DBSCAN(eps=radius, min_samples=DBSCAN_LEAST).fit_predict(np.concatenate([dense, strays]))
    assert (groups[200:] == -1).all()
    assert (groups[:200] >= 0).mean() > 0.95


def test_the_same_clips_give_the_same_map():
    values, corpus = made(emotion=1.0)
    one, other = (embedding_map(values, corpus, QUICK) for _ in range(2))
    for name, points in one.maps.items():
        np.testing.assert_array_equal(points, other.maps[name])
    assert repr(one.clusters) == repr(other.clusters)


def test_progress_ends_at_its_total():
    seen = []
    values, corpus = made(each=2)
    embedding_map(values, corpus, QUICK, seen.append)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert seen[-1].done == seen[-1].total


@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_few_clips_have_what_few_clips_can_have(n):
    values, corpus = made(n_classes=2, n_speakers=2, each=2)
    found = embedding_map(values[:n], replace(corpus, clips=corpus.clips[:n]), QUICK)
    assert found.maps["PCA"].shape == (n, 2)
    assert ("t-SNE" in found.maps) == (n >= 7)
    assert "t-SNE" in found.notes
    assert all(len(near) == min(10, n - 1) for near in found.neighbours)


def test_equal_clips_are_no_crash():
    values, corpus = made()
    found = embedding_map(np.ones_like(values), corpus, QUICK)
    assert all(np.isfinite(points).all() for points in found.maps.values())
    assert (found.euclidean == 0).all()
    assert np.isfinite(found.cosine).all()


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
def test_without_umap_there_is_a_note_and_no_map():
    values, corpus = made(each=2)
    found = embedding_map(values, corpus, replace(QUICK, umap=True))
    assert "UMAP" not in found.maps
    assert "pip install umap-learn" in found.notes["UMAP"]


@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_keeps_planted_groups_apart():
    values, corpus = made(emotion=12.0)
    found = embedding_map(values, corpus, replace(QUICK, umap=True))
    assert silhouette_score(found.maps["UMAP"], corpus.codes) > 0.5


def test_what_is_no_embedding_is_refused():
    values, corpus = made()
    broken = values.copy()
    broken[7, 3] = np.nan
    with pytest.raises(DataError, match=corpus.clips[7].name):
        embedding_map(broken, corpus, QUICK)
    with pytest.raises(InputError, match=r"shape \(59, 12\); expected \(60, dim\)"):
        embedding_map(values[1:], corpus, QUICK)
    with pytest.raises(InputError, match="Got 1 clips; a map takes 2 to"):
        embedding_map(values[:1], replace(corpus, clips=corpus.clips[:1]), QUICK)


# ---------------------------------------------------------------------------------------------------------------- files


def test_files_are_the_documents_and_load_without_pickle(tmp_path):
    values, corpus = made()
    files = write_embeddings(tmp_path / "embeddings_analysis", values, corpus)
    assert {name: path.name for name, path in files.items()} == FILES
    assert sorted(path.name for path in (tmp_path / "embeddings_analysis").iterdir()) == sorted(FILES.values())
    embeddings, labels, sources, speakers = (
        np.load(files[name], allow_pickle=False) for name in ("embeddings", "labels", "sources", "speakers")
    )
    np.testing.assert_array_equal(embeddings, values)
    assert (embeddings.dtype, labels.dtype) == (np.float32, np.int64)
    assert sources.tolist() == [clip.name for clip in corpus.clips]
    assert speakers.tolist() == corpus.speakers.tolist()
    names = json.loads(files["label_names"].read_text())["labels"]
    assert [names[number] for number in labels] == [clip.label for clip in corpus.clips]
    lines = files["clips"].read_text().splitlines()
    assert lines[0] == "row,name,file,start,stop,speaker,emotion,given,text"
    assert len(lines) == len(corpus.clips) + 1
    assert "/voices/000.wav" in lines[1]


def test_what_is_there_is_replaced_by_force_alone(tmp_path):
    values, corpus = made(each=1)
    write_embeddings(tmp_path, values, corpus)
    with pytest.raises(OutputError, match=r"already holds embeddings\.npy.*--force"):
        write_embeddings(tmp_path, values + 1, corpus)
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), values)
    write_embeddings(tmp_path, values + 1, corpus, force=True)
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), values + 1)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    values, corpus = made(each=1)
    with pytest.raises(OutputError, match="is a file"):
        write_embeddings(tmp_path / "file" / "below", values, corpus)


def test_more_clips_than_a_map_takes_can_be_written(tmp_path, monkeypatch):
    values, corpus = made()
    monkeypatch.setattr(module, "MOST_CLIPS", 10)
    with pytest.raises(InputError, match="a map takes 2 to 10"):
        embedding_map(values, corpus, QUICK)
    assert len(np.load(write_embeddings(tmp_path / "all", values, corpus)["labels"])) == 60


def test_names_that_no_encoding_takes_are_written(tmp_path):
    values, corpus = made(each=1)
    odd = replace(corpus.clips[0], source=Path("/v/\udcff.wav"), name="\udcff", speaker="=1+1")
    files = write_embeddings(tmp_path, values, replace(corpus, clips=(odd, *corpus.clips[1:])))
    assert np.load(files["sources"], allow_pickle=False)[0] == "\ufffd"
    assert "'=1+1" in files["clips"].read_text()
