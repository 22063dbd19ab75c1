"""What only a person can say about the bundled speech encoder; the numbers in its card come from training.json."""

SUMMARY = (
    "A small wav2vec 2.0 encoder (group norm, post-norm blocks, a frame of 25 ms every 20 ms at 16 kHz), distilled "
    "frame by frame from the encoder of Whisper tiny.en on a few hours of read and acted speech. It exists so that "
    "everything in Strata works offline on real features."
)

SNIPPET = """
import core  # inside Strata only: lets transformers import beside a torch without CUDA
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

folder = "checkpoints/wav2vec2-small-whisper"
extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
model = Wav2Vec2Model.from_pretrained(folder, dtype=torch.float32).eval()
audio = torch.sin(torch.arange(16000) * 0.1).numpy()
inputs = extractor(audio, sampling_rate=16000, return_tensors="pt")
with torch.inference_mode():
    states = model(**inputs, output_hidden_states=True).hidden_states
print(len(states), tuple(states[-1].shape))  # 7 (1, 49, 256)
"""

TRUST = (
    "Not comparable with wav2vec2-base or any encoder from the hub: under five million parameters, hours instead of "
    "thousands of hours of speech, and a teacher that is itself the smallest of its family and was made to transcribe "
    "English. It heard read English, read French poems and acted German; other languages, children, the telephone, "
    "conversation, song and anything that is not speech lie outside. Blocks 4, 5 and 6 were fitted to the teacher's "
    "layers 2, 3 and 4; what the lower layers hold came about on the way, so a profile over layers says something "
    "about this network and little about speech encoders in general, let alone about people. EmoDB's audio (without "
    "its labels) is part of the distillation: figures on EmoDB are in-domain. RAVDESS and LibriSpeech test-other were "
    "only ever measured on. The input is normalised over the recording, so absolute loudness is lost."
)

INTENDED_USE = (
    "Trying out, teaching and testing layer-wise analysis, probes and emotion heads without a network connection. Not "
    "for decisions about people: features of this size do not tell how anybody feels, who they are or how they are."
)

CARD = {
    "license": "cc-by-4.0",
    "language": ["en", "de", "fr"],
    "library_name": "transformers",
    "pipeline_tag": "feature-extraction",
    "tags": ["wav2vec2", "speech", "distillation", "feature-extraction"],
    "summary": SUMMARY,
    "snippet": SNIPPET,
    "trust": TRUST,
    "intended_use": INTENDED_USE,
    "data": [
        "LibriVox, Les fleurs du mal (French, 15 readers): public domain.",
        "LibriSpeech train-clean-100, one utterance by each of 251 speakers (English): CC BY 4.0; Panayotov et al. "
        "2015, LibriSpeech: an ASR corpus based on public domain audio books, ICASSP.",
        "EmoDB, the first two seconds of each utterance (German): CC0 1.0; Burkhardt et al. 2005, A database of German "
        "emotional speech, Interspeech.",
    ],
    "attribution": [
        "Teacher: the encoder of Whisper tiny.en, MIT; Radford et al. 2022, Robust speech recognition via large-scale "
        "weak supervision, https://arxiv.org/abs/2212.04356.",
        "Architecture: Baevski et al. 2020, wav2vec 2.0. Method: after Chang et al. 2022, DistilHuBERT.",
        "The weights are licensed CC BY 4.0, the most demanding of these licences: keep this attribution with them.",
    ],
}
