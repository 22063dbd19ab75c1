"""Windows of prepared recordings by number, and the batches that Meg2Vec is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.errors import InputError
from core.models.masking import MaskRule
from core.models.sensor_attention import SensorTensors
from core.sensors import Sensors
from core.training.batches import EVAL, TRAIN, Batch, Reader

if TYPE_CHECKING:
    from core.meg.window_data import Segment, WindowData


@dataclass(frozen=True)
class Window:
    """Samples ``[start, start + n_times)`` of a segment; ``seed`` is that of its mask and negatives."""

    segment: int
    start: int
    seed: int


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
            random = np.random.default_rng([self._seed, TRAIN, 0, epoch])
            self._order = (epoch, random.permutation(self._slots))
        return self._order[1]

    def __getitem__(self, number: int) -> Window:
        """The window of a number, from 0 on."""
        epoch, place = divmod(number, self.per_epoch)
        segment = int(self._order_of(epoch)[place])
        random = np.random.default_rng([self._seed, TRAIN, 1, number])
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
    seeds = np.random.default_rng([seed, EVAL]).integers(2**63, size=len(chosen))
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
    rule: MaskRule
    with_sensors: bool = False


Item = tuple[np.ndarray, Sensors | None, int]


class WindowReader(Reader):
    """Reads windows of recordings.

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

    @property
    def n_tokens(self) -> int:
        """Frames of each window."""
        return self.shape.n_frames

    @property
    def n_masked(self) -> int:
        """Masked frames of each window."""
        return self.shape.rule.count(self.shape.n_frames)

    def __getitem__(self, number: int) -> Item:
        """Values (channels, time) float32, sensors where they are wanted, and the seed of the mask."""
        window = self._windows[number]
        segment = self._segments[window.segment]
        values = self._data.read(segment, window.start, window.start + self.shape.n_times)
        return values, self._data.sensors(segment) if self.shape.with_sensors else None, window.seed

    def together(self, items: Sequence[Item]) -> Batch:
        """Make a batch; channels that a window lacks are zero, and masked in its sensors."""
        mask, negatives = self.shape.rule.draw([seed for *_, seed in items], self.shape.n_frames)
        sensors = [own for _, own, _ in items if own is not None]
        where = {"sensors": SensorTensors.of(sensors)} if self.shape.with_sensors else {}
        return Batch(torch.from_numpy(_padded([values for values, *_ in items])), mask, negatives, where)


def _padded(windows: Sequence[np.ndarray]) -> np.ndarray:
    """(batch, channels, time) float32; channels that a window lacks are zero."""
    most = max(len(window) for window in windows)
    values = np.zeros((len(windows), most, windows[0].shape[1]), dtype=np.float32)
    for row, window in zip(values, windows, strict=True):
        row[: len(window)] = window
    return values
