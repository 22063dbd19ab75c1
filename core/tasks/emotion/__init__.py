"""Emotion, as tasks: evaluate, train, classify, look at the embeddings."""

from core.tasks.emotion.classifying import (
    Classified,
    classify_emotion,
    predictions_as_json,
    predictions_as_text,
    timeline_rows,
)
from core.tasks.emotion.embeddings import embed_emotion
from core.tasks.emotion.evaluation import evaluate_emotion
from core.tasks.emotion.files import (
    emotion_as_text,
    features_cache,
    read_emotion,
    summarise_emotion,
    write_emotion,
)
from core.tasks.emotion.requests import ClassifySettings, EmotionEmbeddings, EmotionRequest, TrainedHead
from core.tasks.emotion.training import read_card, train_emotion

__all__ = [
    "Classified",
    "ClassifySettings",
    "EmotionEmbeddings",
    "EmotionRequest",
    "TrainedHead",
    "classify_emotion",
    "embed_emotion",
    "emotion_as_text",
    "evaluate_emotion",
    "features_cache",
    "predictions_as_json",
    "predictions_as_text",
    "read_card",
    "read_emotion",
    "summarise_emotion",
    "timeline_rows",
    "train_emotion",
    "write_emotion",
]
