"""One HTML file with all that an evaluation of emotion found; see :mod:`core.figures.report_page`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.figures.emotion.belief import coverage_caption, coverage_figure, reliability_caption, reliability_figure
from core.figures.emotion.confusion import confusion_caption, confusion_figure
from core.figures.emotion.scores import (
    cross_caption,
    cross_figure,
    folds_caption,
    folds_figure,
    layer_weights_caption,
    layer_weights_figure,
    overview_caption,
    overview_figure,
    recalls_caption,
    recalls_figure,
)
from core.figures.emotion.style import beside_baseline, beside_level, estimated, score, sizes
from core.figures.emotion.tables import (
    class_table,
    confusion_table,
    cross_table,
    fact_tables,
    failure_table,
    fold_table,
    layer_table,
    mapping_table,
    score_table,
)
from core.figures.emotion.training import training_caption, training_figure
from core.figures.layers.style import counted, sentence
from core.figures.report_page import Page, Section, drawing, page_html
from core.figures.tables import Table
from core.scoring import INTENDED_USE, EmotionFindings

HALF = 8
"""Classes up to which a confusion matrix is read in half a page."""

SCOPE = (
    "Scores hold for speakers, sentences, languages and microphones like those of this corpus; see the other corpora, "
    "where there are any."
)


def emotion_report_html(
    findings: EmotionFindings,
    metrics: Sequence[dict[str, Any]] = (),
    tables: Sequence[Table] = (),
    downloads: Sequence[str] = (),
) -> str:
    """Write the report.

    Args:
        findings: What was found.
        metrics: Lines of ``metrics.jsonl``, where heads were trained in epochs.
        tables: More tables to show at the end, of a caller's own.
        downloads: Names of the files that lie beside the report.

    Returns:
        One HTML document, UTF-8 when encoded.
    """
    page = Page(_title(findings), _lead(findings), tuple(_alerts(findings)))
    sections = [
        _headline(findings),
        _mistakes(findings),
        _folds(findings),
        _belief(findings),
        _elsewhere(findings),
        _layers(findings),
        _training(metrics),
        _measured(findings),
        Section("use", "What this may be used for", texts=(INTENDED_USE, SCOPE)),
        Section("failures", "Left out", tables=tuple(one for one in (failure_table(findings),) if one.rows)),
        Section("more", "More tables", tables=tuple(tables)),
        Section("files", "Files beside this report", items=tuple(downloads)),
    ]
    return page_html(page, sections)


def headline(findings: EmotionFindings) -> tuple[str, ...]:
    """Say the result in words: the UAR with its interval, and where it stands beside what it must be compared with."""
    main, baseline, control = findings.main, findings.baseline, findings.shuffled
    sentences = [
        f"UAR {estimated(main.uar)}, {beside_level(main.uar, main.chance, f'chance ({score(main.chance)})')}; "
        f"{sizes(main)}, {len(main.labels)} classes.",
        f"The baseline, {baseline.name}, reaches {estimated(baseline.uar)} on the same folds: the head is "
        f"{beside_baseline(findings)}.",
        f"WA {estimated(main.wa)}; always saying the most frequent class would reach {score(main.majority)}.",
    ]
    if control is not None:
        sentences.append(
            f"With labels shuffled within speakers a linear head reaches {estimated(control.uar)}, where 95 % of "
            f"shuffles fall: {beside_level(control.uar, control.chance, 'chance')}."
        )
    return tuple(sentences)


def _title(findings: EmotionFindings) -> str:
    return f"Emotion in {findings.corpus.get('name', 'a corpus')}: {findings.main.name}"


def _lead(findings: EmotionFindings) -> str:
    seconds = findings.corpus.get("seconds")
    length = f", {seconds / 60:,.0f} minutes" if isinstance(seconds, int | float) and seconds >= 60 else ""
    main = findings.main
    return (
        f"{counted(len(main.truth), 'clip')} of {counted(len(np.unique(main.speakers)), 'speaker')}{length}, "
        f"{len(main.labels)} classes. Every clip was predicted by a head that never heard its speaker."
    )


def _alerts(findings: EmotionFindings) -> list[str]:
    failed = counted(len(findings.failures), "file")
    return [
        *map(sentence, findings.warnings),
        *([f"{failed} could not be used: see “Left out”."] if findings.failures else []),
    ]


def _headline(findings: EmotionFindings) -> Section:
    figure = drawing("figure-scores", overview_figure(findings), overview_caption(findings), "wide")
    return Section("scores", "The score", items=headline(findings), tables=(score_table(findings),), drawings=(figure,))


def _mistakes(findings: EmotionFindings) -> Section:
    main = findings.main
    drawings = (
        drawing(
            "figure-confusion", confusion_figure(main), confusion_caption(main), "wide" * (len(main.labels) > HALF)
        ),
        drawing("figure-recalls", recalls_figure(findings), recalls_caption(findings)),
    )
    folded = (class_table(findings), confusion_table(main))
    return Section("classes", "Which emotions are told apart", drawings=drawings, folded=folded)


def _folds(findings: EmotionFindings) -> Section:
    figure = drawing("figure-folds", folds_figure(findings), folds_caption(findings), "wide")
    return Section("folds", "How far speakers differ", drawings=(figure,), folded=(fold_table(findings),))


def _belief(findings: EmotionFindings) -> Section:
    main = findings.main
    drawings = (
        drawing("figure-calibration", reliability_figure(main), reliability_caption(main)),
        drawing("figure-abstention", coverage_figure(main), coverage_caption(main)),
    )
    return Section("belief", "How far to believe what it says", drawings=drawings)


def _elsewhere(findings: EmotionFindings) -> Section:
    if not findings.cross:
        text = "Not tested on another corpus: nothing is known of other languages, sentences and microphones."
        return Section("cross", "On other corpora", texts=(text,))
    figure = drawing("figure-cross", cross_figure(findings.cross), cross_caption(findings.cross), "wide")
    return Section("cross", "On other corpora", tables=(cross_table(findings.cross),), drawings=(figure,))


def _layers(findings: EmotionFindings) -> Section:
    main = findings.main
    if not any(len(fold.layer_weights) > 1 for fold in main.folds):
        return Section("layers", "Which layers it takes")
    figure = drawing("figure-layers", layer_weights_figure(main), layer_weights_caption(main))
    return Section("layers", "Which layers it takes", drawings=(figure,), folded=(layer_table(main),))


def _training(metrics: Sequence[dict[str, Any]]) -> Section:
    if not metrics:
        return Section("training", "How it was trained")
    figure = drawing("figure-training", training_figure(metrics), training_caption(metrics), "wide")
    return Section("training", "How it was trained", drawings=(figure,))


def _measured(findings: EmotionFindings) -> Section:
    tables = (mapping_table(findings), *fact_tables(findings))
    return Section(
        "measured",
        "How it was measured",
        items=tuple(_protocol(findings)),
        folded=tuple(one for one in tables if one.rows),
    )


def _protocol(findings: EmotionFindings) -> list[str]:
    main, settings = findings.main, findings.settings
    tested = [len(fold.speakers) for fold in main.folds] or [0]
    each = f"{tested[0]}" if len(set(tested)) == 1 else f"{min(tested)} to {max(tested)}"
    transductive = settings.get("transductive")
    told = [
        f"{counted(len(main.folds), 'fold')}, {each} tested {'speaker' if each == '1' else 'speakers'} in each. No "
        "speaker stands on two sides of a fold, nor on both sides of what calibration and thresholds were fitted on.",
        f"Every draw used the seed {settings.get('seed', 'that is not recorded')}.",
        "Intervals are 95 %, a bootstrap over speakers: they hold for other speakers of this corpus's kind, not for "
        "other corpora."
        if main.uar.low is not None
        else "No intervals: too few speakers to draw anew.",
        f"Folds and fits took {main.seconds:,.1f} s, without the embeddings.",
    ]
    if transductive:
        told.append("Transductive: features were put on each speaker's own scale, with the tested clips as well.")
    if findings.corpus.get("fingerprint"):
        told.append(f"Fingerprint of the data: {findings.corpus['fingerprint']}")
    return told
