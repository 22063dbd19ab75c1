"""What decides a contrastive pre-training, whichever model it is of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ContrastiveSettings:
    """Settings that every pre-training has, under the documents' names; a model's own settings add to them.

    Attributes:
        name: Of the preset; the checkpoint's name begins with it.
        conv_dim, conv_kernel, conv_stride: The convolution stack, first layer first.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Of the transformer.
        dropout: Of hidden states, attention, features and projections.
        num_codevector_groups, num_codevectors_per_group, codevector_dim: Of the quantiser.
        proj_codevector_dim: In which context and codes are compared.
        contrastive_logits_temperature, num_negatives, diversity_loss_weight: Of the loss.
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

    name: str = "wav2vec2"
    # model
    conv_dim: tuple[int, ...] = (256, 256, 256, 256)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2)
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    dropout: float = 0.1
    num_codevector_groups: int = 2
    num_codevectors_per_group: int = 320
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    # loss
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    diversity_loss_weight: float = 0.1
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
