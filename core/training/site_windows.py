"""Grids of recording sites by number, each site as often as the others, and the batches that Wav2Vec2_2D is trained on.

The number of a grid decides its stretch, its first column, which sites it shows in which order, its mask and its
negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.errors import InputError
from core.models.grid_masking import BlockRule
from core.training.batches import EVAL, TRAIN, Batch, Reader

if TYPE_CHECKING:
    from core.sites.site_data import SiteData, Stretch


@dataclass(frozen=True)
class Grid:
    """Columns from ``first`` on of a stretch, of some sites from the top down; ``seed`` is that of its mask."""

    stretch: int
    first: int
    sites: tuple[int, ...]
    seed: int


class Dealer:
    """Deals sites to grids so that all have been shown equally often, as far as recordings hold the same ones.

    Each grid begins with a site that was shown least, takes a stretch that holds it, and fills up with those of that
    stretch that were shown least. Where all stretches hold the same sites, no two differ by more than one showing at
    any time, and after :attr:`per_epoch` grids by none.

    Args:
        stretches: To take grids from.
        width: Columns of a grid.
        per_grid: Sites of a grid.

    Raises:
        InputError: No stretch is as long as a grid and holds as many sites.
    """

    def __init__(self, stretches: "Sequence[Stretch]", width: int, per_grid: int) -> None:
        self._per_grid = per_grid
        self._places = np.array([max(0, one.n_columns - width + 1) for one in stretches], dtype=np.int64)
        self._usable = [i for i, one in enumerate(stretches) if self._places[i] and len(one.sites) >= per_grid]
        if not self._usable:
            raise InputError(
                f"No stretch is as long as a grid of {width} columns and holds the {per_grid} sites of one. Set a "
                "smaller grid_width or sites_per_grid, or take longer recordings."
            )
        self._sites = {i: np.array(stretches[i].sites, dtype=np.int64) for i in self._usable}
        self.sites = np.unique(np.concatenate(list(self._sites.values())))
        self.per_epoch = len(self.sites) // gcd(len(self.sites), per_grid)

    def deal(self, n_grids: int, random: np.random.Generator) -> list[Grid]:
        """So many grids, one after the other."""
        shown = np.zeros(int(self.sites.max()) + 1, dtype=np.int64)
        return [self._grid(shown, random) for _ in range(n_grids)]

    def _grid(self, shown: np.ndarray, random: np.random.Generator) -> Grid:
        site = self._least(self.sites, shown, 1, random)[0]
        holding = [i for i in self._usable if site in self._sites[i]]
        weights = self._places[holding] / self._places[holding].sum()
        stretch = int(random.choice(holding, p=weights))
        others = self._sites[stretch][self._sites[stretch] != site]
        chosen = np.append(self._least(others, shown, self._per_grid - 1, random), site)
        shown[chosen] += 1
        first = int(random.integers(self._places[stretch]))
        return Grid(stretch, first, tuple(random.permutation(chosen).tolist()), int(random.integers(2**63)))

    def _least(self, sites: np.ndarray, shown: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        """Those shown least, by lot among equals."""
        mixed = random.permutation(sites)
        return mixed[np.argsort(shown[mixed], kind="stable")[:n]]


class TrainingGrids:
    """The endless sequence of training grids: a pure function of seed and number.

    Args:
        dealer: Of the training stretches.
        seed: Of everything.
    """

    def __init__(self, dealer: Dealer, seed: int) -> None:
        self._dealer, self._seed = dealer, seed
        self._epoch: tuple[int, list[Grid]] = (-1, [])

    @property
    def sites(self) -> frozenset[int]:
        """Ids of those that any grid can show."""
        return frozenset(self._dealer.sites.tolist())

    @property
    def per_epoch(self) -> int:
        """Grids in which every site comes up equally often."""
        return self._dealer.per_epoch

    def __getitem__(self, number: int) -> Grid:
        """The grid of a number, from 0 on."""
        epoch, place = divmod(number, self.per_epoch)
        if self._epoch[0] != epoch:  # the last one is kept, as numbers come one after the other
            random = np.random.default_rng([self._seed, TRAIN, epoch])
            self._epoch = (epoch, self._dealer.deal(self.per_epoch, random))
        return self._epoch[1][place]

    def shown(self, n_grids: int, n_sites: int) -> np.ndarray:
        """How many of the first grids show each site, (n_sites,) int64."""
        fresh = TrainingGrids(self._dealer, self._seed)
        ids = [site for number in range(n_grids) for site in fresh[number].sites]
        return np.bincount(np.array(ids, dtype=np.int64), minlength=n_sites + 1)[1:]


def held_out_grids(stretches: "Sequence[Stretch]", width: int, per_grid: int, n_grids: int, seed: int) -> list[Grid]:
    """Choose grids for evaluation, always the same, each site as often as the others; none without stretches."""
    if not stretches or not n_grids:
        return []
    return Dealer(stretches, width, per_grid).deal(n_grids, np.random.default_rng([seed, EVAL]))


Item = tuple[np.ndarray, tuple[int, ...], int]


class GridReader(Reader):
    """Reads grids.

    Args:
        data: Recordings of sites.
        part: ``train`` or ``eval``.
        grids: By number.
        rule: How they are masked.
        with_sites: Whether the model is told which sites a grid shows.
    """

    def __init__(
        self, data: "SiteData", part: str, grids: TrainingGrids | Sequence[Grid], rule: BlockRule, *, with_sites: bool
    ) -> None:
        self._data, self._stretches, self.grids = data, data.stretches(part), grids
        self._rule, self._with_sites = rule, with_sites

    @property
    def n_tokens(self) -> int:
        """Tokens of each grid."""
        return self._rule.grid.n_tokens

    @property
    def n_masked(self) -> int:
        """Masked tokens of each grid."""
        return self._rule.count(self.n_tokens)

    def __getitem__(self, number: int) -> Item:
        """Values (height, width) float32, sites from the top down, and the seed of the mask."""
        grid = self.grids[number]
        values = self._data.read(self._stretches[grid.stretch], grid.first, np.array(grid.sites))
        return values, grid.sites, grid.seed

    def together(self, items: Sequence[Item]) -> Batch:
        """Make a batch of one channel; tokens are told apart by site."""
        values = torch.from_numpy(np.stack([one for one, *_ in items])[:, None])
        mask, negatives = self._rule.draw([seed for *_, seed in items], self.n_tokens)
        ids = torch.tensor([sites for _, sites, _ in items], dtype=torch.long)
        groups = ids.repeat_interleave(self.n_tokens // ids.shape[1], dim=1)
        return Batch(values, mask, negatives, {"recording_site_ids": ids} if self._with_sites else {}, groups)
