"""Everything that figures draw, as files for other programs: CSV, NPZ, parquet and TSV.

Numbers are written so that they read back exactly: float64 and float32 in their shortest exact form. Labels come from
users; where a program would take one for something else (a formula, a new row), it is changed, and the NPZ keeps it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.comparison import compare_models
from core.analysis.projection import evenly, principal_axes
from core.embed.writers import replace_file
from core.figures.names import file_labels, make_folder
from core.findings import Curve, LayersFindings, ModelFindings, Points, RowTable, Similarity

MOST_PROJECTED = 5_000
"""Points that the TensorBoard projector gets at most; its t-SNE and UMAP stay quick at that."""

PROJECTED_DIMS = 50
"""Principal axes that it gets: over 200 dims it draws a random projection of its own before anything else."""

MOST_LABEL = 256
"""Characters of a label at most: NumPy gives each row of a text array the room of the longest."""

Cell = str | int | float | np.generic | None


def write_exports(findings: LayersFindings, points_by_model: Mapping[str, Points], folder: Path) -> dict[str, Path]:
    """Write all numbers beside the figures; each file whole or not at all, in place of an earlier one.

    Args:
        findings: What was found.
        points_by_model: Values of the points, for the TensorBoard projector, by the models' names; layers and models
            that are not there are left out.
        folder: Where to; made if it is not there. ``projector/`` in it holds the TSV files.

    Returns:
        The path of each file, by its name below ``folder``.

    Raises:
        OutputError: The folder cannot be written to.
        InputError: Two models have the same name.
    """
    return {name: _write(folder / name, content) for name, content in _contents(findings, points_by_model)}


def _contents(findings: LayersFindings, points_by_model: Mapping[str, Points]) -> Iterator[tuple[str, bytes]]:
    """Make one file after the other, so that only one is in memory."""
    labels = file_labels(findings)
    yield from _tables(findings).items()
    for found in findings.models:
        yield from _model_files(found, labels[found.model])
    if findings.cross is not None:
        first, second = (labels[name] for name in findings.cross.models)
        yield from _similarity_files(findings.cross, f"{first}_vs_{second}")
    for name, points in points_by_model.items():
        for file, content in projector_files(points):
            yield f"projector/{labels[name]}/{file}", content


def _write(path: Path, content: bytes) -> Path:
    make_folder(path.parent)
    replace_file(path, content)
    return path


# Text


def readable(text: str) -> str:
    """Return text that every encoder takes: odd bytes of file names replaced, very long ones cut."""
    valid = re.sub("[\ud800-\udfff\0]", "\ufffd", str(text))
    return valid if len(valid) <= MOST_LABEL else valid[: MOST_LABEL - 1] + "…"


def csv_text(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula: an apostrophe before ``= + - @``, tab or return.

    >>> csv_text("=1+1")
    "'=1+1"
    """
    text = readable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def tsv_text(text: str) -> str:
    r"""Return text without the marks that end a cell or a row.

    >>> tsv_text("a\tb\nc")
    'a b c'
    """
    return " ".join(readable(text).replace("\t", " ").splitlines())


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Make a CSV file whose numbers read back exactly; see :func:`csv_text` for its texts."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([csv_text(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue().encode()


def _cell(value: Cell) -> str:
    """Write a number in its shortest exact form; what is missing stays empty."""
    if isinstance(value, str):
        return csv_text(value)
    return "" if value is None else str(value)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Pack arrays without pickling: text as NumPy's own unicode."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unicode_texts(values: Iterable[str]) -> np.ndarray:
    """Make an array of texts that needs no pickle; see :func:`readable`."""
    return np.array([readable(value) for value in values], dtype=np.str_)


# Tables of all models


def _tables(findings: LayersFindings) -> dict[str, bytes]:
    rows = [(row.aspect, row.first, row.second, row.verdict) for row in compare_models(findings)]
    tables = {
        "statistics.csv": csv_bytes(("model", "layer", "statistic", "value"), _statistics_rows(findings)),
        "variances.csv": csv_bytes(("model", "layer", "dim", "variance"), _variance_rows(findings)),
        "explained.csv": csv_bytes(("model", "layer", "axis", "explained", "noise_floor"), _explained_rows(findings)),
        "comparison.csv": csv_bytes(("aspect", "first", "second", "verdict"), rows),
    }
    if any(found.curves for found in findings.models):
        tables["curves.csv"] = csv_bytes(CURVE_COLUMNS, _curve_rows(findings))
    return tables


_SINGLE = ("n", "mean", "std", "anisotropy", "effective_rank", "participation_ratio", "n_used")


def _statistics_rows(findings: LayersFindings) -> Iterable[Sequence[Cell]]:
    for found in findings.models:
        for layer in found.statistics:
            for name in _SINGLE:
                yield found.model, layer.index, name, getattr(layer, name)
            for at, value in layer.variance_quantiles.items():
                yield found.model, layer.index, f"variance_quantile_{at}", value
            for dim in layer.outlier_dimensions:
                yield found.model, layer.index, "outlier_dimension", dim


def _variance_rows(findings: LayersFindings) -> Iterable[Sequence[Cell]]:
    for found in findings.models:
        for layer in found.statistics:
            for dim, variance in enumerate(layer.variances):
                yield found.model, layer.index, dim, variance


def _explained_rows(findings: LayersFindings) -> Iterable[Sequence[Cell]]:
    for found in findings.models:
        for layer in found.projections:
            for axis, shares in enumerate(zip(layer.explained, layer.noise_floor, strict=True), 1):
                yield found.model, layer.index, axis, *shares


CURVE_COLUMNS = (
    "model",
    "property",
    "layer",
    "value",
    "low",
    "high",
    "shuffled",
    "chance",
    "n",
    "n_classes",
    "split",
)


def _curve_rows(findings: LayersFindings) -> Iterable[Sequence[Cell]]:
    for found in findings.models:
        for curve in found.curves:
            ends = [[None] * len(curve.layers) if e is None else e for e in (curve.low, curve.high, curve.shuffled)]
            for layer, value, low, high, shuffled in zip(curve.layers, curve.values, *ends, strict=True):
                numbers = (layer, value, low, high, shuffled, curve.chance, curve.n, curve.n_classes)
                yield found.model, curve.name, *numbers, curve.split


# Files of one model


def _model_files(found: ModelFindings, label: str) -> Iterator[tuple[str, bytes]]:
    yield f"statistics_{label}.npz", npz_bytes(_statistics_arrays(found))
    yield from _similarity_files(found.similarity, label)
    yield f"points_{label}.npz", npz_bytes(_point_arrays(found))
    yield f"points_{label}.csv", _points_csv(found)
    yield f"atlas_{label}.parquet", atlas_parquet(found)
    if found.curves:
        yield f"curves_{label}.npz", npz_bytes(_curve_arrays(found.curves))


def _statistics_arrays(found: ModelFindings) -> dict[str, np.ndarray]:
    """One entry a layer each; shares of axes are (n_layers, n_axes), not a number where a layer has fewer axes."""
    arrays = {name: np.array([getattr(layer, name) for layer in found.statistics]) for name in _SINGLE}
    quantiles = [list(layer.variance_quantiles.values()) for layer in found.statistics]
    return {
        "layers": np.array(found.layers),
        **arrays,
        "variances": np.stack([layer.variances for layer in found.statistics]),
        "quantiles": np.array([float(at) for at in found.statistics[0].variance_quantiles]),
        "variance_quantiles": np.array(quantiles),
        "explained": _ragged([layer.explained for layer in found.projections]),
        "noise_floor": _ragged([layer.noise_floor for layer in found.projections]),
    }


def _ragged(rows: Sequence[np.ndarray]) -> np.ndarray:
    most = max(len(row) for row in rows)
    return np.stack([np.pad(row.astype(float), (0, most - len(row)), constant_values=np.nan) for row in rows])


def _similarity_files(similarity: Similarity, label: str) -> Iterator[tuple[str, bytes]]:
    rows = [(layer, *values) for layer, values in zip(similarity.rows, similarity.matrix, strict=True)]
    arrays = {
        "rows": np.array(similarity.rows),
        "columns": np.array(similarity.columns),
        "matrix": similarity.matrix,
        "n": np.array(similarity.n),
        "noise_floor": np.array(similarity.noise_floor),
        "n_floor": np.array(similarity.n_floor),
        "kind": np.array(similarity.kind),
        "models": unicode_texts(similarity.models),
    }
    ends = {"low": similarity.low, "high": similarity.high}
    arrays |= {name: end for name, end in ends.items() if end is not None}
    header = ["layer", *map(str, similarity.columns)]
    yield f"similarity_{label}.csv", csv_bytes(header, rows)
    yield f"similarity_{label}.npz", npz_bytes(arrays)


def _curve_arrays(curves: Sequence[Curve]) -> dict[str, np.ndarray]:
    """``<property>_layers``, ``_values``, and where there are such ``_low``, ``_high`` and ``_shuffled``."""
    parts = ("layers", "values", "low", "high", "shuffled")
    found = {f"{curve.name}_{part}": getattr(curve, part) for curve in curves for part in parts}
    return {name: np.asarray(values) for name, values in found.items() if values is not None}


def _point_arrays(found: ModelFindings) -> dict[str, np.ndarray]:
    table = found.table
    arrays = {
        "layers": np.array(found.layers),
        "pca": np.stack([layer.pca for layer in found.projections]),
        "recordings": unicode_texts(table.recordings),
        "recording": table.recording,
        "start": table.start,
        "stop": table.stop,
        "n_total": np.array(table.n_total),
        **{f"label_{kind}": unicode_texts(values) for kind, values in table.labels.items()},
    }
    tsne = {f"tsne_layer_{layer.index}": layer.tsne for layer in found.projections if layer.tsne is not None}
    return {**arrays, **tsne}


def _where(table: RowTable) -> dict[str, Sequence[Cell]]:
    """Columns that say where each point comes from; times that are not known are None."""
    return {
        "recording": [table.recordings[place] for place in table.recording],
        "start": _known(table.start),
        "stop": _known(table.stop),
        **{kind: [str(value) for value in values] for kind, values in table.labels.items()},
    }


def _known(times: np.ndarray) -> list[Cell]:
    return [time if np.isfinite(time) else None for time in times]


def _points_csv(found: ModelFindings) -> bytes:
    columns = _where(found.table)
    for layer in found.projections:
        drawn = [("pca", layer.pca), *([("tsne", layer.tsne)] if layer.tsne is not None else [])]
        for kind, places in drawn:
            for axis, values in enumerate(places.T, 1):
                columns[f"layer_{layer.index}_{kind}_{axis}"] = list(values)
    return csv_bytes(list(columns), zip(*columns.values(), strict=True))


# embedding-atlas


def atlas_parquet(found: ModelFindings) -> bytes:
    """Make a table that embedding-atlas opens, a row a point, plain columns only.

    ``embedding-atlas FILE.parquet --x projection_x_layer_6 --y projection_y_layer_6 --text text``; the places are those
    of the t-SNE, of the principal axes where a layer has none; the file's own metadata says which, layer by layer.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {"text": pa.array(_descriptions(found.table), pa.string())}
    for name, values in _where(found.table).items():
        is_text = name not in ("start", "stop")
        cells = [readable(str(value)) or None for value in values] if is_text else values
        columns[name] = pa.array(cells, pa.string() if is_text else pa.float64())
    metadata = {"model": readable(found.model), "rows_in_all": str(found.n_rows)}
    for layer in found.projections:
        places, kind = (layer.pca, "pca") if layer.tsne is None else (layer.tsne, "tsne")
        metadata[f"layer_{layer.index}"] = kind
        for letter, values in zip("xy", places.T, strict=False):
            columns[f"projection_{letter}_layer_{layer.index}"] = pa.array(values.astype(np.float32))
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()


def _descriptions(table: RowTable) -> list[str]:
    """Say of each point what it is: ``aa · two · S00 · 1.240 s in a.wav``, without the time where it is not known."""
    kinds = [[readable(value) for value in values] for values in table.labels.values()]
    places = zip(table.start, table.recording, strict=True)
    wheres = [
        (f"{start:.3f} s in " if np.isfinite(start) else "") + readable(table.recordings[place])
        for start, place in places
    ]
    named = zip(*kinds, strict=True) if kinds else [()] * len(wheres)
    return [" · ".join([*filter(None, names), where]) for names, where in zip(named, wheres, strict=True)]


# TensorBoard


def projector_files(points: Points) -> Iterator[tuple[str, bytes]]:
    """Make what the TensorBoard projector loads: vectors of each layer, one table of labels, a configuration.

    ``tensorboard --logdir FOLDER`` opens the folder; the projector's page takes the TSV files by *Load*. Vectors are
    the points on the first ``PROJECTED_DIMS`` principal axes, where there are more dims: distances are kept up to the
    variance that is left, and a layer takes some 2 MB.
    """
    rows = evenly(len(points.table), MOST_PROJECTED)
    digits = max(2, len(str(max(points.layers))))
    names = [f"layer_{layer:0{digits}d}_vectors.tsv" for layer in points.layers]
    for name, values in zip(names, points.values, strict=True):
        yield name, _vectors(values[rows])
    yield "metadata.tsv", _metadata(points.table.take(rows))
    yield "projector_config.pbtxt", _pbtxt(names)


def _vectors(values: np.ndarray) -> bytes:
    """Rows of numbers between tabs, without a header."""
    n, dim = values.shape
    if dim > PROJECTED_DIMS and n > 1:
        mean, axes, _ = principal_axes(values, min(PROJECTED_DIMS, n - 1))
        values = ((values - mean) @ axes).astype(np.float32)
    return "".join("\t".join(map(str, row)) + "\n" for row in values).encode()


def _metadata(table: RowTable) -> bytes:
    """Return a header and a row a point; there are always several columns, so that the projector expects the header."""
    columns = _where(table)
    rows = [columns, *zip(*columns.values(), strict=True)]
    return "".join(
        "\t".join(tsv_text("" if cell is None else str(cell)) for cell in row) + "\n" for row in rows
    ).encode()


def _pbtxt(files: Iterable[str]) -> bytes:
    blocks = [
        f'embeddings {{\n  tensor_name: "{name.removesuffix("_vectors.tsv")}"\n  tensor_path: "{name}"\n'
        f'  metadata_path: "metadata.tsv"\n}}\n'
        for name in files
    ]
    return "".join(blocks).encode()
