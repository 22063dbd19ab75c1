"""MATLAB's MAT-file version 5, with the large variables streamed.

``scipy.io.savemat`` wants every array whole in memory. A version 5 file is a header and a row of independent elements,
so the small variables go through scipy and the long ones are appended here. Layout of an element: MathWorks, "MAT-File
Format" (chapter 1, "Level 5 MAT-File Format").
"""

import io
import struct
from typing import BinaryIO

import numpy as np

from core.arrays import EmbeddingInfo
from core.embed.spool import Spool, array_bytes, array_shape

# Codes of the format: data types (mi...) and array classes (mx...).
MI_INT8, MI_INT32, MI_UINT32, MI_SINGLE, MI_DOUBLE, MI_MATRIX = 1, 5, 6, 7, 9, 14
MX_DOUBLE, MX_SINGLE = 6, 7
# An element's length is an unsigned 32-bit number; scipy refuses from 2**32 on as well.
MAX_ELEMENT_BYTES = 2**32 - 1
# MATLAB's documentation gives 2**31 bytes a variable for its version 5 to 7 files.
MATLAB_VARIABLE_BYTES = 2**31
# Room for the file header, the small variables and the tags of the long ones.
SMALL_BYTES = 4096
TIME_STEP = 1 << 16


def _element(code: int, data: bytes) -> bytes:
    """One data element: tag, data, padding to 8 bytes."""
    return struct.pack("<II", code, len(data)) + data + bytes(-len(data) % 8)


def matrix_head(name: str, shape: tuple[int, ...], single: bool) -> bytes:
    """Everything of a real dense matrix that comes before its values.

    Args:
        name: Variable name, at most 31 ASCII letters for old readers.
        shape: Its axes, at least two.
        single: float32 (True) or float64 (False).

    Raises:
        ValueError: The element would be longer than the format can say.
    """
    n_bytes = int(np.prod(shape, dtype=np.int64)) * (4 if single else 8)
    flags = struct.pack("<II", MX_SINGLE if single else MX_DOUBLE, 0)
    head = _element(MI_UINT32, flags) + _element(MI_INT32, struct.pack(f"<{len(shape)}i", *shape))
    head += _element(MI_INT8, name.encode("ascii"))
    total = len(head) + 8 + n_bytes + -n_bytes % 8
    if total > MAX_ELEMENT_BYTES:
        raise ValueError(f"{name} would take {total} bytes; MAT version 5 holds {MAX_ELEMENT_BYTES} a variable.")
    return struct.pack("<II", MI_MATRIX, total) + head + struct.pack("<II", MI_SINGLE if single else MI_DOUBLE, n_bytes)


def mat_problem(info: EmbeddingInfo) -> str | None:
    """Say why these embeddings cannot be a MAT version 5 variable, or None where they can."""
    try:
        matrix_head("embeddings", array_shape(info), single=True)
    except ValueError:
        return (
            f"The embeddings take {array_bytes(info) / 2**30:.2f} GiB; a variable of MAT version 5 holds less than "
            "4 GiB. Use the .npy, fewer layers or a shorter recording."
        )
    return None


def mat_note(info: EmbeddingInfo) -> str | None:
    """Say that scipy will read the file and MATLAB may not, or None where both do."""
    if array_bytes(info) >= MATLAB_VARIABLE_BYTES and mat_problem(info) is None:
        return (
            f"The embeddings take {array_bytes(info) / 2**30:.2f} GiB; MATLAB documents 2 GiB a variable for this "
            "kind of .mat file (scipy reads up to 4 GiB)."
        )
    return None


def small_variables(info: EmbeddingInfo) -> bytes:
    """File header and the short variables: model_name, sample_rate, frame_stride and layers."""
    from scipy.io import savemat

    name = str(info.metadata.get("model_name", "")).encode("utf-8", "replace").decode("utf-8")
    buffer = io.BytesIO()
    values = {
        "model_name": name,
        "sample_rate": float(info.clock.sampling_rate),
        "frame_stride": info.clock.stride_seconds,
        "layers": np.asarray(info.layers, np.float64),
    }
    savemat(buffer, values, appendmat=False, format="5", oned_as="row")
    return buffer.getvalue()


def _pad(file: BinaryIO, begin: int, n_bytes: int) -> None:
    """Go to the end of ``n_bytes`` of values that began at ``begin``, and fill up to 8 bytes."""
    file.seek(begin + n_bytes)
    file.write(bytes(-n_bytes % 8))


def _write_times(file: BinaryIO, name: str, info: EmbeddingInfo) -> None:
    """Append a row vector (1, n_frames) of seconds: ``time_axis`` (onsets) or ``time_centre``."""
    file.write(matrix_head(name, (1, info.n_frames), single=False))
    seconds = info.clock.onset if name == "time_axis" else info.clock.centre
    for first in range(0, info.n_frames, TIME_STEP):
        frames = np.arange(first, min(first + TIME_STEP, info.n_frames))
        file.write(np.asarray(seconds(frames), "<f8").tobytes())


def _write_embeddings(file: BinaryIO, spool: Spool) -> None:
    """Append ``embeddings`` column-major: value (layer, frame, d) lies at layer + n_layers * (frame + n_frames * d)."""
    info = spool.info
    n_layers, n_frames = len(info.layers), info.n_frames
    file.write(matrix_head("embeddings", array_shape(info), single=True))
    begin = file.tell()
    for first, block in spool.blocks():
        columns = np.ascontiguousarray(block.transpose(2, 1, 0))  # (dim, k, n_layers): one stretch of bytes a dimension
        for index, column in enumerate(columns.reshape(info.dim, -1).view(np.uint8)):
            file.seek(begin + (index * n_frames + first) * n_layers * 4)
            file.write(column.data)
    _pad(file, begin, array_bytes(info))


def write_mat(file: BinaryIO, spool: Spool) -> None:
    """Write ``embeddings`` (the shape of the ``.npy``), times and the small facts in constant memory."""
    file.write(small_variables(spool.info))
    _write_times(file, "time_axis", spool.info)
    _write_times(file, "time_centre", spool.info)
    _write_embeddings(file, spool)
