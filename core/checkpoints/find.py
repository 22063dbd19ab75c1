"""Find a model: bundled by name, a local folder, or the Hugging Face hub (its cache first, then the network)."""

import difflib
import errno
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.checkpoints import encodec_package
from core.checkpoints.load import SUPPORTED, weight_files
from core.checkpoints.network import REQUEST_SECONDS, ask, is_network
from core.errors import CheckpointError
from core.models.encodec import layer_names

BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints"
DEFAULT_BUNDLED = "wav2vec2-small-whisper"
DEFAULT_ONLINE = "facebook/wav2vec2-large-xlsr-53"
# Offered by name; any other id of a supported family works as well.
HUB_MODELS = {
    DEFAULT_ONLINE: "wav2vec 2.0 large, 53 languages; the usual choice online",
    "facebook/wav2vec2-base": "wav2vec 2.0 base, English audiobooks",
    "facebook/wav2vec2-xls-r-300m": "XLS-R, 128 languages",
    "facebook/hubert-base-ls960": "HuBERT base, English audiobooks",
    "microsoft/wavlm-base-plus": "WavLM base+, 94,000 hours of English",
    "facebook/data2vec-audio-base": "data2vec base, English audiobooks",
    "facebook/w2v-bert-2.0": "w2v-BERT 2.0, 143 languages",
    "openai/whisper-tiny.en": "Whisper tiny, English; trained with transcripts",
    "facebook/encodec_24khz": "EnCodec 24 kHz, the codec's encoder and its quantised forms",
    "facebook/encodec_48khz": "EnCodec 48 kHz, the same in stereo segments of 1 s",
}
_MODALITIES = {"meg2vec": "meg", "wav2vec2_2d": "grid"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PREPARATION = ("preprocessor_config.json", "processor_config.json")
_SAFE_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
_OLD_WEIGHTS = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json")


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
    """One line of the list of models; numbers are None where nothing is on this computer.

    ``layer_names`` says what layers 0 to ``n_layers`` are where numbers alone do not: for codecs. ``modality`` is what
    the model takes: ``audio``, ``meg``, or ``grid`` for those of recording sites.
    """

    name: str
    where: str
    path: str | None = None
    architecture: str | None = None
    n_layers: int | None = None
    dim: int | None = None
    sampling_rate: int | None = None
    size_mb: float | None = None
    note: str = ""
    layer_names: tuple[str, ...] = ()
    modality: str = "audio"


def find_model(name: str) -> Found:
    """Find a model by bundled name, folder, name of an official EnCodec or hub id; empty means the bundled default.

    Raises:
        CheckpointError: there is no such model, or the hub cannot be reached and the cache does not hold it.
    """
    name = name.strip() or DEFAULT_BUNDLED
    if name in bundled_names():
        return Found(name, BUNDLED / name, "bundled")
    path = _existing(name)
    if path is not None and path.is_dir():
        _check_folder(path)
        return Found(path.name or str(path), path, "folder")
    if path is not None:
        raise CheckpointError(
            f"Model {name} is a file; expected a folder with config.json and model.safetensors. Give its folder."
        )
    if name in encodec_package.OFFICIAL:
        folder, was_there = encodec_package.fetch(name, _remedy())
        return Found(name, folder, "cached" if was_there else "hub")
    if not _HUB_ID.fullmatch(name):
        close = difflib.get_close_matches(name, [*bundled_names(), *encodec_package.OFFICIAL], n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise CheckpointError(f"Model {name!r} is neither bundled nor a folder nor a hub id.{meant} {_remedy()}")
    cached = _cached_folder(name)
    return Found(name, _completed(name, cached), "cached") if cached else _from_hub(name)


def _check_folder(folder: Path) -> None:
    """Refuse a folder whose model lies one level below, which an unpacked archive often has."""
    inside = [] if (folder / "config.json").exists() else sorted(path.parent for path in folder.glob("*/config.json"))
    if inside:
        raise CheckpointError(f"{folder} holds no config.json; {inside[0]} does. Give that folder.")


def _existing(name: str) -> Path | None:
    """The absolute path that a person means, with ``~`` and links resolved; None where nothing is there."""
    try:
        path = Path(name).expanduser().resolve()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # no home folder, a name too long, a null byte
        return None


def _remedy() -> str:
    return (
        f"Bundled: {', '.join(bundled_names()) or 'none'}. To use another model without a network, download its folder "
        "(config.json, preprocessor_config.json, model.safetensors) elsewhere and give its path as the model."
    )


def bundled_names() -> list[str]:
    """Names of the bundled models, the default first."""
    names = [path.parent.name for path in BUNDLED.glob("*/config.json") if _known(path.parent)]
    return sorted(names, key=lambda name: (name != DEFAULT_BUNDLED, name))


def _cached_folder(name: str) -> Path | None:
    """The hub's cache for a model, where it holds the config and all weights of its main revision."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        weight_files(folder, name, allow_bin=True)
    except CheckpointError:  # a download that broke off
        return None
    return folder


def _completed(name: str, folder: Path) -> Path:
    """Fetch how audio is prepared where another program cached only config and weights; without a network, go on."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if any(try_to_load_from_cache(name, file) for file in _PREPARATION):  # there, or known to be nowhere
        return folder
    try:
        names = ask(lambda: _names_on_hub(name))
        for file in set(_PREPARATION) & set(names):
            hf_hub_download(name, file, revision=folder.name, etag_timeout=REQUEST_SECONDS)
    except Exception as error:  # load_model says what was assumed instead
        if not is_network(error):
            raise
    return folder


def _from_hub(name: str) -> Found:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        wanted = _wanted_files(name, ask(lambda: _names_on_hub(name)))
        folder = snapshot_download(name, allow_patterns=wanted, etag_timeout=REQUEST_SECONDS)
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is gated: accept its terms on the hub and log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub has no model {name!r} (or it is private). Check the spelling. {_remedy()}"
        ) from error
    except Exception as error:
        if not is_network(error):
            raise
        raise CheckpointError(_unreachable(name, error)) from error
    return Found(name, Path(folder), "hub")


def _names_on_hub(name: str) -> list[str]:
    """Names of a repository's files, in one request without retries."""
    from huggingface_hub import HfApi

    siblings = HfApi().model_info(name, timeout=REQUEST_SECONDS).siblings or []
    return [sibling.rfilename for sibling in siblings]


def _wanted_files(name: str, names: list[str]) -> list[str]:
    """Files to download: safetensors where the repository has them, else the old format (read weights-only)."""
    small = [file for file in ("config.json", *_PREPARATION) if file in names]
    for pattern in (_SAFE_WEIGHTS, _OLD_WEIGHTS):
        weights = [file for file in names if pattern.fullmatch(file)]
        if weights and "config.json" in small:
            return [*small, *weights]
    raise CheckpointError(
        f"The hub's {name} is not in transformers' format: expected config.json and model.safetensors (or "
        f"pytorch_model.bin), got {', '.join(sorted(names)[:8]) or 'no files'}. Choose another model."
    )


def _unreachable(name: str, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
        return (
            f"{name} cannot be kept in the hub's cache ({error}). Free some space, or set HF_HOME to a folder for it."
        )
    response = getattr(error, "response", None)
    reason = f"it answered {response.status_code}" if response is not None else _reason(error)
    return f"The hub cannot be reached ({reason}) and {name} is not in this computer's cache. {_remedy()}"


def _reason(error: BaseException) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120].rstrip(".")


def list_models(*, ask_hub: bool = True) -> list[ModelEntry]:
    """List what is bundled, what the hub's cache holds, and what the hub offers (marked where it cannot be reached)."""
    bundled = [describe_model(Found(name, BUNDLED / name, "bundled")) for name in bundled_names()]
    cached = [describe_model(Found(name, folder, "cached")) for name, folder in _cached_models()]
    known = {entry.name for entry in cached}
    where = "hub" if ask_hub and hub_reachable() else "hub, not reached"
    notes = HUB_MODELS | encodec_package.OFFICIAL_NOTES
    offered = [ModelEntry(name, where, note=note) for name, note in notes.items() if name not in known]
    return [*bundled, *cached, *offered]


def hub_reachable() -> bool:
    """Whether the hub answers within a few seconds; False at once when HF_HUB_OFFLINE is set."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        ask(lambda: _names_on_hub(DEFAULT_ONLINE))
    except HfHubHTTPError as error:  # a mirror that lacks this one model is reachable all the same
        return error.response.status_code < 500
    except Exception as error:
        if not is_network(error):
            raise
        return False
    return True


def _cached_models() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import constants

    for repo in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        name = repo.name.removeprefix("models--").replace("--", "/", 1)
        folder = _cached_folder(name) if _HUB_ID.fullmatch(name) else None
        if folder is not None and _known(folder):
            yield name, folder
    for name in encodec_package.OFFICIAL:
        if encodec_package.is_cached(name):
            yield name, encodec_package.cache_folder()


def _known(folder: Path) -> bool:
    return _config(folder).get("model_type") in SUPPORTED


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file for the list of models, where a broken file is no reason to stop."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_model(found: Found) -> ModelEntry:
    """Say what a model is by its folder's small files, without loading it; None for what they do not tell."""
    name, where, folder = found.name, found.where, found.folder
    config = encodec_package.config_in(folder, name) or _config(folder)
    model_type = config.get("model_type")
    architectures = config.get("architectures") or [SUPPORTED.get(str(model_type), model_type)]
    # A codec has no transformer blocks: its states are the encoder's output and its quantised forms.
    names = layer_names(_bandwidths(config)) if model_type == "encodec" else ()
    preparation = _json(folder / _PREPARATION[0])
    return ModelEntry(
        name=name,
        where=where,
        path=str(folder),
        architecture=str(architectures[0]),
        n_layers=len(names) - 1 if names else config.get("encoder_layers", config.get("num_hidden_layers")),
        dim=config.get("d_model", config.get("hidden_size")),
        sampling_rate=config.get("sampling_rate", preparation.get("sampling_rate", 16_000)),
        size_mb=_size_mb(folder, name),
        note=(HUB_MODELS | encodec_package.OFFICIAL_NOTES).get(name, ""),
        layer_names=names,
        modality=_MODALITIES.get(str(model_type), "audio"),
    )


def _bandwidths(config: dict[str, Any]) -> tuple[float, ...]:
    """A codec's bandwidths by its config, in kbps; transformers' default where it is silent or broken."""
    listed = config.get("target_bandwidths")
    numbers = isinstance(listed, list) and all(isinstance(value, int | float) for value in listed)
    return tuple(listed) if numbers and listed else encodec_package.BANDWIDTHS_24KHZ


def _size_mb(folder: Path, name: str) -> float | None:
    try:
        files = weight_files(folder, name, allow_bin=True)
    except CheckpointError:
        return None
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)
