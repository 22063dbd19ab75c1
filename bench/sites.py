"""What a training on recording sites learns, beside its controls: ``python -m bench.sites --eeg FILE``.

Parts: ``eeg`` and ``meg`` (similarity of sites against their distance, by seed, with Mantel's p, the untrained
embeddings and the raw signals' correlation beside; recovery of left and right), ``single`` (as ``eeg``, with one site
in a grid), ``control`` (held-out contrastive accuracy with and without the spatial embedding, by seed; what the model
that is told its sites makes of wrong ids, and of what the seen sites held at another moment), ``noise`` (independent
white noise, where a model can do no better than guess).
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from bench.embed import Row, print_table
from core import tasks
from core.tasks.sites.training import fitted, open_sites
from core.training.batches import Batch, Reader
from core.training.pretraining import Evaluation, Place
from core.training.site_pretraining import plan_sites
from core.training.state import read_state
from core.training.workers import Workers

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
    """The same grids with and without knowing their sites.

    What a hidden token is told from are the other hidden sites of its moment. Not told its sites, a model gives all of
    them one answer: it can only guess. The difference says that ids help; the last two rows say what they help with.
    """
    seeds = range(bench.seeds)
    told = [bench.train(bench.recording, seed, montage=bench.montage) for seed in seeds]
    blind = [bench.train(bench.recording, seed, "use_spatial_embedding=false", montage=bench.montage) for seed in seeds]
    scores = [[one.metrics["contrastive_accuracy"] for one in runs] for runs in (told, blind)]
    yield Row("EEG, with spatial embedding: held-out contrastive accuracy", _spread(told), "with above without")
    yield Row("EEG, without", _spread(blind), "-")
    gains = [one - other for one, other in zip(*scores, strict=True)]
    yield Row("EEG, with minus without, same grids, seed by seed", _mean_and_half(gains), "> 0")
    for what, change in {"ids exchanged": _exchanged, "seen sites of another moment": _shifted}.items():
        found = [_foretold(bench, seed, run, change) for seed, run in zip(seeds, told, strict=True)]
        yield Row(f"EEG, with, {what}", _mean_and_half(found), "below with")


@dataclass(frozen=True)
class _Changed:
    """A reader whose batches are changed before the model sees them; what it has to tell stays as it is."""

    reader: Reader
    change: Callable[[Batch], Batch]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def batch(self, numbers: Iterable[int]) -> Batch:
        """As of the reader, then changed."""
        return self.change(self.reader.batch(numbers))


def _exchanged(batch: Batch) -> Batch:
    """Each grid under the ids of its sites, by lot in another order."""
    ids = batch.where["recording_site_ids"]
    order = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    return replace(batch, where={"recording_site_ids": ids.gather(1, order)})


def _shifted(batch: Batch) -> Batch:
    """What the seen sites hold moved by half a grid: what is alike at one moment is no longer there to be found."""
    n_sites = batch.where["recording_site_ids"].shape[1]
    hidden = batch.mask.unflatten(1, (n_sites, -1)).all(dim=2)
    sites = batch.values.unflatten(2, (n_sites, -1))
    moved = sites.roll(sites.shape[-1] // 2, dims=-1)
    return replace(batch, values=torch.where(hidden[:, None, :, None, None], sites, moved).flatten(2, 3))


def _foretold(bench: Bench, seed: int, run: tasks.PretrainResult, change: Callable[[Batch], Batch]) -> float:
    """Held-out accuracy of a finished run on batches that were changed."""
    settings = tasks.read_site_settings(bench.preset, [*bench.overrides, f"seed={seed}"])
    folder = Path(run.folder)
    request = tasks.SiteTrainRequest((bench.recording,), folder, settings, montage=bench.montage)
    with open_sites(request) as data:
        settings = fitted(settings, data)
        plan = plan_sites(settings, data, Place(folder, folder))
        plan.model.load_state_dict(read_state(folder / "state.pt")["model"])
        reader = _Changed(plan.held_out, change)
        scores = Evaluation(reader, plan.n_held_out, settings, Workers())(plan.model.eval())
    return scores["contrastive_accuracy"]


def noise(bench: Bench) -> Iterator[Row]:
    """Thirty-two channels of white noise that know nothing of each other."""
    path = bench.folder / "noise.npy"
    np.save(path, np.random.default_rng(0).standard_normal((32, 128 * 124)))
    found = [bench.train(path, seed, numpy_rate=128.0) for seed in range(bench.seeds)]
    yield Row("white noise, 32 sites: held-out contrastive accuracy", _spread(found), "chance")


def _spread(found: Sequence[Any]) -> str:
    """Mean and 95 % interval over seeds, with chance."""
    chance = mean(one.metrics["chance"] for one in found)
    return f"{_mean_and_half([one.metrics['contrastive_accuracy'] for one in found])} (chance {chance:.4f})"


def _mean_and_half(values: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds (Student's t)."""
    n = len(values)
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / n**0.5 if n > 1 else float("nan")
    return f"{mean(values):.4f} +- {half:.4f} ({n} seeds)"


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
