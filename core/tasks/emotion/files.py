"""Findings of an evaluation to files and to words."""

import json
import os
from pathlib import Path
from typing import Any

from core.arrays import OnProgress, ignore_progress
from core.embed.formats import json_bytes
from core.errors import DataError
from core.records import from_plain, to_plain
from core.scoring import EmotionFindings, Estimate
from core.tasks.result_folder import DATA, FIGURES, REPORT, Step, write_one, write_results

KIND = "strata emotion"
"""Written into the summary, so that a later run knows the files that it lists for ours and may remove them."""

RECORD = "findings.json"
"""In the tables' folder: all that was found, for whoever draws it again."""


def features_cache() -> Path:
    """The folder that keeps features where nobody names one: in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "strata" / "features"


def summarise_emotion(findings: EmotionFindings) -> dict[str, Any]:
    """Put together what ``summary.json`` says, the score first."""
    from core.figures.emotion.summary import emotion_summary

    return {**emotion_summary(findings), "kind": KIND}


def write_emotion(
    findings: EmotionFindings, folder: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> dict[str, Path]:
    """Write the report, figures, tables and the summary; ``summary.json`` comes last.

    Returns:
        Paths by name.

    Raises:
        OutputError: the folder cannot be written, holds results and ``force`` is not given, or the disk is full.
    """
    from core.figures.emotion.exports import write_emotion_tables
    from core.figures.emotion.paper import write_emotion_figures
    from core.figures.emotion.report import emotion_report_html

    steps: list[Step] = [
        lambda: write_emotion_figures(findings, folder / FIGURES),
        lambda: write_emotion_tables(findings, folder / DATA),
        lambda: write_one(folder / DATA / RECORD, json_bytes(to_plain(findings))),
        lambda: write_one(folder / REPORT, emotion_report_html(findings).encode("utf-8", "replace")),
    ]
    return write_results(folder, steps, summarise_emotion(findings), on_progress, force=force)


def read_emotion(folder: Path) -> EmotionFindings:
    """Read the findings that :func:`write_emotion` left in a folder.

    Raises:
        DataError: there are none.
    """
    path = folder / DATA / RECORD
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no findings: {error}. Evaluate again.") from error
    return from_plain(EmotionFindings, plain)


def emotion_as_text(findings: EmotionFindings) -> str:
    """Put together what ``evaluate`` prints without ``--json``."""
    main, corpus = findings.main, findings.corpus
    said = main.abstention
    scores = [("UAR", main.uar), ("WA", main.wa), ("macro F1", main.macro_f1), ("ECE", main.ece)]
    lines = [
        f"{corpus['name']}: {corpus['n']} clips, {corpus['n_speakers']} speakers, {len(main.labels)} classes, "
        f"{len(main.folds)} folds of speakers that were never heard in training",
        *(f"  {name:<9}{_shown(score)}" for name, score in scores),
        f"  chance   {main.chance:.3f} UAR; majority {main.majority:.3f} WA",
        f"  baseline {_shown(findings.baseline.uar)} UAR ({findings.baseline.name})",
    ]
    if findings.gain is not None:
        lines.append(f"  gain     {_shown(findings.gain)} UAR above the baseline")
    if findings.shuffled is not None:
        lines.append(f"  shuffled {_shown(findings.shuffled.uar)} UAR (a linear head)")
    lines.append(f"  answers  {said.coverage:.0%} of clips, {said.accuracy:.0%} of them right")
    lines += [f"  {cross.train} to {cross.test}: {_shown(cross.uar)} UAR" for cross in findings.cross]
    return "\n".join(lines) + "\n"


def _shown(score: Estimate) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
