"""Embeddings of labelled clips: the document's three files, maps, clusters and neighbours."""

from pathlib import Path

from core.arrays import OnProgress, ignore_progress
from core.tasks.emotion.requests import EmotionEmbeddings, EmotionRequest


def embed_emotion(
    request: EmotionRequest, output: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> EmotionEmbeddings:
    """Write one vector a clip, with labels and sources, and look at where they lie.

    Args:
        request: Data, encoder, layer and pooling; with the layer ``all``, layers stand side by side.
        output: Gets ``embeddings.npy`` (n, dim) float32, ``labels.npy`` (n,) numbers of the classes, ``sources.npy``
            (n,) names, and tables.
        on_progress: Told of the embeddings in clips.
        force: Whether files that are there are replaced.

    Raises:
        StrataError: anything that is wrong with the data, the model, a setting or the folder.
    """
