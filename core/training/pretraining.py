"""Pre-training of Meg2Vec: what a step of the loop computes, how held-out windows are scored, and the run around both.

The loss of a step is the contrastive loss and the diversity loss of *all* its masked frames, divided by their number.
The first is a sum over frames; the second is a function of how often each code was taken in the whole batch, so that
its gradient in one micro-batch needs the others' (see :func:`core.models.contrastive.diversity_gradient`). Thus one
process, several processes and accumulation do the same update.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.arrays import OnProgress, Progress, ignore_progress
from core.models.contrastive import diversity_gradient, diversity_loss, perplexity
from core.models.masking import MaskRule
from core.models.meg2vec import Meg2VecConfig, Meg2VecForPreTraining
from core.training.alarms import Alarms, least_perplexity
from core.training.batches import (
    Batch,
    Batches,
    BatchPlan,
    TrainingWindows,
    WindowReader,
    WindowShape,
    held_out_windows,
)
from core.training.loop import Hooks, LoopSettings, train
from core.training.loop import Progress as LoopProgress
from core.training.loop_settings import Scalars
from core.training.presets import describe_window, window_frames, window_samples
from core.training.pretrain_checkpoints import Exporter
from core.training.pretrain_settings import PretrainSettings
from core.training.runs import read_metrics
from core.training.workers import Workers

if TYPE_CHECKING:
    from accelerate import Accelerator

    from core.meg.window_data import WindowData

log = logging.getLogger(__name__)

BETAS = (0.9, 0.98)
"""Of Adam, as in wav2vec 2.0."""


_MODEL_SETTINGS = (
    *("in_channels", "sensor_input", "conv_dim", "conv_kernel", "conv_stride", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "intermediate_size", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
    *("num_codevector_groups", "num_codevectors_per_group", "codevector_dim", "proj_codevector_dim"),
    *("contrastive_logits_temperature", "num_negatives", "diversity_loss_weight", "mask_time_prob", "mask_time_length"),
)
"""Of a run that have the same name in the model's config."""


def model_config(settings: PretrainSettings, sampling_rate: int) -> Meg2VecConfig:
    """The model of a run on data of a rate in Hz."""
    dropouts = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
    return Meg2VecConfig(
        sampling_rate=sampling_rate,
        # What is quantised is left whole: it is the target, and the code mass of a batch can be counted beforehand.
        feat_quantizer_dropout=0.0,
        **{name: getattr(settings, name) for name in _MODEL_SETTINGS},
        **dict.fromkeys(dropouts, settings.dropout),
    )


def make_model(settings: PretrainSettings, sampling_rate: int) -> Meg2VecForPreTraining:
    """A model with weights drawn from the seed; the generator of the caller is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Meg2VecForPreTraining(model_config(settings, sampling_rate))


def gumbel_temperature_at(step: int, settings: PretrainSettings) -> float:
    """Of a step, from 0 on: ``max(first * decay ** step, min)``."""
    return max(settings.gumbel_temperature * settings.gumbel_temperature_decay**step, settings.gumbel_temperature_min)


def loop_settings(settings: PretrainSettings, data: str, processes: int = 1) -> LoopSettings:
    """What the loop is told.

    Args:
        settings: Of the run.
        data: The data's fingerprint.
        processes: That train together.
    """
    micro_batches = settings.gradient_accumulation_steps
    return LoopSettings(
        updates=settings.max_steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup_steps,
        decay_fraction=max(0.0, 1.0 - settings.warmup_steps / settings.max_steps),
        weight_decay=settings.weight_decay,
        beta1=BETAS[0],
        beta2=BETAS[1],
        max_grad_norm=settings.max_grad_norm,
        log_every=settings.log_every,
        checkpoint_every=settings.checkpoint_every,
        validate_every=settings.eval_every,
        seed=settings.seed,
        data=data,
        micro_batches=micro_batches,
        windows=settings.batch_size * micro_batches * processes,
    )


# ---------------------------------------------------------------------------------------------------------------- data


def window_shape(settings: PretrainSettings, sampling_rate: int) -> WindowShape:
    """Of every window of a run.

    Raises:
        InputError: The window is too short for a mask; the message says how long it must be.
    """
    return WindowShape(
        n_times=window_samples(settings, sampling_rate),
        n_frames=window_frames(settings, sampling_rate),
        rule=MaskRule(settings.mask_time_prob, settings.mask_time_length, settings.num_negatives),
        with_sensors=settings.sensor_input == "positions",
    )


def training_batches(settings: PretrainSettings, data: "WindowData", workers: Workers) -> Batches:
    """The batches that this process sees."""
    shape = window_shape(settings, data.model_input.preparation.sampling_rate)
    windows = TrainingWindows([one.n_times for one in data.segments("train")], shape.n_times, settings.seed)
    if windows.left_out:
        log.warning("%d training segments are shorter than a window and are left out.", windows.left_out)
    plan = BatchPlan(settings.batch_size, settings.gradient_accumulation_steps, workers.count, workers.number)
    reader = WindowReader(data, "train", windows, shape)
    return Batches(reader, plan, settings.num_workers, pinned=torch.cuda.is_available())


# ---------------------------------------------------------------------------------------------------------------- step


@dataclass(frozen=True)
class PretrainStep:
    """Computes the losses of one update, a micro-batch at a time.

    Attributes:
        model: Without any wrapping.
        batches: Of this process.
        settings: Of the run.
        workers: All processes.
    """

    model: Meg2VecForPreTraining
    batches: Batches
    settings: PretrainSettings
    workers: Workers

    def __call__(self, wrapped: nn.Module, step: int) -> Iterator[Scalars]:
        """Scalars of each micro-batch; over micro-batches and processes they add up to those of the update."""
        temperature = gumbel_temperature_at(step, self.settings)
        self.model.set_gumbel_temperature(temperature)
        given: Iterator[Batch] = (batch.to(self.model.device) for batch in self.batches.of_step(step))
        total: Tensor | None = None
        if self.batches.plan.micro_batches > 1:
            held = list(given)
            total = self._over_processes(sum(self._code_mass(batch) for batch in held))
            given = iter(held)
        for batch in given:
            out = wrapped(batch.values, batch.mask, batch.negatives, sensors=batch.sensors)
            mass = self._over_processes(out.code_mass.detach()) if total is None else total
            yield self._scalars(out, mass) | {"gumbel_temperature": temperature}

    @property
    def n_masked(self) -> int:
        """Masked frames of one update: every window has as many."""
        shape = self.batches.shape
        return self.batches.plan.windows * shape.rule.count(shape.n_frames)

    @torch.no_grad()
    def _code_mass(self, batch: Batch) -> Tensor:
        """How often each code is taken in a micro-batch, (groups, codes), from what the quantiser sees alone."""
        with self._autocast():
            logits = self.model.quantiser_logits(batch.values, sensors=batch.sensors)
        shares = torch.softmax(logits[batch.mask].float().view(-1, *self._codes), dim=-1)
        return shares.sum(dim=0)

    @property
    def _codes(self) -> tuple[int, int]:
        return self.settings.num_codevector_groups, self.settings.num_codevectors_per_group

    def _autocast(self) -> Any:
        return self.workers.accelerator.autocast() if self.workers.accelerator else torch.autocast("cpu", enabled=False)

    def _over_processes(self, mass: Any) -> Tensor:
        accelerator = self.workers.accelerator
        total: Tensor = mass if accelerator is None or self.workers.count == 1 else accelerator.reduce(mass, "sum")
        return total

    def _scalars(self, out: Any, total: Tensor) -> dict[str, Any]:
        """This micro-batch's share of each number of the update."""
        n, parts = self.n_masked, self.batches.plan.micro_batches * self.workers.count
        spread = diversity_loss(total, n) / parts
        linear = (diversity_gradient(total, n) * out.code_mass).sum()
        # The value is the whole batch's diversity loss, the gradient that of the linearised one.
        diversity = spread + linear - linear.detach()
        frames = self.batches.plan.windows * self.batches.shape.n_frames
        return {
            "loss": (out.contrastive_loss + self.settings.diversity_loss_weight * diversity) / n,
            "contrastive_loss": out.contrastive_loss / n,
            "contrastive_accuracy": out.n_correct / n,
            "chance": out.chance * out.n_masked / n,
            "diversity_loss": spread / n,
            "perplexity": perplexity(total, n) / parts,
            "least_perplexity": least_perplexity(total.numel()),
            "masked_fraction": out.n_masked / frames,
        }


# ---------------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """Scores held-out windows, always the same with the same masks.

    Attributes:
        reader: Of these windows.
        count: How many there are.
        batch_size: Windows of one forward pass.
        diversity_weight: In the loss.
        workers: All processes; each scores a part.
    """

    reader: WindowReader
    count: int
    batch_size: int
    diversity_weight: float
    workers: Workers

    @classmethod
    def of(cls, settings: PretrainSettings, data: "WindowData", workers: Workers) -> "Evaluation":
        """Choose the windows."""
        shape = window_shape(settings, data.model_input.preparation.sampling_rate)
        windows = held_out_windows(data.segments("eval"), shape.n_times, settings.eval_windows, settings.seed)
        if settings.eval_windows and not windows:
            log.warning("No held-out segment is as long as a window: nothing is evaluated, and no checkpoint is best.")
        reader = WindowReader(data, "eval", windows, shape)
        return cls(reader, len(windows), settings.batch_size, settings.diversity_loss_weight, workers)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy, chance, codes in use; empty where there are no windows."""
        if not self.count:
            return {}
        sums, mass = self._sums(model)
        sums = self.workers.added_up(sums)
        if self.workers.count > 1:
            mass = sum(self.workers.gather(mass.cpu()))
        n = sums["n_masked"]
        spread = float(diversity_loss(mass, n)) / n
        contrastive = sums["contrastive_loss"] / n
        return {
            "loss": contrastive + self.diversity_weight * spread,
            "contrastive_loss": contrastive,
            "contrastive_accuracy": sums["n_correct"] / n,
            "chance": sums["chance"] / n,
            "diversity_loss": spread,
            "perplexity": float(perplexity(mass, n)),
            "least_perplexity": least_perplexity(mass.numel()),
            "masked_fraction": n / (self.count * self.reader.shape.n_frames),
        }

    def _sums(self, model: nn.Module) -> tuple[dict[str, Any], Any]:
        """Over the windows of this process."""
        device = next(model.parameters()).device
        names = ("contrastive_loss", "n_correct", "n_masked", "chance")
        sums: dict[str, Any] = {name: torch.zeros((), device=device) for name in names}
        mass: Any = torch.zeros(1, device=device)
        own = range(self.workers.number, self.count, self.workers.count)
        for first in range(0, len(own), self.batch_size):
            batch = self.reader.batch(own[first : first + self.batch_size]).to(device)
            out = model(batch.values, batch.mask, batch.negatives, sensors=batch.sensors)
            found = {name: getattr(out, name) for name in names} | {"chance": out.chance * out.n_masked}
            sums = {name: sums[name] + found[name] for name in names}
            mass = mass + out.code_mass
        return sums, mass


# ----------------------------------------------------------------------------------------------------------------- run


@dataclass(frozen=True)
class Place:
    """Where a run keeps what.

    Attributes:
        run: Gets ``state.pt`` and ``metrics.jsonl``.
        checkpoints: Gets ``best`` and ``last``.
    """

    run: Path
    checkpoints: Path


@dataclass(frozen=True)
class Watch:
    """Who is told of a run, and who may end it.

    Attributes:
        on_progress: Told of each step.
        on_log: Told of each line of ``metrics.jsonl``.
        should_stop: Asked before each step.
        until: Stop after so many steps; None goes to the end.
    """

    on_progress: OnProgress = ignore_progress
    on_log: Callable[[Mapping[str, Any]], None] = lambda entry: None
    should_stop: Callable[[], bool] = lambda: False
    until: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run came to: how far it is, whether that is the end, alarms, and facts."""

    progress: LoopProgress
    done: bool
    alarms: tuple[str, ...]
    facts: Mapping[str, Any]


def pretrain(
    settings: PretrainSettings, data: "WindowData", place: Place, accelerator: "Accelerator", watch: Watch | None = None
) -> Outcome:
    """Pre-train until it is done or a stop is asked for; go on where ``place.run`` holds a state.

    Raises:
        InputError: The window does not fit the mask or the data, or the run was begun with other settings.
        OutputError: The disk is full; the last checkpoint is as it was.
    """
    watch = watch or Watch()
    workers = Workers(accelerator)
    rate = data.model_input.preparation.sampling_rate
    log.info(describe_window(settings, rate))
    if settings.warmup_steps >= settings.max_steps:
        reached = settings.learning_rate * settings.max_steps / settings.warmup_steps
        log.warning("The run ends within its warm-up, at a learning rate of %.2g. Lower warmup_steps.", reached)
    model = make_model(settings, rate)
    batches = training_batches(settings, data, workers)
    evaluation = Evaluation.of(settings, data, workers)
    alarms = Alarms(settings)
    exporter = Exporter(settings, data, place.checkpoints, {"windows": evaluation.count} | workers.facts)
    hooks = _hooks(settings, watch, (evaluation, alarms, exporter), place)
    step = PretrainStep(model, batches, settings, workers)
    told = loop_settings(settings, data.fingerprint, workers.count)
    progress, done = train(model, step, told, place.run, hooks, accelerator)
    facts = {"data_wait_share": round(batches.wait_share, 4), "window": describe_window(settings, rate)}
    return Outcome(progress, done, alarms.messages, facts | exporter.facts(model, progress))


def _hooks(
    settings: PretrainSettings, watch: Watch, parts: "tuple[Evaluation, Alarms, Exporter]", place: Place
) -> Hooks:
    evaluation, alarms, exporter = parts
    steps = _Counter(exporter.last_step())

    def on_update(progress: LoopProgress) -> None:
        steps.done = progress.update
        watch.on_progress(Progress("pre-train", progress.update, settings.max_steps, "steps"))

    def on_log(entry: Mapping[str, Any]) -> None:
        if not alarms.primed:
            alarms.prime(read_metrics(place.run / "metrics.jsonl"))
        alarms.see(entry)
        watch.on_log(entry)

    def export(name: str, model: nn.Module, progress: LoopProgress) -> None:
        exporter.write(name, model, progress, alarms.messages)

    return Hooks(
        validate=evaluation,
        on_checkpoint=partial(export, "last"),
        on_best=partial(export, "best"),
        should_stop=lambda: watch.should_stop() or (watch.until is not None and steps.done >= watch.until),
        on_log=on_log,
        on_update=on_update,
    )


@dataclass
class _Counter:
    done: int
