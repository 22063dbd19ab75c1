"""Pre-training in processes of its own: ``python -m tests.training.pretrain_worker together|until_told FOLDER``.

``together`` is one of several processes that were started with torch.distributed's variables (RANK, WORLD_SIZE, ...).
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional

from core.models.contrastive import Quantizer
from core.training.meg_pretraining import pretrain
from core.training.precision import make_accelerator
from core.training.pretraining import Place, Watch
from core.training.runs import stop_requests
from core.training.state import read_state
from tests.training.pretrain_fakes import TINY, noise_data

EQUAL = replace(
    TINY, dropout=0.0, batch_size=8, max_steps=5, warmup_steps=1, checkpoint_every=5, eval_every=5,
    diversity_loss_weight=2.0,
)  # fmt: skip
"""One global batch of eight windows, and a diversity loss that matters."""


def without_noise(quantizer, logits):
    """What the quantiser draws where Gumbel's noise is zero: the most probable code, straight through."""
    soft = torch.softmax(logits.float() / quantizer.temperature, dim=-1)
    hard = functional.one_hot(soft.argmax(-1), soft.shape[-1]).float()
    return (hard - soft.detach() + soft).type_as(logits), torch.softmax(logits.float(), dim=-1)


def weights(folder):
    """The float32 weights of the last state."""
    return read_state(folder / "state.pt")["model"]


def together(folder):
    Quantizer._draw = without_noise
    pretrain(replace(EQUAL, batch_size=4), noise_data(), Place(folder, folder), make_accelerator("cpu", "fp32"))


def until_told(folder):
    with stop_requests(folder / "stop") as should_stop:
        watch = Watch(on_progress=lambda progress: (folder / "ready").touch(), should_stop=should_stop)
        settings = replace(TINY, max_steps=10**6, warmup_steps=10**5, checkpoint_every=10**6, eval_every=10**6)
        pretrain(settings, noise_data(), Place(folder, folder), make_accelerator("cpu", "fp32"), watch)


if __name__ == "__main__":
    {"together": together, "until_told": until_told}[sys.argv[1]](Path(sys.argv[2]))
