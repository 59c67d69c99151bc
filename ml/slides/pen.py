"""Marker ink on the glass: blue, green, black and red strokes, told from stains by how they absorb.

In optical density a stain keeps its direction however thick the tissue is. Haematoxylin absorbs green at least about as much as red,
eosin, blood and DAB absorb green or blue most; blue ink absorbs red most, green ink absorbs green least, black ink absorbs all alike.
Red ink has the direction of blood, so only its density tells it: no section of a few um absorbs that much. Pale red ink is therefore
left in rather than a haemorrhage cut out. Strokes are broad; what is narrower than `STROKE_UM` is not ink.
Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. Anal Quant Cytol Histol 2001 (directions).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

STROKE_UM = 60.0  # a marker's line is at least so wide; nuclei, vessels and pigment mostly are not
STROKE_AREA_UM2 = 20_000.0
FRINGE_UM = 16.0  # ink is out of focus: its pale border belongs to it
FRINGE_DENSITY = 0.1

Mask = NDArray[np.bool_]


def optical_density(picture: NDArray[np.float32], glass: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 3) float32 natural-logarithm absorbance against the glass (3,), >= 0; a pixel of 0 counts as 1 grey level."""
    density: NDArray[np.float32] = -np.log(np.clip(picture / glass, 1.0 / 255.0, 1.0), dtype=np.float32)
    return density


def pen_mask(density: NDArray[np.float32], cell_um: float, scanned: Mask) -> Mask:
    """Where ink is: (rows, cols) bool.

    density: (rows, cols, 3) of `optical_density`, smoothed by about a cell. cell_um: side of a cell. scanned: (rows, cols) bool; a frame
    of pure black is no ink.
    """
    found = np.zeros(density.shape[:2], bool)
    for sure, likely in _inks(density):
        seeds = _broad(sure & scanned, cell_um)
        if seeds.any():
            found |= ndimage.binary_propagation(seeds, mask=(likely & scanned) | seeds)
    labels, count = ndimage.label(found)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * cell_um**2
    sizes[0] = 0
    found = (sizes >= STROKE_AREA_UM2)[labels]
    rounds = round(FRINGE_UM / cell_um)
    if rounds and found.any():
        found = ndimage.binary_dilation(found, iterations=rounds, mask=found | (density.max(axis=2) > FRINGE_DENSITY))
    result: Mask = found
    return result


def _inks(density: NDArray[np.float32]) -> list[tuple[Mask, Mask]]:
    """(surely, likely) of blue, green, black and red ink. The limits keep the stains of the module's text out."""
    red, green, blue = (density[..., i] for i in range(3))
    low, high = density.min(axis=2), density.max(axis=2)
    bluish = (blue < 0.75 * red) & (green > blue)
    blue_ink = (
        bluish & ((red > 1.22 * green) & (red > 0.6) | (red > 0.8 * green) & (red > 1.9)),
        bluish & ((red > 1.1 * green) & (red > 0.45) | (red > 0.75 * green) & (red > 1.4)),
    )
    greenish = (green < blue) & (green < red)
    green_ink = (greenish & (green < 0.8 * red) & (red > 0.5), (green < 1.05 * blue) & (green < red) & (red > 0.35))
    black_ink = ((low > 1.0) & (low > 0.82 * high) | (low > 1.5) & (low > 0.7 * high), (low > 0.8) & (low > 0.7 * high))
    red_ink = (
        (red < 0.25 * green) & (blue > 0.7 * green) & (green > 1.7),
        (red < 0.4 * green) & (blue > 0.65 * green) & (green > 1.3) | (red < 0.5 * green) & (blue > 0.6 * green) & (green > 2.1),
    )
    return [blue_ink, green_ink, black_ink, red_ink]


def _broad(mask: Mask, cell_um: float) -> Mask:
    """What a disc of STROKE_UM fits into (opening)."""
    radius = int(STROKE_UM / 2 / cell_um)
    if radius < 1 or not mask.any():
        return mask
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    opened: Mask = ndimage.binary_opening(mask, structure=x**2 + y**2 <= radius**2 + 0.5)
    return opened
