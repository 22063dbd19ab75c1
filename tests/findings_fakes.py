"""Findings that nobody measured: made values, with every number computed from them or drawn plausibly beside them.

The values of each layer are made (phones and speakers as centroids, turned a little from layer to layer); statistics,
CKA, principal axes and effective ranks are then computed from these values by their definitions, so that what a figure
shows agrees with itself. Intervals, noise floors of similarity, t-SNE and properties are plain inventions of plausible
size. No number here says anything about a real model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from core.findings import (
    Curve,
    LayerProjection,
    LayersFindings,
    LayersSettings,
    LayerStatistics,
    ModelFindings,
    Points,
    RowTable,
    Similarity,
)

PHONES = np.array(["aa", "iy", "uw", "s", "sh", "m", "t", "sil"])
WORDS = np.array(["one", "two", "see", "sue", "mass", "teem", "shoe", ""])
MODELS = ("facebook/wav2vec2-base", "facebook/wav2vec2-base-960h")
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
HOP_SECONDS = 0.02
SHOWN_EACH = 4
"""Every fourth frame is a point, so that the points are a sample and not everything."""


@dataclass(frozen=True)
class _Made:
    """What all models of one analysis share: sizes, where rows come from, and whether to invent the optional parts."""

    n_layers: int
    n: int
    dim: int
    with_tsne: bool
    with_curves: bool
    n_recordings: int
    table: RowTable
    phone: np.ndarray
    speaker: np.ndarray


def make_findings(
    n_models: int = 1,
    n_layers: int = 7,
    n: int = 300,
    dim: int = 16,
    with_tsne: bool = True,
    with_curves: bool = True,
    control: bool = False,
    n_recordings: int = 3,
    seed: int = 0,
) -> LayersFindings:
    """Make findings of one or two models (the second one fine-tuned), each with its control where asked for.

    Labels are ``phone``, ``word`` and ``speaker`` (one speaker a recording). With one recording there are no
    intervals and no speaker accuracy. ``n`` are the points; the recordings hold four times as many frames.
    """
    return make_analysis(n_models, n_layers, n, dim, with_tsne, with_curves, control, n_recordings, seed)[0]


def make_analysis(
    n_models: int = 1,
    n_layers: int = 7,
    n: int = 300,
    dim: int = 16,
    with_tsne: bool = True,
    with_curves: bool = True,
    control: bool = False,
    n_recordings: int = 3,
    seed: int = 0,
) -> tuple[LayersFindings, dict[str, Points]]:
    """Make the same findings as :func:`make_findings`, and beside them the values of the points by model name."""
    made = _Made(n_layers, n, dim, with_tsne, with_curves, n_recordings, *_rows(n, n_recordings, seed))
    names = [(name, False) for name in MODELS[:n_models]]
    names += [(f"{name} (random weights)", True) for name, _ in names if control]
    values = {name: _values(made, is_control, seed + place) for place, (name, is_control) in enumerate(names)}
    models = tuple(
        _model(made, name, is_control, values[name], seed + place) for place, (name, is_control) in enumerate(names)
    )
    cross = _similarity(made, tuple(MODELS), values[MODELS[0]], values[MODELS[1]], seed) if n_models == 2 else None
    findings = LayersFindings(
        models=models,
        cross=cross,
        settings=LayersSettings(control=control, tsne=with_tsne, properties=with_curves, max_points=n, seed=seed),
        recordings=tuple(_recording_facts(made, place) for place in range(n_recordings)),
        failures=({"file": "broken.wav", "error": "broken.wav holds no sound. Take it out of the list."},),
        warnings=(f"Showing {n:,} of {SHOWN_EACH * n:,} frames.",),
        versions={"strata": "0.1.0", "torch": "2.13.0", "numpy": np.__version__},
        seconds={"features": 12.5, "statistics": 0.8, "t-SNE": 3.1},
        created="2026-11-21T09:00:00Z",
    )
    points = {name: Points(tuple(range(n_layers)), made_values, made.table) for name, made_values in values.items()}
    return findings, points


def without_times(findings: LayersFindings) -> LayersFindings:
    """Take away what features of other programs do not tell: times, lengths, hashes."""
    nan = np.full(len(findings.models[0].table), np.nan)
    models = [replace(model, table=replace(model.table, start=nan, stop=nan)) for model in findings.models]
    facts = tuple({**one, "seconds": None, "sha256": None} for one in findings.recordings)
    return replace(findings, models=tuple(models), recordings=facts)


def _rows(n: int, n_recordings: int, seed: int) -> tuple[RowTable, np.ndarray, np.ndarray]:
    """Make n rows in runs of about five frames a phone: their table, phone and speaker numbers."""
    generator = np.random.default_rng(seed)
    phone = np.repeat(generator.integers(0, len(PHONES), n // 5 + 1), 5)[:n]
    recording = np.sort(np.arange(n) % n_recordings).astype(np.int32)
    first = np.concatenate([np.arange(count) for count in np.bincount(recording, minlength=n_recordings)])
    start = first * HOP_SECONDS * SHOWN_EACH
    names = tuple(f"speaker{place:02d}_take1.wav" for place in range(n_recordings))
    labels = {
        "phone": PHONES[phone],
        "word": WORDS[phone],
        "speaker": np.array([f"S{place:02d}" for place in recording]),
    }
    table = RowTable(names, recording, start, start + 0.025, labels, SHOWN_EACH * n)
    return table, phone, recording


def _values(made: _Made, control: bool, seed: int) -> np.ndarray:
    """Make (n_layers, n, dim) float32: speakers fade with depth, phones peak at two thirds; a control holds neither."""
    generator = np.random.default_rng((seed, 1))
    phones, speakers = generator.standard_normal((2, max(len(PHONES), made.n_recordings), made.dim))
    noise = generator.standard_normal((made.n, made.dim)) * np.linspace(2.0, 0.3, made.dim)
    layers = []
    for layer in range(made.n_layers):
        depth = layer / max(1, made.n_layers - 1)
        strength = 0.2 if control else 2.0 * np.exp(-(((depth - 0.66) / 0.3) ** 2))
        values = noise + strength * phones[made.phone] + (1 - depth) * speakers[made.speaker]
        noise = noise + 0.4 * generator.standard_normal(noise.shape)
        layers.append(values * (0.5 + depth) + 0.05 * depth)
    return np.asarray(layers, dtype=np.float32)


def _model(made: _Made, name: str, control: bool, values: np.ndarray, seed: int) -> ModelFindings:
    layers = tuple(range(made.n_layers))
    return ModelFindings(
        model=name,
        control=control,
        fine_tuned="960h" in name and not control,
        facts={"model_type": "wav2vec2", "n_layers": made.n_layers - 1, "sha256": "ab" * 32, "engine": "torch"},
        layers=layers,
        dim=made.dim,
        n_frames=SHOWN_EACH * made.n,
        n_rows=SHOWN_EACH * made.n,
        n_used=made.n,
        statistics=tuple(_statistics(made, layer, values[layer]) for layer in layers),
        similarity=_similarity(made, (name, name), values, values, seed),
        projections=tuple(_projection(made, layer, values[layer], seed) for layer in layers),
        table=made.table,
        curves=tuple(_curves(made, control, seed)) if made.with_curves else (),
        skipped={"speaker_accuracy": "One recording, one speaker: nothing to tell apart."}
        if made.with_curves and made.n_recordings < 2
        else {},
    )


def _statistics(made: _Made, layer: int, values: np.ndarray) -> LayerStatistics:
    exact = values.astype(np.float64)
    variances = exact.var(axis=0, ddof=1)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    n = len(exact)
    power = (exact**2).mean(axis=0)
    outliers = [int(place) for place in np.argsort(-power) if power[place] > 10 * np.median(power)]
    shares = np.linalg.eigvalsh(np.atleast_2d(np.cov(exact.T))).clip(1e-12)
    shares /= shares.sum()
    return LayerStatistics(
        index=layer,
        n=SHOWN_EACH * n,
        mean=float(exact.mean()),
        std=float(exact.std()),
        variances=variances,
        variance_quantiles={str(at): float(np.quantile(variances, at)) for at in QUANTILES},
        anisotropy=float((np.sum(unit.sum(axis=0) ** 2) - n) / (n * (n - 1))),
        outlier_dimensions=tuple(outliers),
        effective_rank=float(np.exp(-(shares * np.log(shares)).sum())),
        participation_ratio=float(1 / (shares**2).sum()),
        n_used=made.n,
    )


def _similarity(made: _Made, models: tuple[str, str], first: np.ndarray, second: np.ndarray, seed: int) -> Similarity:
    """Unbiased linear CKA of all pairs, with an invented interval of a plausible width."""
    grams = [np.stack([_gram(layer) for layer in values]) for values in (first, second)]
    cross, ours, theirs = (
        _unbiased_hsic(a, b) for a, b in ((grams[0], grams[1]), (grams[0], grams[0]), (grams[1], grams[1]))
    )
    matrix = cross / np.sqrt(np.outer(np.diag(ours), np.diag(theirs)))
    width = np.random.default_rng((seed, 2)).uniform(0.02, 0.05, matrix.shape) * (1 - matrix**2)
    has_interval = made.n_recordings >= 2
    within = models[0] == models[1]
    layers = tuple(range(made.n_layers))
    third = max(1, made.n_layers // 3)
    return Similarity(
        kind="cka",
        models=models,
        rows=layers,
        columns=layers,
        matrix=matrix,
        low=matrix - width if has_interval else None,
        high=np.minimum(1.0, matrix + width) if has_interval else None,
        n=made.n,
        noise_floor=0.8 / np.sqrt(made.n),
        n_floor=made.n,
        clusters=(layers[:third], layers[third : 2 * third], layers[2 * third :]) if within and third > 1 else (),
        note=f"Unbiased linear CKA of {made.n:,} frames.",
    )


def _gram(values: np.ndarray) -> np.ndarray:
    centred = values.astype(np.float64) - values.mean(axis=0)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0)
    return gram


def _unbiased_hsic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Song et al. 2012, eq. 5, between all pairs of two stacks of Gram matrices without their diagonals."""
    n = first.shape[1]
    product = np.einsum("aij,bij->ab", first, second)
    rows = np.einsum("ai,bi->ab", first.sum(axis=2), second.sum(axis=2))
    sums = np.outer(first.sum(axis=(1, 2)), second.sum(axis=(1, 2)))
    return (product + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


def _projection(made: _Made, layer: int, values: np.ndarray, seed: int) -> LayerProjection:
    generator = np.random.default_rng((seed, layer, 3))
    centred = values.astype(np.float64) - values.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    noise = generator.standard_normal(values.shape) * values.std(axis=0)
    floor = np.linalg.svd(noise - noise.mean(axis=0), compute_uv=False) ** 2
    pca = np.zeros((made.n, 3), dtype=np.float32)
    pca[:, : min(3, made.dim)] = centred @ axes[:3].T
    swirl = generator.standard_normal((made.n, 2)) + 8 * np.stack(
        [np.cos(made.phone * 0.785), np.sin(made.phone * 0.785)], axis=1
    )
    return LayerProjection(
        index=layer,
        pca=pca,
        explained=(singular**2 / (singular**2).sum())[:10],
        noise_floor=(floor / floor.sum())[:10],
        n_fitted=made.n,
        tsne=swirl.astype(np.float32) if made.with_tsne else None,
        tsne_note=f"perplexity 30, n = {made.n:,}, KL 1.21, 10 nearest neighbours kept 0.71"
        if made.with_tsne
        else "Not asked for.",
    )


_PROPERTIES: Mapping[str, tuple[str, str, float, float, float | None, int | None]] = {
    "mel_cca": ("Log-mel CCA", "Mean held-out CCA with the log-mel spectrum, 0 to 1.", 0.9, 0.0, None, None),
    "phone_cca": ("Phone CCA", "Mean held-out CCA with one-hot phones, 0 to 1.", 0.8, 0.66, None, 8),
    "word_cca": ("Word CCA", "Mean held-out CCA with one-hot words, 0 to 1.", 0.6, 0.8, None, 7),
    "phone_mi": ("Phone information", "Mutual information as a share of the phones' entropy.", 0.7, 0.66, None, 8),
    "word_mi": ("Word information", "Mutual information as a share of the words' entropy.", 0.6, 0.8, None, 7),
    "phone_accuracy": ("Phone probe", "Share of held-out phones that a linear probe names.", 0.8, 0.66, 0.2, 8),
    "speaker_accuracy": ("Speaker probe", "Share of held-out rows whose speaker is named.", 0.95, 0.1, 0.34, 3),
}
"""By name: title, measure, highest value, depth of the highest, chance, classes."""


def _curves(made: _Made, control: bool, seed: int) -> list[Curve]:
    generator = np.random.default_rng((seed, 4))
    depth = np.linspace(0, 1, made.n_layers)
    curves = []
    for name, (title, measure, top, peak, chance, n_classes) in _PROPERTIES.items():
        if name == "speaker_accuracy" and made.n_recordings < 2:
            continue
        base = chance or 0.05
        height = (top - base) * (0.25 if control else 1.0)
        values = base + height * np.exp(-(((depth - peak) / 0.5) ** 2)) + generator.normal(0, 0.01, made.n_layers)
        width = generator.uniform(0.02, 0.05, made.n_layers)
        curves.append(
            Curve(
                name=name,
                title=title,
                measure=measure,
                layers=tuple(range(made.n_layers)),
                values=values,
                low=values - width if made.n_recordings >= 2 else None,
                high=np.minimum(1.0, values + width) if made.n_recordings >= 2 else None,
                shuffled=None if name == "mel_cca" else base + generator.normal(0, 0.01, made.n_layers),
                chance=chance,
                n=made.n,
                n_classes=made.n_recordings if name == "speaker_accuracy" else n_classes,
                split="recording" if made.n_recordings >= 2 else "block",
                note="",
            )
        )
    return curves


def _recording_facts(made: _Made, place: int) -> dict[str, object]:
    frames = int((made.table.recording == place).sum()) * SHOWN_EACH
    return {
        "name": made.table.recordings[place],
        "path": f"/recordings/{made.table.recordings[place]}",
        "sha256": f"{place:064x}",
        "seconds": frames * HOP_SECONDS,
        "frames": frames,
    }
