"""Analyse the layers of one model or two: from recordings to findings, and from findings to files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.bands import band_source, bands_within
from core.analysis.comparison import ComparisonRow, compare_models
from core.analysis.mel import MelSource, mel_source
from core.analysis.moments import CrossMoments, LayerMoments, spectrum
from core.analysis.projection import face_alike, layer_projection
from core.analysis.properties import properties
from core.analysis.rows import BLOCK_ROWS, FrameRows, SpanRows, paired, spread
from core.analysis.similarity import similarity_between, similarity_within
from core.analysis.statistics import layer_statistics
from core.analysis.sums import SimilaritySums
from core.analysis.tsne import TsneSettings, check_perplexity, tsne_sequence
from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.audio.signal import open_signal
from core.embed.recordings import AUDIO, is_unchanged, open_model_input, read_model_input
from core.errors import StrataError
from core.findings import (
    Curve,
    LayerProjection,
    LayersFindings,
    LayersSettings,
    ModelFindings,
    Points,
    Similarity,
)
from core.sensors import ModelInput
from core.tasks.embedding import package_versions
from core.tasks.features import FeatureRun
from core.tasks.layer_rows import LayersRequest, check_request, choose_rows, feature_runs

MEL_RATE = 16_000
"""Hz at which recordings are read for their log-mel energies, whatever a model takes, so that models compare."""

MODEL_FACTS = (
    *("architecture", "model_path", "model_source", "model_sha256", "model_config_sha256", "fine_tuned"),
    *("layer_names", "encoder_notes"),
    *("n_layers_total", "hidden_size", "clock", "sample_rate", "frame_stride", "chunk_seconds", "context_seconds"),
    *("device", "engine", "engine_reason", "precision", "precision_reason", "versions"),
)


@dataclass(frozen=True)
class LayersAnalysis:
    """What was found, and the values behind it.

    Attributes:
        findings: All numbers.
        points: By model: the rows that are drawn, with their values.
        comparison: Two models in words, as far as the numbers carry.
    """

    findings: LayersFindings
    points: Mapping[str, Points]
    comparison: tuple[ComparisonRow, ...] = ()


@dataclass
class Stopwatch:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began, 3)


def analyse_layers(request: LayersRequest, on_progress: OnProgress = ignore_progress) -> LayersAnalysis:
    """Compute features where they are missing, then everything that the settings ask for.

    Args:
        request: Recordings, models, settings, folder of the features.
        on_progress: Told of the recordings embedded, then of each stage of the analysis.

    Raises:
        StrataError: anything that is wrong with the recordings, a model, an alignment or a setting.
    """
    check_request(request)
    watch = Stopwatch()
    with watch("features"):
        runs = feature_runs(request, on_progress)
    rows = [choose_rows(run, request.settings) for run in runs]
    parts = [describe(*pair, request.settings, on_progress, watch) for pair in zip(runs, rows, strict=True)]
    cross = None
    if request.compare is not None:
        with watch("similarity of the two models"):
            cross = _compare(runs[:2], rows[:2], request.settings, on_progress)
    findings = LayersFindings(
        models=tuple(found for found, _ in parts),
        cross=cross,
        settings=request.settings,
        recordings=tuple(_recordings(runs[0])),
        failures=runs[0].failures,
        warnings=(*_warnings(runs), *_span_notes(rows[0])),
        versions=package_versions(),
        seconds=watch.seconds,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return LayersAnalysis(findings, {found.model: points for found, points in parts}, compare_models(findings))


# ------------------------------------------------------------------------------------------------------- one model


def describe(
    run: FeatureRun,
    rows: FrameRows | SpanRows,
    settings: LayersSettings,
    on_progress: OnProgress,
    watch: Stopwatch | None = None,
) -> tuple[ModelFindings, Points]:
    """Find out everything about one model from its features."""
    watch = watch or Stopwatch()
    chosen = spread(rows.counts(), settings.max_points)
    if settings.tsne:
        check_perplexity(settings.perplexity, len(chosen))
    with watch("statistics"):
        moments, sums = _accumulate(rows, settings, on_progress)
        cross = sums.cross
        spectra = [spectrum(cross.covariance(index)) for index in range(len(rows.layers))]
        statistics = layer_statistics(moments, [eigenvalues for eigenvalues, _ in spectra], cross.n, rows.layers)
    with watch("points"):
        points = _points(rows, chosen)
    with watch("similarity"):
        matrix, n = (None, None) if _points_suffice(rows, settings) else (sums.matrix(), cross.n)
        similarity = similarity_within(run.name, points, settings.similarity, matrix, n, settings.seed)
    with watch("projections"):
        projections = _projections(points, cross, spectra)
    if settings.tsne:
        with watch("t-SNE"):
            projections = _with_tsne(projections, points, settings, on_progress)
    curves: tuple[Curve, ...] = ()
    skipped: dict[str, str] = {}
    if settings.properties:
        with watch("properties"):
            modality = modality_of_run(run)
            curves, skipped = properties(
                points, _energies(run, modality), settings.seed, on_progress, settings.span, modality
            )
    facts = {key: run.files[0].metadata[key] for key in MODEL_FACTS if key in run.files[0].metadata}
    found = ModelFindings(
        model=run.name, control=run.is_control, fine_tuned=bool(facts.get("fine_tuned")), facts=facts,
        layers=rows.layers, dim=rows.dim, n_frames=rows.n_frames, n_rows=rows.n_rows, n_used=cross.n,
        statistics=statistics, similarity=similarity, projections=projections, table=points.table,
        curves=curves, skipped=skipped,
    )  # fmt: skip
    return found, points


def _accumulate(
    rows: FrameRows | SpanRows, settings: LayersSettings, on_progress: OnProgress
) -> tuple[LayerMoments, SimilaritySums]:
    """Go through all rows once: moments of all of them, products of the chosen ones."""
    moments = LayerMoments(rows.layers, rows.dim)
    pairs = () if _points_suffice(rows, settings) else None
    sums = SimilaritySums(settings.similarity, [rows.dim] * len(rows.layers), pairs, rows.counts())
    used = np.zeros(rows.n_rows, dtype=bool)
    used[spread(rows.counts(), settings.max_frames or rows.n_rows)] = True
    used &= sums.folds >= 0
    for numbers, values in rows.blocks():
        moments.add(values, numbers)
        kept = used[numbers]
        sums.add(list(values[:, kept]), numbers[kept])
        on_progress(Progress("statistics", int(numbers[-1]) + 1, rows.n_rows, "rows"))
    return moments, sums


def _points_suffice(rows: FrameRows | SpanRows, settings: LayersSettings) -> bool:
    """Whether the points in memory are the rows that similarities are wanted from: their interval gives them as well.

    PWCCA fits directions for each draw, on fewer rows than it is worth being computed from.
    """
    most = settings.max_frames or rows.n_rows
    return settings.similarity != "pwcca" and min(most, rows.n_rows) == min(settings.max_points, rows.n_rows)


def _points(rows: FrameRows | SpanRows, chosen: np.ndarray) -> Points:
    return Points(rows.layers, rows.take(chosen), rows.table(chosen))


def _projections(
    points: Points, cross: CrossMoments, spectra: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[LayerProjection, ...]:
    """Put the points on principal axes, layer by layer, each facing like the one before."""
    layers = zip(points.layers, points.values, spectra, strict=True)
    return face_alike(
        [
            layer_projection(layer, values, cross.mean(index), *spectrum_of_layer, cross.n)
            for index, (layer, values, spectrum_of_layer) in enumerate(layers)
        ]
    )


def _with_tsne(
    projections: Sequence[LayerProjection], points: Points, settings: LayersSettings, on_progress: OnProgress
) -> tuple[LayerProjection, ...]:
    """Add a map to each projection."""
    maps = tsne_sequence(points.values, TsneSettings(settings.perplexity, seed=settings.seed), on_progress)
    return tuple(
        replace(projection, tsne=made.points, tsne_note=made.note)
        for projection, made in zip(projections, maps, strict=True)
    )


# ------------------------------------------------------------------------------------------------------ two models


def _compare(
    runs: Sequence[FeatureRun], rows: Sequence[FrameRows | SpanRows], settings: LayersSettings, on_progress: OnProgress
) -> Similarity:
    """Layers of the first model against layers of the second, over rows that happen at the same time."""
    first, second = rows
    pairs = paired(first, second)
    counts = np.bincount(first.table(pairs.first).recording, minlength=len(first.recordings))
    chosen = spread(counts, settings.max_frames or len(pairs))
    n_first, n_second = len(first.layers), len(second.layers)
    wanted = [(a, n_first + b) for a in range(n_first) for b in range(n_second)]
    sums = SimilaritySums(settings.similarity, [first.dim] * n_first + [second.dim] * n_second, wanted, counts)
    for begin in range(0, len(chosen), BLOCK_ROWS):
        part = chosen[begin : begin + BLOCK_ROWS]
        kept = part[sums.folds[part] >= 0]
        sums.add([*first.take(pairs.first[kept]), *second.take(pairs.second[kept])], kept)
        on_progress(Progress("compare", begin + len(part), len(chosen), "rows"))
    sample = spread(counts, settings.max_points)
    points = _points(first, pairs.first[sample]), _points(second, pairs.second[sample])
    matrix = sums.matrix(range(n_first), range(n_first, n_first + n_second))
    names = runs[0].name, runs[1].name
    return similarity_between(names, points, settings.similarity, matrix, sums.cross.n, settings.seed)


# -------------------------------------------------------------------------------------------------- facts and warnings


def modality_of_run(run: FeatureRun) -> str:
    """What the features are of: ``audio`` or ``meg``."""
    return str(run.files[0].metadata.get("modality", AUDIO))


def _energies(run: FeatureRun, modality: str) -> MelSource | None:
    """Log-mel energies, or band powers, of the recordings; None where one of them is no longer there as it was."""
    places = {file.name: item for item, file in zip(run.items, run.files, strict=True)}
    if not all(is_unchanged(places[file.name].source, file.recording_hash) for file in run.files):
        return None
    if modality == AUDIO:
        return mel_source(lambda name: open_signal(places[name].source, MEL_RATE, places[name].channel))
    wanted = _model_input(run)
    if wanted is None:
        return None
    rates = {file.name: file.metadata.get("numpy_rate") for file in run.files}
    bands = bands_within(wanted.preparation.l_freq, wanted.preparation.h_freq, wanted.preparation.sampling_rate)
    return band_source(
        lambda name: open_model_input(places[name].source, wanted, EmbedSettings(numpy_rate=rates[name])), bands
    )


def _model_input(run: FeatureRun) -> ModelInput | None:
    """How the run's model has its recordings prepared; None where its folder is gone."""
    folder = run.source.found.folder if run.source else Path(str(run.files[0].metadata.get("model_path", "")))
    try:
        return read_model_input(folder)
    except StrataError:
        return None


def _recordings(run: FeatureRun) -> Iterator[dict[str, Any]]:
    for item, file in zip(run.items, run.files, strict=True):
        facts = {"name": file.name, "path": str(item.source), "sha256": file.recording_hash}
        yield facts | {"seconds": file.duration_seconds, "frames": file.n_frames, "features": str(file.path)}


def _warnings(runs: Sequence[FeatureRun]) -> Iterator[str]:
    """What the reader should know; each sentence once."""
    yield from runs[0].notes
    for run in runs:
        ways = {(file.metadata.get("engine"), file.metadata.get("precision")) for file in run.files}
        if len(ways) > 1:
            named = ", ".join(sorted(f"{engine} {precision}" for engine, precision in ways))
            yield f"The features of {run.name} were computed in different ways: {named}."
        for file in run.files:
            yield from (f"{file.name}: {warning}" for warning in file.metadata.get("warnings", ()))
    if len(runs[0].files) < 2:
        yield "There is one recording: no interval can be drawn over recordings."


def _span_notes(rows: FrameRows | SpanRows) -> Iterator[str]:
    """What the reader should know of phones and words that are shorter than frames."""
    if not isinstance(rows, SpanRows):
        return
    if rows.n_nearest:
        where = "middle third" if rows.span == "phone" else "span"
        yield (
            f"{rows.n_nearest} of {rows.n_rows} {rows.span}s are too short to hold a frame's centre in their {where}; "
            "each is the frame nearest to its middle."
        )
    if rows.n_repeated:
        yield f"{rows.n_repeated} {rows.span}s have the very same frames as one before."
    if rows.n_empty:
        yield f"{rows.n_empty} {rows.span}s end where they begin and were left out."
