"""A trained head: from pooled layers to calibrated probabilities. All kinds of heads come to this one record.

Whatever trains a head (:class:`Trainer`) hands back numbers only: scales, a mixture of layers, and affine maps with
ReLUs between them. So there is one way to predict, to write a checkpoint and to read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

MIXTURES = ("concatenated", "summed")
"""What becomes of the layers after each was standardised and weighted: side by side, or added up."""


@dataclass(frozen=True)
class Examples:
    """Clips as a head sees them.

    Attributes:
        layers: Layer numbers, ascending.
        features: (n_layers, n, dim) float32, pooled over the frames of each clip.
        codes: (n,) int64 numbers of the classes.
        speakers: (n,) who speaks.
        n_classes: Classes there are; some may not occur among these clips.
        frames: Where the pooling itself is trained: for each clip (n_layers, n_frames, frame_dim) float32; else empty.
    """

    layers: tuple[int, ...]
    features: np.ndarray
    codes: np.ndarray
    speakers: np.ndarray
    n_classes: int
    frames: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Examples":
        """Keep some clips, by their numbers."""
        frames = tuple(self.frames[row] for row in rows) if self.frames else ()
        return Examples(
            self.layers, self.features[:, rows], self.codes[rows], self.speakers[rows], self.n_classes, frames
        )


@dataclass(frozen=True)
class Affine:
    """One affine map: ``weight`` (out, in) and ``bias`` (out,)."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class HeldOut:
    """What training clips got from fits that had not heard their speaker: calibration and thresholds come from here.

    Attributes:
        logits: (n, classes), before calibration; -inf for a class of which the fit had no clip.
        codes: (n,) the truth.
        rows: (n,) numbers of these clips among the examples.
        speakers: Whether whole speakers were held out; False where there was but one, and some of the clips were.
    """

    logits: np.ndarray
    codes: np.ndarray
    rows: np.ndarray
    speakers: bool = True

    @property
    def complete(self) -> "HeldOut":
        """The clips whose fits had clips of all classes: what the others got says nothing of a head that has all."""
        known = np.isfinite(self.logits).all(axis=1)
        return (
            self
            if known.all()
            else replace(self, logits=self.logits[known], codes=self.codes[known], rows=self.rows[known])
        )


@dataclass(frozen=True)
class Reference:
    """Where the training clips lie, to tell what is unlike them; see :mod:`core.emotion.domain`.

    Attributes:
        mean: (d,) of the standardised, mixed features.
        axes: (d, k) principal axes.
        deviations: (k,) standard deviation along each of them.
        rest: Standard deviation in any direction that the axes leave out.
        threshold: Distance that 95 % of the clips of speakers that were held out stay below.
    """

    mean: np.ndarray
    axes: np.ndarray
    deviations: np.ndarray
    rest: float
    threshold: float


@dataclass(frozen=True)
class Head:
    """A trained head.

    Attributes:
        layers: Layers that it takes, ascending.
        pooling: How frames become one vector.
        mean: (n_layers, dim) that is taken away from each layer.
        scale: (n_layers, dim) that it is divided by; never 0.
        layer_weights: (n_layers,) of the mixture.
        mixture: One of MIXTURES.
        maps: Affine maps, with a ReLU between two of them; the last gives one logit a class.
        temperature: That logits are divided by.
        threshold: Confidence below which it abstains.
        reference: Where training clips lie; None where it was not computed.
        attention: (frame_dim,) query of a learned attention, on frames that were standardised and added up.
        held_out: What calibration came from; not kept in a checkpoint.
        notes: What the training did: epochs, strength of the regularisation, curves.
    """

    layers: tuple[int, ...]
    pooling: str
    mean: np.ndarray
    scale: np.ndarray
    layer_weights: np.ndarray
    mixture: str
    maps: tuple[Affine, ...]
    temperature: float = 1.0
    threshold: float = 0.0
    reference: Reference | None = None
    attention: np.ndarray | None = None
    held_out: HeldOut | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def mixed(self, features: np.ndarray) -> np.ndarray:
        """Standardise, weigh and mix pooled layers (n_layers, n, dim); returns (n, mixed dim) float64."""
        standardised = (features - self.mean[:, None]) / self.scale[:, None]
        weighted = standardised * self.layer_weights[:, None, None]
        if self.mixture == "summed":
            return weighted.sum(axis=0, dtype=np.float64)
        return np.concatenate(list(weighted), axis=1).astype(np.float64)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits before calibration, (n, classes) float64, of pooled layers (n_layers, n, dim)."""
        hidden = self.mixed(features)
        for index, step in enumerate(self.maps):
            hidden = (np.maximum(hidden, 0.0) if index else hidden) @ step.weight.T + step.bias
        return hidden

    def pool(self, frames: np.ndarray) -> np.ndarray:
        """Pool one clip's frames by the learned attention: (n_layers, n_frames, dim) to (n_layers, dim) float64.

        Each frame weighs as the softmax of its product with the query says. The layers are returned as they came, so
        that they are standardised and mixed like any pooled ones.
        """
        from scipy.special import softmax

        if self.attention is None:
            raise ValueError(f"A head with the pooling {self.pooling!r} has no query; it takes pooled layers.")
        weights = softmax(self.mixed(frames) @ self.attention)
        return np.einsum("t,ltd->ld", weights, frames, dtype=np.float64)

    def pooled(self, examples: Examples) -> Examples:
        """Examples with the features that this head takes: with a learned attention, pooled from their frames."""
        if self.attention is None:
            return examples
        features = np.stack([self.pool(frames) for frames in examples.frames], axis=1).astype(np.float32)
        return replace(examples, features=features)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (n, classes) float64."""
        from scipy.special import softmax

        return np.asarray(softmax(self.logits(features) / self.temperature, axis=1))


class Trainer(Protocol):
    """What trains a head on examples, with calibration, threshold and reference, on nothing but these examples."""

    def __call__(self, examples: Examples, /) -> Head:
        """Train."""
        ...
