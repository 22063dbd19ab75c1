"""Which windows of a recording a step of pre-training sees, and how they come to it.

Every window has a number, and the number decides all that is random about it: segment, place, mask and negatives. Which
numbers a step sees depends on the step alone, so that one process, several of them and accumulation see the same global
batch, and a run that goes on at any step sees what it would have seen.
"""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import InputError
from core.models.masking import TokenRule
from core.models.sensor_attention import SensorTensors
from core.sensors import Sensors

if TYPE_CHECKING:
    from core.meg.window_data import Segment, WindowData

_TRAIN, _EVAL = 0, 1
"""First words of the seeds of training and of held-out windows: the two never share a stream."""


@dataclass(frozen=True)
class Window:
    """Samples ``[start, start + n_times)`` of a segment; ``seed`` is that of its mask and negatives."""

    segment: int
    start: int
    seed: int


@dataclass(frozen=True)
class Batch:
    """Windows of one forward pass.

    Attributes:
        values: (batch, channels, time) float32; channels that a recording lacks are zero, and masked in ``sensors``.
        mask: (batch, frames) bool.
        negatives: (batch, frames, K) int64, into batch * frames.
        sensors: Where the channels are, for models that attend over sensors; else None.
    """

    values: torch.Tensor
    mask: torch.Tensor
    negatives: torch.Tensor
    sensors: SensorTensors | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device; what lies in pinned memory is copied while other work goes on."""
        values, mask, negatives = (one.to(device, non_blocking=True) for one in self._tensors)
        return Batch(values, mask, negatives, None if self.sensors is None else self.sensors.to(device))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU reads by itself (the loader asks for it)."""
        values, mask, negatives = (one.pin_memory() for one in self._tensors)
        return Batch(values, mask, negatives, self.sensors)

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return self.values, self.mask, self.negatives


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


# ------------------------------------------------------------------------------------------------------------- windows


class TrainingWindows:
    """The endless sequence of training windows: a pure function of seed and number.

    In each epoch a segment comes up once for every whole window that fits into it, in an order of its own, and each
    time at a random place.

    Args:
        lengths: Samples of each segment.
        n_times: Samples of a window.
        seed: Of everything.

    Raises:
        InputError: No segment is as long as a window.
    """

    def __init__(self, lengths: Sequence[int], n_times: int, seed: int) -> None:
        self._lengths, self._n_times, self._seed = tuple(lengths), n_times, seed
        fitting = np.asarray(self._lengths, dtype=np.int64) // n_times
        self._slots = np.repeat(np.arange(len(fitting)), fitting)
        if not len(self._slots):
            raise InputError(
                f"Got windows of {n_times:,} samples, but the longest of {len(lengths)} training segments has "
                f"{max(lengths, default=0):,}. Set a smaller window_seconds, or prepare again with a larger "
                "--segment_length."
            )
        self._order = (-1, self._slots)

    @property
    def per_epoch(self) -> int:
        """Windows of an epoch."""
        return len(self._slots)

    @property
    def left_out(self) -> int:
        """Segments that are shorter than a window."""
        return sum(length < self._n_times for length in self._lengths)

    def _order_of(self, epoch: int) -> np.ndarray:
        """Segments in the order of an epoch; the last one is kept, as numbers come one after the other."""
        if self._order[0] != epoch:
            random = np.random.default_rng([self._seed, _TRAIN, 0, epoch])
            self._order = (epoch, random.permutation(self._slots))
        return self._order[1]

    def __getitem__(self, number: int) -> Window:
        """The window of a number, from 0 on."""
        epoch, place = divmod(number, self.per_epoch)
        segment = int(self._order_of(epoch)[place])
        random = np.random.default_rng([self._seed, _TRAIN, 1, number])
        start = int(random.integers(self._lengths[segment] - self._n_times + 1))
        return Window(segment, start, int(random.integers(2**63)))


def held_out_windows(segments: "Sequence[Segment]", n_times: int, count: int, seed: int) -> tuple[Window, ...]:
    """Choose windows for evaluation, always the same: side by side, evenly over recordings and over each one's length.

    Args:
        segments: Of the held-out part.
        n_times: Samples of a window.
        count: At most so many.
        seed: Of their masks.
    """
    tiles: dict[str, list[tuple[int, int]]] = {}
    for index, segment in enumerate(segments):
        starts = range(0, segment.n_times - n_times + 1, n_times)
        tiles.setdefault(segment.recording, []).extend((index, start) for start in starts)
    chosen = [place for share, places in _shares(list(tiles.values()), count) for place in _spread(places, share)]
    seeds = np.random.default_rng([seed, _EVAL]).integers(2**63, size=len(chosen))
    return tuple(Window(index, start, int(own)) for (index, start), own in zip(chosen, seeds, strict=True))


def _shares(groups: "list[list[tuple[int, int]]]", count: int) -> "Iterator[tuple[int, list[tuple[int, int]]]]":
    """How many of each group are taken: as many of each as possible, where a small one has too few, of the others."""
    left = count
    by_size = sorted(groups, key=len)
    for done, group in enumerate(by_size):
        share = min(len(group), -(-left // (len(by_size) - done)))
        left -= share
        yield share, group


def _spread(places: "list[tuple[int, int]]", n: int) -> "list[tuple[int, int]]":
    return [places[(2 * i + 1) * len(places) // (2 * n)] for i in range(n)]


# ------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class WindowShape:
    """What all windows of a run have in common.

    Attributes:
        n_times: Samples.
        n_frames: Frames that a model makes of them.
        rule: How they are masked.
        with_sensors: Whether a batch says where its channels are.
    """

    n_times: int
    n_frames: int
    rule: TokenRule
    with_sensors: bool = False


Item = tuple[np.ndarray, Sensors | None, int]


class WindowReader(Dataset[Item]):
    """Reads windows; what a process of the loader gets handed.

    Args:
        data: The prepared data.
        part: ``train`` or ``eval``.
        windows: By number.
        shape: Of all of them.
    """

    def __init__(
        self, data: "WindowData", part: str, windows: TrainingWindows | Sequence[Window], shape: WindowShape
    ) -> None:
        self._data, self._segments, self._windows, self.shape = data, data.segments(part), windows, shape

    def __getitem__(self, number: int) -> Item:
        """Values (channels, time) float32, sensors where they are wanted, and the seed of the mask."""
        window = self._windows[number]
        segment = self._segments[window.segment]
        values = self._data.read(segment, window.start, window.start + self.shape.n_times)
        return values, self._data.sensors(segment) if self.shape.with_sensors else None, window.seed

    def together(self, items: Sequence[Item]) -> Batch:
        """Make a batch: masks by each window's own seed, channels padded to the most there are."""
        mask, negatives = self.shape.rule.draw([seed for *_, seed in items], self.shape.n_frames)
        sensors = [own for _, own, _ in items if own is not None]
        placed = SensorTensors.of(sensors) if self.shape.with_sensors else None
        return Batch(torch.from_numpy(_padded([values for values, *_ in items])), mask, negatives, placed)

    def batch(self, numbers: Iterable[int]) -> Batch:
        """Read some windows here and now."""
        return self.together([self[number] for number in numbers])


def _padded(windows: Sequence[np.ndarray]) -> np.ndarray:
    """(batch, channels, time) float32; channels that a window lacks are zero."""
    most = max(len(window) for window in windows)
    values = np.zeros((len(windows), most, windows[0].shape[1]), dtype=np.float32)
    for row, window in zip(values, windows, strict=True):
        row[: len(window)] = window
    return values


class Batches:
    """The batches of each step, read ahead by other processes, and how long they were waited for.

    Args:
        reader: Of the training windows.
        plan: Who sees which.
        num_workers: Processes that read ahead; 0 reads when asked.
        pinned: Whether they shall lie in memory that a GPU reads by itself.
    """

    def __init__(self, reader: WindowReader, plan: BatchPlan, num_workers: int = 0, *, pinned: bool = False) -> None:
        self._reader, self.plan, self._num_workers, self._pinned = reader, plan, num_workers, pinned
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
    def shape(self) -> WindowShape:
        """Of their windows."""
        return self._reader.shape

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
        reader = copy.deepcopy(self._reader) if self._num_workers else self._reader
        return DataLoader(
            reader,  # type: ignore[arg-type]  # gives items; ``collate_fn`` makes batches of them
            batch_sampler=self.plan.from_step(step),
            collate_fn=self._reader.together,
            num_workers=self._num_workers,
            pin_memory=self._pinned,
            generator=torch.Generator(),  # its own: the loader would draw from the one that dropout draws from
        )
