"""The layerwise analysis from recordings to files: numbers against numpy, caches, controls, bad input."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.errors import DataError, InputError, OutputError
from core.findings import LayersSettings
from core.tasks import features, layer_files
from tests.tiny_models import save_tiny

RATE = 16_000
QUICK = LayersSettings(perplexity=9, max_points=120, tsne=False, properties=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for family in ("wav2vec2-stable", "hubert", "encodec"):
        save_tiny(folder / family, family)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings of different lengths: coloured noise whose pitch wanders."""
    folder = tmp_path_factory.mktemp("recordings")
    for index, seconds in enumerate((2.0, 3.3, 1.4)):
        rng = np.random.default_rng(index)
        times = np.arange(round(seconds * RATE)) / RATE
        tone = np.sin(2 * np.pi * (200 + 100 * np.sin(2 * np.pi * times)).cumsum() / RATE)
        soundfile.write(folder / f"r{index}.wav", (0.2 * tone + 0.02 * rng.standard_normal(len(times))), RATE)
    return folder


def request(models, recordings, tmp_path, settings=QUICK, model="wav2vec2-stable", **changes):
    embed = EmbedSettings(model=str(models / model), engine="torch", precision="fp32")
    made = tasks.LayersRequest((recordings,), embed, settings, tmp_path / "features")
    return replace(made, **changes)


def all_frames(folder: Path) -> list[np.ndarray]:
    """Layers of all recordings in their order, by numpy alone."""
    archives = [np.load(path) for path in sorted(folder.rglob("*.npz"))]
    names = sorted(archives[0].files, key=lambda name: int(name.removeprefix("layer_")))
    return [np.concatenate([archive[name] for archive in archives]).astype(np.float64) for name in names]


def direct_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased CKA by the n x n formula (Song et al. 2012, equation 5)."""

    def hsic(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        rest = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ m.sum(0)) / (n - 2)
        return (np.trace(k @ m) + rest) / (n * (n - 3))

    x, y = x - x.mean(0), y - y.mean(0)
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.fixture(scope="module")
def analysed(models, recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysed")
    analysis = tasks.analyse_layers(request(models, recordings, folder))
    return analysis, all_frames(folder / "features"), folder


def test_the_numbers_are_numpys_on_the_real_frames(analysed):
    analysis, layers, _ = analysed
    (found,) = analysis.findings.models
    assert found.n_frames == found.n_rows == found.n_used == len(layers[0])
    assert found.layers == (0, 1, 2, 3)
    for statistics, values in zip(found.statistics, layers, strict=True):
        assert statistics.mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-7)
        assert statistics.std == pytest.approx(values.std(), rel=1e-6)
        np.testing.assert_allclose(statistics.variances, values.var(axis=0, ddof=1), rtol=1e-5)


def test_similarity_is_the_direct_formula(analysed):
    analysis, layers, _ = analysed
    matrix = analysis.findings.models[0].similarity.matrix
    direct = [[direct_cka(x, y) for y in layers] for x in layers]
    np.testing.assert_allclose(matrix, direct, atol=1e-6)


def test_axes_are_those_of_an_svd(analysed):
    analysis, layers, _ = analysed
    for projection, values in zip(analysis.findings.models[0].projections, layers, strict=True):
        singular = np.linalg.svd(values - values.mean(0), compute_uv=False)
        np.testing.assert_allclose(projection.explained[:3], (singular**2 / (singular**2).sum())[:3], rtol=1e-4)


def test_rows_know_their_recording_and_time(analysed):
    analysis, _, _ = analysed
    table = analysis.findings.models[0].table
    assert table.recordings == ("r0", "r1", "r2")
    assert set(table.recording.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(table.stop - table.start, 400 / RATE)


def test_a_second_look_loads_no_model(models, recordings, analysed, monkeypatch):
    analysis, _, folder = analysed
    monkeypatch.setattr(features, "ready_encoder", lambda *_: pytest.fail("the model was loaded again"))
    again = tasks.analyse_layers(request(models, recordings, folder))
    np.testing.assert_array_equal(
        again.findings.models[0].similarity.matrix, analysis.findings.models[0].similarity.matrix
    )


def test_features_of_an_earlier_run_need_no_recording(models, recordings, analysed, tmp_path):
    analysis, _, folder = analysed
    again = tasks.analyse_layers(request(models, recordings, folder, inputs=()))
    assert again.findings.models[0].model == analysis.findings.models[0].model
    assert again.findings.models[0].statistics[2].std == analysis.findings.models[0].statistics[2].std


def test_features_are_found_under_another_path_and_not_for_other_content(models, recordings, analysed, tmp_path):
    _, _, folder = analysed
    before = set((folder / "features").rglob("*.npz"))
    moved = tmp_path / "r0.wav"
    moved.write_bytes((recordings / "r0.wav").read_bytes())
    tasks.analyse_layers(request(models, moved, folder))
    assert set((folder / "features").rglob("*.npz")) == before
    soundfile.write(moved, 0.1 * np.random.default_rng(5).standard_normal(RATE), RATE)
    tasks.analyse_layers(request(models, moved, folder))
    assert len(set((folder / "features").rglob("*.npz")) - before) == 1


def test_the_control_has_other_weights_and_the_same_rows(models, recordings, tmp_path):
    analysis = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, control=True)))
    model, control = analysis.findings.models
    assert control.control and control.model == f"{model.model} (random weights)"
    assert control.n_frames == model.n_frames
    assert control.statistics[-1].std != model.statistics[-1].std
    other = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, control=True, seed=1)))
    assert other.findings.models[1].statistics[-1].std != control.statistics[-1].std


def test_two_models_of_different_frame_rates(models, recordings, tmp_path):
    analysis = tasks.analyse_layers(request(models, recordings, tmp_path, compare=str(models / "encodec")))
    cross = analysis.findings.cross
    assert cross.matrix.shape == (4, 6)
    assert cross.n <= min(found.n_frames for found in analysis.findings.models)
    assert np.isfinite(cross.matrix).all()
    assert analysis.comparison


def test_a_model_against_a_copy_of_itself_is_one_on_the_diagonal(models, recordings, tmp_path):
    import shutil

    shutil.copytree(models / "hubert", tmp_path / "copy")
    made = request(models, recordings, tmp_path, model="hubert", compare=str(tmp_path / "copy"))
    np.testing.assert_allclose(np.diag(tasks.analyse_layers(made).findings.cross.matrix), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "pwcca"])
def test_other_similarities(models, recordings, tmp_path, kind):
    analysis = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, similarity=kind)))
    similarity = analysis.findings.models[0].similarity
    assert similarity.kind == kind
    np.testing.assert_allclose(similarity.matrix, similarity.matrix.T, atol=1e-9)


def test_all_rows_where_the_points_are_fewer(models, recordings, analysed, tmp_path):
    """The accumulated sums of all rows give what the rows in memory give."""
    few = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, max_frames=None)))
    many = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, max_points=5_000)))
    similarities = [analysis.findings.models[0].similarity for analysis in (few, many)]
    assert similarities[0].n == similarities[1].n > 120
    np.testing.assert_allclose(similarities[0].matrix, similarities[1].matrix, atol=1e-7)


def test_a_sample_is_stated(models, recordings, tmp_path):
    analysis = tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, max_frames=150)))
    (found,) = analysis.findings.models
    assert found.n_used == 150 < found.n_rows == found.statistics[0].n
    assert found.statistics[0].n_used == 150
    assert len(found.table) == 120 and found.table.n_total == found.n_rows


# ---------------------------------------------------------------------------------------------------------- bad input


def test_one_bad_recording_does_not_cost_the_others(models, recordings, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in recordings.glob("*.wav"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.wav").write_bytes(b"not a recording")
    analysis = tasks.analyse_layers(request(models, folder, tmp_path))
    assert [Path(failure["file"]).name for failure in analysis.findings.failures] == ["broken.wav"]
    assert analysis.findings.models[0].table.recordings == ("r0", "r1", "r2")


def test_nothing_but_bad_recordings_is_an_error(models, tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(b"not a recording")
    with pytest.raises(DataError, match=r"broken\.wav"):
        tasks.analyse_layers(request(models, path, tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"span": "phone"}, "--alignments"),
        ({"span": "syllable"}, "frame, phone, word"),
        ({"similarity": "rsa"}, "cka, cosine, pwcca"),
        ({"perplexity": 0.0}, "30 or 9"),
        ({"layers": "0,nine"}, "0,6,12"),
        ({"layers": "0,9"}, "9"),
        ({"tsne": True, "perplexity": 200.0}, "perplexity"),
    ],
)
def test_settings_that_cannot_be_met(models, recordings, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        tasks.analyse_layers(request(models, recordings, tmp_path, replace(QUICK, **changes)))


def test_features_of_two_models_mixed(models, recordings, tmp_path):
    for model in ("wav2vec2-stable", "hubert"):
        output = OutputSettings(tmp_path / "mixed", model, ("npz", "json"))
        tasks.embed(recordings / "r0.wav", EmbedSettings(model=str(models / model), layers="all"), output)
    with pytest.raises(DataError, match="two models"):
        tasks.analyse_layers(request(models, recordings, tmp_path, inputs=(), features_dir=tmp_path / "mixed"))


def test_features_that_are_not_finite(models, recordings, analysed, tmp_path):
    values = np.zeros((50, 4), dtype=np.float32)
    values[7, 2] = np.nan
    np.savez(tmp_path / "bad.npz", layer_0=np.ones((50, 4), dtype=np.float32), layer_1=values)
    with pytest.raises(DataError, match=r"bad\.npz.*layer 1.*frame 7"):
        tasks.analyse_layers(request(models, recordings, tmp_path, inputs=(), features_dir=tmp_path))


def test_an_empty_features_folder(models, recordings, tmp_path):
    with pytest.raises(InputError, match="--features-dir"):
        tasks.analyse_layers(request(models, recordings, tmp_path, inputs=()))


def test_features_without_facts_are_analysed_to_the_end(tmp_path, monkeypatch):
    """The layerwise document's own files: layers alone, nothing beside them."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", **{f"layer_{n}": rng.normal(size=(60, 8)).astype("f") for n in range(13)})
    settings = replace(QUICK, tsne=True, properties=True)
    made = tasks.LayersRequest((), EmbedSettings(model="wav2vec2-base"), settings, tmp_path)
    analysis = tasks.analyse_layers(made)
    monkeypatch.setattr(layer_files, "write_figures", partial(layer_files.write_figures, formats=("svg",)))
    files = tasks.write_layers(analysis, tmp_path / "out")
    summary = json.loads(files["summary"].read_text())
    assert summary["model"] == "wav2vec2-base" and summary["n_frames"] == 120
    assert [layer["index"] for layer in summary["layers"]] == list(range(13))


def test_the_same_sound_under_two_names_counts_once(models, recordings, tmp_path):
    """Otherwise it would stand on both sides of a split, and every interval would be too narrow."""
    folder = tmp_path / "in"
    folder.mkdir()
    for copy in ("one.wav", "two.wav"):
        (folder / copy).write_bytes((recordings / "r0.wav").read_bytes())
    (folder / "three.wav").write_bytes((recordings / "r1.wav").read_bytes())
    analysis = tasks.analyse_layers(request(models, folder, tmp_path))
    assert analysis.findings.models[0].table.recordings == ("one", "three")
    assert any("two.wav" in warning and "once" in warning for warning in analysis.findings.warnings)


def test_features_remember_their_channel(models, tmp_path):
    """Log-mel energies of another channel than the features' would be those of another sound."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d", "e", "f"):
        loud = np.repeat(rng.normal(size=40) ** 2, 1_600)
        both = np.stack(
            [rng.normal(size=64_000) * loud[:64_000], rng.normal(size=64_000) * loud[:64_000][::-1]], axis=1
        )
        soundfile.write(tmp_path / f"{name}.wav", both * 0.05, RATE)
    names = "".join(f"{name}.wav,2\n" for name in "abcdef")
    (tmp_path / "list.csv").write_text("file,channel\n" + names)
    settings = replace(QUICK, properties=True)
    first = tasks.analyse_layers(request(models, tmp_path / "list.csv", tmp_path, settings))
    again = tasks.analyse_layers(request(models, tmp_path, tmp_path, settings, inputs=()))
    curves = [analysis.findings.models[0].curves[0] for analysis in (first, again)]
    assert curves[0].name == curves[1].name == "mel_cca"
    np.testing.assert_allclose(curves[0].values, curves[1].values, atol=1e-9)


def test_a_damaged_cache_is_made_again(models, recordings, tmp_path):
    first = tasks.analyse_layers(request(models, recordings, tmp_path))
    damaged = next((tmp_path / "features").rglob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:3_000])
    again = tasks.analyse_layers(request(models, recordings, tmp_path))
    np.testing.assert_array_equal(
        first.findings.models[0].similarity.matrix, again.findings.models[0].similarity.matrix
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": replace(QUICK, layers="0,9")},
        {"settings": replace(QUICK, similarity="cosine"), "compare": "encodec"},
        {"settings": replace(QUICK, seed=-1)},
        {"settings": replace(QUICK, max_frames=3)},
        {"settings": replace(QUICK, max_points=3)},
        {"compare": "wav2vec2-stable"},
    ],
)
def test_what_cannot_be_is_refused_before_a_model_runs(models, recordings, tmp_path, changes):
    if "compare" in changes:
        changes = changes | {"compare": str(models / changes["compare"])}
    with pytest.raises(InputError):
        tasks.analyse_layers(request(models, recordings, tmp_path, **changes))
    assert not (tmp_path / "features").exists()


# --------------------------------------------------------------------------------------------------------------- files


def test_everything_is_written_and_nothing_overwritten(models, recordings, tmp_path, monkeypatch):
    settings = replace(QUICK, tsne=True, properties=True, control=True)
    analysis = tasks.analyse_layers(request(models, recordings, tmp_path, settings))
    files = tasks.write_layers(analysis, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {"model", "n_frames", "n_recordings", "layers", "similarity"} <= set(summary)
    assert [layer["index"] for layer in summary["layers"]] == [0, 1, 2, 3]
    assert {"index", "mean", "std", "variance_quantiles", "effective_rank", "explained_variance", "noise_floor"} <= set(
        summary["layers"][0]
    )
    assert np.shape(summary["similarity"]["matrix"]) == (4, 4)
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    for name in (
        "feature_distributions",
        "layer_similarity",
        "pca_visualization",
        "tsne_visualization",
        "feature_variance",
    ):
        assert {f"{name}_wav2vec2-stable.png", f"{name}_wav2vec2-stable.svg"} <= names
    assert all(path.is_file() and path.stat().st_size for path in files.values())
    with pytest.raises(OutputError, match="--force"):
        tasks.write_layers(analysis, tmp_path / "out")
    own = tmp_path / "out" / "data" / "notes.csv"
    own.write_text("mine")
    quick = tasks.analyse_layers(request(models, recordings, tmp_path, QUICK))
    monkeypatch.setattr(layer_files, "write_figures", partial(layer_files.write_figures, formats=("svg",)))
    tasks.write_layers(quick, tmp_path / "out", force=True)
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert "notes.csv" in left and not any(name.startswith(("tsne_", "curves")) for name in left)


# -------------------------------------------------------------------------------------------------------------- spans


@pytest.fixture
def spoken(recordings, tmp_path):
    """Two recordings of one name in two folders, each with its own alignment, as an aligner leaves them."""
    for index, folder in enumerate(("s1", "s2")):
        for kind in ("in", "al"):
            (tmp_path / kind / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "u.wav").write_bytes((recordings / f"r{index}.wav").read_bytes())
        rows = "".join(f"{0.2 * n:.1f},{0.2 * n + 0.2:.1f},{folder}_{n % 3}\n" for n in range(9))
        (tmp_path / "al" / folder / "u.csv").write_text("start,stop,phone\n" + rows)
    return tmp_path


@pytest.mark.parametrize("again", [False, True])
def test_each_recording_has_its_own_alignment(models, spoken, again):
    settings = replace(QUICK, span="phone", alignments=spoken / "al", max_points=20)
    analysis = tasks.analyse_layers(request(models, spoken / "in", spoken, settings))
    if again:  # from the features alone
        analysis = tasks.analyse_layers(request(models, spoken / "in", spoken, settings, inputs=()))
    table = analysis.findings.models[0].table
    assert len(table) == 18
    assert all(
        name.startswith(f"s{number + 1}_") for number, name in zip(table.recording, table.labels["phone"], strict=True)
    )


def test_short_phones_are_counted(models, spoken):
    (spoken / "al" / "s1" / "u.csv").write_text("start,stop,phone\n0.1,0.105,a\n0.5,0.7,b\n0.8,0.8,c\n0.9,1.2,d\n")
    settings = replace(QUICK, span="phone", alignments=spoken / "al", max_points=20)
    warnings = tasks.analyse_layers(request(models, spoken / "in", spoken, settings)).findings.warnings
    assert any(warning.startswith("1 of 12 phones") for warning in warnings), warnings
    assert any("1 phones end where they begin" in warning for warning in warnings), warnings


def test_alignments_without_the_span_are_refused_before_a_model_runs(models, spoken):
    settings = replace(QUICK, span="word", alignments=spoken / "al")
    with pytest.raises(DataError, match=r"u\.csv holds phone"):
        tasks.analyse_layers(request(models, spoken / "in", spoken, settings))
    assert not (spoken / "features").exists()
