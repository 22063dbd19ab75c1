"""Contrastive pre-training: what a step of the loop computes, how held-out windows are scored, and the run around both.

The loss of a step is the contrastive loss and the diversity loss of *all* its masked tokens, divided by their number.
The first is a sum over tokens; the second is a function of how often each code was taken in the whole batch, so that
its gradient in one micro-batch needs the others' (see :func:`core.models.contrastive.diversity_gradient`). Thus one
process, several processes and accumulation do the same update.

What is trained, and on what, is a :class:`Pretraining`: Meg2Vec's is in :mod:`core.training.meg_pretraining`, that
of Wav2Vec2_2D in :mod:`core.training.site_pretraining`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.arrays import OnProgress, Progress, ignore_progress
from core.models.contrastive import diversity_gradient, diversity_loss, perplexity
from core.models.pretrained import OwnForPreTraining
from core.training.alarms import Alarms, least_perplexity
from core.training.batches import Batch, Batches, BatchPlan, Reader
from core.training.contrastive_settings import ContrastiveSettings
from core.training.group_scores import GroupScores
from core.training.loop import Hooks, LoopSettings, train
from core.training.loop import Progress as LoopProgress
from core.training.loop_settings import Scalars
from core.training.pretrain_checkpoints import Exporter, Trained
from core.training.runs import read_metrics
from core.training.workers import Workers

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

BETAS = (0.9, 0.98)
"""Of Adam, as in wav2vec 2.0."""


def gumbel_temperature_at(step: int, settings: ContrastiveSettings) -> float:
    """Of a step, from 0 on: ``max(first * decay ** step, min)``."""
    return max(settings.gumbel_temperature * settings.gumbel_temperature_decay**step, settings.gumbel_temperature_min)


def loop_settings(
    settings: ContrastiveSettings, data: str, processes: int = 1, own_rates: Mapping[str, float] | None = None
) -> LoopSettings:
    """What the loop is told.

    Args:
        settings: Of the run.
        data: The data's fingerprint.
        processes: That train together.
        own_rates: Learning rates of weights whose names begin so.
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
        own_rates=own_rates or {},
        data=data,
        micro_batches=micro_batches,
        windows=settings.batch_size * micro_batches * processes,
    )


def training_batches(settings: ContrastiveSettings, reader: Reader, workers: Workers) -> Batches:
    """The batches that this process sees."""
    plan = BatchPlan(settings.batch_size, settings.gradient_accumulation_steps, workers.count, workers.number)
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

    model: OwnForPreTraining
    batches: Batches
    settings: ContrastiveSettings
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
            out = batch.forward(wrapped)
            mass = self._over_processes(out.code_mass.detach()) if total is None else total
            yield self._scalars(out, mass) | {"gumbel_temperature": temperature}

    @property
    def n_masked(self) -> int:
        """Masked tokens of one update: every window has as many."""
        return self.batches.plan.windows * self.batches.reader.n_masked

    @torch.no_grad()
    def _code_mass(self, batch: Batch) -> Tensor:
        """How often each code is taken in a micro-batch, (groups, codes), from what the quantiser sees alone."""
        with self._autocast():
            logits = self.model.quantiser_logits(batch.values, **batch.where)
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
        tokens = self.batches.plan.windows * self.batches.reader.n_tokens
        return {
            "loss": (out.contrastive_loss + self.settings.diversity_loss_weight * diversity) / n,
            "contrastive_loss": out.contrastive_loss / n,
            "contrastive_accuracy": out.n_correct / n,
            "chance": out.chance * out.n_masked / n,
            "diversity_loss": spread / n,
            "perplexity": perplexity(total, n) / parts,
            "least_perplexity": least_perplexity(total.numel()),
            "masked_fraction": out.n_masked / tokens,
        }


# ---------------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """Scores held-out windows, always the same with the same masks.

    Attributes:
        reader: Of these windows.
        count: How many there are.
        settings: Of the run.
        workers: All processes; each scores a part.
        groups: Kinds of tokens that are scored one by one as well, numbered from 1 on; 0 for none.
        on_groups: Told of the model and of their scores, in the main process.
    """

    reader: Reader
    count: int
    settings: ContrastiveSettings
    workers: Workers
    groups: int = 0
    on_groups: Callable[[nn.Module, GroupScores], None] = lambda model, scores: None

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy, chance, codes in use; empty where there are no windows."""
        if not self.count:
            return {}
        scores = GroupScores.none(self.groups)
        sums, mass = self._sums(model, scores)
        sums = self.workers.added_up(sums)
        if self.workers.count > 1:
            mass = sum(self.workers.gather(mass.cpu()))
            scores = GroupScores(sum(self.workers.gather(scores.sums)))
        if self.groups and self.workers.is_main:
            self.on_groups(model, scores)
        n = sums["n_masked"]
        spread = float(diversity_loss(mass, n)) / n
        contrastive = sums["contrastive_loss"] / n
        return {
            "loss": contrastive + self.settings.diversity_loss_weight * spread,
            "contrastive_loss": contrastive,
            "contrastive_accuracy": sums["n_correct"] / n,
            "chance": sums["chance"] / n,
            "diversity_loss": spread,
            "perplexity": float(perplexity(mass, n)),
            "least_perplexity": least_perplexity(mass.numel()),
            "masked_fraction": n / (self.count * self.reader.n_tokens),
        }

    def _sums(self, model: nn.Module, scores: GroupScores) -> tuple[dict[str, Any], Any]:
        """Over the windows of this process."""
        device = next(model.parameters()).device
        names = ("contrastive_loss", "n_correct", "n_masked", "chance")
        sums: dict[str, Any] = {name: torch.zeros((), device=device) for name in names}
        mass: Any = torch.zeros(1, device=device)
        own, size = range(self.workers.number, self.count, self.workers.count), self.settings.batch_size
        for first in range(0, len(own), size):
            batch = self.reader.batch(own[first : first + size]).to(device)
            out = batch.forward(model)
            found = {name: getattr(out, name) for name in names} | {"chance": out.chance * out.n_masked}
            sums = {name: sums[name] + found[name] for name in names}
            mass = mass + out.code_mass
            if self.groups:
                scores.add(batch, out, self.settings.contrastive_logits_temperature)
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


@dataclass(frozen=True)
class Pretraining:
    """A model to train, and on what.

    Attributes:
        settings: Of the run.
        model: With its first weights.
        train: Reads training windows.
        held_out: Reads held-out windows.
        n_held_out: How many there are.
        trained: What the checkpoints say of it.
        own_rates: Learning rates of weights whose names begin so.
        groups: Kinds of tokens that are scored one by one, numbered from 1 on; 0 for none.
        on_groups: Told of (model, steps done, their scores) at each evaluation.
    """

    settings: ContrastiveSettings
    model: OwnForPreTraining
    train: Reader
    held_out: Reader
    n_held_out: int
    trained: Trained
    own_rates: Mapping[str, float] = field(default_factory=dict)
    groups: int = 0
    on_groups: Callable[[nn.Module, int, GroupScores], None] = lambda model, step, scores: None


def run_pretraining(plan: Pretraining, place: Place, accelerator: "Accelerator", watch: Watch | None = None) -> Outcome:
    """Train until it is done or a stop is asked for; go on where ``place.run`` holds a state.

    Raises:
        InputError: The run was begun with other settings.
        OutputError: The disk is full; the last checkpoint is as it was.
    """
    watch, settings, workers = watch or Watch(), plan.settings, Workers(accelerator)
    _tell(plan)
    batches = training_batches(settings, plan.train, workers)
    alarms = Alarms(settings)
    exporter = Exporter(settings, plan.trained, place.checkpoints, {"windows": plan.n_held_out} | workers.facts)
    hooks = _hooks(plan, watch, (alarms, exporter, workers), place)
    step = PretrainStep(plan.model, batches, settings, workers)
    told = loop_settings(settings, plan.trained.fingerprint, workers.count, plan.own_rates)
    progress, done = train(plan.model, step, told, place.run, hooks, accelerator)
    facts = {"data_wait_share": round(batches.wait_share, 4), "window": plan.trained.window}
    return Outcome(progress, done, alarms.messages, facts | exporter.facts(plan.model, progress))


def _tell(plan: Pretraining) -> None:
    """Say what the run sees, and what looks like an oversight."""
    settings = plan.settings
    log.info(plan.trained.window)
    if settings.warmup_steps >= settings.max_steps:
        reached = settings.learning_rate * settings.max_steps / settings.warmup_steps
        log.warning("The run ends within its warm-up, at a learning rate of %.2g. Lower warmup_steps.", reached)
    if settings.eval_windows and not plan.n_held_out:
        log.warning("No held-out segment is as long as a window: nothing is evaluated, and no checkpoint is best.")


def _hooks(plan: Pretraining, watch: Watch, parts: "tuple[Alarms, Exporter, Workers]", place: Place) -> Hooks:
    alarms, exporter, workers = parts
    steps = _Counter(exporter.last_step())

    def on_groups(model: nn.Module, scores: GroupScores) -> None:
        plan.on_groups(model, steps.done, scores)

    def on_update(progress: LoopProgress) -> None:
        steps.done = progress.update
        watch.on_progress(Progress("pre-train", progress.update, plan.settings.max_steps, "steps"))

    def on_log(entry: Mapping[str, Any]) -> None:
        if not alarms.primed:
            alarms.prime(read_metrics(place.run / "metrics.jsonl"))
        alarms.see(entry)
        watch.on_log(entry)

    def export(name: str, model: nn.Module, progress: LoopProgress) -> None:
        exporter.write(name, model, progress, alarms.messages)

    return Hooks(
        validate=Evaluation(plan.held_out, plan.n_held_out, plan.settings, workers, plan.groups, on_groups),
        on_checkpoint=partial(export, "last"),
        on_best=partial(export, "best"),
        should_stop=lambda: watch.should_stop() or (watch.until is not None and steps.done >= watch.until),
        on_log=on_log,
        on_update=on_update,
    )


@dataclass
class _Counter:
    done: int
