"""How fast which weights learn: the learning rate as a function of the update's number, and the optimiser."""

import torch
from torch import nn

from core.training.loop_settings import LoopSettings


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
