"""What the cards of all bundled speech encoders say alike: how to use them, what they heard, under which licence."""

from collections.abc import Sequence
from typing import Any

INTENDED_USE = (
    "Trying out, teaching and testing layer-wise analysis, probes and emotion heads without a network connection. Not "
    "for decisions about people: features of this size do not tell how anybody feels, who they are or how they are."
)

DATA = [
    "LibriVox, Les fleurs du mal (French, 15 readers): public domain.",
    "LibriSpeech train-clean-100, one utterance by each of 251 speakers (English): CC BY 4.0; Panayotov et al. "
    "2015, LibriSpeech: an ASR corpus based on public domain audio books, ICASSP.",
    "EmoDB, the first two seconds of each utterance (German): CC0 1.0; Burkhardt et al. 2005, A database of German "
    "emotional speech, Interspeech.",
]

LICENCE = "The weights are licensed CC BY 4.0, the most demanding of these licences: keep this attribution with them."

_SNIPPET = """
import core  # inside Strata only: lets transformers import beside a torch without CUDA
import torch
from transformers import Wav2Vec2FeatureExtractor, {network}

folder = "checkpoints/{name}"
extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
model = {network}.from_pretrained(folder, dtype=torch.float32).eval()
audio = torch.sin(torch.arange(16000) * 0.1).numpy()
inputs = extractor(audio, sampling_rate=16000, return_tensors="pt")
with torch.inference_mode():
    states = model(**inputs, output_hidden_states=True).hidden_states
print(len(states), tuple(states[-1].shape))  # 7 (1, 49, 256)
"""


def speech_card(name: str, network: str, texts: dict[str, str], tags: Sequence[str], credits: Sequence[str]) -> Any:
    """The card of an encoder.

    Args:
        name: Of its folder.
        network: Its class in transformers.
        texts: ``summary`` and ``trust``.
        tags: Beside those that all have.
        credits: Whose ideas and weights it comes from.
    """
    return {
        "license": "cc-by-4.0",
        "language": ["en", "de", "fr"],
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": [*tags, "speech", "feature-extraction"],
        **texts,
        "snippet": _SNIPPET.format(name=name, network=network),
        "intended_use": INTENDED_USE,
        "data": DATA,
        "attribution": [*credits, LICENCE],
    }
