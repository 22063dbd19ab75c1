"""The one pre-training loop: a step function is handed in, the loop does the rest.

The rest is the optimiser, the learning-rate schedule, ``metrics.jsonl``, validation, resumable checkpoints and a clean
stop. An update may depend on nothing but the weights, the optimiser, torch's random state and the update's number, so
a run that was stopped and resumed equals an uninterrupted one bit for bit.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import InputError

Step = Callable[[nn.Module, int], dict[str, Tensor]]
"""Maps (model, update number) to scalars; the one named ``loss`` is minimised."""


@dataclass(frozen=True)
class LoopSettings:
    """What the loop needs to know. Counts are in updates."""

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


@dataclass
class Progress:
    """Where a run is: how many updates are done, what they cost, and the validation scores so far."""

    update: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Hooks:
    """What happens beside the updates. ``should_stop`` is asked before each of them."""

    validate: Callable[[nn.Module], dict[str, float]] = lambda model: {}
    on_checkpoint: Callable[[nn.Module, Progress], None] = lambda model, progress: None
    should_stop: Callable[[], bool] = lambda: False


def learning_rate_at(update: int, settings: LoopSettings) -> float:
    """Linear warm-up, a plateau, then linearly to zero over the last ``decay_fraction`` of the updates.

    The plateau does not depend on ``settings.updates``: a run can be resumed with another number of updates as long
    as its decay has not begun, and equals one that was started with that number (Hu et al. 2024, MiniCPM, section 4).
    """
    decay = max(1, round(settings.decay_fraction * settings.updates))
    rising = (update + 1) / max(1, settings.warmup)
    falling = (settings.updates - update) / decay
    return settings.learning_rate * min(1.0, rising, falling)


def train(
    model: nn.Module, step: Step, settings: LoopSettings, folder: Path, hooks: Hooks | None = None
) -> tuple[Progress, bool]:
    """Train ``model`` in place until ``settings.updates`` are done or a stop is asked for; resume if ``folder`` can.

    Args:
        model: what is trained; ``model.train()`` is called.
        step: computes the losses of one update.
        settings: see :class:`LoopSettings`.
        folder: gets ``metrics.jsonl`` and ``state.pt``.
        hooks: validation, export and stopping.

    Returns:
        How far the run is, and whether all updates are done.
    """
    hooks = hooks or Hooks()
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = make_optimiser(model, settings)
    progress = _resume(model, optimiser, settings, folder)
    first = progress.update
    clock = _Clock(progress)
    while progress.update < settings.updates and not hooks.should_stop():
        scalars = _update(model, optimiser, step, settings, progress.update)
        progress.update += 1
        clock.read(progress)
        if progress.update % settings.log_every == 0:
            _log(folder, progress, {name: float(value) for name, value in scalars.items()})
        if progress.update % settings.checkpoint_every == 0:
            _checkpoint(model, optimiser, settings, folder, progress, hooks)
    if progress.update > first and progress.update % settings.checkpoint_every:
        _checkpoint(model, optimiser, settings, folder, progress, hooks)
    return progress, progress.update >= settings.updates


def make_optimiser(model: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only: biases, gains and norms are left alone."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


@contextmanager
def stop_requests(stop_file: Path) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or SIGINT came or ``stop_file`` exists; an old file is removed."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    stop_file.unlink(missing_ok=True)
    previous = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received) or stop_file.exists()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Clock:
    """Adds this process's wall and processor time to what earlier processes of the run spent."""

    def __init__(self, progress: Progress) -> None:
        self.wall = time.perf_counter() - progress.wall_seconds
        self.cpu = time.process_time() - progress.cpu_seconds

    def read(self, progress: Progress) -> None:
        progress.wall_seconds = time.perf_counter() - self.wall
        progress.cpu_seconds = time.process_time() - self.cpu


def _update(
    model: nn.Module, optimiser: torch.optim.Optimizer, step: Step, settings: LoopSettings, update: int
) -> dict[str, Tensor]:
    """Do one update and return its scalars, with the gradient's norm and the learning rate."""
    model.train()
    rate = learning_rate_at(update, settings)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    scalars = step(model, update)
    scalars["loss"].backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm, error_if_nonfinite=True)
    optimiser.step()
    return {name: value.detach() for name, value in scalars.items()} | {
        "grad_norm": norm,
        "learning_rate": torch.tensor(rate),
    }


def _checkpoint(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: LoopSettings,
    folder: Path,
    progress: Progress,
    hooks: Hooks,
) -> None:
    """Validate, write the resumable state, and let the hook export what it likes."""
    model.eval()
    with torch.random.fork_rng():
        scores = hooks.validate(model)
    if scores:
        progress.history.append({"update": progress.update} | scores)
        _log(folder, progress, {f"validation_{name}": value for name, value in scores.items()})
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "progress": asdict(progress),
        "settings": asdict(settings),
    }
    torch.save(state, folder / "state.pt.partial")
    (folder / "state.pt.partial").replace(folder / "state.pt")
    hooks.on_checkpoint(model, progress)


def _resume(model: nn.Module, optimiser: torch.optim.Optimizer, settings: LoopSettings, folder: Path) -> Progress:
    """Restore the last checkpoint of ``folder``, or seed a fresh start."""
    path = folder / "state.pt"
    if not path.exists():
        torch.manual_seed(settings.seed)
        return Progress()
    state: dict[str, Any] = torch.load(path, weights_only=True)
    _refuse_other_settings(state["settings"], settings, state["progress"]["update"])
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    _drop_later_metrics(folder / "metrics.jsonl", state["progress"]["update"])
    return Progress(**state["progress"])


def _refuse_other_settings(saved: dict[str, Any], settings: LoopSettings, update: int) -> None:
    """Only the number of updates may differ, and only while neither schedule has begun to decay."""
    wanted = asdict(settings)
    changed = sorted(name for name in wanted if wanted[name] != saved.get(name))
    before = LoopSettings(**saved)
    same_so_far = all(learning_rate_at(u, before) == learning_rate_at(u, settings) for u in range(update))
    if changed and not (changed == ["updates"] and same_so_far):
        got = ", ".join(f"{name}: {saved.get(name)} -> {wanted[name]}" for name in changed)
        raise InputError(
            f"The run was started with other settings ({got}). Expected the same ones, or another number of updates "
            "before the learning rate decays. Use a new folder, or the old settings."
        )


def _drop_later_metrics(path: Path, update: int) -> None:
    """Remove lines that a killed process wrote after its last checkpoint: they will be written again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["update"] <= update]
        path.write_text("".join(line + "\n" for line in lines))


def _log(folder: Path, progress: Progress, scalars: dict[str, float]) -> None:
    """Append one line to ``metrics.jsonl``."""
    entry = {"update": progress.update, "cpu_seconds": round(progress.cpu_seconds, 1)} | scalars
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(entry) + "\n")
