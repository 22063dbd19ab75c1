"""The prepared folder: segments as ``.npy``, the lists of both parts, and a manifest that vouches for them.

``meg_%06d_%03d.npy`` (recording, segment) are (channels, segment length) float32, standardised; ``train.txt`` and
``eval.txt`` name them, a file a line; ``manifest.json``, written last, holds each file's hash, origin and part, the
sensors, the statistics and where all came from. A folder without it is not finished.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError, OutputError
from core.meg.files import write_whole
from core.meg.segments import PARTS
from core.meg.window_data import Segment
from core.records import from_plain, to_plain
from core.sensors import ModelInput, Sensors

VERSION = 1
MANIFEST = "manifest.json"
WORK = ".preparing"
"""Sub-folder of what is half done; it goes when the manifest comes."""

_SEGMENT = re.compile(r"meg_\d{6}_\d{3,}\.npy")
# What a process that was killed left of one.
_LEFT = re.compile(r"\.meg_\d{6}_\d{3,}\.npy\.[0-9a-f]{32}\.part")
_AGAIN = "Prepare it again."


@dataclass(frozen=True)
class SegmentRecord:
    """A segment's file.

    Attributes:
        name: The file's.
        sha256: Of its bytes.
        n_bytes: Its size.
        recording: Number in the manifest.
        part: ``train`` or ``eval``.
        start: First of its samples in the prepared recording.
        original: ``[start, stop)`` in the original recording's samples, without what the filter reaches over.
    """

    name: str
    sha256: str
    n_bytes: int
    recording: int
    part: str
    start: int
    original: tuple[int, int]


@dataclass(frozen=True)
class RecordingRecord:
    """Where segments come from.

    Attributes:
        name: The recording's file name, with as many of its folders as tell it from the others.
        sha256: Of its content.
        subject: Who was recorded; empty where unknown.
        session: When; empty where unknown.
        simulated: Whether the recording says that it was simulated.
        sensors: Its own, with ``native`` sensors; else None.
        facts: JSON-ready: original rate and length, filter, how channels were fitted, what was left out.
        warnings: Sentences.
    """

    name: str
    sha256: str
    subject: str
    session: str
    simulated: bool
    sensors: Sensors | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """All that is known of a prepared folder.

    Attributes:
        version: Of this format.
        request: Hash of what was asked for: settings and the recordings' contents.
        model_input: What turns a recording into such segments.
        segment_length: Samples.
        recordings: By number.
        segments: In the order of recordings and time.
        facts: JSON-ready: the request, versions.
        warnings: Sentences about the whole.
    """

    version: int
    request: str
    model_input: ModelInput
    segment_length: int
    recordings: tuple[RecordingRecord, ...]
    segments: tuple[SegmentRecord, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class PreparedData:
    """A prepared folder, open for reading: a :class:`core.meg.window_data.WindowData`.

    Attributes:
        folder: Where.
        manifest: What it holds.
        fingerprint: Hash of what a model would learn from: input, files and parts.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._by_name = {one.name: one for one in manifest.segments}
        decides = [manifest.model_input.fingerprint(), [(one.sha256, one.part) for one in manifest.segments]]
        self.fingerprint = hashlib.sha256(json.dumps(decides).encode()).hexdigest()

    @property
    def model_input(self) -> ModelInput:
        """What turns a recording into such data."""
        return self.manifest.model_input

    @property
    def facts(self) -> dict[str, Any]:
        """JSON-ready: what the data are, for a checkpoint's card."""
        seconds = self.manifest.segment_length / self.model_input.preparation.sampling_rate
        counts = {part: len(self.segments(part)) for part in PARTS}
        return {
            "recordings": [one.name for one in self.manifest.recordings],
            "recordings_sha256": [one.sha256 for one in self.manifest.recordings],
            "segments": counts,
            "seconds": {part: count * seconds for part, count in counts.items()},
            "simulated": self.model_input.simulated,
            "fingerprint": self.fingerprint,
            **self.manifest.facts,
        }

    def segments(self, part: str) -> tuple[Segment, ...]:
        """Segments of ``train`` or ``eval``.

        Raises:
            InputError: there is no such part.
        """
        if part not in PARTS:
            raise InputError(f"Got part {part!r}; expected {' or '.join(PARTS)}.")
        names, length = self.manifest.recordings, self.manifest.segment_length
        return tuple(
            Segment(one.name, names[one.recording].name, length) for one in self.manifest.segments if one.part == part
        )

    def read(self, segment: Segment, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) of a segment, (channels, stop - start) float32, without reading the rest.

        Raises:
            InputError: the range reaches beyond the segment.
            DataError: the file is missing, is not what was written, or holds values that are not finite.
        """
        if not 0 <= start <= stop <= segment.n_times:
            raise InputError(f"Got samples {start} to {stop} of {segment.name}; expected 0 to {segment.n_times}.")
        path = self.folder / segment.name
        stored = _mapped(path)
        expected = (len(self.sensors(segment)), segment.n_times)
        if stored.shape != expected or stored.dtype != np.float32:
            raise DataError(f"{path} holds {stored.dtype} {stored.shape}; expected float32 {expected}. {_AGAIN}")
        values = np.array(stored[:, start:stop])
        if not np.isfinite(values).all():
            raise DataError(f"{path} holds values that are not finite between samples {start} and {stop}. {_AGAIN}")
        return values

    def sensors(self, segment: Segment) -> Sensors:
        """Sensors of a segment's channels: the layout's, or with ``native`` its recording's."""
        own = self.manifest.recordings[self._by_name[segment.name].recording].sensors
        sensors = own if self.model_input.sensors is None else self.model_input.sensors
        if sensors is None:
            raise DataError(f"{self.folder / MANIFEST} names no sensors for {segment.name}. {_AGAIN}")
        return sensors

    def verify(self, on_progress: OnProgress = ignore_progress) -> None:
        """Read every file and compare it with its hash.

        Args:
            on_progress: Told of the stage ``check`` in megabytes.

        Raises:
            DataError: one is not what was written.
        """
        done, total = 0.0, sum(one.n_bytes for one in self.manifest.segments) / 1e6
        for one in self.manifest.segments:
            on_progress(Progress("check", done, total, "MB"))
            if not is_as_written(self.folder, one):
                raise DataError(f"{self.folder / one.name} has changed since it was prepared. {_AGAIN}")
            done += one.n_bytes / 1e6
        on_progress(Progress("check", total, total, "MB"))


def _mapped(path: Path) -> np.ndarray:
    try:
        stored: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). {_AGAIN}") from error
    except (ValueError, EOFError) as error:  # numpy's words advise to unpickle it
        raise DataError(f"{path} cannot be read: it holds no plain numbers as numpy writes them. {_AGAIN}") from error
    return stored


def is_as_written(folder: Path, segment: SegmentRecord) -> bool:
    """Whether a segment's file still has the content of its hash; what cannot be read has not."""
    try:
        with (folder / segment.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == segment.sha256
    except OSError:
        return False


def open_prepared(folder: Path) -> PreparedData:
    """Open a prepared folder, strictly.

    Raises:
        DataError: there is no manifest, it is of another version, or a file is missing, has another size, or is not
            in the list of its part.
    """
    manifest = read_manifest(folder)
    for one in manifest.segments:
        path = folder / one.name
        size = path.stat().st_size if path.is_file() else None
        if size != one.n_bytes:
            found = "is missing" if size is None else f"has {size} bytes; expected {one.n_bytes}"
            raise DataError(f"{path} {found}. {_AGAIN}")
    for part in PARTS:
        if _read_text(folder / f"{part}.txt") != _list(manifest.segments, part):
            raise DataError(f"{folder / part}.txt does not name the segments that {MANIFEST} does. {_AGAIN}")
    return PreparedData(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read what a prepared folder says of itself.

    Raises:
        DataError: there is no manifest, or it is of another version or damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        state = "its preparation is not finished" if (folder / WORK).is_dir() else "it holds no prepared recordings"
        raise DataError(f"{folder} has no {MANIFEST}: {state}. Run prepare with it as --output_dir.")
    try:
        plain = json.loads(_read_text(path))
        version = plain["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}). {_AGAIN}") from error
    if version != VERSION:
        raise DataError(f"{path} is of version {version}; expected {VERSION}. {_AGAIN}")
    try:
        manifest = from_plain(Manifest, plain)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    inside = all(Path(one.name).name == one.name for one in manifest.segments)
    if not inside or any(one.recording >= len(manifest.recordings) for one in manifest.segments):
        raise DataError(f"{path} names files or recordings that cannot be its own. {_AGAIN}")
    return manifest


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). {_AGAIN}") from error


def _list(segments: Sequence[SegmentRecord], part: str) -> str:
    return "".join(f"{one.name}\n" for one in segments if one.part == part)


def segment_name(recording: int, number: int) -> str:
    """Name of a segment's file."""
    return f"meg_{recording:06d}_{number:03d}.npy"


def write_segment(path: Path, values: np.ndarray) -> tuple[str, int]:
    """Write (channels, times) float32; returns the hash and the size of the file.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
    content = buffer.getvalue()
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest(), len(content)


def finish(folder: Path, manifest: Manifest) -> None:
    """Write the lists and, last, the manifest; segments that are not in it are removed first.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    named = {one.name for one in manifest.segments}
    for path in folder.iterdir():
        if _LEFT.fullmatch(path.name) or (_SEGMENT.fullmatch(path.name) and path.name not in named):
            path.unlink()
    for part in PARTS:
        write_whole(folder / f"{part}.txt", _list(manifest.segments, part).encode())
    plain = json.dumps(to_plain(manifest), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / MANIFEST, (plain + "\n").encode())


def check_folder(folder: Path) -> None:
    """Find out before anything is computed whether a folder is free for a preparation: new, empty, or one of ours.

    Raises:
        OutputError: it is a file, or holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; expected a folder. Choose another --output_dir.")
    begun = (folder / MANIFEST).is_file() or (folder / WORK).is_dir()
    foreign = sorted(path.name for path in folder.iterdir() if not (begun and _is_ours(path)) and path.name[0] != ".")
    if foreign:
        raise OutputError(
            f"{folder} holds {', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}; expected an empty folder "
            "or one of an earlier preparation. Choose another --output_dir."
        )


def _is_ours(path: Path) -> bool:
    return path.name in {MANIFEST, *(f"{part}.txt" for part in PARTS)} or bool(_SEGMENT.fullmatch(path.name))


def find_finished(folder: Path, request: str) -> PreparedData | None:
    """The preparation in a folder, if it is finished, whole and what is asked for now.

    Raises:
        OutputError: it is finished and something else.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        if read_manifest(folder).request == request:
            return _whole(folder)
    except DataError:
        pass
    raise OutputError(
        f"{folder} holds a preparation of other recordings or with other settings. Use --force to replace it, or "
        "choose another --output_dir."
    )


def _whole(folder: Path) -> PreparedData | None:
    try:
        data = open_prepared(folder)
        data.verify()
    except DataError:
        return None
    return data
