"""Features of all layers of a recording, read from ``.npz`` without loading what is not looked at.

An ``.npz`` is a zip of ``.npy`` members. Those that Strata writes are stored uncompressed, so that a layer is a memory
map into the archive; what others have compressed or saved in another precision is read whole, a layer at a time.
"""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from core.clock import FrameClock
from core.errors import DataError, InputError

_LAYER = re.compile(r"layer_(\d+)\.npy")
# A member's local header: its fixed part, and where in it the lengths of the name and of the extra field stand.
_LOCAL_HEADER = 30
_LOCAL_LENGTHS = slice(26, 30)
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class _Member:
    """One layer inside the archive; ``offset`` counts bytes from the file's beginning, None if it cannot be mapped."""

    name: str
    shape: tuple[int, int]
    offset: int | None


@dataclass(frozen=True)
class FeatureFile:
    """The features of one recording.

    Attributes:
        name: What the recording is called in results.
        path: The ``.npz``.
        layers: Layer numbers, ascending by number (0, 1, 2, ..., 10, 11).
        n_frames: Frames of the recording, the same in every layer.
        dim: Values a frame, the same in every layer.
        clock: Times of the frames; None where no ``.json`` beside the file tells.
        metadata: What that ``.json`` says; empty without one.
        ignored: Names in the archive that are no layers (``conv_0``) and were left aside.
    """

    name: str
    path: Path
    layers: tuple[int, ...]
    n_frames: int
    dim: int
    clock: FrameClock | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    _members: Mapping[int, _Member] = field(default_factory=dict, repr=False)

    def layer(self, number: int) -> np.ndarray:
        """Open a layer: (n_frames, dim) float32, read-only; a memory map where the archive allows it.

        Raises:
            InputError: There is no such layer.
            DataError: The file has changed or is damaged.
        """
        if number not in self._members:
            raise InputError(
                f"{self.path} has no layer {number}; it holds {_ranges(self.layers)}. Ask for one of them."
            )
        member = self._members[number]
        with _readable(self.path):
            if member.offset is None:
                return _read_whole(self.path, member)
            return np.memmap(self.path, dtype="<f4", mode="r", offset=member.offset, shape=member.shape)

    def is_mapped(self, number: int) -> bool:
        """Whether :meth:`layer` gives a memory map, which costs nothing, rather than a whole array."""
        return number in self._members and self._members[number].offset is not None

    @property
    def model(self) -> str:
        """The model's name, as far as it is known."""
        return str(self.metadata.get("model_name") or "an unknown model")

    @property
    def recording_hash(self) -> str | None:
        """SHA-256 of the recording's bytes, as far as it is known."""
        return self.metadata.get("input_sha256")

    @property
    def channel(self) -> int | None:
        """Channel that was taken, from 1 on; None for the mean of all, or where it is not known."""
        channel = self.metadata.get("channel")
        return channel if type(channel) is int else None

    @property
    def stem(self) -> str:
        """The recording's own base name, by which an alignment is found."""
        return self.recording_path.stem

    @property
    def recording_path(self) -> Path:
        """Where the recording lay, as far as it is known; else the features themselves."""
        # Features of before MEG call it audio_path.
        said = self.metadata.get("recording_path") or self.metadata.get("audio_path")
        return Path(said) if isinstance(said, str) and said else self.path

    @property
    def duration_seconds(self) -> float | None:
        """Seconds of the recording: as written beside it, else where the last frame ends; None without a clock."""
        seconds = self.metadata.get("duration_seconds")
        if isinstance(seconds, int | float):
            return float(seconds)
        if self.clock is None:
            return None
        return float(self.clock.onset(self.n_frames - 1)) + self.clock.field / self.clock.sampling_rate


def open_features(path: Path, name: str | None = None) -> FeatureFile:
    """Look into an ``.npz`` with ``layer_0``, ``layer_1``, ...; nothing but headers is read.

    Arrays are (n_frames, dim), or (1, n_frames, dim). Keys that are no layers are left aside and listed.

    Args:
        path: The file; ``NAME.json`` beside it says clock and model.
        name: What to call the recording; None takes the file's stem.

    Raises:
        DataError: No zip, cut short, encrypted, no layers, arrays of another kind or shape, layers that differ in
            frames or dims, or a ``.json`` that describes other features.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        members = dict(_members(path, archive, infos))
    if not members:
        raise DataError(_no_layers(path, [info.filename for info in infos]))
    layers = tuple(sorted(members))
    n_frames, dim = _common_shape(path, layers, members)
    others = tuple(info.filename.removesuffix(".npy") for info in infos if not _LAYER.fullmatch(info.filename))
    opened = FeatureFile(name or path.stem, path, layers, n_frames, dim, None, {}, others, members)
    return _with_metadata(opened)


def open_feature_set(paths: Sequence[Path], names: Sequence[str] | None = None) -> tuple[FeatureFile, ...]:
    """Open the features of several recordings and check that they belong together.

    Args:
        paths: One ``.npz`` a recording.
        names: What to call them; None takes their stems, or their paths below the common folder where stems collide.

    Raises:
        InputError: No files, or a name given twice.
        DataError: As :func:`open_features`, or files of different models, layers, dims, clocks or windows, or two of
            one recording. What a file without metadata does not say is not checked.
    """
    if not paths:
        raise InputError("Got no feature files; expected at least one .npz.")
    names = _unique_names(paths) if names is None else list(names)
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"The recording name {twice[0]!r} is given twice. Each recording needs a name of its own.")
    files = tuple(open_features(path, name) for path, name in zip(paths, names, strict=True))
    for other in files[1:]:
        _check_same_kind(files[0], other)
    _check_same_windows(files)
    _check_no_recording_twice(files)
    return files


def is_readable_features(path: Path) -> bool:
    """Whether :func:`open_features` can open a file: it is there, whole, and so is the ``.json`` beside it.

    Only headers are read. A file that was cut short is found out; changed values inside one are not.
    """
    try:
        open_features(path)
    except DataError:
        return False
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with an archive."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path} is no .npz that can be read: {error or type(error).__name__}. It may be cut short or of another "
            "format; extract the features again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error


def _members(path: Path, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Iterator[tuple[int, _Member]]:
    """Find the layers of an archive; a number that comes twice is an error."""
    seen: dict[int, str] = {}
    for info in infos:
        match = _LAYER.fullmatch(info.filename)
        if match is None:
            continue
        number = int(match[1])
        if number in seen:
            raise DataError(f"{path} holds layer {number} twice: {seen[number]} and {info.filename}. Keep one.")
        seen[number] = info.filename
        yield number, _look(path, archive, info)


def _look(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """Read a member's header, and find where its values lie if they can be mapped."""
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{path}: {info.filename} is encrypted. Save the features without a password.")
    with archive.open(info) as file:
        shape, fortran, dtype = _npy_header(path, info, file)
        header_bytes = file.tell()
    frames_dim = _check_array(path, info, shape, dtype)
    expected = header_bytes + int(np.prod(shape)) * dtype.itemsize
    if info.file_size != expected:
        raise DataError(
            f"{path}: {info.filename} has {info.file_size} bytes; {expected} are needed for {shape} {dtype}. "
            "Extract the features again."
        )
    begin = _data_offset(path, info)
    if begin + info.compress_size > archive.start_dir:
        raise zipfile.BadZipFile(f"{info.filename} is longer than the file")
    plain = info.compress_type == zipfile.ZIP_STORED and dtype == np.dtype("<f4") and not fortran
    return _Member(info.filename, frames_dim, begin + header_bytes if plain else None)


def _npy_header(path: Path, info: zipfile.ZipInfo, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Parse numpy's header; nothing of it is ever executed."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        return readers[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: {info.filename} is no numpy array ({error}). Extract the features again.") from error


def _check_array(path: Path, info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int]:
    """Return (n_frames, dim) of an array that can be features."""
    if dtype.kind != "f":
        raise DataError(f"{path}: {info.filename} holds {dtype}; expected floating-point features. Save float32.")
    frames_dim = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(frames_dim) != 2:
        raise DataError(
            f"{path}: {info.filename} has the shape {shape}; expected (n_frames, dim) or (1, n_frames, dim), one "
            "recording a file."
        )
    if 0 in frames_dim:
        raise DataError(f"{path}: {info.filename} has the shape {shape}: no frames. Leave this recording out.")
    return frames_dim[0], frames_dim[1]


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Byte at which a stored member's content begins: its local header may be longer than the directory's entry."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile(f"no header for {info.filename}")
    name, extra = np.frombuffer(header[_LOCAL_LENGTHS], "<u2").tolist()
    return info.header_offset + _LOCAL_HEADER + name + extra


def _read_whole(path: Path, member: _Member) -> np.ndarray:
    """Decompress and convert a layer: (n_frames, dim) float32, read-only."""
    with zipfile.ZipFile(path) as archive, archive.open(member.name) as file:
        try:
            values = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path}: {member.name} cannot be read ({error}). Extract the features again.") from error
    # A float64 beyond float32's range becomes infinite here, and is named where the values are looked at.
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(values.reshape(member.shape), dtype=np.float32)
    converted.flags.writeable = False
    return converted


def _common_shape(path: Path, layers: tuple[int, ...], members: Mapping[int, _Member]) -> tuple[int, int]:
    """Check that all layers have as many frames and dims as the first."""
    first = members[layers[0]].shape
    for number in layers:
        if members[number].shape != first:
            raise DataError(
                f"{path}: layer {layers[0]} has {first[0]} frames of {first[1]} values and layer {number} "
                f"{members[number].shape[0]} of {members[number].shape[1]}; expected the same for every layer. "
                "Extract the features again."
            )
    return first


def _no_layers(path: Path, names: list[str]) -> str:
    found = ", ".join(name.removesuffix(".npy") for name in names[:6]) or "nothing"
    return f"{path} holds {found}{', ...' if len(names) > 6 else ''}; expected layer_0, layer_1, ... of one recording."


def _with_metadata(opened: FeatureFile) -> FeatureFile:
    """Add what the ``.json`` beside the file says, after a check that it speaks of these features."""
    path = opened.path.with_name(opened.path.name.removesuffix(".npz") + ".json")
    if not path.is_file():
        return opened
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} beside {opened.path.name} cannot be read as JSON ({error}). Remove it.") from error
    if not isinstance(facts, dict):
        raise DataError(f"{path} beside {opened.path.name} holds no JSON object. Remove it or extract again.")
    for key, got in (("num_frames", opened.n_frames), ("hidden_size", opened.dim)):
        if facts.get(key, got) != got:
            raise DataError(
                f"{path} says {key} {facts[key]}, and {opened.path.name} has {got}: they are of different runs. "
                "Extract the features again."
            )
    return replace(opened, clock=_read_clock(path, facts.get("clock")), metadata=facts)


def _read_clock(path: Path, facts: Any) -> FrameClock | None:
    """Make the clock again from what was written about it."""
    if facts is None:
        return None
    try:
        hop, frame_field, rate, start = (facts[key] for key in ("hop", "field", "sampling_rate", "start"))
    except (KeyError, TypeError):
        hop = frame_field = rate = start = None
    if not all(type(value) is int for value in (hop, frame_field, rate, start)) or min(hop, frame_field, rate) < 1:
        raise DataError(f"{path} has the clock {facts!r}; expected whole hop, field, start and sampling_rate.")
    return FrameClock(hop=hop, field=frame_field, sampling_rate=rate, start=start)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Stems, or paths below the common folder where two stems are the same."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    full = [path.absolute() for path in paths]
    top = Path(os.path.commonpath([path.parent for path in full]))
    return [path.relative_to(top).with_name(path.stem).as_posix() for path in full]


def _check_same_kind(first: FeatureFile, other: FeatureFile) -> None:
    """Raise where two recordings' features cannot be rows of one table."""
    for key in ("model_sha256", "model_config_sha256"):
        if first.metadata.get(key) != other.metadata.get(key):
            raise DataError(
                f"Features of two models are mixed: {first.path} is of {_model(first)}, {other.path} of "
                f"{_model(other)}. Give each model a folder of its own."
            )
    if first.dim != other.dim:
        raise DataError(f"{first.path} has {first.dim} values a frame and {other.path} {other.dim}: two models?")
    if first.layers != other.layers:
        raise DataError(
            f"{first.path} has the layers {_ranges(first.layers)} and {other.path} {_ranges(other.layers)}; expected "
            "the same in all. Extract them again with the same --layers."
        )
    if first.clock != other.clock:
        raise DataError(
            f"{first.path} and {other.path} have different clocks ({first.clock} and {other.clock}); expected features "
            "of one model with one setting. Extract them again."
        )


def _check_same_windows(files: Sequence[FeatureFile]) -> None:
    """Raise where recordings that were cut into windows were cut with different settings.

    One that went through the model whole has the same values under any setting that leaves it whole; the seconds
    written with it are capped by its length, or fill up the model's own window, and say nothing about the others.
    """
    cut = [file for file in files if (file.metadata.get("n_windows") or 1) != 1]
    for key, what in (("chunk_seconds", "chunk"), ("context_seconds", "context")):
        known = [(file.metadata[key], file) for file in cut if file.metadata.get(key) is not None]
        other = next(((value, file) for value, file in known if value != known[0][0]), None)
        if other is not None:
            raise DataError(
                f"{known[0][1].path} was computed with a {what} of {known[0][0]:g} s and {other[1].path} with one of "
                f"{other[0]:g} s, which gives other values. Extract them again with the same --{what}-seconds, or give "
                "each run a folder of its own."
            )


def _check_no_recording_twice(files: Sequence[FeatureFile]) -> None:
    seen: dict[tuple[str, int | None], FeatureFile] = {}
    for file in files:
        if file.recording_hash is None:
            continue
        # The only channel is the mean of all.
        channel = None if file.metadata.get("original_channels") == 1 else file.channel
        first = seen.setdefault((file.recording_hash, channel), file)
        if first is not file:
            raise DataError(
                f"{first.name} ({first.path}) and {file.name} ({file.path}) are of one recording (SHA-256 "
                f"{file.recording_hash[:12]}), which would count twice. Leave one of them out."
            )


def _model(opened: FeatureFile) -> str:
    digest = opened.metadata.get("model_sha256")
    return f"{opened.model} (weights {str(digest)[:12]})" if digest else opened.model


def _ranges(layers: Sequence[int]) -> str:
    """Write layer numbers shortly: ``0-12`` or ``0, 6, 12``."""
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))
