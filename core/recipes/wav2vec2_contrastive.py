"""The bundled contrastive encoder: wav2vec 2.0's own objective (Baevski et al. 2020) at 4.8 M parameters.

One command does it all, and continues where it was when it is given again::

    python -m core.recipes.wav2vec2_contrastive --data DATA --work WORK --output checkpoints

``DATA`` is as for :mod:`core.recipes.wav2vec2_small` (without the teacher), and ``WORK/corpus`` may be the one that it
made. A file ``WORK/stop`` or SIGTERM ends the run after the current update with everything saved. ``--updates`` may be
changed during the warm-up only: the learning rate falls from then on.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Wav2Vec2Config, Wav2Vec2Model

from core.models.masking import MaskRule, masked_fraction
from core.models.wav2vec2_speech import SpeechForPreTraining
from core.recipes import speech_recipe
from core.recipes.wav2vec2_contrastive_card import CARD
from core.training import corpus as corpora
from core.training import runs
from core.training.batches import EVAL, TRAIN
from core.training.contrastive_settings import ContrastiveSettings
from core.training.distill import STUDENT_CLOCK
from core.training.precision import make_accelerator
from core.training.pretraining import Place, Pretraining, Watch, run_pretraining
from core.training.speech_windows import CropPlan, CropReader

NAME = "wav2vec2-small-contrastive"
COMMAND = "python -m core.recipes.wav2vec2_contrastive"
log = logging.getLogger(__name__)


def settings(updates: int) -> ContrastiveSettings:
    """The paper's loss and codebook (its base model's), and a schedule for a few thousand updates of 48 s.

    The Gumbel temperature reaches the paper's minimum of .5 at the end.
    """
    return ContrastiveSettings(
        name=NAME,
        conv_dim=speech_recipe.ENCODER["conv_dim"],
        conv_kernel=speech_recipe.ENCODER["conv_kernel"],
        conv_stride=speech_recipe.ENCODER["conv_stride"],
        hidden_size=speech_recipe.ENCODER["hidden_size"],
        num_hidden_layers=speech_recipe.ENCODER["num_hidden_layers"],
        num_attention_heads=speech_recipe.ENCODER["num_attention_heads"],
        intermediate_size=speech_recipe.ENCODER["intermediate_size"],
        dropout=0.0,
        gumbel_temperature_decay=0.25 ** (1 / updates),
        batch_size=8,
        learning_rate=1e-3,
        warmup_steps=min(300, max(1, updates // 4)),
        max_steps=updates,
        log_every=20,
        eval_every=200,
        checkpoint_every=200,
        eval_windows=32,
        precision="bf16",
        device="cpu",
        num_workers=0,
    )


@dataclass(frozen=True)
class Recipe(speech_recipe.Speech):
    """Everything that decides what comes out."""

    settings: ContrastiveSettings
    crop_seconds: float = 6.0
    mask: MaskRule = field(default_factory=MaskRule)

    @property
    def n_frames(self) -> int:
        """Of each crop."""
        return STUDENT_CLOCK.frames_in(self.crop_seconds) - 1


def make_model(recipe: Recipe) -> SpeechForPreTraining:
    """Random weights from the recipe's seed."""
    own = recipe.settings
    config = Wav2Vec2Config(
        **speech_recipe.ENCODER | {"apply_spec_augment": True, "mask_time_prob": recipe.mask.prob},
        num_codevector_groups=own.num_codevector_groups,
        num_codevectors_per_group=own.num_codevectors_per_group,
        codevector_dim=own.codevector_dim,
        proj_codevector_dim=own.proj_codevector_dim,
        num_negatives=own.num_negatives,
        contrastive_logits_temperature=own.contrastive_logits_temperature,
        diversity_loss_weight=own.diversity_loss_weight,
        feat_quantizer_dropout=0.0,
    )
    torch.manual_seed(own.seed)
    return SpeechForPreTraining(config)


@dataclass(frozen=True)
class SpeechTrained:
    """What checkpoints say of a run: a :class:`core.training.pretrain_checkpoints.Trained`."""

    material: speech_recipe.Material
    recipe_of: Recipe
    recipe: str = COMMAND
    simulated: bool = False

    @property
    def fingerprint(self) -> str:
        """Of the audio files."""
        return self.material.corpus.fingerprint

    @property
    def window(self) -> str:
        """What the model sees at once."""
        rule, frames = self.recipe_of.mask, self.recipe_of.n_frames
        share = masked_fraction(rule.prob, rule.length)
        return f"Crops of {self.recipe_of.crop_seconds:g} s = {frames} frames; about {share:.0%} are masked."

    def data(self) -> dict[str, Any]:
        """The corpora."""
        return self.material.data()

    def split(self) -> dict[str, Any]:
        """The held-out voices."""
        return self.material.split()

    def preparation(self) -> dict[str, Any]:
        """Content of ``preprocessor_config.json``."""
        return speech_recipe.feature_extractor().to_dict()

    def card(self, folder: str) -> Mapping[str, Any]:
        """That of the encoder that ships."""
        return CARD

    def files(self, n_windows: int) -> Mapping[str, Callable[[Path], None]]:
        """None."""
        return {}


def reader(material: speech_recipe.Material, recipe: Recipe, part: int) -> CropReader:
    """Crops that train, or crops of the held-out voices."""
    clips = material.train if part == TRAIN else material.held
    plan = CropPlan(recipe.n_frames, recipe.mask, recipe.settings.seed, part)
    return CropReader(material.corpus, corpora.joined(clips), plan, recipe.corpus_weights)


def plan(material: speech_recipe.Material, recipe: Recipe) -> Pretraining:
    """All that a run needs."""
    return Pretraining(
        settings=recipe.settings,
        model=make_model(recipe),
        train=reader(material, recipe, TRAIN),
        held_out=reader(material, recipe, EVAL),
        n_held_out=recipe.settings.eval_windows,
        trained=SpeechTrained(material, recipe),
    )


def run(data: Path, work: Path, output: Path, recipe: Recipe) -> bool:
    """Prepare, train and export; return whether all updates are done."""
    material = speech_recipe.open_material(data, work, recipe)
    own = recipe.settings
    planned = plan(material, recipe)
    accelerator = make_accelerator(own.device, own.precision)
    with runs.stop_requests(work / "stop") as should_stop:
        place = Place(work / "run", work / "run")
        outcome = run_pretraining(planned, place, accelerator, Watch(should_stop=should_stop))
    log.info("%d of %d updates", outcome.progress.update, own.max_steps)
    if outcome.done:
        encoder = plain_encoder(planned.model)
        facts = {key: value for key, value in outcome.facts.items() if key != "name"}
        facts |= speech_recipe.training_facts(material, outcome.progress) | {"settings": asdict(recipe)}
        speech_recipe.Bundle(output / NAME, encoder, facts, CARD).write_measured(data, work)
    return outcome.done


def plain_encoder(model: SpeechForPreTraining) -> PreTrainedModel:
    """What ships: transformers' own class, without quantiser and mask."""
    plain = Wav2Vec2Model(Wav2Vec2Config(**speech_recipe.ENCODER))
    return speech_recipe.without_mask(model.wav2vec2, plain)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    given = speech_recipe.read_options(speech_recipe.options(__doc__, updates=6000), arguments)
    run(given.data, given.work, given.output, Recipe(settings=settings(given.updates)))


if __name__ == "__main__":
    main()
