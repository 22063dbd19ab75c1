"""What a classifier is worth on a corpus: every clip is predicted by a head that never heard its speaker.

Nothing here depends on the order of the clips: folds are put in the order of the clips' names before a trainer sees
them, and intervals are drawn from speakers in the order of theirs.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from core.analysis import scores
from core.analysis.intervals import FEWEST_GROUPS
from core.arrays import OnProgress, Progress
from core.embed.writers import replace_file
from core.emotion.abstention import abstention, with_threshold
from core.emotion.calibration import calibrated
from core.emotion.domain import distance, with_reference
from core.emotion.folds import missing_classes
from core.emotion.head import Examples, Head, Trainer
from core.errors import InputError
from core.scoring import Estimate, Evaluation, Fold, FoldScore

TRANSDUCTIVE = (
    "Features were put on each speaker's own scale, with the tested speakers' clips as well: this score is "
    "transductive, and no single clip of a stranger can reach it."
)

VERSION = 2
"""Of what calibration, threshold, distance and folds do; a kept fold of another one is computed again."""

ALONE_BELOW = 1_500
"""Training clips below which a fit has one thread."""

FEWEST = 3
"""Speakers of each class, at least: with two, one is left to train on where the other is tested."""

MakeTrainer = Callable[[int], Trainer]
"""Makes the trainer of a fold, by its number; -1 is the last fit, on everything."""


@dataclass(frozen=True)
class Options:
    """How an evaluation is done.

    Attributes:
        transductive: Whether features are put on each speaker's own scale, see :func:`on_own_scale`.
        settings: What else decides what a trainer does, as text: a kept fold is used again only where it is the same.
        seed: Of the draws of the intervals.
        reference: Whether clips that are unlike the training clips are found, as a head does: some .05 s a fold.
    """

    transductive: bool = False
    settings: str = ""
    seed: int = 0
    reference: bool = True


@dataclass(frozen=True)
class Answers:
    """What the head of one fold says of the clips it is tested on.

    Attributes:
        probabilities: (n, classes) after calibration.
        uncalibrated: (n, classes) before.
        temperature: Of the head.
        threshold: Of the head.
        layer_weights: Share of each layer in the mixture.
        held_out: Whether training clips were held out, so that it could be calibrated.
        speakers: Whether these were of speakers of their own; False where they were of the one training speaker.
        distances: (n,) from the training clips, in units of what is unlike them; None where it was not computed.
        seconds: Of wall time that fit and answers took.
    """

    probabilities: np.ndarray
    uncalibrated: np.ndarray
    temperature: float = 1.0
    threshold: float = 0.0
    layer_weights: tuple[tuple[int, float], ...] = ()
    held_out: bool = False
    speakers: bool = True
    distances: np.ndarray | None = None
    seconds: float = 0.0


OnFold = Callable[[int, Fold, Answers], None]


def evaluate(
    examples: Examples,
    labels: tuple[str, ...],
    clips: tuple[str, ...],
    folds: Sequence[Fold],
    make_trainer: MakeTrainer,
    name: str,
    on_progress: OnProgress,
    keep: Path | None = None,
    options: Options | None = None,
    on_fold: OnFold | None = None,
) -> Evaluation:
    """Train and test fold by fold, and score what all folds said together.

    Args:
        examples: All clips.
        labels: Names of the classes.
        clips: Name of each clip; each occurs once.
        folds: Who is trained on and who is tested.
        make_trainer: Makes the trainer of a fold.
        name: What is evaluated.
        on_progress: Told of finished folds.
        keep: Folder for finished folds, which a later call with the same clips, fold and settings takes from there.
        options: How it is done.
        on_fold: Told of each fold that is done, or was kept: its number, the fold, what its head said.

    Raises:
        InputError: A speaker stands on both sides of a fold, or frames were to be put on each speaker's scale.
    """
    options = options or Options()
    _check_disjoint(folds, examples.speakers)
    folds = _in_order_of_names(folds, clips)
    examples = on_own_scale(examples) if options.transductive else examples
    kept = _Kept.of(keep, name, examples, options)
    answers = []
    for number, fold in enumerate(folds):
        on_progress(Progress("folds", number, len(folds), "folds"))
        compute = partial(_answer_with, make_trainer, number, examples, fold, options.reference)
        answers.append(kept.get(fold, number, partial(_timed, compute)))
        if on_fold is not None:
            on_fold(number, fold, answers[-1])
    on_progress(Progress("folds", len(folds), len(folds), "folds"))
    began = time.perf_counter()
    found = _Pooled.of(examples, folds, answers, clips).scored(name, labels, options.seed)
    seconds = sum(each.seconds for each in answers) + time.perf_counter() - began
    return replace(found, seconds=seconds, warnings=_warnings(examples, labels, folds, answers, options))


def finished(head: Head, examples: Examples) -> Head:
    """Calibrate a head that was trained on examples, and set when it keeps silent and what it finds unlike them."""
    head = with_threshold(calibrated(head))
    return with_reference(head, head.pooled(examples))


def answer(trainer: Trainer, examples: Examples, fold: Fold, *, reference: bool = True) -> Answers:
    """Train on one side of a fold and predict the other.

    A class of which the training speakers have no clip gets no probability; the trainer is not told of it.

    Args:
        trainer: Of the head.
        examples: All clips.
        fold: Who is trained on and who is tested.
        reference: Whether the distances of the tested clips from the training clips are computed.
    """
    train, test = examples.take(fold.train), examples.take(fold.test)
    known = np.unique(train.codes)
    if len(known) == 1:
        certain = np.eye(examples.n_classes)[np.repeat(known, len(test))]
        return Answers(certain, certain)
    codes = np.searchsorted(known, train.codes)
    train = replace(train, codes=codes, n_classes=len(known))
    with _threads(len(train)):
        head = with_threshold(calibrated(trainer(train)))
        head = with_reference(head, head.pooled(train)) if reference else head
        return _answers(head, head.pooled(test), known)


def on_own_scale(examples: Examples) -> Examples:
    """Put features on each speaker's own scale: mean 0 and standard deviation 1 over the clips of that speaker.

    Raises:
        InputError: The pooling is trained, on frames.
    """
    if examples.frames:
        raise InputError("A learned pooling takes frames, which are not put on each speaker's scale. Use mean_std.")
    features = np.empty_like(examples.features)
    for speaker in np.unique(examples.speakers):
        rows = np.flatnonzero(examples.speakers == speaker)
        own = examples.features[:, rows].astype(np.float64)
        spread = own.std(axis=1, keepdims=True)
        features[:, rows] = (own - own.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return replace(examples, features=features)


def _answer_with(make_trainer: MakeTrainer, number: int, examples: Examples, fold: Fold, reference: bool) -> Answers:
    return answer(make_trainer(number), examples, fold, reference=reference)


def _timed(compute: Callable[[], Answers]) -> Answers:
    began = time.perf_counter()
    return replace(compute(), seconds=time.perf_counter() - began)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """One thread for fits of few clips: more would wait for each other longer than they work."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1) if n < ALONE_BELOW else nullcontext():
        yield


def _answers(head: Head, test: Examples, known: np.ndarray) -> Answers:
    """Predict; ``known`` are the numbers of the classes that the head tells apart."""
    from scipy.special import softmax

    logits = head.logits(test.features)
    found = np.zeros((2, len(test), test.n_classes))
    found[:, :, known] = softmax(logits / head.temperature, axis=1), softmax(logits, axis=1)
    weights = np.abs(head.layer_weights) / max(float(np.abs(head.layer_weights).sum()), 1e-30)
    shares = tuple(zip(head.layers, weights.tolist(), strict=True))
    held_out = None if head.held_out is None else head.held_out.complete
    return Answers(
        found[0], found[1], head.temperature, head.threshold, shares,
        held_out=held_out is not None and len(held_out.codes) > 0,
        speakers=held_out is None or held_out.speakers,
        distances=None if head.reference is None else distance(head, test.features),
    )  # fmt: skip


def _check_disjoint(folds: Sequence[Fold], speakers: np.ndarray) -> None:
    for number, fold in enumerate(folds):
        if len(both := np.intersect1d(speakers[fold.train], speakers[fold.test])):
            raise InputError(
                f"Fold {number + 1} trains on and tests {', '.join(both[:5])}: its score would count knowing them. "
                "Make folds of whole speakers."
            )


def _in_order_of_names(folds: Sequence[Fold], clips: tuple[str, ...]) -> tuple[Fold, ...]:
    place = np.argsort(np.argsort(np.array(clips, dtype=str)))
    return tuple(Fold(*(side[np.argsort(place[side])] for side in (fold.train, fold.test))) for fold in folds)


# ------------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class _Pooled:
    """What the folds said, put together: clips in the order they came in, and folds as numbers.

    Attributes:
        truth: (n,) numbers of the classes.
        probabilities: (n, classes).
        uncalibrated: (n, classes).
        speakers: (n,).
        clips: (n,) names.
        fold_of: (n,) number of the fold that tested each.
        majority: (n,) the most frequent class of the training clips of its fold.
        distances: (n,) from the training clips of its fold; 0 where that is not known.
        answers: Of each fold.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    uncalibrated: np.ndarray
    speakers: np.ndarray
    clips: tuple[str, ...]
    fold_of: np.ndarray
    majority: np.ndarray
    distances: np.ndarray
    answers: Sequence[Answers]

    @classmethod
    def of(
        cls, examples: Examples, folds: Sequence[Fold], answers: Sequence[Answers], clips: tuple[str, ...]
    ) -> "_Pooled":
        rows = np.concatenate([fold.test for fold in folds])
        order = np.argsort(rows, kind="stable")
        frequent = [int(np.bincount(examples.codes[fold.train]).argmax()) for fold in folds]
        fold_of = np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds])[order]
        rows = rows[order]
        return cls(
            truth=examples.codes[rows],
            probabilities=np.concatenate([each.probabilities for each in answers])[order],
            uncalibrated=np.concatenate([each.uncalibrated for each in answers])[order],
            speakers=examples.speakers[rows],
            clips=tuple(clips[row] for row in rows),
            fold_of=fold_of,
            majority=np.array(frequent)[fold_of],
            distances=np.concatenate([_distances(each) for each in answers])[order],
            answers=answers,
        )

    def scored(self, name: str, labels: tuple[str, ...], seed: int) -> Evaluation:
        """Compute every number."""
        said, confidence = self.probabilities.argmax(axis=1), self.probabilities.max(axis=1)
        right, raw = said == self.truth, self.uncalibrated.max(axis=1)
        tables = scores.tables_by_speaker(self.truth, said, self.speakers, len(labels))
        thresholds = np.array([each.threshold for each in self.answers])
        return Evaluation(
            name=name,
            labels=labels,
            truth=self.truth,
            probabilities=self.probabilities,
            uncalibrated=self.uncalibrated,
            speakers=self.speakers,
            clips=self.clips,
            uar=scores.speaker_bootstrap(scores.uar, tables, seed),
            wa=scores.speaker_bootstrap(scores.wa, tables, seed),
            macro_f1=scores.speaker_bootstrap(scores.macro_f1, tables, seed),
            ece=scores.ece_bootstrap(confidence, right, self.speakers, seed),
            ece_uncalibrated=scores.ece_bootstrap(raw, right, self.speakers, seed),
            recalls=tuple(scores.recall_bootstrap(tables, number, seed) for number in range(len(labels))),
            confusion=tables.sum(axis=0),
            chance=1 / len(labels),
            majority=float(np.mean(self.majority == self.truth)),
            folds=tuple(self._fold(number, said, len(labels)) for number in range(len(self.answers))),
            reliability=scores.reliability(confidence, right),
            reliability_uncalibrated=scores.reliability(raw, right),
            abstention=abstention(confidence, right, thresholds, self.fold_of, self.distances),
            ece_by_chance=scores.calibrated_ece(confidence, seed),
        )

    def _fold(self, number: int, said: np.ndarray, n_classes: int) -> FoldScore:
        rows, own = self.fold_of == number, self.answers[number]
        counts = scores.confusion(self.truth[rows], said[rows], n_classes)
        return FoldScore(
            speakers=tuple(np.unique(self.speakers[rows]).tolist()),
            n=int(rows.sum()),
            uar=float(scores.uar(counts)),
            wa=float(scores.wa(counts)),
            temperature=own.temperature,
            threshold=own.threshold,
            layer_weights=dict(own.layer_weights),
        )


def _distances(answers: Answers) -> np.ndarray:
    return np.zeros(len(answers.probabilities)) if answers.distances is None else answers.distances


def shared_estimates(
    probabilities: np.ndarray, truth: np.ndarray, speakers: np.ndarray, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """UAR and calibration error, with intervals, of probabilities (n, classes)."""
    said, n_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    tables = scores.tables_by_speaker(truth, said, speakers, n_classes)
    return (
        scores.speaker_bootstrap(scores.uar, tables, seed),
        scores.ece_bootstrap(probabilities.max(axis=1), said == truth, speakers, seed),
    )


def _warnings(
    examples: Examples, labels: tuple[str, ...], folds: Sequence[Fold], answers: Sequence[Answers], options: Options
) -> tuple[str, ...]:
    """What limits the numbers, as sentences."""
    found = []
    tested = np.unique(np.concatenate([examples.speakers[fold.test] for fold in folds]))
    if len(tested) < FEWEST_GROUPS:
        found.append(
            f"{len(tested)} speakers were tested; intervals over speakers need {FEWEST_GROUPS}, so there are none."
        )
    if missed := sorted({number for fold in folds for number in missing_classes(fold, examples.codes)}):
        names = ", ".join(labels[number] for number in missed)
        found.append(f"In some folds the training speakers have no clip of {names}: those clips count as wrong.")
    if bare := sum(not each.held_out for each in answers):
        found.append(
            f"In {bare} of {len(answers)} folds no training speaker could be held out: their confidence is not "
            "calibrated, and they do not abstain where they are unsure."
        )
    if alone := sum(each.held_out and not each.speakers for each in answers):
        found.append(
            f"In {alone} of {len(answers)} folds there was one training speaker: temperature and thresholds come from "
            "clips of the same speaker, so that confidence is too high for anybody else."
        )
    found += _who_says_what(examples, labels)
    if options.transductive:
        found.append(TRANSDUCTIVE)
    return tuple(found)


def _who_says_what(examples: Examples, labels: tuple[str, ...]) -> Iterator[str]:
    """Tell of classes that too few speakers have, and of speakers that have one class each."""
    pairs = np.unique(np.stack([np.unique(examples.speakers, return_inverse=True)[1], examples.codes]), axis=1)
    speakers = np.bincount(pairs[1], minlength=len(labels))  # of each class
    if few := [f"{labels[code]} ({speakers[code]})" for code in np.flatnonzero((speakers > 0) & (speakers < FEWEST))]:
        yield (
            f"Fewer than {FEWEST} speakers have clips of {', '.join(few)}: how these classes sound and how these "
            "speakers sound can hardly be told apart, and their confidence is poorly known."
        )
    if (np.bincount(pairs[0]) == 1).all():
        yield (
            "Each speaker has clips of one class only: whatever speakers differ in, their room and microphone too, "
            "may pass for the class. Speaker and class can be told apart only across speakers, not within any."
        )


# --------------------------------------------------------------------------------------------------------- kept folds


@dataclass(frozen=True)
class _Kept:
    """Finished folds in a folder.

    Attributes:
        folder: None keeps nothing.
        name: Files begin with it.
        fingerprint: Of the clips and of the settings.
    """

    folder: Path | None
    name: str
    fingerprint: str

    @classmethod
    def of(cls, folder: Path | None, name: str, examples: Examples, options: Options) -> "_Kept":
        if folder is None:
            return cls(None, name, "")
        facts = [name, examples.n_classes, examples.layers, asdict(options), algorithms()]
        whole = sha256(json.dumps(facts).encode())
        for array in (examples.features, examples.codes, examples.speakers.astype(str), *examples.frames):
            whole.update(f"{array.shape} {array.dtype}".encode())
            whole.update(np.ascontiguousarray(array).view(np.uint8).data)
        return cls(folder, re.sub(r"[^A-Za-z0-9]+", "-", name), whole.hexdigest())

    def get(self, fold: Fold, number: int, compute: Callable[[], Answers]) -> Answers:
        """Read a fold's answers, or compute and keep them."""
        if self.folder is None:
            return compute()
        own = sha256(self.fingerprint.encode())
        for side in (fold.train, fold.test):
            own.update(side.astype(np.int64).tobytes() + b"|")
        path = self.folder / f"{self.name}-{number:03d}.npz"
        if (found := _read(path, own.hexdigest())) is None:
            found = compute()
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, _packed(found, own.hexdigest()))
        return found


def algorithms() -> tuple[int, ...]:
    """Versions of what folds are computed with: those that an older one computed are not taken up again."""
    from core.emotion import linear, network

    return VERSION, linear.VERSION, network.VERSION


def _packed(answers: Answers, fingerprint: str) -> bytes:
    """One file, so that it is whole or not there."""
    facts = {
        "fingerprint": fingerprint,
        "temperature": answers.temperature,
        "threshold": answers.threshold,
        "layer_weights": answers.layer_weights,
        "held_out": answers.held_out,
        "speakers": answers.speakers,
        "seconds": answers.seconds,
    }
    file = BytesIO()
    told = np.array(json.dumps(facts))
    distances = np.zeros(0) if answers.distances is None else answers.distances
    np.savez(
        file, facts=told, probabilities=answers.probabilities, uncalibrated=answers.uncalibrated, distances=distances
    )
    return file.getvalue()


def _read(path: Path, fingerprint: str) -> Answers | None:
    """Answers that were kept; None where there are none, or those of other clips or settings."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts: dict[str, Any] = json.loads(str(stored["facts"]))
            if facts.pop("fingerprint") != fingerprint:
                return None
            facts["layer_weights"] = tuple((int(layer), float(share)) for layer, share in facts["layer_weights"])
            distances = stored["distances"]
            facts["distances"] = distances if len(distances) else None
            return Answers(stored["probabilities"], stored["uncalibrated"], **facts)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None
