"""What tiers, files and columns that hold phones or words are called."""

import re
import unicodedata
from pathlib import Path

_NAMES = {
    "phone": frozenset({"phone", "phones", "phoneme", "phonemes", "phn", "phns", "mau"}),
    "word": frozenset({"word", "words", "wrd", "wrds", "ort", "ort-mau"}),
}


def kind_of(name: str) -> str | None:
    """Say whether a tier of that name holds phones or words, or None; MFA's ``speaker - phones`` counts."""
    plain = name.rsplit(" - ", 1)[-1].strip().casefold()
    return next((kind for kind, names in _NAMES.items() if plain in names), None)


def kind_of_file(path: Path) -> str | None:
    """Say whether a file's name, or else its folder's, speaks of phones or words: ``rec.phones.ctm``, ``words/x.ctm``.

    None where neither or both are spoken of.
    """
    for name in (path.stem, path.parent.name):
        kinds = {kind_of(part) for part in re.split(r"[\W_]+", name)} - {None}
        if kinds:
            return kinds.pop() if len(kinds) == 1 else None
    return None


def same_name(name: str) -> str:
    """Spell accents one way, so that names from different file systems compare."""
    return unicodedata.normalize("NFC", name)
