"""What is counted: frames, or means over phones or words, of many recordings, read in blocks from the disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from core.alignment.segments import Alignment, Segment
from core.analysis.features import FeatureFile
from core.analysis.projection import evenly
from core.analysis.spans import (
    TIE_SECONDS,
    SpanTable,
    check_alignments,
    labels_at,
    nearest,
    require_clock,
    require_span,
    span_table,
)
from core.errors import DataError, InputError
from core.findings import RowTable

BLOCK_ROWS = 1_000
"""Rows of a block at most, and frames that are averaged at a time unless one segment alone has more."""


class Rows(Protocol):
    """Rows of several recordings, numbered through: those of the first recording, then those of the second, ...

    Attributes:
        layers: Layer numbers, ascending; the first axis of all values.
        dim: Values a row.
        n_rows: Of all recordings.
        n_frames: Of all recordings; ``n_rows`` where a row is a frame.
        recordings: Their names.
    """

    @property
    def layers(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_frames(self) -> int: ...  # noqa: D102
    @property
    def recordings(self) -> tuple[str, ...]: ...  # noqa: D102

    def counts(self) -> np.ndarray:
        """Rows of each recording, (n_recordings,) int64."""

    def table(self, rows: np.ndarray) -> RowTable:
        """Say where rows come from; ``rows`` are row numbers, ascending."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows: (n_layers, n, dim) float32; ``rows`` are row numbers, ascending, a number may come twice."""

    def blocks(self, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read all rows or those given, in ascending order: (k,) row numbers and (n_layers, k, dim) float32.

        A block has at most :data:`BLOCK_ROWS` rows and never spans two recordings.
        """


class _FileRows(ABC):
    """What frames and spans share: numbering, reading, and the check that all values are finite.

    Args:
        files: Features of each recording, from :func:`core.analysis.features.open_feature_set`.
        alignments: By recording name; empty for none.
        marks: What is known of whole recordings: kind (``speaker``, ``label``) to recording name to value.
        layers: Layers to read; None for all.
    """

    def __init__(
        self,
        files: Sequence[FeatureFile],
        alignments: Mapping[str, Alignment] | None = None,
        *,
        marks: Mapping[str, Mapping[str, str]] | None = None,
        layers: Sequence[int] | None = None,
    ) -> None:
        self.files = tuple(files)
        self.alignments = dict(alignments or {})
        self.recordings = tuple(file.name for file in self.files)
        self.layers = _choose_layers(self.files, layers)
        self.dim = self.files[0].dim
        self._marks = _known_marks(marks or {}, self.recordings)
        check_alignments(self.files, self.alignments)
        self._counts = np.array(self._count(), dtype=np.int64)
        self._begins = np.concatenate([[0], np.cumsum(self._counts)])
        self.n_rows = int(self._begins[-1])
        self.n_frames = sum(file.n_frames for file in self.files)

    @abstractmethod
    def _count(self) -> list[int]:
        """Rows of each recording."""

    @abstractmethod
    def _read(self, index: int, layer: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read rows of recording ``index`` from one layer: (k, dim), and the (m,) frames that were looked at."""

    @abstractmethod
    def _pieces(self, index: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Cut rows of recording ``index`` into blocks."""

    @abstractmethod
    def times(self, index: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and stop of rows of recording ``index`` (counted within it), in seconds; NaN without a clock."""

    def _label_kinds(self) -> list[str]:
        """Which of phone, word and label (annotations) a row can carry, in this order."""
        held = {kind for alignment in self.alignments.values() for kind in alignment.tiers}
        return [kind for kind in ("phone", "word", "label") if kind in held]

    @abstractmethod
    def _labels(self, index: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Phone and word of rows of recording ``index``, where it has them."""

    def counts(self) -> np.ndarray:
        """Rows of each recording, (n_recordings,) int64."""
        return self._counts.copy()

    def blocks(self, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read rows in blocks; see :class:`Rows`.

        Raises:
            DataError: A value is NaN or infinite; the message names file, layer and frame.
        """
        for index, inside in self._by_recording(rows):
            file = self.files[index]
            # A compressed layer is decompressed once for all blocks of its recording. A map is opened for each block
            # anew: pages that were looked at count as memory until it is closed, and a long recording has gigabytes.
            whole = {number: file.layer(number) for number in self.layers if not file.is_mapped(number)}
            for piece in self._pieces(index, inside):
                values = np.empty((len(self.layers), len(piece), self.dim), dtype=np.float32)
                for place, number in enumerate(self.layers):
                    layer = whole[number] if number in whole else file.layer(number)
                    values[place], frames = self._read(index, layer, piece)
                    self._check(values[place], index, place, layer, frames)
                yield piece + self._begins[index], values

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows into memory; see :class:`Rows`."""
        values = np.empty((len(self.layers), len(rows), self.dim), dtype=np.float32)
        done = 0
        for numbers, block in self.blocks(rows):
            values[:, done : done + len(numbers)] = block
            done += len(numbers)
        return values

    def table(self, rows: np.ndarray) -> RowTable:
        """Say where rows come from; see :class:`Rows`.

        ``labels`` has ``phone``, ``word`` and ``label`` where some alignment holds them, ``speaker`` and ``label``
        where some recording has one. A phone's word is the one at its middle; a frame's phone, word and label are those
        at its centre.
        """
        parts = list(self._by_recording(rows))
        recording = np.repeat([index for index, _ in parts], [len(inside) for _, inside in parts]).astype(np.int32)
        times = [self.times(index, inside) for index, inside in parts]
        start, stop = (np.concatenate([np.zeros(0), *(pair[side] for pair in times)]) for side in (0, 1))
        labels = [self._labels(index, inside) for index, inside in parts]
        return RowTable(
            self.recordings, recording, start, stop, self._joined_labels(recording, parts, labels), self.n_rows
        )

    def _joined_labels(
        self,
        recording: np.ndarray,
        parts: list[tuple[int, np.ndarray]],
        labels: list[dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        joined = {}
        for kind in self._label_kinds():
            empty = (np.zeros(len(inside), dtype="<U1") for _, inside in parts)
            columns = [found.get(kind, none) for found, none in zip(labels, empty, strict=True)]
            joined[kind] = np.concatenate([np.zeros(0, dtype="<U1"), *columns])
        for kind, values in self._marks.items():
            joined[kind] = np.array([values.get(name, "") for name in self.recordings])[recording]
        return joined

    def _by_recording(self, rows: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Cut row numbers into (recording, numbers within it), without recordings that have none."""
        if rows is None:
            yield from ((index, np.arange(count)) for index, count in enumerate(self._counts) if count)
            return
        rows = np.asarray(rows)
        if len(rows) and (rows[0] < 0 or rows[-1] >= self.n_rows or (np.diff(rows) < 0).any()):
            raise AssertionError(f"Row numbers must ascend within 0 and {self.n_rows - 1}.")
        cuts = np.searchsorted(rows, self._begins)
        for index, (first, last) in enumerate(pairwise(cuts)):
            if last > first:
                yield index, rows[first:last] - self._begins[index]

    def _check(self, values: np.ndarray, index: int, place: int, layer: np.ndarray, frames: np.ndarray) -> None:
        """Raise where rows, which were made of ``frames``, are not finite."""
        flat = values.reshape(-1)
        # One pass: a NaN or an infinity stays in a sum of squares. Large finite values may overflow; then look closer.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(np.dot(flat, flat))
        if suspicious and not np.isfinite(values).all():
            broken = frames[~np.isfinite(layer[frames]).all(axis=1)]
            raise DataError(
                f"{self.files[index].path}: layer {self.layers[place]} holds NaN or infinite values at frame "
                f"{broken[0]}{_at(self.files[index], int(broken[0]))}. Extract this recording again, or leave it out."
            )


class FrameRows(_FileRows):
    """Every frame of every recording is a row; see :class:`Rows` and :class:`_FileRows` for the arguments."""

    def _count(self) -> list[int]:
        return [file.n_frames for file in self.files]

    def _pieces(self, index: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        yield from (rows[first : first + BLOCK_ROWS] for first in range(0, len(rows), BLOCK_ROWS))

    def _read(self, index: int, layer: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
            return layer[rows[0] : rows[-1] + 1], rows
        return layer[rows], rows

    def times(self, index: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Onset of each frame's field and its end, in seconds; NaN without a clock."""
        clock = self.files[index].clock
        if clock is None:
            return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        onset = clock.onset(rows)
        return onset, onset + clock.field / clock.sampling_rate

    def _labels(self, index: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        alignment = self.alignments.get(self.recordings[index])
        if alignment is None:
            return {}
        centres = require_clock(self.files[index]).centre(rows)
        return {kind: labels_at(segments, centres) for kind, segments in alignment.tiers.items()}


class SpanRows(_FileRows):
    """Every phone or every word of every recording is a row: the mean of its frames.

    A word is the mean of all frames whose centre lies in it, a phone of those in its middle third (Pasad et al. 2021).
    A segment too short to hold a centre is the frame nearest to its middle; ``n_nearest`` counts these, and
    ``n_repeated`` those that fall on one frame with another.

    Args:
        files: Features of each recording.
        alignments: By recording name; every recording needs one with this kind of segment.
        span: ``phone`` or ``word``.
        marks: As in :class:`FrameRows`.
        layers: Layers to read; None for all.

    Raises:
        InputError: Another span, or no clock.
        DataError: A recording without an alignment, one of another length, or no segments at all.
    """

    def __init__(
        self,
        files: Sequence[FeatureFile],
        alignments: Mapping[str, Alignment],
        span: str,
        *,
        marks: Mapping[str, Mapping[str, str]] | None = None,
        layers: Sequence[int] | None = None,
    ) -> None:
        if span not in ("phone", "word", "label"):
            raise InputError(f"Got the span {span!r}; expected phone, word or label.")
        self.span = span
        self._segments: list[tuple[Segment, ...]] = []
        self._tables: list[SpanTable] = []
        super().__init__(files, alignments, marks=marks, layers=layers)
        if not self.n_rows:
            sources = ", ".join(str(alignments[name].source) for name in self.recordings[:3])
            raise DataError(f"The alignments hold not one {span} that is not silence ({sources}). Check their labels.")

    @property
    def n_nearest(self) -> int:
        """Rows too short to hold a frame's centre (a phone's middle third), which took the nearest frame."""
        return sum(table.n_nearest for table in self._tables)

    @property
    def n_repeated(self) -> int:
        """Rows made of the very same frames as an earlier row of their recording; their values are the same."""
        return sum(table.n_repeated for table in self._tables)

    @property
    def n_empty(self) -> int:
        """Phones, or words, that are no rows because they end where they begin."""
        return sum(self.alignments[name].n_empty.get(self.span, 0) for name in self.recordings)

    def _count(self) -> list[int]:
        for file in self.files:
            segments = require_span(file, self.alignments, self.span)
            self._segments.append(segments)
            self._tables.append(span_table(segments, require_clock(file), file.n_frames, self.span))
        return [len(table) for table in self._tables]

    def _pieces(self, index: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        ends = np.cumsum(self._tables[index].count[rows])
        first = 0
        while first < len(rows):
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + BLOCK_ROWS, side="right")))
            yield rows[first:last]
            first = last

    def _read(self, index: int, layer: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, count = self._tables[index].first[rows], self._tables[index].count[rows]
        begins = np.cumsum(count) - count
        frames = np.repeat(first - begins, count) + np.arange(count.sum())
        sums = np.add.reduceat(layer[frames], begins, axis=0, dtype=np.float64)
        return (sums / count[:, None]).astype(np.float32), frames

    def times(self, index: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and stop of each segment, in seconds."""
        return self._tables[index].start[rows], self._tables[index].stop[rows]

    def _label_kinds(self) -> list[str]:
        # A word has many phones, an annotation many of both.
        return super()._label_kinds() if self.span == "phone" else [self.span]

    def _labels(self, index: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        own = {self.span: np.array([self._segments[index][row].label for row in rows])}
        words = self.alignments[self.recordings[index]].tiers.get("word")
        if self.span != "phone" or words is None:
            return own
        start, stop = self.times(index, rows)
        return own | {"word": labels_at(words, (start + stop) / 2)}


@dataclass(frozen=True)
class Paired:
    """Rows of two models that happen at the same time.

    Attributes:
        first: (n,) int64, row numbers of the first model, ascending, none twice.
        second: (n,) int64, those of the second, ascending, none twice.
        largest_seconds: Largest difference between the two times of a pair.
    """

    first: np.ndarray
    second: np.ndarray
    largest_seconds: float

    def __len__(self) -> int:
        return len(self.first)


def paired(first: FrameRows | SpanRows, second: FrameRows | SpanRows) -> Paired:
    """Match the rows of two models on the same recordings, in the same order.

    Spans match one to one. Of frames, each of the model with fewer takes the one of the other whose centre is nearest,
    if it lies within half of the other's stride; frames without such a partner (at the ends) are left out.

    Raises:
        InputError: Frames against spans, or frames without a clock.
        DataError: Other recordings, or not one frame in common.
    """
    _check_same_recordings(first, second)
    if isinstance(first, SpanRows) and isinstance(second, SpanRows):
        return _paired_spans(first, second)
    if isinstance(first, SpanRows) or isinstance(second, SpanRows):
        raise InputError("Got frames of one model and phones or words of the other; expected the same span of both.")
    begins = zip(_begins(first), _begins(second), strict=True)
    parts = [
        _paired_frames(one, other, *begin) for one, other, begin in zip(first.files, second.files, begins, strict=True)
    ]
    sides = (np.concatenate([getattr(part, side) for part in parts]) for side in ("first", "second"))
    pairs = Paired(next(sides), next(sides), max(part.largest_seconds for part in parts))
    if not len(pairs):
        raise DataError("The two models have not one frame at the same time. Use longer recordings.")
    return pairs


def spread(counts: np.ndarray, most: int) -> np.ndarray:
    """Choose at most ``most`` rows, evenly spread, every recording with its share and at least one row.

    Where there are more recordings than ``most``, evenly spread recordings give one row each.

    Args:
        counts: (n_recordings,) rows of each recording.
        most: Rows wanted, at least 1.

    Returns:
        Row numbers, int64, ascending, none twice.

    >>> spread(np.array([10, 2, 0, 8]), 5)
    array([ 0,  9, 11, 12, 19])
    """
    total, begins = int(counts.sum()), np.cumsum(counts) - counts
    if total <= most:
        return np.arange(total)
    filled = np.flatnonzero(counts)
    quotas = np.zeros(len(counts), dtype=np.int64)
    chosen = filled[evenly(len(filled), most)]
    quotas[chosen] = 1 + _shares(counts[chosen] - 1, most - len(chosen))
    each = zip(begins.tolist(), counts.tolist(), quotas.tolist(), strict=True)
    picked = [begin + _within(count, quota) for begin, count, quota in each if quota]
    return np.concatenate([np.zeros(0, dtype=np.int64), *picked])


def _within(count: int, quota: int) -> np.ndarray:
    """Rows of one recording, evenly spread; a single one from its middle, because silence lies at the ends."""
    return evenly(count, quota) if quota > 1 else np.array([count // 2])


def _shares(sizes: np.ndarray, n: int) -> np.ndarray:
    """Split ``n`` in proportion to sizes, by largest remainders; no share is over its size."""
    if n <= 0 or not sizes.sum():
        return np.zeros(len(sizes), dtype=np.int64)
    exact = sizes * (n / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: n - int(shares.sum())]] += 1
    return np.minimum(shares, sizes)


def _choose_layers(files: tuple[FeatureFile, ...], layers: Sequence[int] | None) -> tuple[int, ...]:
    if not files:
        raise InputError("Got no recordings; expected the features of at least one.")
    names = [file.name for file in files]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"Two recordings are called {twice}. Give each a name of its own.")
    if layers is None:
        return files[0].layers
    missing = sorted(set(layers) - set(files[0].layers))
    if missing or not layers:
        held = ", ".join(map(str, files[0].layers))
        raise InputError(f"Got layers {list(layers)}; {files[0].path} holds {held}. Choose among these.")
    return tuple(sorted(set(layers)))


def _known_marks(marks: Mapping[str, Mapping[str, str]], recordings: Sequence[str]) -> dict[str, dict[str, str]]:
    """Keep what is known of these recordings; a kind that none of them has is left out."""
    known = {kind: {name: values[name] for name in recordings if values.get(name)} for kind, values in marks.items()}
    return {kind: values for kind, values in known.items() if values}


def _at(file: FeatureFile, frame: int) -> str:
    return "" if file.clock is None else f" ({file.clock.onset(frame):.3f} s)"


def _begins(rows: FrameRows | SpanRows) -> list[int]:
    counts = rows.counts()
    return (np.cumsum(counts) - counts).tolist()


def _check_same_recordings(first: FrameRows | SpanRows, second: FrameRows | SpanRows) -> None:
    if len(first.files) != len(second.files):
        raise DataError(
            f"The first model has {len(first.files)} recordings and the second {len(second.files)}; expected the same "
            "recordings of both."
        )
    for one, other in zip(first.files, second.files, strict=True):
        hashes = one.recording_hash, other.recording_hash
        same = hashes[0] == hashes[1] if all(hashes) else one.name == other.name
        if not same:
            raise DataError(
                f"{one.path} and {other.path} are of different recordings ({_recording(one)} and {_recording(other)}); "
                "expected the same recordings, in the same order, of both models."
            )


def _recording(file: FeatureFile) -> str:
    return f"{file.name}, SHA-256 {file.recording_hash[:12]}" if file.recording_hash else file.name


def _paired_spans(first: SpanRows, second: SpanRows) -> Paired:
    for index, name in enumerate(first.recordings):
        if first.span != second.span or first._segments[index] != second._segments[index]:
            raise DataError(f"The two models have different segments of {name}; expected one alignment for both.")
    rows = np.arange(first.n_rows)
    return Paired(rows, rows, 0.0)


def _paired_frames(one: FeatureFile, other: FeatureFile, begin_one: int, begin_other: int) -> Paired:
    """Match the frames of one recording; ``begin_*`` are the row numbers of its first frames."""
    clocks = require_clock(one), require_clock(other)
    if clocks[0].stride_seconds < clocks[1].stride_seconds:
        turned = _paired_frames(other, one, begin_other, begin_one)
        return Paired(turned.second, turned.first, turned.largest_seconds)
    centres = clocks[0].centre(np.arange(one.n_frames)), clocks[1].centre(np.arange(other.n_frames))
    partner = nearest(centres[1], centres[0])
    apart = np.abs(centres[0] - centres[1][partner])
    # Rounding of times must not decide about a frame that is exactly half a stride away.
    kept = np.flatnonzero(apart <= clocks[1].stride_seconds / 2 + TIE_SECONDS)
    # Where frames lie half a stride apart, two may come nearest to one at the beginning; the nearer or first keeps it.
    best = kept[np.lexsort((apart[kept], partner[kept]))]
    best = np.sort(best[np.unique(partner[best], return_index=True)[1]])
    return Paired(best + begin_one, partner[best] + begin_other, float(apart[best].max(initial=0.0)))
