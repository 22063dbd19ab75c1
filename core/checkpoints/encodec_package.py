"""Meta's official EnCodec checkpoints, as the package ``encodec`` downloads them, read into transformers' network.

Each is one pickled ``.th`` file whose name ends in the first eight digits of its SHA-256. The file is hashed before
anything in it is read, and then read as tensors only (``weights_only``), so that no code in it can run. Its keys differ
from those of transformers' ``EncodecModel`` by names alone; every one of them has to find its place.
"""

import hashlib
import json
import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.checkpoints.network import REQUEST_SECONDS, ask, is_network
from core.errors import CheckpointError

OFFICIAL = {"encodec_24khz": "encodec_24khz-d7cc33bc.th", "encodec_48khz": "encodec_48khz-7e698e3e.th"}
OFFICIAL_NOTES = {
    "encodec_24khz": "EnCodec 24 kHz, Meta's own file; CC BY-NC 4.0",
    "encodec_48khz": "EnCodec 48 kHz, Meta's own file; CC BY-NC 4.0",
}
BANDWIDTHS_24KHZ = (1.5, 3.0, 6.0, 12.0, 24.0)
BANDWIDTHS_48KHZ = (3.0, 6.0, 12.0, 24.0)
_FILE_NAME = re.compile(r"(encodec_(?:24|48)khz)-([0-9a-f]{8})\.th")
_SHARED = {
    "model_type": "encodec",
    "architectures": ["EncodecModel"],
    "hidden_size": 128,
    "num_filters": 32,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "pad_mode": "reflect",
    "compress": 2,
    "num_lstm_layers": 2,
    "codebook_size": 1024,
    "codebook_dim": 128,
    "use_conv_shortcut": True,
}
# What the package's constructors encodec_model_24khz and encodec_model_48khz build, in the words of transformers.
_CONFIGS: dict[str, dict[str, Any]] = {
    "encodec_24khz": _SHARED
    | {
        "sampling_rate": 24_000,
        "audio_channels": 1,
        "normalize": False,
        "norm_type": "weight_norm",
        "use_causal_conv": True,
        "target_bandwidths": list(BANDWIDTHS_24KHZ),
    },
    "encodec_48khz": _SHARED
    | {
        "sampling_rate": 48_000,
        "audio_channels": 2,
        "normalize": True,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "target_bandwidths": list(BANDWIDTHS_48KHZ),
    },
}
# The package's names to transformers', in this order.
_RENAMED = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv\.conv\.", ".conv."),
    (r"\.convtr\.convtr\.", ".conv."),
    (r"\.(?:conv|convtr)\.norm\.", ".norm."),
    (r"^quantizer\.vq\.layers\.", "quantizer.layers."),
    (r"\._codebook\.", ".codebook."),
)


@dataclass(frozen=True)
class PackageFile:
    """A checkpoint of the package: where it lies, which codec it is, and the checksum that its name states."""

    path: Path
    codec: str
    checksum: str


def find_file(folder: Path, name: str) -> PackageFile | None:
    """The package's checkpoint in a folder, or None where there is none or transformers' files have precedence.

    Args:
        folder: The package's cache, or a folder that a person gave.
        name: Name of the model; it decides where a folder holds both codecs.

    Raises:
        CheckpointError: the folder holds several, and the name does not say which is meant.
    """
    official = folder / OFFICIAL.get(name, "none")
    if official.is_file():
        return _described(official)
    if (folder / "config.json").exists() or not folder.is_dir():
        return None
    files = sorted(path for path in folder.glob("encodec_*.th") if _FILE_NAME.fullmatch(path.name))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise CheckpointError(f"{folder} holds several codecs ({names}). Give each a folder of its own.")
    return _described(files[0]) if files else None


def _described(path: Path) -> PackageFile | None:
    match = _FILE_NAME.fullmatch(path.name)
    return PackageFile(path, match[1], match[2]) if match else None


def config_in(folder: Path, name: str) -> dict[str, Any] | None:
    """The config of the package's checkpoint in a folder, in transformers' words; None where there is none."""
    file = find_file(folder, name)
    return dict(_CONFIGS[file.codec]) if file else None


def hashes(file: PackageFile, name: str) -> tuple[str, str]:
    """SHA-256 of the file, and of the config that goes with it.

    Raises:
        CheckpointError: the file is not the one that its name says.
    """
    with file.path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if not sha256.startswith(file.checksum):
        raise CheckpointError(
            f"{name}: {file.path} is damaged, cut short or another file: its SHA-256 begins with {sha256[:8]}, "
            f"its name says {file.checksum}. Delete it and download it again."
        )
    return sha256, hashlib.sha256(json.dumps(_CONFIGS[file.codec], sort_keys=True).encode()).hexdigest()


def load_network(file: PackageFile, name: str) -> Any:
    """Read the file into transformers' ``EncodecModel``, in eval mode and float32; hash it first.

    Raises:
        CheckpointError: it is no mapping of tensors, or a weight is missing, unknown or of another shape.
    """
    import torch
    from transformers import EncodecConfig, EncodecModel

    facts = {key: value for key, value in _CONFIGS[file.codec].items() if key not in ("model_type", "architectures")}
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are all replaced
        network = EncodecModel(EncodecConfig(**facts, architectures=["EncodecModel"]))
    try:
        network.load_state_dict(_renamed(_tensors(file, name)), strict=True)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:300].rstrip(".")
        raise CheckpointError(f"{name}: the weights in {file.path} are not {file.codec}'s ({words}).") from error
    return network.eval().float()


def _tensors(file: PackageFile, name: str) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler raises
        raise CheckpointError(
            f"{name}: {file.path} holds something other than tensors, or is damaged. It was not opened any further; "
            "download the official file again."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{name}: {file.path} is no mapping of names to tensors. Download the official file.")
    return content


def _renamed(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights under transformers' names."""
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def cache_folder() -> Path:
    """Where the package keeps its downloads: torch's hub folder, which TORCH_HOME and XDG_CACHE_HOME move."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    return home.expanduser() / "hub" / "checkpoints"


def is_cached(name: str) -> bool:
    """Whether an official checkpoint was downloaded before."""
    return (cache_folder() / OFFICIAL[name]).is_file()


def fetch(name: str, remedy: str) -> tuple[Path, bool]:
    """The folder of an official checkpoint, downloaded from where the package downloads it if need be.

    Args:
        name: Of :data:`OFFICIAL`.
        remedy: A sentence on what to do without a network.

    Returns:
        The folder, and whether the file was there before.

    Raises:
        CheckpointError: it is not there and cannot be downloaded, or what comes has another checksum.
    """
    if is_cached(name):
        return cache_folder(), True
    target = cache_folder() / OFFICIAL[name]
    try:
        _download(_url(OFFICIAL[name]), target)
    except RuntimeError as error:  # torch's word for a wrong checksum
        raise CheckpointError(f"{name}: what came is not {target.name} ({error}). Try again later.") from error
    except Exception as error:
        if not is_network(error):
            raise
        reason = str(error).strip() or type(error).__name__
        raise CheckpointError(
            f"{name} cannot be downloaded ({reason}) and is not in {target.parent}. "
            f"Put {target.name} there, or give a folder that holds it as the model. {remedy}"
        ) from error
    return cache_folder(), False


def _url(file_name: str) -> str:
    from encodec import model

    return str(model.ROOT_URL) + file_name


def _download(url: str, target: Path) -> None:
    """Ask first, with a limit on the time; then download beside the target, check, and rename."""
    import torch

    request = urllib.request.Request(url, method="HEAD")
    ask(lambda: urllib.request.urlopen(request, timeout=REQUEST_SECONDS).close())
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(target), hash_prefix=target.stem.split("-")[1])
