"""From raw counts to what VirTues sees (spec 7): clip at the image's own 99th percentile, log1p, standardise by the dataset, blur.

The order is that of the public loader; blurring before standardising gives the same picture, because the kernel sums to one. The blur
looks at whatever array it is given: a crop that is preprocessed alone differs from the same crop of the whole on its rim of one px.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.slides.masks import otsu
from ml.virtues.errors import VirtuesError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
QUANTILE = 0.99
EPS = 1e-8
# A Gaussian of sigma 1 px at -1, 0 and 1, scaled to sum 1.
_TAIL = float(np.exp(-0.5))
KERNEL = np.array([_TAIL, 1.0, _TAIL]) / (1 + 2 * _TAIL)


def upper_quantiles(raw: NDArray[Any], tissue: NDArray[np.bool_] | None = None, q: float = QUANTILE) -> F32:
    """(C,) float32, the q-quantile of each channel inside the tissue (numpy's linear one). raw: (C, h, w); tissue: (h, w) or None = all.

    VirtuesError: shape, no_tissue.
    """
    return np.quantile(_inside(raw, tissue), q, axis=1).astype(np.float32)


def clipped_log(raw: NDArray[Any], upper: NDArray[Any]) -> F32:
    """log1p of raw clamped to [0, upper]. raw: (C, h, w) or (C, n); upper: (C,)."""
    limits = np.asarray(upper, np.float32).reshape(-1, *[1] * (raw.ndim - 1))
    return np.log1p(np.clip(raw.astype(np.float32, copy=False), 0, limits))


def blur(x: NDArray[Any]) -> F32:
    """(C, h, w) after a 3 x 3 Gaussian of sigma 1 px, mirrored at the edge without repeating it."""
    rows = ndimage.correlate1d(x.astype(np.float32, copy=False), KERNEL, axis=-2, mode="mirror")
    return ndimage.correlate1d(rows, KERNEL, axis=-1, mode="mirror")


def preprocess(raw: NDArray[Any], upper: NDArray[Any], mean: NDArray[Any], std: NDArray[Any], *, smooth: bool = True) -> F32:
    """(C, h, w) float32, standardised counts. raw: (C, h, w); upper, mean, std: (C,), the last two of log1p(clip(raw)) over the dataset.

    smooth: False leaves the blur out. VirtuesError: shape.
    """
    if raw.ndim != 3 or not len(raw) == len(upper) == len(mean) == len(std):
        said = f"An image of shape {raw.shape} does not go with {len(upper)} quantiles, {len(mean)} means and {len(std)} deviations."
        raise VirtuesError("shape", said, "Give one of each per channel.")
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))
    x = (clipped_log(raw, upper) - centre) / (scale + np.float32(EPS))
    return blur(x) if smooth else x


def intensities(x: NDArray[Any], upper: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]) -> F32:
    """Standardised values back to a share of the image's 99th percentile, clipped to 0..1 (for looking at; spec 7). x: (C, h, w)."""
    centre, scale, limit = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std, upper))
    return np.clip(np.expm1(x * scale + centre) / np.maximum(limit, EPS), 0, 1).astype(np.float32)


def empty_channels(raw: NDArray[Any], upper: NDArray[Any]) -> NDArray[np.bool_]:
    """(C,) True where a channel carries nothing to see: its 99th percentile is 0, or it has one value only."""
    flat = raw.reshape(len(raw), -1)
    return (np.asarray(upper) <= 0) | (flat.min(axis=1) == flat.max(axis=1))


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of log1p(clipped counts) per marker over a dataset. markers: names (UniProt accessions or channel names)."""

    markers: tuple[str, ...]
    mean: F64
    std: F64

    @classmethod
    def of(cls, images: Iterable[tuple[Sequence[str], NDArray[Any], NDArray[np.bool_] | None]]) -> Standard:
        """Over images given as (markers, raw (C, h, w), tissue or None), pixels inside the tissue, population deviation.

        A marker that stands twice in an image counts twice. VirtuesError: no_images, shape, no_tissue.
        """
        n: dict[str, int] = {}
        total: dict[str, float] = {}
        squares: dict[str, float] = {}
        for markers, raw, tissue in images:
            inside = _inside(raw, tissue)
            values = clipped_log(inside, np.quantile(inside, QUANTILE, axis=1)).astype(np.float64)
            for marker, row in zip(markers, values, strict=True):
                n[marker] = n.get(marker, 0) + len(row)
                total[marker] = total.get(marker, 0.0) + row.sum()
                squares[marker] = squares.get(marker, 0.0) + (row**2).sum()
        if not n:
            raise VirtuesError("no_images", "There is no image to take means and deviations from.", "Give at least one image.")
        mean = {marker: total[marker] / n[marker] for marker in n}
        std = [max(squares[marker] / n[marker] - mean[marker] ** 2, 0.0) ** 0.5 for marker in n]
        return cls(tuple(n), np.array(list(mean.values())), np.array(std))

    def rows(self, markers: Sequence[str]) -> tuple[F64, F64]:
        """(mean, std), each (len(markers),). VirtuesError: not_standardised, naming the markers that the dataset lacks."""
        place = {marker: i for i, marker in enumerate(self.markers)}
        lacking = [marker for marker in markers if marker not in place]
        if lacking:
            said = f"No mean and deviation is known for {', '.join(lacking[:5])}{' and others' if len(lacking) > 5 else ''}."
            raise VirtuesError("not_standardised", said, "Take them from the images' own cohort, or leave these markers out.")
        chosen = [place[marker] for marker in markers]
        return self.mean[chosen], self.std[chosen]

    def to_json(self) -> dict[str, list[float]]:
        """{marker: [mean, deviation]}, for a file."""
        return {marker: [float(m), float(s)] for marker, m, s in zip(self.markers, self.mean, self.std)}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[float]]) -> Standard:
        """The inverse of `to_json`."""
        values = np.array(list(content.values()), np.float64).reshape(-1, 2)
        return cls(tuple(content), values[:, 0], values[:, 1])


def tissue_mask(raw: NDArray[Any], *, sigma_px: float = 4.0) -> NDArray[np.bool_]:
    """(h, w) bool: Otsu's threshold on the smoothed mean of all channels, holes filled (VirTues, Methods; of which image is not said).

    Each channel counts log1p(counts) over its own 99th percentile. An image without any contrast is all tissue.
    """
    upper = np.quantile(raw.reshape(len(raw), -1), QUANTILE, axis=1)
    shown = upper > 0
    if not shown.any():
        return np.ones(raw.shape[1:], bool)
    level = np.mean(clipped_log(raw[shown], upper[shown]) / np.log1p(upper[shown])[:, None, None], axis=0)
    level = ndimage.gaussian_filter(level, sigma_px)
    if level.min() == level.max():
        return np.ones(raw.shape[1:], bool)
    scale = 255 / level.max()
    return ndimage.binary_fill_holes(level * scale > otsu((level * scale).astype(np.float32)))


def _inside(raw: NDArray[Any], tissue: NDArray[np.bool_] | None) -> NDArray[Any]:
    """(C, n) raw values of the px inside the tissue."""
    if raw.ndim != 3 or (tissue is not None and tissue.shape != raw.shape[1:]):
        said = f"An image of shape {raw.shape} does not go with a tissue mask of shape {None if tissue is None else tissue.shape}."
        raise VirtuesError("shape", said, "Give (channels, rows, columns) and a mask of the same rows and columns.")
    inside = raw.reshape(len(raw), -1) if tissue is None else raw[:, tissue]
    if not inside.shape[1]:
        raise VirtuesError("no_tissue", "The tissue mask is empty.", "Check the mask, or leave it out.")
    return inside
