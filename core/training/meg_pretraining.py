"""Pre-training of Meg2Vec: its model, its windows, and what its checkpoints say."""

import logging
from typing import TYPE_CHECKING

import torch

from core.models.masking import MaskRule
from core.models.meg2vec import Meg2VecConfig, Meg2VecForPreTraining
from core.training.meg_card import Meg2VecTrained
from core.training.meg_windows import TrainingWindows, WindowReader, WindowShape, held_out_windows
from core.training.presets import window_frames, window_samples
from core.training.pretrain_settings import PretrainSettings
from core.training.pretraining import Outcome, Place, Pretraining, Watch, run_pretraining

if TYPE_CHECKING:
    from accelerate import Accelerator

    from core.meg.window_data import WindowData

log = logging.getLogger(__name__)

_MODEL_SETTINGS = (
    *("in_channels", "sensor_input", "conv_dim", "conv_kernel", "conv_stride", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "intermediate_size", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
    *("num_codevector_groups", "num_codevectors_per_group", "codevector_dim", "proj_codevector_dim"),
    *("contrastive_logits_temperature", "num_negatives", "diversity_loss_weight", "mask_time_prob", "mask_time_length"),
)
"""Of a run that have the same name in the model's config."""


def model_config(settings: PretrainSettings, sampling_rate: int) -> Meg2VecConfig:
    """The model of a run on data of a rate in Hz."""
    dropouts = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
    return Meg2VecConfig(
        sampling_rate=sampling_rate,
        # What is quantised is left whole: it is the target, and the code mass of a batch can be counted beforehand.
        feat_quantizer_dropout=0.0,
        **{name: getattr(settings, name) for name in _MODEL_SETTINGS},
        **dict.fromkeys(dropouts, settings.dropout),
    )


def make_model(settings: PretrainSettings, sampling_rate: int) -> Meg2VecForPreTraining:
    """A model with weights drawn from the seed; the generator of the caller is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Meg2VecForPreTraining(model_config(settings, sampling_rate))


def window_shape(settings: PretrainSettings, sampling_rate: int) -> WindowShape:
    """Of every window of a run.

    Raises:
        InputError: The window is too short for a mask; the message says how long it must be.
    """
    return WindowShape(
        n_times=window_samples(settings, sampling_rate),
        n_frames=window_frames(settings, sampling_rate),
        rule=MaskRule(settings.mask_time_prob, settings.mask_time_length, settings.num_negatives),
        with_sensors=settings.sensor_input == "positions",
    )


def training_reader(settings: PretrainSettings, data: "WindowData") -> WindowReader:
    """Of the training windows.

    Raises:
        InputError: No segment is as long as a window.
    """
    shape = window_shape(settings, data.model_input.preparation.sampling_rate)
    windows = TrainingWindows([one.n_times for one in data.segments("train")], shape.n_times, settings.seed)
    if windows.left_out:
        log.warning("%d training segments are shorter than a window and are left out.", windows.left_out)
    return WindowReader(data, "train", windows, shape)


def plan_meg2vec(settings: PretrainSettings, data: "WindowData") -> Pretraining:
    """All that a run needs.

    Raises:
        InputError: The window does not fit the mask or the data.
    """
    rate = data.model_input.preparation.sampling_rate
    shape = window_shape(settings, rate)
    held_out = held_out_windows(data.segments("eval"), shape.n_times, settings.eval_windows, settings.seed)
    return Pretraining(
        settings=settings,
        model=make_model(settings, rate),
        train=training_reader(settings, data),
        held_out=WindowReader(data, "eval", held_out, shape),
        n_held_out=len(held_out),
        trained=Meg2VecTrained(settings, data),
    )


def pretrain(
    settings: PretrainSettings, data: "WindowData", place: Place, accelerator: "Accelerator", watch: Watch | None = None
) -> Outcome:
    """Pre-train until it is done or a stop is asked for; go on where ``place.run`` holds a state.

    Raises:
        InputError: The window does not fit the mask or the data, or the run was begun with other settings.
        OutputError: The disk is full; the last checkpoint is as it was.
    """
    return run_pretraining(plan_meg2vec(settings, data), place, accelerator, watch)
