"""MNE without its log: its warnings as sentences, and its errors as ours."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import DataError, StrataError

_UNIMPORTANT = ("naming conventions", "compensators from info", "tmin is not in")
"""Of MNE's warnings, those that tell a user nothing."""


@contextmanager
def quiet_mne(path: Path) -> Iterator[list[str]]:
    """Let MNE work on a file: yields a list that holds its warnings afterwards, one sentence each.

    Raises:
        DataError: MNE or the operating system failed on the file. Readers of foreign formats fail in any way on a
            damaged file, so every exception counts, but for a lack of memory.
    """
    from mne.utils import catch_logging, use_log_level

    heard: list[str] = []
    # At a lower level than this MNE gives no warnings either; what it logs at it goes nowhere.
    with warnings.catch_warnings(record=True) as caught, catch_logging(), use_log_level("WARNING"):
        warnings.simplefilter("always")
        try:
            yield heard
        except (StrataError, MemoryError):
            raise
        except Exception as error:
            raise DataError(
                f"{path} cannot be read: {_one_line(error)}. It may be truncated, damaged or no recording at all: copy "
                "it again from its source, and see whether MNE opens it."
            ) from error
        finally:
            heard.extend(_sentences(caught))


def _sentences(caught: list[warnings.WarningMessage]) -> list[str]:
    told = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning | UserWarning)]
    return list(dict.fromkeys(" ".join(one.split()) for one in told if not any(word in one for word in _UNIMPORTANT)))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
