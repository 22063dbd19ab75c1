"""Trained heads on disk: a checkpoint folder each, read strictly, and only ever used on the encoder it was trained on.

A folder holds ``config.json`` (what the head is), ``model.safetensors`` (float32), ``training.json`` (where it comes
from and what it was found to be worth) and a card. This module knows names, shapes and limits of what is in them;
:mod:`core.emotion.head_files` makes a head of it.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpoints.find import BUNDLED, Found, find_model
from core.checkpoints.folders import package_versions, whole_folder, write_json
from core.checkpoints.head_card import head_card
from core.checkpoints.load import checkpoint_hashes
from core.errors import CheckpointError, OutputError
from core.scoring import POOLINGS

KIND = "emotion-head"
FORMAT = 1
"""Of the folder: another number is refused, not guessed at."""

MIXTURES = ("concatenated", "summed")
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "soundfile", "soxr")
FILES = ("config.json", "model.safetensors", "training.json")
CARD = "README.md"


@dataclass(frozen=True)
class ReferenceConfig:
    """What tells unlike clips apart, but for its arrays: ``axes`` principal axes, ``rest`` and ``threshold``."""

    axes: int
    rest: float
    threshold: float


@dataclass(frozen=True)
class HearingConfig:
    """How the encoder heard the clips that a head was trained on.

    Attributes:
        engine: ``torch`` or ``openvino``.
        precision: ``fp32`` or ``bf16``.
        loudness: ``keep`` or ``normalise``; see :class:`core.arrays.EmbedSettings`.
        channel: Taken, from 1 on; None for the mean of all.
        chunk_seconds: That a window kept.
        context_seconds: On each side of a window; None for the model's own.
    """

    engine: str = "torch"
    precision: str = "fp32"
    loudness: str = "keep"
    channel: int | None = None
    chunk_seconds: float = 20.0
    context_seconds: float | None = None


@dataclass(frozen=True)
class HeadConfig:
    """What a head is, as ``config.json`` says it; shapes of all arrays follow from it.

    Attributes:
        labels: Names of the classes, sorted.
        encoder: Name of the encoder.
        encoder_sha256: Hash of its weights; see :func:`core.checkpoints.load.checkpoint_hashes`.
        encoder_config_sha256: Hash of the files that say how the weights are used.
        encoder_folder: Where it lay, if a person gave a folder; empty for a bundled one and one of a hub. A relative
            path begins in the head's own folder: there lies an encoder that was trained with the head.
        sampling_rate: Hz that the encoder wants.
        layers: Layers that the head takes, ascending.
        dim: Values of a pooled layer.
        pooling: How frames become one vector.
        mixture: What becomes of the layers.
        hidden: Values between two affine maps; empty where there is one map.
        attention: Whether there is a learned attention.
        temperature: That logits are divided by.
        threshold: Confidence below which it abstains.
        reference: Where training clips lie; None where it was not computed.
        least_seconds: Of the shortest clip that it was trained on.
        hearing: How the encoder heard the clips that it was trained on.
    """

    labels: tuple[str, ...]
    encoder: str
    encoder_sha256: str
    encoder_config_sha256: str
    sampling_rate: int
    layers: tuple[int, ...]
    dim: int
    pooling: str
    mixture: str
    hidden: tuple[int, ...] = ()
    attention: bool = False
    temperature: float = 1.0
    threshold: float = 0.0
    reference: ReferenceConfig | None = None
    least_seconds: float = 0.0
    encoder_folder: str = ""
    hearing: HearingConfig = HearingConfig()

    @property
    def mixed_dim(self) -> int:
        """Values after the layers were mixed."""
        return self.dim * (len(self.layers) if self.mixture == "concatenated" else 1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array, by its name in ``model.safetensors``."""
        layers, mixed = len(self.layers), self.mixed_dim
        found: dict[str, tuple[int, ...]] = {
            "mean": (layers, self.dim),
            "scale": (layers, self.dim),
            "layer_weights": (layers,),
        }
        widths = (mixed, *self.hidden, len(self.labels))
        for number, (inner, outer) in enumerate(pairwise(widths)):
            found |= {f"maps.{number}.weight": (outer, inner), f"maps.{number}.bias": (outer,)}
        if self.attention:
            found["attention"] = (self.dim,)
        if self.reference is not None:
            axes = self.reference.axes
            found |= {
                "reference.mean": (mixed,),
                "reference.axes": (mixed, axes),
                "reference.deviations": (axes,),
            }
        return found


@dataclass(frozen=True)
class StoredHead:
    """A head's folder, read: what it is, its arrays (float32, by name) and where it comes from."""

    name: str
    folder: Path
    config: HeadConfig
    arrays: Mapping[str, np.ndarray]
    training: Mapping[str, Any]


@dataclass(frozen=True)
class HeadEntry:
    """One line of the list of heads; ``uar`` is of speakers that were held out, None where nobody measured."""

    name: str
    where: str
    path: Path
    labels: tuple[str, ...]
    encoder: str
    uar: float | None = None
    note: str = ""


# --------------------------------------------------------------------------------------------------------------- write


def check_head_target(folder: Path, *, force: bool) -> None:
    """Find out before anything is trained whether a head can be written there.

    Raises:
        OutputError: Something is there already: a head, without ``force``; or what is no head, which is never replaced.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise OutputError(f"{folder} is no folder of its own; a head's checkpoint is one. Choose another --output.")
    inside = sorted(path.name for path in folder.iterdir())
    if inside and not is_head(folder):
        raise OutputError(
            f"{folder} holds {', '.join(inside[:3])}{' and more' if len(inside) > 3 else ''} and no head, so it is not "
            "replaced, not even with --force. Choose another --output."
        )
    if inside and not force:
        raise OutputError(f"{folder} already holds a head. Use --force to replace it, or choose another --output.")


def save_head(
    folder: Path,
    config: HeadConfig,
    arrays: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
    *,
    encoder: Path | None = None,
    force: bool = False,
) -> Path:
    """Write a head's folder whole or not at all.

    Args:
        folder: Its name is the head's.
        config: What the head is.
        arrays: By name, of the shapes of ``config.shapes()``; written as float32.
        training: Facts for ``training.json``, JSON-ready; the versions of packages are added. Its entry ``card``
            holds what only a person can say; see :func:`core.checkpoints.head_card.head_card`.
        encoder: Folder of an encoder that was trained with the head; it is copied to ``config.encoder_folder``.
        force: Whether a head that is there may be replaced.

    Raises:
        CheckpointError: An array that does not fit the config, or that float32 cannot hold.
        OutputError: The folder is taken or cannot be written.
    """
    from safetensors.numpy import save_file

    check_head_target(folder, force=force)
    rounded = _checked_arrays(config, {name: _as_single(name, array) for name, array in arrays.items()}, str(folder))
    written = config_json(config)
    _read_config(json.loads(json.dumps(written)), str(folder))  # what cannot be read again is not written
    facts = {**training, "versions": package_versions(PACKAGES)}
    with whole_folder(folder) as partial:
        write_json(partial / "config.json", written)
        write_json(partial / "training.json", facts)
        save_file(rounded, partial / "model.safetensors", metadata={"format": "np"})
        (partial / CARD).write_text(head_card(folder.name, written, facts), encoding="utf-8")
        if encoder is not None:
            shutil.copytree(encoder, partial / config.encoder_folder)
    return folder


def write_head_card(folder: Path) -> None:
    """Write README.md again from ``config.json`` and ``training.json`` alone."""
    stored = load_head(folder)
    card = head_card(folder.name, config_json(stored.config), dict(stored.training))
    (folder / CARD).write_text(card, encoding="utf-8")


def config_json(config: HeadConfig) -> dict[str, Any]:
    """What ``config.json`` holds."""
    return {"kind": KIND, "format": FORMAT, **dataclasses.asdict(config)}


def _as_single(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(single).all():
        raise CheckpointError(f"{name} holds values that float32 cannot, or that are no numbers; nothing was written.")
    return single


# ---------------------------------------------------------------------------------------------------------------- read


def load_head(folder: Path, name: str = "") -> StoredHead:
    """Read a head's folder.

    Raises:
        CheckpointError: A file is missing or damaged, a key of the config is missing, unknown or out of range, an
            array is missing, unknown, misshaped or not finite, or the folder is of another format.
    """
    name = name or folder.name
    config = _read_config(_read_json(folder / "config.json", name), name)
    training = _read_json(folder / "training.json", name)
    arrays = _checked_arrays(config, _read_arrays(folder / "model.safetensors", name), name)
    return StoredHead(name, folder, config, arrays, training)


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{name}: {path.name} is missing from {path.parent}; a head's folder holds {', '.join(FILES)}. Give the "
            "folder that `emotion train` wrote."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{name}: {path} cannot be read as JSON ({error}). Train or copy the head again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: {path} holds a {type(content).__name__}; expected a JSON object.")
    return content


def _read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise CheckpointError(
            f"{name}: {path.name} is missing from {path.parent}. Copy or train the head again."
        ) from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise CheckpointError(f"{name}: {path} is damaged or cut short ({reason}). Copy or train it again.") from error


def _checked_arrays(config: HeadConfig, arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    wanted = config.shapes()
    problems = [f"lacks {key}" for key in wanted if key not in arrays]
    problems += [f"holds {key}, which no head has" for key in arrays if key not in wanted]
    for key, array in arrays.items():
        if key in wanted and array.shape != wanted[key]:
            problems.append(f"has {key} of shape {array.shape}; expected {wanted[key]}")
        elif array.dtype != np.float32:
            problems.append(f"has {key} in {array.dtype}; expected float32")
        elif not np.isfinite(array).all():
            problems.append(f"has values in {key} that are not finite")
    for key in ("scale", "reference.deviations"):
        if not problems and key in arrays and not (arrays[key] > 0).all():
            problems.append(f"has a {key} that is not positive")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{name}: model.safetensors {'; '.join(problems[:3])}{more}. Config and weights must be of one head: copy "
            "both again, or train it again."
        )
    return dict(arrays)


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _ascending(values: Any) -> bool:
    known = isinstance(values, list) and bool(values) and all(_whole(0)(value) for value in values)
    return known and values == sorted(set(values))


def _label_names(values: Any) -> bool:
    named = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    return named and len(values) > 1 and values == sorted(set(values))


def _hash(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


_ABOVE_ZERO = math.ulp(0.0)
# For each key: whether a value will do, and what would.
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "labels": (_label_names, "two or more names, sorted, each once"),
    "encoder": (_hash, "the encoder's name"),
    "encoder_sha256": (_hash, "the hash of the encoder's weights"),
    "encoder_config_sha256": (_hash, "the hash of the encoder's settings"),
    "encoder_folder": (lambda value: isinstance(value, str), "a path, or nothing"),
    "sampling_rate": (_whole(1), "whole Hz"),
    "layers": (_ascending, "layer numbers, ascending"),
    "dim": (_whole(1), "a whole number from 1 on"),
    "pooling": (lambda value: value in POOLINGS, f"one of {', '.join(POOLINGS)}"),
    "mixture": (lambda value: value in MIXTURES, f"one of {', '.join(MIXTURES)}"),
    "hidden": (lambda value: isinstance(value, list) and all(map(_whole(1), value)), "whole numbers from 1 on"),
    "attention": (lambda value: type(value) is bool, "true or false"),
    "temperature": (_between(_ABOVE_ZERO, math.inf), "a number above 0"),
    "threshold": (_between(0.0, 1.0), "a number from 0 to 1"),
    "reference": (lambda value: value is None or isinstance(value, dict), "null, or axes, rest and threshold"),
    "least_seconds": (_between(0.0, math.inf), "seconds, 0 or more"),
    "hearing": (lambda value: isinstance(value, dict), "engine, precision, loudness, channel and windows"),
}
_EXPECTED_HEARING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "engine": (lambda value: value in ("torch", "openvino"), "torch or openvino"),
    "precision": (lambda value: value in ("fp32", "bf16"), "fp32 or bf16"),
    "loudness": (lambda value: value in ("keep", "normalise"), "keep or normalise"),
    "channel": (lambda value: value is None or _whole(1)(value), "null, or a number from 1 on"),
    "chunk_seconds": (_between(_ABOVE_ZERO, math.inf), "seconds above 0"),
    "context_seconds": (lambda value: value is None or _between(0.0, math.inf)(value), "null, or seconds, 0 or more"),
}
_EXPECTED_REFERENCE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "axes": (_whole(0), "a whole number"),
    "rest": (_between(_ABOVE_ZERO, math.inf), "a number above 0"),
    "threshold": (_between(_ABOVE_ZERO, math.inf), "a number above 0"),
}


def _read_config(raw: dict[str, Any], name: str) -> HeadConfig:
    """Check every key of ``config.json``, and make it a record."""
    if raw.get("kind") != KIND:
        raise CheckpointError(
            f"{name}: config.json is of no head (kind {raw.get('kind')!r}; expected {KIND!r}). An encoder is named by "
            "--model, a head by --checkpoint."
        )
    if raw.get("format") != FORMAT:
        raise CheckpointError(
            f"{name}: the head has format {raw.get('format')!r}; this version of Strata reads {FORMAT}. Use the "
            "version that wrote it, or train it again."
        )
    values = {key: value for key, value in raw.items() if key not in ("kind", "format")}
    _check_keys(values, _EXPECTED, name, "")
    reference = values["reference"]
    if reference is not None:
        _check_keys(reference, _EXPECTED_REFERENCE, name, "reference.")
        values["reference"] = ReferenceConfig(
            reference["axes"], float(reference["rest"]), float(reference["threshold"])
        )
    _check_keys(values["hearing"], _EXPECTED_HEARING, name, "hearing.")
    values["hearing"] = HearingConfig(**values["hearing"])
    if values["attention"] != (values["pooling"] == "learned"):
        raise CheckpointError(
            f"{name}: config.json has the pooling {values['pooling']} and attention {values['attention']}; a learned "
            "attention goes with the pooling learned, and only with it. Restore the original file."
        )
    fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in values.items()}
    return HeadConfig(**fields)


def _check_keys(
    values: dict[str, Any], expected: Mapping[str, tuple[Callable[[Any], bool], str]], name: str, where: str
) -> None:
    missing = [where + key for key in expected if key not in values]
    unknown = [where + key for key in values if key not in expected]
    if missing or unknown:
        said = "; ".join(
            f"{verb} {', '.join(keys)}" for verb, keys in (("lacks", missing), ("does not know", unknown)) if keys
        )
        raise CheckpointError(f"{name}: config.json of a head {said}. Restore the original file, or train it again.")
    for key, (fits, words) in expected.items():
        if not fits(values[key]):
            raise CheckpointError(
                f"{name}: config.json has {where}{key} {values[key]!r}; expected {words}. Restore the original file."
            )


# ---------------------------------------------------------------------------------------------------------------- find


def is_head(folder: Path) -> bool:
    """Whether a folder says that it holds a head, of whatever format; it may still be damaged."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def bundled_heads() -> list[str]:
    """Names of the bundled heads."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json") if is_head(path.parent))


def find_head(name: str) -> Found:
    """Find a head by its bundled name or its folder; empty means the first bundled one.

    Raises:
        CheckpointError: There is none.
    """
    name, bundled = name.strip(), bundled_heads()
    if not name and bundled:
        name = bundled[0]
    if name in bundled:
        return Found(name, BUNDLED / name, "bundled")
    try:
        path = Path(name).expanduser().resolve() if name else None
        folder = path if path is not None and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # no home folder, a name too long, a null byte
        folder = None
    if folder is not None and is_head(folder):
        return Found(folder.name or str(folder), folder, "folder")
    said = "is a folder without a head" if folder is not None else "is neither a bundled head nor a folder"
    raise CheckpointError(
        f"Checkpoint {name!r} {said}. Bundled: {', '.join(bundled) or 'none'}. Give the folder that `python -m core "
        "emotion train` wrote."
    )


def list_heads() -> list[HeadEntry]:
    """List the bundled heads; one that cannot be read says so in its note."""
    return [describe_head(find_head(name)) for name in bundled_heads()]


def describe_head(found: Found) -> HeadEntry:
    """Say what a head is."""
    try:
        stored = load_head(found.folder, found.name)
    except CheckpointError as error:
        return HeadEntry(found.name, found.where, found.folder, (), "", note=str(error))
    uar = stored.training.get("metrics", {}).get("head", {}).get("uar", {}).get("value")
    summary = str(stored.training.get("card", {}).get("summary", ""))
    return HeadEntry(found.name, found.where, found.folder, stored.config.labels, stored.config.encoder, uar, summary)


# --------------------------------------------------------------------------------------------------------- its encoder


def find_encoder(config: HeadConfig, name: str, model: str = "", folder: Path | None = None) -> Found:
    """Find the encoder that a head was trained on, and check that it is that one, without loading it.

    Args:
        config: Of the head.
        name: The head's, for errors.
        model: Where a person says it is; empty for where it was.
        folder: The head's, in which an encoder may lie that was trained with it.

    Raises:
        CheckpointError: It is not there, or what is there is another.
    """
    wanted = model
    if not wanted:
        lay = config.encoder_folder and (folder or Path()) / config.encoder_folder
        wanted = str(lay) if lay and lay.is_dir() else config.encoder
    try:
        found = find_model(wanted)
    except CheckpointError as error:
        raise CheckpointError(
            f"The head {name} needs the encoder {config.encoder} (weights {config.encoder_sha256[:12]})"
            f"{_where_it_lay(config, folder)}. {error}"
        ) from error
    sha256, config_sha256 = checkpoint_hashes(found.folder, found.name, from_user=found.from_user)
    check_encoder(config, name, found.name, (sha256, config_sha256))
    return found


def _where_it_lay(config: HeadConfig, folder: Path | None) -> str:
    """Say that an encoder is missing that belongs into the head's own folder."""
    if folder is None or not config.encoder_folder or Path(config.encoder_folder).is_absolute():
        return ""
    return f", which was trained with it and is missing from {folder / config.encoder_folder}: copy that folder as well"


def check_encoder(config: HeadConfig, name: str, encoder: str, hashes: tuple[str, str]) -> None:
    """Refuse an encoder that is not the one the head was trained on.

    What decides is what it computes: its weights, and the settings that say how they are used. The same bytes under
    another name (a copied folder, a hub's cache) are the same encoder.

    Args:
        config: Of the head.
        name: The head's, for the error.
        encoder: Name of the encoder that is to be used.
        hashes: Of its weights and its settings.

    Raises:
        CheckpointError: It is another.
    """
    due = config.encoder_sha256, config.encoder_config_sha256
    differing = [
        f"{what} {got[:12]}, not {wanted[:12]}"
        for what, got, wanted in zip(("weights", "settings"), hashes, due, strict=True)
        if got != wanted
    ]
    if encoder != config.encoder and differing:
        differing.insert(0, f"name {encoder}, not {config.encoder}")
    if differing:
        raise CheckpointError(
            f"The head {name} was trained on {config.encoder} and says nothing of another encoder; got "
            f"{'; '.join(differing)}. Use that encoder, or train a head on {encoder}."
        )
