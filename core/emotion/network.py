"""The document's head as a network: a learned mixture of layers, dropout, early stopping on speakers not trained on.

The layers are standardised with the training clips' own mean and deviation, weighted by a softmax that is learned (as
in SUPERB, Yang et al. 2021, section 4), added up, and go through the perceptron of
:class:`core.models.emotion.EmotionHead`. With the pooling ``learned``, frames are standardised, weighted and added up
in the same way, and a learned query says how much each of them weighs.

When to stop is a question to speakers that are not trained on, and few speakers can be spared. So the training
speakers are parted into folds: each fold is held out once, and the fit stops when the loss on it has stopped falling.
What the held-out clips get from these fits is what calibration comes from; they have chosen the epoch as well, so that
it is a little too sure. The head itself is then trained on all speakers, for the median of the folds' epochs.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.analysis.scores import unweighted_recall
from core.emotion.folds import speaker_folds
from core.emotion.head import Affine, Examples, Head, HeldOut
from core.emotion.pooling import LearnedAttention
from core.errors import InputError
from core.models.emotion import EmotionHead
from core.scoring import Fold, HeadSettings
from core.training.loop import Hooks, LoopSettings, Step, train
from core.training.runs import Stopped

FOLDS = 5
"""Groups of training speakers of which each is held out once."""

FRAME_FOLDS = 3
"""The same where frames are pooled in training, which costs a hundred times as much."""

MIXING_PACE = 10.0
"""The mixture's learning rate, in units of the head's: in a few hundred steps of 0.001, a softmax hardly moves."""

VERSION = 1
"""Of what is computed here; whoever changes that raises it, so that folds kept before are computed again."""

STATE_EPOCHS = 20
"""Epochs between two resumable states: an epoch of a few hundred clips takes less time than writing one."""

OnMetrics = Callable[[dict[str, Any]], None]
Batch = tuple[Any, ...]


# --------------------------------------------------------------------------------------------------------- network


@dataclass(frozen=True)
class Scales:
    """What layers are standardised with: ``mean`` and ``scale``, (n_layers, dim) float32 each; no scale is 0."""

    mean: np.ndarray
    scale: np.ndarray


class Mixture(nn.Module):
    """Standardised layers, weighted by a softmax and added up; with one layer, that layer.

    Args:
        scales: Of the layers.
        only: Number of the one layer to take among them; None learns the weights.
    """

    def __init__(self, scales: Scales, only: int | None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scales.mean))
        self.register_buffer("scale", torch.from_numpy(scales.scale))
        n_layers = len(scales.mean)
        if only is None and n_layers > 1:
            self.mixing = nn.Parameter(torch.zeros(n_layers))
        else:
            fixed = torch.full((n_layers,), -torch.inf)
            fixed[only or 0] = 0.0
            self.register_buffer("mixing", fixed)

    @property
    def weights(self) -> Tensor:
        """(n_layers,) shares that add up to 1."""
        return torch.softmax(self.mixing, dim=0)

    def forward(self, layers: Tensor) -> Tensor:
        """Turn (batch, n_layers, ..., dim) into (batch, ..., dim)."""
        shape = (-1, *(1 for _ in range(layers.ndim - 3)), layers.shape[-1])
        standardised = (layers - self.mean.view(shape)) / self.scale.view(shape)
        return torch.einsum("l,bl...->b...", self.weights, standardised)


class EmotionNetwork(nn.Module):
    """From layers to logits.

    Args:
        mixture: Of the layers.
        n_classes: Classes there are.
        attention: Whether the input are frames, to be pooled by a learned attention.
    """

    def __init__(self, mixture: Mixture, n_classes: int, *, attention: bool) -> None:
        super().__init__()
        dim = mixture.mean.shape[1]
        self.mixture, self.head = mixture, EmotionHead(dim, n_classes)
        self.attention = LearnedAttention(dim) if attention else None

    def forward(self, layers: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn pooled layers (batch, n_layers, dim), or frames, into logits (batch, n_classes).

        Args:
            layers: With an attention (batch, n_layers, n_frames, dim), padded at the end.
            lengths: (batch,) frames of each that are no padding; None where all are.
        """
        mixed = self.mixture(layers)
        return self.head(mixed if self.attention is None else self.attention(mixed.transpose(1, 2), lengths))


def as_head(network: EmotionNetwork, layers: tuple[int, ...], pooling: str) -> Head:
    """The network's numbers."""
    maps = [
        Affine(step.weight.detach().numpy().copy(), step.bias.detach().numpy().copy())
        for step in network.head.layers
        if isinstance(step, nn.Linear)
    ]
    return Head(
        layers=layers,
        pooling=pooling,
        mean=network.mixture.mean.numpy().copy(),
        scale=network.mixture.scale.numpy().copy(),
        layer_weights=network.mixture.weights.detach().numpy().copy(),
        mixture="summed",
        maps=tuple(maps),
        attention=None if network.attention is None else network.attention.query.detach().numpy().copy(),
    )


# ------------------------------------------------------------------------------------------------------- what is fitted


@dataclass(frozen=True)
class Material:
    """Clips to fit a network to.

    Attributes:
        batch: Input of the network for some clips, by their numbers.
        codes: (n,) numbers of the classes.
        n_classes: Classes there are.
        settings: How.
    """

    batch: Callable[[np.ndarray], Batch]
    codes: np.ndarray
    n_classes: int
    settings: HeadSettings

    def class_weights(self, rows: np.ndarray) -> Tensor:
        """(n_classes,) weights in the loss; 0 for a class of which ``rows`` hold no clip, so that none asks for it."""
        counts = np.bincount(self.codes[rows], minlength=self.n_classes)
        alike = np.where(counts > 0, len(rows) / np.maximum(counts, 1) / max(1, (counts > 0).sum()), 0.0)
        weights = alike if self.settings.class_weights else (counts > 0).astype(float)
        return torch.from_numpy(weights.astype(np.float32))

    def step(self, rows: np.ndarray) -> Step:
        """The step of the training loop: every epoch takes all rows once, in an order that its number decides."""
        weights, per_epoch = self.class_weights(rows), self.steps_per_epoch(rows)

        def step(network: nn.Module, update: int) -> dict[str, Tensor]:
            epoch, place = divmod(update, per_epoch)
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(rows)
            batch = np.array_split(order, per_epoch)[place]
            truth = torch.from_numpy(self.codes[batch])
            return {"loss": functional.cross_entropy(network(*self.batch(batch)), truth, weight=weights)}

        return step

    def steps_per_epoch(self, rows: np.ndarray) -> int:
        """Batches of alike sizes that hold all rows."""
        return -(-len(rows) // self.settings.batch_size)

    @torch.inference_mode()
    def logits(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """What a network in eval mode makes of some clips, (len(rows), n_classes)."""
        pieces = np.array_split(rows, self.steps_per_epoch(rows))
        return np.concatenate([network(*self.batch(piece)).numpy() for piece in pieces]).astype(np.float64)

    def validate(self, fold: Fold) -> Callable[[nn.Module], dict[str, float]]:
        """Loss and recall on the held-out clips of classes that are trained on; none where there are no such clips."""
        weights = self.class_weights(fold.train)
        rows = fold.test[weights.numpy()[self.codes[fold.test]] > 0]
        truth = self.codes[rows]

        def scores(network: nn.Module) -> dict[str, float]:
            if not len(rows):
                return {}
            logits = self.logits(network, rows)
            loss = functional.cross_entropy(torch.from_numpy(logits).float(), torch.from_numpy(truth), weight=weights)
            return {"loss": float(loss), "uar": unweighted_recall(truth, logits.argmax(axis=1))}

        return scores


def loop_settings(material: Material, rows: np.ndarray, **others: Any) -> LoopSettings:
    """The loop at a constant learning rate, with a validation and a line of metrics each epoch."""
    settings, per_epoch = material.settings, material.steps_per_epoch(rows)
    usual = {
        "updates": settings.epochs * per_epoch,
        "patience": settings.patience,
        "validate_every": per_epoch,
        "log_every": per_epoch,
        "checkpoint_every": STATE_EPOCHS * per_epoch,
    }
    return LoopSettings(
        **usual | others,
        learning_rate=settings.learning_rate,
        warmup=0,
        decay_fraction=0.0,
        beta2=0.999,
        seed=settings.seed,
    )


def chosen_layer(settings: HeadSettings, layers: tuple[int, ...]) -> int | None:
    """Place of the one layer that is wanted among ``layers``; None for a mixture of all.

    Raises:
        InputError: there is no such layer.
    """
    if settings.layer == "all":
        return None
    if not settings.layer.isdecimal() or int(settings.layer) not in layers:
        raise InputError(
            f"Got layer {settings.layer!r}; expected all or one of {', '.join(map(str, layers))}, the model's layers."
        )
    return layers.index(int(settings.layer))


def inner_folds(speakers: np.ndarray, codes: np.ndarray, count: int, seed: int) -> tuple[tuple[Fold, ...], str]:
    """Folds of training clips, by speakers; of one speaker there are only clips to hold out.

    Returns:
        Folds, none where there is but one clip; and what is held out, in words.
    """
    folds = speaker_folds(speakers, codes, count, seed)
    if folds:
        return folds, f"{len(folds)} groups of speakers"
    count = min(count, len(codes))
    if count < 2:
        return (), "nothing"
    order = np.random.default_rng(seed).permutation(len(codes))
    fold_of = np.empty(len(codes), dtype=np.int64)
    # Class by class, one clip after the other goes to the next fold.
    fold_of[order[np.argsort(codes[order], kind="stable")]] = np.arange(len(codes)) % count
    folds = tuple(Fold(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(count))
    return folds, f"{count} groups of clips of the one speaker"


# ------------------------------------------------------------------------------------------------------------- trainer


class NetworkTrainer:
    """Trains the head ``mlp``.

    Args:
        settings: How.
        folder: Keeps what was trained, so that the same call goes on where it was stopped; None keeps nothing.
        on_metrics: Gets two rows for each epoch: ``fit``, ``epoch``, and ``split``, which is ``train`` with the
            ``loss`` of a batch, or ``eval`` with ``loss`` and ``uar`` of the held-out clips.
        should_stop: Asked before every update.
    """

    def __init__(
        self,
        settings: HeadSettings,
        folder: Path | None = None,
        on_metrics: OnMetrics = lambda row: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.folder = settings, folder
        self.on_metrics, self.should_stop = on_metrics, should_stop

    def __call__(self, examples: Examples) -> Head:
        """Train.

        Raises:
            InputError: a layer that there is not, or a pooling that is trained and no frames.
            Stopped: it was asked to; with a folder, the same call goes on.
        """
        learned = self.settings.pooling == "learned"
        if learned and not examples.frames:
            raise InputError("The pooling learned needs the frames of each clip; got none. Use mean_std.")
        examples = examples if learned else replace(examples, frames=())
        with seeded(self.settings.seed), threads(1):  # several would wait for each other, and add up in another order
            return self._train(examples, FRAME_FOLDS if learned else FOLDS)

    def _train(self, examples: Examples, count: int) -> Head:
        """Fit with each fold held out, then on everything for the median of their epochs."""
        settings, everything = self.settings, np.arange(len(examples))
        material = Material(_reader(examples), examples.codes, examples.n_classes, settings)
        data = "" if self.folder is None else fingerprint(examples)
        folds, what = inner_folds(examples.speakers, examples.codes, count, settings.seed)
        logits = np.zeros((len(examples), examples.n_classes))
        histories = []
        for number, fold in enumerate(folds):
            network, wanted = self._network(examples, fold.train), loop_settings(material, fold.train, data=data)
            histories.append(self._fit(network, material, fold, wanted, f"fold {number + 1} of {len(folds)}"))
            logits[fold.test] = material.logits(network, fold.test)
            never = np.setdiff1d(np.arange(examples.n_classes), examples.codes[fold.train])
            logits[np.ix_(fold.test, never)] = -np.inf
        epochs = _median_epoch(histories, settings.epochs)
        updates = epochs * material.steps_per_epoch(everything)
        wanted = loop_settings(material, everything, data=data, updates=updates, patience=0)
        network = self._network(examples, everything)
        self._fit(network, material, Fold(everything, everything[:0]), wanted, "all speakers")
        return replace(
            as_head(network, examples.layers, settings.pooling),
            held_out=HeldOut(logits, examples.codes, everything, len(set(examples.speakers)) > 1) if folds else None,
            notes={"epochs": epochs, "held_out": what, "histories": histories},
        )

    def _network(self, examples: Examples, rows: np.ndarray) -> EmotionNetwork:
        """A network before training, with weights from the seed and the scales of the clips that it is trained on."""
        torch.manual_seed(self.settings.seed)
        learned = self.settings.pooling == "learned"
        pieces = [examples.frames[row] for row in rows] if learned else [examples.features[:, rows]]
        mixture = Mixture(scales_of(pieces), chosen_layer(self.settings, examples.layers))
        return EmotionNetwork(mixture, examples.n_classes, attention=learned)

    def _fit(
        self, network: EmotionNetwork, material: Material, fold: Fold, wanted: LoopSettings, name: str
    ) -> list[dict[str, float]]:
        """Train one network in place, to the weights that it is best with; returns the scores of its epochs."""
        told = Listener(self.on_metrics, name, wanted.validate_every)
        hooks = Hooks(validate=material.validate(fold), should_stop=self.should_stop, on_log=told)
        folder = None if self.folder is None else self.folder / name.replace(" ", "-")
        return fit(network, material.step(fold.train), wanted, folder, hooks)


@dataclass(frozen=True)
class Listener:
    """Turns the loop's lines into rows for a curve: ``fit``, ``epoch``, and what was measured."""

    on_metrics: OnMetrics
    name: str
    per_epoch: int

    def __call__(self, entry: dict[str, Any]) -> None:
        """Tell one line."""
        measured = {key: entry[key] for key in ("split", "loss", "uar") if key in entry}
        self.on_metrics({"fit": self.name, "epoch": entry["step"] / self.per_epoch} | measured)


def fit(
    network: nn.Module, step: Step, wanted: LoopSettings, folder: Path | None, hooks: Hooks
) -> list[dict[str, float]]:
    """Train a network to the end, and leave it in eval mode with the weights that it was best with.

    Returns:
        ``epoch``, ``loss`` and ``uar`` of each validation.

    Raises:
        Stopped: it was asked to stop before.
    """
    mixing = [name for name, _ in network.named_parameters() if name.endswith("mixture.mixing")]
    rates = dict.fromkeys(mixing, MIXING_PACE * wanted.learning_rate)
    progress, done = train(network, step, replace(wanted, own_rates={**wanted.own_rates, **rates}), folder, hooks)
    if not done:
        raise Stopped
    network.eval()
    return [{"epoch": entry["step"] / wanted.validate_every} | _scores(entry) for entry in progress.history]


def _scores(entry: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if name != "step"}


def scales_of(pieces: Sequence[np.ndarray]) -> Scales:
    """Mean and deviation of each layer and dim over the middle axes of all pieces, (n_layers, ..., dim) each."""
    count = sum(piece.shape[1] for piece in pieces)
    mean = sum(piece.sum(axis=1, dtype=np.float64) for piece in pieces) / count
    squares = sum(np.square(piece - mean[:, None]).sum(axis=1) for piece in pieces)
    deviation = np.sqrt(squares / count)
    # What is constant stays constant: it must not become noise of a size of one.
    still = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return Scales(mean.astype(np.float32), np.where(still, 1.0, deviation).astype(np.float32))


def fingerprint(examples: Examples) -> str:
    """SHA-256 of what a head is trained on."""
    digest = hashlib.sha256(repr((examples.layers, examples.speakers.tolist(), examples.n_classes)).encode())
    for array in (examples.codes, examples.features, *examples.frames):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator from a seed; afterwards it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch so many threads; afterwards it has as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reader(examples: Examples) -> Callable[[np.ndarray], Batch]:
    """What gives the network's input for some clips."""
    if not examples.frames:
        features = torch.from_numpy(np.ascontiguousarray(examples.features.transpose(1, 0, 2), dtype=np.float32))
        return lambda rows: (features[torch.from_numpy(rows)],)

    def padded(rows: np.ndarray) -> Batch:
        clips = [examples.frames[row] for row in rows]
        lengths = [clip.shape[1] for clip in clips]
        batch = torch.zeros(len(clips), clips[0].shape[0], max(lengths), clips[0].shape[2])
        for place, clip in enumerate(clips):
            batch[place, :, : clip.shape[1]] = torch.from_numpy(clip)
        return batch, torch.tensor(lengths)

    return padded


def _median_epoch(histories: Sequence[list[dict[str, float]]], otherwise: int) -> int:
    """The median of the epochs with the lowest validation loss; ``otherwise`` where nothing was validated."""
    best = [min(history, key=lambda entry: entry["loss"])["epoch"] for history in histories if history]
    return max(1, round(float(np.median(best)))) if best else otherwise
