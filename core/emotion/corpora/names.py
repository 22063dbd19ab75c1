"""Corpora whose file names say who speaks, what is said and how: one parser for each naming scheme."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Named:
    """What a file's name says.

    Attributes:
        speaker: Who speaks.
        given: The class, in the corpus's own word or letter.
        text: Which sentence, as a code or as words; empty where the name does not say.
        take: What is the same for two files of one recording.
        form: ``speech``; ``song``, or ``video`` for a file without sound.
        rank: Which file of one recording is taken: the one with the highest.
    """

    speaker: str
    given: str
    text: str
    take: str
    form: str = "speech"
    rank: int = 0


# What the third number of a RAVDESS name stands for, and the sentence that the fifth one does.
RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
RAVDESS_SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")
SAVEE_SPEAKERS = ("DC", "JE", "JK", "KL")

RAVDESS = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
EMODB = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
# One file of the published corpus ends in X instead of XX.
CREMA_D = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)", re.IGNORECASE)
# One file of the published corpus begins with OA instead of OAF.
TESS = re.compile(r"(OA|YA)F?_(.+)_(angry|disgust|fear|happy|neutral|sad|ps|pleasant_surprised?)", re.IGNORECASE)
SAVEE = re.compile(r"(?:(DC|JE|JK|KL)_)?(a|d|f|h|n|sa|su)(\d\d)", re.IGNORECASE)
NEMO = re.compile(r"([A-Z]{2}\d+)_(anger|fear|happiness|neutral|sadness|surprised?)_(\d+)", re.IGNORECASE)
URDU = re.compile(r"(S[MF]\d+)_F(\d+)_([AHNS])(\d+)", re.IGNORECASE)


def _ravdess(path: Path) -> Named | None:
    if not (match := RAVDESS.fullmatch(path.stem)):
        return None
    modality, channel, emotion, _, statement, _, actor = match.groups()
    form = "video" if modality == "02" else "song" if channel == "02" else "speech"
    text = RAVDESS_SENTENCES[int(statement) - 1]
    return Named(actor, RAVDESS_EMOTIONS[int(emotion) - 1], text, path.stem[3:], form, int(modality))


def _emodb(path: Path) -> Named | None:
    match = EMODB.fullmatch(path.stem)
    return Named(match[1], match[3], match[2], path.stem) if match else None


def _crema_d(path: Path) -> Named | None:
    match = CREMA_D.fullmatch(path.stem)
    return Named(match[1], match[3].upper(), match[2].upper(), path.stem.upper()) if match else None


def _tess(path: Path) -> Named | None:
    if not (match := TESS.fullmatch(path.stem)):
        return None
    speaker, word, emotion = match[1].upper() + "F", match[2].lower(), match[3].lower()
    given = "ps" if emotion.startswith("pleasant") else emotion
    return Named(speaker, given, word, f"{speaker}_{word}_{given}")


def _savee(path: Path) -> Named | None:
    """The text is the letters with the number: sentences are numbered anew for each emotion.

    Three of fifteen are the same for all emotions, but names do not say which.
    """
    if not (match := SAVEE.fullmatch(path.stem)):
        return None
    speaker = (match[1] or path.parent.name).upper()
    code = match[2].lower()
    text = f"{code}{match[3]}"
    return Named(speaker, code, text, f"{speaker}_{text}") if speaker in SAVEE_SPEAKERS else None


def _nemo(path: Path) -> Named | None:
    if not (match := NEMO.fullmatch(path.stem)):
        return None
    speaker, emotion = match[1].upper(), match[2].lower()
    given = "surprised" if emotion == "surprise" else emotion
    return Named(speaker, given, match[3], f"{speaker}_{given}_{match[3]}")


def _urdu(path: Path) -> Named | None:
    """Spontaneous speech: the numbers count files, not sentences."""
    match = URDU.fullmatch(path.stem)
    return Named(match[1].upper(), match[3].upper(), "", path.stem.upper()) if match else None


NAMES: dict[str, Callable[[Path], Named | None]] = {
    "ravdess": _ravdess,
    "emodb": _emodb,
    "crema-d": _crema_d,
    "tess": _tess,
    "savee": _savee,
    "nemo": _nemo,
    "urdu": _urdu,
}
EXAMPLES = {
    "ravdess": "03-01-06-01-02-01-12.wav",
    "emodb": "03a01Fa.wav",
    "crema-d": "1001_DFA_ANG_XX.wav",
    "tess": "OAF_back_angry.wav",
    "savee": "DC_a01.wav or DC/a01.wav",
    "nemo": "SK0_anger_10.wav",
    "urdu": "SM1_F10_A010.wav",
}
"""A name of each scheme, for messages."""
