"""Frozen records to JSON and back: how one process hands its findings to another. Nothing is unpickled."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.errors import DataError

Record = TypeVar("Record")

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""JSON has no such numbers."""


def to_plain(value: Any) -> Any:
    """Turn a record, with all that it holds, into what JSON takes; arrays keep their type and shape."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        values = [to_plain(one) for one in value.reshape(-1).tolist()]
        return {"dtype": value.dtype.str, "shape": list(value.shape), "values": values}
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): to_plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[Record], plain: Any) -> Record:
    """Make a record of what :func:`to_plain` returned.

    Raises:
        DataError: it is something else.
    """
    try:
        made: Record = _made(kind, plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"These are no {kind.__name__} of this version of Strata: {error!r}. Make them again."
        ) from error
    return made


def _made(kind: Any, plain: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if plain is None else _made(next(one for one in inner if one is not type(None)), plain)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, plain)
    if kind is np.ndarray or origin is np.ndarray:
        return _array(plain)
    if origin is tuple:
        return tuple(_made(inner[0], one) for one in plain)
    if origin is not None and issubclass(origin, Mapping):
        return {_made(inner[0], key): _made(inner[1], one) for key, one in plain.items()}
    if isinstance(plain, dict) and set(plain) == {"number"}:
        return NOT_FINITE[plain["number"]]
    return kind(plain) if kind in (int, float, str, bool, Path) else plain


def _record(kind: type, plain: Any) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = set(plain) - set(hints)
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    return kind(**{name: _made(hints[name], value) for name, value in plain.items()})


def _array(plain: Any) -> np.ndarray:
    dtype = np.dtype(plain["dtype"])
    if dtype.hasobject:
        raise ValueError("an array of objects")
    values = [_made(float, one) if isinstance(one, dict) else one for one in plain["values"]]
    return np.array(values, dtype=dtype).reshape(plain["shape"])
