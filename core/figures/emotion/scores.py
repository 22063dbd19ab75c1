"""Scores beside what they must be compared with: the baseline, the control, chance; by class, by fold, by corpus."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.figures.emotion.style import (
    BESIDE,
    MAIN,
    SHARE,
    beside,
    beside_baseline,
    beside_level,
    class_name,
    estimated,
    evaluations,
    finished,
    known,
    level_line,
    rows_layout,
    score,
    shown_name,
    sizes,
    spans,
    values_of,
)
from core.figures.layers.style import counted, layout, plain, sentence, shortened, title
from core.figures.plotly_json import INK, Figure, axis
from core.scoring import CrossScore, EmotionFindings, Estimate, Evaluation, FoldScore

OFFSET, ASIDE = 0.17, 0.1
"""Of a row, and of a fold, by which two marks are set apart."""

INTERVALS = "Lines: 95 % intervals, a bootstrap over speakers."
NO_INTERVALS = "No intervals: too few speakers."


# The headline


def overview_figure(findings: EmotionFindings) -> Figure:
    """Draw UAR and WA of the head, the baseline and the control, with chance and majority."""
    named = evaluations(findings)
    names = [shown_name(role, one) for role, one in named]
    uars, was = [one.uar for _, one in named], [one.wa for _, one in named]
    main = findings.main
    traces = [
        _marks(names, uars, -OFFSET, {"name": "UAR", "color": MAIN, "symbol": "circle"}),
        _marks(names, was, OFFSET, {"name": "WA", "color": BESIDE, "symbol": "diamond"}),
        level_line(main.chance, "UAR of chance", MAIN),
        level_line(main.majority, "WA of the majority class", BESIDE, "dash"),
    ]
    heading = title(f"UAR {estimated(main.uar)}", sizes(main))
    return finished(traces, rows_layout(names, heading, "score"), "scores")


def overview_caption(findings: EmotionFindings) -> str:
    """Say what UAR is, and where the head stands beside chance, baseline and control."""
    main, control = findings.main, findings.shuffled
    stands = [beside_level(main.uar, main.chance, "chance"), beside_baseline(findings)]
    shuffled = ""
    if control is not None:
        stands_at = beside_level(control.uar, control.chance, "chance")
        shuffled = (
            f" With shuffled labels the UAR of a linear head is {stands_at}; its line is where 95 % of shuffles fall."
        )
    return (
        "UAR is the mean recall over classes, WA the share of clips that is right; every clip was predicted by a head "
        f"that never heard its speaker, {sizes(main)}. {interval_note(main.uar)} The UAR is {'; '.join(stands)}."
        f"{shuffled}"
    )


def interval_note(estimate: Estimate) -> str:
    """Say what the lines are, or why there are none."""
    return NO_INTERVALS if estimate.low is None else INTERVALS


def _marks(names: Sequence[str], estimates: Sequence[Estimate], offset: float, look: dict[str, str]) -> dict[str, Any]:
    """Return one mark with its interval in each row."""
    told = [f"{name}<br>{look['name']} {estimated(one)}" for name, one in zip(names, estimates, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": values_of(estimates),
        "y": [row + offset for row in range(len(names))],
        "name": look["name"],
        "marker": {"color": look["color"], "symbol": look["symbol"], "size": 10},
        "cliponaxis": False,
        "error_x": {**spans(estimates), "color": look["color"]},
        "hovertext": told,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


# By class


def recalls_figure(findings: EmotionFindings) -> Figure:
    """Draw the recall of each class with its interval, the baseline's beside."""
    main, baseline = findings.main, findings.baseline
    counts = main.confusion.sum(axis=1)
    names = [f"{class_name(name)} ({n:,})" for name, n in zip(main.labels, counts.tolist(), strict=True)]
    traces = [
        _marks(names, main.recalls, -OFFSET, {"name": plain(shortened(main.name)), "color": MAIN, "symbol": "circle"}),
        _marks(names, baseline.recalls, OFFSET, {"name": "baseline", "color": BESIDE, "symbol": "diamond-open"}),
        level_line(main.chance, "chance"),
    ]
    heading = title("Recall of each class", sizes(main))
    return finished(traces, rows_layout(names, heading, "recall"), "recalls")


def recalls_caption(findings: EmotionFindings) -> str:
    """Say how to read the recalls."""
    main = findings.main
    uneven = " A class that is said often is found often: read it beside the confusion matrix."
    return (
        f"Share of each class's clips that is recognised; in brackets: clips of the class, {sizes(main)}. "
        f"{interval_note(main.uar)}{uneven}"
    )


# By fold


def folds_figure(findings: EmotionFindings) -> Figure:
    """Draw the UAR of each fold, the baseline's beside."""
    main = findings.main
    names = [fold_name(place, fold) for place, fold in enumerate(main.folds)]
    traces = [_fold_marks(main, "UAR", -ASIDE, {"color": MAIN, "symbol": "circle", "size": 9})]
    if [fold.speakers for fold in main.folds] == [fold.speakers for fold in findings.baseline.folds]:
        look = {"color": BESIDE, "symbol": "diamond-open", "size": 9}
        traces.append(_fold_marks(findings.baseline, "UAR of the baseline", ASIDE, look))
    traces += [
        _level(len(names), main.uar.value, "UAR of all clips", MAIN, "solid"),
        _level(len(names), main.chance, "chance", INK, "dot"),
    ]
    ticks: dict[str, Any] = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
    ticks |= {"automargin": True, "range": [-0.6, len(names) - 0.4]}
    drawn = layout(
        height=420,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("UAR of each fold", fold_spread(main.folds)),
        xaxis=axis(title={"text": "tested speakers", "standoff": 6}, **ticks),
        yaxis=axis(title={"text": "UAR"}, **SHARE),
    )
    return finished(traces, drawn, "folds")


def folds_caption(findings: EmotionFindings) -> str:
    """Say what a fold is and what its spread shows."""
    folds = findings.main.folds
    least = min((fold.n for fold in folds), default=0)
    return (
        f"Each mark is the head of one fold on speakers it never heard; {fold_spread(folds)}; {least:,} clips at least "
        "in each. A fold's UAR is over the classes that its speakers have. Few clips spread by chance alone, so that "
        "single folds are not to be compared."
    )


def fold_name(place: int, fold: FoldScore) -> str:
    """Name a fold by its speaker, or by how many there are."""
    if len(fold.speakers) == 1:
        return class_name(fold.speakers[0], 12)
    return f"fold {place + 1} ({len(fold.speakers)})"


def fold_spread(folds: Sequence[FoldScore]) -> str:
    """Say how far folds lie apart."""
    uars = np.array([fold.uar for fold in folds])
    uars = uars[np.isfinite(uars)]
    if len(uars) < 2:
        return counted(len(folds), "fold")
    ends = f"{100 * uars.min():.1f} to {score(float(uars.max()))}"
    return f"{counted(len(folds), 'fold')}, {ends}, standard deviation {100 * uars.std(ddof=1):.1f} points"


def _fold_marks(evaluation: Evaluation, name: str, aside: float, marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [place + aside for place in range(len(evaluation.folds))],
        "y": known(np.array([fold.uar for fold in evaluation.folds])),
        "cliponaxis": False,
        "name": name,
        "marker": marker,
        "hovertext": [_fold_hover(fold) for fold in evaluation.folds],
        "hovertemplate": "%{hovertext}<extra>" + name + "</extra>",
    }


def _fold_hover(fold: FoldScore) -> str:
    who = ", ".join(class_name(name) for name in fold.speakers[:8]) + (" …" if len(fold.speakers) > 8 else "")
    return (
        f"{who}<br>UAR {score(fold.uar)}, WA {score(fold.wa)}, {counted(fold.n, 'clip')}<br>"
        f"temperature {fold.temperature:.2f}, threshold {fold.threshold:.2f}"
    )


def _level(n: int, at: float, name: str, colour: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-0.6, n - 0.4],
        "y": [at, at],
        "name": f"{name} ({score(at)})",
        "line": {"color": colour, "width": 1.5, "dash": dash},
        "hovertemplate": f"{name}: {score(at)}<extra></extra>",
    }


def layer_weights_figure(evaluation: Evaluation) -> Figure:
    """Draw how much of each layer the head takes: the mean over folds, and each fold."""
    layers, shares = layer_shares(evaluation)
    places = [str(layer) for layer in layers]
    bars = {
        "type": "bar",
        "x": places,
        "y": shares.mean(axis=0).tolist(),
        "name": "mean of the folds",
        "marker": {"color": MAIN, "opacity": 0.75},
        "hovertemplate": "layer %{x}: %{y:.1%}<extra>mean</extra>",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": places * len(shares),
        "y": shares.ravel().tolist(),
        "name": "each fold",
        "marker": {"color": INK, "size": 5, "symbol": "circle-open"},
        "hovertemplate": "layer %{x}: %{y:.1%}<extra>a fold</extra>",
    }
    drawn = layout(
        height=380,
        margin={"l": 62, "r": 14, "t": 84, "b": 60},
        title=title("Weight of each layer", counted(len(shares), "fold")),
        xaxis=axis(title={"text": "layer", "standoff": 6}, type="category", showgrid=False),
        yaxis=axis(title={"text": "share"}, tickformat=".0%", rangemode="tozero"),
    )
    return finished([bars, dots], drawn, "layer_weights")


def layer_shares(evaluation: Evaluation) -> tuple[list[int], np.ndarray]:
    """Return the layer numbers and (folds, layers) their shares; folds without a mixture are left out."""
    folds = [fold.layer_weights for fold in evaluation.folds if fold.layer_weights]
    layers = sorted({layer for weights in folds for layer in weights})
    shares = np.array([[weights.get(layer, 0.0) for layer in layers] for weights in folds], dtype=np.float64)
    return layers, shares.reshape(len(folds), len(layers))


def layer_weights_caption(evaluation: Evaluation) -> str:
    """Say what the weights are and what they are not."""
    return (
        "Share of each layer in the mixture, learned on training speakers only. Layers that hold the same share their "
        "weight by chance: a small weight does not say that a layer holds no emotion."
    )


# Elsewhere


def cross_figure(scores: Sequence[CrossScore]) -> Figure:
    """Draw what remains of a score on another corpus, beside that corpus's own folds."""
    names = [cross_name(one) for one in scores]
    own = [one.within if one.within is not None else Estimate(float("nan")) for one in scores]
    traces = [
        _marks(names, [one.uar for one in scores], -OFFSET, {"name": "UAR there", "color": MAIN, "symbol": "circle"}),
        _marks(
            names,
            own,
            OFFSET,
            {"name": "UAR of that corpus's own folds", "color": BESIDE, "symbol": "diamond-open"},
        ),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [1 / len(one.labels) for one in scores],
            "y": list(range(len(scores))),
            "name": "chance",
            "marker": {"symbol": "line-ns-open", "size": 22, "color": INK, "line": {"width": 1.5}},
            "hovertemplate": "chance: %{x:.1%}<extra></extra>",
        },
    ]
    heading = title("Trained on one corpus, tested on another", "UAR over the classes that both have")
    return finished(traces, rows_layout(names, heading, "UAR"), "cross_corpus")


def cross_name(one: CrossScore) -> str:
    """Name a pair of corpora."""
    return f"{class_name(one.train, 18)} → {class_name(one.test, 18)}"


def cross_caption(scores: Sequence[CrossScore]) -> str:
    """Say what was tested on what."""
    told = [
        f"{one.train} → {one.test}: {counted(one.n, 'clip')} of {counted(one.n_speakers, 'speaker')}, "
        f"{len(one.labels)} shared classes, UAR {estimated(one.uar)}"
        + (f", {beside(one.uar, one.within, 'the folds of that corpus itself')}" if one.within else "")
        for one in scores
    ]
    return (
        " ".join(map(sentence, told)) + " Corpora differ in language, sentences and recording as well as in speakers."
    )
