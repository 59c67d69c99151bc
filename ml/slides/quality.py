"""How well a slide can be read: focus, stain, glass, ink. Every figure has its meaning and its limits beside it (ml.slides.quality_limits).

Focus compares detail of about 0.5 um with detail of about 2 um (second differences at both distances), so that contrast and stain divide
out. Measured on three sharp scans (Aperio 20x paraffin and frozen, a spatial array scan): 0.18 or more in 99% of tiles; blurred by a
Gaussian of 0.5 um 0.11-0.16, of 1 um 0.09-0.10; falling with every further blur. Stain: Macenko M et al. A method for normalizing
histology slides for quantitative analysis. ISBI 2009.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml.slides.grid import tile_grid
from ml.slides.pen import optical_density
from ml.slides.quality_limits import FOCUS_AT_LEAST, TILE_UM, SlideQuality
from ml.slides.reader import Slide
from ml.slides.tissue import TissueMask, glass_colour
from ml.types import TileGrid

MPP = 0.5  # um per pixel at which a slide is judged
COARSEST_MPP = 0.75  # above it the detail that focus is about is not in the picture
TILE_PX = 224
MAX_TILES = 200
PIXELS = 200_000  # of which stains are estimated
ROUNDING = 0.5  # variance of a second difference of rounded grey levels: 6 / 12


def tile_focus(tiles: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """(b,) float32 focus of tiles (b, h, w, 3) uint8 of `mpp` um per pixel, 0..1; higher is sharper, a flat tile has 0.

    Tiles finer than about 0.5 um per pixel are averaged down first, so that all are judged at 0.375 to 0.75. Coarser ones give NaN.
    """
    if mpp > COARSEST_MPP or min(tiles.shape[1:3]) < 16:
        return np.full(len(tiles), np.nan, np.float32)
    grey = tiles[..., 1].astype(np.float32)  # green: both stains absorb it
    factor = max(1, round(MPP / mpp))
    if factor > 1:
        height, width = (side // factor for side in grey.shape[1:])
        cut = grey[:, : height * factor, : width * factor]
        grey = cut.reshape(len(cut), height, factor, width, factor).mean(axis=(2, 4), dtype=np.float32)
    fine = np.maximum(_second_differences(grey, 1) - ROUNDING / factor**2, 0.0)
    focus: NDArray[np.float32] = np.sqrt(fine / (_second_differences(grey, 4) + 16.0)).astype(np.float32)
    return focus


def slide_quality(slide: Slide, mask: TissueMask, stain: str = "H&E") -> SlideQuality:
    """Judged on at most MAX_TILES tiles of the tissue, about a second. Errors: SlideError of reading, MPP_MISSING."""
    seen = SlideQuality(0, None, None, None, None, None, None, None, mask.pen_share)
    grid = _sample(tile_grid(mask, slide, TILE_UM, TILE_UM, min_tissue=0.5))
    if not len(grid) or slide.need_mpp() > COARSEST_MPP:
        return seen
    tiles = np.concatenate(list(slide.tiles(grid, TILE_PX, batch=64)))
    focus = tile_focus(tiles, MPP)
    overview = slide.overview(max(mask.cell_px0, max(slide.size) / 1024)).reshape(-1, 3).astype(np.float32)
    lit = overview[overview.max(axis=1) >= 40]
    glass = np.median(lit[lit.min(axis=1) >= np.quantile(lit.min(axis=1), 0.9)], axis=0) if len(lit) else None
    pixels = _tissue_pixels(tiles)
    seen = replace(
        seen,
        tiles=len(grid),
        focus=float(np.median(focus)),
        blurred_share=float((focus < FOCUS_AT_LEAST).mean()),
        glass=None if glass is None else float(glass.min()),
        clipped_share=float((pixels.min(axis=1) <= 1).mean()) if len(pixels) else None,
    )
    found = stain_densities(pixels, glass_colour(lit)) if stain.strip().upper() in {"H&E", "HE"} and len(lit) else None
    return seen if found is None else replace(seen, haematoxylin=found[0], eosin=found[1], h_to_e=found[0] / max(found[1], 1e-3))


def stain_densities(pixels: NDArray[np.uint8], glass: NDArray[np.float32]) -> tuple[float, float] | None:
    """(haematoxylin, eosin): 99th percentile of their optical densities over tissue pixels (n, 3); None below 1,000.

    Macenko's estimate: the two extreme directions in the plane of the largest variance; haematoxylin is the one that absorbs more red.
    """
    density = optical_density(pixels.astype(np.float32), glass)
    density = density[(density >= 0.15).all(axis=1)]
    if len(density) < 1000:
        return None
    _, vectors = np.linalg.eigh(np.cov(density.T))
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    angle = np.arctan2(*(density @ plane).T[::-1])
    low, high = np.percentile(angle, [1, 99])
    ends = [plane @ np.array([np.cos(end), np.sin(end)]) for end in (low, high)]
    ends = [end * np.sign(end.sum()) / np.linalg.norm(end) for end in ends]
    stains = np.stack(sorted(ends, key=lambda end: -end[0]), axis=1)
    amounts = np.linalg.lstsq(stains, density.T, rcond=None)[0]
    h, e = np.percentile(amounts, 99, axis=1)
    return float(h), float(e)


def _second_differences(grey: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
    """(b,) mean square of y[i - lag] - 2 y[i] + y[i + lag] over both axes of (b, h, w)."""
    down = grey[:, : -2 * lag] + grey[:, 2 * lag :] - 2 * grey[:, lag:-lag]
    across = grey[:, :, : -2 * lag] + grey[:, :, 2 * lag :] - 2 * grey[:, :, lag:-lag]
    squares: NDArray[np.float32] = sum(np.einsum("bij,bij->b", d, d) / d[0].size for d in (down, across)) / 2  # type: ignore[assignment]
    return squares


def _sample(grid: TileGrid) -> TileGrid:
    """At most MAX_TILES tiles, evenly through the grid's order (row by row over the tissue)."""
    if len(grid) <= MAX_TILES:
        return grid
    rows = np.linspace(0, len(grid) - 1, MAX_TILES).round().astype(np.int64)
    return replace(grid, xy=grid.xy[rows], tissue=None if grid.tissue is None else grid.tissue[rows])


def _tissue_pixels(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Coloured pixels (n, 3) of tiles, at most PIXELS, evenly taken."""
    pixels = tiles.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // PIXELS)]
    coloured: NDArray[np.uint8] = pixels[(pixels.max(axis=1).astype(np.int16) - pixels.min(axis=1)) > 12]
    return coloured
