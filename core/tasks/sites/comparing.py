"""By how much a model's states change when the same input is said to come from another site.

The document's ``diff``, in evaluation and without a mask: with dropout or masking on, a site differs from itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError
from core.figures.sites.paper import write_comparison_figure
from core.figures.sites.tables import write_comparison_tables
from core.sites.grids import GridSource, open_grids
from core.sites.site_input import SiteInput
from core.tasks.result_folder import DATA, FIGURES, Step, check_results_target, write_results
from core.tasks.sites.loading import TrainedSites, load_trained_sites
from core.tasks.sites.requests import CompareFindings, CompareRequest

KIND = "strata sites comparison"


class Grids(Protocol):
    """A recording as grids."""

    @property
    def sites(self) -> tuple[int, ...]:
        """Ids of the model's sites that the recording holds, ascending."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences."""
        ...

    def grid(self, start_seconds: float, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A grid (height, width) float32 of ``sites`` (sites_per_grid,), and its columns' centres in seconds."""
        ...


def compare_sites(request: CompareRequest, on_progress: OnProgress = ignore_progress) -> CompareFindings:
    """Show a model the same input under two site ids, and write what changed if a folder is given.

    A grid that holds several simultaneous sites has the input in its first sub-grid, and only that one's id changes.
    The others hold other sites of the recording with their own ids, evenly chosen in the order of the ids and never one
    of the two compared: that is what the model was trained on, and the map then also shows how the change spreads.
    Where a grid takes all sites of a recording, those of the two that the input is not of fill what is left, said to be
    of no site (id 0): with its own id a site would be in the grid twice.

    Args:
        request: Model, recording, sites.
        on_progress: Told of the stages ``power``, ``sites`` and ``write``.

    Raises:
        InputError: A site that the model does not know, or a start beyond the recording.
        DataError: The recording does not hold the site whose signal is asked for, or too few sites.
        CheckpointError: The model cannot be read, or knows nothing of sites.
        OutputError: The folder cannot be written, or holds results and ``force`` is not given.
    """
    if request.output_dir is not None:
        check_results_target(request.output_dir, force=request.force)
    trained = load_trained_sites(request.model)
    chosen_ids(trained.site_input, request)
    source = GridSource(request.montage, request.numpy_rate)
    with open_grids(request.recording, trained.site_input, source, on_progress) as grids:
        found = compare_grids(trained, grids, request, on_progress)
    if request.output_dir is None:
        return found
    return replace(found, files=_write(found, request.output_dir, on_progress, force=request.force))


def compare_grids(
    trained: TrainedSites, grids: Grids, request: CompareRequest, on_progress: OnProgress = ignore_progress
) -> CompareFindings:
    """Do what :func:`compare_sites` does, of a model and grids in memory, without writing."""
    site_input, patches = trained.site_input, trained.site_input.patches
    first, second, source = chosen_ids(site_input, request)
    beside = companions(grids.sites, (first, second, source), patches.sites_per_grid - 1)
    grid, times = grids.grid(request.start_seconds, np.array([source, *(one.signal for one in beside)]))
    on_progress(Progress("sites", 0, 3, "passes"))
    states = []
    for number, site in enumerate((first, second, first), start=1):
        states.append(layer_states(trained.loaded.model, grid, (site, *(one.told for one in beside))))
        on_progress(Progress("sites", number, 3, "passes"))
    one, other, again = states
    names = site_input.sites.names
    by_layer = tuple(float(np.abs(x - y).mean()) for x, y in zip(one, other, strict=True))
    size = float(np.abs(one[-1]).mean())
    rows, columns = _token_shape(trained.loaded.model)
    return CompareFindings(
        model=trained.loaded.name,
        sites=(names[first - 1], names[second - 1]),
        source=names[source - 1],
        mean_difference=by_layer[-1],
        by_layer=by_layer,
        same_site=float(np.abs(one[-1] - again[-1]).mean()),
        relative=by_layer[-1] / size if size else 0.0,
        map=np.abs(one[-1] - other[-1]).mean(axis=1).reshape(rows, columns),
        grid=grid,
        frequencies=token_means(np.tile(patches.frequencies, patches.sites_per_grid), rows),
        times=token_means(times, columns),
        warnings=(*grids.warnings, *_warnings(trained, (first, second), beside)),
    )


def layer_states(model: Any, grid: np.ndarray, ids: Sequence[int]) -> list[np.ndarray]:
    """States of a grid, (tokens, hidden size) float64 for the transformer's input and each layer, in eval, unmasked.

    Args:
        model: A :class:`core.models.wav2vec2_2d.Wav2Vec2_2DModel`.
        grid: (height, width) float32.
        ids: (sites_per_grid,).
    """
    import torch

    model.eval()
    values = torch.from_numpy(grid)[None, None]
    with torch.no_grad():
        found = model(values, recording_site_ids=torch.tensor([list(ids)]), output_hidden_states=True)
    states: list[torch.Tensor] = [*found.hidden_states[:-1], found.last_hidden_state]
    if len(states) != model.config.num_hidden_layers + 1:
        raise AssertionError(f"{len(states)} states of {model.config.num_hidden_layers} layers")
    return [state[0].double().numpy() for state in states]


def chosen_ids(site_input: SiteInput, request: CompareRequest) -> tuple[int, int, int]:
    """Ids of the two sites and of the one whose signal is shown.

    Raises:
        InputError: The model does not know one of them.
    """
    first, second = (site_id(site_input, name) for name in request.sites)
    return first, second, site_id(site_input, request.source) if request.source else first


def site_id(site_input: SiteInput, name: str) -> int:
    """Id of a site that is given by its name, or else by its id: ``"1"``.

    Raises:
        InputError: The model knows neither.
    """
    names = site_input.sites.names
    by_name = int(site_input.ids_of((name.strip(),))[0])
    by_number = int(name) if name.strip().isdecimal() and 1 <= int(name) <= len(names) else 0
    if not (by_name or by_number):
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise InputError(f"Got site {name!r}; expected a name ({shown}) or an id from 1 to {len(names)}.")
    return by_name or by_number


@dataclass(frozen=True)
class Companion:
    """A sub-grid beside the one compared: the site whose signal it holds, and the id that the model is told."""

    signal: int
    told: int


def companions(held: Sequence[int], compared: tuple[int, int, int], wanted: int) -> tuple[Companion, ...]:
    """Choose the sites of the other sub-grids, evenly in the order of ids.

    Where they are too few, those of the compared sites that are not shown follow, told to be of no site.

    Args:
        held: Ids that the recording holds, ascending.
        compared: The two sites, and the one whose signal is shown.
        wanted: How many.

    Raises:
        DataError: The recording does not hold the signal, or holds too few others.
    """
    if compared[2] not in held:
        raise DataError(
            f"The recording does not hold site {compared[2]}, whose signal is asked for; of the model's sites it holds "
            f"{len(held)}. Choose another source, or a recording with the channel."
        )
    from core.models.spatial import NO_SITE

    others = [Companion(site, site) for site in held if site not in compared]
    hidden = sorted({site for site in compared[:2] if site in held} - {compared[2]})
    if len(others) + len(hidden) < wanted:
        raise DataError(
            f"A grid of this model holds {wanted + 1} sites at once; the recording has {len(held)} of the model's "
            "sites. Use a recording with more of them."
        )
    n_others = min(wanted, len(others))
    places = (np.arange(n_others) * len(others)) // max(1, n_others)
    filled = [Companion(site, NO_SITE) for site in hidden[: wanted - n_others]]
    return (*(others[place] for place in places.tolist()), *filled)


def token_means(values: np.ndarray, tokens: int) -> np.ndarray:
    """Average what each token stands for: values (n,) of a grid's rows or columns to (tokens,)."""
    groups = np.arange(len(values)) * tokens // len(values)
    return np.bincount(groups, weights=values, minlength=tokens) / np.bincount(groups, minlength=tokens)


def _token_shape(model: Any) -> tuple[int, int]:
    """Rows of all sub-grids together, and columns."""
    from core.models.wav2vec2_2d import token_grid

    grid = token_grid(model.config)
    return grid.sites * grid.rows, grid.columns


def _warnings(trained: TrainedSites, compared: tuple[int, int], beside: Sequence[Companion]) -> tuple[str, ...]:
    names = trained.site_input.sites.names
    unseen = [names[site - 1] for site in dict.fromkeys(compared) if trained.seen[site - 1] == 0]
    told = [*trained.loaded.warnings]
    if unseen:
        told.append(f"{', '.join(unseen)} stood in no training grid; the embedding is as it was drawn.")
    others = [names[one.signal - 1] for one in beside if one.told]
    if others:
        told.append(f"The grid holds other sites beside, with their own ids: {', '.join(others)}.")
    unnamed = [names[one.signal - 1] for one in beside if not one.told]
    if unnamed:
        told.append(f"To fill the grid it also holds the signal of {', '.join(unnamed)}, said to be of no site.")
    return tuple(told)


def _write(found: CompareFindings, folder: Path, on_progress: OnProgress, *, force: bool) -> dict[str, Path]:
    steps: list[Step] = [
        lambda: write_comparison_figure(found, folder / FIGURES),
        lambda: write_comparison_tables(found, folder / DATA),
    ]
    return write_results(folder, steps, summarise_comparison(found), on_progress, force=force)


def summarise_comparison(found: CompareFindings) -> dict[str, Any]:
    """Put together what ``summary.json`` and ``--json`` say."""
    return {
        "kind": KIND,
        "model": found.model,
        "sites": list(found.sites),
        "source": found.source,
        "mean_difference": found.mean_difference,
        "relative": found.relative,
        "same_site": found.same_site,
        "by_layer": list(found.by_layer),
        "warnings": list(found.warnings),
    }
