"""Corpora by their names alone: files of a few bytes, called as the published ones are."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

RAVDESS = [
    f"Actor_{actor:02}/03-01-{emotion:02}-{strength:02}-{text:02}-{take:02}-{actor:02}.wav"
    for actor, emotion, strength, text, take in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2))
    if emotion > 1 or strength == 1
]
EMODB = [
    f"wav/{speaker}{text}{emotion}{version}.wav"
    for speaker, text, emotion, version in product(
        ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"), ("a01", "a02", "b03", "b10"), "WLEAFTN", "ac"
    )
]
CREMA_D = [
    *(
        f"AudioWAV/{actor}_{text}_{emotion}_{level}.wav"
        for actor, text, emotion, level in product(
            range(1001, 1012), ("IEO", "TIE", "DFA"), ("ANG", "DIS", "FEA", "HAP", "SAD"), ("LO", "MD", "HI")
        )
    ),
    *(f"AudioWAV/{actor}_{text}_NEU_XX.wav" for actor, text in product(range(1001, 1012), ("IEO", "TIE", "DFA"))),
    "AudioWAV/1001_ITH_SAD_X.wav",
]
TESS = [
    *(
        f"{speaker}_{folder}/{speaker}_{word}_{emotion}.wav"
        for speaker, word, (folder, emotion) in product(
            ("OAF", "YAF"),
            ("back", "bar", "base", "third", "young"),
            [
                *(("angry", "angry"), ("disgust", "disgust"), ("Fear", "fear"), ("happy", "happy")),
                *(("neutral", "neutral"), ("Pleasant_surprise", "ps"), ("Sad", "sad")),
            ],
        )
    ),
    "OAF_neutral/OA_bite_neutral.wav",
]
SAVEE = [
    f"{speaker}/{code}{number:02}.wav"
    for speaker in ("DC", "JE", "JK", "KL")
    for code, n in (("a", 15), ("d", 15), ("f", 15), ("h", 15), ("n", 30), ("sa", 15), ("su", 15))
    for number in range(1, n + 1)
]
NEMO = [
    f"samples/{speaker}_{emotion}_{text}.wav"
    for speaker, emotion, text in product(
        ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0"),
        ("anger", "fear", "happiness", "neutral", "sadness", "surprised"),
        range(1, 6),
    )
]
URDU = [
    *(f"Angry/SM{1 + number % 4}_F{number}_A0{number}.wav" for number in range(1, 26)),
    *(f"Happy/SF{1 + number % 3}_F{number}_H0{number}.wav" for number in range(1, 26)),
    *(f"Neutral/SM{1 + number % 5}_F{number}_N0{number}.wav" for number in range(1, 26)),
    *(f"Sad/SM{1 + number % 5}_F{number}_S0{number}.wav" for number in range(1, 26)),
]


def make_files(root: Path, names: Iterable[str]) -> Path:
    """Make files that are not empty, each with a content of its own."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"RIFF {name}".encode())
    return root
