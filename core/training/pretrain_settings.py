"""All that decides a pre-training run, flat as in the document's YAML files and under its names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.training.contrastive_settings import ContrastiveSettings

RunKey = tuple[str, str, str, str]
"""Subject, session, task and run of a LibriBrain recording."""


@dataclass(frozen=True)
class PretrainSettings(ContrastiveSettings):
    """Settings of a pre-training of Meg2Vec. Counts of time steps, spans and masks are in frames unless said otherwise.

    Attributes:
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
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: Of the positional convolution.
        mask_time_prob: Each frame's chance to start a span (the paper's .065: 49 % of the frames are masked).
        mask_time_length: Frames of a span.
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
    num_conv_pos_embeddings: int = 32
    num_conv_pos_embedding_groups: int = 16
    mask_time_prob: float = 0.065
    mask_time_length: int = 10


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
