"""Tables as the reports show them, whatever they are about."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

SHOWN_HASH = 12
"""Characters of a SHA-256 that are shown."""


class Short(str):
    """A text whose hashes are shown by their first characters; the page keeps all of it for the pointer."""

    @property
    def shown(self) -> str:
        """The text with each hash cut.

        >>> Short("model: " + "ab" * 32).shown
        'model: abababababab…'
        """
        return re.sub(rf"\b([0-9a-f]{{{SHOWN_HASH}}})[0-9a-f]{{{64 - SHOWN_HASH}}}\b", r"\1…", self)


@dataclass(frozen=True)
class Table:
    """A table of the report; cells are shown as ``str`` makes them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    @property
    def untitled(self) -> "Table":
        """The same without its title, where something else already says it."""
        return replace(self, title="")


def _leaves(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in facts.items():
        path = f"{prefix}{name}"
        found += _leaves(value, f"{path}.") if isinstance(value, Mapping) else [(path, _told(value))]
    return found


def fact_rows(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return facts, however deep, as rows of a name and a value."""
    return tuple(_leaves(facts))


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def failure_rows(failures: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the files that could not be used, each with its reason."""
    return tuple((one.get("file", "–"), one.get("error", "–")) for one in failures)
