"""What a model knows of recording sites: one learned vector each, added to the features of that site.

After the spatial embedding of the shared document "Spatial Embedding Guide for Wav2Vec2_2D", with a row for every id
from 1 to N and nothing at all for id 0.
"""

import torch
from torch import nn
from torch.nn import functional

from core.errors import InputError

NO_SITE = 0
"""Id of what has no site, or none that is known."""


class SpatialEmbedding(nn.Module):
    """Site ids to what is added to features.

    ``weight`` (num_sites + 1, dim) holds the embeddings; row 0 belongs to no site and stays zero. The projection has no
    bias, and id 0 is cut out after it, so that id 0 contributes nothing.

    Args:
        num_sites: Ids go from 1 to this number.
        dim: Numbers that describe a site.
        out_dim: Size of the features.
        dropout: Of the embedding's numbers, in training.
        init_std: Standard deviation of the weights before training, and of what they add.
    """

    def __init__(self, num_sites: int, dim: int, out_dim: int, dropout: float = 0.1, init_std: float = 0.02) -> None:
        super().__init__()
        self.init_std = init_std
        self.weight = nn.Parameter(torch.empty(num_sites + 1, dim))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, out_dim, bias=False)
        self.reset_parameters()

    @property
    def num_sites(self) -> int:
        """The largest id."""
        return len(self.weight) - 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw small weights, and a projection that leaves their size as it is on average."""
        nn.init.normal_(self.weight, std=self.init_std)
        self.weight[NO_SITE] = 0.0
        nn.init.normal_(self.projection.weight, std=self.weight.shape[1] ** -0.5)

    def forward(self, site_ids: torch.Tensor) -> torch.Tensor:
        """Turn site ids (...) into (..., out_dim); zeros where the id is 0.

        Raises:
            InputError: Ids that are not whole numbers from 0 to ``num_sites``.
        """
        projected: torch.Tensor = self.projection(self.dropout(self.rows(site_ids)))
        return projected.masked_fill((site_ids == NO_SITE)[..., None], 0.0)

    def rows(self, site_ids: torch.Tensor) -> torch.Tensor:
        """The embeddings (..., dim) of site ids (...); zeros where the id is 0.

        Raises:
            InputError: Ids that are not whole numbers from 0 to ``num_sites``.
        """
        self._check(site_ids)
        found = functional.embedding(site_ids.long(), self.weight, padding_idx=NO_SITE)
        return found.masked_fill((site_ids == NO_SITE)[..., None], 0.0)

    def _check(self, site_ids: torch.Tensor) -> None:
        kind = site_ids.dtype
        if kind == torch.bool or kind.is_floating_point or kind.is_complex:
            raise InputError(
                f"Got site ids of type {kind}; expected int64: whole numbers from 1 to {self.num_sites}, 0 for no site."
            )
        wrong = site_ids[(site_ids < 0) | (site_ids > self.num_sites)]
        if len(wrong):
            raise InputError(
                f"Got site id {int(wrong[0])}; expected 1 to {self.num_sites}, or 0 for no site. Use a site that the "
                "model knows, or make a model with a larger num_recording_sites."
            )
