"""Is a file as long as its own header says? libsndfile shortens a truncated file without a word.

Formats: RIFF/WAVE and RF64 (EBU Tech 3306), Sony Wave64, AIFF (Apple, 1989), CAF (Apple), Ogg pages (RFC 3533) and the
Xing/Info tag of MP3.
"""

import struct
from dataclasses import dataclass
from os import SEEK_END
from typing import BinaryIO

# Programs that write a wav to a pipe cannot go back to fill in its length. They leave 0 (handled by the caller), all
# ones (ffmpeg), 2**31 (arecord) or just below 2**31 (SoX 0x7ffff000, GStreamer 0x7fff0000): all mean "to the end".
_UNKNOWN_SIZES = ((0x7FFF0000, 0x80000000), (0xFFFF0000, 0xFFFFFFFF))
_OGG_PAGE_MAX = 27 + 255 + 255 * 255
_MP3_TAG_REACH = 256


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


def missing_bytes(file: BinaryIO) -> int:
    """Count the bytes of sound that the header or last page promises and the file does not hold; 0 when complete."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic == b"OggS":
        return _missing_from_ogg(file, size)
    layout = _CHUNKED.get(magic)
    return 0 if layout is None else _missing_from_chunks(file, size, layout)


def _missing_from_chunks(file: BinaryIO, size: int, layout: _Chunks) -> int:
    position, size_of_data = layout.first, None
    while position + layout.header_bytes <= size:
        file.seek(position)
        name = file.read(layout.id_bytes)
        (length,) = struct.unpack(layout.size_format, file.read(layout.header_bytes - layout.id_bytes))
        content = position + layout.header_bytes
        if name == b"ds64":
            size_of_data = struct.unpack("<Q", file.read(16)[8:])[0]
        if layout.size_counts_header:
            length -= layout.header_bytes
        if name == layout.data_id:
            stated = length if size_of_data is None or length != 0xFFFFFFFF else size_of_data
            return 0 if _is_unknown(stated, layout) else max(0, content + stated - size)
        position = content + length + -length % layout.align
        if length < 0:
            break
    return 0


def _is_unknown(stated: int, layout: _Chunks) -> bool:
    if struct.calcsize(layout.size_format) == 8:
        return stated < 0 or stated >= 2**62
    return any(low <= stated <= high for low, high in _UNKNOWN_SIZES)


def _missing_from_ogg(file: BinaryIO, size: int) -> int:
    file.seek(max(0, size - 2 * _OGG_PAGE_MAX))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))


def mp3_states_length(file: BinaryIO) -> bool:
    """Tell whether an MP3 carries the Xing/Info tag with its frame count; without it any length is an estimate."""
    file.seek(0)
    start = file.read(10)
    offset = 0
    if start[:3] == b"ID3":
        # Sizes in ID3v2 keep the top bit of each byte clear.
        offset = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
    file.seek(offset)
    frame = file.read(_MP3_TAG_REACH)
    found = max(frame.find(b"Xing"), frame.find(b"Info"))
    return found >= 0 and len(frame) >= found + 8 and bool(frame[found + 7] & 1)
