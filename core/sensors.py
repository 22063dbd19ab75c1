"""Where a recording's channels are and what they measure, and how a model wants its recordings prepared."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import InputError
from core.records import to_plain

MEG_KINDS = ("mag", "grad")
"""Magnetometers (tesla) and gradiometers, planar or axial (tesla per metre)."""

FITS = ("auto", "names", "interpolate", "pad")
BADS = ("interpolate", "keep")


@dataclass(frozen=True)
class Sensors:
    """Channels in order.

    Attributes:
        names: As the recording calls them, such as ``MEG0113``.
        kinds: For each, one of MEG_KINDS (later also ``eeg``, ``ecog``, ``seeg``).
        positions: (n, 3) float64, metres, in the frame of the helmet ("device"); NaN where unknown.
        orientations: (n, 3) float64, unit vector along which a coil measures (its normal); NaN where unknown.
        system: The layout's or the system's name, such as ``neuromag306``; empty where unknown.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    positions: np.ndarray
    orientations: np.ndarray
    system: str = ""

    def __post_init__(self) -> None:
        n = len(self.names)
        shapes = (len(self.kinds), np.shape(self.positions), np.shape(self.orientations))
        if shapes != (n, (n, 3), (n, 3)):
            raise ValueError(f"{n} names need as many kinds, positions and orientations; got {shapes}.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def are_located(self) -> bool:
        """Whether every position and orientation is known."""
        return bool(np.isfinite(self.positions).all() and np.isfinite(self.orientations).all())

    def of_kind(self, kind: str) -> np.ndarray:
        """Indices of the channels of a kind, ascending, int64."""
        return np.flatnonzero(np.array(self.kinds) == kind)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Sensors":
        """Some of the channels, in the order given."""
        order = [int(index) for index in indices]
        return Sensors(
            tuple(self.names[index] for index in order),
            tuple(self.kinds[index] for index in order),
            self.positions[order],
            self.orientations[order],
            self.system,
        )

    def fingerprint(self) -> str:
        """Hash of names, kinds, and positions to a tenth of a millimetre: what a model's input rests on."""
        places = np.nan_to_num(np.round(self.positions * 1e4), nan=-1e9).astype(np.int64).tolist()
        content = json.dumps([self.names, self.kinds, places])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Preparation:
    """How a recording becomes what a model takes. Frequencies in Hz.

    Attributes:
        sampling_rate: Every recording is brought to it.
        l_freq: Lower edge of the band that is kept; None keeps all below.
        h_freq: Upper edge; None keeps all above.
        notch: Of the power line and its multiples: ``auto`` takes the recording's own line frequency, ``none`` filters
            nothing, a number such as ``50`` is that frequency.
        layout: Sensors that come out: a name of :data:`core.meg.layouts.LAYOUTS`, or ``native`` for the recording's own
            (for models that know positions).
        fit_channels: How: ``names`` reorders by name and refuses what lacks some; ``interpolate`` computes what the
            layout's sensors would measure (MNE's field interpolation); ``auto`` takes names where all are there, else
            interpolates; ``pad`` is the document's choice: zero rows for what is missing.
        bads: ``interpolate`` channels that the file marks as bad, or ``keep`` them.
        clip: Standard deviations beyond which values are cut.
    """

    sampling_rate: int = 250
    l_freq: float | None = 1.0
    h_freq: float | None = 40.0
    notch: str = "auto"
    layout: str = "neuromag306"
    fit_channels: str = "auto"
    bads: str = "interpolate"
    clip: float = 20.0

    def __post_init__(self) -> None:
        for name, value, words in (("fit_channels", self.fit_channels, FITS), ("bads", self.bads, BADS)):
            if value not in words:
                raise InputError(f"Got {name} {value!r}; expected {', '.join(words)}.")
        if self.sampling_rate < 1:
            raise InputError(f"Got a sampling rate of {self.sampling_rate} Hz; expected whole Hz, such as 250.")
        low, high, nyquist = self.l_freq, self.h_freq, self.sampling_rate / 2
        if high is not None and not (low or 0.0) < high < nyquist:
            raise InputError(
                f"Got a band of {low or 0:g} to {high:g} Hz at {self.sampling_rate} Hz; expected it to rise and to end "
                f"below {nyquist:g} Hz. Choose another --h-freq or --sfreq."
            )
        if low is not None and not 0 < low < nyquist:
            raise InputError(f"Got a band from {low:g} Hz on; expected one between 0 and {nyquist:g} Hz.")
        if not self.clip > 0:
            raise InputError(f"Got clip {self.clip:g}; expected a number of standard deviations above 0.")


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the training recordings, per channel of the layout.

    With ``native`` sensors there is one of each per kind, in the order of MEG_KINDS (NaN where a kind is absent).

    Attributes:
        mean: (channels,) or (kinds,), float64, in SI units.
        std: The same shape; what divides is never below a small part of the kind's median.
    """

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class ModelInput:
    """All that turns a recording into a model's input; it travels from the prepared folder into the checkpoint.

    Attributes:
        preparation: Filters, rate, layout.
        sensors: Of the layout, in the model's order; None with ``native``.
        statistics: Of the training recordings.
        simulated: Whether any of the training data was simulated.
    """

    preparation: Preparation
    sensors: Sensors | None
    statistics: Statistics
    simulated: bool = False

    def fingerprint(self) -> str:
        """Hash of everything."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class MegDescription:
    """What is in a recording, before anything is done to it.

    Attributes:
        path: The file or folder.
        format: Such as ``Neuromag .fif``, ``CTF .ds``, ``KIT .con``, ``BTi``, ``numpy``.
        sensors: Its MEG channels.
        sampling_rate: Hz; need not be whole.
        seconds: Duration.
        bads: Channels that the file marks as bad.
        other_channels: How many there are of each other type: ``{"eeg": 60, "stim": 3}``.
        labels: How often each annotation occurs.
        simulated: Whether the file says that it was simulated.
        warnings: Sentences.
        times: (points,) seconds of the butterfly plot.
        butterfly: (channels, points) float32, femtotesla or femtotesla per centimetre: extremes kept, decimated.
        frequencies: (bins,) Hz.
        spectra: By kind, (3, bins): lower quartile, median and upper quartile over channels of the power spectral
            density, in squared units of the butterfly per Hz.
        flat: (2D) (channels, 2) positions of the sensors projected onto a plane, for the sensor map.
    """

    path: str
    format: str
    sensors: Sensors
    sampling_rate: float
    seconds: float
    bads: tuple[str, ...]
    other_channels: dict[str, int]
    labels: dict[str, int]
    simulated: bool
    warnings: tuple[str, ...]
    times: np.ndarray
    butterfly: np.ndarray
    frequencies: np.ndarray
    spectra: dict[str, np.ndarray]
    flat: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)
