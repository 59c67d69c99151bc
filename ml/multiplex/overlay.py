"""One channel of a multiplex image drawn where it lies on a slide: the picture by which an alignment is checked."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.align import inverse
from ml.multiplex.zarr_pyramid import image_cache
from ml.slides.findings import FindingCode, SlideError


def overlay_png(
    folder: str | Path, channel: int, matrix: NDArray[np.float64], corner: tuple[float, float], step: float, size: tuple[int, int],
    colour: str, low: float, high: float,
) -> bytes:  # fmt: skip
    """RGBA PNG of `size` (columns, rows): pixel (col, row) covers px0 corner + step * (col, row).

    matrix: (2, 3) from pixels of the image to px0. colour: six hexadecimal digits; a value of `low` is clear, `high` opaque; outside of
    the image nothing is drawn, and its edge is a line. Errors: SlideError CHANNEL_NOT_THERE, FILE_MISSING, MULTIPLEX_UNREADABLE.
    """
    from PIL import Image
    from scipy import ndimage

    opened = image_cache(folder)
    if not 0 <= channel < len(opened.facts["names"]):
        hint = f"Channels are 0 to {len(opened.facts['names']) - 1}."
        raise SlideError(FindingCode.CHANNEL_NOT_THERE, f"There is no channel {channel}.", hint)
    back = inverse(matrix)
    # Pixels of the image per pixel of the picture: the level that has about as many.
    per = step * math.sqrt(abs(np.linalg.det(back[:, :2])))
    level = min(max(0, math.floor(math.log2(max(per, 1e-9)))), len(opened.facts["levels"]) - 1)
    height, width = opened.facts["levels"][level]
    values = np.nan_to_num(opened.read(channel, level, 0, 0, height, width).astype(np.float32), nan=low)
    cols, rows = size
    centres = (np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), -1).reshape(-1, 2) + 0.5) * step + corner
    places = (centres @ back[:, :2].T + back[:, 2]) / 2**level
    inside = ((places >= 0) & (places < (width, height))).all(axis=1).reshape(rows, cols)
    seen = ndimage.map_coordinates(values, (places - 0.5).T[::-1], order=1, mode="nearest").reshape(rows, cols)
    share = np.clip((seen - low) / max(high - low, 1e-30), 0, 1)
    picture = np.zeros((rows, cols, 4), np.uint8)
    picture[..., :3] = np.frombuffer(bytes.fromhex(colour), np.uint8)
    picture[..., 3] = np.where(inside, np.rint(share * 255), 0)
    picture[inside & ~ndimage.binary_erosion(inside, iterations=1)] = (*bytes.fromhex(colour), 255)
    out = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(out, "PNG", compress_level=3)
    return out.getvalue()
