"""What preparing does to one recording, in steps that other processes can take; each leaves its result on disk.

A step that finds its result from before does nothing, so a preparation that was killed goes on where it was.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, OutputError
from core.meg.files import write_whole
from core.meg.parts import hash_recording
from core.meg.prepared import SegmentRecord, is_as_written, segment_name, write_segment
from core.meg.preprocess import Moments, PreparedRecording, prepare_raw, standardise
from core.meg.reader import MegFile, open_raw
from core.meg.samples import Samples
from core.meg.segments import original_range, subject_session
from core.records import from_plain, to_plain
from core.sensors import ModelInput, Preparation, Sensors

VERSION = 1
"""Of how recordings are filtered and fitted: another one makes what lies in a half prepared folder void."""

_VALUE_BYTES = 4


@dataclass(frozen=True)
class Identity:
    """A recording that can be opened: its content's hash, and the values that preparing makes of it."""

    path: Path
    sha256: str
    n_values: int


@dataclass(frozen=True)
class FilterJob:
    """A recording to filter, resample and fit: where it is, its hash, what to do, and where the result goes."""

    path: Path
    sha256: str
    preparation: Preparation
    folder: Path
    numpy_rate: float | None = None

    @property
    def base(self) -> Path:
        """Path of the result without suffix: of content and preparation, so that no other one is taken for it."""
        decides = json.dumps([VERSION, to_plain(self.preparation), self.numpy_rate])
        return self.folder / f"{self.sha256[:32]}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Filtered:
    """A recording after :func:`filter_recording`; its values lie beside this record.

    Attributes:
        sha256: Of its content.
        n_times: Prepared samples.
        sensors: That came out.
        reach_seconds: On each side of a sample, what of the original recording it rests on.
        bad_spans: ``start, stop, start, stop ...`` in prepared samples.
        subject: Who was recorded; empty where unknown.
        session: When; empty where unknown.
        simulated: Whether the recording says that it was simulated.
        facts: JSON-ready.
        warnings: Sentences.
    """

    sha256: str
    n_times: int
    sensors: Sensors
    reach_seconds: float
    bad_spans: tuple[int, ...]
    subject: str
    session: str
    simulated: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Bad stretches as pairs."""
        return tuple(zip(self.bad_spans[::2], self.bad_spans[1::2], strict=True))


@dataclass(frozen=True)
class IdentifyJob:
    """A recording to look at."""

    path: Path
    preparation: Preparation
    numpy_rate: float | None = None


def identify(job: IdentifyJob, on_progress: OnProgress = ignore_progress) -> Identity:
    """Open a recording and hash it.

    Raises:
        DataError: it cannot be read.
    """
    file = open_raw(job.path, job.numpy_rate)
    seconds = file.raw.n_times / float(file.raw.info["sfreq"])
    # A layout has about as many channels as a recording; the estimate is for the disk.
    n_values = round(seconds * job.preparation.sampling_rate) * max(len(file.sensors), 306)
    try:
        return Identity(job.path, hash_recording(job.path), n_values)
    except OSError as error:
        raise DataError(f"{job.path} cannot be read ({error.strerror or error}).") from error


def find_filtered(job: FilterJob) -> Filtered | None:
    """The result of an earlier :func:`filter_recording`, if it is whole."""
    try:
        plain = json.loads(job.base.with_suffix(".json").read_bytes())
        done = from_plain(Filtered, plain)
        size = job.base.with_suffix(".f32").stat().st_size
    except (OSError, ValueError, DataError):
        return None
    return done if size == done.n_times * len(done.sensors) * _VALUE_BYTES else None


def filter_recording(job: FilterJob, on_progress: OnProgress = ignore_progress) -> Filtered:
    """Filter, resample and fit a recording into a file of float32 values in SI units.

    Raises:
        StrataError: as :func:`core.meg.preprocess.prepare_raw`.
    """
    file = open_raw(job.path, job.numpy_rate)
    partial = job.base.with_suffix(".f32.part")
    try:
        with partial.open("wb+") as store:
            recording = prepare_raw(file, job.preparation, store, on_progress)
        partial.replace(job.base.with_suffix(".f32"))
    except OSError as error:
        raise OutputError(f"Cannot write into {job.folder}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    done = _filtered(job, file, recording)
    write_whole(job.base.with_suffix(".json"), json.dumps(to_plain(done)).encode())
    return done


def _filtered(job: FilterJob, file: MegFile, recording: PreparedRecording) -> Filtered:
    subject, session = subject_session(job.path, file.raw.info.get("subject_info"))
    facts = {"format": file.format, "system": file.sensors.system, "channels": to_plain(recording.report)}
    return Filtered(
        sha256=job.sha256,
        n_times=recording.samples.n_times,
        sensors=recording.sensors,
        reach_seconds=recording.reach_seconds,
        bad_spans=tuple(edge for span in recording.bad_spans for edge in span),
        subject=subject,
        session=session,
        simulated=file.simulated,
        facts={**facts, **recording.facts},
        warnings=recording.warnings,
    )


@dataclass(frozen=True)
class MeasureJob:
    """Stretches ``(start, stop)`` of a filtered recording to take statistics of; by kind with ``native`` sensors."""

    job: FilterJob
    done: Filtered
    ranges: Sequence[tuple[int, int]]
    native: bool


def measure(job: MeasureJob, on_progress: OnProgress = ignore_progress) -> Moments:
    """Means and spreads of a recording's training segments.

    Raises:
        DataError: what was filtered before cannot be read.
    """
    moments = Moments(len(job.done.sensors))
    with _values(job.job).open("rb") as file:
        samples = Samples(file, len(job.done.sensors))
        for number, (start, stop) in enumerate(job.ranges):
            moments.add(samples.read(start, stop))
            on_progress(Progress("measure", number + 1, len(job.ranges), "segments"))
    return moments.by_kind(job.done.sensors.kinds) if job.native else moments


@dataclass(frozen=True)
class Cut:
    """A segment to write: its part and its prepared samples ``[start, stop)``."""

    part: str
    start: int
    stop: int


@dataclass(frozen=True)
class WriteJob:
    """Segments of one recording to write: its number, the model's input, and the prepared folder."""

    job: FilterJob
    done: Filtered
    number: int
    cuts: Sequence[Cut]
    model_input: ModelInput
    folder: Path

    @property
    def key(self) -> str:
        """Hash of all that decides the files."""
        decides = [self.number, to_plain(tuple(self.cuts)), self.model_input.fingerprint()]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


@dataclass(frozen=True)
class Written:
    """What :func:`write_segments` wrote, for a later run to find."""

    key: str
    segments: tuple[SegmentRecord, ...]


def find_written(job: WriteJob) -> tuple[SegmentRecord, ...] | None:
    """The result of an earlier :func:`write_segments`, if it is whole."""
    try:
        written = from_plain(Written, json.loads(_mark(job).read_bytes()))
    except (OSError, ValueError, DataError):
        return None
    # Another preparation may have written files of these names since.
    whole = written.key == job.key and all(is_as_written(job.folder, one) for one in written.segments)
    return written.segments if whole else None


def write_segments(job: WriteJob, on_progress: OnProgress = ignore_progress) -> tuple[SegmentRecord, ...]:
    """Standardise and write a recording's segments.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    records = []
    with _values(job.job).open("rb") as file:
        samples = Samples(file, len(job.done.sensors))
        for number, cut in enumerate(job.cuts):
            records.append(_write_one(job, samples, number, cut))
            on_progress(Progress("write", number + 1, len(job.cuts), "segments"))
    written = Written(job.key, tuple(records))
    write_whole(_mark(job), json.dumps(to_plain(written)).encode())
    return written.segments


def _write_one(job: WriteJob, samples: Samples, number: int, cut: Cut) -> SegmentRecord:
    model_input, facts = job.model_input, job.done.facts
    values = samples.read(cut.start, cut.stop)
    native = model_input.sensors is None
    scores = standardise(values, model_input.statistics, job.done.sensors, model_input.preparation.clip, native)
    name = segment_name(job.number, number)
    digest, size = write_segment(job.folder / name, scores)
    rates = model_input.preparation.sampling_rate, facts["original_sampling_rate"]
    original = original_range((cut.start, cut.stop), *rates, facts["original_n_times"])
    return SegmentRecord(name, digest, size, job.number, cut.part, cut.start, original)


def _values(job: FilterJob) -> Path:
    return job.base.with_suffix(".f32")


def _mark(job: WriteJob) -> Path:
    return job.job.base.with_suffix(".segments.json")
