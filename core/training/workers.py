"""The processes that train one model together, through 🤗 Accelerate; without an Accelerator, this process alone.

A loss is divided by counts over all processes and micro-batches, so that gradients are to be added up: torch's
DistributedDataParallel takes their mean, hence the factor in :meth:`Workers.backward`.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from core.errors import StrataError
from core.training.loop_settings import Scalars

if TYPE_CHECKING:
    from accelerate import Accelerator

Optimiser = torch.optim.Optimizer
T = TypeVar("T")


class Workers:
    """All processes of a run, seen from one of them.

    Args:
        accelerator: From :func:`core.training.precision.make_accelerator`; None for this process alone, on the device
            and in the precision that model and step choose themselves.

    Attributes:
        count: Processes there are.
        number: Of this one, from 0 on.
    """

    def __init__(self, accelerator: "Accelerator | None" = None) -> None:
        self.accelerator = accelerator
        self.count = accelerator.num_processes if accelerator else 1
        self.number = accelerator.process_index if accelerator else 0
        # Words between processes go past the GPUs, which would have to finish their work first.
        self._group = torch.distributed.new_group(backend="gloo") if self.count > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.number == 0

    @property
    def facts(self) -> dict[str, Any]:
        """What a run has to be resumed with."""
        precision = "own" if self.accelerator is None else self.accelerator.mixed_precision
        return {"processes": self.count, "precision": "fp32" if precision == "no" else precision}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put the model where it computes, and return what the step is given: it has the same weights."""
        return model if self.accelerator is None else self.accelerator.prepare_model(model)

    def release(self, wrapped: nn.Module) -> None:
        """Take off the model what :meth:`prepare` put on it: it computes in its own precision again."""
        if self.accelerator is not None:
            model = self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False, keep_torch_compile=False)
            model.__dict__.pop("_is_accelerate_prepared", None)

    def prepare_optimiser(self, optimiser: Optimiser) -> Optimiser:
        """Return what steps; the optimiser itself keeps the state."""
        return optimiser if self.accelerator is None else self.accelerator.prepare_optimizer(optimiser)

    def accumulating(self, model: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch: processes exchange gradients after the last one only."""
        return nullcontext() if last or self.accelerator is None else self.accelerator.no_sync(model)

    def backward(self, loss: Tensor) -> None:
        """Add a share of the loss to the gradients."""
        if self.accelerator is None:
            loss.backward()
        else:
            self.accelerator.backward(loss * self.count)

    def clip(self, parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
        """Shorten the gradient to ``longest``, and return its length before."""
        if self.accelerator is None:
            return nn.utils.clip_grad_norm_(parameters, longest)
        return self.accelerator.clip_grad_norm_(parameters, longest)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The one of fp16."""
        return None if self.accelerator is None else self.accelerator.scaler

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process: all get the same answer."""
        if self.count == 1:
            return flag
        flags = torch.tensor(float(flag))
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(flags)

    def in_main(self, work: Callable[[], T]) -> T:
        """Do something in the main process alone; all get what it returns, or the error of the user that it raises."""
        if self.count == 1:
            return work()
        said: list[Any] = [_attempt(work) if self.is_main else None]
        torch.distributed.broadcast_object_list(said, src=0, group=self._group)
        if isinstance(said[0], StrataError):
            raise said[0]
        result: T = said[0]
        return result

    def gather(self, value: Any) -> list[Any]:
        """One value of each process, by its number."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def added_up(self, scalars: Scalars) -> dict[str, float]:
        """Numbers of all processes: tensors are added up, plain numbers are the same in each. A GPU is waited for."""
        numbers = {name: float(value) for name, value in scalars.items() if not isinstance(value, Tensor)}
        tensors = {name: value.detach() for name, value in scalars.items() if isinstance(value, Tensor)}
        if not tensors:
            return numbers
        device = next(iter(tensors.values())).device
        stacked = torch.stack([value.to(device).float().reshape(()) for value in tensors.values()]).cpu()
        if self.count > 1:
            torch.distributed.all_reduce(stacked, group=self._group)
        added = dict(zip(tensors, stacked.tolist(), strict=True)) | numbers
        return {name: added[name] for name in scalars}


def _attempt(work: Callable[[], T]) -> T | StrataError:
    try:
        return work()
    except StrataError as error:
        return error
