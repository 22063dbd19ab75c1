"""The bundled HuBERT: masked prediction of k-means units (Hsu et al. 2021) at 4.8 M parameters, in two iterations.

One command does both, and continues where it was when it is given again::

    python -m core.recipes.hubert_small --data DATA --work WORK --output checkpoints

The units of the first iteration are clusters of MFCC; those of the second are clusters of what the first model makes
of the speech in its middle. ``DATA`` is as for :mod:`core.recipes.wav2vec2_small` (without the teacher), and
``WORK/corpus`` may be the one that it made. A file ``WORK/stop`` or SIGTERM ends the run after the current update with
everything saved (while units are being named, after that). The updates of an iteration may be changed until its
learning rate decays.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import HubertConfig, HubertModel

from core.recipes import speech_recipe
from core.recipes.hubert_small_card import CARD
from core.training import distill, loop, runs
from core.training.corpus import as_recorded
from core.training.masked_units import UnitMask, UnitPredictor, unit_step, unit_validation
from core.training.units import FrameFeatures, UnitSettings, build_units, encoder_states, fingerprint, mfcc

NAME = "hubert-small-units"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Iteration:
    """One training on one set of units."""

    loop: loop.LoopSettings
    units: UnitSettings


@dataclass(frozen=True)
class Recipe(speech_recipe.Speech):
    """Everything that decides what comes out.

    Attributes:
        iterations: One after the other.
        crops: Clean, unlike those of the distilled encoder.
        mask: What is to be predicted.
        unit_layer: State that the next iteration's units are clusters of; half of the blocks, as in the paper.
    """

    iterations: tuple[Iteration, ...]
    crops: distill.CropSettings = field(default_factory=lambda: speech_recipe.clean_crops(seconds_per_batch=48.0))
    mask: UnitMask = field(default_factory=UnitMask)
    unit_layer: int = 3


def default_recipe(first_updates: int, updates: int) -> Recipe:
    """A hundred units of MFCC, then two hundred of states."""
    counts = ((first_updates, 100), (updates, 200))
    return Recipe(tuple(Iteration(loop.LoopSettings(updates=n), UnitSettings(units)) for n, units in counts))


def make_model(recipe: Recipe, iteration: Iteration) -> UnitPredictor:
    """Random weights from the iteration's seed."""
    torch.manual_seed(iteration.loop.seed)
    masks = {"apply_spec_augment": True, "mask_time_prob": recipe.mask.prob}
    return UnitPredictor(HubertModel(HubertConfig(**speech_recipe.ENCODER | masks)), iteration.units.n_units)


@dataclass(frozen=True)
class Trained:
    """What an iteration came to."""

    model: UnitPredictor
    progress: loop.Progress
    done: bool


def train(
    material: speech_recipe.Material, recipe: Recipe, number: int, features: FrameFeatures, place: "Place"
) -> Trained:
    """Find units and train on them; go on where the folder holds a state."""
    iteration, corpus, folder = recipe.iterations[number], material.corpus, place.work / f"iteration{number + 1}"
    units = build_units(corpus, as_recorded(material.train), features, iteration.units, folder / "units.npz")
    sampler = distill.CropSampler(corpus, material.train, units, recipe.crops, recipe.corpus_weights)
    seeds = replace(recipe.crops, seed=recipe.crops.seed + 1), replace(recipe.mask, seed=recipe.mask.seed + 1)
    held = distill.CropSampler(corpus, material.held, units, seeds[0], recipe.corpus_weights)
    batches = [held.batch(index) for index in range(8)]
    hooks = loop.Hooks(validate=lambda model: unit_validation(model, batches, seeds[1]), should_stop=place.should_stop)
    model, settings = make_model(recipe, iteration), replace(iteration.loop, data=fingerprint(units))
    progress, done = loop.train(model, unit_step(sampler, recipe.mask), settings, folder / "run", hooks)
    log.info("iteration %d: %d of %d updates", number + 1, progress.update, settings.updates)
    return Trained(model, progress, done)


@dataclass(frozen=True)
class Place:
    """Where a run keeps what, and who may end it."""

    work: Path
    should_stop: Callable[[], bool]


def run(data: Path, work: Path, output: Path, recipe: Recipe) -> bool:
    """Prepare, train both iterations and export; return whether all updates are done."""
    material = speech_recipe.open_material(data, work, recipe)
    features: FrameFeatures = mfcc
    trained: list[Trained] = []
    with runs.stop_requests(work / "stop") as should_stop:
        for number in range(len(recipe.iterations)):
            trained.append(train(material, recipe, number, features, Place(work, should_stop)))
            if not trained[-1].done:
                return False
            features = encoder_states(trained[-1].model.encoder, recipe.unit_layer)
    encoder = HubertModel(HubertConfig(**speech_recipe.ENCODER))
    speech_recipe.without_mask(trained[-1].model.encoder, encoder)
    facts = training_facts(material, recipe, trained)
    speech_recipe.Bundle(output / NAME, encoder, facts, CARD).write_measured(data, work)
    return True


def training_facts(material: speech_recipe.Material, recipe: Recipe, trained: list[Trained]) -> dict[str, Any]:
    """The facts of the run, for training.json: the last iteration's, and the earlier ones' history and cost."""
    earlier = [
        {
            "updates": one.progress.update,
            "cpu_seconds": round(one.progress.cpu_seconds),
            "history": one.progress.history,
        }
        for one in trained[:-1]
    ]
    last = recipe.iterations[-1].loop
    return speech_recipe.training_facts(material, trained[-1].progress) | {
        "recipe": "python -m core.recipes.hubert_small",
        "settings": asdict(recipe),
        "seed": last.seed,
        "updates_planned": last.updates,
        "earlier_iterations": earlier,
        "metrics": [_table(number, one) for number, one in enumerate(trained, 1)],
    }


def _table(number: int, trained: Trained) -> dict[str, Any]:
    """What an iteration's training came to, for the card."""
    last = trained.progress.history[-1]
    return {
        "title": f"Masked frames of held-out speakers, iteration {number}",
        "note": f"After {trained.progress.update} updates; guessing names the most frequent unit.",
        "columns": ["measure", "value", "by guessing"],
        "rows": [
            ["accuracy of units", f"{last['accuracy']:.3f}", f"{last['chance']:.3f}"],
            ["cross entropy", f"{last['loss']:.3f}", "-"],
        ],
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = speech_recipe.options(__doc__, updates=3000)
    parser.add_argument("--first-updates", type=int, default=1500, help="of the first iteration")
    given = speech_recipe.read_options(parser, arguments)
    run(given.data, given.work, given.output, default_recipe(given.first_updates, given.updates))


if __name__ == "__main__":
    main()
