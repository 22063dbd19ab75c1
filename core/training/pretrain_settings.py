"""All that decides a pre-training run, flat as in the document's YAML files and under its names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RunKey = tuple[str, str, str, str]
"""Subject, session, task and run of a LibriBrain recording."""


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of a pre-training run. Counts of time steps, spans and masks are in frames unless they say otherwise.

    Attributes:
        name: Of the preset; the checkpoint's name begins with it.
        use_libribrain: Train on LibriBrain through pnpl instead of a prepared folder.
        data_dir: Where LibriBrain's files are.
        numpy_data_dir: A folder that ``prepare`` made.
        libribrain_include_run_keys_train: Recordings to train on; pinned, so that two runs see the same.
        libribrain_include_run_keys_eval: Recordings to evaluate on.
        libribrain_standardize: Z-score by the training recordings' statistics.
        libribrain_download: Fetch what is missing; else a missing recording is refused.
        window_seconds: Length of a training window; its frames are printed at the start.
        in_channels: Channels of the model; has to be what the data have.
        sensor_input: ``channels`` for a fixed order of sensors, ``positions`` for attention over sensors by position,
            orientation and kind.
        conv_dim, conv_kernel, conv_stride: The convolution stack, first layer first.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Of the transformer.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: Of the positional convolution.
        dropout: Of hidden states, attention, features and projections.
        num_codevector_groups, num_codevectors_per_group, codevector_dim: Of the quantiser.
        proj_codevector_dim: In which context and codes are compared.
        contrastive_logits_temperature, num_negatives, diversity_loss_weight: Of the loss.
        mask_time_prob: Each frame's chance to start a span (the paper's .065: 49 % of the frames are masked).
        mask_time_length: Frames of a span.
        gumbel_temperature, gumbel_temperature_min, gumbel_temperature_decay: ``max(first * decay ** step, min)``.
        batch_size: Windows of one forward pass in one process.
        gradient_accumulation_steps: Forward passes of one step; windows a step = batch_size x steps x processes.
        learning_rate, warmup_steps, weight_decay, max_grad_norm: Of AdamW; after the warm-up it falls to zero linearly.
        max_steps: Optimiser steps; the schedule ends there.
        max_minutes: Wall time after which the run stops with a checkpoint; 0 for no limit.
        log_every, eval_every, checkpoint_every: In steps.
        eval_windows: Held-out windows scored at each evaluation, always the same.
        precision: ``auto`` (bf16 where the device is fast at it), ``fp32``, ``bf16`` or ``fp16``.
        compile: Whether to compile the network (slower to start, faster after).
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        num_workers: Processes that read windows; 0 reads in the training process.
        seed: Of weights, masks, negatives, windows and dropout.
        use_tensorboard, use_wandb: Trackers beside ``metrics.jsonl``.
        wandb_project: Where runs go.
    """

    name: str = "meg2vec"
    # data
    use_libribrain: bool = False
    data_dir: str = "./data"
    numpy_data_dir: str = "data/meg_pretraining"
    libribrain_include_run_keys_train: tuple[RunKey, ...] = ()
    libribrain_include_run_keys_eval: tuple[RunKey, ...] = ()
    libribrain_standardize: bool = True
    libribrain_download: bool = False
    window_seconds: float = 10.0
    # model
    in_channels: int = 306
    sensor_input: str = "channels"
    conv_dim: tuple[int, ...] = (256, 256, 256, 256)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2)
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    num_conv_pos_embeddings: int = 32
    num_conv_pos_embedding_groups: int = 16
    dropout: float = 0.1
    num_codevector_groups: int = 2
    num_codevectors_per_group: int = 320
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    diversity_loss_weight: float = 0.1
    mask_time_prob: float = 0.065
    mask_time_length: int = 10
    gumbel_temperature: float = 2.0
    gumbel_temperature_min: float = 0.5
    gumbel_temperature_decay: float = 0.999995
    # training
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-4
    warmup_steps: int = 32_000
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_steps: int = 400_000
    max_minutes: float = 0.0
    log_every: int = 1
    eval_every: int = 1_000
    checkpoint_every: int = 1_000
    eval_windows: int = 64
    precision: str = "auto"
    compile: bool = False
    device: str = "auto"
    num_workers: int = 2
    seed: int = 0
    use_tensorboard: bool = False
    use_wandb: bool = False
    wandb_project: str = "strata"


@dataclass(frozen=True)
class PretrainResult:
    """What a run left.

    Attributes:
        folder: Of the run: ``metrics.jsonl``, ``state.pt``, ``best/`` and ``last/`` (checkpoint folders).
        step: Optimiser steps done.
        done: Whether it is at its end (else it goes on with ``--resume``).
        metrics: The last evaluation.
        alarms: What went wrong on the way: collapse, few codes in use.
    """

    folder: str
    step: int
    done: bool
    metrics: Mapping[str, float]
    alarms: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
