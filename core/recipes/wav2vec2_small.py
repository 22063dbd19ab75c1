"""The bundled speech encoder: a 4.8 M parameter wav2vec 2.0 distilled from the encoder of Whisper tiny.en.

One command does it all, and continues where it was when it is given again::

    python -m core.recipes.wav2vec2_small --data DATA --work WORK --output checkpoints

``DATA`` holds the archives ``emodb_2s``, ``librispeech_train_opus``, ``librivox_opus`` and ``whisper_tiny_en_encoder``
(as .tar or unpacked); for the evaluation also ``ravdess`` and ``librispeech_test_other``. A file ``WORK/stop`` or
SIGTERM ends the run after the current update with everything saved. ``--updates`` may be changed until the learning
rate decays.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from core.checkpoints.load import load_model
from core.checkpoints.save import save_checkpoint
from core.embed.encoders import build_encoder
from core.recipes import speech_data, speech_evaluation
from core.recipes.wav2vec2_small_card import CARD
from core.training import corpus as corpora
from core.training import distill, loop, runs
from core.training.teachers import EncoderTeacher

NAME = "wav2vec2-small-whisper"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out."""

    loop: loop.LoopSettings
    crops: distill.CropSettings = field(default_factory=distill.CropSettings)
    teacher_layers: tuple[int, ...] = (2, 3, 4)
    student_layers: tuple[int, ...] = (4, 5, 6)
    corpus_weights: dict[str, float] = field(default_factory=lambda: {"emodb": 8.0, "librispeech": 3.0})
    held_out_emodb: tuple[str, ...] = ("12",)
    held_out_librivox: tuple[str, ...] = ("Cocotte", "Sonia")
    held_out_librispeech_every: int = 20


def student_config() -> Wav2Vec2Config:
    """Base style (group norm, post-norm blocks), the standard convolution geometry, 4.77 M parameters.

    Nothing is masked or dropped: the data are noisy enough for a model of this size, and a layer that is dropped in
    training would miss from the hidden states.
    """
    return Wav2Vec2Config(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=768,
        conv_dim=(128,) * 7,
        conv_kernel=distill.CONV_KERNELS,
        conv_stride=distill.CONV_STRIDES,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
        layerdrop=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )


SPEEDS = (1.0, 0.88, 1.14)
"""Of the acted speech, which ten actors spoke: with other heights and lengths of the voice they are more."""


def speech_sources(data: Path, work: Path) -> list[corpora.Source]:
    """The three corpora that may train weights that ship."""
    acted = speech_data.emodb_sources(speech_data.find_archive(data, work, "emodb_2s"))
    return [
        *(replace(source, speed=speed) for speed in SPEEDS for source in acted),
        *speech_data.librispeech_sources(speech_data.find_archive(data, work, "librispeech_train_opus"), "*.opus"),
        *speech_data.librivox_sources(speech_data.find_archive(data, work, "librivox_opus")),
    ]


def held_out_groups(corpus: corpora.Corpus, recipe: Recipe) -> frozenset[tuple[str, str]]:
    """Whole speakers and readers for the validation loss."""
    readers = sorted({clip.group for clip in corpus.clips if clip.corpus == "librispeech"})
    return frozenset(
        [("emodb", group) for group in recipe.held_out_emodb]
        + [("librivox", group) for group in recipe.held_out_librivox]
        + [("librispeech", group) for group in readers[:: recipe.held_out_librispeech_every]]
    )


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
    corpus: corpora.Corpus, clips: tuple[corpora.Clip, ...], targets: distill.Targets, recipe: Recipe
) -> list[distill.Batch]:
    """Eight fixed clean batches of 32 s from the held-out speakers."""
    clean = distill.CropSettings(
        noise_probability=0.0, babble_probability=0.0, tilt_probability=0.0, seed=recipe.crops.seed + 1
    )
    real = [clip for clip in clips if clip.speed == 1.0]
    sampler = distill.CropSampler(corpus, real, targets, clean, recipe.corpus_weights)
    return [sampler.batch(index) for index in range(8)]


def run(data: Path, work: Path, output: Path, recipe: Recipe) -> bool:
    """Prepare, train and export; return whether all updates are done."""
    corpus = corpora.build_corpus(speech_sources(data, work), work / "corpus")
    targets = distill.build_targets(corpus, load_teacher(data, work, recipe), work / "targets")
    train_clips, held_clips = corpora.split_groups(corpus, held_out_groups(corpus, recipe))
    log.info("%d clips, %.2f h; %d held out", len(corpus.clips), corpus.hours(), len(held_clips))
    sampler = distill.CropSampler(corpus, train_clips, targets, recipe.crops, recipe.corpus_weights)
    held = validation_batches(corpus, held_clips, targets, recipe)
    student = make_student(recipe, targets.states.shape[-1])

    def export(model: distill.Student, progress: loop.Progress, metrics: Sequence[dict[str, Any]] = ()) -> None:
        facts = training_facts(corpus, held_out_groups(corpus, recipe), recipe, model, progress)
        save_checkpoint(output / NAME, model.encoder, facts | {"metrics": list(metrics)}, CARD, feature_extractor())

    with runs.stop_requests(work / "stop") as should_stop:
        hooks = loop.Hooks(lambda model: distill.validation_scores(model, held), export, should_stop)
        progress, done = loop.train(student, distill.distillation_step(sampler), recipe.loop, work / "run", hooks)
    log.info("%d of %d updates", progress.update, recipe.loop.updates)
    if done:
        export(student, progress)
        written = Wav2Vec2Model.from_pretrained(output / NAME, dtype=torch.float32)  # what ships is what is measured
        features = speech_evaluation.standard_features(written, NAME)
        export(student, progress, speech_evaluation.evaluate(features, data, work))
    return done


def feature_extractor() -> Wav2Vec2FeatureExtractor:
    """How audio is prepared: 16 kHz, zero mean and unit variance over the recording."""
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=corpora.SAMPLING_RATE, padding_value=0.0, do_normalize=True,
        return_attention_mask=False,
    )  # fmt: skip


def training_facts(
    corpus: corpora.Corpus,
    held_out: frozenset[tuple[str, str]],
    recipe: Recipe,
    student: distill.Student,
    progress: loop.Progress,
) -> dict[str, Any]:
    """The facts of the run, for training.json."""
    groups = [f"{name}/{group}" for name, group in sorted(held_out)]
    hours: defaultdict[str, float] = defaultdict(float)
    for clip in corpus.recordings:
        hours[clip.corpus] += clip.n_samples / corpora.SAMPLING_RATE / 3600
    return {
        "recipe": "python -m core.recipes.wav2vec2_small",
        "settings": asdict(recipe),
        "seed": recipe.loop.seed,
        "updates": progress.update,
        "updates_planned": recipe.loop.updates,
        "cpu_seconds": round(progress.cpu_seconds),
        "wall_seconds": round(progress.wall_seconds),
        "device": f"CPU, {torch.get_num_threads()} threads, bfloat16 autocast",
        "parameters": student.encoder.num_parameters(),
        "data": {
            "sha256": corpus.fingerprint,
            "clips": len(corpus.recordings),
            "hours": corpus.hours(),
            "speeds_of_acted_speech": SPEEDS,
            "hours_by_corpus": dict(hours),
        },
        "split": {"held_out": groups, "held_out_text": f"{len(groups)} whole speakers ({', '.join(groups)})"},
        "history": progress.history,
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    run(options.data, options.work, options.output, Recipe(loop=loop.LoopSettings(updates=options.updates)))


if __name__ == "__main__":
    main()
