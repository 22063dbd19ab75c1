"""The default head: linear on a mixture of layers, with everything chosen on speakers held out in training.

A kernel ridge regression on the classes (n clips, far more dims, so that the clips' products are all it takes) gives
each training clip its held-out scores in closed form, group of speakers by group of speakers (Cook & Weisberg 1982;
An, Liu & Venkatesh 2007, Pattern Recognition 40:2154), instead of by fitting again without each. What these scores
tell of the classes decides how much each layer counts and how strong the ridge is, and a small discriminant on them
turns scores into logits. The result is one affine map of the standardised layers.

Directions in which the training speakers differ from each other at the same class are made to count less, as nuisance
projections do in speaker recognition (Campbell et al. 2006, ICASSP; Hatch, Kajarekar & Stolcke 2006, Interspeech): what
tells known voices apart is what a new voice will be wrong in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.emotion.calibration import fit_temperature
from core.emotion.folds import speaker_folds
from core.emotion.head import Affine, Examples, Head, HeldOut
from core.errors import DataError
from core.scoring import HeadSettings

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Strengths to choose from, in units of a clip's mean squared length."""

LAYER_RIDGE = 0.3
"""With which layers are compared: the strength that is chosen for most corpora."""

SHARPNESS = 10.0
"""A layer counts exp(- SHARPNESS * nats that its held-out loss is above the best layer's): one that is .1 nats worse
counts 0.37 as much, one that is .5 worse 0.007."""

SHRINKAGE = 0.1
"""Of the discriminant's covariance towards its mean variance."""

SPEAKER_PENALTY = 10.0
"""How much differences between speakers count less: where their mean square is as large as the mean of all directions
in which speakers differ, a direction shrinks by sqrt(1 + SPEAKER_PENALTY)."""

MOST_GROUPS = 10
"""Groups of training speakers that are held out in turn."""

MOST_COMPARED = 1_000
"""Clips that layers and ridges are compared on, evenly drawn; the work grows with the third power of their number."""

MOST_FITTED = 10_000
"""Clips that are fitted, evenly drawn."""

VERSION = 1
"""Of what is computed here; whoever changes that raises it, so that folds kept before are computed again."""

NEVER = -50.0
"""Logit that stands for no chance at all."""

VERSION = 2
"""Of all this: what an earlier one kept is not used again."""


def train_linear(examples: Examples, settings: HeadSettings) -> Head:
    """Train the head; nothing but these examples decides anything.

    Args:
        examples: Pooled layers of the training clips.
        settings: ``class_weights`` and ``seed`` are used.

    Returns:
        A head with held-out logits; temperature, threshold and reference are not set.
    """
    rng = np.random.default_rng(settings.seed)
    fitted = _drawn(len(examples), MOST_FITTED, rng)
    clips = examples.take(fitted)
    mean, scale = _mean_and_scale(clips.features)
    layers = ((clips.features - mean[:, None]) / scale[:, None]).astype(np.float32)
    compared = _drawn(len(fitted), MOST_COMPARED, rng)
    weights, ridge, losses = _chosen(layers[:, compared], _Problem.of(clips.take(compared), settings))
    mixture, problem = _Mixture.of(layers, weights, clips), _Problem.of(clips, settings)
    scores = _held_out_scores(mixture, problem, ridge)
    fit = problem.solved(mixture.quietened_kernel(mixture.voices()), ridge)
    notes = {"ridge": ridge, "layer_losses": losses.tolist(), "n_fitted": len(fitted), "version": VERSION}
    return Head(
        examples.layers, settings.pooling, mean, scale, weights, "concatenated",
        (mixture.affine(fit, problem.discriminant(scores)),), held_out=problem.held_out(scores, fitted), notes=notes,
    )  # fmt: skip


def _chosen(layers: np.ndarray, problem: "_Problem") -> tuple[np.ndarray, float, np.ndarray]:
    """Compare layers, then ridges on their mixture: weights of the layers, the ridge, and the layers' losses."""
    kernels = [_kernel(layer) for layer in layers]
    losses = np.zeros(len(layers))
    if len(layers) > 1:
        losses = np.array([problem.loss(problem.leave_out(kernel, LAYER_RIDGE)) for kernel in kernels])
    weights = np.exp(-SHARPNESS * (losses - losses.min()))
    weights /= weights.sum()
    mixed = _mixed(kernels, weights)
    ridge = min(RIDGES, key=lambda one: problem.loss(problem.leave_out(mixed, one)))
    return weights, ridge, losses


def _held_out_scores(mixture: "_Mixture", problem: "_Problem", ridge: float) -> np.ndarray:
    """Scores of each clip, (n, classes), by fits in which nothing came from its group: neither clips nor voices."""
    scores = np.zeros((len(problem.codes), problem.n_classes))
    for group in np.unique(problem.groups):
        inside = problem.groups == group
        rest, tested = np.flatnonzero(~inside), np.flatnonzero(inside)
        kernel = mixture.quietened_kernel(mixture.voices(rest))
        fit = problem.solved(kernel[np.ix_(rest, rest)], ridge, rest)
        scores[tested] = kernel[np.ix_(tested, rest)] @ fit.coefficients + fit.offset
    return scores


def _drawn(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of all clips, or of as many as are taken."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _mean_and_scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = features.mean(axis=1, dtype=np.float64)
    spread = features.std(axis=1, dtype=np.float64)
    # What does not vary but for rounding says nothing, and must not be blown up to the size of the rest.
    return mean, np.where(spread > 1e-6 * (np.abs(mean) + 1e-12), spread, 1.0)


@dataclass(frozen=True)
class _Voices:
    """Directions in which speakers differ at the same class, and how much each shrinks.

    Attributes:
        axes: (k, dim) orthonormal.
        kept: (k,) share that is kept along each.
    """

    axes: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, codes: np.ndarray, speakers: np.ndarray) -> "_Voices":
        """Take the mean of what each speaker's clips differ by from the means of their classes.

        Args:
            rows: (n, dim) standardised.
            codes: (n,) numbers of the classes.
            speakers: (n,) who speaks.
        """
        means = _group_means(rows, codes)
        offsets = _group_means(rows - means[codes], np.unique(speakers, return_inverse=True)[1])
        offsets -= offsets.mean(axis=0)
        _, sizes, axes = np.linalg.svd(offsets, full_matrices=False)
        # Speakers of one class each differ in nothing but that: what is left is rounding, not voices.
        there = sizes**2 > 1e-6 * _mean_square(rows)
        sizes, level = sizes[there], float(np.mean(sizes**2))
        return cls(axes[there].astype(rows.dtype), 1 / np.sqrt(1 + SPEAKER_PENALTY * sizes**2 / max(level, 1e-30)))

    def quietened(self, rows: np.ndarray) -> np.ndarray:
        """Shrink rows, (n, dim), along these directions."""
        quiet: np.ndarray = rows - (rows @ self.axes.T * (1 - self.kept)) @ self.axes
        return quiet


@dataclass(frozen=True)
class _Mixture:
    """Standardised layers with their weights.

    Attributes:
        layers: (n_layers, n, dim) float32.
        shares: (n_layers,) weight of each layer over the mean squared length of its clips.
        kernel: (n, n) float64 products of all clips.
        codes: (n,) numbers of the classes.
        speakers: (n,) who speaks.
    """

    layers: np.ndarray
    shares: np.ndarray
    kernel: np.ndarray
    codes: np.ndarray
    speakers: np.ndarray

    @classmethod
    def of(cls, layers: np.ndarray, weights: np.ndarray, clips: Examples) -> "_Mixture":
        kernel = _mixed([_kernel(layer) for layer in layers], weights).astype(np.float64)
        shares = np.array([one / max(_mean_square(layer), 1e-30) for one, layer in zip(weights, layers, strict=True)])
        return cls(layers, shares, kernel, clips.codes, clips.speakers)

    def voices(self, rows: np.ndarray | None = None) -> list[_Voices]:
        """Find each layer's voices among some clips, or among all."""
        rows = np.arange(len(self.codes)) if rows is None else rows
        return [_Voices.of(layer[rows], self.codes[rows], self.speakers[rows]) for layer in self.layers]

    def quietened_kernel(self, voices: Sequence[_Voices]) -> np.ndarray:
        """Products of all clips, (n, n), once voices are made to count less."""
        kernel = self.kernel.copy()
        for layer, voice, share in zip(self.layers, voices, self.shares, strict=True):
            along = layer @ voice.axes.T
            kernel -= (along * (share * (1 - voice.kept**2))) @ along.T
        return kernel

    def affine(self, fit: "_Fit", discriminant: "_Discriminant") -> Affine:
        """Put all together: one map of the standardised layers, each times its weight."""
        parts = []
        for layer, voice in zip(self.layers, self.voices(), strict=True):
            weight = fit.coefficients.T @ layer / max(_mean_square(layer), 1e-30)
            # Quiet clips meet loud weights as loud clips meet weights that are quietened twice.
            parts.append(voice.quietened(voice.quietened(weight)).T)
        weight = (np.concatenate(parts) @ discriminant.weight).T
        return Affine(weight, fit.offset @ discriminant.weight + discriminant.offset)


def _group_means(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of each group's rows, (n_groups, dim) float64; zeros for a number that does not occur."""
    counts = np.bincount(groups)
    indicator = np.eye(len(counts))[groups]
    return np.asarray(indicator.T @ rows / np.maximum(counts, 1)[:, None])


def _kernel(rows: np.ndarray) -> np.ndarray:
    """Products of all clips of one layer, (n, n), with a mean of 1 on the diagonal."""
    products: np.ndarray = rows @ rows.T
    return products / max(_mean_square(rows), 1e-30)


def _mean_square(rows: np.ndarray) -> float:
    """Mean squared length of a clip."""
    return float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) / len(rows)


def _mixed(kernels: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    total = np.zeros_like(kernels[0])
    for kernel, weight in zip(kernels, weights, strict=True):
        total += np.float32(weight) * kernel
    return total


# -------------------------------------------------------------------------------------------------------------- fits


@dataclass(frozen=True)
class _Fit:
    """A kernel ridge: f(x) = kernel(x, clips) @ ``coefficients`` + ``offset``."""

    coefficients: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class _Discriminant:
    """Linear discriminant on the few scores."""

    weight: np.ndarray
    offset: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return scores @ self.weight + self.offset


@dataclass(frozen=True)
class _Problem:
    """Training clips without their features.

    Attributes:
        codes: (n,) numbers of the classes.
        groups: (n,) numbers of the groups that are held out together.
        importance: (n,) weight of each clip; their sum is n.
        n_classes: Classes there are.
        by_class: Whether classes count alike.
    """

    codes: np.ndarray
    groups: np.ndarray
    importance: np.ndarray
    n_classes: int
    by_class: bool

    @classmethod
    def of(cls, examples: Examples, settings: HeadSettings) -> "_Problem":
        counts = np.bincount(examples.codes, minlength=examples.n_classes)
        alike = len(examples) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        importance = alike[examples.codes] if settings.class_weights else np.ones(len(examples))
        groups = _groups(examples, settings.seed)
        return cls(examples.codes, groups, importance, examples.n_classes, settings.class_weights)

    def solved(self, kernel: np.ndarray, strength: float, rows: np.ndarray | None = None) -> _Fit:
        """Minimise sum(importance * |one-hot - f|^2) + strength * |f|^2, with an offset that is not penalised.

        Args:
            kernel: (n, n) of the clips that are fitted.
            strength: Of the ridge.
            rows: Their numbers; None for all.
        """
        rows = np.arange(len(self.codes)) if rows is None else rows
        inverse = _inverse(self._system(kernel, strength, rows))
        ones, wanted = inverse.sum(axis=1), np.eye(self.n_classes)[self.codes[rows]]
        offset = ones @ wanted / ones.sum()
        return _Fit(inverse @ wanted - np.outer(ones, offset), offset)

    def leave_out(self, kernel: np.ndarray, strength: float) -> np.ndarray:
        """Scores of each clip, (n, classes), by the same fit without its group, in closed form.

        Leaving a group out changes its residuals to (Q_GG)^-1 alpha_G, where Q is the inverse of the system that the
        coefficients alpha solve. In the kernel's own precision: single is enough to choose by.
        """
        inverse = _inverse(self._system(kernel, strength, np.arange(len(self.codes))))
        ones = inverse.sum(axis=1)
        inverse -= np.outer(ones, ones) / ones.sum()
        wanted = np.eye(self.n_classes, dtype=kernel.dtype)[self.codes]
        coefficients, scores = inverse @ wanted, np.empty_like(wanted)
        for group in np.unique(self.groups):
            rows = np.flatnonzero(self.groups == group)
            scores[rows] = wanted[rows] - np.linalg.solve(inverse[np.ix_(rows, rows)], coefficients[rows])
        return scores.astype(np.float64)

    def _system(self, kernel: np.ndarray, strength: float, rows: np.ndarray) -> np.ndarray:
        system = kernel.copy()
        system.flat[:: len(kernel) + 1] += strength / self.importance[rows]
        return system

    def loss(self, scores: np.ndarray) -> float:
        """Mean negative log likelihood, in nats, of the cross-fitted logits at their best temperature.

        Clips of a class that nobody outside of their group has are left out: nothing can be told of them.
        """
        from scipy.special import log_softmax

        logits = self.cross_fitted(scores)
        known = np.flatnonzero(np.isfinite(logits[np.arange(len(logits)), self.codes]))
        if not len(known):
            return 0.0
        logits, codes = np.maximum(logits[known], NEVER), self.codes[known]
        likely = log_softmax(logits / fit_temperature(logits, codes), axis=1)[np.arange(len(codes)), codes]
        return -float(np.average(likely, weights=self.importance[known]))

    def discriminant(self, scores: np.ndarray, rows: np.ndarray | None = None) -> _Discriminant:
        """Fit the discriminant on scores of some clips or of all."""
        rows = np.arange(len(self.codes)) if rows is None else rows
        scores, codes, weights = scores[rows], self.codes[rows], self.importance[rows]
        counts = np.bincount(codes, weights, self.n_classes)
        there = counts > 0
        sums = np.eye(self.n_classes)[codes].T @ (scores * weights[:, None])
        means = sums / np.where(there, counts, 1)[:, None]
        within = scores - means[codes]
        covariance = (within * (weights / counts[codes] / there.sum())[:, None]).T @ within
        level = np.trace(covariance) / len(covariance)
        covariance = (1 - SHRINKAGE) * covariance + (SHRINKAGE * level + 1e-9) * np.eye(len(covariance))
        weight = np.linalg.solve(covariance, means.T)
        prior = np.zeros(self.n_classes) if self.by_class else np.log(np.maximum(counts, 1e-30) / counts.sum())
        offset = prior - np.einsum("cd,dc->c", means, weight) / 2
        return _Discriminant(np.where(there, weight, 0.0), np.where(there, offset, -np.inf))

    def cross_fitted(self, scores: np.ndarray) -> np.ndarray:
        """Logits of each clip, (n, classes), by a discriminant on the scores of the other groups.

        -inf for a class that no clip of the other groups has.
        """
        logits = np.empty_like(scores)
        for group in np.unique(self.groups):
            inside = self.groups == group
            logits[inside] = self.discriminant(scores, np.flatnonzero(~inside))(scores[inside])
        return logits

    def held_out(self, scores: np.ndarray, rows: np.ndarray) -> HeldOut:
        """What calibration comes from: clips of whose class the other groups have some."""
        logits = self.cross_fitted(scores)
        known = np.isfinite(logits).all(axis=1)
        return HeldOut(logits[known], self.codes[known], rows[known])


def _inverse(system: np.ndarray) -> np.ndarray:
    """Invert a symmetric positive definite matrix, at 3/7 of the work of solving for all columns."""
    from scipy.linalg.lapack import get_lapack_funcs

    potrf, potri = get_lapack_funcs(("potrf", "potri"), (system,))
    factor, failed = potrf(system, lower=1, overwrite_a=1)
    inverse, failed_too = potri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise DataError("The clips' features cannot be told apart in numbers. Remove clips with the same sound.")
    lower = np.tril(inverse)
    return np.asarray(lower + np.tril(lower, -1).T)


def _groups(examples: Examples, seed: int) -> np.ndarray:
    """Number of the group that each clip is held out with: whole speakers, or with one speaker a tenth of the clips."""
    folds = speaker_folds(examples.speakers, examples.codes, MOST_GROUPS, seed)
    groups = np.empty(len(examples), dtype=np.int64)
    if not folds:
        groups[np.argsort(examples.codes, kind="stable")] = np.arange(len(examples)) % min(MOST_GROUPS, len(examples))
    for number, fold in enumerate(folds):
        groups[fold.test] = number
    return groups
