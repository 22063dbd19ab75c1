"""Grids by number: each site as often as the others, the same whoever asks, and no token is told as another site's."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.sites.site_data import Stretch
from core.training.batches import Batches, BatchPlan
from core.training.site_pretraining import make_model, mask_rule, training_grids
from core.training.site_windows import Dealer, GridReader, TrainingGrids, held_out_grids
from tests.training.site_fakes import TINY_SITES, FakeSites, noise_sites

WIDTH = 16


def stretches(*held, columns=200):
    return [Stretch(f"recording {i}", 0, columns, tuple(sites)) for i, sites in enumerate(held)]


def grids(n_sites=64, per_grid=16, seed=0):
    return TrainingGrids(Dealer(stretches(range(1, n_sites + 1)), WIDTH, per_grid), seed)


def reader(data=None, settings=TINY_SITES, *, with_sites=True):
    data = data or noise_sites()
    rule = mask_rule(settings, make_model(settings, data.n_sites).config)
    return GridReader(data, "train", training_grids(settings, data), rule, with_sites=with_sites)


@pytest.mark.parametrize(("n_sites", "per_grid"), [(64, 16), (64, 1), (306, 17), (8, 8), (10, 4), (7, 3)])
def test_over_an_epoch_each_site_comes_up_equally_often_and_never_twice_in_a_grid(n_sites, per_grid):
    made = grids(n_sites, per_grid)
    for epoch in range(3):
        shown = [made[epoch * made.per_epoch + number].sites for number in range(made.per_epoch)]
        counts = Counter(site for sites in shown for site in sites)
        assert set(counts) == set(range(1, n_sites + 1)) and len(set(counts.values())) == 1
        assert all(len(set(sites)) == per_grid for sites in shown)


def test_sites_that_fewer_recordings_hold_come_up_as_often_as_the_others():
    """Sites 1 to 4 are in both recordings: dealing each recording's alike would show them twice as often."""
    dealer = Dealer(stretches(range(1, 9), range(1, 5)), WIDTH, 2)
    counts = Counter(site for grid in dealer.deal(400, np.random.default_rng(0)) for site in grid.sites)
    assert set(counts) == set(range(1, 9)) and max(counts.values()) - min(counts.values()) <= 1


def test_a_grid_holds_sites_of_one_recording_in_any_order_at_any_place():
    held = stretches((1, 2, 3, 4), (5, 6, 7, 8))
    made = Dealer(held, WIDTH, 2).deal(400, np.random.default_rng(0))
    assert all(set(grid.sites) <= set(held[grid.stretch].sites) for grid in made)
    firsts = np.array([grid.first for grid in made])
    assert firsts.min() < 15 and firsts.max() > 170 and firsts.max() <= 200 - WIDTH
    assert {grid.sites for grid in made} >= {(1, 2), (2, 1)}


def test_a_grid_depends_on_seed_and_number_alone():
    forwards = [grids()[number] for number in range(40)]
    again = grids()
    assert [again[number] for number in reversed(range(40))] == forwards[::-1]
    assert [grids(seed=1)[number] for number in range(40)] != forwards
    assert len({one.seed for one in forwards}) == 40


def test_what_was_shown_is_counted():
    made = grids(10, 4)
    expected = Counter(site for number in range(7) for site in made[number].sites)
    assert made.shown(7, 12).tolist() == [expected[site] for site in range(1, 13)]
    assert made.shown(0, 12).tolist() == [0] * 12


def test_stretches_too_short_for_a_grid_are_left_out_and_none_that_fits_is_refused():
    held = [*stretches((1, 2, 3)), Stretch("short", 0, 15, (4, 5))]
    assert Dealer(held, WIDTH, 2).sites.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match=r"16 columns.*4 sites"):
        Dealer(held, WIDTH, 4)
    with pytest.raises(InputError, match="16 columns"):
        Dealer([], WIDTH, 1)


def test_held_out_grids_are_always_the_same_and_never_masked_as_in_training():
    held = stretches(range(1, 9))
    made = held_out_grids(held, WIDTH, 4, 20, seed=0)
    assert made == held_out_grids(held, WIDTH, 4, 20, seed=0) and len(made) == 20
    assert set(Counter(site for grid in made for site in grid.sites).values()) == {10}
    train = grids(8, 4)
    assert not {grid.seed for grid in made} & {train[number].seed for number in range(200)}
    assert held_out_grids([], WIDTH, 4, 20, seed=0) == held_out_grids(held, WIDTH, 4, 0, seed=0) == []


def test_every_token_is_told_apart_by_the_site_whose_values_it_holds():
    """Values are the site's id, so that what a token sees says whose it is."""
    n = TINY_SITES.patches.rows_per_site
    values = np.arange(1, 9, dtype=np.float32)[:, None, None] * np.ones((8, n, 100), np.float32)
    batch = reader(FakeSites(values, values)).batch(range(4))
    assert batch.values.shape == (4, 1, 16, 16) and batch.values.dtype == torch.float32
    patches = batch.values.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)  # the two strides of two: a token each
    assert torch.equal(patches.amax(-1), patches.amin(-1))
    assert torch.equal(patches[:, 0, :, :, 0].flatten(1).long(), batch.groups)
    assert torch.equal(batch.groups[:, ::4], batch.where["recording_site_ids"])


def test_a_control_sees_the_same_batches_but_no_sites():
    told, control = reader().batch(range(4)), reader(with_sites=False).batch(range(4))
    assert torch.equal(told.values, control.values) and torch.equal(told.mask, control.mask)
    assert torch.equal(told.negatives, control.negatives) and torch.equal(told.groups, control.groups)
    assert not control.where


def test_values_and_masks_of_a_grid_are_the_same_in_any_batch():
    whole = reader().batch(range(4))
    parts = [reader().batch([number]) for number in range(4)]
    assert torch.equal(whole.values, torch.cat([part.values for part in parts]))
    assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))
    assert set(whole.mask.sum(1).tolist()) == {reader().n_masked}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_from_any_step_on_are_those_of_a_run_from_the_beginning(num_workers):
    straight, plan = Batches(reader(), BatchPlan(2, 2)), BatchPlan(2, 2)
    expected = [[batch.values for batch in straight.of_step(step)] for step in range(3)]
    late = Batches(reader(), plan, num_workers)
    assert all(map(torch.equal, [batch.values for batch in late.of_step(2)], expected[2]))
    pair = [Batches(reader(), replace(plan, batch_size=1, processes=2, rank=rank)) for rank in range(2)]
    dealt = [list(one.of_step(2)) for one in pair]
    together = torch.cat([batch.values for both in zip(*dealt, strict=True) for batch in both])
    assert torch.equal(together, torch.cat(expected[2]))
