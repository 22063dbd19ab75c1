"""Block masks: rectangles inside one site, as many tokens in each grid, everywhere alike."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.models.grid_masking import BlockRule, TokenGrid, compute_block_mask
from core.models.masking import mask_noise

ONE_SITE = BlockRule(TokenGrid(1, 9, 12), 0.5, 3, 4, negatives=5)
MANY_SITES = BlockRule(TokenGrid(5, 2, 12), 0.4, 1, 4, negatives=5)
WHOLE_SITES = BlockRule(TokenGrid(8, 2, 6), 0.5, 1, 6, negatives=5)
RULES = (ONE_SITE, MANY_SITES, WHOLE_SITES)


def looped_mask(noise, rule):
    """One grid's mask, block by block in plain loops: witness for the vectorised one."""
    sites, rows, columns = rule.grid.sites, rule.grid.rows, rule.grid.columns
    n_rows, high = (rows, rule.rows) if sites == 1 else (1, 1)  # of several sites a block has all rows
    wide = rule.columns
    whole = (
        sites > 1 and wide == columns
    )  # such a block has one place, from end to end; its right end is the last column
    shape = (sites, n_rows + high - 1, 1 if whole else columns + wide - 1)
    covered = np.zeros((sites, n_rows, columns), dtype=bool)
    wanted = round(rule.fraction * covered.size)
    for place in np.argsort(noise[1:]):
        site, bottom, right = np.unravel_index(place, shape)
        right = columns - 1 if whole else right
        for row in range(max(bottom - high + 1, 0), min(bottom + 1, n_rows)):
            for column in range(max(right - wide + 1, 0), min(right + 1, columns)):
                if covered.sum() < wanted:
                    covered[site, row, column] = True
    turned = covered[::-1, ::-1, ::-1] if noise[0] < 0.5 else covered
    return np.repeat(turned, rows // n_rows, axis=1).ravel()


@pytest.mark.parametrize("rule", RULES)
def test_masks_are_those_of_a_plain_loop(rule):
    noise = mask_noise(range(20), rule.noise_columns(rule.grid.n_tokens))
    masks = rule.mask(noise, rule.grid.n_tokens).numpy()
    assert {bool(one < 0.5) for one in noise[:, 0]} == {True, False}
    for mask, own in zip(masks, noise.numpy(), strict=True):
        assert np.array_equal(mask, looped_mask(own, rule))


@pytest.mark.parametrize("grid", [(1, 32, 32), (1, 1, 7), (16, 2, 32), (64, 1, 16), (2, 1, 2), (3, 5, 4)])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99])
def test_every_grid_has_the_same_number_masked_and_some_not(grid, fraction):
    rule = BlockRule(TokenGrid(*grid), fraction, 1, 2)
    n_tokens = rule.grid.n_tokens
    mask, negatives = rule.draw(range(6), n_tokens)
    assert mask.sum(dim=1).tolist() == [rule.count(n_tokens)] * 6
    assert 2 <= rule.count(n_tokens) < n_tokens
    unit = grid[1] if grid[0] > 1 else 1  # all rows of a site are masked together
    assert abs(rule.count(n_tokens) - fraction * n_tokens) <= max(unit, 2)
    assert mask.flatten()[negatives[mask]].all()
    assert (negatives // n_tokens == torch.arange(6)[:, None, None]).all()


def test_a_block_hides_all_rows_of_a_site_and_nothing_of_the_next():
    mask = compute_block_mask(300, BlockRule(TokenGrid(5, 3, 12), 4 / 60, 1, 4), torch.Generator().manual_seed(0))
    mask = mask.view(300, 5, 3, 12)
    assert torch.equal(mask.any(dim=2), mask.all(dim=2))
    whole = mask[:, :, 0].sum(dim=2)
    inside = whole.amax(dim=1) == 4  # one block that no edge has cut
    assert inside.float().mean() > 0.5
    assert ((whole[inside] > 0).sum(dim=1) == 1).all()


def test_blocks_as_wide_as_the_grid_hide_whole_sites():
    """Begun anywhere, such blocks left a part of most sites in view, which told what was hidden of them."""
    mask = compute_block_mask(100, WHOLE_SITES, torch.Generator().manual_seed(0)).view(100, 8, 12)
    assert torch.equal(mask.any(dim=2), mask.all(dim=2))
    assert (mask.all(dim=2).sum(dim=1) == 4).all()
    assert (mask.all(dim=2).float().mean(dim=0) - 0.5).abs().max() < 0.2  # every site as often as the others


@pytest.mark.parametrize(("negatives", "expected"), [(2, 2), (50, 3)])
def test_where_sites_are_hidden_negatives_are_other_sites_at_the_same_moment(negatives, expected):
    """Those of other moments or rows could be told by what all sites have in common, whichever site it is."""
    rule = BlockRule(TokenGrid(8, 2, 6), 0.5, 1, 6, negatives)
    mask, picks = rule.draw(range(50), 96)
    assert picks.shape == (50, 96, expected)  # of 4 hidden sites, without oneself
    token = torch.arange(96).expand(50, -1)[..., None]
    others = picks - torch.arange(50)[:, None, None] * 96
    assert (others % 12 == token % 12)[mask].all()  # twelve tokens a site: two rows of six moments
    assert (others != token)[mask].all()
    assert mask.flatten()[picks[mask]].all()
    assert all(len(set(row)) == expected for row in picks[mask].tolist())
    drawn = torch.zeros(96).scatter_add_(0, others[mask].flatten(), torch.ones(others[mask].numel()))
    assert drawn.min() > 0.5 * drawn.mean()  # none is left out


@pytest.mark.parametrize("rows", [1, 2])
def test_one_hidden_site_of_two_is_told_from_its_other_moments(rows):
    mask, picks = BlockRule(TokenGrid(2, rows, 6), 0.5, 1, 6).draw(range(4), 12 * rows)
    assert picks.shape == (4, 12 * rows, 6 * rows - 1) and mask.flatten()[picks[mask]].all()


def test_one_site_in_a_grid_is_never_hidden_in_raster_order():
    masks = compute_block_mask(50, BlockRule(TokenGrid(1, 4, 4), 0.5, 4, 4), torch.Generator().manual_seed(0))
    assert len({tuple(mask.tolist()) for mask in masks}) > 10


def test_spans_do_not_go_on_in_the_next_row():
    """The document's spans of 10 in raster order did; one whole block here is one rectangle."""
    rule = BlockRule(TokenGrid(1, 16, 16), 16 / 256, 4, 4)
    boxes = []
    for mask in compute_block_mask(300, rule, torch.Generator().manual_seed(0)).view(-1, 16, 16):
        rows, columns = (torch.nonzero(mask.any(dim=axis)).flatten() for axis in (1, 0))
        boxes.append((int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1))
    assert boxes.count((4, 4)) > 0.4 * len(boxes)  # closed form: (13 / 19) ** 2 = .47 of all blocks meet no edge


@pytest.mark.parametrize("rule", RULES)
def test_all_tokens_are_masked_alike_often(rule):
    share = compute_block_mask(8000, rule, torch.Generator().manual_seed(0)).float().mean(dim=0)
    assert (share - rule.count(rule.grid.n_tokens) / rule.grid.n_tokens).abs().max() < 0.035


@pytest.mark.parametrize("rule", RULES)
def test_a_grids_mask_does_not_depend_on_the_others_in_its_batch(rule):
    n_tokens = rule.grid.n_tokens
    mask, negatives = rule.draw([3, 1, 4, 1], n_tokens)
    alone, own = rule.draw([4], n_tokens)
    assert torch.equal(mask[2], alone[0])
    assert torch.equal(negatives[2] - 2 * n_tokens, own[0])
    assert torch.equal(mask[1], mask[3])
    assert not torch.equal(mask[0], mask[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fraction": 0.0}, "between 0 and 1"),
        ({"fraction": 1.0}, "between 0 and 1"),
        ({"rows": 10}, "10 rows and 4 columns for 9 rows and 12 columns"),
        ({"columns": 13}, "no more than there are"),
        ({"columns": 0}, "at least 1"),
        ({"grid": TokenGrid(1, 1, 2), "rows": 1, "columns": 1}, "some to mask and some to see"),
    ],
)
def test_masks_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        BlockRule(**{"grid": ONE_SITE.grid, "rows": 3} | wrong)


def test_another_number_of_tokens_is_refused():
    with pytest.raises(InputError, match=r"Got 100 tokens .* expected 108"):
        ONE_SITE.draw([0], 100)
