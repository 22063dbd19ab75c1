"""Masked prediction of units: the loss against a plain loop, and what must not count."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from core.models.masking import masked_count
from core.training.distill import Batch
from core.training.masked_units import UnitMask, UnitPredictor, unit_scores, unit_step, unit_validation

N_FRAMES = 40


class OneBatch:
    """A sampler that always gives the same."""

    def __init__(self, one):
        self.one = one

    def batch(self, update):
        return self.one


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_kernel=(10, 4), conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, apply_spec_augment=True, mask_time_prob=0.08, layerdrop=0.0,
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
    )  # fmt: skip
    return UnitPredictor(HubertModel(config), n_units=7, dim=12)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    audio = random.standard_normal((3, 20 * (N_FRAMES - 1) + 25)).astype(np.float32)
    return Batch(torch.from_numpy(audio), torch.from_numpy(random.integers(7, size=(3, N_FRAMES)).astype(np.int16)))


def test_the_loss_is_that_of_a_plain_loop(model, batch):
    mask = UnitMask(prob=0.1, length=4)
    hidden = mask.of(5, (3, N_FRAMES))
    scalars = unit_step(OneBatch(batch), mask, precision=torch.float32)(model.eval(), 5)
    with torch.no_grad():
        states = model.encoder(batch.audio, mask_time_indices=hidden).last_hidden_state
        losses, right = [], 0
        for row in range(3):
            for frame in range(N_FRAMES):
                if not hidden[row, frame]:
                    continue
                vector = model.project(states[row, frame])
                cosines = [float(vector @ unit / vector.norm() / unit.norm()) for unit in model.units]
                unit = int(batch.targets[row, frame])
                losses.append(math.log(sum(math.exp(c / 0.1) for c in cosines)) - cosines[unit] / 0.1)
                right += int(np.argmax(cosines)) == unit
    assert float(scalars["loss"].detach()) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(scalars["accuracy"]) == pytest.approx(right / len(losses))


def test_frames_that_are_seen_do_not_count(model, batch):
    mask = UnitMask(prob=0.1, length=4)
    hidden = mask.of(0, (3, N_FRAMES))
    others = torch.where(hidden, batch.targets, (batch.targets + 1) % 7)
    same, changed = (
        unit_step(OneBatch(one), mask, precision=torch.float32)(model.eval(), 0)["loss"]
        for one in (batch, replace(batch, targets=others.to(torch.int16)))
    )
    assert same == changed
    wrong = replace(batch, targets=torch.where(hidden, (batch.targets + 1) % 7, batch.targets))
    assert unit_step(OneBatch(wrong), mask, precision=torch.float32)(model, 0)["loss"] != same


def test_hidden_frames_are_hidden(model):
    """Of one frame that is masked the transformer sees nothing: its features may be anything."""
    given = []
    hook = model.encoder.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(args[0]), with_kwargs=True
    )
    mask = torch.zeros(1, N_FRAMES, dtype=torch.bool)
    mask[0, 10:20] = True
    with torch.no_grad():
        model.eval()(torch.randn(1, 20 * (N_FRAMES - 1) + 25), mask)
    hook.remove()
    torch.testing.assert_close(given[0][0, 10:20], model.encoder.masked_spec_embed.detach().expand(10, -1))
    assert not torch.equal(given[0][0, 9], model.encoder.masked_spec_embed)


def test_masks_depend_on_seed_and_update_alone():
    mask = UnitMask()
    hidden = mask.of(3, (4, 200))
    assert torch.equal(hidden, mask.of(3, (4, 200)))
    assert not torch.equal(hidden, mask.of(4, (4, 200)))
    assert not torch.equal(hidden, UnitMask(seed=1).of(3, (4, 200)))
    assert hidden.sum(dim=1).tolist() == [masked_count(200, 0.08, 10)] * 4
    assert masked_count(200, 0.08, 10) == round(200 * (1 - 0.92**10))


def test_scores_in_closed_form():
    logits = torch.zeros(4, 5)
    assert unit_scores(logits, torch.tensor([0, 1, 2, 3]))["loss"] == pytest.approx(math.log(5))
    logits[0, 0] = logits[1, 2] = 50.0
    scores = unit_scores(logits[:2], torch.tensor([0, 1]))
    assert scores["accuracy"] == 0.5 and scores["loss"] == pytest.approx(25.0)


def test_validation_weighs_frames_alike(model, batch):
    mask = UnitMask(prob=0.1, length=4)
    short = Batch(batch.audio[:1], batch.targets[:1])
    both = unit_validation(model, [batch, short], mask)
    alone = [unit_validation(model, [one], mask) for one in (batch,)]
    hidden = mask.of(1, (1, N_FRAMES))
    with torch.inference_mode():
        second = unit_scores(model.eval()(short.audio, hidden), short.targets[hidden].long())
    n = masked_count(N_FRAMES, 0.1, 4)
    assert both["loss"] == pytest.approx((3 * n * alone[0]["loss"] + n * float(second["loss"])) / (4 * n), rel=1e-5)
    assert 1 / 7 < both["chance"] < 1
