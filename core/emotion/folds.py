"""Who is trained on and who is tested: whole speakers, always."""

from collections.abc import Sequence

import numpy as np

from core.analysis.scores import tables_by_speaker
from core.errors import DataError, InputError
from core.scoring import Fold

MOST_LEFT_OUT = 10
"""Speakers up to which each is left out in turn; more are tested in this many groups, so that a fit still hears nine
tenths of them and the eleventh speaker does not change what a score means."""

VALIDATION_SHARE = 5
"""One speaker in this many is kept for validation."""

SPLITS = ("train", "validation", "test")


def make_folds(
    speakers: np.ndarray, codes: np.ndarray, wanted: str = "auto", seed: int = 0, split: Sequence[str] | None = None
) -> tuple[Fold, ...]:
    """Folds of whole speakers; every clip is tested once, but with the data's own split.

    Args:
        speakers: (n,) who speaks.
        codes: (n,) numbers of the classes, from 0 on.
        wanted: ``auto`` leaves out one speaker after the other up to MOST_LEFT_OUT and as many groups beyond; ``loso``
            leaves out one after the other always; a number, as text, makes that many groups; ``split`` takes the data's
            own, training on its validation clips as well, since heads hold out training speakers by themselves.
        seed: Of who shares a group.
        split: (n,) each ``train``, ``validation`` or ``test``, where the data says.

    Raises:
        DataError: One speaker or one class, or each class by one speaker alone, or a split with a speaker on both
            sides.
        InputError: More groups than speakers, or not a number.
    """
    names = np.unique(speakers)
    if len(names) < 2:
        raise DataError(
            f"All {len(codes)} clips are of one speaker. A score needs at least 2, one to train on and one to test: "
            "add another speaker's clips, or check the speaker column."
        )
    if len(np.unique(codes)) < 2:
        raise DataError(
            f"All {len(codes)} clips have one label. There must be at least 2 to tell apart: check the labels and "
            "their mapping."
        )
    if not _some_class_has_two_speakers(speakers, codes):
        raise DataError(
            f"Each of the {len(np.unique(codes))} classes is spoken by one speaker alone: speaker and class cannot be "
            "told apart, and where a speaker is tested nobody else has the class to learn it from. Add clips of other "
            "speakers with the same classes, or check the speaker column."
        )
    if wanted == "split":
        return (_own_split(speakers, split),)
    count = _number_of_folds(wanted, len(names))
    # Alone, the speakers keep the order of their names.
    tested = np.arange(len(names)) if count == len(names) else _grouped(speakers, codes, count, seed)
    fold_of = tested[np.searchsorted(names, speakers)]
    return tuple(Fold(np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)) for number in range(count))


def speaker_folds(speakers: np.ndarray, codes: np.ndarray, count: int, seed: int = 0) -> tuple[Fold, ...]:
    """At most ``count`` folds of whole speakers with alike shares of the classes, such as a trainer holds out inside.

    Returns:
        As many as there are speakers, where they are fewer; none where there is but one.
    """
    names = np.unique(speakers)
    count = min(count, len(names))
    if count < 2:
        return ()
    fold_of = _grouped(speakers, codes, count, seed)[np.searchsorted(names, speakers)]
    return tuple(Fold(np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)) for number in range(count))


def validation_split(speakers: np.ndarray, codes: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Part training clips into those that are fitted and those of speakers kept for validation, a fifth of them.

    Of the groups of speakers that could be kept, it is the one without which the most classes are left to train on,
    then the one in which the most classes occur.

    Returns:
        Numbers of the fitted clips and of the validation clips; the latter empty where there is but one speaker.
    """
    folds = speaker_folds(speakers, codes, VALIDATION_SHARE, seed)
    if not folds:
        return np.arange(len(codes)), np.zeros(0, dtype=np.int64)
    best = max(folds, key=lambda fold: (len(np.unique(codes[fold.train])), len(np.unique(codes[fold.test]))))
    return best.train, best.test


def missing_classes(fold: Fold, codes: np.ndarray) -> tuple[int, ...]:
    """Classes that are tested in a fold and of which its training speakers have no clip."""
    return tuple(np.setdiff1d(codes[fold.test], codes[fold.train]).tolist())


def _some_class_has_two_speakers(speakers: np.ndarray, codes: np.ndarray) -> bool:
    return any(len(np.unique(speakers[codes == code])) > 1 for code in np.unique(codes))


def _number_of_folds(wanted: str, n_speakers: int) -> int:
    if wanted in ("auto", "loso"):
        return n_speakers if wanted == "loso" else min(n_speakers, MOST_LEFT_OUT)
    if not wanted.isdecimal() or int(wanted) < 2:
        raise InputError(f"Folds {wanted!r} are not known. Give auto, loso, split, or a number from 2 on.")
    if int(wanted) > n_speakers:
        raise InputError(
            f"{wanted} folds were asked for, and there are {n_speakers} speakers, none of whom may stand on both "
            f"sides. Give at most {n_speakers}, or loso."
        )
    return int(wanted)


def _own_split(speakers: np.ndarray, split: Sequence[str] | None) -> Fold:
    parts = np.array([""] * len(speakers) if split is None else list(split), dtype=str)
    unknown = np.flatnonzero(~np.isin(parts, SPLITS))
    if len(unknown):
        raise DataError(
            f"The data's own split was asked for, and {len(unknown)} of {len(parts)} clips say "
            f"{str(parts[unknown[0]])!r}. Each must say one of {', '.join(SPLITS)}; or ask for other folds."
        )
    fold = Fold(np.flatnonzero(parts != "test"), np.flatnonzero(parts == "test"))
    if not len(fold.train) or not len(fold.test):
        raise DataError("The data's own split has no clips to train on or none to test. Ask for other folds.")
    if len(both := np.intersect1d(speakers[fold.train], speakers[fold.test])):
        raise DataError(
            f"In the data's own split, {len(both)} speakers are both trained on and tested ({', '.join(both[:5])}): "
            "its score would count knowing them. Ask for other folds, such as auto."
        )
    return fold


def _grouped(speakers: np.ndarray, codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Give each speaker a group, as many in each as can be and with alike shares of the classes; none is empty.

    Those with the most clips choose first, each the group among the smallest in which its classes are the rarest;
    scikit-learn's ``StratifiedGroupKFold`` may leave a group empty.

    Returns:
        (speakers,) numbers, in the order of their names.
    """
    n_classes = int(codes.max()) + 1
    tables = tables_by_speaker(codes, codes, speakers, n_classes).sum(axis=2)  # (speakers, classes) clips
    clips = tables / np.maximum(tables.sum(axis=0), 1)  # rare classes count as much as frequent ones
    drawn = np.random.default_rng(seed).permutation(len(clips))
    held, sizes = np.zeros((count, n_classes)), np.zeros(count, dtype=np.int64)
    groups = np.zeros(len(clips), dtype=np.int64)
    for speaker in drawn[np.argsort(-tables.sum(axis=1)[drawn], kind="stable")]:
        free = np.flatnonzero(sizes == sizes.min())
        group = free[np.argmin(np.round(held[free] @ clips[speaker], 12))]
        groups[speaker], sizes[group] = group, sizes[group] + 1
        held[group] += clips[speaker]
    return groups
