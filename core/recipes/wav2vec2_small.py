"""The bundled speech encoder: a 4.8 M parameter wav2vec 2.0 distilled from the encoder of Whisper tiny.en.

One command does it all, and continues where it was when it is given again::

    python -m core.recipes.wav2vec2_small --data DATA --work WORK --output checkpoints

``DATA`` holds the archives ``emodb_2s``, ``librispeech_train_opus``, ``librivox_opus`` and ``whisper_tiny_en_encoder``
(as .tar or unpacked); for the evaluation also ``ravdess`` and ``librispeech_test_other``. A file ``WORK/stop`` or
SIGTERM ends the run after the current update with everything saved. ``--updates`` may be changed until the learning
rate decays.
"""

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from core.checkpoints.load import load_model
from core.embed.encoders import build_encoder
from core.recipes import speech_data, speech_recipe
from core.recipes.wav2vec2_small_card import CARD
from core.training import distill, loop, runs
from core.training.teachers import EncoderTeacher

NAME = "wav2vec2-small-whisper"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe(speech_recipe.Speech):
    """Everything that decides what comes out."""

    corpus_weights: dict[str, float] = field(default_factory=lambda: {"emodb": 6.0, "librispeech": 2.0}, kw_only=True)
    speeds: tuple[float, ...] = field(default=(1.0,), kw_only=True)
    loop: loop.LoopSettings
    crops: distill.CropSettings = field(default_factory=distill.CropSettings)
    teacher_layers: tuple[int, ...] = (2, 3, 4)
    student_layers: tuple[int, ...] = (4, 5, 6)


def student_config() -> Wav2Vec2Config:
    """The size of all bundled speech encoders."""
    return Wav2Vec2Config(**speech_recipe.ENCODER)


def load_teacher(data: Path, work: Path, recipe: Recipe) -> EncoderTeacher:
    """The encoder of Whisper tiny.en (Radford et al. 2022, MIT)."""
    folder = speech_data.find_archive(data, work, "whisper_tiny_en_encoder")
    encoder = build_encoder(load_model(folder, "whisper-tiny.en", from_user=False))
    return EncoderTeacher(encoder, recipe.teacher_layers)


def make_student(recipe: Recipe, target_dim: int) -> distill.Student:
    """Random weights from the recipe's seed."""
    torch.manual_seed(recipe.loop.seed)
    return distill.Student(Wav2Vec2Model(student_config()), recipe.student_layers, target_dim)


def validation_batches(
    material: speech_recipe.Material, targets: distill.Targets, recipe: Recipe
) -> list[distill.Batch]:
    """Eight fixed clean batches of 32 s from the held-out speakers."""
    clean = speech_recipe.clean_crops(recipe.crops.seed + 1)
    sampler = distill.CropSampler(material.corpus, material.held, targets, clean, recipe.corpus_weights)
    return [sampler.batch(index) for index in range(8)]


def run(data: Path, work: Path, output: Path, recipe: Recipe) -> bool:
    """Prepare, train and export; return whether all updates are done."""
    material = speech_recipe.open_material(data, work, recipe)
    targets = distill.build_targets(material.corpus, load_teacher(data, work, recipe), work / "targets")
    sampler = distill.CropSampler(material.corpus, material.train, targets, recipe.crops, recipe.corpus_weights)
    held = validation_batches(material, targets, recipe)
    student = make_student(recipe, targets.states.shape[-1])

    def bundle(model: distill.Student, progress: loop.Progress) -> speech_recipe.Bundle:
        facts = training_facts(material, recipe, progress)
        return speech_recipe.Bundle(output / NAME, model.encoder, facts, CARD)

    with runs.stop_requests(work / "stop") as should_stop:
        hooks = loop.Hooks(
            validate=lambda model: distill.validation_scores(model, held),
            on_checkpoint=lambda model, progress: bundle(model, progress).write(),
            should_stop=should_stop,
        )
        progress, done = loop.train(student, distill.distillation_step(sampler), recipe.loop, work / "run", hooks)
    log.info("%d of %d updates", progress.update, recipe.loop.updates)
    if done:
        bundle(student, progress).write_measured(data, work)
    return done


def training_facts(material: speech_recipe.Material, recipe: Recipe, progress: loop.Progress) -> dict[str, Any]:
    """The facts of the run, for training.json."""
    return speech_recipe.training_facts(material, progress) | {
        "recipe": "python -m core.recipes.wav2vec2_small",
        "settings": asdict(recipe),
        "seed": recipe.loop.seed,
        "updates_planned": recipe.loop.updates,
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    given = speech_recipe.read_options(speech_recipe.options(__doc__, updates=1500), arguments)
    run(given.data, given.work, given.output, Recipe(loop=loop.LoopSettings(updates=given.updates)))


if __name__ == "__main__":
    main()
