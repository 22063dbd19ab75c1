"""Flags that several verbs share: which model, on what, with which windows."""

import argparse
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.arrays import EmbedSettings

_NAMES = (
    *("model", "layers", "device", "engine", "precision"),
    *("chunk_seconds", "context_seconds", "channel", "numpy_rate"),
)


def add_model(group: Any) -> None:
    """Add the flag for the model, under the documents' name too."""
    group.add_argument(
        "--model", "--model-name", default="", metavar="M",
        help="bundled name, folder or hub id; see python -m core models",
    )  # fmt: skip


def add_running(group: Any) -> None:
    """Add the flags that say how a model runs over a recording."""
    add_engine(group)
    group.add_argument(
        "--chunk-seconds", default=20.0, type=seconds, metavar="S", help="seconds computed at a time (default: 20)"
    )
    group.add_argument(
        "--context-seconds", type=seconds, metavar="S", help="context on each side (default: the model's own)"
    )
    group.add_argument(
        "--numpy-rate", type=hertz, metavar="HZ", help="sampling rate of MEG in .npy files without a .json beside them"
    )


def add_engine(group: Any) -> None:
    """Add the flags that say what runs a model, and on which channel."""
    group.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    group.add_argument("--engine", default="auto", choices=("auto", "torch", "openvino"))
    group.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    group.add_argument("--channel", type=counted, metavar="N", help="channel from 1 on (default: the mean of all)")


def add_loudness(group: Any) -> None:
    """Add the flag that says how loud a model hears recordings."""
    group.add_argument(
        "--loudness", default="keep", choices=("keep", "normalise"),
        help="normalise: bring every recording to one root mean square first (default: keep)",
    )  # fmt: skip


def embed_settings(args: argparse.Namespace) -> "EmbedSettings":
    """Make the frozen settings of the flags."""
    from core.arrays import EmbedSettings

    return EmbedSettings(**{name: getattr(args, name) for name in _NAMES})


def seconds(text: str) -> float:
    """Read a duration."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"got {text}, expected seconds, a number from 0 on")
    return value


def hertz(text: str) -> float:
    """Read a sampling rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"got {text}, expected hertz, a number above 0")
    return value


def counted(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number from 1 on")
    return int(text)
