"""Look into a MEG recording."""

from pathlib import Path

from core.meg.description import describe
from core.sensors import MegDescription


def describe_meg(path: Path, numpy_rate: float | None = None) -> MegDescription:
    """Tell what is in a recording: sensors, rate, duration, bads, a butterfly plot and spectra.

    Args:
        path: ``.fif``, CTF ``.ds`` folder, KIT ``.con`` or ``.sqd``, BTi folder, or ``.npy`` of ``(channels, times)``.
        numpy_rate: Sampling rate in Hz of a ``.npy`` that has no ``.json`` beside it.

    Raises:
        InputError: the file is not there, of no known kind, or a ``.npy`` whose rate or sensors are unknown.
        DataError: it is damaged, too short, without MEG channels, all flat, or holds NaN.
    """
    return describe(Path(path), numpy_rate)
