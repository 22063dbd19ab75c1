"""What a bundled speech encoder is worth: emotion, phones and speakers, beside random weights and log-mel energies.

Prints and returns tables for ``training.json``; also a command for any folder in the format of the bundled encoder::

    python -m core.recipes.speech_evaluation --data DATA --work WORK --checkpoint checkpoints/wav2vec2-small-whisper
"""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, PredefinedSplit
from transformers import AutoModel, HubertModel, Wav2Vec2Model

from core.analysis.probes import run_probe
from core.recipes import probes, speech_data
from core.recipes.probes import Array, Features
from core.training.corpus import read_mono

EMODB_NOTE = (
    "German, acted, first 2 s of each utterance, leave one speaker out; mean and standard deviation over time, "
    "logistic regression. In-domain: the encoder heard this audio in its training (never the labels)."
)
RAVDESS_NOTE = (
    "English, acted, six folds of four consecutive actors; mean and standard deviation over time, logistic regression. "
    "No training of the encoder touched this corpus."
)
PHONE_NOTE = (
    "German phone labels of EmoDB (lablaut), single frames, five speaker-disjoint folds, linear discriminant; frames "
    "without a label and phones with fewer than 300 frames left out. The encoder heard this audio in its training."
)
SPEAKER_NOTE = (
    "English, 2 s from the middle of ten utterances by each of ten speakers, five utterance-disjoint folds (one "
    "chapter and microphone a speaker, so the room helps); mean and standard deviation over time, logistic regression."
)
FEWEST_PHONE_FRAMES = 300
log = logging.getLogger(__name__)


def evaluate(features: dict[str, Features], data: Path, work: Path) -> list[dict[str, Any]]:
    """Run all four probes on each set of features, named as the card shall name them."""
    emodb = speech_data.find_archive(data, work, "emodb_2s")
    ravdess = speech_data.find_archive(data, work, "ravdess")
    librispeech = speech_data.find_archive(data, work, "librispeech_test_other")
    tables = []
    for measure, folder in ((emodb_emotion, emodb), (ravdess_emotion, ravdess), (emodb_phones, emodb)):
        tables.append(measure(features, folder))
        log.info("%s", json.dumps(tables[-1]))
    tables.append(librispeech_speakers(features, librispeech))
    log.info("%s", json.dumps(tables[-1]))
    return tables


def standard_features(model: Wav2Vec2Model | HubertModel, name: str, seed: int = 0) -> dict[str, Features]:
    """The model, the same architecture with random weights, and log-mel energies."""
    torch.manual_seed(seed)
    control = type(model)(model.config).eval()
    return {
        name: probes.encoder_features(model),
        "random weights": probes.encoder_features(control),
        "log-mel energies": probes.log_mel_features(),
    }


def emodb_emotion(features: dict[str, Features], folder: Path) -> dict[str, Any]:
    """Seven emotions, ten speakers."""
    rows = speech_data.read_rows(folder / "labels.csv")
    probe = probes.emotion_probe("Emotion on EmoDB", EMODB_NOTE, probes.leave_one_speaker_out())
    recordings = [read_mono(folder / "flac16k" / row["file"]) for row in rows]
    labels, speakers = _column(rows, "emotion"), _column(rows, "speaker")
    return _pooled_table(probe, features, recordings, labels, speakers, f"{len(set(speakers))} speakers")


def ravdess_emotion(features: dict[str, Features], folder: Path) -> dict[str, Any]:
    """Eight emotions, 24 actors in six folds of four consecutive ones."""
    rows = speech_data.read_rows(folder / "labels.csv")
    labels, actors = _column(rows, "emotion"), _column(rows, "speaker")
    folds = PredefinedSplit((actors.astype(int) - 1) // 4)
    probe = probes.emotion_probe("Emotion on RAVDESS", RAVDESS_NOTE, folds)
    recordings = [read_mono(folder / "flac16k" / row["file"]) for row in rows]
    return _pooled_table(probe, features, recordings, labels, actors, f"{len(set(actors))} actors")


def librispeech_speakers(features: dict[str, Features], folder: Path, seconds: float = 2.0) -> dict[str, Any]:
    """Who speaks: the number of the utterance inside its chapter decides the fold."""
    paths = sorted(folder.glob("*/*.flac"))
    speakers = np.array([path.stem.split("-")[0] for path in paths])
    utterances = np.array([int(path.stem.split("-")[2]) for path in paths])
    probe = probes.emotion_probe("Speaker on LibriSpeech test-other", SPEAKER_NOTE, GroupKFold(5))
    recordings = [_middle(read_mono(path), round(seconds * 16_000)) for path in paths]
    return _pooled_table(probe, features, recordings, speakers, utterances, f"{len(set(speakers))} speakers")


def emodb_phones(features: dict[str, Features], folder: Path) -> dict[str, Any]:
    """Phones, frame by frame."""
    rows = speech_data.read_rows(folder / "labels.csv")
    recordings = [read_mono(folder / "flac16k" / row["file"]) for row in rows]
    names = [_phones(folder / "lablaut", row["file"], len(audio)) for row, audio in zip(rows, recordings, strict=True)]
    counts = Counter(name for row in names for name in row)
    common = {name for name, count in counts.items() if name and count >= FEWEST_PHONE_FRAMES}
    kept = [np.array([name in common for name in row]) for row in names]
    labels = np.array([name for row in names for name in row if name in common])
    speakers = np.concatenate([[row["speaker"]] * int(mask.sum()) for row, mask in zip(rows, kept, strict=True)])
    probe = probes.phone_probe("Phones on EmoDB", PHONE_NOTE)
    outcomes = {}
    for name, extract in features.items():
        states = [extract(audio)[:, mask] for audio, mask in zip(recordings, kept, strict=True)]
        outcomes[name] = run_probe(probe, np.concatenate(states, axis=1), labels, speakers)
    return probes.table(probe, outcomes, labels, f"{len(common)} phones, {len(set(speakers))} speakers")


def _phones(folder: Path, file: str, n_samples: int) -> list[str]:
    """Phone of each frame of an EmoDB recording; the first field of a label, without its diacritics."""
    path = next(folder.glob(f"{Path(file).stem}*.lablaut"), None)
    return probes.frame_labels(probes.read_xlabel(path) if path else [], n_samples)


def _pooled_table(
    probe: probes.Probe,
    features: dict[str, Features],
    recordings: Sequence[Array],
    labels: NDArray,
    groups: NDArray,
    groups_text: str,
) -> dict[str, Any]:
    """Probe features pooled over time."""
    outcomes = {
        name: run_probe(probe, probes.pooled(extract, recordings), labels, groups) for name, extract in features.items()
    }
    return probes.table(probe, outcomes, labels, groups_text)


def _middle(audio: Array, length: int) -> Array:
    start = max(0, (len(audio) - length) // 2)
    return audio[start : start + length]


def _column(rows: list[dict[str, str]], name: str) -> NDArray:
    return np.array([row[name] for row in rows])


def main(arguments: list[str] | None = None) -> None:
    """Evaluate a folder and print the tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--work", "--checkpoint"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model = AutoModel.from_pretrained(options.checkpoint, dtype=torch.float32)
    tables = evaluate(standard_features(model, options.checkpoint.name), options.data, options.work)
    print(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
