"""What only a person can say about the contrastive encoder; the numbers in its card come from training.json."""

from core.recipes.speech_card import speech_card

SUMMARY = (
    "A small wav2vec 2.0 encoder (group norm, post-norm blocks, a frame of 25 ms every 20 ms at 16 kHz), trained from "
    "random weights with wav2vec 2.0's own objective: of a masked moment's quantised features, tell which of 101 are "
    "its own. It is the twin of wav2vec2-small-whisper and hubert-small-units: the same size and the same speech, "
    "another objective, so that layers can be compared across objectives without a network connection."
)

TRUST = (
    "This is what the objective makes of under five million parameters, a few hours of speech and hours on a "
    "processor. The paper's smallest model has twenty times the parameters, over a hundred times the speech, and saw "
    "a hundred times as much audio in each update: not comparable with wav2vec2-base or any encoder from the hub, and "
    "not fit to be fine-tuned for recognition. What to expect is in the tables: read them beside the same "
    "architecture with random weights and beside log-mel energies, which cost nothing; where the encoder does not "
    "beat both, it has nothing to say. A difference between its layers and those of its twins is one between these "
    "runs, of one seed each. It heard read English, read French poems and acted German; other languages, children, "
    "the telephone, conversation, song and anything that is not speech lie outside. EmoDB's audio (without its labels) "
    "is part of the training: figures on EmoDB are in-domain. RAVDESS and LibriSpeech test-other were only ever "
    "measured on. The input is normalised over the recording, so absolute loudness is lost."
)

CARD = speech_card(
    "wav2vec2-small-contrastive",
    "Wav2Vec2Model",
    {"summary": SUMMARY, "trust": TRUST},
    ["wav2vec2", "contrastive"],
    [
        "Architecture and objective: Baevski et al. 2020, wav2vec 2.0: a framework for self-supervised learning of "
        "speech representations, https://arxiv.org/abs/2006.11477."
    ],
)
