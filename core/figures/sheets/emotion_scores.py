"""Scores of an emotion classifier on paper: beside baseline and control, by class, by fold, by corpus, by layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.figures.emotion.scores import (
    cross_caption,
    fold_spread,
    folds_caption,
    layer_shares,
    layer_weights_caption,
    overview_caption,
    recalls_caption,
)
from core.figures.emotion.style import estimated, evaluations, score
from core.figures.sheets.sheet import COLOURS, DOUBLE, FAINT, INK, MM, add_legend, layer_axis, new_figure, short
from core.scoring import EmotionFindings, Estimate, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIRST: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "linestyle": "none"}
SECOND: dict[str, Any] = {"color": COLOURS[1], "marker": "D", "linestyle": "none", "markerfacecolor": "white"}
CHANCE: dict[str, Any] = {"color": FAINT, "linestyle": ":", "linewidth": 1.0}
MAJORITY: dict[str, Any] = {"color": FAINT, "linestyle": "--", "linewidth": 1.0}

OFFSET, ASIDE = 0.16, 0.08
"""Of a row, and of a fold, by which two marks are set apart."""
NAME = 26
"""Characters of a row's name."""

MOST_NAMED = 30
"""Folds up to which each is named."""


def scores_sheet(findings: EmotionFindings) -> "Figure":
    """Draw UAR and WA of the head, the baseline and the control."""
    named = evaluations(findings)
    names = [one.name if role == "main" else f"{role}: {one.name}" for role, one in named]
    main = findings.main
    title = f"Emotion in {_corpus(findings)}: UAR {estimated(main.uar)}"
    figure = new_figure(DOUBLE, (18 + 9 * len(names)) * MM, title, overview_caption(findings), 1)
    axes = figure.subplots()
    axes.axvline(main.chance, **CHANCE)
    axes.axvline(main.majority, **MAJORITY)
    _rows(axes, [one.uar for _, one in named], -OFFSET, FIRST)
    _rows(axes, [one.wa for _, one in named], OFFSET, SECOND)
    _name_rows(axes, names, "Score")
    keys = ["UAR", "WA", f"UAR of chance ({score(main.chance)})", f"WA of the majority class ({score(main.majority)})"]
    add_legend(figure, [FIRST, SECOND, CHANCE, MAJORITY], keys, 4)
    return figure


def recalls_sheet(findings: EmotionFindings) -> "Figure":
    """Draw the recall of each class beside the baseline's."""
    main, baseline = findings.main, findings.baseline
    counts = main.confusion.sum(axis=1).tolist()
    names = [f"{short(name, NAME)} ({n:,})" for name, n in zip(main.labels, counts, strict=True)]
    title = f"Recall of each class: {_corpus(findings)}, {main.name}"
    figure = new_figure(DOUBLE, (18 + 7 * len(names)) * MM, title, recalls_caption(findings), 1)
    axes = figure.subplots()
    axes.axvline(main.chance, **CHANCE)
    _rows(axes, main.recalls, -OFFSET, FIRST)
    _rows(axes, baseline.recalls, OFFSET, SECOND)
    _name_rows(axes, names, "Recall")
    add_legend(figure, [FIRST, SECOND, CHANCE], [main.name, f"baseline: {baseline.name}", "chance"], 3)
    return figure


def folds_sheet(findings: EmotionFindings) -> "Figure":
    """Draw the UAR of each fold beside the baseline's."""
    main, baseline = findings.main, findings.baseline
    title = f"UAR of each fold: {_corpus(findings)}, {main.name}"
    figure = new_figure(DOUBLE, 62 * MM, title, folds_caption(findings), 1)
    axes = figure.subplots()
    axes.axhline(main.uar.value, color=COLOURS[0], linewidth=0.9)
    axes.axhline(main.chance, **CHANCE)
    places = np.arange(len(main.folds))
    if [fold.speakers for fold in main.folds] == [fold.speakers for fold in baseline.folds]:
        axes.plot(places + ASIDE, [fold.uar for fold in baseline.folds], **SECOND)
    axes.plot(places - ASIDE, [fold.uar for fold in main.folds], **FIRST)
    several = any(len(fold.speakers) > 1 for fold in main.folds)
    texts = [str(at + 1) if several else short(fold.speakers[0], 10) for at, fold in enumerate(main.folds)]
    step = -(-len(texts) // MOST_NAMED)
    crowded = len(texts[::step]) * max(map(len, texts), default=0) > 90
    axes.set_xticks(places[::step], texts[::step], rotation=90 if crowded else 0)
    axes.set_xlim(-0.6, len(texts) - 0.4)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("UAR")
    axes.set_xlabel("Fold" if several else "Tested speaker")
    axes.set_title(fold_spread(main.folds), loc="left")
    keys = [main.name, f"baseline: {baseline.name}", "chance"]
    add_legend(figure, [FIRST, SECOND, CHANCE], keys, 3)
    return figure


def layers_sheet(evaluation: Evaluation) -> "Figure":
    """Draw the weight of each layer, the mean over folds as bars and each fold as a ring."""
    layers, shares = layer_shares(evaluation)
    figure = new_figure(
        DOUBLE, 52 * MM, f"Weight of each layer: {evaluation.name}", layer_weights_caption(evaluation), 1
    )
    axes = figure.subplots()
    axes.bar(layers, shares.mean(axis=0), color=COLOURS[0], alpha=0.7, width=0.7)
    ring: dict[str, Any] = {"marker": "o", "color": INK, "markerfacecolor": "none", "linestyle": "none"}
    for one in shares:
        axes.plot(layers, one, markersize=2.6, **ring)
    layer_axis(axes, layers)
    axes.set_ylabel("Share")
    bar: dict[str, Any] = {"marker": "s", "color": COLOURS[0], "alpha": 0.7, "linestyle": "none"}
    add_legend(figure, [bar, ring], ["mean of the folds", "each fold"], 2)
    return figure


def cross_sheet(findings: EmotionFindings) -> "Figure":
    """Draw what remains of the score on other corpora."""
    scores = findings.cross
    names = [f"{short(one.train, 20)} → {short(one.test, 20)}" for one in scores]
    title = "Trained on one corpus, tested on another"
    figure = new_figure(DOUBLE, (18 + 8 * len(names)) * MM, title, cross_caption(scores), 1)
    axes = figure.subplots()
    unknown = Estimate(float("nan"))
    mark: dict[str, Any] = {"color": INK, "marker": "|", "linestyle": "none", "markersize": 12}
    axes.plot([1 / len(one.labels) for one in scores], np.arange(len(scores)), **mark)
    _rows(axes, [one.uar for one in scores], -OFFSET, FIRST)
    _rows(axes, [one.within or unknown for one in scores], OFFSET, SECOND)
    _name_rows(axes, names, "UAR over the classes that both have")
    add_legend(figure, [FIRST, SECOND, mark], ["UAR there", "UAR of that corpus's own folds", "chance"], 3)
    return figure


def _corpus(findings: EmotionFindings) -> str:
    return str(findings.corpus.get("name", "a corpus"))


def _rows(axes: "Axes", estimates: Sequence[Estimate], offset: float, look: dict[str, Any]) -> None:
    """Draw a mark a row with its interval, where it has one."""
    places = np.arange(len(estimates)) + offset
    for one, place in zip(estimates, places, strict=True):
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [place, place], color=look["color"], linewidth=1.0, zorder=1)
    axes.plot([one.value for one in estimates], places, **look, zorder=2)


def _name_rows(axes: "Axes", names: Sequence[str], unit: str) -> None:
    axes.set_yticks(np.arange(len(names)), [short(name, NAME + 10) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
