"""A ``.npy`` that grows block by block on disk and is read back so: memory does not grow with its length."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from core.arrays import EmbeddingInfo

# Bytes read back at once. Every other format is derived in steps of this size; 8 MiB keeps the seeks of the
# column-major MAT file at several KiB each (8 MiB / 1,024 values a frame).
BLOCK_BYTES = 8 << 20
FLOAT_BYTES = 4
# Room that numpy's header takes at most for three axes (it is padded to a multiple of 64).
HEADER_BYTES = 192


def array_bytes(info: EmbeddingInfo) -> int:
    """Bytes of the float32 values of all layers."""
    return len(info.layers) * info.n_frames * info.dim * FLOAT_BYTES


def npy_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write numpy's own header for C-ordered little-endian float32 of ``shape``."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def array_shape(info: EmbeddingInfo) -> tuple[int, ...]:
    """Shape that files hold: (n_frames, dim) for one layer, (n_layers, n_frames, dim) for several."""
    frames = (info.n_frames, info.dim)
    return frames if info.squeezed else (len(info.layers), *frames)


class Spool:
    """The embeddings on disk, in numpy's format, with layers outermost.

    Args:
        file: Opened for reading and writing in binary, empty.
        info: Layers, number of frames and values a frame.
    """

    def __init__(self, file: BinaryIO, info: EmbeddingInfo) -> None:
        self.file = file
        self.info = info
        self.n_written = 0
        npy_header(file, array_shape(info))
        self.begin = file.tell()

    def append(self, block: np.ndarray) -> None:
        """Write the next frames of every layer: (n_layers, k, dim) float32."""
        info = self.info
        if block.ndim != 3 or block.shape[::2] != (len(info.layers), info.dim) or block.dtype != np.float32:
            expected = f"float32 ({len(info.layers)}, k, {info.dim})"
            raise AssertionError(f"A block is {block.dtype} {block.shape}; expected {expected}.")
        count = int(block.shape[1])
        if self.n_written + count > info.n_frames:
            raise AssertionError(f"The blocks hold more than the {info.n_frames} frames that were announced.")
        for index, rows in enumerate(block):
            self.file.seek(self._offset(index, self.n_written))
            self.file.write(np.ascontiguousarray(rows, "<f4").reshape(-1).view(np.uint8).data)
        self.n_written += count

    def finish(self) -> None:
        """Check that every announced frame has come."""
        if self.n_written != self.info.n_frames:
            raise AssertionError(f"The blocks hold {self.n_written} frames; {self.info.n_frames} were announced.")
        self.file.flush()

    def blocks(self, layer: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Read back in steps of about ``BLOCK_BYTES``.

        Args:
            layer: Index on the layer axis, or None for all layers at once.

        Yields:
            The first frame, and (n_layers, k, dim) float32, with n_layers 1 where one layer was asked for.
        """
        layers = range(len(self.info.layers)) if layer is None else range(layer, layer + 1)
        step = max(1, BLOCK_BYTES // max(1, len(layers) * self.info.dim * FLOAT_BYTES))
        for first in range(0, self.info.n_frames, step):
            block = np.empty((len(layers), min(step, self.info.n_frames - first), self.info.dim), "<f4")
            for index, rows in zip(layers, block, strict=True):
                self._read(index, first, rows)
            yield first, block

    def _read(self, layer: int, first: int, rows: np.ndarray) -> None:
        """Fill (k, dim) with a layer's frames from ``first`` on."""
        self.file.seek(self._offset(layer, first))
        got = self.file.readinto(rows.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        if got != rows.nbytes:
            raise OSError(f"Read {got} of {rows.nbytes} bytes back from the spool.")

    def _offset(self, layer: int, frame: int) -> int:
        return self.begin + (layer * self.info.n_frames + frame) * self.info.dim * FLOAT_BYTES
