"""A channel of a virtual map as a picture: fixed limits, one pixel per cell, nothing where there is no tissue."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from .palette import MAP_COLOURS, map_table

HATCH_PX = 12
HATCH_MAX_PX = 6000


def channel_png(values: NDArray[np.float32], low: float, high: float, colours: str = MAP_COLOURS) -> bytes:
    """PNG of values (rows, cols) in the map's unit between fixed limits; values beyond a limit take its colour, NaN is transparent.

    Raises ValueError where the limits do not span a range: colours are never stretched to what one slide happens to hold.
    """
    if not high > low:
        raise ValueError(f"The limits {low} and {high} span no range.")
    known = np.isfinite(values)
    scaled = np.clip((np.where(known, values, low) - low) / (high - low), 0.0, 1.0)
    picture = np.zeros((*values.shape, 4), np.uint8)
    picture[..., :3] = map_table(colours)[(scaled * 255).round().astype(np.uint8)]
    picture[..., 3] = np.where(known, 255, 0)
    picture[~known] = 0
    return _png(picture)


def hatch_png(far: NDArray[np.bool_]) -> bytes:
    """PNG of diagonal stripes over the cells (rows, cols) that are True: seen without colour and over any colour.

    Each cell takes up to 12 x 12 px; a large map takes fewer, so that the picture stays below 6000 px a side, and from 1500 cells a side
    one px, with stripes that run over cells.
    """
    side = min(HATCH_PX, HATCH_MAX_PX // max(far.shape))
    if side < 4:
        side = 1
    period = HATCH_PX if side == 1 else side
    y, x = np.ogrid[0 : far.shape[0] * side, 0 : far.shape[1] * side]
    stripe, width = ((x + y) % period).astype(np.uint8), max(1, period // 5)
    picture = np.zeros((*stripe.shape, 4), np.uint8)
    picture[stripe < width] = (20, 33, 44, 230)
    picture[(stripe >= width) & (stripe < 2 * width)] = (255, 255, 255, 200)
    picture[~np.repeat(np.repeat(far, side, axis=0), side, axis=1)] = 0
    return _png(picture)


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(out, "PNG", compress_level=4)
    return out.getvalue()
