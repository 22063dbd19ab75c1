"""Settings of a pre-training run from a preset, a YAML file and single overrides, read strictly.

A misspelt key, a value of the wrong type or a number that cannot be meant stops the program before anything is
loaded: a run of days on a default that nobody asked for is the dearest of all errors.
"""

import difflib
import math
import re
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from core.clock import FrameClock
from core.errors import InputError
from core.models.masking import LEAST_MASKED, least_frames, masked_fraction
from core.training.pretrain_settings import PretrainSettings, RunKey

PRESETS = ("tiny", "small", "base", "large")

_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "meg2vec"
_KINDS: dict[str, Any] = typing.get_type_hints(PretrainSettings)
_RUN_KEYS = tuple[RunKey, ...]
# Keys of the document that mean something else here.
_REPLACED = {
    "libribrain_partition_train": "libribrain_include_run_keys_train",
    "libribrain_partition_eval": "libribrain_include_run_keys_eval",
    "sequence_length": "window_seconds",
}
_WORDS = {
    "sensor_input": ("channels", "positions"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "device": ("auto", "cuda", "mps", "cpu"),
}
_MAY_BE_ZERO = frozenset(
    {"dropout", "diversity_loss_weight", "warmup_steps", "weight_decay", "max_minutes", "eval_windows", "num_workers"}
    | {"seed"}
)
_BELOW_ONE = ("dropout", "mask_time_prob")


class _Loader(yaml.SafeLoader):
    """YAML's plain values only, without a key given twice; ``5e-4`` is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that was there before: PyYAML would keep the last without a word."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(f"{self.name}: the key {key!r} is given more than once. Keep one of them.")
        return dict(super().construct_mapping(node, deep))


# PyYAML's own pattern is YAML 1.1's, which takes 5.0e-4 for a number and 5e-4 for text.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def resolve(config: str | Path) -> PretrainSettings:
    """Read a preset by name (``small`` or ``pretrain_small``), or a YAML file.

    Raises:
        InputError: There is no such preset or file, or it does not hold settings.
    """
    name = str(config).removeprefix("pretrain_")
    if name in PRESETS:
        return read_settings(_FOLDER / f"pretrain_{name}.yaml")
    path = Path(config)
    if not path.is_file():
        raise InputError(f"Found no settings {str(config)!r}; expected {', '.join(PRESETS)}, or a YAML file.")
    return read_settings(path)


def read_settings(path: Path) -> PretrainSettings:
    """Read a YAML file; what it does not name keeps its default.

    Raises:
        InputError: It cannot be read, is no mapping, has an unknown or a doubled key, or a value that cannot be used.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            content = _parsed(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}). Expected a YAML file of settings.") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected lines such as 'batch_size: 8'; got {_named(content)}.")
    return validated(_changed(PretrainSettings(), content, str(path)), str(path))


def with_overrides(settings: PretrainSettings, overrides: Sequence[str]) -> PretrainSettings:
    """Change single settings; the values are parsed as YAML: ``["max_steps=50", "conv_dim=[64, 64]"]``.

    Raises:
        InputError: An override is not ``key=value``, or has a key or a value that cannot be used.
    """
    content: dict[str, Any] = {}
    for one in overrides:
        key, equals, value = one.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"Got --set {one!r}; expected key=value, such as --set max_steps=1000.")
        content[key.strip()] = _parsed(value, f"--set {one}")
    return validated(_changed(settings, content, "--set"), "--set")


def _parsed(text: Any, where: str) -> Any:
    """Parse YAML; tags that would make Python objects are refused by the loader."""
    loader = None
    try:
        loader = _Loader(text)
        loader.name = where
        return loader.get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{where}: not plain YAML ({reason}). Expected lines such as 'batch_size: 8'.") from error
    finally:
        if loader is not None:
            loader.dispose()


def _changed(settings: PretrainSettings, content: Mapping[Any, Any], where: str) -> PretrainSettings:
    """The settings with other values, each of the type that its key wants."""
    for key in content:
        if not isinstance(key, str) or key not in _KINDS:
            raise InputError(f"{where}: unknown setting {key!r}.{_nearest(str(key))}")
    return replace(settings, **{key: _converted(key, value, where) for key, value in content.items()})


def _nearest(key: str) -> str:
    if key in _REPLACED:
        return f" Use {_REPLACED[key]}."
    close = difflib.get_close_matches(key.lower(), _KINDS, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else f" Known are: {', '.join(_KINDS)}."


# --------------------------------------------------------------------------------------------------------------- types


def _converted(key: str, value: Any, where: str) -> Any:
    """The value as its field's type; a whole number is a fraction too, and a list becomes a tuple."""
    kind = _KINDS[key]
    if kind == tuple[int, ...] and isinstance(value, list) and all(_is(int, one) for one in value):
        return tuple(value)
    if kind == _RUN_KEYS and isinstance(value, list) and all(map(_is_run_key, value)):
        return tuple(tuple(one) for one in value)
    if kind is float and _is(int, value):
        return float(value)
    if kind in (str, int, float, bool) and _is(kind, value):
        return value
    raise InputError(f"{where}: {key} has to be {_wanted(kind)}; got {_named(value)}.")


def _is(kind: type, value: Any) -> bool:
    """Whether it is of the type; ``true`` is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_run_key(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(one, str) for one in value)


def _wanted(kind: Any) -> str:
    words = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        tuple[int, ...]: "a list of whole numbers, such as [10, 3, 3, 2]",
        _RUN_KEYS: 'a list of [subject, session, task, run], each in quotes, such as ["0", "1", "Sherlock1", "1"]',
    }
    return words[kind]


def _named(value: Any) -> str:
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


# -------------------------------------------------------------------------------------------------------------- ranges


def validated(settings: PretrainSettings, where: str = "settings") -> PretrainSettings:
    """Return the settings where they make sense together.

    Raises:
        InputError: A number is out of its range, or two settings do not fit.
    """
    for field in fields(settings):
        _check_range(field.name, getattr(settings, field.name), where)
    for key, words in _WORDS.items():
        if getattr(settings, key) not in words:
            raise InputError(f"{where}: got {key} {getattr(settings, key)!r}; expected {', '.join(words)}.")
    _check_stack(settings, where)
    _check_divisions(settings, where)
    if settings.gumbel_temperature_min > settings.gumbel_temperature:
        raise InputError(
            f"{where}: gumbel_temperature falls from {settings.gumbel_temperature:g} to gumbel_temperature_min "
            f"{settings.gumbel_temperature_min:g}, which is higher. Expected min <= first."
        )
    if settings.use_libribrain and not (
        settings.libribrain_include_run_keys_train and settings.libribrain_include_run_keys_eval
    ):
        raise InputError(
            f"{where}: use_libribrain needs libribrain_include_run_keys_train and libribrain_include_run_keys_eval: "
            'lists of ["subject", "session", "task", "run"].'
        )
    return settings


def _check_range(key: str, value: Any, where: str) -> None:
    """Numbers are finite and above zero, or at zero where zero means something."""
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        lowest_ok = number >= 0 if key in _MAY_BE_ZERO else number > 0
        if not (math.isfinite(number) and lowest_ok):
            least = "0 or more" if key in _MAY_BE_ZERO else "above 0"
            raise InputError(f"{where}: got {key} {number}; expected a finite number, {least}.")
        if key == "seed" and number >= 2**63:
            raise InputError(f"{where}: got {key} {number}; expected less than 2**63.")
        if key in _BELOW_ONE and number >= 1:
            raise InputError(f"{where}: got {key} {number:g}; expected less than 1.")
    if key == "gumbel_temperature_decay" and value > 1:
        raise InputError(f"{where}: got {key} {value:g}; expected at most 1, as the temperature falls.")


def _check_stack(settings: PretrainSettings, where: str) -> None:
    stack = (settings.conv_dim, settings.conv_kernel, settings.conv_stride)
    if len({len(one) for one in stack}) != 1 or not stack[0]:
        raise InputError(
            f"{where}: conv_dim, conv_kernel and conv_stride have {', '.join(str(len(one)) for one in stack)} layers; "
            "expected as many each, at least one."
        )


def _check_divisions(settings: PretrainSettings, where: str) -> None:
    """What is cut into equal parts has to be a multiple of their number."""
    for parts, whole in (
        ("num_attention_heads", "hidden_size"),
        ("num_conv_pos_embedding_groups", "hidden_size"),
        ("num_codevector_groups", "codevector_dim"),
    ):
        n_parts, size = getattr(settings, parts), getattr(settings, whole)
        if size % n_parts:
            raise InputError(f"{where}: {parts} {n_parts} does not divide {whole} {size}. Change one of them.")


# -------------------------------------------------------------------------------------------------------------- window


def clock_of(settings: PretrainSettings, sampling_rate: int) -> FrameClock:
    """The model's frame clock on data of a rate in Hz."""
    return FrameClock.from_convolutions(settings.conv_kernel, settings.conv_stride, sampling_rate)


def window_samples(settings: PretrainSettings, sampling_rate: int) -> int:
    """Samples of a training window."""
    return round(settings.window_seconds * sampling_rate)


def window_frames(settings: PretrainSettings, sampling_rate: int) -> int:
    """Frames of a training window.

    Raises:
        InputError: They are too few for a mask with negatives; the message says how long the window must be.
    """
    clock = clock_of(settings, sampling_rate)
    frames = clock.n_frames(window_samples(settings, sampling_rate))
    least = max(least_frames(settings.mask_time_length), LEAST_MASKED + 1)
    if frames < least:
        _, samples = clock.samples_of(0, least)
        seconds = math.ceil(1000 * samples / sampling_rate) / 1000
        raise InputError(
            f"A window of {settings.window_seconds:g} s gives {frames} frames at {sampling_rate} Hz; masks of "
            f"{settings.mask_time_length} frames need at least {least}. Set window_seconds to {seconds:g} or more."
        )
    return frames


def describe_window(settings: PretrainSettings, sampling_rate: int = 250) -> str:
    """One line for the start of a run: ``10 s at 250 Hz = 2,500 samples = 61 frames, one every 160 ms; ...``."""
    frames = window_frames(settings, sampling_rate)
    clock = clock_of(settings, sampling_rate)
    share = masked_fraction(settings.mask_time_prob, settings.mask_time_length)
    return (
        f"Window: {settings.window_seconds:g} s at {sampling_rate} Hz = {window_samples(settings, sampling_rate):,} "
        f"samples = {frames} frames, one every {1000 * clock.stride_seconds:g} ms; about {share:.0%} are masked."
    )


def settings_facts(settings: PretrainSettings) -> dict[str, Any]:
    """The settings as ``training.json`` keeps them: plain, and readable again as YAML."""
    return {
        key: [list(one) if isinstance(one, tuple) else one for one in value] if isinstance(value, tuple) else value
        for key, value in asdict(settings).items()
    }
