"""How a model of sites wants its recordings: ``SiteInput`` as ``preprocessor_config.json``, and back."""

from collections.abc import Mapping
from typing import Any

from core.errors import DataError
from core.records import from_plain, to_plain
from core.sites.site_input import SiteInput

EXTRACTOR = "wav2vec2_2d"
SITES_FILE = "sites.npz"
"""In a checkpoint: ``untrained`` (sites, dim) float32, the embeddings before the first step; ``signal_correlation``
(sites, sites) float64, NaN where unknown; ``seen`` (sites,) int64, training grids that showed each site."""

_TYPE = "feature_extractor_type"


def to_preprocessor(site_input: SiteInput) -> dict[str, Any]:
    """Content of ``preprocessor_config.json``."""
    plain: dict[str, Any] = to_plain(site_input)
    return plain | {_TYPE: EXTRACTOR}


def from_preprocessor(preprocessor: Mapping[str, Any]) -> SiteInput:
    """Make the record of what :func:`to_preprocessor` returned.

    Raises:
        DataError: It is something else.
    """
    if preprocessor.get(_TYPE) != EXTRACTOR:
        raise DataError(f"Got {_TYPE} {preprocessor.get(_TYPE)!r}; expected {EXTRACTOR!r}.")
    return from_plain(SiteInput, {key: value for key, value in preprocessor.items() if key != _TYPE})
