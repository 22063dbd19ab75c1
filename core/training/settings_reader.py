"""Settings of a training from a preset, a YAML file and single overrides, read strictly.

A misspelt key, a value of the wrong type or a number that cannot be meant stops the program before anything is
loaded: a run of days on a default that nobody asked for is the dearest of all errors.
"""

import difflib
import math
import re
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from core.errors import InputError
from core.training.contrastive_settings import ContrastiveSettings
from core.training.pretrain_settings import RunKey

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
"""A folder of presets for each model."""

S = TypeVar("S", bound=ContrastiveSettings)

_RUN_KEYS = tuple[RunKey, ...]
_WORDS = {"precision": ("auto", "fp32", "bf16", "fp16"), "device": ("auto", "cuda", "mps", "cpu")}
_MAY_BE_ZERO = frozenset(
    {"dropout", "diversity_loss_weight", "warmup_steps", "weight_decay", "max_minutes", "eval_windows", "num_workers"}
    | {"seed"}
)
_BELOW_ONE = frozenset({"dropout"})
_DIVISIONS = (("num_attention_heads", "hidden_size"), ("num_codevector_groups", "codevector_dim"))


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


@dataclass(frozen=True)
class SettingsReader(Generic[S]):
    """Reads one model's settings; what other models' settings do not have is said here.

    Attributes:
        kind: Class of the settings.
        folder: Of the presets, in ``core/configs``.
        prefix: Of the presets' files.
        presets: Their names without it.
        words: Settings that are one of some words.
        may_be_zero: Numbers that may be 0.
        below_one: Shares.
        divisions: Pairs (parts, whole) of settings, where the first divides the second.
        replaced: Keys of the document that mean something else here, with the key to use.
        check: Refuses settings that do not fit each other; it is given them and the word for where they are from.
    """

    kind: type[S]
    folder: str
    prefix: str
    presets: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_be_zero: frozenset[str] = frozenset()
    below_one: frozenset[str] = frozenset()
    divisions: tuple[tuple[str, str], ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[S, str], None] = lambda settings, where: None

    def resolve(self, config: str | Path) -> S:
        """Read a preset by name (with its file's prefix or without), or a YAML file.

        Raises:
            InputError: There is no such preset or file, or it does not hold settings.
        """
        name = str(config).removeprefix(self.prefix)
        if name in self.presets:
            return self.read(CONFIGS / self.folder / f"{self.prefix}{name}.yaml")
        path = Path(config)
        if not path.is_file():
            raise InputError(f"Found no settings {str(config)!r}; expected {', '.join(self.presets)}, or a YAML file.")
        return self.read(path)

    def read(self, path: Path) -> S:
        """Read a YAML file; what it does not name keeps its default.

        Raises:
            InputError: It cannot be read, is no mapping, has an unknown or a doubled key, or an unusable value.
        """
        try:
            with path.open(encoding="utf-8") as stream:
                content = _parsed(stream, str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}). Expected a YAML file of settings.") from error
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: expected lines such as 'batch_size: 8'; got {_named(content)}.")
        return self.validated(self._changed(self.kind(), content, str(path)), str(path))

    def with_overrides(self, settings: S, overrides: Sequence[str]) -> S:
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
        return self.validated(self._changed(settings, content, "--set"), "--set")

    def validated(self, settings: S, where: str = "settings") -> S:
        """Return the settings where they make sense together.

        Raises:
            InputError: A number is out of its range, or two settings do not fit.
        """
        for one in fields(settings):
            self._check_range(one.name, getattr(settings, one.name), where)
        for key, words in {**_WORDS, **self.words}.items():
            if getattr(settings, key) not in words:
                raise InputError(f"{where}: got {key} {getattr(settings, key)!r}; expected {', '.join(words)}.")
        _check_stack(settings, where)
        for parts, whole in (*_DIVISIONS, *self.divisions):
            _check_division(settings, parts, whole, where)
        _check_temperatures(settings, where)
        self.check(settings, where)
        return settings

    def _changed(self, settings: S, content: Mapping[Any, Any], where: str) -> S:
        """The settings with other values, each of the type that its key wants."""
        kinds = typing.get_type_hints(self.kind)
        for key in content:
            if not isinstance(key, str) or key not in kinds:
                raise InputError(f"{where}: unknown setting {key!r}.{self._nearest(str(key), kinds)}")
        return replace(settings, **{key: _converted(key, kinds[key], value, where) for key, value in content.items()})

    def _nearest(self, key: str, kinds: Mapping[str, Any]) -> str:
        if key in self.replaced:
            return f" Use {self.replaced[key]}."
        close = difflib.get_close_matches(key.lower(), kinds, n=1, cutoff=0.5)
        return f" Did you mean {close[0]}?" if close else f" Known are: {', '.join(kinds)}."

    def _check_range(self, key: str, value: Any, where: str) -> None:
        """Numbers are finite and above zero, or at zero where zero means something."""
        may_be_zero = key in _MAY_BE_ZERO | self.may_be_zero
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not (math.isfinite(number) and (number >= 0 if may_be_zero else number > 0)):
                least = "0 or more" if may_be_zero else "above 0"
                raise InputError(f"{where}: got {key} {number}; expected a finite number, {least}.")
            if key == "seed" and number >= 2**63:
                raise InputError(f"{where}: got {key} {number}; expected less than 2**63.")
            if key in _BELOW_ONE | self.below_one and number >= 1:
                raise InputError(f"{where}: got {key} {number:g}; expected less than 1.")


# ---------------------------------------------------------------------------------------------------------------- YAML


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


# --------------------------------------------------------------------------------------------------------------- types


def _converted(key: str, kind: Any, value: Any, where: str) -> Any:
    """The value as its field's type; a whole number is a fraction too, and a list becomes a tuple."""
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


# -------------------------------------------------------------------------------------------------------------- checks


def _check_stack(settings: ContrastiveSettings, where: str) -> None:
    stack = (settings.conv_dim, settings.conv_kernel, settings.conv_stride)
    if len({len(one) for one in stack}) != 1 or not stack[0]:
        raise InputError(
            f"{where}: conv_dim, conv_kernel and conv_stride have {', '.join(str(len(one)) for one in stack)} layers; "
            "expected as many each, at least one."
        )


def _check_division(settings: ContrastiveSettings, parts: str, whole: str, where: str) -> None:
    """What is cut into equal parts has to be a multiple of their number."""
    n_parts, size = getattr(settings, parts), getattr(settings, whole)
    if size % n_parts:
        raise InputError(f"{where}: {parts} {n_parts} does not divide {whole} {size}. Change one of them.")


def _check_temperatures(settings: ContrastiveSettings, where: str) -> None:
    decay = settings.gumbel_temperature_decay
    if decay > 1:
        raise InputError(
            f"{where}: got gumbel_temperature_decay {decay:g}; expected at most 1, as the temperature falls."
        )
    if settings.gumbel_temperature_min > settings.gumbel_temperature:
        raise InputError(
            f"{where}: gumbel_temperature falls from {settings.gumbel_temperature:g} to gumbel_temperature_min "
            f"{settings.gumbel_temperature_min:g}, which is higher. Expected min <= first."
        )


def settings_facts(settings: ContrastiveSettings) -> dict[str, Any]:
    """The settings as ``training.json`` keeps them: plain, and readable again as YAML."""
    return {
        key: [list(one) if isinstance(one, tuple) else one for one in value] if isinstance(value, tuple) else value
        for key, value in asdict(settings).items()
    }
