"""Trained on one corpus and tested on another, on the classes that both have: what is left when the room changes."""

from dataclasses import dataclass, replace

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.emotion.evaluate import MakeTrainer, answer, shared_estimates
from core.emotion.head import Examples, Trainer
from core.errors import DataError
from core.scoring import CrossScore, Estimate, Evaluation, Fold


@dataclass(frozen=True)
class Side:
    """One corpus.

    Attributes:
        name: What the table calls it.
        labels: Names of its classes.
        examples: Its clips.
        own: What its own folds gave, where they were run on these clips.
        sounds: What each clip is known by wherever it lies, such as the hash of its recording with its stretch; empty
            where that is not known.
    """

    name: str
    labels: tuple[str, ...]
    examples: Examples
    own: Evaluation | None = None
    sounds: tuple[str, ...] = ()


def cross_scores(
    first: Side, second: Side, make_trainer: MakeTrainer, on_progress: OnProgress = ignore_progress, seed: int = 0
) -> tuple[CrossScore, CrossScore]:
    """Train on each and test on the other.

    Clips of classes that only one has are left out on both sides: a head that had learned them would lose what it gives
    to them, and what is said of them could never be right. Speakers of clips that both corpora have are left out of the
    training, with all of their clips: no one is tested who was trained on.

    Args:
        first: One corpus.
        second: Another, with features of the same encoder.
        make_trainer: Makes the trainer of each way, by its number: 0 is trained on the first corpus, 1 on the second.
        on_progress: Told of finished fits.
        seed: Of the draws of the intervals.

    Raises:
        DataError: They share fewer than two classes, or one way none are left to train on.
    """
    shared = shared_labels(first, second)
    found = []
    for number, (train, test) in enumerate(((first, second), (second, first))):
        on_progress(Progress("cross-corpus", number, 2, "fits"))
        found.append(_cross(train, test, shared, make_trainer(number), seed))
    on_progress(Progress("cross-corpus", 2, 2, "fits"))
    return found[0], found[1]


def shared_labels(first: Side, second: Side) -> tuple[str, ...]:
    """Classes that clips of both have, sorted.

    Raises:
        DataError: Fewer than two.
    """
    shared = sorted(set(_occurring(first)) & set(_occurring(second)))
    if len(shared) < 2:
        had = "; ".join(f"{side.name} has the labels {', '.join(_occurring(side))}" for side in (first, second))
        raise DataError(
            f"{had}. They share {shared[0] if shared else 'none'}, and at least 2 are needed. Give the labels of both "
            "the same names with --mapping and --test-mapping."
        )
    return tuple(shared)


def _occurring(side: Side) -> list[str]:
    return [side.labels[code] for code in np.unique(side.examples.codes)]


def _cross(train: Side, test: Side, shared: tuple[str, ...], trainer: Trainer, seed: int) -> CrossScore:
    rows, warnings = _strangers(train, test)
    tested = _restricted(test.examples, test.labels, shared)
    trained = _restricted(train.examples.take(rows), train.labels, shared)
    if len(left := np.unique(trained.codes)) < 2:
        raise DataError(
            f"{train.name} and {test.name} have clips in common. Without their speakers, {train.name} has "
            f"{'one' if len(left) else 'none'} of the shared classes left to train on for {test.name}. Give a second "
            "corpus of other speakers."
        )
    both = _joined(trained, tested)
    fold = Fold(np.arange(len(trained)), len(trained) + np.arange(len(tested)))
    said = answer(trainer, both, fold, reference=False)
    uar, ece = shared_estimates(said.probabilities, tested.codes, tested.speakers, seed)
    return CrossScore(
        train=train.name,
        test=test.name,
        labels=shared,
        n=len(tested),
        n_speakers=len(np.unique(tested.speakers)),
        uar=uar,
        ece=ece,
        within=None if test.own is None else _within(test.own, shared, seed),
        warnings=warnings,
    )


def _strangers(train: Side, test: Side) -> tuple[np.ndarray, tuple[str, ...]]:
    """Training clips of speakers of whom no clip is tested as well, by their numbers; and what is to be known of it."""
    speakers, way = train.examples.speakers, f"{train.name} to {test.name}"
    common = np.isin(np.array(train.sounds, dtype=str), np.array(test.sounds, dtype=str))
    known = np.unique(speakers[np.flatnonzero(common)])
    rows = np.flatnonzero(~np.isin(speakers, known))
    found = []
    if len(known):
        found.append(
            f"{way}: {int(common.sum())} clips are in both corpora. All {len(speakers) - len(rows)} clips of their "
            f"{len(known)} speakers were left out of the training."
        )
    if len(alike := np.intersect1d(speakers[rows], test.examples.speakers)):
        found.append(
            f"{way}: {len(alike)} speakers have the same names in both corpora ({', '.join(alike[:5])}) and were held "
            "to be other people. If they are the same, they were both trained on and tested."
        )
    return rows, tuple(found)


def _restricted(examples: Examples, labels: tuple[str, ...], shared: tuple[str, ...]) -> Examples:
    """Keep the clips of shared classes, under their numbers among these."""
    numbers = np.array([shared.index(label) if label in shared else -1 for label in labels])
    kept = examples.take(np.flatnonzero(numbers[examples.codes] >= 0))
    return replace(kept, codes=numbers[kept.codes], n_classes=len(shared))


def _joined(first: Examples, second: Examples) -> Examples:
    """Put clips behind one another; who is called alike in two corpora is not held to be one person."""
    return replace(
        first,
        features=np.concatenate([first.features, second.features], axis=1),
        codes=np.concatenate([first.codes, second.codes]),
        speakers=np.concatenate([first.speakers, second.speakers]),
        frames=first.frames + second.frames,
    )


def _within(own: Evaluation, shared: tuple[str, ...], seed: int) -> Estimate:
    """UAR of a corpus's own folds on the shared classes, where nothing else could be said."""
    columns = [own.labels.index(label) for label in shared]
    numbers = np.array([shared.index(label) if label in shared else -1 for label in own.labels])[own.truth]
    rows = np.flatnonzero(numbers >= 0)
    return shared_estimates(own.probabilities[rows][:, columns], numbers[rows], own.speakers[rows], seed)[0]
