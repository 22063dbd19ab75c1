"""Which tokens of a grid are masked: blocks that stay inside one site, never spans in raster order.

Spans over a flattened grid run on from the end of one row into the next. A block here is a rectangle of tokens. Where
several simultaneous sites share a grid, a block hides all rows of one site over some columns, so that only that site's
past and future and the other sites can tell what was there.

Where blocks are as wide as the grid, whole sites are hidden, and a token is told apart from those of the other hidden
sites at its own moment and row: others could be told by what all sites have in common there, without knowing one site
from another.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from core.errors import InputError
from core.models.masking import LEAST_MASKED, TokenRule, negative_noise_columns, sample_negative_indices


@dataclass(frozen=True)
class TokenGrid:
    """Tokens of a grid, in the order that a model has them: site by site, row by row, column by column.

    Attributes:
        sites: Sub-grids, one below the other, each of one site.
        rows: Of tokens, of each site.
        columns: Of tokens.
    """

    sites: int
    rows: int
    columns: int

    @property
    def n_tokens(self) -> int:
        """Of the whole grid."""
        return self.sites * self.rows * self.columns


@dataclass(frozen=True)
class BlockRule(TokenRule):
    """Blocks of tokens.

    Attributes:
        grid: Of the tokens.
        fraction: Share of a grid's tokens that is masked.
        rows: Of a block; with several sites in a grid a block has all rows of one, whatever this says.
        columns: Of a block; one as wide as a grid of several sites hides one of them from end to end.
        negatives: Other masked tokens that each is told apart from, at most: those of the other hidden sites at the
            same row and column where two or more whole sites are hidden, else of the grid.
    """

    grid: TokenGrid
    fraction: float = 0.5
    rows: int = 4
    columns: int = 4
    negatives: int = 100

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction < 1.0:
            raise InputError(f"Got masks of {self.fraction:g} of all tokens; expected a share between 0 and 1.")
        units, (rows, columns) = self._units, self._block
        if not (1 <= rows <= units.rows and 1 <= columns <= units.columns):
            raise InputError(
                f"Got mask blocks of {self.rows} rows and {self.columns} columns for {units.rows} rows and "
                f"{units.columns} columns of tokens; expected at least 1 and no more than there are."
            )
        if units.n_tokens < 2 or self.grid.n_tokens <= LEAST_MASKED:
            raise InputError(f"Got a grid of {self.grid.n_tokens} tokens; expected some to mask and some to see.")

    @property
    def _units(self) -> TokenGrid:
        """What is masked as a whole: tokens, or all rows of a site at one column."""
        return self.grid if self.grid.sites == 1 else TokenGrid(self.grid.sites, 1, self.grid.columns)

    @property
    def _block(self) -> tuple[int, int]:
        """Rows and columns of a block in units."""
        return (self.rows if self.grid.sites == 1 else 1), self.columns

    @property
    def hides_sites(self) -> bool:
        """Whether it hides some of several sites from end to end."""
        return self.grid.sites > 1 and self.columns == self.grid.columns

    @property
    def _n_units(self) -> int:
        """Units that are masked: the share to the nearest whole one, with two tokens at least and never all units."""
        units, step = self._units.n_tokens, self.grid.columns if self.hides_sites else 1
        least = -(-LEAST_MASKED * units // self.grid.n_tokens)
        return min(max(round(self.fraction * units / step), -(-least // step)) * step, units - step)

    @property
    def _n_hidden_sites(self) -> int:
        """Sites that are hidden from end to end in each grid."""
        return self._n_units // self.grid.columns if self.hides_sites else 0

    @property
    def _places(self) -> tuple[int, int]:
        """Rows and columns of places where a block can begin, those over the edge of a site included.

        A block that hides a site of several has one place: begun anywhere, it would leave a part of most sites in view.
        """
        units, (rows, columns) = self._units, self._block
        return units.rows + rows - 1, 1 if self.hides_sites else units.columns + columns - 1

    def count(self, n_tokens: int) -> int:
        """Tokens that are masked in each grid.

        Raises:
            InputError: The grid has not so many tokens.
        """
        if n_tokens != self.grid.n_tokens:
            raise InputError(f"Got {n_tokens} tokens for masks of {self.grid}; expected {self.grid.n_tokens}.")
        return self._n_units * (self.grid.n_tokens // self._units.n_tokens)

    def noise_columns(self, n_tokens: int) -> int:
        """A side, and one for each place where a block can begin."""
        rows, columns = self._places
        return 1 + self.grid.sites * rows * columns

    def mask(self, noise: torch.Tensor, n_tokens: int) -> torch.Tensor:
        """See :func:`compute_block_mask`."""
        self.count(n_tokens)
        return compute_block_mask(len(noise), self, noise=noise)

    def negative_noise_columns(self, n_tokens: int) -> int:
        """Those of the negatives of each moment and row, or of the grid's."""
        if self._n_hidden_sites < LEAST_MASKED:
            return super().negative_noise_columns(n_tokens)
        return n_tokens // self.grid.sites * negative_noise_columns(self._n_hidden_sites, self.negatives)

    def pick_negatives(self, mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Of the other hidden sites where there are any, else of the grid."""
        if self._n_hidden_sites < LEAST_MASKED:
            return super().pick_negatives(mask, noise)
        return _among_sites(mask, self, noise)


def _by_moment(values: torch.Tensor, sites: int) -> torch.Tensor:
    """(batch, tokens) to (batch * tokens of a site, sites): what sites hold at one moment and row, side by side."""
    return values.unflatten(1, (sites, -1)).transpose(1, 2).flatten(0, 1)


def _among_sites(mask: torch.Tensor, rule: BlockRule, noise: torch.Tensor) -> torch.Tensor:
    """Negatives (batch, tokens, K): of the other hidden sites, at the same moment and row."""
    batch, n_tokens = mask.shape
    tokens = torch.arange(mask.numel(), device=mask.device).view(batch, n_tokens)
    side_by_side = _by_moment(mask, rule.grid.sites)
    picks = sample_negative_indices(side_by_side, rule.negatives, noise=noise.reshape(len(side_by_side), -1))
    found = _by_moment(tokens, rule.grid.sites).flatten()[picks]
    found = found.unflatten(0, (batch, -1)).transpose(1, 2).flatten(1, 2)
    return torch.where(mask[..., None], found, tokens[:, :1, None])


def compute_block_mask(
    batch: int, rule: BlockRule, generator: torch.Generator | None = None, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """Mask blocks of tokens, the same number of tokens in each grid.

    As in :func:`core.models.masking.compute_mask_indices`: every possible block gets a random time of arrival; blocks
    arrive until enough tokens are covered, and of the last one only as much counts as is needed. Blocks may reach over
    the edges of a site, but never into another row's other end or another site.

    Args:
        batch: Grids.
        rule: How to mask.
        generator: torch's own where it is None.
        noise: Uniform in [0, 1), (batch, ``rule.noise_columns``), instead of a generator.

    Returns:
        (batch, tokens) bool, ``rule.count`` of each row true.
    """
    if noise is None:
        noise = torch.rand((batch, rule.noise_columns(rule.grid.n_tokens)), generator=generator)
    arrivals = noise[:, 1:].reshape(batch * rule.grid.sites, 1, *rule._places)
    # A unit is covered when the first of the blocks over it arrives; where there is one place, that block covers all.
    block = (1, 1) if rule.hides_sites else rule._block
    covered_at = -functional.max_pool2d(-arrivals, block, stride=1)
    covered_at = covered_at.expand(-1, -1, rule._units.rows, rule._units.columns)
    # All units of a block have one time: a stable sort takes the last block's in order, so that they stay together.
    first = covered_at.reshape(batch, -1).argsort(dim=1, stable=True)[:, : rule._n_units]
    units = torch.zeros(batch, rule._units.n_tokens, dtype=torch.bool, device=noise.device).scatter_(1, first, True)
    # The grid turned half around, for half of them: else what is cut of a last block was always its end.
    units = torch.where(noise[:, :1] < 0.5, units.flip(1), units)
    repeats = rule.grid.rows // rule._units.rows
    return units.view(batch, rule.grid.sites, -1, rule.grid.columns).repeat_interleave(repeats, dim=2).flatten(1)
