"""Tiled slides with every kind of JPEG tile that scanners write: RGB or YCbCr, any subsampling, shared tables, left-out tiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

SUBSAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}
APERIO_J2K_RGB = 33005


def tissue_like(width: int, height: int, seed: int = 0, grain: int = 9) -> np.ndarray:
    """(height, width, 3) uint8: glass with a pink sheet, purple nuclei of about 10 px and the grain of a camera; quick to make."""
    rng = np.random.default_rng(seed)
    low = rng.random((height // 64 + 2, width // 64 + 2))
    sheet = np.kron(low, np.ones((64, 64)))[:height, :width] > 0.35
    dots = np.zeros((height, width), bool)
    y, x = rng.integers(0, height, width * height // 250), rng.integers(0, width, width * height // 250)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            if dy * dy + dx * dx <= 18:
                dots[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)] = True
    picture = np.empty((height, width, 3), np.int16)
    picture[:] = (238, 236, 240)
    picture[sheet] = (218, 152, 190)
    picture[sheet & dots] = (98, 62, 140)
    picture += rng.integers(-grain, grain + 1, (height, width, 1), np.int16)
    return np.clip(picture, 0, 255).astype(np.uint8)


def encode(tile: np.ndarray, ycbcr: bool, subsampling: str, level: int = 80) -> bytes:
    """One JPEG stream of (h, w, 3) uint8 whose samples are RGB or YCbCr."""
    space: dict[str, Any] = {"outcolorspace": "ycbcr", "subsampling": subsampling} if ycbcr else {"outcolorspace": "rgb"}
    return bytes(imagecodecs.jpeg8_encode(tile, level=level, colorspace="rgb", **space))


def abbreviated(stream: bytes) -> tuple[bytes, bytes]:
    """(tables-only stream, stream without its tables), as TIFF keeps them (TIFF Technical Note 2)."""
    tables, rest, position = [b"\xff\xd8"], [b"\xff\xd8"], 2
    while stream[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        (tables if stream[position + 1] in (0xDB, 0xC4) else rest).append(stream[position:end])
        position = end
    return b"".join([*tables, b"\xff\xd9"]), b"".join([*rest, stream[position:]])


def write_jpeg_slide(
    path: Path,
    picture: np.ndarray,
    *,
    ycbcr: bool = True,
    subsampling: str = "420",
    tables: bool = False,
    aperio: bool = False,
    factors: tuple[int, ...] = (1, 4),
    tile: tuple[int, int] = (256, 256),
    left_out: tuple[tuple[int, int], ...] = (),
    mpp: float = 0.5,
    j2k: bool = False,
) -> Path:
    """A pyramid of JPEG tiles (j2k: JPEG 2000). tile: (height, width). left_out: (level, tile number) with no bytes in the file."""
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, factor in enumerate(factors):
            level = np.ascontiguousarray(picture[::factor, ::factor])
            cut = _tiles(level, tile)
            streams = [
                bytes(imagecodecs.jpeg2k_encode(t, level=0, codecformat="j2k")) if j2k else encode(t, ycbcr, subsampling) for t in cut
            ]
            options: dict[str, Any] = {"compression": APERIO_J2K_RGB} if j2k else {"compression": "jpeg"}
            options |= {"photometric": "ycbcr", "subsampling": SUBSAMPLING[subsampling]} if ycbcr and not j2k else {"photometric": "rgb"}
            if tables:
                parts = [abbreviated(stream) for stream in streams]
                options["jpegtables"], streams = parts[0][0], [rest for _, rest in parts]
            if aperio:
                height, width = picture.shape[:2]
                text = f"Aperio Image Library v12.0\n{width}x{height} (256x256) JPEG/RGB Q=80|AppMag = 20|MPP = {mpp}"
                options |= {"description": text}
            else:
                options |= {"subfiletype": int(number > 0), "resolution": (1e4 / (mpp * factor),) * 2, "resolutionunit": "CENTIMETER"}
            kept = (b"" if (number, i) in left_out else stream for i, stream in enumerate(streams))
            writer.write(kept, shape=level.shape, dtype=np.uint8, tile=tile, metadata=None, software=False, **options)
            if aperio and number == 0:
                thumb = np.ascontiguousarray(picture[::8, ::8])
                writer.write(thumb, photometric="rgb", compression="jpeg", description=text, metadata=None, rowsperstrip=16)
    return path


def _tiles(level: np.ndarray, tile: tuple[int, int]) -> Iterator[np.ndarray]:
    height, width = level.shape[:2]
    padded = np.pad(level, ((0, -height % tile[0]), (0, -width % tile[1]), (0, 0)), mode="edge")
    for top in range(0, padded.shape[0], tile[0]):
        for left in range(0, padded.shape[1], tile[1]):
            yield np.ascontiguousarray(padded[top : top + tile[0], left : left + tile[1]])
