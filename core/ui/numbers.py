"""Numbers as people write them into widgets."""

import math

from core.errors import InputError


def hertz(text: str) -> float | None:
    """Read a sampling rate in Hz; None where the text is empty.

    Raises:
        InputError: It is no number above 0.
    """
    try:
        return number(float(text), "the sampling rate", "Hz") if text.strip() else None
    except ValueError as error:
        raise InputError(f"Got the sampling rate {text!r}; expected a number of Hz, such as 1000.") from error


def whole(value: float | None, what: str, least: int = 1) -> int:
    """Return a count that a widget gave.

    Raises:
        InputError: It is no whole number from ``least`` on.
    """
    if value is None or value != value // 1 or value < least:
        raise InputError(f"Got {value} as {what}; expected a whole number from {least} on.")
    return int(value)


def number(value: float | None, what: str, unit: str) -> float:
    """Return a size that a widget gave.

    Raises:
        InputError: It is no number above 0.
    """
    if value is None or not 0 < value < math.inf:
        raise InputError(f"Got {value} {unit} as {what}; expected a number above 0.")
    return float(value)
