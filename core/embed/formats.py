"""The formats derived from the spooled ``.npy``, each in constant memory: json, npz, parquet."""

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.arrays import EmbeddingInfo
from core.embed.spool import FLOAT_BYTES, Spool, array_shape, npy_header

# The JSON keeps every 1,000th frame's time and the last, as the document's does.
SPARSE_STEP = 1000


def sparse_frames(n_frames: int) -> np.ndarray:
    """Frames whose times the JSON lists: 0, 1000, 2000, ... and the last."""
    frames = np.arange(0, n_frames, SPARSE_STEP)
    return frames if n_frames == 0 or frames[-1] == n_frames - 1 else np.append(frames, n_frames - 1)


def complete_metadata(info: EmbeddingInfo, files: Mapping[str, Path], problems: Mapping[str, str]) -> dict[str, Any]:
    """Put together what the JSON says.

    Args:
        info: Its ``metadata`` is taken over; the keys that follow from clock and shape are added.
        files: Path of each format that was written.
        problems: Reason for each format that was not.
    """
    frames = sparse_frames(info.n_frames)
    path = {name: str(file.absolute()) for name, file in files.items()}
    derived = {
        "embeddings_path": path.get("npy"),
        "mat_path": path.get("mat"),
        "paths": path,
        "num_frames": info.n_frames,
        "hidden_size": info.dim,
        "shape": list(array_shape(info)),
        "layers": list(info.layers),
        "sample_rate": info.clock.sampling_rate,
        "frame_stride": info.clock.stride_seconds,
        "time_axis_frames": frames.tolist(),
        "time_axis_seconds": info.clock.onset(frames).tolist(),
        "time_centre_seconds": info.clock.centre(frames).tolist(),
        "problems": dict(problems),
    }
    return {**info.metadata, **derived}


def _strict(value: Any) -> Any:
    """Turn a value into what strict JSON can say; not-a-number and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _strict(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_strict(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Encode as strict JSON in UTF-8, with a line for every key.

    A path that is not valid Unicode keeps its odd bytes as JSON's own escapes, so that ``os.fsencode`` finds the file.
    """
    text = json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def write_npz(file: BinaryIO, spool: Spool) -> None:
    """Write ``layer_<number>``, each (n_frames, dim) float32, the format of the layerwise analysis."""
    info = spool.info
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for index, layer in enumerate(info.layers):
            with archive.open(f"layer_{layer}.npy", "w", force_zip64=True) as member:
                npy_header(member, (info.n_frames, info.dim))  # type: ignore[arg-type]
                for _, block in spool.blocks(index):
                    member.write(block.reshape(-1).view(np.uint8).data)


def write_parquet(file: BinaryIO, spool: Spool) -> None:
    """Write a row a frame: file, frame, time (onset, s), time_centre (s), embedding; ``layer`` too for several."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = _parquet_schema(spool.info)
    with parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=["file"]) as writer:
        for index in range(len(spool.info.layers)):
            for first, block in spool.blocks(index):
                columns = _parquet_columns(spool.info, index, first, block[0])
                writer.write_batch(pa.record_batch(columns, schema=schema))


def _parquet_schema(info: EmbeddingInfo) -> Any:
    import pyarrow as pa

    layer = [] if info.squeezed else [("layer", pa.int32())]
    times = [("frame", pa.int64()), ("time", pa.float64()), ("time_centre", pa.float64())]
    return pa.schema([("file", pa.string()), *layer, *times, ("embedding", pa.list_(pa.float32(), info.dim))])


def _parquet_columns(info: EmbeddingInfo, index: int, first: int, rows: np.ndarray) -> dict[str, Any]:
    """Columns of the frames from ``first`` on; ``rows`` is (k, dim)."""
    import pyarrow as pa

    frames = np.arange(first, first + len(rows))
    source = os.fsencode(str(info.metadata.get("recording_path", ""))).decode("utf-8", "replace")
    columns = {
        "file": pa.repeat(pa.scalar(source, pa.string()), len(rows)),
        "frame": frames,
        "time": info.clock.onset(frames),
        "time_centre": info.clock.centre(frames),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), info.dim),
    }
    return columns if info.squeezed else {**columns, "layer": np.full(len(rows), info.layers[index], np.int32)}


def parquet_bytes(info: EmbeddingInfo) -> int:
    """Bytes that the ``.parquet`` takes at most: values, three 8-byte columns, layer, a footer."""
    rows = len(info.layers) * info.n_frames
    return rows * (info.dim * FLOAT_BYTES + 32) + (1 << 16)
