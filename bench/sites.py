"""What a training on recording sites learns, beside its controls: ``python -m bench.sites --eeg FILE``.

Parts: ``eeg`` and ``meg`` (similarity of sites against their distance, by seed, with Mantel's p, the untrained
embeddings and the raw signals' correlation beside; recovery of left and right), ``single`` (as ``eeg``, with one site
in a grid), ``control`` (held-out contrastive accuracy with and without the spatial embedding), ``noise`` (independent
white noise, where a model can do no better than guess).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from bench.embed import Row, print_table
from core import tasks

ASKED = ">= .40, p < .001"


@dataclass(frozen=True)
class Bench:
    """What is trained on, and how.

    Attributes:
        folder: For recordings and runs.
        eeg: A recording with channel names of a montage.
        montage: Its name.
        preset: Of the training.
        overrides: Single settings, ``key=value``.
        seeds: Of weights, masks and grids.
    """

    folder: Path
    eeg: Path | None
    montage: str
    preset: str
    overrides: tuple[str, ...]
    seeds: int

    @property
    def recording(self) -> Path:
        """The EEG."""
        if self.eeg is None:
            raise SystemExit("The parts eeg, single and control need --eeg FILE.")
        return self.eeg

    @cache  # noqa: B019 - the parts eeg and control look at the same trainings; a bench lives as long as the program
    def train(self, data: Path, seed: int, *more: str, **other: Any) -> tasks.PretrainResult:
        """Train once."""
        settings = tasks.read_site_settings(self.preset, [*self.overrides, *more, f"seed={seed}"])
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return tasks.train_sites(tasks.SiteTrainRequest((data,), folder / "run", settings, **other))


def eeg(bench: Bench) -> Iterator[Row]:
    """The real recording."""
    yield from _geometry(bench, "EEG", bench.recording, montage=bench.montage)


def single(bench: Bench) -> Iterator[Row]:
    """The real recording, one site in a grid: what each site's own statistics teach."""
    alone = replace(bench, overrides=(*bench.overrides, "sites_per_grid=1", "mask_columns=4"), seeds=1)
    yield from _geometry(alone, "EEG, one site in a grid", bench.recording, montage=bench.montage)


def meg(bench: Bench) -> Iterator[Row]:
    """Simulated, on the sensors of a real helmet: its 102 places."""
    path = bench.folder / "simulated_meg.fif"
    tasks.simulate_meg(tasks.SimulateRequest(path, 240.0, seed=2009, subject=20))
    yield from _geometry(bench, "simulated MEG, 102 places", path)


def _geometry(bench: Bench, what: str, data: Path, **other: Any) -> Iterator[Row]:
    rhos = []
    for seed in range(bench.seeds):
        result = bench.train(data, seed, **other)
        found = tasks.site_similarity(tasks.SimilarityRequest(str(tasks.trained_checkpoint(result))))
        assert found.distance is not None and found.untrained_distance is not None
        rhos.append(found.distance.spearman)
        anchor = "unknown" if found.signal_distance is None else f"{found.signal_distance.spearman:.3f}"
        told = (
            f"{found.distance.spearman:.3f}, p {found.distance.p:.4f} (n = {found.distance.n_pairs} pairs; untrained "
            f"{found.untrained_distance.spearman:.3f}; raw signals {anchor})"
        )
        yield Row(f"{what}, seed {seed}: similarity against -distance, Spearman", told, ASKED)
        for one in found.recoveries:
            shuffled = f"shuffled {one.shuffled[1]:.3f}, 95 % below {one.shuffled[2]:.3f}"
            yield Row(f"{what}, seed {seed}: {one.what} by 5-NN", f"{one.accuracy:.3f} (n = {one.n}; {shuffled})", "-")
        minutes = json.loads((Path(result.folder) / "last" / "training.json").read_text())["cpu_seconds"] / 60
        yield Row(f"{what}, seed {seed}: minutes of processor time, {result.step} steps", f"{minutes:.1f}", "<= 20")
    yield Row(f"{what}: mean over {bench.seeds} seeds", f"{mean(rhos):.3f}", ">= .40")


def control(bench: Bench) -> Iterator[Row]:
    """The same grids with and without knowing their sites."""
    kinds = {"with spatial embedding": (), "without": ("use_spatial_embedding=false",)}
    for what, more in kinds.items():
        runs = [bench.train(bench.recording, seed, *more, montage=bench.montage) for seed in range(bench.seeds)]
        found = [run.metrics for run in runs]
        yield Row(f"EEG, {what}: held-out contrastive accuracy", _spread(found), "with above without")


def noise(bench: Bench) -> Iterator[Row]:
    """Thirty-two channels of white noise that know nothing of each other."""
    path = bench.folder / "noise.npy"
    np.save(path, np.random.default_rng(0).standard_normal((32, 128 * 124)))
    found = [bench.train(path, seed, numpy_rate=128.0).metrics for seed in range(bench.seeds)]
    yield Row("white noise, 32 sites: held-out contrastive accuracy", _spread(found), "chance")


def _spread(found: Sequence[Any]) -> str:
    """Mean and 95 % interval over seeds (Student's t), with chance."""
    from scipy.stats import t

    values = [one["contrastive_accuracy"] for one in found]
    half = (
        float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    )
    chance = mean(one["chance"] for one in found)
    return f"{mean(values):.4f} +- {half:.4f} (chance {chance:.4f}, {len(values)} seeds)"


def main() -> None:
    """Run the parts that were asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="meg,noise")
    parser.add_argument("--eeg", type=Path, help="EEG with channel names of the montage")
    parser.add_argument("--montage", default="standard_1005")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], help="key=value, as in sites train")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    parts = {"eeg": eeg, "meg": meg, "single": single, "control": control, "noise": noise}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.eeg, args.montage, args.preset, tuple(args.set), args.seeds)
        print_table((row for name in args.parts.split(",") for row in parts[name](bench)), args.json)


if __name__ == "__main__":
    main()
