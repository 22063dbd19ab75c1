"""Cost and quality of the layerwise analysis, beside what it replaces, in one run: ``python -m bench.layers``.

The states are those of the bundled encoder, and of the same architecture with random weights, on real speech:
LibriSpeech test-other from STRATA_TEST_DATA (default ``../shared/data``). Machines are shared, so that only ratios are
quoted; t-SNE is timed in CPU seconds, with one thread on both sides, as threads that wait for each other count as well.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

import core
from bench.embed import ROOT, Row, speech, strata_states

PERPLEXITY = 30
N_AXES = 50
SPEECH_SECONDS = 300.0


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


# ---------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    """Run the parts that were asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="tsne")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "wav2vec2-small-whisper")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 5_000], help="for the t-SNE part")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "strata-bench")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parts = {"tsne": lambda: tsne(args.work, args.checkpoint, args.points)}
    rows: list[Row] = []
    print(f"Strata {core.__version__}")
    print("| measure | value | asked for |\n| --- | --- | --- |", flush=True)
    for name in args.parts.split(","):
        for row in parts[name]():
            rows.append(row)
            print(f"| {row.name} | {row.value} | {row.target} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([row.__dict__ for row in rows], indent=2))


if __name__ == "__main__":
    main()
