"""What the tab "Emotion" shows: answers, bars, corpora, reports, neighbours. All foreign text is escaped."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
from gradio.components.plot import PlotData

from core.figures.plotly_json import Figure
from core.scoring import (
    INTENDED_USE,
    ClusterScore,
    EmbeddingMap,
    EmotionFindings,
    Estimate,
    Evaluation,
    LabelledCorpus,
    Prediction,
    Said,
)
from core.ui import cards
from core.ui.actions import plot
from core.ui.layers_views import table

CLASSES_SHOWN = 20
"""Classes that a description of a corpus names at most."""

USE = f'<aside class="strata-use" role="note">{escape(INTENDED_USE)}</aside>'
"""What is said beside every result."""

FACE = '<path d="M120 6a26 26 0 1 1 0 52a26 26 0 1 1 0-52" />'
EMPTY = """
<div class="strata-card strata-empty {size}">
  <svg viewBox="0 0 240 64" aria-hidden="true">{drawing}</svg>
  <h2>{title}</h2>
  <p>{text}</p>
</div>
"""

EMPTY_CLASSIFY = USE + EMPTY.format(
    size="",
    drawing=f'{FACE}<path d="M106 38c8 9 20 9 28 0M111 25v3M129 25v3M14 32h12l6-14 8 30 8-24 6 8h14" />'
    '<path d="M172 32h14l6-8 8 24 8-30 6 14h12" />',
    title="Nothing heard yet",
    text="Choose a clip, record yourself, or try an example. You will see which emotion it sounds like, how sure the "
    "classifier is, and how that changes over the clip. Where it does not know, it says so.",
)
EMPTY_TRAIN = EMPTY.format(
    size="strata-lower",
    drawing='<path d="M30 54c30-4 40-30 70-34s50-8 110-12M30 54V8M30 54h190" />'
    '<path d="M60 47v8M100 20v8M140 13v8M180 8v8" />',
    title="Nothing trained yet",
    text="Send a zip of labelled voices. You will see what was recognised, watch the training, and get a score on "
    "speakers whom the classifier never heard, beside what guessing would score.",
)
EMPTY_MAP = EMPTY.format(
    size="strata-lower",
    drawing='<path d="M70 20h.1M82 30h.1M76 40h.1M94 22h.1M60 34h.1M140 40h.1M152 30h.1M160 44h.1M148 50h.1M170 34h.1'
    'M120 12h.1M130 20h.1M112 22h.1" stroke-linecap="round" stroke-width="6" />',
    title="No map yet",
    text="Send labelled voices under “Train”, then make the map here: every clip is a point, and a click plays it.",
)

SILENCE = "silence"
UNSURE = "unsure"
UNLIKE = "unlike"

NO_ANSWER = {
    SILENCE: ("silence", "There is no voice to hear in this clip."),
    "short": ("too short", "The clip is too short to say anything of it."),
    UNSURE: ("unsure", ""),
    UNLIKE: (
        "unlike anything it learned from",
        "Another language, another way of speaking, noise or another microphone may be why.",
    ),
}
"""Why there is no answer: what is said of it, and what it means."""


# --------------------------------------------------------------------------------------------------------- classify


def at_threshold(prediction: Prediction, threshold: float | None) -> Prediction:
    """Return what a head would have said at another threshold; None for the one that it was asked with.

    What is silent, short or unlike the training clips stays so at any threshold.
    """
    if threshold is None:
        return prediction
    clip = _again(prediction.clip, prediction.labels, threshold)
    windows = tuple(_again(said, prediction.labels, threshold) for said in prediction.timeline)
    return replace(prediction, clip=clip, timeline=windows, threshold=threshold)


def _again(said: Said, labels: Sequence[str], threshold: float) -> Said:
    if said.why not in ("", UNSURE):
        return said
    best = int(np.argmax(said.probabilities))
    sure = float(said.probabilities[best]) >= threshold
    return replace(said, label=labels[best] if sure else "", why="" if sure else UNSURE)


def answer(prediction: Prediction) -> str:
    """Say what the clip sounds like, or that there is no answer and why; then who says so, and what to mind."""
    said = prediction.clip
    best, share = _best(said, prediction.labels)
    if said.label:
        head, told = (
            escape(said.label),
            f"{_sure(share).capitalize()} sure; it speaks from {_per_cent(prediction.threshold)} on.",
        )
    else:
        why, told = NO_ANSWER.get(said.why, (said.why, ""))
        head = f"No answer: {escape(why)}"
        told = _why(said, prediction.threshold, best, share) or told
    kind = "" if said.label else " strata-no-answer"
    by = f"Said by <strong>{escape(prediction.head)}</strong> on {escape(cards.model_name(prediction.model))}"
    of = f"of {escape(prediction.source.name)}, {said.stop - said.start:.1f} s"
    # The note on use stands beside the answer in any case.
    minded = warned([warning for warning in prediction.warnings if warning != INTENDED_USE])
    return (
        f'<div class="strata-answer{kind}" role="status"><h2>{head}</h2><p>{escape(told)}</p>'
        f'<p class="strata-how">{by}, {of}.</p>{minded}</div>{USE}'
    )


def _why(said: Said, threshold: float, best: str, share: float) -> str:
    if said.why == UNSURE:
        # Close to the threshold, whole per cent would read as a contradiction.
        digits = 1 if _per_cent(share) == _per_cent(threshold) else 0
        found, asked = _per_cent(share, digits), _per_cent(threshold, digits)
        return f"The most likely is {best} with {found}; below {asked} nothing is said."
    return ""


def bars(prediction: Prediction) -> str:
    """Show the clip's probabilities as bars, the most likely class first, with a mark at the threshold.

    Of silence there are none to show: the numbers that a head gives for it mean nothing.
    """
    if prediction.clip.why == SILENCE:
        return ""
    shares = prediction.clip.probabilities
    muted = "" if prediction.clip.label else " strata-muted"
    rows = "".join(
        f"<li{' class=strata-said' if prediction.labels[place] == prediction.clip.label else ''}>"
        f"<span>{escape(prediction.labels[place])}</span>"
        f'<i aria-hidden="true"><b style="width: {100 * share:.1f}%"></b></i><em>{_sure(share)}</em></li>'
        for place, share in sorted(enumerate(map(float, shares)), key=lambda pair: -pair[1])
    )
    mark = f"--threshold: {prediction.threshold:.4f}"
    return f'<ol class="strata-bars{muted}" style="{mark}" aria-label="Probability of each class">{rows}</ol>'


def timeline(prediction: Prediction) -> tuple[PlotData | None, str]:
    """Draw what is said of each moment; None with a note where the clip is not longer than one window."""
    if not prediction.timeline:
        return None, cards.note("The clip is no longer than one window: there is no course over time to show.")
    from core.figures.emotion.prediction import timeline_caption, timeline_figure

    return plot(timeline_figure(prediction)), cards.how_to_read(timeline_caption(prediction))


def _best(said: Said, labels: Sequence[str]) -> tuple[str, float]:
    place = int(np.argmax(said.probabilities))
    return labels[place], float(said.probabilities[place])


def _per_cent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _sure(share: float) -> str:
    """Return a probability in per cent; no head is sure altogether, and rounding must not say so."""
    return "over 99 %" if share > 0.995 else "under 1 %" if share < 0.005 else _per_cent(share)


# ------------------------------------------------------------------------------------------------------------- train


def about_corpus(corpus: LabelledCorpus) -> str:
    """Say what was recognised: how it was read, clips, speakers, classes, the mapping, and what to mind."""
    n, n_speakers = len(corpus.clips), len(set(corpus.speakers.tolist()))
    facts = [
        f"<strong>{_counted(n, 'clip')}</strong>", f"<strong>{_counted(n_speakers, 'speaker')}</strong>",
        f"<strong>{_counted(len(corpus.labels), 'class', 'classes')}</strong>",
        "read from its list" if corpus.scheme == "manifest" else f"read as {escape(corpus.scheme)}",
    ]  # fmt: skip
    counts = Counter(clip.label for clip in corpus.clips).most_common()
    shown = ", ".join(f"{escape(label)} {count:,}" for label, count in counts[:CLASSES_SHOWN])
    more = f" and {len(counts) - CLASSES_SHOWN} more" if len(counts) > CLASSES_SHOWN else ""
    minded = [*corpus.warnings, *(f"{fail['file']}: {fail['error']}" for fail in corpus.failures)]
    return (
        f'<div class="strata-facts strata-corpus"><p>{", ".join(facts)}.</p><p class="strata-how">{shown}{more}.</p>'
        f"{_mapping(corpus.mapping)}{warned(minded)}</div>"
    )


def _mapping(mapping: Mapping[str, str]) -> str:
    """Show how labels became classes, where that is more than the same word."""
    changed = {given: label for given, label in mapping.items() if given != label}
    if not changed:
        return ""
    rows = ([given, label or "left out"] for given, label in sorted(changed.items()))
    inside = table(["in the data", "class"], rows, "strata-mapping")
    return f'<details class="strata-how-to"><summary>How labels became classes</summary>{inside}</details>'


def warned(notes: Sequence[str], most: int = 8) -> str:
    """List what to mind; empty where there is nothing."""
    if not notes:
        return ""
    more = [f"… and {len(notes) - most} more."] if len(notes) > most else []
    listed = "".join(f"<li>{escape(note)}</li>" for note in [*notes[:most], *more])
    return f'<ul class="strata-warnings">{listed}</ul>'


def fold_bars(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Show the score of each fold that is done: those of the head itself, not of baseline and control."""
    done = [row for row in metrics if "epoch" not in row and isinstance(row.get("uar"), int | float)]
    # A training that goes on tells of the folds that it kept once more.
    own = list({row.get("fold"): row for row in done if row.get("part") == done[0].get("part")}.values())
    if not own:
        return ""
    rows = "".join(
        f"<li><span>{escape(_fold(row))}</span>"
        f'<i aria-hidden="true"><b style="width: {100 * row["uar"]:.1f}%"></b></i><em>{row["uar"]:.3f}</em></li>'
        for row in own
    )
    mean = sum(row["uar"] for row in own) / len(own)
    told = f"{_counted(len(own), 'fold')} so far, mean UAR {mean:.3f}: on speakers that each fold's head never heard."
    return f'<h3>Folds</h3>{cards.note(told)}<ol class="strata-bars" aria-label="Score of each fold">{rows}</ol>'


def _fold(row: Mapping[str, Any]) -> str:
    speakers = [str(speaker) for speaker in row.get("speakers") or ()]
    more = f" and {len(speakers) - 3} more" if len(speakers) > 3 else ""
    tested = f" ({', '.join(speakers[:3])}{more})" if speakers else ""
    return f"Fold {int(row.get('fold', 0)) + 1}{tested}"


def curves(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[Figure, str]]:
    """Draw losses by epoch, where the head is one that learns in epochs."""
    from core.figures.emotion.training import training_caption, training_figure

    epochs = [row for row in metrics if "epoch" in row]
    return [(training_figure(epochs), training_caption(epochs))] if epochs else []


def headline(findings: EmotionFindings) -> str:
    """Say what the head is worth on speakers it never heard, beside what needs no head."""
    main = findings.main
    n_speakers = len(set(main.speakers.tolist()))
    rows = [
        ("This head", main.uar, "strata-main"),
        (f"Baseline: {findings.baseline.name}", findings.baseline.uar, ""),
        *([("Shuffled labels", findings.shuffled.uar, "")] if findings.shuffled is not None else []),
        ("Chance", Estimate(main.chance), ""),
    ]
    listed = "".join(_score(name, estimate, kind) for name, estimate, kind in rows)
    facts = (
        f"Mean recall of {len(main.labels)} classes (UAR), on {_counted(len(main.truth), 'clip')} of "
        f"{_counted(n_speakers, 'speaker')}, each predicted by a head that never heard that speaker; 95 % intervals "
        f"over speakers. Always saying the most frequent class would be right for {_per_cent(main.majority)} of clips."
    )
    return (
        f'<div class="strata-facts strata-headline"><dl>{listed}</dl><p class="strata-how">{escape(facts)}</p>'
        f"{warned(findings.warnings)}</div>{USE}"
    )


def _score(name: str, estimate: Estimate, kind: str) -> str:
    value = f"{estimate.value:.3f}"
    within = (
        ""
        if estimate.low is None or estimate.high is None
        else f" <small>{estimate.low:.3f} to {estimate.high:.3f}</small>"
    )
    return f'<div class="{kind}"><dt>{escape(name)}</dt><dd>{value}{within}</dd></div>'


def scores(evaluation: Evaluation) -> str:
    """List the other scores: accuracy, F1, calibration, and what abstaining brings."""
    silent = evaluation.abstention
    rows = [
        ["Mean recall (UAR)", interval(evaluation.uar)],
        ["Share that is right (WA)", interval(evaluation.wa)],
        ["Macro F1", interval(evaluation.macro_f1)],
        [
            "Calibration error (ECE)",
            f"{interval(evaluation.ece)}; {evaluation.ece_uncalibrated.value:.3f} before calibration",
        ],
        ["Where it speaks", f"{_per_cent(silent.coverage)} of clips, {_per_cent(silent.accuracy)} of them right"],
    ]
    return table(["Score", "Value (95 % interval)"], rows, "strata-comparison")


def interval(estimate: Estimate) -> str:
    """Return, say, ``0.712 (0.651 to 0.769)``."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def report_figures(findings: EmotionFindings) -> list[tuple[Figure, str]]:
    """Draw the evaluation: what the head is worth, what it confuses, and how far to believe it."""
    from core.figures.emotion import belief, confusion, scores

    main = findings.main
    drawn = [
        (scores.overview_figure(findings), scores.overview_caption(findings)),
        (confusion.confusion_figure(main), confusion.confusion_caption(main)),
        (scores.recalls_figure(findings), scores.recalls_caption(findings)),
        (scores.folds_figure(findings), scores.folds_caption(findings)),
        (belief.reliability_figure(main), belief.reliability_caption(main)),
        (belief.coverage_figure(main), belief.coverage_caption(main)),
    ]
    if any(len(fold.layer_weights) > 1 for fold in main.folds):
        drawn.append((scores.layer_weights_figure(main), scores.layer_weights_caption(main)))
    return drawn


# --------------------------------------------------------------------------------------------------------------- map


def about_map(found: EmbeddingMap) -> str:
    """Say what the neighbours of a clip have in common with it."""
    from core.figures.emotion.maps import neighbour_sentence

    outlines = ", ".join(
        f"{name} {_number(value)}" for name, value in found.silhouettes.items() if math.isfinite(value)
    )
    return (
        f'<div class="strata-facts"><p><strong>{_counted(len(found.clips), "clip")}</strong>. '
        f"{escape(neighbour_sentence(found))}"
        f'</p><p class="strata-how">Silhouette: {escape(outlines) or "not defined"}.</p></div>'
    )


def map_of(found: EmbeddingMap, method: str, colour: str) -> tuple[PlotData, str]:
    """Draw one of the maps, with its caption; the page's own lists say which map and what colours it."""
    from core.figures.emotion.maps import map_caption, map_figure

    figure = map_figure(found, method, colour)
    layout = figure["layout"]
    hidden = [{**menu, "visible": False} for menu in layout.get("updatemenus", ())]
    figure = {**figure, "layout": {**layout, "updatemenus": hidden, "margin": {**layout["margin"], "t": 84}}}
    return plot(figure), cards.how_to_read(map_caption(found, method))


def likeness(found: EmbeddingMap) -> list[tuple[Figure, str]]:
    """Draw how alike every two clips are."""
    from core.figures.emotion.maps import similarity_caption, similarity_figure

    return [(similarity_figure(found, kind), similarity_caption(found, kind)) for kind in ("cosine", "euclidean")]


def clusters(found: Sequence[ClusterScore]) -> str:
    """Show how clusters agree with emotions and with speakers."""
    head = [
        "Method",
        "Clusters",
        "No cluster",
        "Silhouette",
        "ARI emotion",
        "ARI speaker",
        "NMI emotion",
        "NMI speaker",
    ]
    rows = (
        [
            one.method, f"{one.n_clusters:,}", _per_cent(one.noise), _number(one.silhouette),
            *(_number(score.get(name)) for score in (one.ari, one.nmi) for name in ("emotion", "speaker")),
        ]
        for one in found
    )  # fmt: skip
    return table(head, rows, "strata-clusters")


def _number(value: float | None) -> str:
    """Return two digits with a true minus, and no minus before nothing."""
    return "" if value is None or not math.isfinite(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _counted(n: int, one: str, more: str = "") -> str:
    return f"{n:,} {one if n == 1 else more or one + 's'}"
