"""Training of Wav2Vec2_2D on recording sites: its model, its grids, and what is watched while it learns."""

from typing import TYPE_CHECKING

import torch

from core.errors import InputError
from core.models.grid_masking import BlockRule
from core.models.wav2vec2_2d import Wav2Vec2_2DConfig, Wav2Vec2_2DForPreTraining, token_grid
from core.training.pretraining import Outcome, Place, Pretraining, Watch, run_pretraining
from core.training.site_card import SitesTrained
from core.training.site_settings import SiteSettings
from core.training.site_watch import SiteWatch
from core.training.site_windows import Dealer, GridReader, TrainingGrids, held_out_grids

if TYPE_CHECKING:
    from accelerate import Accelerator

    from core.sites.site_data import SiteData

_MODEL_SETTINGS = (
    *("grid_height", "grid_width", "sites_per_grid", "conv_dim", "conv_kernel", "conv_stride", "hidden_size"),
    *("num_hidden_layers", "num_attention_heads", "intermediate_size", "num_codevector_groups"),
    *("num_codevectors_per_group", "codevector_dim", "proj_codevector_dim", "contrastive_logits_temperature"),
    *("num_negatives", "diversity_loss_weight", "use_spatial_embedding", "spatial_embed_dim", "spatial_embed_dropout"),
    *("spatial_init_std",),
)
"""Of a run that have the same name in the model's config."""

SPATIAL = "wav2vec2_2d.spatial_embedding."
"""How the names of the spatial embedding's weights begin."""


def model_config(settings: SiteSettings, n_sites: int) -> Wav2Vec2_2DConfig:
    """The model of a run on data of so many sites.

    Raises:
        InputError: The settings' table has fewer rows than the data have sites, or the sizes do not fit each other.
    """
    rows = settings.num_recording_sites or n_sites
    if rows < n_sites:
        raise InputError(
            f"The data have {n_sites} sites, but num_recording_sites is {rows}. Use --set num_recording_sites={n_sites}"
            ", or 0 for as many as there are."
        )
    dropouts = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
    return Wav2Vec2_2DConfig(
        num_recording_sites=rows,
        # What is quantised is left whole: it is the target, and the code mass of a batch can be counted beforehand.
        feat_quantizer_dropout=0.0,
        **{name: getattr(settings, name) for name in _MODEL_SETTINGS},
        **dict.fromkeys(dropouts, settings.dropout),
    )


def make_model(settings: SiteSettings, n_sites: int) -> Wav2Vec2_2DForPreTraining:
    """A model with weights drawn from the seed; the generator of the caller is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Wav2Vec2_2DForPreTraining(model_config(settings, n_sites))


def mask_rule(settings: SiteSettings, config: Wav2Vec2_2DConfig) -> BlockRule:
    """How grids are masked.

    Raises:
        InputError: The blocks do not fit the grid of tokens.
    """
    return BlockRule(
        grid=token_grid(config),
        fraction=settings.mask_prob,
        rows=settings.mask_rows,
        columns=settings.mask_columns,
        negatives=settings.num_negatives,
    )


def training_grids(settings: SiteSettings, data: "SiteData") -> TrainingGrids:
    """The grids that a run is trained on.

    Raises:
        InputError: No stretch is as long as a grid, or holds as many sites.
    """
    dealer = Dealer(data.stretches("train"), settings.grid_width, settings.sites_per_grid)
    return TrainingGrids(dealer, settings.seed)


def plan_sites(settings: SiteSettings, data: "SiteData", place: Place) -> Pretraining:
    """All that a run needs.

    Raises:
        InputError: Settings and data do not fit each other.
    """
    names = data.site_input.sites.names
    model = make_model(settings, len(names))
    rule, told = mask_rule(settings, model.config), settings.use_spatial_embedding
    grids = training_grids(settings, data)
    size = (settings.grid_width, settings.sites_per_grid)
    held_out = held_out_grids(data.stretches("eval"), *size, settings.eval_windows, settings.seed)
    return Pretraining(
        settings=settings,
        model=model,
        train=GridReader(data, "train", grids, rule, with_sites=told),
        held_out=GridReader(data, "eval", held_out, rule, with_sites=told),
        n_held_out=len(held_out),
        trained=SitesTrained.of(settings, data, grids, model),
        own_rates={SPATIAL: settings.spatial_learning_rate} if told else {},
        groups=len(names),
        on_groups=SiteWatch(place.run, names),
    )


def pretrain_sites(
    settings: SiteSettings, data: "SiteData", place: Place, accelerator: "Accelerator", watch: Watch | None = None
) -> Outcome:
    """Train until it is done or a stop is asked for; go on where ``place.run`` holds a state.

    Raises:
        InputError: Settings and data do not fit each other, or the run was begun with other settings.
        OutputError: The disk is full; the last checkpoint is as it was.
    """
    return run_pretraining(plan_sites(settings, data, place), place, accelerator, watch)
