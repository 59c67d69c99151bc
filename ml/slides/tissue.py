"""Where the tissue is: a mask from colour at a few um per cell.

Glass is bright and nearly grey, stained tissue is coloured. The slide's own glass colour is divided out, Otsu's threshold on the
colourfulness is kept within limits (a slide full of tissue, or of nothing, has no two classes), black frames are not tissue.
Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 1979.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.slides.reader import Slide

THRESHOLD_LIMITS = (12.0, 28.0)  # grey levels of max(R,G,B) - min(R,G,B)
NEAR_BLACK = 40  # brightest channel below this: no light came through (frame, mask picture, fluorescence)
SPECK_UM2 = 10_000.0  # smaller pieces are dust
HOLE_UM2 = 10_000.0  # smaller gaps are lumina and fat, and belong to the tissue


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide.

    mask: (rows, cols) bool; cell (r, c) covers px0 x in [c * cell_px0, (c + 1) * cell_px0), the same for y.
    cell_um, cell_px0: side of a cell. threshold: colourfulness (grey levels) above which a cell is tissue.
    """

    mask: NDArray[np.bool_]
    cell_um: float
    cell_px0: float
    threshold: float

    @property
    def area_mm2(self) -> float:
        """Tissue area in square millimetres."""
        return float(self.mask.sum()) * (self.cell_um / 1000.0) ** 2


def tissue_mask(slide: Slide, mask_mpp: float = 8.0) -> TissueMask:
    """The tissue of a slide at `mask_mpp` um per cell. An empty slide gives an empty mask.

    Errors: SlideError MPP_MISSING, TILE_UNREADABLE.
    """
    mpp = slide.need_mpp()
    cell_um = max(mask_mpp, mpp)
    cell_px0 = cell_um / mpp
    mask, threshold = mask_of(slide.overview(cell_px0), cell_um)
    return TissueMask(mask, cell_um, cell_px0, threshold)


def mask_of(rgb: NDArray[np.uint8], cell_um: float) -> tuple[NDArray[np.bool_], float]:
    """Mask (rows, cols) bool and threshold of an overview (rows, cols, 3) uint8 with cells of `cell_um`."""
    picture = ndimage.gaussian_filter(rgb.astype(np.float32), sigma=(1.0, 1.0, 0.0), mode="nearest")
    lit = picture.max(axis=2) >= NEAR_BLACK
    if not lit.any():
        return np.zeros(rgb.shape[:2], bool), THRESHOLD_LIMITS[0]
    picture = np.minimum(picture * (255.0 / _glass(picture[lit])), 255.0)
    colour = picture.max(axis=2) - picture.min(axis=2)
    threshold = float(np.clip(otsu(colour[lit]), *THRESHOLD_LIMITS))
    mask = lit & (colour > threshold)
    cell_area = cell_um**2
    mask = _without_small(mask, SPECK_UM2 / cell_area)
    holes = ~mask & lit
    mask |= holes & ~_without_small(holes, HOLE_UM2 / cell_area)
    return mask, threshold


def otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in 0..255: the cut that separates two classes with the largest variance between them."""
    counts = np.histogram(values, bins=256, range=(0.0, 256.0))[0].astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(np.argmax(np.nan_to_num(between)) + 1)


def _glass(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour of the glass (3,): median of the brightest tenth, if that is bright enough to be glass; else white."""
    darkest = pixels.min(axis=1)
    bright = pixels[darkest >= np.quantile(darkest, 0.9)]
    glass = np.median(bright, axis=0)
    return glass if glass.min() >= 215 else np.full(3, 255.0, np.float32)


def _without_small(mask: NDArray[np.bool_], min_cells: float) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= min_cells
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept
