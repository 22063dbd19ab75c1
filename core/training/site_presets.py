"""Presets of trainings on recording sites, and their settings read strictly."""

from core.errors import InputError
from core.sites.site_input import REFERENCES, SPACINGS
from core.sites.split import SPLITS
from core.training.settings_reader import SettingsReader
from core.training.site_settings import SiteSettings

PRESETS = ("tiny", "small")


def _check_grid(settings: SiteSettings, where: str) -> None:
    try:
        patches = settings.patches
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if settings.hidden_size % 4:
        raise InputError(f"{where}: got hidden_size {settings.hidden_size}; expected a multiple of 4.")
    stack = 1
    for stride in settings.conv_stride:
        stack *= stride
    for name, size in (("grid_width", patches.grid_width), ("rows of each site", patches.rows_per_site)):
        if size % stack:
            raise InputError(
                f"{where}: the convolutions' strides ({stack} in all) do not divide {size} {name}, so that a grid's "
                "edge would not count. Change grid_height, grid_width, sites_per_grid or conv_stride."
            )


READER = SettingsReader(
    SiteSettings,
    folder="wav2vec2_2d",
    prefix="sites_",
    presets=PRESETS,
    words={"spacing": SPACINGS, "reference": REFERENCES, "split_by": SPLITS},
    may_be_zero=frozenset({"sampling_rate", "gap_seconds", "num_recording_sites", "spatial_embed_dropout"}),
    below_one=frozenset({"split_ratio", "spatial_embed_dropout", "mask_prob"}),
    check=_check_grid,
)
"""Of the settings of a training on sites."""

resolve, with_overrides, validated = READER.resolve, READER.with_overrides, READER.validated


def describe_grid(settings: SiteSettings, sampling_rate: float, n_sites: int) -> str:
    """One line for the start of a run: ``Grid: 128 x 128, 16 of 64 sites at once with 8 rows each from 1 to 40 Hz``."""
    patches = settings.patches
    return (
        f"Grid: {patches.grid_height} x {patches.grid_width}, {patches.sites_per_grid} of {n_sites} sites at once with "
        f"{patches.rows_per_site} rows each from {patches.l_freq:g} to {patches.h_freq:g} Hz, {patches.seconds:g} s of "
        f"recordings at {sampling_rate:g} Hz; {settings.mask_prob:.0%} of the tokens are masked."
    )
