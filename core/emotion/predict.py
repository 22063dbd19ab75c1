"""What a head says of a recording: of the whole of it and of windows that slide over it, in constant memory.

Each window is cut out and encoded by itself, as the training clips were. An encoder that hears the whole recording
normalises over all of it and attends across windows, and its states of a window are then unlike those of a clip.

It keeps silent where it knows nothing, and says why, in this order:

* ``silence``: there is no sound to judge. Nothing in the stretch is louder than SILENT_DBFS, or than QUIETER_DB below
  the recording's loudest moment (a pause between two sentences).
* ``short``: less than LEAST_SECONDS, or less than LEAST_SHARE of the shortest clip that the head was trained on.
* ``unlike``: farther from the training clips than 95 % of the clips of speakers that it had not heard; or the encoder
  gave no numbers.
* ``unsure``: the likeliest class is less probable than the threshold.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.signal import Signal
from core.emotion.domain import distance
from core.emotion.head import Head
from core.errors import CheckpointError, InputError
from core.figures.emotion.prediction import window_edges
from core.scoring import INTENDED_USE, Prediction, Said

if TYPE_CHECKING:
    from core.emotion.head_files import SavedHead

SILENT_DBFS = -65.0
"""Root mean square of a moment, against full scale, up to which it counts as silence. The quietest two seconds of acted
speech that were found (in 1,440 clips by 24 actors) have a moment at -61; dither and 16-bit rounding lie below -90."""

QUIETER_DB = 40.0
"""How far below the recording's loudest moment a window's loudest is a pause; where somebody speaks within two seconds,
their loudest moment is within 16 dB of the recording's."""

MOMENT_SECONDS = 0.1
"""Length of the moments whose loudness is told: about a syllable."""

LEAST_SECONDS = 0.3
"""Less is hardly a word."""

LEAST_SHARE = 0.5
"""Of the shortest training clip: a head knows nothing of how features look that were pooled over much less."""

LEAST_HOP_SECONDS = 0.01
"""From window to window: less than a frame of most encoders says nothing new."""

Encode = Callable[[Signal, OnProgress], Iterable[np.ndarray]]
"""From sound to states of the head's layers, (n_layers, k, dim) float32 in frame order, blocks of any k; it reports in
seconds of that sound. See :func:`core.embed.pipeline.stream_states`."""


@dataclass(frozen=True)
class PredictSettings:
    """How a recording is judged.

    Attributes:
        window_seconds: Length of the timeline's windows.
        hop_seconds: From one window's beginning to the next's.
        threshold: Confidence below which nothing is said; None takes the head's own.
    """

    window_seconds: float = 2.0
    hop_seconds: float = 0.5
    threshold: float | None = None


@dataclass(frozen=True)
class Heard:
    """A recording and the encoder that hears it.

    Attributes:
        source: The recording.
        signal: Its sound.
        encode: From sound to states: of the whole of it, and of each window as if it were a recording of its own.
    """

    source: Path
    signal: Signal
    encode: Encode


def check_predict_settings(settings: PredictSettings) -> None:
    """Refuse settings that no recording could be judged with.

    Raises:
        InputError: A window, hop or threshold that is out of range.
    """
    for what, value, least in (
        ("window", settings.window_seconds, LEAST_SECONDS),
        ("hop", settings.hop_seconds, LEAST_HOP_SECONDS),
    ):
        if not (np.isfinite(value) and value >= least):
            raise InputError(f"Got a {what} of {value:g} s; expected a number of at least {least:g} s.")
    if settings.threshold is not None and not 0.0 <= settings.threshold <= 1.0:
        raise InputError(f"Got a threshold of {settings.threshold:g}; expected a confidence from 0 to 1, such as 0.5.")


def predict(
    saved: "SavedHead",
    heard: Heard,
    settings: PredictSettings | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Prediction:
    """Judge a recording.

    Args:
        saved: The head.
        heard: The recording, with the head's encoder.
        settings: Windows and threshold.
        on_progress: Told of the encoder's stages on the whole, then of ``windows`` in seconds of all windows together.

    Returns:
        What the head says of the whole, and of each window: one each ``hop_seconds``, and one that ends where the
        recording ends. A recording no longer than a window has an empty timeline.

    Raises:
        InputError: A setting is out of range.
        CheckpointError: The head needs more than one recording of a speaker, or got states of another encoder.
    """
    settings = settings or PredictSettings()
    check_predict_settings(settings)
    _check_inductive(saved)
    judge = _Judge(saved, heard, _Loudness(heard.signal), settings)
    seconds = heard.signal.duration_seconds
    clip = judge.say(0.0, seconds, on_progress)
    times = window_times(seconds, settings.window_seconds, settings.hop_seconds)
    timeline = tuple(judge.say(*place, told) for place, told in _each_told(times, settings, on_progress))
    return Prediction(
        source=heard.source,
        labels=saved.labels,
        clip=clip,
        timeline=timeline,
        threshold=judge.threshold,
        head=saved.name,
        model=saved.model,
        warnings=tuple(_warnings(saved, settings, clip, timeline)),
    )


def window_times(seconds: float, window_seconds: float, hop_seconds: float) -> list[tuple[float, float]]:
    """Begin and end of each window over a recording; none where it is not longer than a window.

    >>> window_times(3.2, 2.0, 0.5)
    [(0.0, 2.0), (0.5, 2.5), (1.0, 3.0), (1.2000000000000002, 3.2)]
    """
    last = seconds - window_seconds
    if last <= 1e-9:
        return []
    n_before = int(np.ceil(last / hop_seconds - 1e-9))
    begins = [number * hop_seconds for number in range(n_before)]
    return [*((begin, begin + window_seconds) for begin in begins), (last, seconds)]


def _each_told(
    times: Sequence[tuple[float, float]], settings: PredictSettings, on_progress: OnProgress
) -> Iterator[tuple[tuple[float, float], OnProgress]]:
    """Yield each window with what is told of its own progress; a long one is heard in parts as well."""
    total = len(times) * settings.window_seconds

    def tell(done: float) -> None:
        on_progress(Progress("windows", min(done, total), total))

    for number, place in enumerate(times):
        before = number * settings.window_seconds
        tell(before)

        def told(inner: Progress, before: float = before) -> None:
            tell(before + inner.done)

        yield place, told
    if times:
        tell(total)


def segments(prediction: Prediction) -> tuple[Said, ...]:
    """Join neighbouring windows with the same answer: what is said from when to when.

    Windows share sound, so that each answer holds half-way to the middles of its neighbours. Probabilities and
    distances are means over the windows that were joined. A recording with no timeline is one segment.
    """
    if not prediction.timeline:
        return (prediction.clip,)
    edges, joined, first = window_edges(prediction.timeline).tolist(), list[Said](), 0
    for (label, why), group in groupby(prediction.timeline, key=lambda said: (said.label, said.why)):
        run = list(group)
        probabilities = np.mean([said.probabilities for said in run], axis=0)
        far = float(np.mean([said.distance for said in run]))
        joined.append(Said(edges[first], edges[first + len(run)], probabilities, label, why, far))
        first += len(run)
    return tuple(joined)


def _check_inductive(saved: "SavedHead") -> None:
    if saved.training.get("settings", {}).get("transductive"):
        raise CheckpointError(
            f"The head {saved.name} was trained on features that had been put on each speaker's own scale, which takes "
            "all clips of a speaker. It cannot judge a recording by itself: train one without --transductive."
        )


# ------------------------------------------------------------------------------------------------------------- pooling


class FramePool(Protocol):
    """What takes frames block by block and gives one vector a layer."""

    def add(self, block: np.ndarray) -> None:
        """Take the next frames, (n_layers, k, dim)."""

    def result(self, method: str) -> np.ndarray:
        """Pool what came so far: (n_layers, k * dim)."""


class LearnedPool:
    """The pooling ``learned``: frames weighted by the softmax of how they agree with a query, block by block.

    Each frame's layers are standardised, weighted and added up, as the head does with pooled ones; the product with
    ``head.attention`` is its score. The result is of the layers as they came, so that a head takes it as it takes any.
    """

    def __init__(self, head: Head) -> None:
        assert head.attention is not None
        self._head, self._query = head, head.attention
        self._peak, self._total = -np.inf, 0.0
        self._sum: np.ndarray | None = None

    def add(self, block: np.ndarray) -> None:
        """Take the next frames, (n_layers, k, dim)."""
        if not block.shape[1]:
            return
        scores = self._head.mixed(block) @ self._query
        peak = max(self._peak, float(scores.max()))
        weights, shrink = np.exp(scores - peak), float(np.exp(self._peak - peak))
        added = np.einsum("t,ltd->ld", weights, block, dtype=np.float64)
        self._sum = added if self._sum is None else self._sum * shrink + added
        self._total, self._peak = self._total * shrink + float(weights.sum()), peak

    def result(self, method: str = "learned") -> np.ndarray:
        """Weighted mean of the frames so far, (n_layers, dim)."""
        if self._sum is None or method != "learned":
            raise ValueError(f"Got {method!r} of {'no' if self._sum is None else 'some'} frames; expected 'learned'.")
        return self._sum / self._total


def frame_pool(head: Head) -> FramePool:
    """What pools frames the way a head wants them."""
    from core.emotion.pooling import Pool

    return Pool() if head.attention is None else LearnedPool(head)


def _pooled(saved: "SavedHead", states: Iterable[np.ndarray]) -> np.ndarray:
    """Pool states block by block, (n_layers, dim); what is not finite gives no numbers."""
    pool, finite = frame_pool(saved.head), True
    for block in states:
        _check_states(saved, block)
        finite = finite and bool(np.isfinite(block).all())
        if finite:
            pool.add(block)
    return pool.result(saved.head.pooling) if finite else np.full(saved.head.mean.shape, np.nan)


@contextmanager
def _stretch(signal: Signal, start: float, stop: float) -> Iterator[Signal]:
    """Cut a stretch out, as a recording of its own; stretches of one length have one number of samples."""
    rate, n = signal.sampling_rate, round((stop - start) * signal.sampling_rate)
    if n >= signal.n_samples:
        yield signal
        return
    first = min(round(start * rate), signal.n_samples - n)
    with Signal.from_array(signal.read(first, first + n), rate) as part:
        yield part


def _check_states(saved: "SavedHead", block: np.ndarray) -> None:
    from core.emotion.pooling import parts_of

    head = saved.head
    dim = head.mean.shape[1] // (1 if head.attention is not None else len(parts_of(head.pooling)))
    if block.ndim != 3 or (block.shape[0], block.shape[2]) != (len(head.layers), dim):
        raise CheckpointError(
            f"The head {saved.name} takes {len(head.layers)} layers of {dim} values a frame; got states of shape "
            f"{block.shape}. Use the encoder {saved.model} at the head's layers."
        )


# -------------------------------------------------------------------------------------------------------------- judging


class _Loudness:
    """How loud a recording is, moment by moment: root mean squares without its offset, full scale being 1."""

    def __init__(self, signal: "Signal") -> None:
        self._step = max(1, round(MOMENT_SECONDS * signal.sampling_rate))
        self._rate = signal.sampling_rate
        self._levels = np.concatenate([self._of(block - signal.mean) for block in signal.blocks(600 * self._step)])
        self.loudest = float(self._levels.max())

    def _of(self, block: np.ndarray) -> np.ndarray:
        edges = np.arange(0, len(block), self._step)
        squares = np.add.reduceat(np.square(block, dtype=np.float64), edges)
        return np.sqrt(squares / np.diff([*edges, len(block)]))

    def of(self, start: float, stop: float) -> float:
        """Loudest moment of a stretch, seconds; at its edges a moment counts that lies half inside."""
        first = round(start * self._rate / self._step)
        last = max(first + 1, round(stop * self._rate / self._step))
        inside = self._levels[min(first, len(self._levels) - 1) : last]
        return float(inside.max())

    def is_silent(self, start: float, stop: float) -> bool:
        """Whether nothing in a stretch is loud enough to be judged."""
        floor = max(10 ** (SILENT_DBFS / 20), self.loudest * 10 ** (-QUIETER_DB / 20))
        return self.of(start, stop) <= floor


@dataclass(frozen=True)
class _Judge:
    """A head, a recording with its loudness, and the settings: what it takes to judge a stretch."""

    saved: "SavedHead"
    heard: Heard
    loudness: _Loudness
    settings: PredictSettings

    @property
    def threshold(self) -> float:
        """Confidence below which nothing is said."""
        own = self.settings.threshold
        return float(self.saved.head.threshold if own is None else own)

    @property
    def least_seconds(self) -> float:
        """Length below which a stretch is too short to be judged."""
        return max(LEAST_SECONDS, LEAST_SHARE * self.saved.config.least_seconds)

    def say(self, start: float, stop: float, on_progress: OnProgress) -> Said:
        """Judge a stretch by its own sound; where nothing is heard, all classes are alike."""
        if self.loudness.is_silent(start, stop):
            return Said(start, stop, self._alike, "", "silence", float("inf"))
        with _stretch(self.heard.signal, start, stop) as part:
            probabilities, far = self._scores(_pooled(self.saved, self.heard.encode(part, on_progress)))
        why = self._why(stop - start, probabilities, far)
        label = "" if why else self.saved.labels[int(probabilities.argmax())]
        return Said(start, stop, probabilities, label, why, far)

    @property
    def _alike(self) -> np.ndarray:
        return np.full(len(self.saved.labels), 1 / len(self.saved.labels))

    def _scores(self, pooled: np.ndarray) -> tuple[np.ndarray, float]:
        """Probabilities and distance; where there are no numbers, all classes alike, infinitely far."""
        features = np.asarray(pooled)[:, None]
        if np.isfinite(features).all():
            probabilities = self.saved.head.probabilities(features)[0]
            far = float(distance(self.saved.head, features)[0])
            if np.isfinite(probabilities).all() and np.isfinite(far):
                return probabilities, far
        return self._alike, float("inf")

    def _why(self, seconds: float, probabilities: np.ndarray, far: float) -> str:
        if seconds < self.least_seconds - 1e-9:
            return "short"
        if far > 1.0:
            return "unlike"
        return "unsure" if probabilities.max() < self.threshold else ""


def _upwards(far: float) -> str:
    """Round up to two digits, so that what lies just beyond 1 does not read as 1.

    >>> _upwards(1.0021), _upwards(2.5)
    ('1.01', '2.50')
    """
    return f"{np.ceil(100 * far) / 100:.2f}"


def _warnings(saved: "SavedHead", settings: PredictSettings, clip: Said, timeline: tuple[Said, ...]) -> Iterator[str]:
    """What limits a prediction, as sentences."""
    least = saved.config.least_seconds
    if not all(np.isfinite(said.distance) for said in (clip, *timeline) if said.why != "silence"):
        yield "The encoder gave values that are no finite numbers; what they reach is not judged. Use --precision fp32."
    elif clip.distance > 1.0 and clip.why != "silence":
        yield (
            f"The recording is unlike what the head was trained on (distance {_upwards(clip.distance)}; 95 % of clips "
            "of speakers that it had not heard stay below 1): do not believe what it says of it."
        )
    if saved.head.reference is None:
        yield "The head cannot tell what is unlike its training clips: it has no distance to them."
    if timeline and settings.window_seconds < least:
        yield (
            f"The windows ({settings.window_seconds:g} s) are shorter than any clip that the head was trained on "
            f"({least:.1f} s): the timeline says less than the whole."
        )
    yield INTENDED_USE
