"""Make the example clips of the app: espeak-ng speaks them, but for one that numpy draws; and a zip of labelled ones.

Run it from the root of the repository (``python assets/make_examples.py``); the clips lie in ``assets/examples``. Only
this script needs espeak-ng, the app only reads what it left.
"""

import io
import itertools
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path(__file__).parent / "examples"
SAMPLING_RATE = 22_050
"""Hz; what espeak-ng speaks in. Not a model's rate on purpose: the examples are resampled as real recordings are."""

SENTENCE = "The north wind and the sun were arguing about which of them was stronger, when a traveller came along."
LINES = ("The train leaves at seven.", "I put it on the table.", "We can talk tomorrow.")
SPEAKERS = {"anna": "f1", "bela": "f2", "cora": "f4", "dirk": "m1", "egon": "m3", "fred": "m7"}
"""The voices of the labelled clips: names for variants of espeak-ng."""

ZIP_TIME = (2026, 1, 1, 0, 0, 0)
"""Time of every file in the zip: the same clips make the same bytes."""

TWO_VOICES = (("en-us+m3", "Where does one sound end?"), ("en-gb+f4", "And where does the next begin?"))


def speak(text: str, voice: str, words_a_minute: int = 150, *more: str) -> np.ndarray:
    """Return what espeak-ng says, (n_samples,) float32 at SAMPLING_RATE; ``more`` are further options of it."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), *more, "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    if rate != SAMPLING_RATE:
        raise SystemExit(f"espeak-ng spoke at {rate} Hz; expected {SAMPLING_RATE}.")
    return samples


@dataclass(frozen=True)
class Style:
    """How a synthetic voice plays a class: words a minute, pitch and loudness as espeak-ng takes them."""

    words_a_minute: int
    pitch: int
    amplitude: int


STYLES = {"calm": Style(140, 40, 80), "excited": Style(180, 60, 110), "gloomy": Style(120, 25, 60)}
"""Not emotions: three ways to speak that a program can play, to try the page and the command line on."""


def labelled_clips(seed: int = 0) -> dict[str, bytes]:
    """Return a small corpus by file name: each voice speaks each line in each style, with scatter; and its list."""
    rng = np.random.default_rng(seed)
    files, rows = {}, ["file,speaker,emotion,text"]
    for speaker, (label, style), (number, line) in itertools.product(SPEAKERS, STYLES.items(), enumerate(LINES)):
        scatter = rng.normal(1, 0.2, 3)
        values = np.array([style.words_a_minute, style.pitch, style.amplitude]) * scatter
        words, pitch, amplitude = (round(float(value)) for value in values.clip([80, 1, 10], [300, 99, 200]))
        voice = f"en-gb+{SPEAKERS[speaker]}"
        samples = speak(line, voice, words, "-p", str(pitch), "-a", str(amplitude))
        name, content = f"{speaker}_{label}_{number}.ogg", io.BytesIO()
        soundfile.write(content, samples, SAMPLING_RATE, format="OGG", subtype="VORBIS", compression_level=0.8)
        files[name] = content.getvalue()
        rows.append(f"{name},{speaker},{label},{number}")
    return files | {"labels.csv": "\n".join([*rows, ""]).encode()}


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write files into a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content)


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
    """Write the three clips and the zip."""
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
    write_zip(FOLDER / "made_voices.zip", labelled_clips())


if __name__ == "__main__":
    main()
