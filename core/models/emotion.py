"""The head of the emotion classifier as a network."""

import torch
from torch import nn


class EmotionHead(nn.Module):
    """A multi-layer perceptron dim-256-128-classes with ReLUs and a dropout of 0.3 after each of them."""

    def __init__(self, dim: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, 256),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, n_classes),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (batch, dim) features into (batch, n_classes) logits."""
        return self.layers(features)
