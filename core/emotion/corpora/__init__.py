"""Labelled corpora: lists, folders whose file names tell, archives, audformat and EmoBox, all read into one record."""

from core.emotion.corpora.classes import class_of, read_mapping, suggest_mapping
from core.emotion.corpora.reading import SCHEMES, fingerprint, read_corpus

__all__ = ["SCHEMES", "class_of", "fingerprint", "read_corpus", "read_mapping", "suggest_mapping"]
