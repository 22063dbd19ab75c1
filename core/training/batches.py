"""Which windows a step of pre-training sees, and how they come to it, whatever the windows are of.

Every window has a number, and the number decides all that is random about it: its place, mask and negatives. Which
numbers a step sees depends on the step alone, so that one process, several of them and accumulation see the same global
batch, and a run that goes on at any step sees what it would have seen.
"""

import copy
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

TRAIN, EVAL = 0, 1
"""First words of the seeds of training and of held-out windows: the two never share a stream."""


@dataclass(frozen=True)
class Batch:
    """Windows of one forward pass.

    Attributes:
        values: (batch, channels, ...) float32.
        mask: (batch, tokens) bool.
        negatives: (batch, tokens, K) int64, into batch * tokens.
        where: What the model takes beside the values to say where they are, by the names of its parameters.
        groups: (batch, tokens) int64, what held-out scores are told apart by; None for nothing.
    """

    values: Tensor
    mask: Tensor
    negatives: Tensor
    where: Mapping[str, Any] = field(default_factory=dict)
    groups: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device; what lies in pinned memory is copied while other work goes on."""
        values, mask, negatives = (one.to(device, non_blocking=True) for one in self._tensors)
        where = {name: one.to(device) for name, one in self.where.items()}
        return Batch(values, mask, negatives, where, None if self.groups is None else self.groups.to(device))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU reads by itself (the loader asks for it)."""
        values, mask, negatives = (one.pin_memory() for one in self._tensors)
        return replace(self, values=values, mask=mask, negatives=negatives)

    def forward(self, model: nn.Module) -> Any:
        """What a model for pre-training makes of it: a :class:`core.models.contrastive.ContrastiveOutput`."""
        return model(self.values, self.mask, self.negatives, **self.where)

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.values, self.mask, self.negatives


class Reader(Dataset[Any]):
    """Reads windows by number and makes batches of them; what a process of the loader gets handed."""

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Tokens of each window."""

    @property
    @abstractmethod
    def n_masked(self) -> int:
        """Masked tokens of each window."""

    @abstractmethod
    def __getitem__(self, number: int) -> Any:
        """All of a window that :meth:`together` wants."""

    @abstractmethod
    def together(self, items: Sequence[Any]) -> Batch:
        """Make a batch; each window's mask comes from its own seed."""

    def batch(self, numbers: Iterable[int]) -> Batch:
        """Read some windows here and now."""
        return self.together([self[number] for number in numbers])


@dataclass(frozen=True)
class BatchPlan:
    """How the windows of a step are dealt out.

    Attributes:
        batch_size: Windows of one forward pass.
        micro_batches: Forward passes of one step in one process.
        processes: That train together.
        rank: Of this one, from 0 on.
    """

    batch_size: int
    micro_batches: int = 1
    processes: int = 1
    rank: int = 0

    @property
    def windows(self) -> int:
        """Of one step, over all processes."""
        return self.batch_size * self.micro_batches * self.processes

    def numbers(self, step: int, micro: int) -> range:
        """Numbers of the windows that this process sees in a forward pass of a step."""
        first = step * self.windows + (micro * self.processes + self.rank) * self.batch_size
        return range(first, first + self.batch_size)

    def from_step(self, step: int) -> Iterator[list[int]]:
        """Numbers of every forward pass from a step on, without end."""
        while True:
            yield from (list(self.numbers(step, micro)) for micro in range(self.micro_batches))
            step += 1


class Batches:
    """The batches of each step, read ahead by other processes, and how long they were waited for.

    Args:
        reader: Of the training windows.
        plan: Who sees which.
        num_workers: Processes that read ahead; 0 reads when asked.
        pinned: Whether they shall lie in memory that a GPU reads by itself.
    """

    def __init__(self, reader: Reader, plan: BatchPlan, num_workers: int = 0, *, pinned: bool = False) -> None:
        self.reader, self.plan, self._num_workers, self._pinned = reader, plan, num_workers, pinned
        self._next = -1
        self._stream: Iterator[Batch] = iter(())
        self._began = 0.0
        self._waited = 0.0

    def of_step(self, step: int) -> Iterator[Batch]:
        """The batches of a step's forward passes, each read when it is asked for. Steps are asked for in order."""
        fresh = step != self._next
        if fresh:
            self._stream = iter(self._loader(step))
        self._next = step + 1
        for micro in range(self.plan.micro_batches):
            yield self._timed(starting=fresh and micro == 0)

    @property
    def wait_share(self) -> float:
        """Share of the time that went by waiting for data, from the second batch on; the first starts the readers."""
        elapsed = time.perf_counter() - self._began
        return self._waited / elapsed if self._began and elapsed > 0 else 0.0

    def _timed(self, *, starting: bool) -> Batch:
        asked = time.perf_counter()
        batch = next(self._stream)
        if starting:
            self._began, self._waited = time.perf_counter(), 0.0
        else:
            self._waited += time.perf_counter() - asked
        return batch

    def _loader(self, step: int) -> DataLoader[Batch]:
        # Forked processes would share the place in files that are open; a copy opens its own.
        reader = copy.deepcopy(self.reader) if self._num_workers else self.reader
        return DataLoader(
            reader,
            batch_sampler=self.plan.from_step(step),
            collate_fn=self.reader.together,
            num_workers=self._num_workers,
            pin_memory=self._pinned,
            generator=torch.Generator(),  # its own: the loader would draw from the one that dropout draws from
        )
