"""Emotion from a voice: corpora with their speakers, heads on frozen encoders, and how far they can be believed."""

from importlib import import_module
from typing import Any

# Public names by the module that holds them: networks, so they are imported when they are asked for.
_PUBLIC = {
    "EmotionDetectionModel": "core.emotion.model",
    "get_encoder_embeddings": "core.emotion.encodec",
    "get_quantized_embeddings": "core.emotion.encodec",
    "get_global_embeddings": "core.emotion.encodec",
    "get_multi_scale_embeddings": "core.emotion.encodec",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
