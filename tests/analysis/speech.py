"""Real speech for the properties: EmoDB's utterances through the trained Whisper encoder, or through random weights."""

import csv
from pathlib import Path

import numpy as np

from core.analysis.mel import MelSource, mel_source
from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal, open_signal
from core.checkpoints.load import load_model, randomised
from core.embed.encoders import build_encoder
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, stream_states
from core.findings import Points, RowTable
from core.recipes.probes import read_xlabel

SPEAKERS = ("03", "08", "09", "10")
GAP_SECONDS = 0.1


def utterances(folder: Path, each: int) -> list[tuple[str, str]]:
    """File and speaker of some utterances with phone labels, in an order that has nothing to do with the text."""
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rng = np.random.default_rng(0)
    chosen = []
    for speaker in SPEAKERS:
        files = [row["file"] for row in rows if row["speaker"] == speaker and _labels(folder, row["file"])]
        chosen += [(file, speaker) for file in rng.permutation(files)[:each]]
    return chosen


def emodb_points(folder: Path, model: Path, random_weights: bool, each: int = 12) -> Points:
    """Every third frame of four speakers' utterances; a speaker's utterances share windows of Whisper's 30 s."""
    loaded = load_model(model, "whisper", from_user=True)
    encoder = build_encoder(randomised(loaded, 0) if random_weights else loaded)
    layers = tuple(range(encoder.spec.n_layers + 1))
    runners = torch_runners(encoder.networks(layers), "cpu", "fp32")
    chosen = utterances(folder, each)
    values, tables = [], []
    for speaker in SPEAKERS:
        numbers = [number for number, (_, by) in enumerate(chosen) if by == speaker]
        states, parts = _one_speaker(encoder, runners, folder, [chosen[number][0] for number in numbers], numbers)
        values.append(states)
        tables += parts
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    recording, start, stop, phone = columns
    labels = {"phone": phone, "speaker": np.array([by for _, by in chosen])[recording]}
    table = RowTable(tuple(file for file, _ in chosen), recording.astype(np.int32), start, stop, labels, len(start))
    return Points(layers, np.concatenate(values, axis=1), table)


def emodb_mel(folder: Path) -> MelSource:
    return mel_source(lambda name: open_signal(folder / "flac16k" / name, 16_000))


def _one_speaker(encoder, runners, folder, files, numbers):
    """States of one speaker's utterances, joined with short silences, and the rows of each."""
    rate, clock = 16_000, encoder.spec.clock
    silence = np.zeros(round(GAP_SECONDS * rate), np.float32)
    joined, tables, rows = [], [], []
    for file, number in zip(files, numbers, strict=True):
        begin = sum(map(len, joined))
        with open_signal(folder / "flac16k" / file, rate) as signal:
            samples = signal.read(0, signal.n_samples)
        joined += [samples, silence]
        centres = clock.centre(np.arange(clock.n_frames(begin + len(samples))))
        frames = np.flatnonzero(centres >= begin / rate)[::3]
        rows.append(frames)
        middle = centres[frames] - begin / rate
        segments = _labels(folder, file)
        names = np.array(["", *(name for _, name in segments)])
        phone = names[np.searchsorted([onset for onset, _ in segments], middle, side="right")]
        tables.append((np.full(len(frames), number), middle - 0.01, middle + 0.01, phone))
    with Signal.from_array(np.concatenate(joined), rate) as signal:
        windows = plan(encoder.spec, signal.n_samples, EmbedSettings(chunk_seconds=1_000.0), "emodb")
        states = np.concatenate(list(stream_states(encoder, runners, signal, windows, ignore_progress)), axis=1)
    return states[:, np.concatenate(rows)], tables


def _labels(folder: Path, file: str) -> list[tuple[float, str]]:
    path = next((folder / "lablaut").glob(f"{Path(file).stem}*.lablaut"), None)
    return read_xlabel(path) if path else []
