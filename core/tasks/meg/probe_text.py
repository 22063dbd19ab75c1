"""What a probe found, as rows of a table and in words."""

import math
from typing import Any

from core.tasks.meg.requests import ProbeFindings, ProbeScore


def probe_rows(findings: ProbeFindings) -> list[dict[str, Any]]:
    """One row for each kind of features: ``features, layer, score, low, high, chance, by_layer, note``.

    A score that could not be computed is None.
    """
    return [
        {
            "features": score.name,
            "layer": score.layer,
            "score": None if math.isnan(score.score) else score.score,
            "low": score.interval[0],
            "high": score.interval[1],
            "chance": findings.chance,
            "by_layer": list(score.by_layer),
            "note": score.note,
        }
        for score in findings.scores
    ]


def probe_as_text(findings: ProbeFindings) -> str:
    """Put together what ``probe`` prints without ``--json``."""
    facts = findings.facts
    lines = [
        f"{findings.target}: {sum(findings.counts.values())} windows of {facts['window_seconds']:g} s, "
        f"{len(findings.classes)} classes, {len(findings.recordings)} recordings, {findings.folds} folds "
        f"({facts['held_out']} held out)",
        f"balanced accuracy with 95 % intervals over {facts['interval_over']} (n = {facts['n_drawn']})",
        *(_score_line(score) for score in findings.scores),
        f"  chance      {findings.chance:.3f}",
        *(_gain_line(name, gain) for name, gain in facts["gains"].items()),
        *(f"  ! {warning}" for warning in findings.warnings),
    ]
    return "\n".join(lines) + "\n"


def _score_line(score: ProbeScore) -> str:
    if math.isnan(score.score):
        return f"  {score.name:<12}-  {score.note}"
    layer = "" if score.layer is None else f"  layer {score.layer}"
    low, high = score.interval
    return f"  {score.name:<12}{score.score:.3f} [{low:.3f}, {high:.3f}]{layer}  {score.note}".rstrip()


def _gain_line(name: str, gain: dict[str, float | None]) -> str:
    shown = f"{gain['value']:+.3f}"
    if gain["low"] is not None:
        shown += f" [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return f"  {shown} above {name}"
