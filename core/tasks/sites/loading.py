"""A trained model of recording sites with all that its checkpoint says about them."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.checkpoints.find import find_model
from core.checkpoints.load import load_model
from core.errors import CheckpointError, DataError
from core.records import from_plain
from core.sites.preprocessor import SITES_FILE
from core.sites.site_input import SiteInput

if TYPE_CHECKING:
    from core.models.loaded import LoadedModel

MODEL_TYPE = "wav2vec2_2d"
_TYPE = "feature_extractor_type"


@dataclass(frozen=True)
class TrainedSites:
    """A model and its sites.

    Attributes:
        loaded: The model with what its folder says.
        site_input: Grids and known sites; row i is site i + 1.
        untrained: (sites, dim) embeddings before training.
        signal_correlation: (sites, sites) of the raw signals; NaN where unknown.
        seen: (sites,) training grids that held each site.
    """

    loaded: "LoadedModel"
    site_input: SiteInput
    untrained: np.ndarray
    signal_correlation: np.ndarray
    seen: np.ndarray


def load_trained_sites(name: str) -> TrainedSites:
    """Load a model of recording sites by its bundled name or folder.

    Raises:
        CheckpointError: There is no such model, it is of another kind or without spatial embedding, or a file of it is
            missing or does not fit the others.
    """
    found = find_model(name)
    loaded = load_model(found.folder, found.name, from_user=found.from_user)
    if loaded.model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{found.name} is a {loaded.model_type} model; expected one of recording sites ({MODEL_TYPE}). Give a "
            "folder that python -m core sites train wrote."
        )
    if loaded.model.spatial_embedding is None:
        raise CheckpointError(
            f"{found.name} was trained without spatial embedding (use_spatial_embedding is false); there is nothing "
            "that it learned of sites. Train one with it."
        )
    site_input = _site_input(loaded)
    return TrainedSites(loaded, site_input, **_arrays(found.folder / SITES_FILE, len(site_input.sites)))


def site_embeddings(model: Any, n_sites: int) -> np.ndarray:
    """Rows of a model's table, (n_sites, dim) float64, for ids 1 to ``n_sites``.

    The rows themselves, not what the projection makes of them: the document compares these.

    Args:
        model: With ``spatial_embedding.weight`` (ids, dim), id 0 first.
        n_sites: Sites that the model knows; its table may have room for more.
    """
    weight = model.spatial_embedding.weight.detach().cpu().numpy()
    return np.asarray(weight[1 : n_sites + 1], dtype=np.float64)


def _site_input(loaded: "LoadedModel") -> SiteInput:
    plain = {key: value for key, value in loaded.preprocessor.items() if key != _TYPE}
    path, config = loaded.folder / "preprocessor_config.json", loaded.model.config
    try:
        found = from_plain(SiteInput, plain)
    except DataError as error:
        raise CheckpointError(f"{path} does not say which sites the model knows: {error}") from error
    patches, n_sites = found.patches, len(found.sites)
    grids = (patches.grid_height, patches.grid_width, patches.sites_per_grid)
    expected = (config.grid_height, config.grid_width, config.sites_per_grid)
    if grids != expected or n_sites > config.num_recording_sites:
        raise CheckpointError(
            f"{path} has grids (height, width, sites) of {grids} and {n_sites} sites; config.json has {expected} and "
            f"room for {config.num_recording_sites}. Restore the original files."
        )
    return found


def _arrays(path: Path, n_sites: int) -> dict[str, np.ndarray]:
    """Read what training noted of its sites; nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ("untrained", "signal_correlation", "seen")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read ({' '.join(str(error).split())}); expected the arrays untrained, "
            "signal_correlation and seen. Restore the original file."
        ) from error
    shapes = (found["untrained"].shape[:1], found["signal_correlation"].shape, found["seen"].shape)
    if shapes != ((n_sites,), (n_sites, n_sites), (n_sites,)):
        raise CheckpointError(f"{path} does not fit {n_sites} sites. Restore the original file.")
    return found
