"""Simulated MEG with known truth: sources in a sphere, the 306 sensors that MNE carries, noise of a real room.

The subject of the simulation attends to rhythmic stimuli, now to the ears, now to the eyes, now to the hands, each with
a pace of its own, as in studies with frequency tags (steady-state responses: Norcia et al., J. Vision 15(6):4, 2015).
One source at a time answers with a rhythm that keeps step with its stimulus, for ears and hands that of one side. A row
of spans says what is attended to; in ``rest`` it is nothing.

A moment therefore follows from the moments around it, which self-supervision needs to have anything to learn, and the
spans are labels that it was never told.

Levels are those of the literature: responses of 10 to 50 nA m (Hamalainen et al., Rev. Mod. Phys. 65, 413, 1993),
sensor noise of 3 fT/rtHz and 3 fT/cm/rtHz with a rise below 1 Hz, a background of many weak sources with a 1/f spectrum
and an alpha rhythm at the back of the head, and a power line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError
from core.meg.layouts import info_of, layout_info
from core.meg.reader import SIMULATED

if TYPE_CHECKING:
    import mne

LAYOUT = "neuromag306"

VERSION = 3
"""Of the simulation: another number, other values from the same seed."""

SPHERE_CENTRE = (0.0, 0.0, 0.04)
"""Metres in the frame of the head (x to the right ear, y to the nose, z up), as in MNE's default sphere."""

LINE_FREQUENCY = 50.0
SPAN_SECONDS = (8.0, 16.0)
"""Shortest and longest span: longer than what a mask hides, so that the hidden part follows from what is seen."""

LEAST_RATE = 100.0
N_BACKGROUND = 120
N_ALPHA = 12
BLOCK = 25_000
"""Samples that are mixed at a time."""

Gain = Callable[[np.ndarray], np.ndarray]
"""Amplitude by frequency in Hz."""


@dataclass(frozen=True)
class Region:
    """A source: its place in metres and the direction of its current, both in the frame of the head."""

    place: tuple[float, float, float]
    direction: tuple[float, float, float]


REGIONS: dict[str, Region] = {
    "auditory_left": Region((-0.052, 0.005, 0.055), (0.0, 0.3, 1.0)),
    "auditory_right": Region((0.052, 0.005, 0.055), (0.0, 0.3, 1.0)),
    "visual": Region((0.006, -0.062, 0.048), (1.0, 0.0, 0.2)),
    "motor_left": Region((-0.036, 0.006, 0.092), (0.2, 1.0, 0.0)),
    "motor_right": Region((0.036, 0.006, 0.092), (-0.2, 1.0, 0.0)),
}


PACES: dict[str, float] = {
    "auditory_left": 8.0,
    "auditory_right": 8.0,
    "visual": 12.0,
    "motor_left": 17.0,
    "motor_right": 17.0,
}
"""Of each source's stimulus, and of its response, in Hz."""

ONSET_SECONDS = 0.1
"""Standard deviation of the Gaussian by which a response rises and falls."""

REST = "rest"
SOURCES = (*PACES, REST)
LABELS = ("auditory", "visual", "motor", REST)
"""What a recording is annotated with: what is attended to, whichever side answers."""


@dataclass(frozen=True)
class Levels:
    """How strong everything is.

    Attributes:
        response: Amplitude of a source whose stimulus is attended to, in ampere metres.
        unattended: Of another one, as a share of that.
        background: Root mean square of one source of the background, in ampere metres.
        alpha: Of one source of the alpha rhythm.
        magnetometer: White noise of a magnetometer, T/rtHz.
        gradiometer: Of a planar gradiometer, T/m/rtHz.
        knee: Frequency in Hz at which the sensors' 1/f noise is as strong as their white noise.
        line: Amplitude of the power line's field at the helmet, in tesla.
    """

    response: float = 40e-9
    unattended: float = 0.0
    background: float = 2.5e-9
    alpha: float = 3.5e-9
    magnetometer: float = 3e-15
    gradiometer: float = 3e-13
    knee: float = 1.0
    line: float = 60e-15


@dataclass(frozen=True)
class SimulationSettings:
    """What to simulate.

    Attributes:
        seconds: Length.
        seed: Of spans, phases and noise.
        subject: Of what stays the same from one recording of a head to the next: its position in the helmet, the
            places of its sources, its background.
        sampling_rate: In Hz, at least LEAST_RATE.
        levels: Of sources and noise.
    """

    seconds: float = 120.0
    seed: int = 0
    subject: int = 0
    sampling_rate: float = 250.0
    levels: Levels = Levels()

    def __post_init__(self) -> None:
        if not (np.isfinite(self.seconds) and self.seconds >= 1):
            raise InputError(f"Got {self.seconds:g} s to simulate; expected at least 1 s.")
        if not (np.isfinite(self.sampling_rate) and self.sampling_rate >= LEAST_RATE):
            raise InputError(f"Got a sampling rate of {self.sampling_rate:g} Hz; expected at least {LEAST_RATE:g} Hz.")
        for name, value in (("seed", self.seed), ("subject", self.subject)):
            if value < 0:
                raise InputError(f"Got {name} {value}; expected 0 or more.")

    @property
    def n_times(self) -> int:
        """Samples."""
        return round(self.seconds * self.sampling_rate)


@dataclass(frozen=True)
class Span:
    """Seconds during which a source answers, or none does: one of SOURCES."""

    onset: float
    duration: float
    source: str

    @property
    def label(self) -> str:
        """Of LABELS: the source without its side."""
        return self.source.partition("_")[0]


def simulate_raw(settings: SimulationSettings) -> "mne.io.RawArray":
    """Simulate a recording: 306 channels in tesla and tesla per metre, its true labels as annotations.

    The same settings give the same values bit for bit. Recordings of one ``subject`` with other seeds are other
    sessions of the same head.
    """
    import mne

    head, rng = (
        np.random.default_rng([1, settings.subject]),
        np.random.default_rng([2, settings.subject, settings.seed]),
    )
    info = make_info(settings, head)
    regions = field_of(info, _jittered(head))
    noise_sources = _background_sources(head)
    spans = draw_spans(settings.seconds, rng)
    sources = source_signals(spans, settings, rng)
    values = sensor_noise(info, settings, rng)
    _mix(values, *power_line(info, settings, rng))
    _mix(values, regions, sources)
    _mix(values, field_of(info, noise_sources), background_signals(settings, rng))
    raw = mne.io.RawArray(values, info, verbose="ERROR")
    onsets, durations, labels = [[getattr(span, name) for span in spans] for name in ("onset", "duration", "label")]
    return raw.set_annotations(mne.Annotations(onsets, durations, labels))


# ----------------------------------------------------------------------------------------------------- head and sensors


def make_info(settings: SimulationSettings, head: np.random.Generator) -> "mne.Info":
    """The 306 sensors of MNE's canonical table, and where this subject's head is in the helmet."""
    info = info_of(LAYOUT, layout_info(LAYOUT)["ch_names"], settings.sampling_rate)
    with info._unlock():
        info["dev_head_t"] = _head_position(head)
        info["line_freq"] = LINE_FREQUENCY
        info["subject_info"] = {"his_id": f"sim-{settings.subject:03d}"}
        info["description"] = f"{SIMULATED}: version {VERSION}, seed {settings.seed}, subject {settings.subject}"
    return info


def _head_position(head: np.random.Generator) -> "mne.Transform":
    """From the helmet to the head: a few millimetres and degrees off the middle."""
    import mne
    from mne.transforms import rotation, translation

    turn = rotation(*np.deg2rad(head.normal(0, 2.0, 3)))
    shift = translation(*(np.array([0.0, 0.004, 0.045]) + head.normal(0, 0.002, 3)))
    return mne.transforms.Transform("meg", "head", shift @ turn)


def _jittered(head: np.random.Generator) -> list[Region]:
    """The regions of one subject: each within some 3 mm and 6 degrees of the table's."""
    return [
        Region(tuple(region.place + head.normal(0, 0.002, 3)), tuple(region.direction + head.normal(0, 0.06, 3)))
        for region in REGIONS.values()
    ]


def _background_sources(head: np.random.Generator) -> list[Region]:
    """Places and directions of the background, alpha's sources last: those lie at the back."""
    everywhere = [_random_source(head, (0.0, 0.0, 1.0), -0.3) for _ in range(N_BACKGROUND)]
    return everywhere + [_random_source(head, (0.0, -0.9, 0.4), 0.75) for _ in range(N_ALPHA)]


def _random_source(head: np.random.Generator, axis: tuple[float, float, float], least: float) -> Region:
    """A source in the cortex whose direction from the centre has at least a cosine of ``least`` with ``axis``."""
    while True:
        ray = head.normal(size=3)
        ray /= np.linalg.norm(ray)
        if ray @ np.array(axis) / np.linalg.norm(axis) >= least:
            break
    place = np.array(SPHERE_CENTRE) + ray * head.uniform(0.045, 0.07)
    return Region(tuple(place), tuple(head.normal(size=3)))


def tangential(region: Region) -> np.ndarray:
    """Unit vector of a region's current without its radial part, which has no field outside of a sphere, (3,)."""
    ray = np.array(region.place) - SPHERE_CENTRE
    ray /= np.linalg.norm(ray)
    direction = np.array(region.direction) - ray * (ray @ np.array(region.direction))
    return np.asarray(direction / np.linalg.norm(direction))


def field_of(info: "mne.Info", regions: list[Region]) -> np.ndarray:
    """What the sensors measure of each source, (channels, sources) in T/(A m) and T/m/(A m), by MNE's sphere model."""
    import mne

    places, directions = np.array([region.place for region in regions]), np.stack([tangential(one) for one in regions])
    ones = np.ones(len(regions))
    dipoles = mne.Dipole(np.arange(len(regions)) / 1e3, places, ones, directions, ones, verbose="ERROR")
    sphere = mne.make_sphere_model(SPHERE_CENTRE, head_radius=None, verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="ERROR")
    return np.asarray(forward["sol"]["data"], dtype=np.float64)


# ------------------------------------------------------------------------------------------------- spans and responses


def draw_spans(seconds: float, rng: np.random.Generator) -> list[Span]:
    """Spans back to back: all sources in a new order, again and again, so that each occurs equally often.

    What is left at the end is as long as no span and has no label.
    """
    spans: list[Span] = []
    now = 0.0
    for source in _sources(rng):
        duration = min(rng.uniform(*SPAN_SECONDS), seconds - now)
        if duration < SPAN_SECONDS[0]:
            return spans
        spans.append(Span(now, duration, source))
        now += duration
    return spans


def _sources(rng: np.random.Generator) -> Iterator[str]:
    last = ""
    while True:
        order = rng.permutation(SOURCES).tolist()
        if order[0] != last:
            yield from order
            last = order[-1]


def source_signals(spans: list[Span], settings: SimulationSettings, rng: np.random.Generator) -> np.ndarray:
    """Currents of the regions, (regions, time) float64 in ampere metres.

    A response has one phase from the recording's first sample to its last; only its amplitude follows the spans.
    """
    levels, t = settings.levels, np.arange(settings.n_times) / settings.sampling_rate
    signals = np.empty((len(REGIONS), settings.n_times))
    for row, region in zip(signals, REGIONS, strict=True):
        share = levels.unattended + (1 - levels.unattended) * attended(spans, region, settings)
        row[:] = levels.response * share * np.sin(2 * np.pi * (PACES[region] * t + rng.uniform()))
    return signals


def attended(spans: list[Span], region: str, settings: SimulationSettings) -> np.ndarray:
    """How far a source's stimulus is attended to, (time,) from 0 to 1: 1 in its spans, with soft edges."""
    from scipy.ndimage import gaussian_filter1d

    rate, found = settings.sampling_rate, np.zeros(settings.n_times)
    for span in spans:
        if span.source == region:
            found[round(span.onset * rate) : round((span.onset + span.duration) * rate)] = 1.0
    return np.asarray(gaussian_filter1d(found, ONSET_SECONDS * rate))


# ---------------------------------------------------------------------------------------------------------------- noise


def sensor_noise(info: "mne.Info", settings: SimulationSettings, rng: np.random.Generator) -> np.ndarray:
    """Noise of the sensors alone, (channels, time) float64: white, and 1/f below the knee."""
    levels, values = settings.levels, np.empty((len(info["ch_names"]), settings.n_times))
    for row, kind in zip(values, info.get_channel_types(), strict=True):
        level = levels.magnetometer if kind == "mag" else levels.gradiometer
        white = rng.standard_normal(settings.n_times) * level * np.sqrt(settings.sampling_rate / 2)
        row[:] = _shaped(white, settings.sampling_rate, lambda f: np.sqrt(1 + levels.knee / f))
    return values


def background_signals(settings: SimulationSettings, rng: np.random.Generator) -> np.ndarray:
    """Currents of the background, (N_BACKGROUND + N_ALPHA, time) float32 in ampere metres."""
    signals = np.empty((N_BACKGROUND + N_ALPHA, settings.n_times), dtype=np.float32)
    for number, row in enumerate(signals):
        white, is_alpha = rng.standard_normal(settings.n_times), number >= N_BACKGROUND
        shaped = _shaped(white, settings.sampling_rate, _alpha_spectrum if is_alpha else _falling_spectrum)
        row[:] = shaped * ((settings.levels.alpha if is_alpha else settings.levels.background) / shaped.std())
    return signals


def _falling_spectrum(frequencies: np.ndarray) -> np.ndarray:
    """Amplitude of a power that falls with 1/f above 1 Hz."""
    return np.asarray(1 / np.sqrt(np.maximum(frequencies, 1.0)))


def _alpha_spectrum(frequencies: np.ndarray) -> np.ndarray:
    """Amplitude of a rhythm of 10 Hz, 2 Hz wide: its envelope waxes and wanes within half a second."""
    return np.asarray(np.exp(-0.5 * (frequencies - 10.0) ** 2))


def _shaped(white: np.ndarray, rate: float, gain: Gain) -> np.ndarray:
    """Filter noise (time,) by a gain of frequencies in Hz, taken no lower than 0.1 Hz; without its mean."""
    from scipy import fft

    n = fft.next_fast_len(len(white), real=True)
    spectrum = fft.rfft(white, n)
    spectrum *= gain(np.maximum(fft.rfftfreq(n, 1 / rate), 0.1))
    spectrum[0] = 0.0
    return np.asarray(fft.irfft(spectrum, n)[: len(white)])


def power_line(
    info: "mne.Info", settings: SimulationSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The power line with its first harmonic: a far source, so a homogeneous field.

    Magnetometers measure its part along their normals; gradiometers see what their coils are unlike, some 1 %.

    Returns:
        What each sensor measures of it, (channels, 1), and its course, (1, time) in tesla.
    """
    normals = np.array([channel["loc"][9:12] for channel in info["chs"]])
    kinds = np.array(info.get_channel_types())
    field = rng.normal(size=3)
    gains = normals @ (field / np.linalg.norm(field))
    gains[kinds == "grad"] = rng.normal(0, 0.01 / 0.017, int((kinds == "grad").sum()))
    t, wave = np.arange(settings.n_times) / settings.sampling_rate, np.zeros(settings.n_times)
    for frequency, share in ((LINE_FREQUENCY, 1.0), (2 * LINE_FREQUENCY, 0.2)):
        if frequency < settings.sampling_rate / 2:
            wave += share * np.sin(2 * np.pi * frequency * t + rng.uniform(0, 2 * np.pi))
    return gains[:, None], settings.levels.line * wave[None]


def _mix(values: np.ndarray, field: np.ndarray, signals: np.ndarray) -> None:
    """Add what the sensors measure of sources, a block at a time."""
    for start in range(0, values.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        values[:, part] += field @ signals[:, part]
