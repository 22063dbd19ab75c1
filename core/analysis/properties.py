"""What the layers of a model hold: log-mel energies (of MEG band powers), phones, words, speakers and free labels.

Each is a curve over layers.

After Pasad et al. (2021, https://arxiv.org/abs/2107.04734). Everything is measured on groups (speakers, where they are
known for all rows, else recordings, else stretches of the one recording) that nothing was fitted on, and everything
with labels is measured once more with shuffled ones.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from core.analysis.cca import CcaFit, JointMoments, fit_cca, pwcca
from core.analysis.information import cluster_centres, information_share, n_clusters, nearest, refined
from core.analysis.intervals import FEWEST_GROUPS, jackknife_interval, joined_groups
from core.analysis.mel import MelSource as EnergySource
from core.analysis.mel import of_middle_thirds
from core.analysis.probes import (
    ShrunkenDiscriminant,
    StandardisedRows,
    chance_level,
    on_standardised_axes,
)
from core.analysis.scores import accuracy
from core.analysis.splits import (
    N_FOLDS,
    Fold,
    NotPossible,
    Split,
    shift_in_time,
    shuffle_between,
    shuffle_labels,
    split_table,
    stratified,
    widest_groups,
)
from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError
from core.findings import Curve, Points, RowTable

MOST_AXES = 128
"""Principal axes of the standardised dims that everything is read off: with more, the fits are poorer at a few thousand
rows rather than better, and slower by far."""

ROWS_AN_AXIS = 5
"""Fewest training rows for each axis."""

FEWEST_ROWS = 50
"""Rows that any property needs."""

FEWEST_OF_A_CLASS = 5
"""Rows that a class needs; it must also occur in two groups, or it would only be tested or only be trained."""

N_SHUFFLES = 3
"""Shuffles in time that a probe's or a CCA's control is the mean of; each moves the labels of all recordings."""

N_INFORMATION_SHUFFLES = 20
"""For mutual information, where they cost little: half are subtracted, half are the control."""

_TITLES = {
    "mel_cca": "Log-mel energies (CCA)",
    "band_cca": "Band powers (CCA)",
    "phone_cca": "Phones (CCA)",
    "word_cca": "Words (CCA)",
    "phone_mi": "Phones (mutual information)",
    "word_mi": "Words (mutual information)",
    "phone_accuracy": "Phones (linear probe)",
    "speaker_accuracy": "Speakers (linear probe)",
    "label_accuracy": "Labels (linear probe)",
}
_MEASURES = {
    "cca": "Canonical correlation with {what}, weighted by how much of {what} each direction accounts for; fitted on "
    "one half of the {split}s and measured on the other, both ways; 0 for noise, 1 for a linear copy",
    "mi": "Mutual information of {what} and k-means clusters, as a share of the entropy of {what}; clusters fitted on "
    "one half of the {split}s and counted on the other, both ways, adjusted for chance; 0 knows nothing, 1 everything",
    "accuracy": "Share of rows whose {what} a linear discriminant recognises; {folds} folds, no {split} both trained "
    "and tested",
}
_WHAT = {
    "mel": "log-mel energies",
    "band": "band powers",
    "phone": "phones",
    "word": "words",
    "speaker": "speakers",
    "label": "labels",
}
_ENERGIES = {"audio": "mel_cca", "meg": "band_cca"}
"""What layers are held against that is measured on the recordings themselves, by modality."""
_NO_ENERGIES = {
    "audio": "There is no sound to take log-mel energies from.",
    "meg": "There are no recordings to take band powers from: they have changed, or they and their model are gone.",
}


@dataclass(frozen=True)
class Question:
    """One property, as it is asked of every layer.

    Attributes:
        name: Of the curve.
        rows: (m,) numbers of the rows that are used.
        target: (m,) class numbers, or (m, n_mels) energies.
        nulls: Shuffled targets.
        split: Of the table's rows.
        seed: Of the clusters.
        note: What was left out.
    """

    name: str
    rows: np.ndarray
    target: np.ndarray
    nulls: tuple[np.ndarray, ...]
    split: Split
    seed: int
    note: str

    @property
    def kind(self) -> str:
        """What is asked about: mel, band, phone, word, speaker or label."""
        return self.name.split("_")[0]

    @property
    def measure(self) -> str:
        """How it is measured: cca, mi or accuracy."""
        return self.name.split("_")[1]

    @property
    def n_classes(self) -> int | None:
        """Classes; None for energies."""
        return int(self.target.max()) + 1 if self.target.ndim == 1 else None


@dataclass(frozen=True)
class Answer:
    """What one layer answers."""

    value: float
    shuffled: float | None
    interval: tuple[float, float] | None
    inflation: float = 0.0


def properties(
    points: Points,
    energies: EnergySource | None = None,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
    span: str = "frame",
    modality: str = "audio",
) -> tuple[tuple[Curve, ...], dict[str, str]]:
    """Compute all properties that the points' labels allow.

    Args:
        points: Rows of one model with their labels.
        energies: Gives the rows' log-mel energies, of MEG their band powers; None where there are no recordings.
        seed: Of shuffles and clusters.
        on_progress: Told of stages ``log-mel`` or ``band powers`` and ``properties``, the latter in layers.
        span: What a row is: ``frame``, ``word``, or ``phone``, whose values are of its middle third.
        modality: ``audio`` or ``meg``.

    Returns:
        The curves, and for each property that could not be computed the reason.

    Raises:
        DataError: Values or energies are not finite.
    """
    _require_finite(points)
    energies = of_middle_thirds(energies) if energies is not None and span == "phone" else energies
    questions, skipped = _questions(points.table, _Measured(modality, energies), seed, on_progress)
    answers = _ask(points.values, questions, on_progress) if questions else []
    curves = [
        _curve(question, points.layers, [layer[number] for layer in answers])
        for number, question in enumerate(questions)
    ]
    return tuple(curves), skipped


def _require_finite(points: Points) -> None:
    for layer, values in zip(points.layers, points.values, strict=True):
        if not np.isfinite(values).all():
            raise DataError(
                f"Layer {layer} holds NaN or infinite values among its {len(points.table)} rows; expected finite ones. "
                "Compute the features again."
            )


# ------------------------------------------------------------------------------------------------- what can be asked


@dataclass(frozen=True)
class _Measured:
    """What is measured on the recordings themselves: of which modality they are, and where it comes from."""

    modality: str
    source: EnergySource | None

    @property
    def name(self) -> str:
        """Of the property."""
        return _ENERGIES[self.modality]

    @property
    def what(self) -> str:
        """In words."""
        return _WHAT[self.name.split("_")[0]]


def _questions(
    table: RowTable, measured: _Measured, seed: int, on_progress: OnProgress
) -> tuple[list[Question], dict[str, str]]:
    """All properties in their order: questions for those that can be asked, reasons for the others."""
    questions, skipped = [], {}
    for name in _TITLES:
        kind, measure = name.split("_")
        if name in _ENERGIES.values() and name != measured.name:
            continue
        try:
            if name == measured.name:
                questions.append(_energy_question(table, measured, seed, on_progress))
            elif kind == "speaker":
                questions.append(_speaker_question(table, seed))
            else:
                questions.append(_label_question(table, kind, measure, seed))
        except NotPossible as reason:
            skipped[name] = str(reason)
    return questions, skipped


def _energy_question(table: RowTable, measured: _Measured, seed: int, on_progress: OnProgress) -> Question:
    if measured.source is None:
        raise NotPossible(_NO_ENERGIES[measured.modality])
    if not (np.isfinite(table.start).all() and np.isfinite(table.stop).all()):
        raise NotPossible("The times of the rows are not known.")
    rows = _enough(np.arange(len(table)), "rows")
    split = split_table(table, 2)
    stage = measured.what.removesuffix(" energies")
    on_progress(Progress(stage, 0, 1, ""))
    energies = np.asarray(measured.source(table), dtype=np.float64)
    if not np.isfinite(energies).all():
        raise DataError(f"The {measured.what} are not finite. Check the recordings for NaN samples.")
    on_progress(Progress(stage, 1, 1, ""))
    nulls = tuple(energies[shift_in_time(table, rows, seed + draw)] for draw in range(N_SHUFFLES))
    return Question(measured.name, rows, energies, nulls, split, seed, split.note)


def _label_question(table: RowTable, kind: str, measure: str, seed: int) -> Question:
    names = _labels(table, kind)
    groups, split_kind, why = widest_groups(table)
    rows, codes, left_out = _classes(names, groups, kind, split_kind)
    stratify = names if kind == "label" else None
    split = split_table(table, N_FOLDS if measure == "accuracy" else 2, stratify)
    draws = N_INFORMATION_SHUFFLES if measure == "mi" else N_SHUFFLES
    shuffles = shuffle_labels(table, rows, codes, seed, draws)
    if measure == "mi" and not shuffles.labels:
        raise NotPossible(f"{shuffles.why} Without, what chance adds could not be subtracted.")
    note = " ".join(filter(None, (left_out, why, shuffles.why)))
    return Question(f"{kind}_{measure}", rows, codes, shuffles.labels, split, seed, note)


def _speaker_question(table: RowTable, seed: int) -> Question:
    names = _labels(table, "speaker")
    rows, codes, left_out = _classes(names, table.recording, "speaker", "recording")
    groups = table.recording
    split = Split("recording", groups, tuple(stratified(rows, codes, groups[rows])))
    shuffles = shuffle_between(groups[rows], "recording", codes, seed)
    note = " ".join(filter(None, (left_out, shuffles.why)))
    return Question("speaker_accuracy", rows, codes, shuffles.labels, split, seed, note)


def _labels(table: RowTable, kind: str) -> np.ndarray:
    names = np.asarray(table.labels.get(kind, np.zeros(0)), dtype=str)
    if not len(names) or not (names != "").any():
        remedy = {"phone": " Give alignments.", "word": " Give alignments."}.get(kind, "")
        raise NotPossible(f"No row has a {kind}.{remedy}")
    return names


def _classes(names: np.ndarray, groups: np.ndarray, kind: str, split_kind: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows whose class has enough rows and groups, their class numbers, and a sentence on what was left out."""
    known = np.flatnonzero(names != "")
    classes, codes, counts = np.unique(names[known], return_inverse=True, return_counts=True)
    pairs = np.unique(np.stack([codes, np.unique(groups[known], return_inverse=True)[1]]), axis=1)
    spread = np.bincount(pairs[0], minlength=len(classes))
    kept = (counts >= FEWEST_OF_A_CLASS) & (spread >= 2)
    rule = f"at least {FEWEST_OF_A_CLASS} rows in at least 2 {split_kind}s"
    if kept.sum() < 2:
        raise NotPossible(f"{_count(kept.sum(), kind)} of {len(classes)} with {rule}; 2 are needed.")
    chosen = kept[codes]
    rows = _enough(known[chosen], f"rows with such a {kind}")
    return rows, np.unique(codes[chosen], return_inverse=True)[1], _left_out(classes[~kept], ~chosen, names, kind, rule)


def _left_out(dropped: np.ndarray, without: np.ndarray, names: np.ndarray, kind: str, rule: str) -> str:
    parts = []
    if len(dropped):
        listed = ", ".join(dropped[:10]) + (", ..." if len(dropped) > 10 else "")
        parts.append(f"{_count(len(dropped), kind)} ({listed}; {int(without.sum())} rows) left out: {rule} are needed.")
    unknown = int((names == "").sum())
    if unknown:
        parts.append(f"{unknown} rows have no {kind}.")
    return " ".join(parts)


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _enough(rows: np.ndarray, what: str) -> np.ndarray:
    if len(rows) < FEWEST_ROWS:
        raise NotPossible(f"There are {len(rows)} {what}; at least {FEWEST_ROWS} are needed.")
    return rows


# ----------------------------------------------------------------------------------------------------------- answers


def _ask(values: np.ndarray, questions: Sequence[Question], on_progress: OnProgress) -> list[list[Answer]]:
    """Answers of each layer, layers side by side on the processor's cores."""
    from threadpoolctl import threadpool_limits

    total = len(values)
    on_progress(Progress("properties", 0, total, "layers"))
    workers = min(total, os.cpu_count() or 1)
    # The fits are small: their own threads would wait for each other. OpenMP's limit is each thread's own.
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(workers, initializer=threadpool_limits, initargs=(1, "openmp")) as pool,
    ):
        waiting: list[Future[list[Answer]]] = [pool.submit(_ask_layer, layer, questions) for layer in values]
        try:
            for done, finished in enumerate(as_completed(waiting), start=1):
                finished.result()
                on_progress(Progress("properties", done, total, "layers"))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in waiting]


def _ask_layer(values: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
    """All questions to one layer (n, dim); axes are fitted once for all questions that share their folds."""
    axes: dict[bytes, np.ndarray] = {}
    return [_ANSWERS[question.measure](question, _Features(values, axes)) for question in questions]


class _Features:
    """A layer's rows on axes fitted on training rows alone."""

    def __init__(self, values: np.ndarray, known: dict[bytes, np.ndarray]) -> None:
        self.values, self.known = values, known

    def on_axes(self, question: Question) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each fold: (m, axes) features of the question's rows, and which of them are trained on and tested."""
        place = np.full(len(self.values), -1)
        place[question.rows] = np.arange(len(question.rows))
        for train, test in question.split.folds:
            key = train.tobytes()
            if key not in self.known:
                count = min(MOST_AXES, self.values.shape[1], len(train) - 1)
                self.known[key] = on_standardised_axes(self.values, train, count)
            inside, outside = (place[rows][place[rows] >= 0] for rows in (train, test))
            if len(inside) and len(outside):
                yield self.known[key][question.rows, : max(1, len(inside) // ROWS_AN_AXIS)], inside, outside


def _answer_accuracy(question: Question, layer: _Features) -> Answer:
    targets, units = (question.target, *question.nulls), _units(question)
    predictions = np.full((len(targets), len(question.rows)), -1)
    right = np.zeros((_n_left_out(units), len(question.rows)))
    for features, train, test in layer.on_axes(question):
        rows = StandardisedRows.of(features, train)
        for found, target in zip(predictions, targets, strict=True):
            sums = rows.sums(train[_with_spread(target[train])], target)
            found[test] = ShrunkenDiscriminant().fit_sums(sums).predict_standardised(rows.values[test])
        right[:, test] = _right_without(rows, question.target, units, (train, test))
    scores = [accuracy(target, found) for target, found in zip(targets, predictions, strict=True)]
    left_out = np.array([found[units != unit].mean() for unit, found in enumerate(right)])
    return Answer(scores[0], _mean(scores[1:]), jackknife_interval(scores[0], left_out, (0.0, 1.0)))


def _n_left_out(units: np.ndarray) -> int:
    """How many units to leave out in turn: none where they are too few for an interval."""
    count = int(units.max()) + 1
    return count if count >= FEWEST_GROUPS else 0


def _right_without(rows: StandardisedRows, target: np.ndarray, units: np.ndarray, fold: Fold) -> np.ndarray:
    """Which tested rows are right where a unit is not trained on, (n_units, tested); NaN where none is left."""
    train, test = fold
    n_classes = int(target.max()) + 1
    whole = rows.sums(train, target, n_classes)
    found = np.full((_n_left_out(units), len(test)), np.nan)
    for unit, right in enumerate(found):
        lost = train[units[train] == unit]
        if len(lost) < len(train):
            fitted = ShrunkenDiscriminant().fit_sums(whole - rows.sums(lost, target, n_classes))
            right[:] = fitted.predict_standardised(rows.values[test]) == target[test]
    return found


def _with_spread(target: np.ndarray) -> np.ndarray:
    """Mask of the rows whose class has more than one: a single one says nothing about the spread within classes."""
    several = np.bincount(target)[target] > 1
    return np.asarray(several if several.any() else ~several)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _answer_mi(question: Question, layer: _Features) -> Answer:
    units, shares, left_out = _units(question), [], []
    for features, train, test in layer.on_axes(question):
        k = n_clusters(len(train), question.n_classes or 2)
        centres = cluster_centres(features[train], k, question.seed)
        nulls = [null[test] for null in question.nulls]
        shares.append(information_share(question.target[test], nearest(centres, features[test]), nulls))
        left_out.append(
            [
                _share_without(units == unit, question, features, centres, (train, test))
                for unit in range(_n_left_out(units))
            ]
        )
    value = float(np.mean([share.value for share in shares]))
    return Answer(
        value,
        float(np.mean([share.shuffled for share in shares])),
        jackknife_interval(value, np.mean(left_out, axis=0)),
        float(np.mean([share.inflation for share in shares])),
    )


def _share_without(
    unit: np.ndarray, question: Question, features: np.ndarray, centres: np.ndarray, fold: Fold
) -> float:
    """Share of information without the rows of a unit (m,), clusters fitted on; NaN where no row is left."""
    train, test = (rows[~unit[rows]] for rows in fold)
    if not (len(train) and len(test)):
        return np.nan
    found = nearest(refined(centres, features[train]), features[test])
    return information_share(question.target[test], found, [null[test] for null in question.nulls]).value


def _units(question: Question) -> np.ndarray:
    """(m,) number of the groups that each row is left out with: its own, or its neighbours' in the fold too."""
    tested = np.zeros(len(question.split.groups), dtype=np.int64)
    for number, (_, test) in enumerate(question.split.folds):
        tested[test] = number
    return joined_groups(question.split.groups[question.rows], tested[question.rows])


def _answer_cca(question: Question, layer: _Features) -> Answer:
    units, values, left_out, shuffled = _units(question), [], [], []
    for features, train, test in layer.on_axes(question):
        trained, tested = (_UnitSums(features, _columns(question.target), units, rows) for rows in (train, test))
        fit = fit_cca(trained.all())
        values.append(pwcca(fit, tested.all(), side="y"))
        left_out.append(_left_out_cca(fit, trained, tested))
        for null in question.nulls:
            fitted, held_out = (
                JointMoments.from_arrays(features[rows], _columns(null)[rows]) for rows in (train, test)
            )
            shuffled.append(pwcca(fit_cca(fitted), held_out, side="y"))
    value = float(np.mean(values))
    return Answer(value, _mean(shuffled), jackknife_interval(value, np.mean(left_out, axis=0)))


class _UnitSums:
    """Sums of products of features (m, p) and targets (m, q) by unit: what is left without one is a difference."""

    def __init__(self, x: np.ndarray, y: np.ndarray, units: np.ndarray, rows: np.ndarray) -> None:
        both = np.concatenate([x[rows], y[rows]], axis=1, dtype=np.float64)
        self.units, self.centre, self.n_x = units, both.mean(axis=0), x.shape[1]
        both -= self.centre
        members = [both[units[rows] == unit] for unit in range(int(units.max()) + 1)]
        self.counts = np.array([len(part) for part in members])
        self.sums = np.stack([part.sum(axis=0) for part in members])
        self.products = np.stack([part.T @ part for part in members])
        self.total = self.products.sum(axis=0)

    def all(self) -> JointMoments:
        """Moments of all rows."""
        return self._moments(int(self.counts.sum()), np.zeros_like(self.centre), self.total)

    def without(self, unit: int) -> JointMoments:
        """Moments of the rows of all other units."""
        return self._moments(
            int(self.counts.sum() - self.counts[unit]), -self.sums[unit], self.total - self.products[unit]
        )

    def _moments(self, n: int, sums: np.ndarray, products: np.ndarray) -> JointMoments:
        mean, p = sums / n, self.n_x
        scatter = products - np.outer(mean, sums)
        place = self.centre + mean
        return JointMoments(n, place[:p], place[p:], scatter[:p, :p], scatter[p:, p:], scatter[:p, p:])


def _left_out_cca(fit: CcaFit, trained: _UnitSums, tested: _UnitSums) -> np.ndarray:
    """Measure once more without each unit, fitted anew where it was trained on; NaN where too few rows are left."""
    found = np.full(_n_left_out(trained.units), np.nan)
    for unit in range(len(found)):
        if min(sums.counts.sum() - sums.counts[unit] for sums in (trained, tested)) > 1:
            again = fit_cca(trained.without(unit)) if trained.counts[unit] else fit
            found[unit] = pwcca(again, tested.without(unit), side="y")
    return found


def _columns(target: np.ndarray) -> np.ndarray:
    """Energies as they are, classes as one column each."""
    return target if target.ndim == 2 else np.eye(int(target.max()) + 1)[target]


_ANSWERS = {"accuracy": _answer_accuracy, "mi": _answer_mi, "cca": _answer_cca}


# ------------------------------------------------------------------------------------------------------------ curves


def _curve(question: Question, layers: tuple[int, ...], answers: Sequence[Answer]) -> Curve:
    intervals = [answer.interval for answer in answers]
    ends = None if None in intervals else np.array(intervals, dtype=np.float64)
    is_probe = question.measure == "accuracy"
    return Curve(
        name=question.name,
        title=_TITLES[question.name],
        measure=_MEASURES[question.measure].format(
            what=_WHAT[question.kind] if not is_probe else question.kind,
            split=question.split.kind,
            folds=len(question.split.folds),
        ),
        layers=layers,
        values=np.array([answer.value for answer in answers]),
        low=None if ends is None else ends[:, 0],
        high=None if ends is None else ends[:, 1],
        shuffled=np.array([answer.shuffled for answer in answers]) if question.nulls else None,
        chance=chance_level(accuracy, question.target) if is_probe else None,
        n=len(question.rows),
        n_classes=question.n_classes,
        split=question.split.kind,
        note=" ".join(filter(None, (question.note, _clusters_note(question, answers), _no_interval(question, ends)))),
    )


def _clusters_note(question: Question, answers: Sequence[Answer]) -> str:
    if question.measure != "mi":
        return ""
    counts = [
        n_clusters(int(np.isin(question.rows, train).sum()), question.n_classes or 2)
        for train, _ in question.split.folds
    ]
    share = np.mean([answer.inflation for answer in answers])
    return f"{max(counts)} clusters; not adjusted for chance, shuffled labels would have read {share:.2f}."


def _no_interval(question: Question, ends: np.ndarray | None) -> str:
    needed = f"at least {FEWEST_GROUPS} {question.split.kind}s, and 2 in each half, are needed"
    return f"There is no interval: {needed}." if ends is None else ""
