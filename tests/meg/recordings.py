"""Small recordings for tests of the MEG floor: noise in tesla on real sensors, with what a test plants in it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planted:
    """Seconds, rate, seed, how many of the 306 channels, bad ones (by index), annotations (onset, duration, text)."""

    seconds: float = 8.0
    rate: float = 250.0
    seed: int = 0
    channels: int = 306
    bads: tuple[int, ...] = ()
    annotations: tuple[tuple[float, float, str], ...] = ()
    line: float | None = 50.0


def names_and_kinds(channels=306):
    from core.meg.layouts import layout

    sensors = layout("neuromag306")
    return sensors.names[:channels], sensors.kinds[:channels]


def make_raw(planted=Planted(), values=None):
    """A RawArray of white noise: 1e-12 T/m in gradiometers, 5e-14 T in magnetometers, or values."""
    import mne

    from core.meg.layouts import info_of, layout

    sensors = layout("neuromag306").take(range(planted.channels))
    if values is None:
        scale = np.where(np.array(sensors.kinds) == "mag", 5e-14, 1e-12)
        shape = (len(sensors), round(planted.seconds * planted.rate))
        values = np.random.default_rng(planted.seed).standard_normal(shape) * scale[:, None]
    info = info_of("neuromag306", sensors.names, planted.rate)
    with info._unlock():
        info["line_freq"] = planted.line
    raw = mne.io.RawArray(values, info, verbose=False)
    raw.info["bads"] = [sensors.names[index] for index in planted.bads]
    for onset, duration, text in planted.annotations:
        raw.annotations.append(onset, duration, text)
    return raw


def save_raw(path, planted=Planted(), values=None):
    make_raw(planted, values).save(path, fmt="double", verbose=False)
    return path


def meg_file(raw, path="planted_raw.fif"):
    """The record that the reader makes, around a recording in memory."""
    from pathlib import Path

    from core.meg.layouts import layout
    from core.meg.reader import MegFile

    names = layout("neuromag306").names
    sensors = layout("neuromag306").take([names.index(name) for name in raw.ch_names])
    return MegFile(Path(path), raw, sensors, "numpy", False, ())
