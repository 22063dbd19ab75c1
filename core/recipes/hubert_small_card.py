"""What only a person can say about the HuBERT encoder; the numbers in its card come from training.json."""

from core.recipes.speech_card import speech_card

SUMMARY = (
    "A small HuBERT encoder (group norm, post-norm blocks, a frame of 25 ms every 20 ms at 16 kHz), trained from "
    "random weights to name the clusters that hidden frames are of: first clusters of MFCC, then clusters of what the "
    "first model makes of the speech in its middle. It is the twin of wav2vec2-small-whisper and "
    "wav2vec2-small-contrastive: the same size and the same speech, another objective, so that layers can be compared "
    "across objectives without a network connection."
)

TRUST = (
    "This is what the objective makes of under five million parameters, a few hours of speech and hours on a "
    "processor. The paper's smallest model has twenty times the parameters, over a hundred times the speech, and saw "
    "far more audio in each update: not comparable with hubert-base or any encoder from the hub, and not fit to be "
    "fine-tuned for recognition. What to expect is in the tables: read them beside the same architecture with random "
    "weights and beside log-mel energies, which cost nothing; where the encoder does not beat both, it has nothing to "
    "say. Its first targets are spectra, so that it resembles log-mel energies by design. A difference between its "
    "layers and those of its twins is one between these runs, of one seed each. It heard read English, read French "
    "poems and acted German; other languages, children, the telephone, conversation, song and anything that is not "
    "speech lie outside. EmoDB's audio (without its labels) is part of the training: figures on EmoDB are in-domain. "
    "RAVDESS and LibriSpeech test-other were only ever measured on. The input is normalised over the recording, so "
    "absolute loudness is lost."
)

CARD = speech_card(
    "hubert-small-units",
    "HubertModel",
    {"summary": SUMMARY, "trust": TRUST},
    ["hubert", "masked-prediction"],
    [
        "Architecture and objective: Hsu et al. 2021, HuBERT: self-supervised speech representation learning by masked "
        "prediction of hidden units, https://arxiv.org/abs/2106.07447."
    ],
)
