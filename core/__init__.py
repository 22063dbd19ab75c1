"""Strata: speech and brain models, layer by layer."""

__version__ = "0.1.0"
