"""Embeddings of labelled clips: the document's three files, maps, clusters and neighbours."""

from pathlib import Path

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.embed.formats import json_bytes
from core.errors import InputError, OutputError
from core.records import to_plain
from core.scoring import EmbeddingMap
from core.tasks.emotion.evaluation import corpus_facts, model_facts
from core.tasks.emotion.examples import check_request, gather, read_labelled, with_layer
from core.tasks.emotion.requests import EmotionEmbeddings, EmotionRequest
from core.tasks.result_folder import FIGURES, SUMMARY, write_one

KIND = "strata emotion embeddings"


def embed_emotion(
    request: EmotionRequest, output: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> EmotionEmbeddings:
    """Write one vector a clip, with labels and sources, and look at where they lie.

    Args:
        request: Data, encoder, layer and pooling; with the layer ``all``, layers stand side by side.
        output: Gets ``embeddings.npy`` (n, dim) float32, ``labels.npy`` (n,) numbers of the classes, ``sources.npy``
            (n,) names, tables, figures and ``summary.json``.
        on_progress: Told of the embeddings in clips, then of the maps.
        force: Whether files that are there are replaced.

    Raises:
        StrataError: anything that is wrong with the data, the model, a setting or the folder.
    """
    from core.emotion.maps import MapSettings, embedding_map, write_embeddings
    from core.figures.emotion.paper import write_map_figures

    if request.head.pooling == "learned":
        raise InputError(
            "The pooling learned is trained together with a head, and embeddings have none. Use another --pooling, "
            "such as attention."
        )
    check_request(request)
    request = with_layer(request)
    if (output / SUMMARY).exists() and not force:
        raise OutputError(f"{output} already holds {SUMMARY}. Use --force to replace, or another folder.")
    voices = gather(read_labelled(request.data, request.corpus, request), request, on_progress)
    embeddings = np.concatenate(list(voices.examples.features), axis=1)
    made = embedding_map(embeddings, voices.corpus, MapSettings(seed=request.head.seed), on_progress)
    on_progress(Progress("write", 0, 1, "part"))
    files = dict(write_embeddings(output, embeddings, voices.corpus, force=force))
    files |= write_map_figures(made, output / FIGURES)
    facts = {"kind": KIND, "corpus": corpus_facts(voices), "model": model_facts(request, voices), **_numbers(made)}
    files |= write_one(output / SUMMARY, json_bytes(facts))
    on_progress(Progress("write", 1, 1, "part"))
    return EmotionEmbeddings(files, made, voices.corpus)


def _numbers(made: EmbeddingMap) -> dict[str, object]:
    """What the summary says of the map."""
    return {
        "clusters": [to_plain(score) for score in made.clusters],
        "silhouettes": dict(made.silhouettes),
        "neighbour_shares": dict(made.neighbour_shares),
        "notes": dict(made.notes),
    }
