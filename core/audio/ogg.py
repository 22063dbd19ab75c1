"""Walk the pages of an Ogg file (RFC 3533), each of which carries a checksum of itself.

libsndfile plays around damage, and stops at the end of the first stream where several are chained.
"""

import zlib
from dataclasses import dataclass
from typing import BinaryIO

_HEADER_BYTES = 27
_BEGINS_STREAM = 2
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


def walk_pages(file: BinaryIO, size: int) -> OggPages:
    """Check every page from the start of ``file`` (``size`` bytes long); bytes after the last page are no fault."""
    at, position, chained, in_data = 0, 0, False, False
    while at < size:
        file.seek(at)
        header = file.read(_HEADER_BYTES)
        if header[:4] != b"OggS":
            lost = _another_page_follows(file, at)
            return OggPages(f"the Ogg page expected at byte {at} is not there" if lost else None, position, chained)
        if len(header) < _HEADER_BYTES:
            return OggPages("its last Ogg page is cut off", position, chained)
        lacing = file.read(header[26])
        content = file.read(sum(lacing))
        if len(lacing) < header[26] or len(content) < sum(lacing):
            missing = sum(lacing) - len(content) if len(lacing) == header[26] else "some"
            return OggPages(f"its last Ogg page promises {missing} bytes more than the file holds", position, chained)
        if checksum(header[:22] + bytes(4) + header[26:] + lacing + content) != int.from_bytes(header[22:26], "little"):
            return OggPages(f"the Ogg page at byte {at} fails its checksum", position, chained)
        begins = bool(header[5] & _BEGINS_STREAM)
        chained, in_data = chained or (begins and in_data), in_data or not begins
        stated = int.from_bytes(header[6:14], "little")
        position = position if stated == _NO_POSITION else stated
        at += _HEADER_BYTES + len(lacing) + len(content)
    return OggPages(None, position, chained)


def checksum(page: bytes) -> int:
    """CRC-32 as Ogg takes it: zlib's polynomial with the bits the other way round, begun at 0 and not inverted."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _another_page_follows(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    kept = b""
    while piece := file.read(_SCAN_BYTES):
        if b"OggS" in kept + piece:
            return True
        kept = piece[-3:]
    return False
