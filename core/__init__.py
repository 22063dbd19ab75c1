"""Strata: speech and brain models, layer by layer."""

import sys

from core import torchaudio_standin

__version__ = "0.1.0"

# Registers a finder and imports nothing: it has to be in place before anything imports torchaudio, and
# transformers and encodec both do.
torchaudio_standin.install()

# OpenVINO reports each conversion to a server, from a forked process that may hang for minutes. Without this package it
# reports nothing; what a researcher analyses is nobody else's business.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
