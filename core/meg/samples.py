"""Prepared values on disk: appended block by block, read in any range, in memory that does not grow with the length."""

from threading import Lock
from typing import BinaryIO

import numpy as np

from core.errors import InputError, OutputError

_VALUE = np.dtype("<f4")


class Samples:
    """Values of several channels in a binary file, all channels of one time after the other.

    So ordered, a stream is appended without knowing its length, and a full disk is an error instead of the bus error
    that writing into a memory map ends with.

    Attributes:
        n_channels: Channels.
        n_times: Samples of each so far.
    """

    def __init__(self, file: BinaryIO, n_channels: int) -> None:
        """Take over a file open for reading (and writing); what is in it counts."""
        self.n_channels = n_channels
        self._file = file
        self._lock = Lock()
        self.n_times = file.seek(0, 2) // (n_channels * _VALUE.itemsize)

    def append(self, block: np.ndarray) -> None:
        """Append (channels, times) values.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(block.T, dtype=_VALUE).view(np.uint8).data)
            self._file.flush()
        except OSError as error:
            hour = self.n_channels * 250 * 3600 * _VALUE.itemsize / 1e9
            raise OutputError(
                f"Prepared values cannot be kept on disk ({error.strerror or error}). An hour at 250 Hz takes "
                f"{hour:.1f} GB: free some space."
            ) from error
        self.n_times += block.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Values of samples [start, stop) as a new (channels, stop - start) float32 array.

        Raises:
            InputError: the range is reversed or reaches beyond [0, n_times].
        """
        if not 0 <= start <= stop <= self.n_times:
            raise InputError(f"Got samples {start} to {stop}; expected a range within 0 to {self.n_times}.")
        row = self.n_channels * _VALUE.itemsize
        with self._lock:
            self._file.seek(start * row)
            content = self._file.read((stop - start) * row)
        return np.ascontiguousarray(np.frombuffer(content, _VALUE).reshape(-1, self.n_channels).T)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
