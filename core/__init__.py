"""Strata: speech and brain models, layer by layer."""

from core import torchaudio_standin

__version__ = "0.1.0"

# Registers a finder and imports nothing: it has to be in place before anything imports torchaudio, and
# transformers and encodec both do.
torchaudio_standin.install()
