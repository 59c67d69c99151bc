"""Where the tissue is: a mask at a few um per cell, without marker ink, black frames, dust and small gaps.

How tissue is told from glass is a method (ml.slides.masks); everything else is the same for all of them: the slide's own glass colour
is divided out, ink is whitened before the method looks (ml.slides.pen), specks go, and gaps up to a limit are filled and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.slides.masks import NEAR_BLACK, OTSU, MaskMethod, mask_method
from ml.slides.pen import optical_density, pen_mask
from ml.slides.reader import Slide

SPECK_UM2 = 10_000.0  # smaller pieces are dust
HOLE_UM2 = 10_000.0  # smaller gaps are lumina and fat, and belong to the tissue
FRAME_BLACK = 8  # brightest channel of what was never scanned
GLASS_AT_LEAST = 215  # grey level below which the brightest tenth is no glass: a slide full of tissue
WINDOW_PX = 512  # what a network sees at once
CONTEXT_PX = 32  # and how much of that is only context on each side
FLAT = 12  # grey levels between the darkest and the brightest cell of a window below which a network is not asked


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide.

    mask: (rows, cols) bool; cell (r, c) covers px0 x in [c * cell_px0, (c + 1) * cell_px0), the same for y.
    cell_um, cell_px0: side of a cell. threshold: what decided (otsu: colourfulness in grey levels; learned: probability).
    method, method_sha256: how tissue was found, and the checksum of what was learned. pen_share: share of the picture (0..1) that is
    marker ink and therefore left out. frame_share: share that no light came through. holes, holes_mm2: gaps that were filled.
    """

    mask: NDArray[np.bool_]
    cell_um: float
    cell_px0: float
    threshold: float
    method: str = "otsu"
    method_sha256: str = ""
    pen_share: float = 0.0
    frame_share: float = 0.0
    holes: int = 0
    holes_mm2: float = 0.0

    @property
    def area_mm2(self) -> float:
        """Tissue area in square millimetres."""
        return float(self.mask.sum()) * (self.cell_um / 1000.0) ** 2


def tissue_mask(slide: Slide, mask_mpp: float = 8.0, method: str | MaskMethod = "otsu") -> TissueMask:
    """The tissue of a slide at `mask_mpp` um per cell. An empty slide gives an empty mask.

    method: "otsu", or a method of ml.slides.masks (a network reads the slide at its own um per px, a cell is tissue if half of it is).
    Errors: SlideError MPP_MISSING, TILE_UNREADABLE; LEVEL_TOO_LOW where a network needs more detail than the slide has.
    """
    chosen = mask_method(method) if isinstance(method, str) else method
    mpp = slide.need_mpp()
    cell_um = max(mask_mpp, mpp, chosen.input_um or 0.0)
    cell_px0 = cell_um / mpp
    overview = slide.overview(cell_px0)
    if chosen.input_um is None:
        return mask_of(overview, cell_um, cell_px0, chosen)
    return _finished(_by_windows(slide, chosen, overview, cell_um, cell_px0), _Look(overview, cell_um), cell_px0, chosen)


def mask_of(rgb: NDArray[np.uint8], cell_um: float, cell_px0: float = 1.0, method: MaskMethod = OTSU) -> TissueMask:
    """The mask of an overview (rows, cols, 3) uint8 whose cells have `cell_um`, by a method that looks at the cells themselves."""
    look = _Look(rgb, cell_um)
    return _finished(method.mask(look.picture, cell_um), look, cell_px0, method)


class _Look:
    """An overview as a method sees it: smoothed, glass white, ink white; and where light came through and where the ink was."""

    def __init__(self, rgb: NDArray[np.uint8], cell_um: float) -> None:
        smooth = ndimage.gaussian_filter(rgb.astype(np.float32), sigma=(1.0, 1.0, 0.0), mode="nearest")
        self.cell_um = cell_um
        self.lit: NDArray[np.bool_] = smooth.max(axis=2) >= NEAR_BLACK
        if not self.lit.any():
            self.pen = np.zeros_like(self.lit)
            self.picture: NDArray[np.float32] = smooth
            return
        glass = glass_colour(smooth[self.lit])
        # Opaque black ink is as dark as a frame, but a frame is digital zero; where most is dark there is no brightfield to draw on.
        scanned = smooth.max(axis=2) >= FRAME_BLACK if self.lit.mean() > 0.5 else self.lit
        self.pen = pen_mask(optical_density(smooth, glass), cell_um, scanned)
        self.picture = np.minimum(smooth * (255.0 / glass), 255.0)
        self.picture[self.pen] = 255.0


def _finished(found: tuple[NDArray[np.bool_], float], look: _Look, cell_px0: float, method: MaskMethod) -> TissueMask:
    """What a method found, without frame, ink and specks, gaps filled."""
    raw, threshold = found
    cell_area = look.cell_um**2
    mask = _without_small(raw & look.lit & ~look.pen, SPECK_UM2 / cell_area)
    gaps = ~mask & look.lit & ~look.pen
    gaps &= ~_without_small(gaps, HOLE_UM2 / cell_area)
    return TissueMask(
        mask=mask | gaps,
        cell_um=look.cell_um,
        cell_px0=cell_px0,
        threshold=threshold,
        method=method.name,
        method_sha256=method.sha256,
        pen_share=float(look.pen.mean()),
        frame_share=float((~look.lit & ~look.pen).mean()),
        holes=int(ndimage.label(gaps)[1]),
        holes_mm2=float(gaps.sum()) * cell_area / 1e6,
    )


def _by_windows(
    slide: Slide, method: MaskMethod, overview: NDArray[np.uint8], cell_um: float, cell_px0: float
) -> tuple[NDArray[np.bool_], float]:
    """Asks a network window by window with some context around each; a cell is tissue if half of its pixels are."""
    per_cell = max(1, round(cell_um / (method.input_um or cell_um)))
    um = cell_um / per_cell
    slide.check_mpp(um)
    inner, margin = max(1, (WINDOW_PX - 2 * CONTEXT_PX) // per_cell), -(-CONTEXT_PX // per_cell)
    rows, cols = overview.shape[:2]
    out, threshold = np.zeros((rows, cols), bool), 0.0
    for top in range(0, rows, inner):
        for left in range(0, cols, inner):
            cells = overview[top : top + inner, left : left + inner]
            if int(np.ptp(cells.reshape(-1, 3), axis=0).max()) < FLAT and int(cells.min()) >= GLASS_AT_LEAST:
                continue
            px = (inner + 2 * margin) * per_cell
            x0, y0 = (left - margin) * cell_px0, (top - margin) * cell_px0
            found, threshold = method.mask(slide.read_scaled(x0, y0, px, px, cell_px0 / per_cell), um)
            share = found.reshape(inner + 2 * margin, per_cell, inner + 2 * margin, per_cell).mean(axis=(1, 3))
            window = share[margin : margin + inner, margin : margin + inner] >= 0.5
            out[top : top + inner, left : left + inner] = window[: rows - top, : cols - left]
    return out, threshold


def glass_colour(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour of the glass (3,): median of the brightest tenth of pixels (n, 3), if that is bright enough to be glass; else white."""
    darkest = pixels.min(axis=1)
    bright = pixels[darkest >= np.quantile(darkest, 0.9)]
    glass: NDArray[np.float32] = np.median(bright, axis=0)
    return glass if glass.min() >= GLASS_AT_LEAST else np.full(3, 255.0, np.float32)


def _without_small(mask: NDArray[np.bool_], min_cells: float) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= min_cells
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept
