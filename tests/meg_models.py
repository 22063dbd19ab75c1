"""A tiny Meg2Vec over the 306 sensors of a real layout, and recordings whose content is known."""

import json

import mne
import numpy as np

from core.meg.layouts import info_of, layout
from core.models.model_input import to_preprocessor
from core.sensors import ModelInput, Preparation, Statistics
from tests.tiny_meg import save_tiny_meg

LAYOUT = "neuromag306"
RATE = 250


def model_input(**changes):
    """How recordings are prepared for it: filters of the document, scales of each sensor type."""
    sensors = layout(LAYOUT)
    std = np.where(np.array(sensors.kinds) == "mag", 1e-12, 2e-11)
    return ModelInput(Preparation(layout=LAYOUT, **changes), sensors, Statistics(np.zeros(len(std)), std))


def save_meg_model(folder, **changes):
    """Write a checkpoint with random weights that takes the layout's 306 sensors."""
    save_tiny_meg(folder, in_channels=306)
    said = to_preprocessor(model_input(**changes))
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def write_meg(path, seconds=6.0, seed=0, annotations=(), rate=RATE, description=None):
    """Write noise on the layout's 306 sensors: white, with an alpha rhythm on all of them."""
    sensors = layout(LAYOUT)
    rng, times = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    values = rng.standard_normal((306, len(times))) + 2 * np.sin(2 * np.pi * 10 * times)
    scale = np.where(np.array(sensors.kinds) == "mag", 1e-12, 2e-11)
    raw = mne.io.RawArray(values * scale[:, None], info_of(LAYOUT, sensors.names, rate), verbose="error")
    raw.info["description"] = description
    onsets, durations, labels = zip(*annotations, strict=True) if annotations else ((), (), ())
    raw.set_annotations(mne.Annotations(onsets, durations, labels))
    raw.save(path, overwrite=True, verbose="error")
    return path
