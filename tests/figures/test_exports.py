"""What is exported reads back as it was, in the programs' own readers, whatever labels hold."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from core.embed.formats import json_bytes
from core.figures.exports import csv_text, projector_files, readable, tsv_text, write_exports
from core.figures.summary import summary
from core.findings import Points, RowTable
from tests.findings_fakes import make_analysis, make_findings, without_times

MODEL = "facebook_wav2vec2-base"
HOSTILE = ["a\tb", "c\nd", 'say "e", f', "=HYPERLINK(1)", "+g", "@h", "\u2028i", "k\0l", "", "\ud800m", "n" * 5_000]


def hostile(findings, points):
    """The same with labels and recordings that files could trip over."""
    found = findings.models[0]
    labels = {"phone": np.array([HOSTILE[i % len(HOSTILE)] for i in range(len(found.table))], dtype=object)}
    table = replace(found.table, labels=labels, recordings=("=a\tb\n.wav", "caf\udce9.wav", "c.wav"))
    changed = {name: Points(p.layers, p.values, table) for name, p in points.items()}
    return replace(findings, models=(replace(found, table=table),)), changed


@pytest.fixture(scope="module")
def analysis():
    return make_analysis(n_models=2, control=True, n_layers=5, n=120)


@pytest.fixture(scope="module")
def files(analysis, tmp_path_factory):
    return write_exports(*analysis, tmp_path_factory.mktemp("exports"))


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_files_lie_under_their_names_and_nothing_else_is_left(files):
    folder = files["statistics.csv"].parent
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(files)
    assert all(path == folder / name for name, path in files.items())


def test_statistics_come_back_exactly(analysis, files):
    rows = read_csv(files["statistics.csv"])
    values = {(row["model"], int(row["layer"]), row["statistic"]): float(row["value"]) for row in rows}
    for found in analysis[0].models:
        for layer in found.statistics:
            assert values[found.model, layer.index, "std"] == layer.std
            assert values[found.model, layer.index, "n"] == layer.n
            assert values[found.model, layer.index, "variance_quantile_0.05"] == layer.variance_quantiles["0.05"]
    arrays = np.load(files[f"statistics_{MODEL}.npz"], allow_pickle=False)
    found = analysis[0].models[0]
    np.testing.assert_array_equal(arrays["variances"], [layer.variances for layer in found.statistics])
    np.testing.assert_array_equal(arrays["explained"], [layer.explained for layer in found.projections])
    dims = [float(row["variance"]) for row in read_csv(files["variances.csv"])]
    np.testing.assert_array_equal(dims, [v for m in analysis[0].models for s in m.statistics for v in s.variances])


def test_similarity_comes_back_exactly(analysis, files):
    with files[f"similarity_{MODEL}.csv"].open(newline="") as file:
        header, *rows = csv.reader(file)
    similarity = analysis[0].models[0].similarity
    assert header == ["layer", "0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(np.array(rows, dtype=float)[:, 1:], similarity.matrix)
    arrays = np.load(files[f"similarity_{MODEL}_vs_{MODEL}-960h.npz"], allow_pickle=False)
    cross = analysis[0].cross
    for name in ("matrix", "low", "high", "noise_floor"):
        np.testing.assert_array_equal(arrays[name], getattr(cross, name))
    assert tuple(arrays["models"]) == cross.models


def test_curves_come_back_exactly(analysis, files):
    found = analysis[0].models[1]
    rows = [row for row in read_csv(files["curves.csv"]) if row["model"] == found.model]
    curve = next(curve for curve in found.curves if curve.name == "phone_accuracy")
    rows = [row for row in rows if row["property"] == "phone_accuracy"]
    for name, values in (("value", curve.values), ("low", curve.low), ("shuffled", curve.shuffled)):
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)
    assert {row["chance"] for row in rows} == {str(curve.chance)}
    arrays = np.load(files[f"curves_{MODEL}-960h.npz"], allow_pickle=False)
    np.testing.assert_array_equal(arrays["phone_accuracy_high"], curve.high)
    assert "mel_cca_shuffled" not in arrays


def test_points_come_back_exactly(analysis, files):
    found = analysis[0].models[0]
    arrays = np.load(files[f"points_{MODEL}.npz"], allow_pickle=False)
    assert all(array.dtype != object for array in arrays.values())
    np.testing.assert_array_equal(arrays["pca"], [layer.pca for layer in found.projections])
    np.testing.assert_array_equal(arrays["tsne_layer_4"], found.projections[4].tsne)
    np.testing.assert_array_equal(arrays["label_phone"], found.table.labels["phone"])
    np.testing.assert_array_equal(arrays["recordings"][arrays["recording"]][-1], found.table.recordings[-1])
    rows = read_csv(files[f"points_{MODEL}.csv"])
    np.testing.assert_array_equal([np.float32(row["layer_3_pca_2"]) for row in rows], found.projections[3].pca[:, 1])
    np.testing.assert_array_equal([float(row["start"]) for row in rows], found.table.start)


def test_the_parquet_has_plain_columns_and_the_places_that_are_drawn(analysis, files):
    found = analysis[0].models[0]
    table = parquet.read_table(files[f"atlas_{MODEL}.parquet"])
    types = {field.name: str(field.type) for field in table.schema}
    assert {name: types[name] for name in ("text", "recording", "phone", "word", "speaker")} == dict.fromkeys(
        ("text", "recording", "phone", "word", "speaker"), "string"
    )
    assert {types[f"projection_{letter}_layer_{layer}"] for letter in "xy" for layer in range(5)} == {"float"}
    assert types["start"] == types["stop"] == "double"
    np.testing.assert_array_equal(table["projection_y_layer_2"].to_numpy(), found.projections[2].tsne[:, 1])
    assert table["word"].null_count == int((found.table.labels["word"] == "").sum())
    assert table.schema.metadata[b"layer_2"] == b"tsne"


def test_without_tsne_the_parquet_has_the_principal_axes():
    from core.figures.exports import atlas_parquet

    found = make_findings(n_layers=2, n=40, with_tsne=False).models[0]
    table = parquet.read_table(io.BytesIO(atlas_parquet(found)))
    np.testing.assert_array_equal(table["projection_x_layer_1"].to_numpy(), found.projections[1].pca[:, 0])
    assert table.schema.metadata[b"layer_1"] == b"pca"


def test_the_projector_gets_as_many_labels_as_vectors(analysis, files):
    points = analysis[1]["facebook/wav2vec2-base"]
    vectors = np.loadtxt(files[f"projector/{MODEL}/layer_03_vectors.tsv"], delimiter="\t", dtype=np.float32)
    np.testing.assert_array_equal(vectors, points.values[3])
    header, *rows = files[f"projector/{MODEL}/metadata.tsv"].read_text().splitlines()
    assert header.split("\t") == ["recording", "start", "stop", "phone", "word", "speaker"]
    assert len(rows) == len(vectors)
    assert [row.split("\t")[3] for row in rows] == list(points.table.labels["phone"])
    config = files[f"projector/{MODEL}/projector_config.pbtxt"].read_text()
    assert config.count('tensor_path: "layer_0') == 5


def test_many_dims_go_to_the_projector_as_principal_axes_that_keep_distances():
    values = np.random.default_rng(0).normal(size=(1, 200, 3)) @ np.random.default_rng(1).normal(size=(3, 90))
    table = make_findings(n_layers=1, n=200).models[0].table
    made = dict(projector_files(Points((12,), values.astype(np.float32), table)))
    vectors = np.loadtxt(io.BytesIO(made["layer_12_vectors.tsv"]), delimiter="\t")
    assert vectors.shape == (200, 50)
    expected = np.linalg.norm(values[0, 0] - values[0, 1:], axis=1)
    np.testing.assert_allclose(np.linalg.norm(vectors[0] - vectors[1:], axis=1), expected, rtol=1e-4)


def test_at_most_five_thousand_points_go_to_the_projector():
    n = np.arange(6_000)
    table = RowTable(("a.wav",), np.zeros(6_000, dtype=np.int32), 0.02 * n, 0.02 * n + 0.025)
    made = dict(projector_files(Points((0,), np.arange(12_000, dtype=np.float32).reshape(1, 6_000, 2), table)))
    vectors = np.loadtxt(io.BytesIO(made["layer_00_vectors.tsv"]), delimiter="\t")
    rows = made["metadata.tsv"].decode().splitlines()[1:]
    assert len(vectors) == len(rows) == 5_000
    # The rows that were taken say their own places.
    starts = [float(row.split("\t")[1]) for row in rows]
    np.testing.assert_array_equal(starts, table.start[(vectors[:, 0] / 2).astype(int)])


def test_hostile_labels_break_no_file(tmp_path):
    findings, points = hostile(*make_analysis(n_layers=2, n=55))
    files = write_exports(findings, points, tmp_path)
    found = findings.models[0]
    # One row a point for the projector, with the same number of cells each.
    metadata = files[f"projector/{MODEL}/metadata.tsv"].read_text(encoding="utf-8")
    rows = metadata.rstrip("\n").split("\n")
    assert len(rows) == 56
    assert {row.count("\t") for row in rows} == {3}
    # A spreadsheet sees no formula; csv sees every row.
    cells = read_csv(files[f"points_{MODEL}.csv"])
    assert len(cells) == 55
    assert not [row for row in cells if row["phone"][:1] in ("=", "+", "-", "@") or row["recording"][:1] == "="]
    assert cells[2]["phone"] == 'say "e", f'
    # Arrays keep every character that Unicode has, and no label takes more than its room.
    arrays = np.load(files[f"points_{MODEL}.npz"], allow_pickle=False)
    assert arrays["label_phone"][0] == "a\tb"
    assert arrays["label_phone"].dtype == np.dtype("U256")
    assert len(parquet.read_table(files[f"atlas_{MODEL}.parquet"])) == len(found.table)


def test_texts():
    assert csv_text("aa") == "aa"
    assert [csv_text(text)[0] for text in ("=1", "+1", "-1", "@a", "\tb", "\rc")] == ["'"] * 6
    assert tsv_text("a\tb\r\nc\u2028d\x0be") == "a b c d e"
    assert readable("caf\udce9") == "caf�"
    assert len(readable("x" * 1_000)) == 256


def test_the_summary_has_the_keys_of_the_issue():
    findings = make_findings(n_layers=3, n=60)
    found = summary(findings)
    assert {"model", "n_frames", "n_recordings", "layers", "similarity"} <= set(found)
    assert (found["model"], found["n_frames"], found["n_recordings"]) == ("facebook/wav2vec2-base", 240, 3)
    wanted = {
        "index",
        "mean",
        "std",
        "variance_quantiles",
        "effective_rank",
        "explained_variance",
        "noise_floor",
    }
    model = findings.models[0]
    for layer, statistics, projection in zip(found["layers"], model.statistics, model.projections, strict=True):
        assert wanted <= set(layer)
        assert layer["std"] == statistics.std
        assert layer["explained_variance"] == list(projection.explained)
        assert layer["noise_floor"] == list(projection.noise_floor)
        assert len(layer["explained_variance"]) == len(layer["noise_floor"])
        assert set(layer["variance_quantiles"]) == {"0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"}
    assert {"kind", "matrix", "noise_floor", "low", "high", "n", "n_floor", "clusters"} <= set(found["similarity"])
    assert found["similarity"]["matrix"] == model.similarity.matrix.tolist()
    assert found["recordings"][1]["sha256"] == f"{1:064x}"
    assert [model["model"] for model in found["models"]] == [found["model"]]


def test_the_summary_sets_models_and_controls_side_by_side(analysis):
    found = summary(analysis[0])
    assert [model["model"] for model in found["models"]] == [model.model for model in analysis[0].models]
    assert found["models"][1]["fine_tuned"] is True
    assert found["cross"]["matrix"] == analysis[0].cross.matrix.tolist()
    assert {"aspect", "first", "second", "verdict"} == set(found["comparison"][0])
    assert found["settings"]["span"] == "frame"


def test_what_is_not_a_number_is_null_in_strict_json():
    findings, _ = make_analysis(n_layers=2, n=40)
    model = findings.models[0]
    broken = replace(model.statistics[0], anisotropy=float("nan"), effective_rank=float("inf"))
    model = replace(model, statistics=(broken, model.statistics[1]))
    found = strict(json_bytes(summary(replace(findings, models=(model,)))).decode())
    assert found["layers"][0]["anisotropy"] is None
    assert found["layers"][0]["effective_rank"] is None


def test_times_that_are_not_known_stay_empty(tmp_path):
    findings, points = make_analysis(n_layers=2, n=40)
    findings = without_times(findings)
    table = findings.models[0].table
    points = {name: Points(one.layers, one.values, table) for name, one in points.items()}
    files = write_exports(findings, points, tmp_path)
    assert {row["start"] for row in read_csv(files[f"points_{MODEL}.csv"])} == {""}
    atlas = parquet.read_table(files[f"atlas_{MODEL}.parquet"])
    assert atlas["start"].null_count == len(atlas)
    assert atlas["text"][0].as_py().endswith(" · speaker00_take1.wav")
    header, first, *_ = files[f"projector/{MODEL}/metadata.tsv"].read_text().splitlines()
    assert first.split("\t")[header.split("\t").index("start")] == ""
    assert np.isnan(np.load(files[f"points_{MODEL}.npz"])["start"]).all()
    found = strict(json_bytes(summary(findings)))
    assert {one["seconds"] for one in found["recordings"]} == {None}


def test_writing_again_replaces_files_whole(tmp_path):
    findings, points = make_analysis(n_layers=2, n=40)
    first = {name: path.read_bytes() for name, path in write_exports(findings, points, tmp_path).items()}
    again = {name: path.read_bytes() for name, path in write_exports(findings, points, tmp_path).items()}
    assert first == again
