"""The confusion matrix on paper, and how far what is said can be believed: calibration and abstention."""

from typing import TYPE_CHECKING, Any

import numpy as np

from core.figures.emotion.belief import coverage_caption, reliability_caption
from core.figures.emotion.confusion import confusion_caption, row_shares
from core.figures.emotion.style import decimal, score
from core.figures.sheets.sheet import COLOURS, DOUBLE, FAINT, MM, new_figure, short
from core.scoring import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = 18
"""Characters of a class's name."""


def confusion_sheet(evaluation: Evaluation) -> "Figure":
    """Draw the confusion matrix, rows the truth, coloured by the share of the row, clips written in."""
    n, shares = len(evaluation.labels), row_shares(evaluation.confusion)
    size = (38 + 9 * max(4, n)) * MM
    title = f"What is taken for what: {evaluation.name}"
    figure = new_figure(max(size + 30 * MM, 100 * MM), size, title, confusion_caption(evaluation))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=26, pad=0.02)
    bar.set_label("Share of the true class")
    bar.outline.set_visible(False)
    counts = evaluation.confusion.sum(axis=1).tolist()
    names = [short(name, NAME) for name in evaluation.labels]
    axes.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 6 else 0)
    axes.set_yticks(range(n), [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Said")
    axes.set_ylabel("True (clips)")
    _write_counts(axes, evaluation.confusion, shares)
    return figure


def _write_counts(axes: "Axes", confusion: np.ndarray, shares: np.ndarray) -> None:
    """Write clips into the cells, and the recall on the diagonal, which is outlined."""
    from matplotlib.patches import Rectangle

    for (row, column), count in np.ndenumerate(confusion):
        recall = row == column and np.isfinite(shares[row, column])
        if not count and not recall:
            continue
        text = f"{100 * shares[row, column]:.0f} %\n{count:,}" if recall else f"{count:,}"
        ink = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", size=6, color=ink, weight="bold" if recall else "normal")
    for place in range(len(confusion)):
        axes.add_patch(Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=0.8))


def belief_sheet(evaluation: Evaluation) -> "Figure":
    """Draw reliability before and after calibration, and accuracy against coverage."""
    caption = f"Left: {reliability_caption(evaluation)} Right: {coverage_caption(evaluation)}"
    figure = new_figure(DOUBLE, 76 * MM, f"How far to believe it: {evaluation.name}", caption)
    left, right = figure.subplots(1, 2)
    _reliability(left, evaluation)
    _coverage(right, evaluation)
    for axes in (left, right):
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
    return figure


def _reliability(axes: "Axes", evaluation: Evaluation) -> None:
    before, after = evaluation.reliability_uncalibrated, evaluation.reliability
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1, label="as sure as right")
    shown: dict[str, Any] = {"color": COLOURS[1], "marker": "D", "markerfacecolor": "white", "linestyle": "--"}
    axes.plot(before.confidence, before.accuracy, **shown, label=f"before, ECE {decimal(evaluation.ece_uncalibrated)}")
    axes.plot(
        after.confidence, after.accuracy, color=COLOURS[0], marker="o", label=f"after, ECE {decimal(evaluation.ece)}"
    )
    axes.set_xlabel("Confidence")
    axes.set_ylabel("Share that is right")
    axes.legend(loc="lower right", borderaxespad=0.2)


def _coverage(axes: "Axes", evaluation: Evaluation) -> None:
    found = evaluation.abstention
    if len(found.curve):
        axes.plot(found.curve[:, 1], found.curve[:, 2], color=COLOURS[0], label="all thresholds")
    name = f"chosen: {score(found.accuracy)} right, said of {score(found.coverage)}"
    axes.plot([found.coverage], [found.accuracy], color=COLOURS[1], marker="*", markersize=9, ls="none", label=name)
    axes.set_xlabel("Share of clips with an answer")
    axes.set_ylabel("Share of those that is right")
    axes.legend(loc="lower left", borderaxespad=0.2)
