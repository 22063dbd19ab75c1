"""Pre-training of Meg2Vec: speed beside transformers' own way, and what it learns: ``python -m bench.meg``.

The peer (:func:`peer_seconds`) is a loop written after transformers' wav2vec 2.0 pre-training example
(run_wav2vec2_pretraining_no_trainer.py): its collator with numpy masks and negatives, its model class around the same
convolutions and sizes, its handling of losses and gradients, in float32. Both sides read the same windows of the same
batch size. Machines are shared, so the sides take turns and only ratios of medians are quoted; without a GPU they are
of processor time: use one thread and no readers (OMP_NUM_THREADS=1, --set num_workers=0).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.embed import Row, print_table
from core.meg.window_data import Segment
from core.sensors import ModelInput, Preparation, Sensors, Statistics
from core.training.pretrain_settings import PretrainSettings

RATE = 250
PEER_MASK = 0.65
"""In transformers' function the bounded share: with spans of ten that overlap, about half of the frames, as here."""


def clock() -> float:
    """Seconds: of this process on a processor, on the wall beside a GPU."""
    import torch

    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


# ---------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Waves:
    """Slow waves of a few sources in all channels, with noise; the interface of a prepared folder, in memory."""

    values: np.ndarray
    fingerprint: str = "waves"
    facts = {"recordings": ["waves"]}  # noqa: RUF012

    @classmethod
    def made(cls, n_channels: int, seconds: float = 300.0, seed: int = 0) -> "Waves":
        """Draw some."""
        random = np.random.default_rng(seed)
        times = np.arange(int(seconds * RATE)) / RATE
        sources = np.sin(2 * np.pi * random.uniform(0.15, 0.5, (8, 1)) * times + random.uniform(0, 6, (8, 1)))
        values = random.standard_normal((n_channels, 8)) @ sources + random.standard_normal((n_channels, len(times)))
        return cls((values / values.std(axis=1, keepdims=True)).astype(np.float32))

    @property
    def model_input(self) -> ModelInput:
        """Of as many channels."""
        n = len(self.values)
        return ModelInput(Preparation(RATE), self._sensors, Statistics(np.zeros(n), np.ones(n)), simulated=True)

    @property
    def _sensors(self) -> Sensors:
        n = len(self.values)
        return Sensors(tuple(map(str, range(n))), ("mag",) * n, np.zeros((n, 3)), np.zeros((n, 3)))

    def segments(self, part: str) -> tuple[Segment, ...]:
        """One for training."""
        return (Segment("waves", "waves", self.values.shape[1]),) if part == "train" else ()

    def read(self, segment: Segment, start: int, stop: int) -> np.ndarray:
        """A part of it."""
        return self.values[:, start:stop]

    def sensors(self, segment: Segment) -> Sensors:
        """Of all channels."""
        return self._sensors


# --------------------------------------------------------------------------------------------------------------- sides


@dataclass
class Side:
    """Seconds of each step but the first, losses, accuracies and chances by step, and the share spent on waiting."""

    seconds: list[float]
    losses: list[float]
    waiting: float = 0.0
    accuracies: list[float] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)


def ours(settings: PretrainSettings, data: Waves, precision: str, steps: int) -> Side:
    """Strata's step in Strata's loop, with nothing kept on disk."""
    from core.training.loop import Hooks, train
    from core.training.meg_pretraining import make_model, training_reader
    from core.training.precision import make_accelerator
    from core.training.pretraining import PretrainStep, loop_settings, training_batches
    from core.training.workers import Workers

    accelerator = make_accelerator(settings.device, precision, compiled=settings.compile)
    workers, model, marks, side = Workers(accelerator), make_model(settings, RATE), [], Side([], [])
    batches = training_batches(settings, training_reader(settings, data), workers)
    told = replace(
        loop_settings(settings, ""), updates=steps, checkpoint_every=10**9, validate_every=10**9, log_every=1
    )

    def keep(entry: dict[str, float]) -> None:
        side.losses.append(entry["contrastive_loss"])
        side.accuracies.append(entry["contrastive_accuracy"])
        side.chances.append(entry["chance"])

    hooks = Hooks(on_update=lambda _: marks.append(clock()), on_log=keep)
    train(model, PretrainStep(model, batches, settings, workers), told, None, hooks, accelerator)
    side.seconds, side.waiting = list(np.diff(marks)), batches.wait_share
    return side


def peer(settings: PretrainSettings, data: Waves, precision: str, steps: int) -> Side:
    """The loop of transformers' example."""
    import torch
    from transformers import get_scheduler

    from core.training.precision import make_accelerator

    accelerator = make_accelerator(settings.device, precision)
    model = peer_model(settings)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8)
    model, optimiser = accelerator.prepare(model, optimiser)
    schedule = get_scheduler("linear", optimiser, settings.warmup_steps, settings.max_steps)
    random, marks, side = np.random.default_rng(settings.seed), [], Side([], [])
    np.random.seed(settings.seed)  # noqa: NPY002 (transformers' functions draw from it)
    model.train()
    for step in range(steps):
        batch = peer_batch(settings, data, random, accelerator.device)
        n_losses = batch["mask_time_indices"].sum()
        outputs = model(**batch)
        accelerator.backward(outputs.loss)
        for one in model.parameters():
            if one.grad is not None:
                one.grad.data.mul_(1 / n_losses)
        sum(one.grad.detach().norm(2).item() ** 2 for one in model.parameters() if one.grad is not None)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        model.set_gumbel_temperature(max(2.0 * settings.gumbel_temperature_decay ** (step + 1), 0.5))
        side.losses.append(float(outputs.contrastive_loss.detach() / n_losses))
        marks.append(clock())
    side.seconds = list(np.diff(marks))
    return side


def peer_model(settings: PretrainSettings) -> Any:
    """Transformers' model for pre-training, its first convolution over all channels."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    from core.models.meg2vec import MultiChannelFeatures
    from core.training.meg_pretraining import model_config

    torch.manual_seed(settings.seed)
    config = model_config(settings, RATE)
    own = Wav2Vec2Config().to_dict().keys()
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**{k: v for k, v in config.to_dict().items() if k in own}))
    model.wav2vec2.feature_extractor = MultiChannelFeatures(config)
    return model


def peer_batch(settings: PretrainSettings, data: Waves, random: np.random.Generator, device: Any) -> dict[str, Any]:
    """What the example's collator makes."""
    import torch
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    from core.training.presets import window_frames, window_samples

    n_times, shape = window_samples(settings, RATE), (settings.batch_size, window_frames(settings, RATE))
    starts = random.integers(data.values.shape[1] - n_times, size=settings.batch_size)
    values = torch.from_numpy(np.stack([data.values[:, start : start + n_times] for start in starts]))
    mask = _compute_mask_indices(shape, PEER_MASK, settings.mask_time_length)
    negatives = _sample_negative_indices(shape, settings.num_negatives, mask_time_indices=mask)
    return {
        "input_values": values.to(device),
        "mask_time_indices": torch.tensor(mask, dtype=torch.long, device=device),
        "sampled_negative_indices": torch.tensor(negatives, dtype=torch.long, device=device),
    }


# ---------------------------------------------------------------------------------------------------------- throughput


def throughput(settings: PretrainSettings, steps: int, rounds: int) -> Iterator[Row]:
    """Updates a second of the same batch, and the share of the time spent on waiting for data."""
    from core.device import cpu_has_bf16

    data = Waves.made(settings.in_channels)
    sides = {"fp32": (ours, "fp32"), "bf16": (ours, "bf16"), "peer": (peer, "fp32")}
    found: dict[str, list[Side]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (side, precision) in sides.items():
            found[name].append(side(settings, data, precision, steps))
    pace = {name: 1 / median(one for side in held for one in side.seconds) for name, held in found.items()}
    what = f"{settings.name}, batch {settings.batch_size}, {rounds} x {steps} steps"
    for name in ("fp32", "bf16"):
        told = f"{pace[name]:.2f} / {pace['peer']:.2f} updates a second = {pace[name] / pace['peer']:.2f}x"
        yield Row(f"{what}, {name}, against transformers' example in fp32", told, ">= 1.5x")
    yield Row("bf16 in hardware on this processor", str(cpu_has_bf16()), "-")
    waiting = max(side.waiting for name in ("fp32", "bf16") for side in found[name])
    yield Row("share of the time spent on waiting for data (largest)", f"{waiting:.1%}", "< 5 %")


def curves(settings: PretrainSettings, steps: int, rounds: int) -> Iterator[Row]:
    """Whether bf16 learns as fp32 does: the mean loss of the last fifth of the steps, beside that of some seeds."""
    data = Waves.made(settings.in_channels)
    tail = max(1, steps // 5)

    def end(precision: str, seed: int) -> float:
        quick = replace(settings, seed=seed, max_steps=steps, warmup_steps=steps // 10)
        return float(np.mean(ours(quick, data, precision, steps).losses[-tail:]))

    fp32 = [end("fp32", seed) for seed in range(rounds)]
    bf16 = end("bf16", 0)
    told = f"bf16 {bf16:.3f}; fp32 {min(fp32):.3f} to {max(fp32):.3f} over {rounds} seeds"
    yield Row(f"{settings.name}, contrastive loss after {steps} steps", told, "within the seeds' spread")


# ------------------------------------------------------------------------------------------------------------ learning

FEW = ("in_channels=16", "num_hidden_layers=2", "num_negatives=20", "batch_size=8", "precision=fp32")
"""The acceptance test's settings beside 250 steps: sixteen channels, two layers, K = 20."""
LAST = 50
"""Steps at the end whose accuracy counts."""


def noise(settings: PretrainSettings, steps: int, rounds: int) -> Iterator[Row]:
    """Sixteen channels of white noise, which no model can predict, and of simulated MEG, with the same settings."""
    from core.training.presets import window_frames, with_overrides

    few = with_overrides(settings, [*FEW, f"max_steps={steps}", f"warmup_steps={steps // 5}"])
    white = np.random.default_rng(0).standard_normal((16, 400 * RATE)).astype(np.float32)
    for name, data in (("white noise", Waves(white, "white")), ("simulated MEG", simulated(16))):
        for seed in range(rounds):
            side = ours(replace(few, seed=seed), data, "fp32", steps)
            found, chance = float(np.mean(side.accuracies[-LAST:])), float(np.mean(side.chances[-LAST:]))
            n = LAST * few.batch_size * round(0.49 * window_frames(few, RATE))
            spread = 1.96 * float(np.sqrt(chance * (1 - chance) / n))
            told = f"{found:.4f} (chance {chance:.4f} +- {spread:.4f}, n = {n})"
            yield Row(f"{name}, 16 channels, {steps} steps, K = 20, seed {seed}: contrastive accuracy", told, "-")


def simulated(n_channels: int) -> Waves:
    """Channels of six simulated recordings of four minutes, evenly spread over the helmet."""
    from core.synthetic.meg import SimulationSettings, simulate_raw

    parts = []
    for seed in range(6):
        raw = simulate_raw(SimulationSettings(seconds=240, seed=seed, subject=seed % 4))
        raw.pick(np.linspace(0, 305, n_channels).astype(int), verbose="ERROR").filter(1, 40, verbose="ERROR")
        parts.append(raw.get_data() / raw.get_data().std(axis=1, keepdims=True))
    return Waves(np.concatenate(parts, axis=1).astype(np.float32), "simulated")


def learning(settings: PretrainSettings, steps: int, rounds: int) -> Iterator[Row]:
    """The whole way on simulated MEG: eight heads to train on, ten other heads to probe, controls beside."""
    import tempfile

    from core import tasks

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [_recording(folder, "train", subject, seed, 150) for subject in range(8) for seed in range(2)]
        probed = [_recording(folder, "probe", subject, 9, 120) for subject in range(20, 30)]
        tasks.prepare_meg(tasks.PrepareRequest(tuple(train), folder / "data", split_ratio=0.88))
        for seed in range(rounds):
            told = replace(settings, numpy_data_dir=str(folder / "data"), seed=seed)
            began = time.perf_counter()
            result = tasks.pretrain_meg(tasks.PretrainRequest(told, folder / f"run{seed}"))
            minutes = (time.perf_counter() - began) / 60
            what = f"{told.name}, seed {seed}, {result.step} steps"
            yield Row(f"{what}: minutes", f"{minutes:.1f}", "<= 20")
            scores = {key: round(result.metrics[key], 3) for key in ("contrastive_accuracy", "chance", "perplexity")}
            yield Row(f"{what}: held out", str(scores), "above chance, > 50")
            request = tasks.ProbeRequest(str(folder / f"run{seed}" / "last"), tuple(probed))
            found = tasks.probe_meg(request)
            for score in found.scores:
                low, high = score.interval
                said = f"{score.score:.3f} [{low:.3f}, {high:.3f}] (n = {sum(found.counts.values())})"
                yield Row(
                    f"{what}: balanced accuracy of four labels, {score.name}", said, "model 10 points above random"
                )


def _recording(folder: Path, part: str, subject: int, seed: int, seconds: float) -> Path:
    """Simulate one into a folder of its part."""
    from core import tasks

    (folder / part).mkdir(exist_ok=True)
    path = folder / part / f"sub-{subject:02d}_ses-{seed}_meg.fif"
    tasks.simulate_meg(tasks.SimulateRequest(path, seconds, 100 * subject + seed, subject))
    return path


def main() -> None:
    """Run the parts that were asked for and print one table."""
    from core.training.presets import resolve, with_overrides

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="throughput")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], help="key=value, as in pretrain")
    parser.add_argument("--steps", type=int, default=8, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; seeds of the curves")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    settings = with_overrides(resolve(args.preset), args.set)
    parts = {"throughput": throughput, "curves": curves, "noise": noise, "learning": learning}
    print_table(
        (row for name in args.parts.split(",") for row in parts[name](settings, args.steps, args.rounds)), args.json
    )


if __name__ == "__main__":
    main()
