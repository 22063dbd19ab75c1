"""Where files go: names made from the names of models, and the folder."""

import re
from pathlib import Path

from core.errors import InputError, OutputError
from core.findings import LayersFindings

MOST_CHARACTERS = 80
"""Of a label; two of them and the figure's name stay below the 255 bytes of a file name."""


def file_label(name: str) -> str:
    """Turn the name of a model into a part of a file name: letters, digits, ``.``, ``_`` and ``-`` only.

    >>> file_label("facebook/wav2vec2-base (random weights)")
    'facebook_wav2vec2-base_random_weights'
    """
    safe = re.sub(r"[^A-Za-z0-9.\-]+", "_", name).strip("._-")
    return safe[-MOST_CHARACTERS:].strip("._-") or "model"


def file_labels(findings: LayersFindings) -> dict[str, str]:
    """Give each model a label; two names that would share one (``a/b`` and ``a_b``) are numbered.

    Raises:
        InputError: Two models have the same name, so that one's files would replace the other's.
    """
    labels: dict[str, str] = {}
    for found in findings.models:
        if found.model in labels:
            raise InputError(f"Got two models named {found.model!r}; expected different ones. Compare another model.")
        label, taken = file_label(found.model), {other.lower() for other in labels.values()}
        numbered = (label if count == 1 else f"{label}_{count}" for count in range(1, len(labels) + 2))
        labels[found.model] = next(free for free in numbered if free.lower() not in taken)
    return labels


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, or say why that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {error.strerror}. Choose another --output.") from error
