"""Cost and quality of the layerwise analysis, beside what it replaces, in one run: ``python -m bench.layers``.

The states are those of the bundled encoder, and of the same architecture with random weights, on real speech:
LibriSpeech test-other from STRATA_TEST_DATA (default ``../shared/data``). Machines are shared, so that only ratios are
quoted; t-SNE is timed in CPU seconds, with one thread on both sides, as threads that wait for each other count as well.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.embed import ROOT, Row, base_model, print_table, speech, strata_states
from core.arrays import EmbedSettings
from core.findings import LayersSettings
from core.tasks.features import FeatureRun
from core.tasks.layer_rows import LayersRequest, choose_rows
from core.tasks.layerwise import describe

PERPLEXITY = 30
N_AXES = 50
SPEECH_SECONDS = 300.0
RECORDINGS = 5, 50


# ---------------------------------------------------------------------------------------------------------------- data


def states(model: Path, folder: Path) -> np.ndarray:
    """All states of five minutes of speech, (n_layers, n_frames, dim)."""
    return strata_states(model, speech(SPEECH_SECONDS, folder), "torch", "fp32")()


def random_model(checkpoint: Path, folder: Path) -> Path:
    """Save the same architecture with random weights, and the same preprocessing."""
    import torch
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    target = folder / f"{checkpoint.name}-random"
    if not target.exists():
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.from_pretrained(checkpoint)).save_pretrained(target)
        AutoFeatureExtractor.from_pretrained(checkpoint).save_pretrained(target)
    return target


def spread(values: np.ndarray, n: int) -> np.ndarray:
    """Take n frames, evenly spread."""
    from core.analysis.projection import evenly

    return values[..., evenly(values.shape[-2], n), :]


# --------------------------------------------------------------------------------------------------------------- t-SNE


def tsne(folder: Path, checkpoint: Path, points: list[int]) -> Iterator[Row]:
    """Compare with scikit-learn's TSNE: CPU time, and neighbours kept of the input that both are given."""
    models = {"": checkpoint, ", random weights": random_model(checkpoint, folder)}
    values = {name: states(model, folder) for name, model in models.items()}
    layers = (0, len(values[""]) // 2, len(values[""]) - 1)
    for n in points:
        pairs = []
        for name, layer in [*(("", layer) for layer in layers), (", random weights", layers[-1])]:
            pairs.append(tsne_pair(spread(values[name][layer], n)))
            yield tsne_row(f"t-SNE, {n:,} points, layer {layer}{name}", pairs[-1])
        (cpu, kept), (sklearn_cpu, sklearn_kept) = np.mean(pairs, axis=0)
        target = "CPU <= 1x, kept >= -0.01"
        yield Row(
            f"t-SNE, {n:,} points, mean, against sklearn",
            f"CPU {cpu / sklearn_cpu:.2f}x, kept {kept - sklearn_kept:+.4f}",
            target,
        )
    yield from sequence_rows(spread(values[""], points[0]))


def tsne_pair(rows: np.ndarray) -> np.ndarray:
    """CPU seconds and neighbours kept, of Strata and of scikit-learn, on the same rows: (2, 2)."""
    from core.analysis.neighbours import neighbour_preservation
    from core.analysis.tsne import reduce_rows

    reduced = reduce_rows(rows, N_AXES)
    timed = [cpu_seconds(method, reduced) for method in (strata_map, sklearn_map)]
    return np.array([(cpu, neighbour_preservation(reduced, points, most=len(reduced))) for cpu, points in timed])


def tsne_row(name: str, pair: np.ndarray) -> Row:
    """Both sides in one line."""
    (cpu, kept), (sklearn_cpu, sklearn_kept) = pair
    value = f"CPU {cpu:.2f} s, sklearn {sklearn_cpu:.2f} s; kept {kept:.4f}, sklearn {sklearn_kept:.4f}"
    return Row(name, value, "-")


def strata_map(rows: np.ndarray) -> np.ndarray:
    """Strata's map at its defaults, with every state that a watcher would be shown."""
    from core.analysis.tsne import TsneSettings, tsne_steps

    return list(tsne_steps(rows, TsneSettings(perplexity=PERPLEXITY)))[-1].points


def sklearn_map(rows: np.ndarray) -> np.ndarray:
    """scikit-learn's map at its defaults, from PCA."""
    from sklearn.manifold import TSNE

    return TSNE(init="pca", perplexity=PERPLEXITY, random_state=0).fit_transform(rows)


def cpu_seconds(call: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> tuple[float, np.ndarray]:
    """CPU seconds of a call on one thread, and what it returned; what it imports is there before."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        call(rows[: 4 * PERPLEXITY])
        began = time.process_time()
        result = call(rows)
        return time.process_time() - began, result


def sequence_rows(values: np.ndarray) -> Iterator[Row]:
    """How far points move from layer to layer, against maps made apart and then aligned; and what that costs."""
    from core.analysis.tsne import TsneSettings, align_map, tsne_sequence

    settings = TsneSettings(perplexity=PERPLEXITY)
    followed = tsne_sequence(values, settings)
    apart = [tsne_sequence(layer[None], settings)[0] for layer in values]
    aligned = [apart[0].points]
    for one in apart[1:]:
        aligned.append(align_map(one.points, aligned[-1]))
    distances = [moved([one.points for one in followed]), moved(aligned)]
    yield Row(
        f"t-SNE, {values.shape[1]:,} points, distance moved from layer to layer, against maps made apart",
        f"{distances[0]:.2f} / {distances[1]:.2f} of the map's spread = {distances[0] / distances[1]:.2f}x",
        "-",
    )
    kept = np.mean([one.kept - other.kept for one, other in zip(followed[1:], apart[1:], strict=True)])
    yield Row("the same, neighbours kept against maps made apart", f"{kept:+.4f}", "-")


def moved(maps: list[np.ndarray]) -> float:
    """Mean distance that a point moves from one map to the next, in units of the mean distance from the centre."""
    steps = [np.linalg.norm(b - a, axis=1).mean() for a, b in pairwise(maps)]
    return float(np.mean(steps) / np.mean([np.linalg.norm(a - a.mean(axis=0), axis=1).mean() for a in maps]))


# ---------------------------------------------------------------------------------------------------------------- cost


def cost(folder: Path, seconds: float) -> Iterator[Row]:
    """Statistics, CKA of all pairs and PCA of all layers, in shares of the time that the features took (base size)."""
    from core.arrays import EmbedSettings, ignore_progress

    model, wav = base_model(folder), speech(seconds, folder)
    embed = EmbedSettings(model=str(model))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        features = Path(temporary)
        run, took = timed(lambda: feature_step(wav, embed, features))
        yield Row(f"features, base size, {seconds:g} s, {run.files[0].n_frames:,} frames", words(took), "-")
        settings = LayersSettings(tsne=False, properties=False)
        samples = {f"{settings.max_frames:,} frames (default)": settings, "all": replace(settings, max_frames=None)}
        for (name, asked), target in zip(samples.items(), ("<= 0.25x", "<= 1.5x"), strict=True):
            _, spent = timed(lambda asked=asked: describe(run, choose_rows(run, asked), asked, ignore_progress))
            ratios = " / ".join(f"{part / whole:.2f}x" for part, whole in zip(spent, took, strict=True))
            yield Row(f"statistics, CKA, PCA on {name}", f"{words(spent)} = {ratios}", target)


def feature_step(wav: Path, embed: EmbedSettings, folder: Path) -> FeatureRun:
    """Features of all layers, as the task computes them."""
    from core.arrays import ignore_progress
    from core.checkpoints.find import find_model
    from core.embed.inputs import list_inputs
    from core.tasks.encoders import Source
    from core.tasks.features import compute_features, hash_items

    recordings, _ = hash_items(list_inputs([wav]))
    return compute_features(Source(find_model(embed.model)), recordings, embed, folder, ignore_progress)


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Result, and seconds by the wall clock and of all threads."""
    began = time.perf_counter(), time.process_time()
    result = call()
    return result, (time.perf_counter() - began[0], time.process_time() - began[1])


def words(spent: tuple[float, float]) -> str:
    """Seconds by the wall clock and of all threads, in words."""
    return f"{spent[0]:.1f} s, CPU {spent[1]:.1f} s"


# -------------------------------------------------------------------------------------------------------------- memory


def memory(folder: Path, checkpoint: Path) -> Iterator[Row]:
    """Peak memory of statistics and CKA over few and over ten times as many recordings of a minute."""
    peaks = [peak_memory(folder, checkpoint, count) for count in RECORDINGS]
    for count, peak in zip(RECORDINGS, peaks, strict=True):
        yield Row(f"peak memory, {count} recordings of 60 s", f"{peak:.0f} MB", "-")
    ratio = peaks[1] / peaks[0]
    yield Row(f"peak memory, {RECORDINGS[1]} against {RECORDINGS[0]} recordings", f"{ratio:.3f}x", "independent")


def peak_memory(folder: Path, checkpoint: Path, count: int) -> float:
    """Peak resident memory in MB of a fresh process that analyses features that are there."""
    features = folder / f"features_{checkpoint.name}_{count}"
    if not features.exists():
        make_features(speech(60, folder), checkpoint, features, count)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.layers import child; child({str(features)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return float(result.stdout.strip().splitlines()[-1])


def make_features(wav: Path, checkpoint: Path, folder: Path, count: int) -> None:
    """Features of one recording begun at another second each: the same sound twice would be refused."""
    import soundfile

    from core import tasks
    from core.arrays import EmbedSettings, OutputSettings

    settings, (samples, rate) = EmbedSettings(model=str(checkpoint), layers="all"), soundfile.read(wav)
    turned = wav.with_name("turned.wav")
    for number in range(count):
        soundfile.write(turned, np.roll(samples, -number * rate), rate)
        tasks.embed(turned, settings, OutputSettings(folder, f"recording_{number:03d}", ("npz", "json")))


def child(features: str) -> None:
    """Analyse a folder of features on all frames and print the process's own peak memory in MB."""
    from core.arrays import EmbedSettings
    from core.tasks import analyse_layers

    settings = LayersSettings(tsne=False, properties=False, max_frames=None, max_points=1_000)
    analyse_layers(LayersRequest((), EmbedSettings(), settings, Path(features)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# ---------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    """Run the parts that were asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="cost,memory,tsne")
    parser.add_argument("--seconds", type=float, default=600.0, help="speech for the cost part")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "wav2vec2-small-whisper")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 5_000], help="for the t-SNE part")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "strata-bench")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parts = {
        "cost": lambda: cost(args.work, args.seconds),
        "memory": lambda: memory(args.work, args.checkpoint),
        "tsne": lambda: tsne(args.work, args.checkpoint, args.points),
    }
    print_table((row for name in args.parts.split(",") for row in parts[name]()), args.json)


if __name__ == "__main__":
    main()
