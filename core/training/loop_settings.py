"""What the training loop is told, and what it tells: step, settings, progress and hooks."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from core.errors import InputError


class Diverged(InputError):
    """A gradient is not finite: the settings do not suit the data, or the data hold values that are not."""


Scalars = Mapping[str, Any]
"""Numbers by name: tensors of one value, or plain numbers."""

Step = Callable[[nn.Module, int], Scalars | Iterator[Scalars]]
"""Maps (model, update number) to scalars; the one named ``loss`` is minimised.

An iterator gives the scalars of each of ``LoopSettings.micro_batches``, and computes each when it is asked for it. Over
micro-batches and processes **tensors are added up**, the loss among them, so that each is divided by counts over all of
them; a plain number, such as a temperature, is the same in each.
"""


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
        patience: Validations in a row without a lower ``best_by`` after which the run is done; the weights are then
            those of the lowest, as they are after the last update. 0 trains to the end and keeps the last weights.
        own_rates: Learning rates of weights whose names begin so, such as ``{"encoder.": 1e-5}``. The schedule is
            the same for all.
        data: Names what is trained on, such as by a hash: a run is not resumed on something else.
        micro_batches: Scalars that the step gives for one update, each with a backward pass of its own.
        windows: Windows of one update in all processes; with 0, lines have no ``windows_per_second``.
        best_by: The validation score whose lowest value is the best.
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
    micro_batches: int = 1
    windows: int = 0
    best_by: str = "loss"


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        update: Updates done.
        wall_seconds: What they cost, over all processes that the run had one after the other.
        cpu_seconds: The same, of the processor.
        skipped: Updates that fp16 left out because a gradient overflowed; they count as done.
        history: Scores of the validations, with their ``step``, the number of updates done.
    """

    update: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Hooks:
    """What happens beside the updates; models are handed out in eval mode, and without any wrapping.

    Attributes:
        validate: Scores the model. All processes do it at the same time, and the main one's scores count.
        on_checkpoint: Exports what it likes after each resumable state. This and all below: in the main process alone.
        should_stop: Asked before each update, in all processes; one that says so is enough.
        on_log: Gets each line of ``metrics.jsonl``.
        on_best: Exports what it likes after each validation with the lowest ``best_by`` so far.
        on_update: Called after each update.
    """

    validate: Callable[[nn.Module], dict[str, float]] = lambda model: {}
    on_checkpoint: Callable[[nn.Module, Progress], None] = lambda model, progress: None
    should_stop: Callable[[], bool] = lambda: False
    on_log: Callable[[dict[str, Any]], None] = lambda entry: None
    on_best: Callable[[nn.Module, Progress], None] = lambda model, progress: None
    on_update: Callable[[Progress], None] = lambda progress: None


def stop_after(minutes: float, should_stop: Callable[[], bool] = lambda: False) -> Callable[[], bool]:
    """Make a ``should_stop`` that says so after some minutes of this process as well; 0 sets no limit."""
    end = time.monotonic() + 60 * minutes if minutes else math.inf
    return lambda: should_stop() or time.monotonic() >= end
