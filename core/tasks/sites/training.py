"""Train a Wav2Vec2_2D on recording sites: open the recordings, see that settings and data fit, and train."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.arrays import OnProgress, ignore_progress
from core.errors import InputError
from core.tasks.pretrain_run import Asked, carry_out, wanted_trackers
from core.tasks.sites.requests import SiteTrainRequest
from core.training.pretrain_settings import PretrainResult
from core.training.site_presets import resolve, validated, with_overrides
from core.training.site_settings import SiteSettings

if TYPE_CHECKING:
    from core.sites.data import Sites
    from core.sites.site_data import SiteData

log = logging.getLogger(__name__)


def train_sites(
    request: SiteTrainRequest, on_progress: OnProgress = ignore_progress, run: Path | None = None
) -> PretrainResult:
    """Train, or go on with a training.

    Args:
        request: Recordings, settings, folder, whether to go on.
        on_progress: Told of each step.
        run: Folder of a run that an app watches; see :func:`core.tasks.pretrain_run.carry_out`.

    Raises:
        InputError: Settings and data do not fit each other, the folder holds a run and ``resume`` is off, or another
            process is at work in it.
        DataError: A recording cannot be read, or they are too few or too short.
        OutputError: The disk is full; the last checkpoint is as it was.
        Stopped: With ``run``, where it was asked to stop; it goes on when it is asked for again.
    """
    from core.training.site_pretraining import pretrain_sites

    settings = validated(request.settings)
    wanted_trackers(settings)
    with open_sites(request, on_progress) as data:
        settings = fitted(settings, data)
        check_sites(settings, data)
        asked = Asked(settings, request.output_dir, data.fingerprint, request.resume, request.until, option="--output")
        return carry_out(asked, partial(pretrain_sites, settings, data), on_progress, run)


def read_site_settings(config: str | Path, overrides: Sequence[str] = ()) -> SiteSettings:
    """Settings of a preset or a file, with single ones changed; see :mod:`core.training.site_presets`."""
    return with_overrides(resolve(config), overrides)


def open_sites(request: SiteTrainRequest, on_progress: OnProgress = ignore_progress) -> "Sites":
    """Open the recordings of a request; use the result in a ``with``.

    Raises:
        InputError, DataError: They cannot be used or read.
        OutputError: The temporary files cannot be written.
    """
    from core.sites.data import SiteDataSettings, open_site_data
    from core.sites.split import SplitPlan

    settings = request.settings
    split = SplitPlan(settings.split_ratio, settings.split_by, settings.gap_seconds, settings.seed)
    wanted = SiteDataSettings(
        patches=settings.patches,
        sampling_rate=settings.sampling_rate,
        split=split,
        sites=request.sites,
        montage=request.montage,
        numpy_rate=request.numpy_rate,
    )
    return open_site_data(request.data, wanted, on_progress)


def fitted(settings: SiteSettings, data: "SiteData") -> SiteSettings:
    """The settings with grids as the data have them: of no more sites than the smallest recording holds."""
    patches = data.site_input.patches
    return replace(settings, grid_height=patches.grid_height, sites_per_grid=patches.sites_per_grid)


def check_sites(settings: SiteSettings, data: "SiteData") -> None:
    """See that the model fits the data before any folder is made; say which sites no training grid will hold.

    Raises:
        InputError: They do not fit each other.
    """
    from core.training.site_pretraining import mask_rule, model_config, training_grids

    names = data.site_input.sites.names
    mask_rule(settings, model_config(settings, len(names)))
    shown = training_grids(settings, data).sites
    if len(shown) < 2:
        raise InputError(
            f"Only {len(shown)} of {len(names)} sites has a stretch as long as a grid; a similarity needs at least "
            "two. Set a smaller grid_width, or take longer recordings."
        )
    unseen = [name for number, name in enumerate(names, start=1) if number not in shown]
    if unseen:
        log.warning("No training grid holds %s: %s.", *_listed(unseen))
    for warning in data.facts.get("warnings", ()):
        log.warning("%s", warning)


def _listed(names: Sequence[str]) -> tuple[str, str]:
    some = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
    return f"{len(names)} sites" if len(names) > 1 else "one site", some
