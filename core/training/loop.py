"""The one training loop: a step function is handed in, the loop does the rest.

The rest is the optimiser, the learning-rate schedule, ``metrics.jsonl``, validation, early stopping, resumable
checkpoints and a clean stop, in one process or, through an Accelerator, in many. An update may depend on nothing but
the weights, the optimiser, torch's random state and the update's number, so a run that was stopped and resumed equals
an uninterrupted one bit for bit.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.errors import InputError
from core.training.lock import locked
from core.training.loop_settings import Diverged, Hooks, LoopSettings, Progress, Scalars, Step, stop_after
from core.training.schedule import learning_rate_at, make_optimiser
from core.training.state import (
    append_metrics,
    drop_later_metrics,
    random_state,
    read_state,
    set_random_state,
    write_state,
)
from core.training.workers import Workers

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "Diverged",
    "Hooks",
    "LoopSettings",
    "Progress",
    "Step",
    "learning_rate_at",
    "make_optimiser",
    "stop_after",
    "train",
]

MIN_LOSS_SCALE = 2.0**-10
"""Of fp16: below it gradients overflow for another reason than the scale."""


def train(
    model: nn.Module,
    step: Step,
    settings: LoopSettings,
    folder: Path | None,
    hooks: Hooks | None = None,
    accelerator: "Accelerator | None" = None,
) -> tuple[Progress, bool]:
    """Train ``model`` in place until it is done or a stop is asked for; resume if ``folder`` can.

    Args:
        model: what is trained.
        step: computes the losses of one update; it is given the model as the accelerator has wrapped it, in train mode.
        settings: see :class:`LoopSettings`.
        folder: gets ``metrics.jsonl`` and ``state.pt``, and is locked meanwhile; None keeps nothing.
        hooks: validation, export and stopping.
        accelerator: places the model, computes in its precision and joins the processes of ``accelerate launch``, as
            :func:`core.training.precision.make_accelerator` makes it; None trains the model here, where it is.

    Returns:
        How far the run is, and whether it is done: all updates, or no better ones to be expected.

    Raises:
        InputError: the folder is in use, or the run was begun with other settings.
        Diverged: a gradient is not finite; the last checkpoint is from before.
        OutputError: the folder cannot be written; the last checkpoint is as it was.
        CheckpointError: the state in it is of another version, or damaged.
    """
    workers = Workers(accelerator)
    with ExitStack() as held:
        if folder is not None:
            workers.in_main(lambda: held.enter_context(locked(folder)))
        run = _Run(model, settings, folder, hooks or Hooks(), workers)
        held.callback(workers.release, run.wrapped)
        return _train(run, step)


def _train(run: "_Run", step: Step) -> tuple[Progress, bool]:
    run.resume()
    first = saved = run.progress.update
    while not (done := run.is_done()) and not run.is_stopped():
        scalars = run.update(step)
        if run.progress.update % run.settings.log_every == 0:
            run.log_update(scalars)
        if run.is_due(run.settings.validate_every or run.settings.checkpoint_every):
            run.validate()
        if run.progress.update % run.settings.checkpoint_every == 0:
            run.checkpoint()
            saved = run.progress.update
    if first < run.progress.update != saved:
        run.checkpoint()
    if done:
        run.restore_best()
    return run.progress, done


class _Clock:
    """Adds this process's wall and processor time to what earlier processes of the run spent."""

    def __init__(self, progress: Progress) -> None:
        self.wall = time.perf_counter() - progress.wall_seconds
        self.cpu = time.process_time() - progress.cpu_seconds
        self.restart(progress)

    def read(self, progress: Progress) -> None:
        """Bring the seconds up to date."""
        progress.wall_seconds = time.perf_counter() - self.wall
        progress.cpu_seconds = time.process_time() - self.cpu

    def restart(self, progress: Progress) -> None:
        """Measure the pace from here on: neither validations nor checkpoints are to slow it down."""
        self.mark = (time.perf_counter(), progress.update)

    def pace(self, progress: Progress) -> float:
        """Updates a second since the last restart."""
        then, update = self.mark
        return (progress.update - update) / (time.perf_counter() - then)


class _Run:
    """A model in training, with all that has to be the same again after a stop."""

    def __init__(
        self, model: nn.Module, settings: LoopSettings, folder: Path | None, hooks: Hooks, workers: Workers
    ) -> None:
        self.model, self.settings, self.folder, self.hooks, self.workers = model, settings, folder, hooks, workers
        self.wrapped = workers.prepare(model)
        self.optimiser = make_optimiser(model, settings)
        self.stepper = workers.prepare_optimiser(self.optimiser)
        self.progress = Progress()
        self.clock = _Clock(self.progress)
        self.best: dict[str, Tensor] = {}
        self.norm = torch.tensor(0.0)
        self.finite = torch.tensor(True)

    def is_due(self, every: int) -> bool:
        """Whether a count of updates is full, or all are done.

        A stop is no reason to validate: the history would no longer be that of a run that was not stopped.
        """
        return self.progress.update % every == 0 or self.progress.update >= self.settings.updates

    def is_done(self) -> bool:
        """Whether all updates are done, or the validation score has not fallen for too long."""
        if self.progress.update >= self.settings.updates:
            return True
        scores = self._scores()
        waited = len(scores) - 1 - scores.index(min(scores)) if scores else 0
        return bool(self.settings.patience) and waited >= self.settings.patience

    def is_stopped(self) -> bool:
        """Whether a stop is asked for: all processes stop before the same update."""
        return self.workers.any(self.hooks.should_stop())

    def _scores(self) -> list[float]:
        """The validation scores that tell which weights are best."""
        return [entry[self.settings.best_by] for entry in self.progress.history if self.settings.best_by in entry]

    # ------------------------------------------------------------------------------------------------------ updates

    def update(self, step: Step) -> Scalars:
        """Do one update and return its scalars, those of this process."""
        self.wrapped.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(self.progress.update, self.settings, group["initial_lr"])
        self.optimiser.zero_grad(set_to_none=True)
        scalars = self._backward(step(self.wrapped, self.progress.update))
        self.norm = self.workers.clip(self.model.parameters(), self.settings.max_grad_norm)
        self._watch_gradient()
        self.stepper.step()
        self._count_skipped()
        self.progress.update += 1
        self.clock.read(self.progress)
        if self.workers.is_main:
            self.hooks.on_update(self.progress)
        return scalars

    def _backward(self, given: Scalars | Iterator[Scalars]) -> Scalars:
        """Add up the gradients of all micro-batches, and their scalars."""
        batches = iter((given,)) if isinstance(given, Mapping) else given
        total: dict[str, Tensor | float] = {}
        count = self.settings.micro_batches
        for number in range(1, count + 1):
            with self.workers.accumulating(self.wrapped, last=number == count):
                scalars = next(batches, None)
                if scalars is None:
                    raise ValueError(f"The step gave {number - 1} micro-batches; the settings say {count}.")
                self.workers.backward(scalars["loss"])
            for name, value in scalars.items():
                total[name] = value.detach() + total.get(name, 0) if isinstance(value, Tensor) else value
        if next(batches, None) is not None:
            raise ValueError(f"The step gave more micro-batches than the {count} that the settings say.")
        return total

    def _watch_gradient(self) -> None:
        """Note a gradient that is not finite, and end the run at once where looking costs nothing."""
        if self.workers.scaler is not None:
            return  # which leaves such an update out
        self.finite = self.finite.to(self.norm.device) & self.norm.isfinite()
        if self.norm.device.type == "cpu":
            self._refuse_infinite()

    def _refuse_infinite(self) -> None:
        """End the run if a gradient was not finite; on a GPU this waits for it, so it comes with lines and states."""
        if not self.finite:
            state = None if self.folder is None else self.folder / "state.pt"
            kept = f" The last checkpoint, {state}, is from before." if state and state.exists() else ""
            raise Diverged(
                f"The gradient is not finite at update {self.progress.update + 1} or shortly before: the training "
                f"diverged, or the data hold values that are not.{kept} Look at the data, then start again in a new "
                f"folder with a lower learning rate (now {self.settings.learning_rate:g}) or in fp32."
            )

    def _count_skipped(self) -> None:
        """Count an update that fp16 left out; where even small scales overflow, it is not the scale."""
        if self.workers.scaler is None or not getattr(self.stepper, "step_was_skipped", False):
            return
        self.progress.skipped += 1
        if self.workers.scaler.get_scale() < MIN_LOSS_SCALE:
            self.finite = torch.tensor(False)
            self._refuse_infinite()

    def log_update(self, scalars: Scalars) -> None:
        """Tell the numbers of an update; the first moment at which anything waits for a GPU."""
        added = self.workers.added_up(scalars)
        self._refuse_infinite()
        rate = learning_rate_at(self.progress.update - 1, self.settings)
        own = {"grad_norm": float(self.norm), "learning_rate": rate}
        if self.settings.windows:
            own["windows_per_second"] = round(self.settings.windows * self.clock.pace(self.progress), 3)
        if self.workers.scaler is not None:
            own["skipped_updates"] = self.progress.skipped
        self.log("train", added | own)
        self.clock.restart(self.progress)

    # -------------------------------------------------------------------------------------------- scores and states

    def validate(self) -> None:
        """Score the model, and keep its weights where no earlier ones had a lower score."""
        self._refuse_infinite()
        self.wrapped.eval()
        random = random_state(self.model)
        scores = self.hooks.validate(self.model)
        scores = self.workers.in_main(lambda: scores)
        set_random_state(self.model, random)
        if scores:
            earlier = self._scores()
            self.progress.history.append({"step": self.progress.update} | scores)
            self.log("eval", scores)
            if scores[self.settings.best_by] < min(earlier, default=math.inf):
                self._keep_best()
        self.clock.restart(self.progress)

    def _keep_best(self) -> None:
        if self.settings.patience:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.workers.in_main(lambda: self.hooks.on_best(self.model, self.progress))

    def checkpoint(self) -> None:
        """Write the resumable state, and let the hook export what it likes."""
        self._refuse_infinite()
        self.wrapped.eval()
        random = self.workers.gather(random_state(self.model))
        self.workers.in_main(lambda: self._write(random))
        self.clock.restart(self.progress)

    def _write(self, random: list[dict[str, Tensor]]) -> None:
        if self.folder is not None:
            state = {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.workers.scaler.state_dict() if self.workers.scaler else {},
                "random": random,
                "progress": asdict(self.progress),
                "settings": asdict(self.settings),
                "workers": self.workers.facts,
                "best": self.best,
            }
            write_state(self.folder / "state.pt", state)
        self.hooks.on_checkpoint(self.model, self.progress)

    def resume(self) -> None:
        """Restore the last checkpoint, or seed a fresh start."""
        state = self.workers.in_main(self._read)
        if state is None:
            torch.manual_seed(self.settings.seed + self.workers.number)
        else:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.workers.scaler is not None:
                self.workers.scaler.load_state_dict(state["scaler"])
            set_random_state(self.model, state["random"][self.workers.number])
            self.best = state["best"]
            self.progress = Progress(**state["progress"])
        self.clock = _Clock(self.progress)

    def _read(self) -> dict[str, Any] | None:
        """The last state, if there is one; lines of later updates are removed."""
        if self.folder is None:
            return None
        path = self.folder / "state.pt"
        state = read_state(path) if path.exists() else None
        if state is not None:
            _refuse_other_settings(state, self.settings, self.workers.facts)
        drop_later_metrics(self.folder / "metrics.jsonl", state["progress"]["update"] if state else 0)
        return state

    def restore_best(self) -> None:
        """Give the model the weights with the lowest validation score, where they were to be kept."""
        if self.best:
            self.model.load_state_dict(self.best)

    def log(self, split: str, scalars: Mapping[str, float]) -> None:
        """Append one line to ``metrics.jsonl``; a number that is not finite becomes null, which every reader knows."""
        if not self.workers.is_main:
            return
        spent = {"wall_seconds": self.progress.wall_seconds, "cpu_seconds": self.progress.cpu_seconds}
        entry: dict[str, Any] = {"step": self.progress.update, "split": split}
        entry |= {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        entry |= {name: round(seconds, 1) for name, seconds in spent.items()}
        if self.folder is not None:
            append_metrics(self.folder / "metrics.jsonl", entry)
        self.hooks.on_log(entry)


def _refuse_other_settings(state: Mapping[str, Any], settings: LoopSettings, workers: Mapping[str, Any]) -> None:
    """Only the number of updates may differ, and only while neither schedule has begun to decay."""
    before = LoopSettings(**state["settings"])
    wanted, saved = {**asdict(settings), **workers}, {**asdict(before), **state["workers"]}
    changed = sorted(name for name in wanted if wanted[name] != saved[name])
    done = range(state["progress"]["update"])
    same_so_far = all(learning_rate_at(u, before) == learning_rate_at(u, settings) for u in done)
    if changed and not (changed == ["updates"] and same_so_far):
        got = ", ".join(f"{name}: {saved[name]} -> {wanted[name]}" for name in changed)
        raise InputError(
            f"The run was started with other settings ({got}). Expected the same ones, or another number of updates "
            "before the learning rate decays. Use a new folder, or the old settings."
        )
