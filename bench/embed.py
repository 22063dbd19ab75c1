"""Speed, memory and closeness of embedding, against the document's loop, in one run: ``python -m bench.embed``.

The document's loop (shared here as :func:`document_loop`) cuts the recording into 20 s chunks, normalises each alone
and runs transformers' model on it in float32. Numbers of one run belong together: machines are shared, so only
ratios are quoted.

Real speech comes from STRATA_TEST_DATA (default ``../shared/data``): LibriSpeech test-other joined for speed and
memory, three LibriVox readers for closeness.
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from os import environ
from pathlib import Path

import numpy as np

import core

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
CHUNK_SECONDS = 20
SEAM_SECONDS = 0.5
MEMORY_MINUTES = (5, 60)
ENGINES = {
    ("torch", "fp32"): ">= 0.83x (costs <= 1.2x)",
    ("openvino", "fp32"): ">= 1.8x",
    ("openvino", "bf16"): ">= 3.3x",
}
LIBRIVOX = ("fleursdumal_001", "fleursdumal_010", "fleursdumal_060")


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, as a ratio or a number, and what the issue asks for."""

    name: str
    value: str
    target: str


# ---------------------------------------------------------------------------------------------------------------- data


def data_folder() -> Path:
    """Folder of the archives."""
    return Path(environ.get("STRATA_TEST_DATA", ROOT.parent / "shared" / "data"))


def unpack(archive: str, into: Path) -> Path:
    """Unpack one archive of the data folder."""
    target = into / archive
    if not target.exists():
        path = next(data_folder().glob(f"{archive}.tar*"))
        with tarfile.open(path) as tar:
            tar.extractall(target, filter="data")
    return target


def speech(seconds: float, folder: Path) -> Path:
    """Write real speech of a given length as 16 kHz wav: LibriSpeech test-other, repeated as often as needed."""
    import soundfile

    out = folder / f"speech_{seconds:g}.wav"
    files = sorted(unpack("librispeech_test_other", folder).rglob("*.flac"))
    left = round(seconds * RATE)
    with soundfile.SoundFile(out, "w", RATE, 1, "PCM_16") as wav:
        while left > 0:
            for path in files:
                samples = soundfile.read(path, dtype="float32")[0][:left]
                wav.write(samples)
                left -= len(samples)
                if left <= 0:
                    break
    return out


def minutes(folder: Path) -> list[Path]:
    """Write the first minute of three LibriVox readers as 16 kHz wav."""
    import soundfile

    from core.audio.signal import open_signal

    out = []
    for stem in LIBRIVOX:
        path = next(unpack("librivox_opus", folder).rglob(f"{stem}*.opus"))
        with open_signal(path, RATE) as signal:
            samples = signal.read(0, min(60 * RATE, signal.n_samples))
        out.append(folder / f"{stem}.wav")
        soundfile.write(out[-1], samples, RATE, "FLOAT")
    return out


# ---------------------------------------------------------------------------------------------------------- references


def document_loop(model, samples: np.ndarray, extractor) -> np.ndarray:
    """Run the document's loop: chunks encoded alone and concatenated, (n_layers, frames, dim); no short tails."""
    chunk, parts = CHUNK_SECONDS * RATE, []
    for start in range(0, len(samples), chunk):
        piece = samples[start : start + chunk]
        if len(piece) < 400:
            break
        parts.append(document_whole(model, piece, extractor))
    return np.concatenate(parts, axis=1)


def all_states(model, inputs) -> np.ndarray:
    """Conv features are apart; states 0..N of one input, the last being ``last_hidden_state``, (N+1, frames, dim)."""
    output = model(inputs, output_hidden_states=True)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    return np.stack([state[0].numpy() for state in states])


def base_model(folder: Path) -> Path:
    """Save a base-size wav2vec 2.0 with random weights; speed does not depend on them."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    import core  # noqa: F401 - the torchaudio stand-in, before transformers

    target = folder / "base"
    if not target.exists():
        torch.manual_seed(0)
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(target)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(target)
    return target


def stock(folder: Path, attention: str = "sdpa"):
    """Load a model and its feature extractor the way the document does; transformers' own default is sdpa."""
    from transformers import AutoFeatureExtractor, AutoModel

    import core  # noqa: F401

    return AutoModel.from_pretrained(
        folder, attn_implementation=attention
    ).eval().float(), AutoFeatureExtractor.from_pretrained(folder)


# --------------------------------------------------------------------------------------------------------------- speed


def strata_states(folder: Path, wav: Path, engine: str, precision: str, **windows: float) -> Callable[[], np.ndarray]:
    """Prepare Strata's way through the same model; the returned call embeds the recording, all layers."""
    from core.arrays import EmbedSettings, ignore_progress
    from core.audio.signal import open_signal
    from core.checkpoints.load import load_model
    from core.device import DeviceChoice
    from core.embed.encoders import build_encoder
    from core.embed.engines import EngineRequest, build_runners
    from core.embed.pipeline import plan, resolve_layers, stream_states

    encoder = build_encoder(load_model(folder, folder.name, from_user=True))
    layers = resolve_layers("all", encoder.spec.name, encoder.spec.n_layers)
    runners, _ = build_runners(encoder, layers, EngineRequest(engine, precision, DeviceChoice("cpu", "bench")))

    def run() -> np.ndarray:
        with open_signal(wav, RATE) as signal:
            windows_plan = plan(encoder.spec, signal.n_samples, EmbedSettings(**windows), str(wav))
            return np.concatenate(list(stream_states(encoder, runners, signal, windows_plan, ignore_progress)), axis=1)

    return run


def speed(folder: Path, seconds: float, rounds: int) -> Iterator[Row]:
    """Time the loop and every engine in turn, round after round, and compare the states."""
    import soundfile

    wav, model_folder = speech(seconds, folder), base_model(folder)
    samples = soundfile.read(wav, dtype="float32")[0]
    loops = {attention: stock(model_folder, attention) for attention in ("eager", "sdpa")}
    calls = {
        f"loop, {name} attention": partial(document_loop, pair[0], samples, pair[1]) for name, pair in loops.items()
    }
    for engine, precision in ENGINES:
        calls[f"{engine} {precision}"] = strata_states(model_folder, wav, engine, precision)
    times: dict[str, list[float]] = {name: [] for name in calls}
    states: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            states[name] = call()
            times[name].append(time.perf_counter() - began)
    for attention in loops:
        loop = np.array(times[f"loop, {attention} attention"])
        yield Row(
            f"document's loop, {attention} attention", f"{np.median(loop):.1f} s for {seconds:g} s of speech", "-"
        )
        for (engine, precision), target in ENGINES.items():
            ratio = np.median(loop / np.array(times[f"{engine} {precision}"]))
            yield Row(f"{engine} {precision}, speed against that loop", f"{ratio:.2f}x", target)
    for name, least in (("openvino fp32", 0.9999), ("openvino bf16", 0.9995)):
        lowest = cosine(states[name], states["torch fp32"]).min(axis=1)
        yield Row(f"{name}, lowest cosine to torch fp32, worst layer", f"{lowest.min():.6f}", f">= {least}")


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of each frame, (n_layers, frames) float64."""
    dot = (one * other).sum(-1, dtype=np.float64)
    return dot / (np.linalg.norm(one, axis=-1).astype(np.float64) * np.linalg.norm(other, axis=-1))


# -------------------------------------------------------------------------------------------------------------- memory


def peak_memory(folder: Path, minutes_long: float) -> float:
    """Peak resident memory in MB of a fresh process that embeds a recording into npy, mat and json."""
    wav = speech(60 * minutes_long, folder)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.embed import child; child({str(wav)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return float(result.stdout.strip().splitlines()[-1])


def child(wav: str) -> None:
    """Embed one file with the base model that lies beside it and print the process's own peak memory in MB."""
    from core.arrays import EmbedSettings, OutputSettings
    from core.tasks import embed

    folder = Path(wav).parent
    with tempfile.TemporaryDirectory() as out:
        embed(wav, EmbedSettings(model=str(folder / "base")), OutputSettings(Path(out)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(folder: Path) -> Iterator[Row]:
    """Compare peak memory of a short and a long recording."""
    base_model(folder)
    short, long = (peak_memory(folder, length) for length in MEMORY_MINUTES)
    yield Row("peak memory, 5 min", f"{short:.0f} MB", "-")
    yield Row("peak memory, 60 min", f"{long:.0f} MB", "-")
    yield Row("peak memory, 60 min against 5 min", f"{long / short:.3f}x", "<= 1.15x")


# ----------------------------------------------------------------------------------------------------------- closeness


def conv_features(folder: Path, wav: Path, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of the convolution stack: whole file, document's chunks, Strata's blocks; (frames, channels) each."""
    import torch

    from core.audio.signal import open_signal
    from core.checkpoints.load import load_model
    from core.embed.encoders import build_encoder
    from core.embed.engines import torch_runners

    model, extractor = stock(folder)

    def features(piece: np.ndarray) -> np.ndarray:
        inputs = extractor(piece, sampling_rate=RATE, return_tensors="pt").input_values
        with torch.inference_mode():
            return model.feature_extractor(inputs)[0].T.numpy()

    step = CHUNK_SECONDS * RATE
    chunks = np.concatenate([features(samples[at : at + step]) for at in range(0, len(samples) - 399, step)])
    encoder = build_encoder(load_model(folder, folder.name, from_user=True))
    runners = torch_runners(encoder.networks((0,)), "cpu", "fp32")
    with open_signal(wav, RATE) as signal:
        blocks = encoder.open(signal, runners).read(0, encoder.spec.clock.n_frames(signal.n_samples))
    return features(samples), chunks, blocks


def misplaced(loop: np.ndarray, n_frames: int) -> np.ndarray:
    """Put the loop's frames where their sound is: 999 of each 1,000, so that its error is not its wrong clock's."""
    per_chunk = CHUNK_SECONDS * RATE // 320
    kept = (CHUNK_SECONDS * RATE - 400) // 320 + 1
    index = [frame for frame in range(n_frames) if frame % per_chunk < kept]
    return np.array(index[: loop.shape[-2]])


def closeness(folder: Path, checkpoint: Path) -> Iterator[Row]:
    """Compare Strata's windows and the document's chunks with the whole file, on three minutes of three readers."""
    import soundfile

    model, extractor = stock(checkpoint)
    ours, loops, seams, medians = [], [], [], []
    for wav in minutes(folder):
        samples = soundfile.read(wav, dtype="float32")[0]
        whole = document_whole(model, samples, extractor)
        loop = document_loop(model, samples, extractor)
        got = strata_states(checkpoint, wav, "torch", "fp32")()
        index = misplaced(loop, whole.shape[1])
        conv_whole, conv_loop, conv_ours = conv_features(checkpoint, wav, samples)
        ours.append(np.r_[error(conv_ours[None], conv_whole[None]).mean(), error(got, whole).mean(axis=1)])
        loops.append(
            np.r_[error(conv_loop[None], conv_whole[None, index]).mean(), error(loop, whole[:, index]).mean(axis=1)]
        )
        near, median = seam_errors(error(got, whole))
        seams.append(near)
        medians.append(median)
    ours_mean, loop_mean = np.mean(ours, axis=0), np.mean(loops, axis=0)
    ratio = loop_mean / np.maximum(ours_mean, 1e-15)
    yield Row("conv features, times closer than the loop", f"{ratio[0]:.3g}x", ">= 10x")
    yield Row("layer 0, times closer than the loop", f"{ratio[1]:.3g}x", ">= 10x")
    for layer, value in enumerate(ratio[2:], start=1):
        yield Row(f"layer {layer}, times closer than the loop", f"{value:.3g}x", "> 1x")
    seam = np.mean(seams, axis=0) / np.maximum(np.mean(medians, axis=0), 1e-12)
    yield Row("within 0.5 s of a seam against the median frame, worst layer", f"{seam.max():.2f}x", "<= 2x")
    yield Row("the same for each layer", " ".join(f"{value:.2f}" for value in seam), "-")


def document_whole(model, samples: np.ndarray, extractor) -> np.ndarray:
    """States of the whole file in one pass, (n_layers, frames, dim)."""
    import torch

    with torch.inference_mode():
        return all_states(model, extractor(samples, sampling_rate=RATE, return_tensors="pt").input_values)


def error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - cosine of each frame, (n_layers, frames), without the cancellation near 1: |a/|a| - b/|b||^2 / 2."""
    unit = [
        value.astype(np.float64) / np.linalg.norm(value.astype(np.float64), axis=-1, keepdims=True)
        for value in (one, other)
    ]
    return ((unit[0] - unit[1]) ** 2).sum(-1) / 2


def seam_errors(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean error within half a second of a seam, and the median of all frames, (n_layers,) each."""
    from core.clock import plan_windows

    rate = 50
    windows = plan_windows(errors.shape[1], CHUNK_SECONDS * rate, round(default_context() * rate))
    reach = round(SEAM_SECONDS * rate)
    near = np.zeros(errors.shape[1], bool)
    for window in windows[1:]:
        near[max(0, window.keep_start - reach) : window.keep_start + reach] = True
    return errors[:, near].mean(axis=1), np.median(errors, axis=1)


def default_context() -> float:
    """Seconds of context that the wav2vec 2.0 family takes by default."""
    from core.embed.encoders.wav2vec2 import CONTEXT_SECONDS

    return CONTEXT_SECONDS


# ------------------------------------------------------------------------------------------------------------- startup


def startup(rounds: int = 3) -> Iterator[Row]:
    """Time from starting app.py to its first answer, against importing its three heavy libraries."""
    imports, answers = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import core, gradio, torch, transformers"], check=True, cwd=ROOT)
        imports.append(time.perf_counter() - began)
        answers.append(first_answer())
    ratio = np.median(np.array(answers) / np.array(imports))
    yield Row("app.py's first answer against the imports", f"{ratio:.2f}x", "<= 1.6x")


def first_answer() -> float:
    """Seconds until app.py answers a request."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - began < 120:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                return time.perf_counter() - began
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise RuntimeError("app.py did not answer within two minutes")
    finally:
        process.terminate()
        process.wait()


# ---------------------------------------------------------------------------------------------------------------- main


def print_table(measured: Iterable[Row], json_path: Path | None) -> None:
    """Print each row as soon as it is measured, and write all of them as JSON where that is wanted."""
    rows: list[Row] = []
    print(f"Strata {core.__version__}")
    print("| measure | value | asked for |\n| --- | --- | --- |", flush=True)
    for row in measured:
        rows.append(row)
        print(f"| {row.name} | {row.value} | {row.target} |", flush=True)
    if json_path:
        json_path.write_text(json.dumps([row.__dict__ for row in rows], indent=2))


def main() -> None:
    """Run the parts that were asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="speed,memory,closeness,startup")
    parser.add_argument("--seconds", type=float, default=300.0, help="speech for the speed part")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "wav2vec2-small-whisper")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "strata-bench")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parts = {
        "speed": lambda: speed(args.work, args.seconds, args.rounds),
        "memory": lambda: memory(args.work),
        "closeness": lambda: closeness(args.work, args.checkpoint),
        "startup": startup,
    }
    print_table((row for name in args.parts.split(",") for row in parts[name]()), args.json)


if __name__ == "__main__":
    main()
