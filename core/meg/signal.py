"""A recording ready for a trained model: prepared by the code and scaled by the numbers of its training data."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from core.arrays import OnProgress, ignore_progress
from core.errors import DataError, InputError, OutputError
from core.meg.parts import hash_recording
from core.meg.preprocess import PreparedRecording, prepare_raw, standardise
from core.meg.reader import LabelSpan, MegFile, labels_of, open_raw
from core.records import to_plain
from core.sensors import ModelInput, Sensors


class MegSignal:
    """Standardised values that can be read in any range and as often as needed. Close it, or use it in a ``with``.

    Attributes:
        sampling_rate: Samples a second, the model's.
        n_samples: Samples of each channel.
        sha256: Hash of the recording's content.
        sensors: Of the channels.
        facts: JSON-ready: how the channels were fitted, what is bad, the system, the filter, whether it was simulated.
        labels: The recording's annotations, in seconds.
        warnings: Sentences.
        info: None; what the file said is in ``facts``.
    """

    info = None

    def __init__(self, file: MegFile, recording: PreparedRecording, wanted: ModelInput, sha256: str) -> None:
        self._recording = recording
        self._wanted = wanted
        self.sampling_rate = wanted.preparation.sampling_rate
        self.n_samples = recording.samples.n_times
        self.sha256 = sha256
        self.sensors: Sensors = recording.sensors
        self.labels: tuple[LabelSpan, ...] = labels_of(file)
        self.warnings = recording.warnings
        self.facts: dict[str, Any] = {
            "format": file.format,
            "system": file.sensors.system,
            "simulated": file.simulated,
            "channels": to_plain(recording.report),
            "preparation": to_plain(wanted.preparation),
            "bad_spans_seconds": [[edge / self.sampling_rate for edge in span] for span in recording.bad_spans],
            **recording.facts,
        }

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) as a new (channels, stop - start) float32 array, standardised.

        Raises:
            InputError: the range is reversed or reaches beyond [0, n_samples].
        """
        values = self._recording.samples.read(start, stop)
        native = self._wanted.sensors is None
        clip = self._wanted.preparation.clip
        return standardise(values, self._wanted.statistics, self.sensors, clip, native)

    def close(self) -> None:
        """Drop the values. A second call does nothing."""
        self._recording.samples.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_meg(
    path: Path | str,
    wanted: ModelInput,
    on_progress: OnProgress = ignore_progress,
    max_seconds: float | None = None,
    numpy_rate: float | None = None,
) -> MegSignal:
    """Prepare a recording for a model; use the result in a ``with``.

    Args:
        path: The recording.
        wanted: What the model takes, with the statistics of its training data.
        on_progress: Told of the stage ``filter`` in seconds of the recording.
        max_seconds: Longest recording accepted; None for any.
        numpy_rate: Sampling rate of a ``.npy`` that has no ``.json`` beside it, Hz.

    Raises:
        InputError: there is no such recording, it is longer than ``max_seconds``, or its channels cannot be fitted.
        DataError: it cannot be read, its values cannot be used, or the model was trained on other sensors.
        OutputError: the temporary file cannot be written.
    """
    path = Path(path)
    file = open_raw(path, numpy_rate)
    _require_short(file, max_seconds)
    store = _temporary_file()
    try:
        recording = prepare_raw(file, wanted.preparation, store, on_progress)
        _require_sensors(path, recording.sensors, wanted)
        signal = MegSignal(file, recording, wanted, hash_recording(path))
        signal.read(0, 0)  # statistics that do not fit are found here, not in the middle of an embedding
    except BaseException:
        store.close()
        raise
    return signal


def _temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="strata-")
    except OSError as error:
        raise OutputError(
            f"Prepared values cannot be kept in a temporary file ({error}). Free some space, or set TMPDIR."
        ) from error


def _require_short(file: MegFile, max_seconds: float | None) -> None:
    seconds = file.raw.n_times / float(file.raw.info["sfreq"])
    if max_seconds is not None and seconds > max_seconds:
        raise InputError(
            f"{file.path} is {seconds:.1f} s long; the longest recording accepted here is {max_seconds:g} s "
            "(max_seconds). Cut the recording, or raise the limit."
        )


def _require_sensors(path: Path, sensors: Sensors, wanted: ModelInput) -> None:
    if wanted.sensors is not None and sensors.fingerprint() != wanted.sensors.fingerprint():
        raise DataError(
            f"{path} was brought to the {len(sensors)} sensors of {wanted.preparation.layout}; the model was trained "
            f"on {len(wanted.sensors)} others. Use the version of Strata that trained it, or train it again."
        )
