"""A tiny Meg2Vec in a checkpoint folder, and recordings for it: for tests of loading and embedding."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from core.embed.encoders.meg2vec import HeldRecording, noise_sensors
from core.models.meg2vec import Meg2VecConfig, Meg2VecForPreTraining
from core.models.model_input import to_preprocessor
from core.sensors import ModelInput, Preparation, Statistics

N_CHANNELS = 6
SIZE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": [16] * 4, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8, "codevector_dim": 8, "proj_codevector_dim": 8, "in_channels": N_CHANNELS,
    # all that must be off when embedding is turned up
    "hidden_dropout": 0.4, "attention_dropout": 0.4, "activation_dropout": 0.4, "feat_proj_dropout": 0.4,
}  # fmt: skip
VARIANTS = {
    "channels": {},
    "stable": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "positions": {"sensor_input": "positions", "virtual_channels": 5, "sensor_dim": 16},
}


def tiny_meg(variant="channels", **changes):
    """A model with random weights, norms other than one and zero among them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Meg2VecForPreTraining(Meg2VecConfig(**SIZE | VARIANTS[variant] | changes)).eval()
        for name, value in model.named_parameters():
            if "layer_norm" in name:
                value.data += 0.3 * torch.rand_like(value)
    return model


def model_input_for(config, **changes):
    """How recordings are prepared for it."""
    located = config.sensor_input == "positions"
    sensors = None if located else noise_sensors(config.in_channels)
    n = 2 if located else config.in_channels
    layout = "native" if located else "neuromag306"
    statistics = Statistics(np.zeros(n), np.linspace(1e-12, 2e-12, n))
    return ModelInput(Preparation(layout=layout, **changes), sensors, statistics, simulated=True)


def save_tiny_meg(folder, variant="channels", **changes):
    """Write a folder as transformers would, with preprocessor_config.json; return the model."""
    model = tiny_meg(variant, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict() | {"architectures": ["Meg2VecForPreTraining"]}
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = to_preprocessor(model_input_for(model.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    return model


def meg_noise(n_samples, n_channels=N_CHANNELS, seed=0):
    """Noise that grows, on an offset: statistics of a part are not those of the whole."""
    values = np.random.default_rng(seed).standard_normal((n_channels, n_samples)) * np.linspace(0.2, 2, n_samples) + 0.3
    return HeldRecording(values.astype(np.float32), 250, noise_sensors(n_channels))
