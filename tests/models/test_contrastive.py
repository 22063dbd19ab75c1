"""The contrastive head: its counts and chance, and gradients that add up over micro-batches and processes."""

import math

import pytest
import torch
from torch.nn import functional

from core.models import contrastive
from core.models.contrastive import (
    ContrastiveHead,
    contrastive_logits,
    diversity_gradient,
    diversity_loss,
    perplexity,
    summed_cross_entropy,
)
from core.models.masking import compute_mask_indices, sample_negative_indices
from core.models.meg2vec import Meg2VecConfig


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_head(**changes):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "conv_dim": (8, 8, 8, 8), "num_codevectors_per_group": 6}
    config = Meg2VecConfig(**sizes | {"codevector_dim": 16, "proj_codevector_dim": 16} | changes)
    head = ContrastiveHead(config)
    with torch.no_grad():
        torch.nn.init.normal_(head.quantizer.weight_proj.weight, generator=seeded())
        torch.nn.init.uniform_(head.quantizer.codevectors, generator=seeded(1))
    return head


def inputs(rows=4, n_frames=30, negatives=8):
    context = torch.randn(rows, n_frames, 16, generator=seeded(2))
    features = torch.randn(rows, n_frames, 8, generator=seeded(3))
    mask = compute_mask_indices((rows, n_frames), generator=seeded(4))
    return context, features, mask, sample_negative_indices(mask, negatives, generator=seeded(5))


@pytest.mark.parametrize(("mass", "expected"), [(torch.ones(2, 320), 640.0), (torch.eye(320)[:2], 2.0)])
def test_perplexity_counts_codes_in_use(mass, expected):
    assert perplexity(mass, mass.sum(dim=1)[0]).item() == pytest.approx(expected, rel=1e-5)


def test_diversity_loss_is_none_where_all_codes_are_alike_and_nearly_the_frames_where_one_is_used():
    assert diversity_loss(torch.full((2, 5), 8.0), 40).item() == pytest.approx(0, abs=1e-4)
    assert diversity_loss(40 * torch.eye(5)[:2], 40).item() == pytest.approx(40 * (1 - 2 / 10))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_micro_batches_add_up_to_the_whole_batchs_diversity_gradient(parts):
    """Witness: autograd on the whole batch. The sum of each part's own diversity loss is the control: it differs."""
    head = make_head().train()
    context, features, mask, _ = inputs()
    features.requires_grad_()

    def mass(rows):
        return head(context[rows], features[rows], mask[rows], None).code_mass

    slices = [slice(start, start + 4 // parts) for start in range(0, 4, 4 // parts)]
    weights = [features, head.quantizer.weight_proj.weight]
    whole = mass(slice(None))
    wanted = torch.autograd.grad(diversity_loss(whole, mask.sum()), weights)
    gradient = diversity_gradient(sum(mass(rows) for rows in slices), mask.sum())
    assert not gradient.requires_grad
    got = torch.autograd.grad(sum((gradient * mass(rows)).sum() for rows in slices), weights)
    apart = torch.autograd.grad(sum(diversity_loss(mass(rows), mask[rows].sum()) for rows in slices), weights)
    for one, two, control in zip(got, wanted, apart, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        assert parts == 1 or not torch.allclose(control, two, rtol=1e-3)


def test_the_diversity_gradient_of_an_unused_code_is_finite():
    assert diversity_gradient(torch.tensor([[4.0, 0.0], [2.0, 2.0]]), 4.0).isfinite().all()


def test_counts_are_those_of_a_loop_over_masked_frames():
    """Reference: each masked frame by itself, in plain torch."""
    head = make_head().eval()
    context, features, mask, negatives = inputs()
    out = head(context, features, mask, negatives)
    codes = out.projected_quantized_states.reshape(-1, 16)
    loss, correct, chance = 0.0, 0, []
    for row, frame in torch.nonzero(mask).tolist():
        own = codes[row * 30 + frame]
        others = torch.stack([codes[index] for index in negatives[row, frame]])
        others = others[(others != own).any(dim=1)]
        similar = functional.cosine_similarity(out.projected_states[row, frame][None], torch.cat([own[None], others]))
        loss -= torch.log_softmax(similar / 0.1, dim=0)[0].item()
        correct += int(similar.argmax() == 0)
        chance.append(1 / (1 + len(others)))
    assert out.contrastive_loss.item() == pytest.approx(loss, rel=1e-5)
    assert out.n_correct.item() == correct
    assert out.chance.item() == pytest.approx(sum(chance) / len(chance))
    assert out.n_masked.item() == mask.sum().item()
    assert out.loss.item() == pytest.approx(loss + 0.1 * out.diversity_loss.item(), rel=1e-5)


def test_a_collapsed_codebook_shows_as_chance_one():
    """One code for all: no negative differs, nothing is left to be wrong about, and chance says so."""
    head = make_head().eval()
    with torch.no_grad():
        head.quantizer.weight_proj.weight.zero_()
        head.quantizer.weight_proj.bias[0] = head.quantizer.weight_proj.bias[6] = 1
    out = head(*inputs())
    assert out.codevector_perplexity.item() == pytest.approx(2)
    assert out.chance.item() == 1
    assert out.n_correct == out.n_masked
    assert out.contrastive_loss.item() == 0
    assert out.loss.isfinite()


def test_the_mass_is_of_masked_frames_only():
    head = make_head().train()
    context, features, mask, negatives = inputs()
    out = head(context, features, mask, negatives)
    assert out.code_mass.shape == (2, 6)
    torch.testing.assert_close(out.code_mass.sum(dim=1), mask.sum().float().expand(2), rtol=1e-5, atol=0)
    changed = torch.where(mask[..., None], features, 9.0)
    torch.testing.assert_close(head(context, changed, mask, negatives).code_mass, out.code_mass)


def test_logits_are_cosines_with_the_own_code_first():
    context, _, mask, negatives = inputs()
    quantized = torch.randn(4, 30, 16, generator=seeded(6))
    logits = contrastive_logits(quantized, quantized, mask, negatives)
    assert logits.shape == (mask.sum(), 9)
    torch.testing.assert_close(logits[:, 0], torch.ones(len(logits)))
    assert (logits[:, 1:] < 0.999).all()
    assert contrastive_logits(context, quantized, mask, negatives).abs().max() <= 1


def test_cross_entropy_of_equal_logits_is_the_log_of_how_many():
    mask = compute_mask_indices((3, 30), generator=seeded())
    n_masked = int(mask.sum())
    assert summed_cross_entropy(torch.zeros(n_masked, 21), mask).item() == pytest.approx(n_masked * math.log(21))


@pytest.mark.parametrize("cached", [1, 700, 1 << 18])
def test_looking_codes_up_has_the_bits_of_the_whole_product(cached, monkeypatch):
    """Witness: the product of frames x codes x values that transformers makes, and autograd through it."""
    monkeypatch.setattr(contrastive, "CACHED", cached)
    chosen = functional.gumbel_softmax(torch.randn(90, 2, 12, generator=seeded()), hard=True).requires_grad_()
    codebook = torch.randn(2, 12, 32, generator=seeded(1)).requires_grad_()
    weight = torch.randn(90, 2, 32, generator=seeded(2)) * (torch.arange(90) % 3 > 0)[:, None, None]
    ways = (contrastive._LookUp.apply(chosen, codebook), (chosen[..., None] * codebook).sum(-2))
    results = [(found, *torch.autograd.grad((found * weight).sum(), (chosen, codebook))) for found in ways]
    for mine, plain in zip(*results, strict=True):
        assert torch.equal(mine, plain)


def test_without_negatives_there_is_no_loss():
    context, features, mask, _ = inputs()
    out = make_head()(context, features, mask, None)
    assert out.loss is None
    assert out.codevector_perplexity > 2
