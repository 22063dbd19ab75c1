"""What no model is needed for: statistics of a clip's spectrogram, the score that any encoder has to beat.

``log-mel`` is always shown beside a head. ``egemaps`` are the 88 functionals of Eyben et al. (2016, IEEE Transactions
on Affective Computing 7:190), through the optional package opensmile.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.analysis.mel import FLOOR, MelFrames, mel_clock
from core.errors import InputError, MissingPackage

if TYPE_CHECKING:
    from core.audio.signal import Signal

SAMPLING_RATE = 16_000

N_MELS = 40
N_CEPSTRA = 30
"""Cosines of the log-mel spectrum over its bands: its tilt and its formants, one by one."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHANGE_QUANTILES = (0.05, 0.25, 0.75, 0.95)
CHANGE_FRAMES = (2, 5, 10, 20)
"""Over which distances changes are told: 20 to 200 ms, from a sound's onset to a syllable."""

PIECE_FRAMES = 6_000
"""Frames that statistics are taken of at a time: a minute, longer than nearly any clip. Those of a longer recording are
the mean of its minutes', so that memory does not grow."""

VERSION = 1
"""Of the statistics: features of another are computed again."""


class Baseline(Protocol):
    """Turns the sound of a clip into one vector.

    Attributes:
        name: What results call it.
        key: Changes with whatever changes the vector.
        sampling_rate: Hz of the signal that it wants.
    """

    name: str
    key: str
    sampling_rate: int

    def __call__(self, signal: "Signal") -> np.ndarray:
        """Return (1, dim) float32: one vector, as of a model with one layer."""


def baseline(kind: str) -> Baseline:
    """Get a baseline by its name: ``log-mel`` or ``egemaps``.

    Raises:
        InputError: There is none of that name.
        MissingPackage: ``egemaps`` without the package opensmile.
    """
    if kind == "log-mel":
        return LogMel()
    if kind == "egemaps":
        return Egemaps()
    raise InputError(f"Got the baseline {kind!r}; expected log-mel or egemaps.")


class LogMel:
    """Statistics over time of the log-mel spectrum and of its cosines: level, spread, shape and changes.

    Loudness is kept, as eGeMAPS keep it: within one corpus it tells emotions apart, and across microphones it misleads.
    """

    name = "log-mel"
    key = f"log-mel {VERSION}"
    sampling_rate = SAMPLING_RATE

    def __call__(self, signal: "Signal") -> np.ndarray:
        """See :class:`Baseline`."""
        total, n_frames = np.zeros(1), 0
        for piece in _pieces(signal):
            total = total + len(piece) * _statistics(piece)
            n_frames += len(piece)
        return (total / n_frames)[None].astype(np.float32)


def _pieces(signal: "Signal") -> Iterator[np.ndarray]:
    """Log-mel spectra, (frames, N_MELS), a minute at a time; one frame, padded with zeros, where there is none."""
    clock = mel_clock(signal.sampling_rate)
    frames = MelFrames.at(signal.sampling_rate, clock.field, clock.hop, N_MELS)
    some = False
    for block in signal.blocks(PIECE_FRAMES * clock.hop):
        power = frames.add(block - np.float32(signal.mean))
        some |= bool(len(power))
        if len(power):
            yield np.log(power + FLOOR)
    if not some:
        yield np.log(frames.padded() + FLOOR)


def _statistics(log_mel: np.ndarray) -> np.ndarray:
    """One vector of (frames, N_MELS)."""
    from scipy.fft import dct

    values = np.concatenate([log_mel, dct(log_mel, axis=1, norm="ortho")[:, :N_CEPSTRA]], axis=1, dtype=np.float64)
    deviations = values - values.mean(axis=0)
    spread = values.std(axis=0)
    third = (deviations**3).mean(axis=0)
    skewness = np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 1e-6)
    near = _changes(values, CHANGE_FRAMES[0])
    return np.concatenate(
        [
            values.mean(axis=0),
            spread,
            skewness,
            _quantiles(values, QUANTILES),
            _quantiles(near, CHANGE_QUANTILES),
            *(_changes(values, apart).std(axis=0) for apart in CHANGE_FRAMES),
        ]
    )


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Quantiles of each column, one after the other; sorted in rows, which takes half as long as in columns."""
    return np.quantile(np.ascontiguousarray(values.T), shares, axis=1).ravel()


def _changes(values: np.ndarray, apart: int) -> np.ndarray:
    """Differences of frames so far apart; no change where there are too few."""
    return values[apart:] - values[:-apart] if len(values) > apart else np.zeros((1, values.shape[1]))


class Egemaps:
    """The extended Geneva minimalistic acoustic parameters, 88 functionals a clip, of openSMILE."""

    name = "egemaps"
    sampling_rate = SAMPLING_RATE

    def __init__(self) -> None:
        self._smile: Any = _open_smile()
        self.key = f"egemaps v02, opensmile {self._smile_version()}"

    def _smile_version(self) -> str:
        from importlib.metadata import version

        return version("opensmile")

    def __call__(self, signal: "Signal") -> np.ndarray:
        """See :class:`Baseline`."""
        table = self._smile.process_signal(signal.read(0, signal.n_samples), signal.sampling_rate)
        # What has no value (the pitch of a clip without a voiced frame) is 0, as openSMILE writes it in files.
        return np.nan_to_num(np.asarray(table, dtype=np.float32).reshape(1, -1))


def _open_smile() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise MissingPackage(
            f"The baseline egemaps needs the package opensmile, which cannot be imported ({error}): pip install "
            "opensmile. Mind its licence: it is free for research, teaching and private use, and products need one "
            "from audEERING. The baseline log-mel needs nothing."
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
