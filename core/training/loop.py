"""The one training loop: a step function is handed in, the loop does the rest.

The rest is the optimiser, the learning-rate schedule, ``metrics.jsonl``, validation, early stopping, resumable
checkpoints and a clean stop. An update may depend on nothing but the weights, the optimiser, torch's random state and
the update's number, so a run that was stopped and resumed equals an uninterrupted one bit for bit.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import InputError

Step = Callable[[nn.Module, int], dict[str, Tensor]]
"""Maps (model, update number) to scalars; the one named ``loss`` is minimised."""


@dataclass(frozen=True)
class LoopSettings:
    """What the loop needs to know. Counts are in updates.

    Attributes:
        updates: At most.
        learning_rate: The highest, of all weights that ``own_rates`` does not name.
        warmup: In which the learning rate rises from zero.
        decay_fraction: Share of the updates, at the end, in which it falls to zero; with 0 it stays constant.
        weight_decay: Of matrices and kernels.
        beta1: Adam's mean of the gradients.
        beta2: Adam's mean of their squares.
        max_grad_norm: Longer gradients are shortened to this.
        log_every: Between two lines of ``metrics.jsonl``.
        checkpoint_every: Between two resumable states.
        seed: Of torch's generator.
        validate_every: Between two validations; 0 validates with each state. The last update is validated as well.
        patience: Validations in a row without a lower ``loss`` after which the run is done; the weights are then those
            of the lowest, as they are after the last update. 0 trains to the end and keeps the last weights.
        own_rates: Learning rates of weights whose names begin so, such as ``{"encoder.": 1e-5}``. The schedule is
            the same for all.
        data: Names what is trained on, such as by a hash: a run is not resumed on something else.
    """

    updates: int
    learning_rate: float = 1e-3
    warmup: int = 200
    decay_fraction: float = 0.3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    max_grad_norm: float = 1.0
    log_every: int = 20
    checkpoint_every: int = 200
    seed: int = 0
    validate_every: int = 0
    patience: int = 0
    own_rates: Mapping[str, float] = field(default_factory=dict)
    data: str = ""


@dataclass
class Progress:
    """Where a run is: how many updates are done, what they cost, and the validation scores so far."""

    update: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Hooks:
    """What happens beside the updates. ``should_stop`` is asked before each of them, ``on_log`` gets each line."""

    validate: Callable[[nn.Module], dict[str, float]] = lambda model: {}
    on_checkpoint: Callable[[nn.Module, Progress], None] = lambda model, progress: None
    should_stop: Callable[[], bool] = lambda: False
    on_log: Callable[[dict[str, float]], None] = lambda entry: None


def learning_rate_at(update: int, settings: LoopSettings, highest: float | None = None) -> float:
    """Linear warm-up, a plateau, then linearly to zero over the last ``decay_fraction`` of the updates.

    The plateau does not depend on ``settings.updates``: a run can be resumed with another number of updates as long
    as its decay has not begun, and equals one that was started with that number (Hu et al. 2024, MiniCPM, section 4).

    Args:
        update: its number, from 0 on.
        settings: the schedule.
        highest: on the plateau; None takes ``settings.learning_rate``.
    """
    decay = max(1, round(settings.decay_fraction * settings.updates))
    rising = (update + 1) / max(1, settings.warmup)
    falling = (settings.updates - update) / decay
    return (settings.learning_rate if highest is None else highest) * min(1.0, rising, falling)


def train(
    model: nn.Module, step: Step, settings: LoopSettings, folder: Path | None, hooks: Hooks | None = None
) -> tuple[Progress, bool]:
    """Train ``model`` in place until it is done or a stop is asked for; resume if ``folder`` can.

    Args:
        model: what is trained; ``model.train()`` is called.
        step: computes the losses of one update.
        settings: see :class:`LoopSettings`.
        folder: gets ``metrics.jsonl`` and ``state.pt``; None keeps nothing.
        hooks: validation, export and stopping.

    Returns:
        How far the run is, and whether it is done: all updates, or no better ones to be expected.
    """
    run = _Run(model, settings, folder, hooks or Hooks())
    run.resume()
    first = saved = run.progress.update
    clock = _Clock(run.progress)
    while not (done := run.is_done()) and not run.hooks.should_stop():
        scalars = run.update(step)
        clock.read(run.progress)
        at = run.progress.update
        if at % settings.log_every == 0:
            run.log({name: float(value) for name, value in scalars.items()})
        if run.is_due(settings.validate_every or settings.checkpoint_every):
            run.validate()
        if at % settings.checkpoint_every == 0:
            run.checkpoint()
            saved = at
    if first < run.progress.update != saved:
        run.checkpoint()
    if done:
        run.restore_best()
    return run.progress, done


def make_optimiser(model: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only: biases, gains and norms are left alone.

    Each group knows its highest learning rate as ``initial_lr``, as torch's own schedules call it.
    """
    groups = []
    for rate, parameters in _by_rate(model, settings):
        for decay, group in (
            (settings.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            groups.append({"params": group, "weight_decay": decay, "lr": rate, "initial_lr": rate})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


def _by_rate(model: nn.Module, settings: LoopSettings) -> list[tuple[float, list[nn.Parameter]]]:
    """The weights that are trained, by their highest learning rate: those without an own one first."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    owner = {name: next((own for own in settings.own_rates if name.startswith(own)), None) for name, _ in trained}
    unused = [own for own in settings.own_rates if own not in owner.values()]
    if unused:
        raise ValueError(f"No weight that is trained has a name that begins with {', '.join(unused)}.")
    rates = [(None, settings.learning_rate), *settings.own_rates.items()]
    return [(rate, [p for name, p in trained if owner[name] == own]) for own, rate in rates]


class _Clock:
    """Adds this process's wall and processor time to what earlier processes of the run spent."""

    def __init__(self, progress: Progress) -> None:
        self.wall = time.perf_counter() - progress.wall_seconds
        self.cpu = time.process_time() - progress.cpu_seconds

    def read(self, progress: Progress) -> None:
        progress.wall_seconds = time.perf_counter() - self.wall
        progress.cpu_seconds = time.process_time() - self.cpu


class _Run:
    """A model in training, with all that has to be the same again after a stop."""

    def __init__(self, model: nn.Module, settings: LoopSettings, folder: Path | None, hooks: Hooks) -> None:
        self.model, self.settings, self.folder, self.hooks = model, settings, folder, hooks
        self.optimiser = make_optimiser(model, settings)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def is_due(self, every: int) -> bool:
        """Whether a count of updates is full, or all are done.

        A stop is no reason to validate: the history would no longer be that of a run that was not stopped.
        """
        return self.progress.update % every == 0 or self.progress.update >= self.settings.updates

    def is_done(self) -> bool:
        """Whether all updates are done, or the validation loss has not fallen for too long."""
        if self.progress.update >= self.settings.updates:
            return True
        losses = [entry["loss"] for entry in self.progress.history if "loss" in entry]
        waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        return bool(self.settings.patience) and waited >= self.settings.patience

    def update(self, step: Step) -> dict[str, Tensor]:
        """Do one update and return its scalars, with the gradient's norm and the learning rate."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(self.progress.update, self.settings, group["initial_lr"])
        self.optimiser.zero_grad(set_to_none=True)
        scalars = step(self.model, self.progress.update)
        scalars["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm, error_if_nonfinite=True)
        self.optimiser.step()
        rate = learning_rate_at(self.progress.update, self.settings)
        self.progress.update += 1
        return {name: value.detach() for name, value in scalars.items()} | {
            "grad_norm": norm,
            "learning_rate": torch.tensor(rate),
        }

    def validate(self) -> None:
        """Score the model, and keep its weights where no earlier ones had a lower loss."""
        self.model.eval()
        with torch.random.fork_rng():
            scores = self.hooks.validate(self.model)
        if not scores:
            return
        earlier = [entry["loss"] for entry in self.progress.history if "loss" in entry]
        self.progress.history.append({"update": self.progress.update} | scores)
        self.log({f"validation_{name}": value for name, value in scores.items()})
        if self.settings.patience and scores["loss"] < min(earlier, default=float("inf")):
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def checkpoint(self) -> None:
        """Write the resumable state, and let the hook export what it likes."""
        self.model.eval()
        if self.folder is not None:
            state = {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "random": torch.get_rng_state(),
                "progress": asdict(self.progress),
                "settings": asdict(self.settings),
                "best": self.best,
            }
            torch.save(state, self.folder / "state.pt.partial")
            (self.folder / "state.pt.partial").replace(self.folder / "state.pt")
        self.hooks.on_checkpoint(self.model, self.progress)

    def resume(self) -> None:
        """Restore the last checkpoint, or seed a fresh start."""
        path = self.folder / "state.pt" if self.folder is not None else None
        if path is None or not path.exists():
            torch.manual_seed(self.settings.seed)
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        _refuse_other_settings(state["settings"], self.settings, state["progress"]["update"])
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.best = state["best"]
        self.progress = Progress(**state["progress"])
        _drop_later_metrics(path.with_name("metrics.jsonl"), self.progress.update)

    def restore_best(self) -> None:
        """Give the model the weights with the lowest validation loss, where they were to be kept."""
        if self.best:
            self.model.load_state_dict(self.best)

    def log(self, scalars: dict[str, float]) -> None:
        """Append one line to ``metrics.jsonl``."""
        entry = {"update": self.progress.update, "cpu_seconds": round(self.progress.cpu_seconds, 1)} | scalars
        if self.folder is not None:
            with (self.folder / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(entry) + "\n")
        self.hooks.on_log(entry)


def _refuse_other_settings(saved: dict[str, Any], settings: LoopSettings, update: int) -> None:
    """Only the number of updates may differ, and only while neither schedule has begun to decay."""
    before = LoopSettings(**saved)
    wanted, saved = asdict(settings), asdict(before)
    changed = sorted(name for name in wanted if wanted[name] != saved[name])
    same_so_far = all(learning_rate_at(u, before) == learning_rate_at(u, settings) for u in range(update))
    if changed and not (changed == ["updates"] and same_so_far):
        got = ", ".join(f"{name}: {saved[name]} -> {wanted[name]}" for name in changed)
        raise InputError(
            f"The run was started with other settings ({got}). Expected the same ones, or another number of updates "
            "before the learning rate decays. Use a new folder, or the old settings."
        )


def _drop_later_metrics(path: Path, update: int) -> None:
    """Remove lines that a killed process wrote after its last checkpoint: they will be written again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["update"] <= update]
        path.write_text("".join(line + "\n" for line in lines))
