"""Tiny models of every family, with random weights, saved by transformers itself; each loads in milliseconds.

Everything that must be off when embedding (dropout, layer drop, SpecAugment) is turned up, and norms get weights other
than one and zero, so that an encoder that forgets one of them shows.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import (
    Data2VecAudioConfig,
    EncodecConfig,
    HubertConfig,
    PreTrainedModel,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
)
from transformers.models.encodec.modeling_encodec import EncodecEuclideanCodebook

SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
NOISY = {
    "hidden_dropout": 0.4,
    "attention_dropout": 0.4,
    "activation_dropout": 0.4,
    "feat_proj_dropout": 0.4,
    "layerdrop": 0.6,
    "mask_time_prob": 0.5,
    "mask_feature_prob": 0.5,
}
CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
GROUP = SIZE | NOISY | CONVOLUTIONS
STABLE = GROUP | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
CODEVECTORS = {"num_codevectors_per_group": 8, "codevector_dim": 8, "proj_codevector_dim": 8}
WHISPER = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "dropout": 0.4,
    "encoder_layerdrop": 0.6,
}
CODEC = {"num_filters": 4, "hidden_size": 16, "codebook_size": 16, "codebook_dim": 16}
CODEC_48KHZ = {
    "sampling_rate": 48_000,
    "audio_channels": 2,
    "normalize": True,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
}

CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "wav2vec2": lambda: Wav2Vec2Config(**GROUP, **CODEVECTORS),
    "wav2vec2-stable": lambda: Wav2Vec2Config(**STABLE, **CODEVECTORS),
    "hubert": lambda: HubertConfig(**GROUP),
    "hubert-stable": lambda: HubertConfig(**STABLE),
    "hubert-batch-norm": lambda: HubertConfig(**GROUP, conv_pos_batch_norm=True),
    "wavlm": lambda: WavLMConfig(**GROUP, **CODEVECTORS, num_buckets=32, max_bucket_distance=80),
    "wavlm-stable": lambda: WavLMConfig(**STABLE, **CODEVECTORS, num_buckets=32, max_bucket_distance=80),
    "data2vec-audio": lambda: Data2VecAudioConfig(**GROUP | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}),
    "w2v-bert": lambda: Wav2Vec2BertConfig(**SIZE, vocab_size=32, **NOISY, conformer_conv_dropout=0.4),
    "whisper": lambda: WhisperConfig(**WHISPER),
    "encodec": lambda: EncodecConfig(**CODEC),
    "encodec-48khz": lambda: EncodecConfig(**CODEC | CODEC_48KHZ),
}
CODECS = ("encodec", "encodec-48khz")
RAW_SAMPLES = tuple(name for name in CONFIGS if name not in ("w2v-bert", "whisper", *CODECS))
MODEL_CLASSES = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
    "wav2vec2-bert": "Wav2Vec2BertModel",
    "whisper": "WhisperModel",
    "encodec": "EncodecModel",
}
PREPROCESSORS = {
    "wav2vec2-bert": lambda _config: transformers.SeamlessM4TFeatureExtractor(),
    "whisper": lambda _config: transformers.WhisperFeatureExtractor(),
    "encodec": lambda config: transformers.EncodecFeatureExtractor(config.audio_channels, config.sampling_rate),
}


def tiny_model(family: str, model_class: str | None = None, seed: int = 0) -> PreTrainedModel:
    """A model of a family of :data:`CONFIGS`, in eval mode; ``model_class`` takes one with a head."""
    config = CONFIGS[family]()
    name = model_class or MODEL_CLASSES[config.model_type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, name)(config)
        _stir(model)
    return model.eval()


@torch.no_grad()
def _stir(model: PreTrainedModel) -> None:
    """Give norms, biases and codebooks values of their own: many mistakes do not show in initial ones and zeros."""
    for key, weight in model.named_parameters():
        if model.config.model_type == "encodec" and key.endswith("conv.parametrizations.weight.original0"):
            weight.mul_(2)  # or the biases drown the sound
    for module in model.modules():
        if isinstance(module, EncodecEuclideanCodebook):  # zeros before training
            module.embed.normal_(std=0.1)
        if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm) and module.weight is not None:
            module.weight.add_(0.2 * torch.randn_like(module.weight))
            module.bias.add_(0.2 * torch.randn_like(module.bias))
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.add_(0.3 * torch.randn_like(module.running_mean))
            module.running_var.mul_(1 + 0.5 * torch.rand_like(module.running_var))


def save_tiny(
    folder: Path, family: str, model_class: str | None = None, *, preprocessor: bool = True
) -> PreTrainedModel:
    """Save a tiny model and its feature extractor's settings as transformers does, and return it."""
    model = tiny_model(family, model_class)
    model.save_pretrained(folder)
    if preprocessor:
        make = PREPROCESSORS.get(model.config.model_type, lambda _config: transformers.Wav2Vec2FeatureExtractor())
        make(model.config).save_pretrained(folder)
    return model
