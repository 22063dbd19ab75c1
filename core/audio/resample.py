"""Change the sampling rate of a stream, without delay, by soxr."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from core.errors import InputError

# soxr's HQ (20 bits): pass band flat to 0.91 of the lower Nyquist frequency, images and aliases below -120 dB; ffmpeg's
# soxr and librosa use it too.
QUALITY = "HQ"


def resampled_length(n_samples: int, from_rate: int, to_rate: int) -> int:
    """Count the samples that ``n_samples`` become: ``n_samples * to_rate / from_rate`` rounded, halves up."""
    return (2 * n_samples * to_rate + from_rate) // (2 * from_rate)


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Yield (m,) float32 blocks at ``to_rate`` from (n,) blocks at ``from_rate``.

    The filter's delay is taken out, so that a sound keeps its time: output sample ``j`` lies at ``j / to_rate``
    seconds. The total length is :func:`resampled_length`, and the values do not depend on how the stream is cut. Equal
    rates pass through untouched.
    """
    if from_rate < 1 or to_rate < 1:
        raise InputError(f"Got sampling rates {from_rate} and {to_rate} Hz; expected at least 1 Hz each.")
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        out = stream.resample_chunk(np.ascontiguousarray(block, dtype=np.float32))
        if len(out):
            yield out
    out = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(out):
        yield out
