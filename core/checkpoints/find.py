"""Find a model: bundled by name, a local folder, or the Hugging Face hub (its cache first, then the network)."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.checkpoints.load import SUPPORTED
from core.errors import CheckpointError

BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints"
DEFAULT_BUNDLED = "wav2vec2-small-whisper"
DEFAULT_ONLINE = "facebook/wav2vec2-large-xlsr-53"
# Offered by name; any other id of a supported family works as well.
HUB_MODELS = {
    DEFAULT_ONLINE: "wav2vec 2.0 large, 53 languages; the extraction document's default",
    "facebook/wav2vec2-base": "wav2vec 2.0 base, English audiobooks",
    "facebook/wav2vec2-xls-r-300m": "XLS-R, 128 languages",
    "facebook/hubert-base-ls960": "HuBERT base, English audiobooks",
    "microsoft/wavlm-base-plus": "WavLM base+, 94,000 hours of English",
    "facebook/data2vec-audio-base": "data2vec base, English audiobooks",
    "facebook/w2v-bert-2.0": "w2v-BERT 2.0, 143 languages",
    "openai/whisper-tiny.en": "Whisper tiny, English; trained with transcripts",
    "facebook/encodec_24khz": "EnCodec 24 kHz, the codec's encoder",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SMALL_FILES = ["config.json", "preprocessor_config.json"]
_SAFE_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
_OLD_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Found:
    """Where a model lies: ``where`` is ``bundled``, ``folder``, ``cached`` or ``hub``."""

    name: str
    folder: Path
    where: str

    @property
    def from_user(self) -> bool:
        """Whether a person pointed to the folder, so that nothing in it is trusted."""
        return self.where in ("folder", "bundled")


@dataclass(frozen=True)
class ModelEntry:
    """One line of the list of models; numbers are None where nothing is on this computer."""

    name: str
    where: str
    path: str | None = None
    architecture: str | None = None
    n_layers: int | None = None
    dim: int | None = None
    sampling_rate: int | None = None
    size_mb: float | None = None
    note: str = ""


def find_model(name: str) -> Found:
    """Find a model by bundled name, folder or hub id; empty means the bundled default.

    Raises:
        CheckpointError: there is no such model, or the hub cannot be reached and the cache does not hold it.
    """
    name = name.strip() or DEFAULT_BUNDLED
    if (BUNDLED / name / "config.json").is_file() and "/" not in name:
        return Found(name, BUNDLED / name, "bundled")
    path = Path(name).expanduser()
    if path.is_dir():
        return Found(path.name or str(path), path.resolve(), "folder")
    if path.is_file():
        raise CheckpointError(f"Model {name} is a file; expected a folder with config.json and model.safetensors.")
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise CheckpointError(f"Model {name!r} is neither bundled nor a folder nor a hub id. {_remedy()}")
    return _from_hub(name)


def _remedy() -> str:
    return (
        f"Bundled: {', '.join(bundled_names()) or 'none'}. To use another model without a network, download its folder "
        "(config.json, preprocessor_config.json, model.safetensors) elsewhere and give its path as the model."
    )


def bundled_names() -> list[str]:
    """Names of the bundled models, the default first."""
    names = [path.parent.name for path in sorted(BUNDLED.glob("*/config.json")) if _known(path.parent)]
    return sorted(names, key=lambda name: (name != DEFAULT_BUNDLED, name))


def _from_hub(name: str) -> Found:
    cached = _cached_folder(name)
    if cached is not None:
        return Found(name, cached, "cached")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        folder = snapshot_download(name, allow_patterns=_wanted_files(name), etag_timeout=_TIMEOUT_SECONDS)
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is gated: accept its terms on the hub and log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub has no model {name!r} (or it is private). Check the spelling. {_remedy()}"
        ) from error
    except (OSError, HfHubHTTPError, ValueError, RuntimeError) as error:
        raise CheckpointError(_unreachable(name)) from error
    except Exception as error:  # the hub's HTTP client raises types of its own, which change between releases
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore", "httpx2", "httpcore2", "requests"):
            raise CheckpointError(_unreachable(name)) from error
        raise
    return Found(name, Path(folder), "hub")


def _unreachable(name: str) -> str:
    return f"The hub cannot be reached and {name} is not in this computer's cache. {_remedy()}"


def _wanted_files(name: str) -> list[str]:
    """Files to download: safetensors where the repository has them, else the old format (read weights-only)."""
    from huggingface_hub import HfApi

    names = HfApi().list_repo_files(name)
    weights = _SAFE_WEIGHTS if any(item.endswith(".safetensors") for item in names) else _OLD_WEIGHTS
    return [*_SMALL_FILES, *weights]


def _cached_folder(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    has_weights = any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    return folder if has_weights and (folder / "config.json").is_file() else None


def list_models(*, ask_hub: bool = True) -> list[ModelEntry]:
    """List what is bundled, what the hub's cache holds, and what the hub offers (marked where it cannot be reached)."""
    bundled = [_entry(name, "bundled", BUNDLED / name) for name in bundled_names()]
    cached = [_entry(name, "cached", folder) for name, folder in _cached_models()]
    known = {entry.name for entry in cached}
    where = "hub" if ask_hub and hub_reachable() else "hub, not reached"
    offered = [ModelEntry(name, where, note=note) for name, note in HUB_MODELS.items() if name not in known]
    return [*bundled, *cached, *offered]


def hub_reachable() -> bool:
    """Whether the hub answers within a few seconds; False at once when HF_HUB_OFFLINE is set."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not constants.ENDPOINT.startswith(("http://", "https://")):
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_TIMEOUT_SECONDS).close()
    except HTTPError:
        return True
    except (URLError, OSError, ValueError):
        return False
    return True


def _cached_models() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import constants

    root = Path(os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE))
    for repo in sorted(root.glob("models--*--*")):
        name = repo.name.removeprefix("models--").replace("--", "/", 1)
        folder = _cached_folder(name)
        if folder is not None and _known(folder):
            yield name, folder


def _known(folder: Path) -> bool:
    return _config(folder).get("model_type") in SUPPORTED


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _entry(name: str, where: str, folder: Path) -> ModelEntry:
    config = _config(folder)
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    return ModelEntry(
        name=name,
        where=where,
        path=str(folder),
        architecture=(config.get("architectures") or [config.get("model_type")])[0],
        n_layers=config.get("num_hidden_layers", config.get("encoder_layers")),
        dim=config.get("hidden_size", config.get("d_model")),
        sampling_rate=config.get("sampling_rate", 16_000),
        size_mb=round(sum(path.stat().st_size for path in files) / 1e6, 1),
        note=HUB_MODELS.get(name, ""),
    )
