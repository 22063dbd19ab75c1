"""Clip embeddings as points: maps, groups, neighbours, and whether emotions or speakers are what lies together.

An embedding is one vector a clip. Every dim is brought to unit variance first: dims of some encoders differ in size a
hundredfold, and the largest alone would decide what is near. Whatever a map shows can be seen in numbers beside it,
with what chance would give.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.analysis.neighbours import nearest
from core.analysis.projection import pca_path
from core.analysis.tsne import TsneSettings, finished_map, tsne_steps
from core.arrays import OnProgress, Progress, ignore_progress
from core.embed.formats import json_bytes
from core.embed.writers import check_folder, replace_file
from core.errors import DataError, InputError, OutputError
from core.figures.exports import csv_bytes, readable
from core.figures.names import make_folder
from core.scoring import ClusterScore, EmbeddingMap, LabelledCorpus, Neighbour

N_NEIGHBOURS = 10
MOST_CLIPS = 8_000
"""Clips of a map at most: the matrices of all pairs take a gigabyte at that."""

UMAP_NEIGHBOURS = 15
UMAP_MISSING = "UMAP needs the package umap-learn, which is not installed: pip install umap-learn."
DBSCAN_LEAST = 5
"""Neighbours, itself among them, that make a point the core of a DBSCAN cluster."""

KINDS = ("emotion", "speaker")


@dataclass(frozen=True)
class MapSettings:
    """What to compute.

    Attributes:
        perplexity: Of the t-SNE; lowered to what the number of clips allows.
        umap: Whether to compute UMAP, where its package is installed.
        seed: Of every draw.
    """

    perplexity: float = 30.0
    umap: bool = True
    seed: int = 0


def embedding_map(
    embeddings: np.ndarray,
    corpus: LabelledCorpus,
    settings: MapSettings | None = None,
    on_progress: OnProgress = ignore_progress,
) -> EmbeddingMap:
    """Analyse the embeddings of labelled clips.

    Args:
        embeddings: (n, dim), one of each of the corpus's clips, in their order.
        corpus: Their classes and speakers.
        settings: What to compute.
        on_progress: Told of the steps done.

    Raises:
        InputError: Too few or too many clips, or another number of them than embeddings.
        DataError: A value is NaN or infinite.
    """
    settings = settings or MapSettings()
    if not 2 <= len(corpus.clips) <= MOST_CLIPS:
        raise InputError(
            f"Got {len(corpus.clips):,} clips; a map takes 2 to {MOST_CLIPS:,}. Take another part of the corpus."
        )
    rows = standardised(_checked(embeddings, corpus))
    labels, speakers = np.array([clip.label for clip in corpus.clips]), corpus.speakers
    codes = {"emotion": corpus.codes, "speaker": np.unique(speakers, return_inverse=True)[1]}
    maps: dict[str, np.ndarray] = {}
    notes: dict[str, str] = {}
    steps = [(name, draw) for name, draw in _MAPS.items() if name != "UMAP" or settings.umap]
    for done, (name, draw) in enumerate(steps):
        on_progress(Progress(f"map: {name}", done, len(steps) + 1, "steps"))
        points, notes[name] = draw(rows, settings)
        if points is not None:
            maps[name] = points
    on_progress(Progress("clusters and neighbours", len(steps), len(steps) + 1, "steps"))
    cosine, euclidean = cosine_matrix(rows), euclidean_matrix(rows)
    neighbours = nearest_by_cosine(cosine)
    found = EmbeddingMap(
        maps=maps,
        notes=notes,
        labels=labels,
        speakers=speakers,
        clips=tuple(clip.name for clip in corpus.clips),
        cosine=cosine,
        euclidean=euclidean,
        neighbours=neighbours,
        clusters=tuple(_clusters(rows, euclidean, codes, settings.seed)),
        silhouettes={kind: _silhouette(euclidean, codes[kind]) for kind in KINDS},
        neighbour_shares=neighbour_shares(neighbours, codes),
    )
    on_progress(Progress("clusters and neighbours", len(steps) + 1, len(steps) + 1, "steps"))
    return found


def _checked(embeddings: np.ndarray, corpus: LabelledCorpus) -> np.ndarray:
    """Check that the embeddings are the clips', and that they are numbers."""
    n = len(corpus.clips)
    if embeddings.ndim != 2 or len(embeddings) != n:
        raise InputError(f"Got embeddings of shape {embeddings.shape}; expected ({n}, dim), one row for each clip.")
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        name = corpus.clips[int((~finite).argmax())].name
        raise DataError(f"{name} has values that are not finite. Compute its embedding again with --precision fp32.")
    return embeddings


def standardised(embeddings: np.ndarray) -> np.ndarray:
    """Bring every dim to zero mean and unit variance, (n, dim) float64; one that does not vary becomes 0."""
    values = np.asarray(embeddings, dtype=np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    varies = spread > 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return np.where(varies, (values - mean) / np.where(varies, spread, 1.0), 0.0)


# ---------------------------------------------------------------------------------------------------------------- maps


def _pca(rows: np.ndarray, _: MapSettings) -> tuple[np.ndarray | None, str]:
    found = pca_path(rows, n_components=2, most_shown=len(rows))
    first, second = 100 * found.explained
    return found.points, f"{first:.1f} % and {second:.1f} % of the variance, n = {len(rows):,}"


def _tsne(rows: np.ndarray, settings: MapSettings) -> tuple[np.ndarray | None, str]:
    largest = (len(rows) - 1) // 3
    if largest < 2:
        return None, f"t-SNE needs at least 7 clips; got {len(rows)}."
    own = TsneSettings(perplexity=min(settings.perplexity, largest), seed=settings.seed)
    *_, last = tsne_steps(rows, own)
    found = finished_map(rows, last, own)
    return found.points, found.note


def _umap(rows: np.ndarray, settings: MapSettings) -> tuple[np.ndarray | None, str]:
    from importlib.util import find_spec

    if find_spec("umap") is None:
        return None, UMAP_MISSING
    if len(rows) < 4:
        return None, f"UMAP needs at least 4 clips; got {len(rows)}."
    import umap

    n_neighbours = min(UMAP_NEIGHBOURS, len(rows) - 1)
    # "spectral", its usual start, fails with few points; one thread, so that the seed decides.
    start = "spectral" if len(rows) > 2 * UMAP_NEIGHBOURS else "random"
    mapper = umap.UMAP(n_neighbors=n_neighbours, init=start, random_state=settings.seed, n_jobs=1)
    points = np.asarray(mapper.fit_transform(rows), dtype=np.float32)
    return points, f"{n_neighbours} neighbours, minimal distance 0.1, n = {len(rows):,}"


_MAPS: dict[str, Callable[[np.ndarray, MapSettings], tuple[np.ndarray | None, str]]] = {
    "PCA": _pca,
    "t-SNE": _tsne,
    "UMAP": _umap,
}


# ----------------------------------------------------------------------------------------------- matrices, neighbours


def cosine_matrix(rows: np.ndarray) -> np.ndarray:
    """Cosine of every two rows, (n, n) float32, after their mean was taken away; 0 for a row without direction."""
    centred = rows - rows.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return np.clip(units @ units.T, -1.0, 1.0).astype(np.float32)


def euclidean_matrix(rows: np.ndarray) -> np.ndarray:
    """Distance of every two rows, (n, n) float32, exactly symmetric, exactly 0 on the diagonal."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(rows)).astype(np.float32)


def nearest_by_cosine(cosine: np.ndarray, k: int = N_NEIGHBOURS) -> tuple[tuple[Neighbour, ...], ...]:
    """The k other clips that are most alike, of each clip; of two that are as near, the one that comes first."""
    k, found = min(k, len(cosine) - 1), []
    for begin in range(0, len(cosine), 500):  # sorting all at once takes eight times the matrix
        block = -cosine[begin : begin + 500]
        block[np.arange(len(block)), begin + np.arange(len(block))] = np.inf  # a clip is no neighbour of itself
        order = np.argsort(block, axis=1, kind="stable")[:, :k]
        found += [
            tuple(Neighbour(int(other), float(cosine[begin + row, other])) for other in numbers)
            for row, numbers in enumerate(order)
        ]
    return tuple(found)


def neighbour_shares(neighbours: Sequence[Sequence[Neighbour]], codes: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Share of neighbours of the same emotion and of the same speaker, and both by chance.

    Chance is the share among all other clips, averaged over clips: with classes of unlike sizes more than one over
    their number.
    """
    numbers = np.array([[one.clip for one in near] for near in neighbours])
    shares = {kind: float((known[numbers] == known[:, None]).mean()) for kind, known in codes.items()}
    for kind, known in codes.items():
        counts = np.bincount(known)[known]
        shares[f"{kind} by chance"] = float(((counts - 1) / (len(known) - 1)).mean())
    return shares


# ------------------------------------------------------------------------------------------------------------- clusters


def _clusters(
    rows: np.ndarray, euclidean: np.ndarray, codes: Mapping[str, np.ndarray], seed: int
) -> Iterator[ClusterScore]:
    """Groups that k-means and DBSCAN find without being told, against emotions and speakers."""
    from sklearn.cluster import DBSCAN, KMeans

    tried = sorted({len(np.unique(codes[kind])) for kind in KINDS})
    n_distinct = len(np.unique(rows, axis=0))
    for k in (k for k in tried if 2 <= k <= min(n_distinct, len(rows) - 1)):
        groups = KMeans(k, n_init=10, random_state=seed).fit_predict(rows)
        yield _cluster_score("k-means", groups, euclidean, codes, {"k": k})
    eps = dbscan_radius(rows)
    groups = DBSCAN(eps=eps, min_samples=DBSCAN_LEAST, metric="precomputed").fit_predict(euclidean)
    yield _cluster_score("DBSCAN", groups, euclidean, codes, {"eps": eps, "min_samples": DBSCAN_LEAST})


def dbscan_radius(rows: np.ndarray) -> float:
    """Radius for DBSCAN: where the curve of distances to the 4th neighbour bends (Ester et al. 1996, section 4.2).

    The distances of all clips are sorted; the bend is the point farthest below the line from the curve's first to its
    last (Satopää et al. 2011, "kneedle"). Clips to the right of it, with no neighbours nearby, are noise.
    """
    k = min(DBSCAN_LEAST - 1, len(rows) - 1)
    others = nearest(rows, np.arange(len(rows)), k)[:, -1]
    distances = np.sort(np.linalg.norm(rows - rows[others], axis=1))
    line = np.linspace(distances[0], distances[-1], len(distances))
    # A hair more, so that a clip at this very distance is inside however its distance was rounded.
    return float(distances[int((line - distances).argmax())]) * (1 + 1e-6) or 1e-12


def _cluster_score(
    method: str,
    groups: np.ndarray,
    euclidean: np.ndarray,
    codes: Mapping[str, np.ndarray],
    settings: Mapping[str, float],
) -> ClusterScore:
    """Compare groups, -1 for noise, with what is known. Noise counts as a group of its own in ARI and NMI."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    kept = groups >= 0
    return ClusterScore(
        method=method,
        n_clusters=len(np.unique(groups[kept])),
        noise=float(1 - kept.mean()),
        silhouette=_silhouette(euclidean[np.ix_(kept, kept)], groups[kept]),
        ari={kind: float(adjusted_rand_score(codes[kind], groups)) for kind in KINDS},
        nmi={kind: float(normalized_mutual_info_score(codes[kind], groups)) for kind in KINDS},
        settings=dict(settings),
    )


def _silhouette(euclidean: np.ndarray, groups: np.ndarray) -> float:
    """Mean silhouette of groups; NaN for fewer than two, and where every clip is a group of its own."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(euclidean, groups, metric="precomputed"))


# --------------------------------------------------------------------------------------------------------------- files


def write_embeddings(
    folder: Path, embeddings: np.ndarray, corpus: LabelledCorpus, *, force: bool = False
) -> dict[str, Path]:
    """Write the document's ``embeddings.npy``, ``labels.npy`` and ``sources.npy``, and what their numbers mean.

    ``sources.npy`` holds the clips' names, of which ``clips.csv`` says the files. ``labels.npy`` holds numbers, as
    ``plt.scatter(c=labels)`` wants; their names are in ``labels.json``. All arrays load with ``allow_pickle=False``.

    Args:
        folder: Made if it is not there.
        embeddings: (n, dim), of the corpus's clips in their order.
        corpus: The clips.
        force: Whether files of these names are replaced.

    Returns:
        Files by name: ``embeddings``, ``labels``, ``sources``, ``speakers``, ``label_names``, ``clips``.

    Raises:
        OutputError: The folder cannot be written, or the files are there already.
    """
    contents = dict(_contents(_checked(embeddings, corpus), corpus))
    paths = {name: folder / file for name, file in FILES.items()}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not force:
        raise OutputError(f"{folder} already holds {', '.join(there)}. Use --force to replace, or another --output.")
    check_folder(folder)
    make_folder(folder)
    for name, path in paths.items():
        replace_file(path, contents[name])
    return paths


FILES = {
    "embeddings": "embeddings.npy",
    "labels": "labels.npy",
    "sources": "sources.npy",
    "speakers": "speakers.npy",
    "label_names": "labels.json",
    "clips": "clips.csv",
}


def _contents(embeddings: np.ndarray, corpus: LabelledCorpus) -> Iterator[tuple[str, bytes]]:
    yield "embeddings", _npy(np.asarray(embeddings, dtype=np.float32))
    yield "labels", _npy(corpus.codes)
    yield "sources", _npy(_texts(clip.name for clip in corpus.clips))
    yield "speakers", _npy(_texts(corpus.speakers))
    yield "label_names", json_bytes({"labels": corpus.labels, "mapping": corpus.mapping})
    rows = (
        (number, clip.name, str(clip.source), clip.start, clip.stop, clip.speaker, clip.label, clip.given, clip.text)
        for number, clip in enumerate(corpus.clips)
    )
    yield "clips", csv_bytes(("row", "name", "file", "start", "stop", "speaker", "emotion", "given", "text"), rows)


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _texts(values: Iterable[str]) -> np.ndarray:
    """Text of fixed width, which needs no pickle."""
    return np.array([readable(value) for value in values], dtype=np.str_)
