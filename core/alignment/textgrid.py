"""Praat's TextGrids, through praatio: long and short text format, UTF-8 and UTF-16."""

import re
from pathlib import Path
from typing import Any

from core.alignment.names import kind_of
from core.alignment.segments import KINDS, Entry, RawRecording, RawTier, Segment, is_silence
from core.errors import DataError

_SIZES = re.compile(
    # Long format, and short: class, name, xmin, xmax, size on lines of their own.
    r'(?:intervals|points): size = (\d+)|^"(?:IntervalTier|TextTier)"\s+"(?:[^"]|"")*"\s+\S+\s+\S+\s+(\d+)\s*$',
    re.MULTILINE,
)
_TIERS = re.compile(r"<exists>\s*(?:size = )?(\d+)")
_NEGATIVE = re.compile(r"^\s*(?:xmin ?= ?)?(-\d*\.?\d*[1-9]\d*)\s*$", re.MULTILINE)


def read_textgrid(path: Path) -> list[RawRecording]:
    """Read the phone and word tiers of a TextGrid.

    Raises:
        DataError: No TextGrid, binary, cut short, or without a tier that is known to hold phones or words.
    """
    text = _text(path)
    grid = _parse(path)
    _check_complete(path, text, grid)
    if abs(grid.minTimestamp) > 1e-3:
        raise DataError(
            f"{path} begins at {grid.minTimestamp:g} s; expected 0, the beginning of the recording. Save the TextGrid "
            "of the whole recording, or shift its times in Praat."
        )
    tiers = [tier for tier in (_tier(path, grid, kind) for kind in KINDS) if tier is not None]
    if not tiers:
        names = ", ".join(repr(tier.name) for tier in grid.tiers) or "none"
        raise DataError(
            f"{path} has the interval tiers {names}; none is known to hold phones or words. Rename the one with phones "
            "to 'phones' and the one with words to 'words'."
        )
    return [RawRecording(None, tiers, float(grid.maxTimestamp))]


def _text(path: Path) -> str:
    """The file as text; raises for what is none."""
    content = path.read_bytes()
    if content.startswith(b"ooBinaryFile"):
        raise DataError(f"{path} is a binary TextGrid. Save it as a text file in Praat (Save > Save as text file).")
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 or UTF-16 ({error}). Save it again with Praat.") from error
    if "ooTextFile" not in text[:200]:
        raise DataError(f"{path} is no TextGrid: it does not begin with a File type of ooTextFile. Check the file.")
    return text


def _parse(path: Path) -> Any:
    from praatio import textgrid
    from praatio.utilities.errors import PraatioException

    try:
        return textgrid.openTextgrid(
            str(path), includeEmptyIntervals=True, reportingMode="silence", duplicateNamesMode="rename"
        )
    except (PraatioException, ValueError, IndexError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path} is no TextGrid that can be read: {said}. Save it again with Praat.") from error


def _check_complete(path: Path, text: str, grid: Any) -> None:
    """Compare with what the file announces: praatio takes a file that was cut short, or a minus, without a word."""
    announced = [int(long or short) for long, short in _SIZES.findall(text.replace("\r\n", "\n"))]
    found = [len(tier.entries) for tier in grid.tiers]
    n_tiers = _TIERS.search(text)
    if announced != found or (n_tiers and int(n_tiers[1]) != len(found)):
        raise DataError(
            f"{path} announces {n_tiers[1] if n_tiers else len(announced)} tiers of {announced} intervals and holds "
            f"{found}: it was cut short. Save it again."
        )
    negative = _NEGATIVE.search(text)
    if negative:
        raise DataError(f"{path} holds the time {negative[1]} s; expected seconds from 0 on. Correct the file.")


def _tier(path: Path, grid: Any, kind: str) -> RawTier | None:
    """Find the tier of a kind; MFA writes one for each speaker, which are put together."""
    from praatio.data_classes.interval_tier import IntervalTier

    found = [tier for tier in grid.tiers if isinstance(tier, IntervalTier) and kind_of(tier.name) == kind]
    if not found:
        return None
    names = " and ".join(repr(tier.name) for tier in found)
    if len(found) > 1 and not all(" - " in tier.name for tier in found):
        raise DataError(f"{path} has several tiers that could hold {kind}s: {names}. Rename all but one.")
    entries = [
        Entry(Segment(float(start), float(stop), label), f"interval {number} of tier {tier.name!r}")
        for tier in found
        for number, (start, stop, label) in enumerate(tier.entries, 1)
        if len(found) == 1 or not is_silence(label, kind)
    ]
    return RawTier(kind, f"{kind}s from tier {names}", sorted(entries, key=lambda entry: entry.segment.start))
