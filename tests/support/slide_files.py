"""Small slides written on the spot for tests of the platform: drawn tissue on glass, with a patient's name wherever a scanner puts one."""

from pathlib import Path
from typing import Any

import numpy as np

NAME, MRN = "ROSENTHAL^JANE", "MRN-0815-4711"
WIDTH, HEIGHT = 900, 700


def draw(seed: int = 0) -> np.ndarray:
    """(700, 900, 3) uint8: a pink ellipse with purple dots on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = ((x - WIDTH / 2) / (WIDTH * 0.35)) ** 2 + ((y - HEIGHT / 2) / (HEIGHT * 0.35)) ** 2 < 1
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:] = (240, 238, 241)
    picture[inside] = (220, 150, 190)
    picture[inside & (rng.random((HEIGHT, WIDTH)) < 0.02)] = (90, 50, 130)
    return picture


def write_svs(path: Path, mpp: float | None = 0.5, seed: int = 0) -> Path:
    """An Aperio SVS with thumbnail, label and macro; name and record number stand in the description, the tags and the label's text."""
    import tifffile

    picture = draw(seed)
    size = "" if mpp is None else f"|AppMag = 20|MPP = {mpp}"
    text = (
        f"Aperio Image Library v12.0\n{WIDTH}x{HEIGHT} (256x256) JPEG/RGB Q=85{size}|Filename = {NAME}|ScanScope ID = {MRN}|Title = {NAME}"
    )
    jpeg: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 85}, "metadata": None}
    tags = [(315, 2, 0, NAME, True), (316, 2, 0, MRN, True), (269, 2, 0, NAME, True)]
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, tile=(256, 256), description=text, datetime="1961:05:17 10:00:00", extratags=tags, software=NAME, **jpeg)
        writer.write(np.ascontiguousarray(picture[::8, ::8]), description=text, rowsperstrip=16, **jpeg)
        label = np.full((80, 80, 3), 30, np.uint8)
        described = f"Aperio Image Library\nlabel 80x80 {NAME}"
        writer.write(label, photometric="rgb", compression="lzw", description=described, subfiletype=1, metadata=None)
        writer.write(label[:40], description="Aperio Image Library\nmacro 80x40", subfiletype=9, rowsperstrip=16, **jpeg)
    return path
