"""The figures of emotion for print: PNG, SVG and PDF."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.figures.sheets.emotion_belief import belief_sheet, confusion_sheet
from core.figures.sheets.emotion_maps import map_sheet
from core.figures.sheets.emotion_scores import cross_sheet, folds_sheet, layers_sheet, recalls_sheet, scores_sheet
from core.figures.sheets.sheet import FORMATS, write_sheets
from core.scoring import EmbeddingMap, EmotionFindings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_emotion_figures(findings: EmotionFindings, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw all figures of an evaluation and write each whole or not at all, in place of an earlier one.

    Args:
        findings: What was found.
        folder: Where to; made if it is not there.
        formats: Of ``png``, ``svg`` and ``pdf``.

    Returns:
        The path of each file by its name.

    Raises:
        InputError: Another format.
        OutputError: The folder cannot be written to.
    """
    return write_sheets(_drawings(findings), folder, formats)


def write_map_figures(found: EmbeddingMap, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw the maps of clips, by emotion and by speaker; else as :func:`write_emotion_figures`."""
    return write_sheets([("embedding_map", partial(map_sheet, found))], folder, formats)


def _drawings(findings: EmotionFindings) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    """Name every figure and say how to draw it."""
    yield "scores", partial(scores_sheet, findings)
    yield "confusion_matrix", partial(confusion_sheet, findings.main)
    yield "recalls", partial(recalls_sheet, findings)
    yield "folds", partial(folds_sheet, findings)
    yield "calibration", partial(belief_sheet, findings.main)
    if any(len(fold.layer_weights) > 1 for fold in findings.main.folds):
        yield "layer_weights", partial(layers_sheet, findings.main)
    if findings.cross:
        yield "cross_corpus", partial(cross_sheet, findings)
