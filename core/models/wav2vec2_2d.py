"""Wav2Vec2_2D: wav2vec 2.0 on time-frequency grids of recording sites (shared document "Spatial Embedding Guide").

Out of transformers' blocks and the contrastive head that Meg2Vec uses. Different from the document: its convolutions
give a grid of tokens whose channels are normalised; the spatial embedding is added *after* the mask embedding has
replaced the features, so that a masked token still says whose content is asked for; positions are two-dimensional and
begin anew in each site.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2Config
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, Wav2Vec2BaseModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2EncoderLayer,
    Wav2Vec2EncoderLayerStableLayerNorm,
    Wav2Vec2FeatureProjection,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from core.errors import InputError
from core.models.contrastive import ContrastiveHead, ContrastiveOutput
from core.models.grid_masking import TokenGrid
from core.models.pretrained import OwnForPreTraining, OwnModel, OwnPreTrainedModel, check_own_config
from core.models.spatial import SpatialEmbedding

Stages = list[int | list[int] | tuple[int, int]] | tuple[int | list[int] | tuple[int, int], ...]

_LONGEST_WAVE = 10_000.0
"""Of the position's sinusoids, in tokens over 2 pi (Vaswani et al. 2017)."""


@strict
class Wav2Vec2_2DConfig(Wav2Vec2Config):
    """wav2vec 2.0's config with the document's defaults, and what grids and sites add.

    The document's ``encoder_embed_dim`` is another name of ``hidden_size``. Fields of wav2vec 2.0 that belong to speech
    (vocabulary, CTC, adapters), convolutional positions or masks in time have no effect.

    Attributes:
        in_channels: Of a grid.
        grid_height: Rows of a grid.
        grid_width: Columns of a grid.
        sites_per_grid: With S > 1 the rows are S sub-grids of as many rows, each of one simultaneous site.
        conv_dim: Channels of each stage of 2-D convolutions.
        conv_kernel: Of each stage: a number for both axes, or one for rows and one for columns.
        conv_stride: The same. Edges are padded so that a stage of stride s leaves 1/s of the rows and columns.
        use_spatial_embedding: Whether the model can be told its sites.
        num_recording_sites: Site ids go from 1 to this number.
        spatial_embed_dim: Numbers that describe a site.
        spatial_embed_dropout: Of these.
        spatial_init_std: Of these, before training.
        spatial_attention_bias: Whether each head of each layer also adds to its logits the cosine of two tokens' site
            embeddings, times a scale that it learns from 0 on. It takes heads x tokens x tokens numbers a grid.
    """

    model_type = "wav2vec2_2d"
    attribute_map = {"encoder_embed_dim": "hidden_size"}  # noqa: RUF012  transformers' own way

    in_channels: int = 1
    grid_height: int = 128
    grid_width: int = 128
    sites_per_grid: int = 1
    conv_dim: list[int] | tuple[int, ...] = (256, 512)
    conv_kernel: Stages = (3, 3)
    conv_stride: Stages = (2, 2)
    conv_bias: bool = True
    feat_extract_norm: str = "layer"
    use_spatial_embedding: bool = True
    num_recording_sites: int = 64
    spatial_embed_dim: int = 256
    spatial_embed_dropout: float | int = 0.1
    spatial_init_std: float | int = 0.02
    spatial_attention_bias: bool = False
    layerdrop: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        sizes = ("in_channels", "grid_height", "grid_width", "sites_per_grid", "num_recording_sites")
        check_own_config(self, (*sizes, "spatial_embed_dim"))
        if self.grid_height % self.sites_per_grid:
            raise InputError(
                f"Got {self.sites_per_grid} sites in a grid of {self.grid_height} rows; expected a number that divides "
                "the rows."
            )
        if self.hidden_size % 4:
            raise InputError(f"Got hidden_size {self.hidden_size}; expected a multiple of 4, for sines and cosines.")
        if self.spatial_attention_bias and not self.use_spatial_embedding:
            raise InputError("Got spatial_attention_bias without use_spatial_embedding; expected both, or the latter.")
        token_grid(self)


def both_axes(value: int | Sequence[int]) -> tuple[int, int]:
    """A stage's number for rows and for columns.

    >>> both_axes(3), both_axes([1, 2])
    ((3, 3), (1, 2))
    """
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns


def token_grid(config: Wav2Vec2_2DConfig) -> TokenGrid:
    """The tokens that a model of this config makes of a grid.

    Raises:
        InputError: The convolutions leave none.

    >>> token_grid(Wav2Vec2_2DConfig())
    TokenGrid(sites=1, rows=32, columns=32)
    """
    size = (config.grid_height // config.sites_per_grid, config.grid_width)
    left = list(size)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        axes = zip(left, both_axes(kernel), both_axes(stride), strict=True)
        left = [(n + 2 * ((k - 1) // 2) - k) // s + 1 for n, k, s in axes]
    if min(left) < 1:
        raise InputError(
            f"Got {size[0]} rows and {size[1]} columns a site for convolutions of kernels {config.conv_kernel} and "
            f"strides {config.conv_stride}, which leave nothing. Use a larger grid, fewer sites or fewer stages."
        )
    return TokenGrid(config.sites_per_grid, *left)


@dataclass
class Wav2Vec2_2DOutput(Wav2Vec2BaseModelOutput):
    """States (batch, tokens, hidden_size); ``output["x"]`` is the document's name of ``last_hidden_state``."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__("last_hidden_state" if key == "x" else key)


class PlaceNorm(nn.LayerNorm):
    """Normalises the channels of each place of (batch, channels, rows, columns)."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        normed: torch.Tensor = super().forward(values.movedim(1, -1)).movedim(-1, 1)
        return normed


class ConvStage(nn.Module):
    """A 2-D convolution, a norm and an activation.

    The norm is as in wav2vec 2.0: over the channels of each place in every stage (``layer``), or over each channel's
    places in the first stage alone (``group``).

    Args:
        config: Sizes.
        stage: Which, from 0 on.
    """

    def __init__(self, config: Wav2Vec2_2DConfig, stage: int) -> None:
        super().__init__()
        before = config.conv_dim[stage - 1] if stage else config.in_channels
        dim, kernel = config.conv_dim[stage], both_axes(config.conv_kernel[stage])
        self.conv = nn.Conv2d(
            before,
            dim,
            kernel,
            both_axes(config.conv_stride[stage]),
            padding=tuple((size - 1) // 2 for size in kernel),
            bias=config.conv_bias,
        )
        grouped = nn.Identity() if stage else nn.GroupNorm(dim, dim)
        self.layer_norm = PlaceNorm(dim) if config.feat_extract_norm == "layer" else grouped
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Turn (batch, channels, rows, columns) into the same of the next stage."""
        activated: torch.Tensor = self.activation(self.layer_norm(self.conv(values)))
        return activated


class GridPositions(nn.Module):
    """Fixed sines and cosines of a token's row and column within its site, times a learned scale.

    Half of the numbers tell the row and half the column (He et al. 2022, "Masked autoencoders are scalable vision
    learners", appendix A.1).

    Args:
        dim: Numbers of a token; a multiple of 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, grid: TokenGrid) -> torch.Tensor:
        """(tokens, dim); the same for each site."""
        rows, columns = (self._waves(n) for n in (grid.rows, grid.columns))
        halves = torch.cat(torch.broadcast_tensors(rows[:, None], columns[None]), dim=-1)
        return self.scale * halves.flatten(0, 1).repeat(grid.sites, 1)

    def _waves(self, n: int) -> torch.Tensor:
        """(n, dim / 2)."""
        steps = torch.arange(self.dim // 4, device=self.scale.device) / (self.dim // 4)
        angles = torch.arange(n, device=self.scale.device)[:, None] * _LONGEST_WAVE**-steps
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class GridEncoder(nn.Module):
    """wav2vec 2.0's transformer without its convolution over positions, which would run in raster order.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Wav2Vec2_2DConfig) -> None:
        super().__init__()
        self.stable = config.do_stable_layer_norm
        layer = Wav2Vec2EncoderLayerStableLayerNorm if self.stable else Wav2Vec2EncoderLayer
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: torch.Tensor, biases: Sequence[torch.Tensor | None], **kwargs: Any) -> BaseModelOutput:
        """Turn (batch, tokens, hidden_size) into the same; a bias of attention, or None, for each layer."""
        hidden = self.dropout(hidden if self.stable else self.layer_norm(hidden))
        for layer, bias in zip(self.layers, biases, strict=True):
            hidden = layer(hidden, attention_mask=bias, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden) if self.stable else hidden)


class Wav2Vec2_2DPreTrainedModel(OwnPreTrainedModel):
    """Weights as wav2vec 2.0 draws them, its convolutions in two dimensions."""

    config: Wav2Vec2_2DConfig
    config_class = Wav2Vec2_2DConfig
    base_model_prefix = "wav2vec2_2d"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.bias, a=-bound, b=bound)
        elif isinstance(module, SpatialEmbedding):
            module.reset_parameters()
        elif isinstance(module, GridPositions):
            nn.init.ones_(module.scale)
        elif isinstance(module, Wav2Vec2_2DModel) and module.attention_scales is not None:
            nn.init.zeros_(module.attention_scales)


class Wav2Vec2_2DModel(Wav2Vec2_2DPreTrainedModel, OwnModel):
    """From grids to states.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Wav2Vec2_2DConfig) -> None:
        super().__init__(config)
        self.feature_extractor = nn.Sequential(*(ConvStage(config, stage) for stage in range(len(config.conv_dim))))
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_())
        self.spatial_embedding = _spatial(config) if config.use_spatial_embedding else None
        self.positions = GridPositions(config.hidden_size)
        heads = (config.num_hidden_layers, config.num_attention_heads, 1, 1)
        self.attention_scales = nn.Parameter(torch.zeros(heads)) if config.spatial_attention_bias else None
        self.encoder = GridEncoder(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        recording_site_ids: torch.Tensor | None = None,
        features_only: bool = False,
        **kwargs: Any,
    ) -> Wav2Vec2_2DOutput:
        """Compute states.

        Args:
            input_values: (batch, in_channels, grid_height, grid_width), standardised.
            mask_time_indices: (batch, tokens) bool, tokens whose features the transformer does not get to see.
            recording_site_ids: int64 of 1 to ``num_recording_sites``, or 0 for no site: (batch,) one a grid,
                (batch, sites_per_grid), or (batch, tokens). None tells the model no site.
            features_only: The document's word for states without mask and loss, which is all that this class gives;
                with a mask it is an error.
            **kwargs: ``output_hidden_states=True`` for every state: the transformer's input, then each block's output.

        Returns:
            ``last_hidden_state`` (also ``["x"]``) (batch, tokens, hidden_size), ``extract_features``
            (batch, tokens, conv_dim), and the hidden states if they were asked for. Tokens stand as in
            :class:`TokenGrid`.

        Raises:
            InputError: Grid, mask or site ids do not fit the model.
        """
        if features_only and mask_time_indices is not None:
            raise InputError("Got a mask with features_only; expected none: features are those of the whole grid.")
        self._check(input_values)
        grid = token_grid(self.config)
        hidden, features = self.feature_projection(self.features(input_values))
        hidden = self.hide(hidden, mask_time_indices)
        biases: Sequence[torch.Tensor | None] = [None] * len(self.encoder.layers)
        if recording_site_ids is not None:
            added, biases = self._of_sites(recording_site_ids, grid, hidden)
            hidden = hidden + added
        hidden = hidden + self.positions(grid).to(hidden.dtype)
        states = self.encoder(hidden, biases, **kwargs).last_hidden_state
        return Wav2Vec2_2DOutput(last_hidden_state=states, extract_features=features)

    def features(self, values: torch.Tensor, recording_site_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Features (batch, tokens, conv_dim) of (batch, channels, height, width), before any norm and mask.

        Sites are convolved apart from each other. They do not depend on the site ids, which are taken so that every
        model can be asked alike.
        """
        batch, channels, height, width = values.shape
        sites = self.config.sites_per_grid
        apart = values.view(batch, channels, sites, height // sites, width).transpose(1, 2).flatten(0, 1)
        features: torch.Tensor = self.feature_extractor(apart).flatten(2).transpose(1, 2)
        return features.reshape(batch, -1, features.shape[-1])

    def _of_sites(
        self, ids: torch.Tensor, grid: TokenGrid, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """What sites add to (batch, tokens, hidden_size), and to the attention of each layer.

        The latter is a head's scale times the cosine of two tokens' sites, (batch, heads, tokens, tokens), or None.
        """
        if self.spatial_embedding is None:
            raise InputError(
                "Got recording_site_ids for a model without spatial embedding; expected none. Leave them out, or make "
                "a model with use_spatial_embedding."
            )
        ids = _in_rows(ids, len(hidden), grid)
        added = _over_tokens(self.spatial_embedding(ids), grid).to(hidden.dtype)
        if self.attention_scales is None:
            return added, [None] * len(self.encoder.layers)
        directions = functional.normalize(_over_tokens(self.spatial_embedding.rows(ids), grid), dim=-1)
        alike = (directions @ directions.transpose(1, 2))[:, None]
        return added, [(scale * alike).to(hidden.dtype) for scale in self.attention_scales]

    def _check(self, values: torch.Tensor) -> None:
        config = self.config
        wanted = (config.in_channels, config.grid_height, config.grid_width)
        if values.ndim != 4 or tuple(values.shape[1:]) != wanted or not values.is_floating_point():
            raise InputError(
                f"Got values of shape {tuple(values.shape)} and type {values.dtype}; expected floats of (batch, "
                f"{', '.join(map(str, wanted))}). Cut grids of the model's size, or make a model for yours with "
                "in_channels, grid_height and grid_width."
            )


def _spatial(config: Wav2Vec2_2DConfig) -> SpatialEmbedding:
    return SpatialEmbedding(
        config.num_recording_sites,
        config.spatial_embed_dim,
        config.hidden_size,
        config.spatial_embed_dropout,
        config.spatial_init_std,
    )


def _in_rows(ids: torch.Tensor, batch: int, grid: TokenGrid) -> torch.Tensor:
    """Site ids as (batch, 1), (batch, sites) or (batch, tokens)."""
    fitting = {(batch, grid.sites), (batch, grid.n_tokens), *([(batch,)] if grid.sites == 1 else [])}
    if tuple(ids.shape) not in fitting:
        raise InputError(
            f"Got recording_site_ids of shape {tuple(ids.shape)}; expected "
            f"{' or '.join(str(shape) for shape in sorted(fitting))}: an id for each grid, site or token."
        )
    return ids.reshape(batch, -1)


def _over_tokens(values: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """(batch, 1 or sites or tokens, dim) to (batch, tokens, dim)."""
    return values.repeat_interleave(grid.n_tokens // values.shape[1], dim=1)


class Wav2Vec2_2DForPreTraining(Wav2Vec2_2DPreTrainedModel, OwnForPreTraining):
    """Wav2Vec2_2D with quantiser and contrastive loss.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Wav2Vec2_2DConfig) -> None:
        super().__init__(config)
        self.wav2vec2_2d = Wav2Vec2_2DModel(config)
        self.head = ContrastiveHead(config)
        self.post_init()

    @property
    def spatial_embedding(self) -> SpatialEmbedding | None:
        """The model's, where the document looks for it."""
        found: SpatialEmbedding | None = self.wav2vec2_2d.spatial_embedding
        return found

    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        sampled_negative_indices: torch.Tensor | None = None,
        recording_site_ids: torch.Tensor | None = None,
        features_only: bool = False,
        **kwargs: Any,
    ) -> ContrastiveOutput | Wav2Vec2_2DOutput:
        """Compute the loss of a batch, or its states.

        Args:
            input_values: (batch, in_channels, grid_height, grid_width), standardised.
            mask_time_indices: (batch, tokens) bool of :func:`core.models.grid_masking.compute_block_mask`.
            sampled_negative_indices: (batch, tokens, K) of :func:`core.models.masking.sample_negative_indices`; None
                for no loss.
            recording_site_ids: As :class:`Wav2Vec2_2DModel` takes them.
            features_only: Return the states of :class:`Wav2Vec2_2DModel`, without mask and loss.
            **kwargs: As :class:`Wav2Vec2_2DModel` takes them.

        Raises:
            InputError: Grid, mask or site ids do not fit the model, or there is no mask for a loss.
        """
        if not features_only and mask_time_indices is None:
            raise InputError("Got no mask for a loss; expected mask_time_indices, or features_only=True for states.")
        outputs = self.wav2vec2_2d(
            input_values,
            mask_time_indices=mask_time_indices,
            recording_site_ids=recording_site_ids,
            features_only=features_only,
            **kwargs,
        )
        if mask_time_indices is None:
            return outputs
        return self.contrast(outputs, mask_time_indices, sampled_negative_indices)
