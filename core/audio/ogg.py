"""Walk the pages of an Ogg file (RFC 3533), each of which carries a checksum of itself.

libsndfile plays around damage, and stops at the end of the first stream where several are chained.
"""

import zlib
from dataclasses import dataclass
from typing import BinaryIO

_HEADER_BYTES = 27
_BEGINS_STREAM = 2
_ENDS_STREAM = 4
_NO_POSITION = 2**64 - 1
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_SCAN_BYTES = 1 << 20


@dataclass(frozen=True)
class OggPages:
    """What a walk over the pages found.

    Attributes:
        fault: What is wrong with the first bad page; None for a sound file.
        position: Position (samples, at 48 kHz for Opus) that the last good page states.
        chained: Whether another stream begins after the first one's data.
    """

    fault: str | None
    position: int
    chained: bool


@dataclass(frozen=True)
class _Page:
    begins_stream: bool
    ends_stream: bool
    position: int | None
    stop: int


class _BadPageError(Exception):
    """What is wrong with a page, in words."""


def walk_pages(file: BinaryIO, size: int) -> OggPages:
    """Check every page from the start of ``file`` (``size`` bytes long); bytes after the last page are no fault."""
    at, position, chained, in_data, ended = 0, 0, False, False, False
    try:
        while at < size and not (ended and _only_other_bytes_follow(file, at)):
            page = _read_page(file, at)
            chained = chained or (page.begins_stream and in_data)
            in_data = in_data or not page.begins_stream
            ended = page.ends_stream
            position = position if page.position is None else page.position
            at = page.stop
    except _BadPageError as fault:
        return OggPages(str(fault), position, chained)
    return OggPages(None if ended else "the Ogg page that ends the stream is missing", position, chained)


def _read_page(file: BinaryIO, at: int) -> _Page:
    file.seek(at)
    header = file.read(_HEADER_BYTES)
    if not header.startswith(b"OggS"[: len(header)]):
        raise _BadPageError(f"the Ogg page expected at byte {at} is not there")
    lacing = file.read(header[26]) if len(header) == _HEADER_BYTES else b""
    content = file.read(sum(lacing))
    if len(header) < _HEADER_BYTES or len(lacing) < header[26] or len(content) < sum(lacing):
        raise _BadPageError("its last Ogg page promises more bytes than the file holds")
    if checksum(header[:22] + bytes(4) + header[26:] + lacing + content) != int.from_bytes(header[22:26], "little"):
        raise _BadPageError(f"the Ogg page at byte {at} fails its checksum")
    position = int.from_bytes(header[6:14], "little")
    return _Page(
        begins_stream=bool(header[5] & _BEGINS_STREAM),
        ends_stream=bool(header[5] & _ENDS_STREAM),
        position=None if position == _NO_POSITION else position,
        stop=at + _HEADER_BYTES + len(lacing) + len(content),
    )


def checksum(page: bytes) -> int:
    """CRC-32 as Ogg takes it: zlib's polynomial with the bits the other way round, begun at 0 and not inverted."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _only_other_bytes_follow(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    kept = b""
    while piece := file.read(_SCAN_BYTES):
        if b"OggS" in kept + piece:
            return False
        kept = piece[-3:]
    return True
