"""Records to JSON and back: what one process found, another reads."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from core.records import from_plain, to_plain
from core.scoring import EmotionFindings
from tests import scoring_fakes


@dataclass(frozen=True)
class Inner:
    value: float
    name: str | None


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    array: np.ndarray
    table: Mapping[int, float]
    path: Path


def same(first, second) -> bool:
    """Whether two records hold the same, arrays with their types."""
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if hasattr(first, "__dataclass_fields__"):
        return all(same(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))
    return first == second or (first != first and second != second)


@pytest.mark.parametrize(
    "array",
    [np.zeros((0, 3), np.float32), np.array([[1.5, math.nan]]), np.array(["ä", "bb"]), np.arange(3), np.array([True])],
    ids=["empty", "nan", "text", "whole", "truth"],
)
def test_what_is_written_is_read(array):
    record = Outer((Inner(math.inf, None), Inner(0.1, "x")), array, {3: 0.25}, Path("a/b"))
    text = json.dumps(to_plain(record), allow_nan=False)
    assert same(from_plain(Outer, json.loads(text)), record)


def test_findings_survive():
    findings = scoring_fakes.make_emotion()
    read = from_plain(EmotionFindings, json.loads(json.dumps(to_plain(findings), allow_nan=False)))
    assert same(read.main, findings.main)
    assert same(read.cross, findings.cross)
    assert same(read.baseline, findings.baseline)


@pytest.mark.parametrize(
    "plain",
    [[], {"inner": []}, {"inner": [], "array": {"dtype": "|O", "shape": [1], "values": [1]}, "table": {}, "path": ""}],
)
def test_something_else_is_refused(plain):
    with pytest.raises(DataError, match="no Outer of this version"):
        from_plain(Outer, plain)
