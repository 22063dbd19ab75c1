"""Make the example clips of the app: espeak-ng speaks two of them, numpy draws the third.

Run it from the root of the repository (``python assets/make_examples.py``); the clips lie in ``assets/examples``. Only
this script needs espeak-ng, the app only reads what it left.
"""

import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path(__file__).parent / "examples"
SAMPLING_RATE = 22_050
"""Hz; what espeak-ng speaks in. Not a model's rate on purpose: the examples are resampled as real recordings are."""

SENTENCE = "The north wind and the sun were arguing about which of them was stronger, when a traveller came along."
TWO_VOICES = (("en-us+m3", "Where does one sound end?"), ("en-gb+f4", "And where does the next begin?"))


def speak(text: str, voice: str, words_a_minute: int = 150) -> np.ndarray:
    """Return what espeak-ng says, (n_samples,) float32 at SAMPLING_RATE."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    if rate != SAMPLING_RATE:
        raise SystemExit(f"espeak-ng spoke at {rate} Hz; expected {SAMPLING_RATE}.")
    return samples


def silence(seconds: float) -> np.ndarray:
    """Return zeros, (n_samples,) float32."""
    return np.zeros(round(seconds * SAMPLING_RATE), dtype=np.float32)


def faded(samples: np.ndarray, seconds: float = 0.02) -> np.ndarray:
    """Ramp both ends, so that a test sound starts and stops without a click."""
    n = round(seconds * SAMPLING_RATE)
    ramp = np.ones_like(samples)
    ramp[:n] = np.linspace(0, 1, n)
    ramp[-n:] = np.linspace(1, 0, n)
    return samples * ramp


def test_sounds(seed: int = 0) -> np.ndarray:
    """Return eight seconds whose content is known: each second one sound of 0.8 s, then 0.2 s of silence.

    Tones of 220, 440, 880 and 1,760 Hz, a chirp from 100 to 8,000 Hz, white noise, clicks at 20 Hz, and 440 Hz again.
    """
    n = round(0.8 * SAMPLING_RATE)
    t = np.arange(n) / SAMPLING_RATE
    tones = [np.sin(2 * np.pi * hz * t) for hz in (220, 440, 880, 1_760)]
    chirp = np.sin(2 * np.pi * 100 * 0.8 / np.log(80) * (np.exp(t / 0.8 * np.log(80)) - 1))
    noise = np.random.default_rng(seed).uniform(-1, 1, n)
    clicks = (np.arange(n) % round(SAMPLING_RATE / 20) < 8).astype(float)
    sounds = [*tones, chirp, noise, clicks, tones[1]]
    pieces = [np.concatenate([0.3 * faded(sound.astype(np.float32)), silence(0.2)]) for sound in sounds]
    return np.concatenate(pieces).astype(np.float32)


def main() -> None:
    """Write the three clips."""
    FOLDER.mkdir(exist_ok=True)
    pause = silence(0.3)
    turns = [np.concatenate([pause, speak(text, voice)]) for voice, text in TWO_VOICES]
    clips = {
        "one_sentence": np.concatenate([pause, speak(SENTENCE, "en-gb"), pause]),
        "two_voices": np.concatenate([*turns, pause]),
        "test_sounds": test_sounds(),
    }
    for name, samples in clips.items():
        soundfile.write(FOLDER / f"{name}.flac", samples, SAMPLING_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
