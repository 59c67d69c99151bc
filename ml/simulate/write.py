"""Pictures to slides: tiled pyramidal JPEG TIFF with a physical resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

TILE = 256


def write_pyramid(path: str | Path, image: NDArray[np.uint8], mpp: float, quality: int = 88, factor: int = 2) -> Path:
    """Write an (h, w, 3) uint8 RGB picture as a pyramid that OpenSlide reads with its mpp.

    Tiles of 256 px, JPEG; each level is `factor` (2 or 4) smaller than the last, down to one tile; the resolution tag
    holds px per cm. ValueError for another shape, dtype or factor.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"A slide is (height, width, 3) uint8, got {image.shape} {image.dtype}.")
    if factor not in (2, 4):
        raise ValueError(f"Levels shrink by 2 or 4, not {factor}.")
    path = Path(path)
    level, scale, first = image, 1, True
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        while True:
            tiff.write(
                level,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": int(quality)},
                subfiletype=0 if first else 1,
                resolution=(1e4 / (mpp * scale), 1e4 / (mpp * scale)),
                resolutionunit="CENTIMETER",
                metadata=None,
                software="tissueboard simulator",
            )
            height, width = level.shape[0] // factor, level.shape[1] // factor
            if max(level.shape[:2]) <= TILE or min(height, width) < 1:
                return path
            level = np.asarray(Image.fromarray(level).reduce(factor))[:height, :width]
            level, scale, first = np.ascontiguousarray(level), scale * factor, False
