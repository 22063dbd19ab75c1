"""Wav2Vec2_2D: the document's examples as corrected, sites that do not mix, ids that mean what they say."""

import json

import numpy as np
import pytest
import torch
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Encoder, Wav2Vec2EncoderStableLayerNorm

from core.errors import InputError
from core.models.grid_masking import BlockRule, TokenGrid
from core.models.meg2vec import Meg2VecConfig, Meg2VecForPreTraining
from core.models.spatial import SpatialEmbedding
from core.models.wav2vec2_2d import (
    GridEncoder,
    GridPositions,
    Wav2Vec2_2DConfig,
    Wav2Vec2_2DForPreTraining,
    Wav2Vec2_2DModel,
    token_grid,
)

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (8, 16),
    "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16,
}  # fmt: skip
GRID = {"grid_height": 16, "grid_width": 24, "num_recording_sites": 9, "spatial_embed_dim": 12}
STABLE = {"do_stable_layer_norm": True}
N_TOKENS = 24
"""Of GRID: 4 rows of 6."""


def model(kind=Wav2Vec2_2DModel, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(Wav2Vec2_2DConfig(**SMALL | GRID | changes)).eval()


def grids(n=3, shape=(1, 16, 24), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def single():
    return model()


@pytest.fixture(scope="module")
def several():
    return model(sites_per_grid=4)


# ---- the document's examples -----------------------------------------------------------------------------------------


def test_the_documents_examples_run_as_corrected():
    """Its LayerNorm expected 25,088 features and got 512; 128 x 128 gave 49 tokens; id 64 of 64 was an IndexError."""
    cfg = Wav2Vec2_2DConfig(
        use_spatial_embedding=True,
        num_recording_sites=64,
        spatial_embed_dim=256,
        encoder_embed_dim=32,
        **{name: value for name, value in SMALL.items() if name != "hidden_size"},
    )
    network = Wav2Vec2_2DForPreTraining(cfg).eval()
    x = torch.randn(4, 1, 128, 128)
    for ids in (torch.randint(1, 64, (4,)), torch.tensor([1, 5, 10, 64])):
        output = network(x, recording_site_ids=ids, features_only=True)
        assert output["x"].shape == (4, 1024, 32)
        assert output["x"] is output.last_hidden_state
    assert network(x, features_only=True)["x"].shape == (4, 1024, 32)
    assert network.spatial_embedding.weight.shape == (65, 256)


def test_the_defaults_are_the_documents():
    config = Wav2Vec2_2DConfig()
    told = (config.use_spatial_embedding, config.num_recording_sites, config.spatial_embed_dim)
    assert (*told, config.spatial_embed_dropout) == (True, 64, 256, 0.1)
    assert (token_grid(config), token_grid(config).n_tokens) == (TokenGrid(1, 32, 32), 1024)
    assert config.encoder_embed_dim == config.hidden_size == 768


def test_without_spatial_embedding_there_is_none_and_ids_are_refused():
    network = model(use_spatial_embedding=False)
    assert network(grids()).last_hidden_state.shape == (3, N_TOKENS, 32)
    assert not any("spatial" in name for name in network.state_dict())
    with pytest.raises(InputError, match="model without spatial embedding"):
        network(grids(), recording_site_ids=torch.ones(3, dtype=torch.int64))


def test_the_same_site_does_not_differ_and_another_does(single):
    x = grids(1)
    one, same, other = (single(x, recording_site_ids=torch.tensor([site]))["x"] for site in (1, 1, 2))
    assert torch.equal(one, same)
    assert ((one - other).abs().amax(dim=-1) > 0).all()  # at every token
    single.train()  # a control: the document compared with dropout on
    drawn = [single(x, recording_site_ids=torch.tensor([1]))["x"] for _ in range(2)]
    single.eval()
    assert not torch.equal(*drawn)


# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_id_0_adds_nothing_to_the_last_bit(masked, single):
    """In the document the projection's bias was added for padding too."""
    mask = BlockRule(TokenGrid(1, 4, 6), 0.5, 2, 2).draw(range(3), N_TOKENS)[0] if masked else None
    without = single(grids(), mask)["x"]
    for ids in (torch.zeros(3, dtype=torch.int64), torch.zeros(3, N_TOKENS, dtype=torch.int64)):
        assert torch.equal(single(grids(), mask, recording_site_ids=ids)["x"], without)
    mixed = single(grids(), mask, recording_site_ids=torch.tensor([0, 3, 0]))["x"]
    assert (mixed == without).flatten(1).all(dim=1).tolist() == [True, False, True]


def test_id_0_adds_nothing_even_where_its_row_was_overwritten():
    spatial = SpatialEmbedding(4, 6, 8)
    spatial.weight.data[0] = torch.nan
    assert torch.equal(spatial(torch.tensor([0, 0])), torch.zeros(2, 8))


def test_ids_for_grid_site_and_token_mean_the_same(single):
    by_grid = single(grids(), recording_site_ids=torch.tensor([1, 9, 4]))["x"]
    each = torch.tensor([[1], [9], [4]])
    assert torch.equal(single(grids(), recording_site_ids=each)["x"], by_grid)
    assert torch.equal(single(grids(), recording_site_ids=each[:, 0].int())["x"], by_grid)
    by_token = single(grids(), recording_site_ids=each.expand(3, N_TOKENS))["x"]
    torch.testing.assert_close(by_token, by_grid, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1.0, 2.0, 3.0], "float32; expected int64"),
        ([True, False, True], "bool; expected int64"),
        ([1, 2, 10], "Got site id 10; expected 1 to 9"),
        ([1, -1, 2], "Got site id -1; expected 1 to 9"),
        ([1, 2, 3, 4], r"shape \(4,\); expected \(3,\) or \(3, 1\) or \(3, 24\)"),
        ([1, 2], r"shape \(2,\)"),
        ([[1, 2]] * 3, r"shape \(3, 2\)"),
        (3, r"shape \(\)"),
    ],
)
def test_what_is_no_site_is_refused(ids, words, single):
    with pytest.raises(InputError, match=words):
        single(grids(), recording_site_ids=torch.tensor(ids))


def test_one_id_for_a_grid_of_several_sites_is_refused(several):
    with pytest.raises(InputError, match=r"expected \(3, 4\) or \(3, 24\)"):
        several(grids(), recording_site_ids=torch.tensor([1, 2, 3]))


def test_gradients_reach_the_sites_of_the_batch_alone():
    network = model(Wav2Vec2_2DForPreTraining).train()
    mask, negatives = BlockRule(TokenGrid(1, 4, 6), 0.5, 2, 2).draw(range(3), N_TOKENS)
    network(grids(), mask, negatives, recording_site_ids=torch.tensor([2, 0, 7])).loss.backward()
    reached = network.spatial_embedding.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert reached.tolist() == [2, 7]


def test_the_spatial_weights_begin_small_and_row_0_at_zero():
    spatial = model(num_recording_sites=200, spatial_embed_dim=64, spatial_init_std=0.1).spatial_embedding
    assert (spatial.weight[0] == 0).all()
    assert spatial.weight[1:].std().item() == pytest.approx(0.1, rel=0.03)
    assert spatial.projection.bias is None
    assert spatial.eval()(torch.arange(1, 201)).std().item() == pytest.approx(0.1, rel=0.1)


# ---- what is masked --------------------------------------------------------------------------------------------------


def test_a_masked_token_says_whose_content_is_asked_for_and_nothing_else():
    """Closed form of the transformer's input there: mask embedding, site and position."""
    network = model(**STABLE, sites_per_grid=2)
    ids = torch.tensor([[1, 2], [3, 0]])
    mask = BlockRule(TokenGrid(2, 2, 6), 0.5, 1, 2).draw(range(2), N_TOKENS)[0]
    first = network(grids(2), mask, recording_site_ids=ids, output_hidden_states=True).hidden_states[0]
    sites = network.spatial_embedding(ids).repeat_interleave(12, dim=1)
    wanted = network.masked_spec_embed + sites + network.positions(TokenGrid(2, 2, 6))
    torch.testing.assert_close(first[mask], wanted[mask])
    assert (first[~mask] - wanted[~mask]).abs().max() > 0.1


def test_values_that_only_masked_tokens_see_change_nothing():
    """Kernels as wide as their strides, so that each token sees pixels of its own."""
    network = model(conv_kernel=(2, 2), sites_per_grid=4)
    mask = BlockRule(TokenGrid(4, 1, 6), 0.5, 1, 2).draw(range(3), N_TOKENS)[0]
    pixels = mask.view(3, 1, 4, 6).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(pixels, grids(seed=1), grids())
    assert torch.equal(network(grids(), mask)["x"], network(other, mask)["x"])
    assert not torch.allclose(network(grids())["x"], network(other)["x"])


# ---- sites that share a grid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"feat_extract_norm": "group", "conv_bias": False}])
def test_convolutions_never_mix_sites(changes):
    many, one = model(sites_per_grid=4, **changes), model(grid_height=4, **changes)
    one.load_state_dict(many.state_dict())
    alone = [one.features(grids()[:, :, 4 * site : 4 * site + 4]) for site in range(4)]
    torch.testing.assert_close(many.features(grids()), torch.cat(alone, dim=1), rtol=0, atol=1e-6)
    mixing = model(**changes)  # a control: one site of 16 rows
    mixing.load_state_dict(many.state_dict())
    assert not torch.allclose(mixing.features(grids()), torch.cat(alone, dim=1), atol=1e-3)


def test_the_order_of_sites_in_a_grid_changes_nothing(several):
    """Positions begin anew in each site and nothing runs in raster order: who is where, only the ids say."""
    order, ids = torch.tensor([2, 0, 3, 1]), torch.tensor([[1, 2, 3, 4]] * 3)
    moved = grids().view(3, 1, 4, 4, 24)[:, :, order].reshape(3, 1, 16, 24)
    states = several(grids(), recording_site_ids=ids)["x"].view(3, 4, 6, 32)
    of_moved = several(moved, recording_site_ids=ids[:, order])["x"].view(3, 4, 6, 32)
    torch.testing.assert_close(states[:, order], of_moved, rtol=0, atol=1e-5)
    misnamed = several(moved, recording_site_ids=ids)["x"].view(3, 4, 6, 32)
    assert (states[:, order] - misnamed).abs().max() > 1e-3  # a control: ids do matter


def test_positions_are_sines_and_cosines_of_row_and_column():
    """Plain loops over the formula of He et al. 2022."""
    found = GridPositions(16)(TokenGrid(2, 3, 5)).detach().numpy()
    for token, (_site, row, column) in enumerate(np.ndindex(2, 3, 5)):
        angles = [[place / 10_000 ** (i / 4) for i in range(4)] for place in (row, column)]
        wanted = np.concatenate([wave(one) for one in angles for wave in (np.sin, np.cos)])
        np.testing.assert_allclose(found[token], wanted, atol=1e-6)


@pytest.mark.parametrize("stable", [False, True])
def test_the_encoder_is_transformers_without_its_positions(stable):
    config = Wav2Vec2_2DConfig(**SMALL, do_stable_layer_norm=stable, num_conv_pos_embeddings=4)
    config._attn_implementation = "eager"
    mine, stock = GridEncoder(config).eval(), (Wav2Vec2EncoderStableLayerNorm if stable else Wav2Vec2Encoder)(config)
    missing = stock.load_state_dict(mine.state_dict(), strict=False).missing_keys
    assert all(name.startswith("pos_conv_embed") for name in missing)
    stock.pos_conv_embed = torch.nn.Identity()
    stock.pos_conv_embed.forward = torch.zeros_like
    hidden = torch.randn(2, 7, 32)
    assert torch.equal(mine(hidden, [None, None]).last_hidden_state, stock.eval()(hidden).last_hidden_state)


def test_attention_can_weigh_how_alike_sites_are():
    plain, biased = model(sites_per_grid=4), model(sites_per_grid=4, spatial_attention_bias=True)
    plain.load_state_dict({name: value for name, value in biased.state_dict().items() if "scales" not in name})
    ids, other = torch.tensor([[1, 2, 3, 0]] * 3), grids()
    other[:, :, 4:8] += 1.0  # the second site's rows
    before = plain(grids(), recording_site_ids=ids)["x"]
    torch.testing.assert_close(biased(grids(), recording_site_ids=ids)["x"], before)  # scales begin at zero
    biased.spatial_embedding.weight.data[1:5] = torch.eye(4, 12)
    biased.attention_scales.data += 1000.0  # now each site looks at itself alone
    states = [biased(values, recording_site_ids=ids)["x"].view(3, 4, 6, 32) for values in (grids(), other)]
    torch.testing.assert_close(states[0][:, [0, 2]], states[1][:, [0, 2]])
    assert (states[0][:, 1] - states[1][:, 1]).abs().max() > 0.01
    # Id 0 is like none and looks at all: what it sees of the second site moves it far more than rounding does.
    assert (states[0][:, 3] - states[1][:, 3]).abs().max() > 1e-4


# ---- outputs, loss, config -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, STABLE])
def test_every_state_comes_out(changes):
    network, inputs = model(**changes), []
    network.encoder.layers[0].register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    out = network(grids(), output_hidden_states=True)
    assert len(out.hidden_states) == 3
    assert torch.equal(out.hidden_states[0], inputs[0])
    assert {tuple(state.shape) for state in out.hidden_states} == {(3, N_TOKENS, 32)}
    assert out.extract_features.shape == (3, N_TOKENS, 16)
    assert out.extract_features.mean(dim=-1).abs().max() < 1e-5  # channels of each token are normalised


def both_models():
    config = {name: value for name, value in SMALL.items() if name != "conv_dim"}
    meg = Meg2VecForPreTraining(Meg2VecConfig(**config, conv_dim=(8,) * 4, in_channels=2, num_conv_pos_embeddings=4))
    return [(meg.eval(), torch.randn(3, 2, 1000)), (model(Wav2Vec2_2DForPreTraining), grids())]


@pytest.mark.parametrize("number", [0, 1])
def test_the_quantisers_logits_need_values_alone(number):
    network, values = both_models()[number]
    seen = []
    network.head.quantizer.weight_proj.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    n_tokens = network.quantiser_logits(values).shape[1]
    mask = torch.zeros(3, n_tokens, dtype=torch.bool)
    mask[:, :4] = True
    network(values, mask)
    assert seen[0].shape == (3, n_tokens, 16)
    assert torch.equal(seen[0], seen[1])


def test_a_few_steps_lower_the_loss():
    """Sites of one sign each: whose content is asked for says what it was."""
    torch.manual_seed(0)
    network = model(Wav2Vec2_2DForPreTraining, sites_per_grid=4, conv_kernel=(2, 2)).train()
    rule = BlockRule(TokenGrid(4, 1, 6), 0.4, 1, 2, negatives=8)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    network.set_gumbel_temperature(0.5)
    accuracies = []
    for step in range(40):
        mask, negatives = rule.draw(range(8 * step, 8 * step + 8), N_TOKENS)
        values = grids(8, seed=step) + torch.tensor([-6.0, -2.0, 2.0, 6.0]).repeat_interleave(4)[:, None]
        out = network(values, mask, negatives, recording_site_ids=torch.tensor([[1, 2, 3, 4]] * 8))
        optimiser.zero_grad()
        (out.loss / out.n_masked).backward()
        optimiser.step()
        accuracies.append((out.contrastive_loss / out.n_masked).item())
    assert np.mean(accuracies[-5:]) < 0.9 * np.mean(accuracies[:5])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 2, 16, 24), r"expected floats of \(batch, 1, 16, 24\)"),
        ((3, 1, 24, 16), "grid_height and grid_width"),
        ((3, 16, 24), r"shape \(3, 16, 24\)"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(shape, words, single):
    with pytest.raises(InputError, match=words):
        single(torch.zeros(shape))


def test_a_mask_is_asked_for_or_refused(single):
    with pytest.raises(InputError, match="no mask for a loss"):
        model(Wav2Vec2_2DForPreTraining)(grids())
    with pytest.raises(InputError, match="mask with features_only"):
        single(grids(), torch.ones(3, N_TOKENS, dtype=torch.bool), features_only=True)
    with pytest.raises(InputError, match=r"expected \(3, 24\) bool"):
        single(grids(), torch.ones(3, 16, 24, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changes", "grid"),
    [
        ({"conv_kernel": (4, 4)}, TokenGrid(1, 4, 6)),
        ({"conv_kernel": (2, 2)}, TokenGrid(1, 4, 6)),
        ({"conv_kernel": (5, (1, 3)), "conv_stride": ((1, 2), [2, 3])}, TokenGrid(1, 8, 4)),
        ({"sites_per_grid": 8, "conv_stride": ([1, 2], 2)}, TokenGrid(8, 1, 6)),
    ],
)
def test_the_tokens_are_as_many_as_the_grid_says(changes, grid):
    network = model(**changes)
    assert token_grid(network.config) == grid
    assert network(grids())["x"].shape == (3, grid.n_tokens, 32)
    again = Wav2Vec2_2DConfig.from_dict(json.loads(json.dumps(network.config.to_dict())))
    assert token_grid(again) == grid


@pytest.mark.parametrize(
    "wrong",
    [
        {"layerdrop": 0.1}, {"sites_per_grid": 3}, {"sites_per_grid": 0}, {"num_recording_sites": 0},
        {"hidden_size": 30}, {"grid_width": 1, "conv_kernel": (4, 4)}, {"in_channels": 0},
        {"spatial_attention_bias": True, "use_spatial_embedding": False},
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match=r"expected|leave nothing"):
        Wav2Vec2_2DConfig(**SMALL | GRID | wrong)


@pytest.mark.parametrize("with_bias", [False, True])
def test_bf16_gives_finite_gradients(with_bias):
    network = model(Wav2Vec2_2DForPreTraining, spatial_attention_bias=with_bias).train()
    mask, negatives = BlockRule(TokenGrid(1, 4, 6), 0.5, 2, 2).draw(range(3), N_TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(grids(), mask, negatives, recording_site_ids=torch.tensor([1, 2, 0]))
    out.loss.backward()
    assert out.loss.dtype == torch.float32
    assert all(one.grad.isfinite().all() for one in network.parameters() if one.grad is not None)
