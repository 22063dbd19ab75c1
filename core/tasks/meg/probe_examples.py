"""Examples for a probe of MEG: windows cut from recordings, what they are labelled with, and who is held out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.analysis.intervals import FEWEST_GROUPS
from core.analysis.meg_controls import band_power, covariance
from core.analysis.recording_probe import Examples, Fold, leave_out
from core.clock import FrameClock
from core.errors import DataError
from core.meg.reader import LabelSpan, MegFile, labels_of, open_raw
from core.meg.segments import subject_session

TARGETS = ("label", "subject", "session")

STRETCH_SECONDS = 30.0
"""Of what intervals draw where recordings are too few."""

N_BLOCKS = 5
"""Contiguous blocks of each recording, of which a leakage probe holds out one after the other."""

GAP_SECONDS = 2.0
"""Training windows this close to a tested block are left out, and farther ones of models that see farther."""

MOST_WINDOWS = 150
"""Windows of one recording, spread evenly: of long annotations more would cost hours and tell little."""

MODEL, RANDOM, BAND_POWER, RIEMANN = "model", "random", "band-power", "riemann"
CONTROLS = (RANDOM, BAND_POWER, RIEMANN)


@dataclass(frozen=True)
class ProbeRecording:
    """An open recording as a probe takes it.

    Attributes:
        n_samples: Of the prepared signal.
        sampling_rate: Of the prepared signal, in Hz.
        labels: Its annotations.
        read: From first sample and stop to the prepared values, (channels, stop - first).
        states: For ``model`` and ``random``, as far as they were asked for: (layers, frames, dim).
        clock: Of the frames.
        subject: Who; empty where the recording does not say.
        session: Which; empty where it does not say.
        simulated: Whether it is.
    """

    n_samples: int
    sampling_rate: float
    labels: Sequence[LabelSpan]
    read: Callable[[int, int], np.ndarray]
    states: Mapping[str, np.ndarray]
    clock: FrameClock
    subject: str = ""
    session: str = ""
    simulated: bool = False

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.n_samples / self.sampling_rate


OpenRecording = Callable[[Path], AbstractContextManager[ProbeRecording]]
"""Opens a recording with the states that its probe needs."""


@dataclass(frozen=True)
class Window:
    """An example: where it begins in seconds, and its class."""

    onset: float
    label: str


@dataclass(frozen=True)
class Cut:
    """The examples of one recording with their features.

    Attributes:
        windows: Them, in the order of time.
        features: By name: of ``model`` and ``random`` (layers, n, 2 dim), means and standard deviations over frames;
            of ``band-power`` (n, dim); of ``riemann`` covariances (n, channels, channels).
        beyond: Labels whose window does not lie inside of the recording.
        simulated: Whether the recording is.
    """

    windows: tuple[Window, ...]
    features: Mapping[str, np.ndarray]
    beyond: int
    simulated: bool


def cut_recording(recording: ProbeRecording, target: str, seconds: float, controls: Sequence[str]) -> Cut:
    """Cut examples and compute their features.

    Args:
        recording: Open.
        target: One of TARGETS.
        seconds: Length of a window.
        controls: Those of ``band-power`` and ``riemann`` that are wanted.
    """
    wanted = list(_windows(recording, target, seconds))
    windows = tuple(one for one in wanted if 0 <= one.onset <= recording.seconds - seconds + 1e-6)
    features = {name: _pooled(states, recording.clock, windows, seconds) for name, states in recording.states.items()}
    features |= _control_features(recording, windows, seconds, controls)
    return Cut(windows, features, len(wanted) - len(windows), recording.simulated)


def _windows(recording: ProbeRecording, target: str, seconds: float) -> Iterator[Window]:
    if target == "label":
        spans = sorted(recording.labels, key=lambda one: one.onset)
        windows = [Window(onset, span.label) for span in spans for onset in _onsets(span, seconds)]
        yield from (windows[number] for number in _spread(len(windows), max(MOST_WINDOWS, len(spans))))
        return
    label = recording.subject if target == "subject" else f"{recording.subject} {recording.session}".strip()
    count = int(recording.seconds / seconds + 1e-6)
    yield from (Window(number * seconds, label) for number in _spread(count, MOST_WINDOWS))


def _spread(count: int, most: int) -> list[int]:
    """Numbers from 0 to ``count - 1``, at most so many, evenly spread."""
    kept = np.linspace(0, count - 1, min(count, most)).round()
    return [int(number) for number in np.unique(kept)]


def _onsets(span: LabelSpan, seconds: float) -> Iterator[float]:
    """Where the windows of a label begin: at its onset, and side by side as long as the next ends inside of it."""
    whole = int(span.duration / seconds + 1e-6)
    yield from (span.onset + number * seconds for number in range(max(1, whole)))


def _pooled(states: np.ndarray, clock: FrameClock, windows: Sequence[Window], seconds: float) -> np.ndarray:
    """Mean and standard deviation over the frames whose middle lies in each window: (layers, n, 2 dim) float32.

    A window that no frame has its middle in takes the closest frame.
    """
    centres = clock.centre(np.arange(states.shape[1]))
    pooled = np.empty((states.shape[0], len(windows), 2 * states.shape[2]), dtype=np.float32)
    for number, window in enumerate(windows):
        inside = np.flatnonzero((centres >= window.onset) & (centres < window.onset + seconds))
        if not len(inside):
            inside = np.array([np.abs(centres - window.onset - seconds / 2).argmin()])
        frames = states[:, inside]
        pooled[:, number] = np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1)
    return pooled


def _control_features(
    recording: ProbeRecording, windows: Sequence[Window], seconds: float, controls: Sequence[str]
) -> dict[str, np.ndarray]:
    rate, found = recording.sampling_rate, {name: list[np.ndarray]() for name in controls}
    length = round(seconds * rate)
    for window in windows if found else ():
        first = min(round(window.onset * rate), recording.n_samples - length)
        values = recording.read(first, first + length)
        if BAND_POWER in found:
            found[BAND_POWER].append(band_power(values, rate))
        if RIEMANN in found:
            found[RIEMANN].append(covariance(values))
    return {name: np.stack(rows) for name, rows in found.items() if rows}


# ------------------------------------------------------------------------------------------------------ all recordings


@dataclass(frozen=True)
class Labelled:
    """The examples of all recordings.

    Attributes:
        labels: (n,) of each.
        onsets: (n,) seconds.
        recordings: (n,) int64, numbers of the recordings.
        seconds: Length of each.
    """

    labels: np.ndarray
    onsets: np.ndarray
    recordings: np.ndarray
    seconds: float

    @classmethod
    def of(cls, cuts: Sequence[Cut], seconds: float) -> "Labelled":
        """Put the recordings' examples one after the other."""
        windows = [window for cut in cuts for window in cut.windows]
        numbers = np.repeat(np.arange(len(cuts)), [len(cut.windows) for cut in cuts])
        labels = np.array([window.label for window in windows], dtype=str)
        return cls(labels, np.array([window.onset for window in windows]), numbers, seconds)

    def take(self, rows: np.ndarray) -> "Labelled":
        """Some of the examples."""
        return Labelled(self.labels[rows], self.onsets[rows], self.recordings[rows], self.seconds)

    def stretches(self) -> np.ndarray:
        """Number the stretches of STRETCH_SECONDS of all recordings, (n,) int64."""
        keys = np.stack([self.recordings, (self.onsets // STRETCH_SECONDS).astype(np.int64)])
        return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)

    def blocks(self) -> np.ndarray:
        """Number N_BLOCKS contiguous blocks of each recording by their place in it, (n,) int64."""
        found = np.zeros(len(self.labels), dtype=np.int64)
        for number in np.unique(self.recordings):
            rows = np.flatnonzero(self.recordings == number)
            found[rows] = np.arange(len(rows)) * N_BLOCKS // len(rows)
        return found


def learnable(examples: Labelled, target: str) -> tuple[np.ndarray, list[str]]:
    """Which examples can be trained and tested, (n,) int64, and a sentence for what was left out.

    Raises:
        DataError: fewer than two classes are left.
    """
    of: dict[str, set[int]] = {}
    for label, recording in zip(examples.labels.tolist(), examples.recordings.tolist(), strict=True):
        of.setdefault(label, set()).add(recording)
    lonely = sorted(label for label, held in of.items() if len(held) < 2) if target == "label" else []
    kept = np.flatnonzero(~np.isin(examples.labels, lonely))
    if len(of) - len(lonely) < 2:
        raise DataError(_too_few(of, target))
    if not lonely:
        return kept, []
    return kept, [f"Left out, because only one recording has them: {', '.join(lonely)}."]


def _too_few(of: Mapping[str, set[int]], target: str) -> str:
    if target != "label":
        return (
            f"All recordings are of one {target} ({', '.join(of)}). Expected at least two: add recordings, or name the "
            "files with sub- and ses- as BIDS does."
        )
    if not of:
        return "No recording has a label whose window lies inside of it. Annotate recordings, or take a shorter window."
    names = ", ".join(f"{label} ({len(held)})" for label, held in sorted(of.items())[:8])
    return (
        f"Got labels in so many recordings: {names}. Expected at least two labels that occur in two recordings each, "
        "since whole recordings are held out."
    )


def split_examples(examples: Labelled, target: str, gap_seconds: float) -> tuple[Examples, tuple[str, ...], str]:
    """Number the classes, and decide who is held out and what an interval draws.

    Labels are held out with whole recordings. Who is recorded does not change inside of a recording, so that a leakage
    probe holds out contiguous blocks of each, and leaves windows beside them out of training.

    Args:
        examples: Those that can be learnt.
        target: One of TARGETS.
        gap_seconds: Between tested blocks and what is trained on; not used for labels.

    Returns:
        The examples, the classes' names in order, and what the interval draws.

    Raises:
        DataError: there are too few windows to hold some of them out.
    """
    names, codes = np.unique(examples.labels, return_inverse=True)
    recordings = np.unique(examples.recordings, return_inverse=True)[1]
    n_recordings = int(recordings.max()) + 1
    many = n_recordings >= FEWEST_GROUPS
    units = recordings if many else examples.stretches()
    drawn = "recordings" if many else f"stretches of {STRETCH_SECONDS:g} s"
    if target == "label":
        folds = leave_out(recordings)
        parts = recordings if n_recordings > 2 else examples.blocks()
    else:
        parts = examples.blocks()
        folds = tuple(_beside_left_out(examples, parts == block, gap_seconds) for block in range(int(parts.max()) + 1))
    if any(len(np.unique(parts[train])) < 2 for train, _ in folds):
        apart = "" if target == "label" else f" and to keep the others {gap_seconds:g} s away"
        raise DataError(
            f"Got {len(codes)} windows of {examples.seconds:g} s in {n_recordings} recordings; that is too few to hold "
            f"some out{apart}. Give longer recordings, or take a shorter window."
        )
    return Examples(codes.reshape(-1), units, parts, folds, len(names)), tuple(names.tolist()), drawn


def _beside_left_out(examples: Labelled, tested: np.ndarray, gap_seconds: float) -> Fold:
    """Test a block of every recording; train on what lies at least the gap away."""
    near = np.zeros(len(tested), dtype=bool)
    for number in np.unique(examples.recordings[tested]):
        own = examples.recordings == number
        onsets, reach = examples.onsets[own & tested], examples.seconds + gap_seconds
        near |= own & (examples.onsets > onsets.min() - reach) & (examples.onsets < onsets.max() + reach)
    return np.flatnonzero(~tested & ~near), np.flatnonzero(tested)


def who_and_when(path: Path, numpy_rate: float | None = None) -> tuple[str, str]:
    """Subject and session of a recording: by BIDS names, else by what the file says (its subject's id, its day).

    Either is empty where nothing tells it.
    """
    return _who_and_when(open_raw(path, numpy_rate))


def _who_and_when(file: MegFile) -> tuple[str, str]:
    info = file.raw.info
    subject, session = subject_session(file.path, info["subject_info"])
    day = info["meas_date"]
    return subject, session or ("" if day is None else f"{day:%Y-%m-%d}")


@contextmanager
def open_unread(path: Path, numpy_rate: float | None = None) -> Iterator[ProbeRecording]:
    """A recording as far as its file tells without being read: labels, length, who; no states and no values.

    Raises:
        StrataError: as :func:`core.meg.reader.open_raw`.
    """
    file = open_raw(path, numpy_rate)
    rate, n_samples = float(file.raw.info["sfreq"]), file.raw.n_times
    clock = FrameClock(hop=1, field=1, sampling_rate=round(rate))  # of no states
    yield ProbeRecording(n_samples, rate, labels_of(file), _unread, {}, clock, *_who_and_when(file), file.simulated)


def _unread(first: int, stop: int) -> np.ndarray:
    return np.empty((0, stop - first))
