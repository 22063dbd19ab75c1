"""All that decides a training on recording sites, flat as in its YAML files."""

from dataclasses import dataclass

from core.sites.site_input import PatchSettings
from core.training.contrastive_settings import ContrastiveSettings


@dataclass(frozen=True)
class SiteSettings(ContrastiveSettings):
    """Settings of a training on sites. Windows are grids, and the convolutions are the same along both of their axes.

    Attributes:
        grid_height, grid_width, sites_per_grid, l_freq, h_freq, spacing, tf_window_seconds, hop_seconds, reference: Of
            the grids; see :class:`core.sites.site_input.PatchSettings`.
        sampling_rate: Hz that recordings are brought to; 0 takes the first recording's.
        split_ratio: Share of the time (of the recordings, where ``split_by`` says so) that trains.
        split_by: ``time`` (blocks with a gap, in each recording) or ``recording``.
        gap_seconds: Left out between blocks of different parts.
        use_spatial_embedding: Whether the model is told its sites.
        num_recording_sites: Rows of the embedding table; 0 takes as many as the data have.
        spatial_embed_dim, spatial_embed_dropout, spatial_init_std: Of the spatial embedding.
        spatial_learning_rate: Of the spatial embedding and its projection.
        mask_prob: Share of the tokens that is masked.
        mask_rows, mask_columns: Size of a block in tokens; with several sites in a grid a block hides all rows of one,
            and one as wide as the grid a whole site, which is then told from the other hidden ones moment by moment.
    """

    name: str = "wav2vec2-2d"
    # data
    grid_height: int = 128
    grid_width: int = 128
    sites_per_grid: int = 16
    l_freq: float = 1.0
    h_freq: float = 40.0
    spacing: str = "linear"
    tf_window_seconds: float = 0.5
    hop_seconds: float = 0.0625
    reference: str = "none"
    sampling_rate: float = 0.0
    split_ratio: float = 0.8
    split_by: str = "time"
    gap_seconds: float = 2.0
    # model
    use_spatial_embedding: bool = True
    num_recording_sites: int = 0
    spatial_embed_dim: int = 256
    spatial_embed_dropout: float = 0.1
    spatial_init_std: float = 0.02
    spatial_learning_rate: float = 5e-3
    conv_dim: tuple[int, ...] = (64, 128)
    conv_kernel: tuple[int, ...] = (2, 2)
    conv_stride: tuple[int, ...] = (2, 2)
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 512
    codevector_dim: int = 128
    proj_codevector_dim: int = 128
    mask_prob: float = 0.5
    mask_rows: int = 4
    mask_columns: int = 4
    gumbel_temperature_decay: float = 0.9975
    # training
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    max_steps: int = 600
    eval_every: int = 100
    checkpoint_every: int = 100
    eval_windows: int = 32
    num_workers: int = 0

    @property
    def patches(self) -> PatchSettings:
        """How recordings become grids."""
        names = (
            "grid_height",
            "grid_width",
            "sites_per_grid",
            "l_freq",
            "h_freq",
            "spacing",
            "hop_seconds",
            "reference",
        )
        return PatchSettings(window_seconds=self.tf_window_seconds, **{name: getattr(self, name) for name in names})
