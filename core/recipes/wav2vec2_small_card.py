"""What only a person can say about the bundled speech encoder; the numbers in its card come from training.json."""

from core.recipes.speech_card import speech_card

SUMMARY = (
    "A small wav2vec 2.0 encoder (group norm, post-norm blocks, a frame of 25 ms every 20 ms at 16 kHz), distilled "
    "frame by frame from the encoder of Whisper tiny.en on a few hours of read and acted speech. It exists so that "
    "everything in Strata works offline on real features."
)

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

CARD = speech_card(
    "wav2vec2-small-whisper",
    "Wav2Vec2Model",
    {"summary": SUMMARY, "trust": TRUST},
    ["wav2vec2", "distillation"],
    [
        "Teacher: the encoder of Whisper tiny.en, MIT; Radford et al. 2022, Robust speech recognition via large-scale "
        "weak supervision, https://arxiv.org/abs/2212.04356.",
        "Architecture: Baevski et al. 2020, wav2vec 2.0. Method: after Chang et al. 2022, DistilHuBERT.",
    ],
)
