"""A small picture of a niche with what lies around it."""

from __future__ import annotations

import io
from typing import Any

from ml.slides.findings import SlideError
from tissueboard.errors import TissueboardError

from .models import Niche

SIDE = 192
# Side of the picture in sides of the niche: the frame that pages draw is that much smaller.
AROUND = 1.5
TILE = 256


def picture_of(niche: Niche, shown: list[dict[str, Any]]) -> bytes:
    """JPEG of 192 px. niche: with its tissue; the caller has checked the right to see it.

    shown: of an image, the channels to draw ({channel, colour, low, high}). TissueboardError (409) where the tissue cannot be read.
    """
    side = AROUND * max(niche.width, niche.height)
    left, top = niche.x + niche.width / 2 - side / 2, niche.y + niche.height / 2 - side / 2
    try:
        pixels = _of_slide(niche.slide, left, top, side) if niche.slide is not None else _of_image(niche.image, left, top, side, shown)
    except SlideError as error:
        raise TissueboardError(error.code, error.sentence, error.hint, where=error.where, status=409) from error
    return _jpeg(pixels)


def _jpeg(pixels: Any) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _of_slide(slide: Any, left: float, top: float, side: float) -> Any:
    from tissueboard.slides.tiling import open_working

    with open_working(slide) as opened:
        return opened.read_scaled(left, top, SIDE, SIDE, side / SIDE)


def _of_image(image: Any, left: float, top: float, side: float, shown: list[dict[str, Any]]) -> Any:
    """From the level that has at least as many pixels; beyond the image it is black."""
    from PIL import Image

    from ml.multiplex.zarr_pyramid import Shown, image_cache, render_tile
    from tissueboard.assays.services import image_folder

    folder, _ = image_folder(image.pk)
    channels = [Shown(c["channel"], c["colour"].lstrip("#"), c["low"], c["high"]) for c in shown]
    levels = image_cache(folder).facts["levels"]
    level = max((i for i in range(len(levels)) if side / 2**i >= SIDE), default=0)
    scale = 2**level
    x0, y0, x1, y1 = (round(v / scale) for v in (left, top, left + side, top + side))
    picture = Image.new("RGB", (max(1, x1 - x0), max(1, y1 - y0)))
    height, width = levels[level]
    for row in range(max(0, y0) // TILE, -(-min(y1, height) // TILE)):
        for col in range(max(0, x0) // TILE, -(-min(x1, width) // TILE)):
            tile = Image.open(io.BytesIO(render_tile(folder, level, col, row, channels)))
            picture.paste(tile, (col * TILE - x0, row * TILE - y0))
    return picture.resize((SIDE, SIDE))
