"""Several processes that share a list of work, as ``accelerate launch`` or torchrun start them."""

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

Item = TypeVar("Item")

# How launchers tell a process how many there are and which one it is: torchrun and accelerate, then two kinds of MPI.
WORLD_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
# A process that is done waits for the slowest one; torch would give up after minutes.
LONGEST_WAIT = timedelta(days=30)


def _from_environment(names: Iterable[str], default: int) -> int:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), default)


def is_main_process() -> bool:
    """Whether this process speaks for all: the only one, or the first that the launcher started."""
    return _from_environment(RANKS, 0) == 0


class Team:
    """The processes that a launcher started; one alone needs nothing of accelerate."""

    def __init__(self) -> None:
        self.size, self.rank, self.state = 1, 0, None
        if _from_environment(WORLD_SIZES, 1) > 1:
            self.state = _join()
            self.size, self.rank = self.state.num_processes, self.state.process_index

    def share(self, items: list[Item]) -> list[Item]:
        """Let all processes work on the first one's list: a folder may have grown in between."""
        if self.state is None:
            return items
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([items])[0]

    def gather(self, items: list[Item]) -> list[Item]:
        """Collect the items of all processes; waits for the slowest."""
        if self.state is None:
            return items
        from accelerate.utils import gather_object

        return gather_object(items)

    def wait(self) -> None:
        """Wait until the first process is here: it comes last, after everybody's results."""
        if self.state is not None:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list([None])


def _join() -> Any:
    """Join the other processes.

    Only lists of names travel, so gloo serves on every machine, also where two processes share one GPU, which NCCL
    refuses. ``cpu`` has to be said: without it every process on a machine without GPU believes that it is alone.
    """
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), backend="gloo", timeout=LONGEST_WAIT)
