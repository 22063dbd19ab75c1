"""What a file's own structure says before anything is decoded: is it whole, and is its stated length exact?

libsndfile shortens a truncated file without a word, and FFmpeg calls an m4a that lost its end no audio at all. The
formats: RIFF/WAVE and RF64 (EBU Tech 3306), Sony Wave64, AIFF, CAF, ISO base media boxes (ISO/IEC 14496-12), EBML
(RFC 8794), Ogg pages (RFC 3533), and the Xing/Info tag of MP3.
"""

import struct
from dataclasses import dataclass
from os import SEEK_END
from typing import BinaryIO

from core.audio.ogg import walk_pages

# Programs that write a wav to a pipe cannot go back to fill in its length. They leave 0 (handled by the reader), all
# ones (ffmpeg), 2**31 (arecord) or just below 2**31 (SoX 0x7ffff000, GStreamer 0x7fff0000): all mean "to the end".
_UNKNOWN_SIZES = ((0x7FFF0000, 0x80000000), (0xFFFF0000, 0xFFFFFFFF))
_BOXES = b"ftyp moov mdat moof free skip wide uuid meta sidx mfra styp emsg udta pdin prft".split()
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
_MP3_TAG_REACH = 256
# More than this behind the sound that an MP3's tag speaks of may be a second recording.
_MP3_TAIL_BYTES = 1024


@dataclass(frozen=True)
class Header:
    """What the structure of a file says.

    Attributes:
        fault: What is missing or damaged; None where nothing is known to be.
        position: Samples before the fault (at 48 kHz for Opus); None where the structure does not tell.
        exact: Whether the length that libsndfile will state is the true one.
    """

    fault: str | None = None
    position: int | None = None
    exact: bool = True


@dataclass(frozen=True)
class _Chunks:
    """How a family of formats lays out its chunks: an id, a size, then the content."""

    first: int
    id_bytes: int
    size_format: str
    size_counts_header: bool
    align: int
    data_id: bytes

    @property
    def header_bytes(self) -> int:
        return self.id_bytes + struct.calcsize(self.size_format)


_RIFF = _Chunks(12, 4, "<I", False, 2, b"data")
_CHUNKED = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"RIFX": _Chunks(12, 4, ">I", False, 2, b"data"),
    b"FORM": _Chunks(12, 4, ">I", False, 2, b"SSND"),
    b"riff": _Chunks(40, 16, "<Q", True, 8, bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")),
    b"caff": _Chunks(8, 4, ">q", False, 1, b"data"),
}


def examine(file: BinaryIO) -> Header:
    """Look at the structure of an open file; formats without a known one pass."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"OggS":
        pages = walk_pages(file, size)
        return Header(pages.fault, pages.position, exact=not pages.chained)
    if start[:4] in _CHUNKED:
        return _promising(_missing_from_chunks(file, size, _CHUNKED[start[:4]]))
    if start[4:8] == b"ftyp":
        return _examine_boxes(file, size)
    if start[:4] == _EBML:
        return _promising(_missing_from_ebml(file, size))
    if start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0):
        return Header(exact=_mp3_states_length(file, size))
    return Header()


def _promising(missing: int) -> Header:
    return Header(f"its header promises {missing} bytes more than the file holds" if missing > 0 else None)


def _missing_from_chunks(file: BinaryIO, size: int, layout: _Chunks) -> int:
    at, size_of_data = layout.first, 0
    while at + layout.header_bytes <= size:
        file.seek(at)
        name = file.read(layout.id_bytes)
        (length,) = struct.unpack(layout.size_format, file.read(layout.header_bytes - layout.id_bytes))
        content = at + layout.header_bytes
        if layout.size_counts_header:
            length -= layout.header_bytes
        if name == b"ds64":
            size_of_data = int.from_bytes(file.read(16)[8:], "little")
        if name == layout.data_id:
            stated = size_of_data if size_of_data and length == 0xFFFFFFFF else length
            return 0 if _means_to_the_end(stated, layout) else content + stated - size
        if length < 0:
            break
        at = content + length + -length % layout.align
    return 0


def _means_to_the_end(stated: int, layout: _Chunks) -> bool:
    if struct.calcsize(layout.size_format) == 8:
        return stated < 0 or stated >= 2**62
    return any(low <= stated <= high for low, high in _UNKNOWN_SIZES)


def _examine_boxes(file: BinaryIO, size: int) -> Header:
    at, indexed = 0, False
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if name not in _BOXES:
            break
        indexed = indexed or name == b"moov"
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:
            # 0 means "to the end"; anything else is no size.
            break
        at += length
    if at > size:
        return _promising(at - size)
    return Header(None if indexed else "its index (the moov box) is missing")


def _missing_from_ebml(file: BinaryIO, size: int) -> int:
    """Compare the size of a Matroska or WebM file's only segment; a live recording leaves it unknown."""
    file.seek(4)
    length = _ebml_size(file)
    if length is None:
        return 0
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length = _ebml_size(file)
    return 0 if length is None else file.tell() + length - size


def _ebml_size(file: BinaryIO) -> int | None:
    """Read a size of 1 to 8 bytes, the count of leading zero bits saying how many; None for unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & ((1 << (7 * (more + 1))) - 1)
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _mp3_states_length(file: BinaryIO, size: int) -> bool:
    """Tell whether an MP3's Xing/Info tag counts its frames; without it libsndfile guesses, and stops at its guess.

    A tag that speaks of far fewer bytes than there are belongs to the first of several recordings joined together.
    """
    file.seek(0)
    start = file.read(10)
    at = 0
    if start[:3] == b"ID3":
        # Sizes in ID3v2 keep the top bit of each byte clear.
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
    file.seek(at)
    frame = file.read(_MP3_TAG_REACH)
    found = max(frame.find(b"Xing"), frame.find(b"Info"))
    if found < 0 or len(frame) < found + 16:
        return False
    flags, _, stated = struct.unpack(">III", frame[found + 4 : found + 16])
    return flags & 3 == 3 and at + stated + _MP3_TAIL_BYTES >= size
