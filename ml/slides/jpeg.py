"""JPEG tiles at the level of their bytes: what is needed to copy them without decoding, and nothing that could carry a name."""

from __future__ import annotations

from functools import lru_cache

# Kept: tables, frame and scan headers, restart interval, and Adobe's APP14, which tells the colour transform.
KEPT_MARKERS = {0xDB, 0xC4, 0xC0, 0xC1, 0xDD, 0xEE}
SCAN, END = 0xDA, 0xD9


def clean_jpeg(data: bytes) -> bytes | None:
    """The same picture without comments, EXIF, JFIF and trailing bytes; None if it is not a baseline JPEG that can be copied safely.

    ITU-T T.81, annex B (marker syntax). Progressive pictures are not copied: their scans would need parsing.
    """
    if data[:2] != b"\xff\xd8":
        return None
    kept, position = [b"\xff\xd8"], 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == END:  # a tables-only stream ends without a scan
            return b"".join([*kept, b"\xff\xd9"])
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position : position + 2 + length]
        if marker == SCAN:
            scan = _scan(data, position + 2 + length)
            return None if scan is None else b"".join([*kept, segment, scan])
        if marker in KEPT_MARKERS:
            kept.append(segment[:16] if marker == 0xEE else segment)
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None
        position += 2 + length
    return b"".join([*kept, b"\xff\xd9"]) if position + 2 <= len(data) and data[position : position + 2] == b"\xff\xd9" else None


def whole_jpeg(stream: bytes, tables: bytes | None, rgb: bool) -> bytes | None:
    """A TIFF tile as a JPEG file that browsers show right: its tables put in, its colour space stated; None if it is no JPEG.

    tables: the TIFF's JPEGTables (a tables-only stream) or None for a whole stream. rgb: the samples are RGB (TIFF photometric 2),
    otherwise YCbCr (6). Neither is guessed: what the stream itself says about colour (JFIF, Adobe) is replaced, as OpenSlide and
    libtiff go by the TIFF's tag. Nothing is decoded. Adobe's APP14: Adobe Technical Note 5116, section 18.
    """
    own = _segments(stream)
    shared = b"" if tables is None else _tables(tables)
    if own is None or shared is None:
        return None
    return (_ADOBE_RGB if rgb else _ADOBE_YCBCR) + shared + own


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) px that a JPEG's frame header states, without decoding anything; None if it has none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[position + 7 : position + 9], "big"), int.from_bytes(data[position + 5 : position + 7], "big")
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


_ADOBE = b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_ADOBE_RGB, _ADOBE_YCBCR = _ADOBE + b"\x00", _ADOBE + b"\x01"


def _segments(data: bytes) -> bytes | None:
    """What follows the start marker, without APPn and comments; of a tables-only stream without its end marker."""
    if data[:2] != b"\xff\xd8":
        return None
    kept, position = [], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == SCAN:
            kept.append(data[position:])
            return b"".join(kept)
        end = position + 2 + ((data[position + 2] << 8) | data[position + 3])
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[position:end])
        position = end
    return b"".join(kept) if data[position : position + 2] == b"\xff\xd9" else None


_tables = lru_cache(maxsize=64)(_segments)  # the same for all tiles of a level


def _scan(data: bytes, start: int) -> bytes | None:
    """Entropy-coded bytes up to and with the end marker (inside them 0xFF is followed by 0x00 or a restart marker)."""
    position = start
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        marker = data[position + 1]
        if marker == END:
            return data[start : position + 2]
        if marker != 0x00 and not 0xD0 <= marker <= 0xD7 and marker != 0xFF:
            return None
        position += 1 if marker == 0xFF else 2
    return None
