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
    """

    name: str
    labels: tuple[str, ...]
    examples: Examples
    own: Evaluation | None = None


def cross_scores(
    first: Side, second: Side, make_trainer: MakeTrainer, on_progress: OnProgress = ignore_progress, seed: int = 0
) -> tuple[CrossScore, CrossScore]:
    """Train on each and test on the other.

    Clips of classes that only one has are left out on both sides: a head that had learned them would lose what it gives
    to them, and what is said of them could never be right.

    Args:
        first: One corpus.
        second: Another, with features of the same encoder.
        make_trainer: Makes the trainer of each way, by its number: 0 is trained on the first corpus, 1 on the second.
        on_progress: Told of finished fits.
        seed: Of the draws of the intervals.

    Raises:
        DataError: They share fewer than two classes.
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
    trained, tested = _restricted(train, shared), _restricted(test, shared)
    both = _joined(trained, tested)
    fold = Fold(np.arange(len(trained)), len(trained) + np.arange(len(tested)))
    said = answer(trainer, both, fold)
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
    )


def _restricted(side: Side, shared: tuple[str, ...]) -> Examples:
    """Keep the clips of shared classes, under their numbers among these."""
    numbers = np.array([shared.index(label) if label in shared else -1 for label in side.labels])
    kept = side.examples.take(np.flatnonzero(numbers[side.examples.codes] >= 0))
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
