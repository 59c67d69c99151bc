"""Ten fixed descriptors of an H&E tile: no learned weights, so they are comparable across models and folds.

Colour is unmixed into hematoxylin and eosin by Beer-Lambert (optical density = -log10(I / 255)) with the stain vectors
of Ruifrok & Johnston 2001; both are divided by the slide's own scale, so that the strength of the stain, which is the
laboratory's and not the tissue's, enters little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

MORPHOLOGY: tuple[str, ...] = (
    "hematoxylin_mean",  # share of the slide's scale
    "hematoxylin_sd",
    "eosin_mean",
    "eosin_sd",
    "nuclear_share",  # share of the tile's area, 0..1
    "nuclear_density",  # nuclei per 1,000 um2
    "texture_fine",  # sd of stain between 1.5 and 5 um, share of the slide's scale
    "texture_coarse",  # sd of stain between 5 and 16 um
    "orientation_coherence",  # 0 no preferred direction .. 1 all edges parallel
    "lumen_share",  # unstained share of the tile's area, 0..1
)

HEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
STAIN_PERCENTILE = 99.0
LEAST_SCALE = 0.2  # optical density; stained tissue has more, and tinted glass must not be amplified into tissue
STAINED_OD = 0.15  # a pixel with a larger sum over the three channels counts as stained when the scale is measured
NUCLEUS = 0.45  # smoothed hematoxylin above this share of the slide's scale is nucleus
UNSTAINED = 0.18  # hematoxylin + eosin below this share is lumen or glass
NUCLEUS_UM = 1.5  # smoothing before nuclei are looked for
PEAK_UM = 3.0  # smoothing before nuclei are counted: chromatin must not count
SPACING_UM = 4.0  # no two nuclei are counted nearer than this
BLOCK = 32  # tiles at a time: the planes of a block stay in the processor's cache
SCALE_PIXELS = 2_000_000


class MorphologyError(ValueError):
    """The images cannot be described: code, sentence, hint."""

    def __init__(self, code: str, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.hint = code, sentence, hint


@dataclass(frozen=True)
class StainScale:
    """Strength of the two stains on one slide: 99th percentile over its stained pixels, in optical density."""

    hematoxylin: float
    eosin: float


def _unmixing() -> Float:
    """(3, 2): optical density of R, G, B -> amounts of hematoxylin and eosin; the third stain is orthogonal to both (residual)."""
    h, e = (np.array(v) / np.linalg.norm(v) for v in (HEMATOXYLIN, EOSIN))
    rest = np.cross(h, e)
    return np.linalg.inv(np.stack([h, e, rest / np.linalg.norm(rest)]))[:, :2].astype(np.float32)


_UNMIX = _unmixing()
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
# what each grey level of R, G and B adds to each stain: unmixing becomes three look-ups and two sums
_AMOUNT = _DENSITY[None, :, None] * _UNMIX[:, None, :]


def _checked(images: NDArray[np.uint8], mpp: float) -> NDArray[np.uint8]:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or images.dtype != np.uint8:
        sentence = f"The tiles have shape {images.shape} and type {images.dtype}."
        raise MorphologyError("shape", sentence, "Give (n, S, S, 3) uint8 RGB.")
    if not 0 < mpp <= 2:
        raise MorphologyError("mpp", f"Nuclei cannot be counted at {mpp:g} um per pixel.", "Read the tiles at 2 um per pixel or finer.")
    return images


def unmix(images: NDArray[np.uint8]) -> tuple[Float, Float]:
    """Hematoxylin and eosin of (..., 3) uint8 RGB, each (...) float32 in optical density, negative amounts set to 0."""
    amounts = []
    for stain in (0, 1):
        amount = _AMOUNT[0, :, stain][images[..., 0]]
        amount += _AMOUNT[1, :, stain][images[..., 1]]
        amount += _AMOUNT[2, :, stain][images[..., 2]]
        amounts.append(np.maximum(amount, 0, out=amount))
    return amounts[0], amounts[1]


def stain_scale(images: NDArray[np.uint8]) -> StainScale:
    """The slide's stain strength from (a sample of) its tiles (n, S, S, 3) uint8.

    From at most about 2 million evenly spaced pixels. A slide with less than 0.2 OD of a stain, or without a stained
    pixel, gets 0.2: its tiles then read as unstained. Raises MorphologyError (shape).
    """
    pixels = _checked(images, 1.0).reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // SCALE_PIXELS)]
    pixels = pixels[_DENSITY[pixels].sum(axis=1) > STAINED_OD]
    if not len(pixels):
        return StainScale(LEAST_SCALE, LEAST_SCALE)
    return StainScale(*(max(float(np.percentile(amount, STAIN_PERCENTILE)), LEAST_SCALE) for amount in unmix(pixels)))


def _box(planes: Float, um: float, mpp: float) -> Float:
    """Mean over a square of about um (odd number of pixels), mirrored at the tile's border."""
    from scipy.ndimage import uniform_filter1d

    size = 2 * round((um / mpp - 1) / 2) + 1
    smooth = planes
    for axis in (1, 2):
        smooth = uniform_filter1d(smooth, max(size, 1), axis=axis, mode="reflect")
    return smooth


def _nuclei(hematoxylin: Float, mpp: float) -> tuple[Float, Float]:
    """Share of nuclear area (n,) and nuclei per 1,000 um2 (n,).

    Area: smoothed hematoxylin above the threshold. Nuclei: local maxima of it, smoothed more, inside that area.
    """
    from scipy.ndimage import label, maximum_filter1d

    smooth = _box(hematoxylin, NUCLEUS_UM, mpp)
    nuclear = smooth > NUCLEUS
    # whole percents: a flat nucleus has one maximum, not one per rounding error
    level = np.minimum(_box(hematoxylin, PEAK_UM, mpp) * 100, 255).astype(np.uint8)
    highest = level
    for axis in (1, 2):
        highest = maximum_filter1d(highest, 2 * round(SPACING_UM / mpp) + 1, axis=axis, mode="nearest")
    peaks = (level == highest) & nuclear
    within_tile = np.zeros((3, 3, 3), dtype=bool)
    within_tile[1] = True
    labels, _ = label(peaks, structure=within_tile)
    where = np.flatnonzero(labels)
    _, first = np.unique(labels.ravel()[where], return_index=True)
    pixels = smooth.shape[1] * smooth.shape[2]
    count = np.bincount(where[first] // pixels, minlength=len(smooth))
    return nuclear.mean(axis=(1, 2), dtype=np.float32), (count * (1000 / (pixels * mpp**2))).astype(np.float32)


def _texture(stain: Float, mpp: float) -> tuple[Float, Float, Float]:
    """Texture at two scales and orientation coherence, each (n,).

    Coherence is that of the structure tensor J averaged over the tile: sqrt((Jxx - Jyy)^2 + 4 Jxy^2) / (Jxx + Jyy).
    """
    fine, middle = _box(stain, 1.5, mpp), _box(stain, 5, mpp)
    coarse = _box(middle, 16, mpp)
    dx = fine[:, 1:-1, 2:] - fine[:, 1:-1, :-2]
    dy = fine[:, 2:, 1:-1] - fine[:, :-2, 1:-1]
    jxx, jyy, jxy = (np.einsum("nij,nij->n", u, v) / max(u[0].size, 1) for u, v in ((dx, dx), (dy, dy), (dx, dy)))
    coherence = np.sqrt((jxx - jyy) ** 2 + 4 * jxy**2) / (jxx + jyy + 1e-6)
    return (fine - middle).std(axis=(1, 2)), (middle - coarse).std(axis=(1, 2)), coherence


def tile_morphology(images: NDArray[np.uint8], scale: StainScale | None = None, mpp: float = 0.5) -> Float:
    """(n, 10) float32 descriptors of tiles (n, S, S, 3) uint8 RGB, in the order of MORPHOLOGY.

    scale: the slide's stain strength; None measures it on these images, which must then be all tiles (or a fair sample)
    of one slide. mpp: um per pixel of the images (0.5: 56 um are 112 px).
    Raises MorphologyError: shape, mpp.
    """
    images = _checked(images, mpp)
    scale = scale or stain_scale(images)
    out = np.empty((len(images), len(MORPHOLOGY)), dtype=np.float32)
    for first in range(0, len(images), BLOCK):
        block = slice(first, first + BLOCK)
        h, e = unmix(images[block])
        h /= scale.hematoxylin
        e /= scale.eosin
        stain = h + e
        share, density = _nuclei(h, mpp)
        fine, coarse, coherence = _texture(stain, mpp)
        plane = (1, 2)
        columns = (h.mean(plane), h.std(plane), e.mean(plane), e.std(plane), share, density, fine, coarse, coherence)
        for column, values in enumerate((*columns, (stain < UNSTAINED).mean(plane))):
            out[block, column] = values
    return out
