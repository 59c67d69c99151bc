"""What reconstruction has to beat, at no cost: the channel's visible mean, its nearest visible patch, the most correlated other marker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.virtues.masking import Mask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Partners:
    """How markers go together on the training split. names: k. r: (k, k) correlation of pixels, 0 on the diagonal and where two were never
    measured together. slope, level: (k, k); row a, column b: a is about level + slope b."""

    names: tuple[str, ...]
    r: F64
    slope: F64
    level: F64

    @classmethod
    def of(cls, crops: Sequence[tuple[Sequence[str], F32]]) -> Partners:
        """From crops (names, (C, h, w) preprocessed) of the training split."""
        names = tuple(dict.fromkeys(name for some, _ in crops for name in some))
        place = {name: i for i, name in enumerate(names)}
        k = len(names)
        n, x, xx, xy = (np.zeros((k, k)) for _ in range(4))
        for some, values in crops:
            flat = values.reshape(len(values), -1).astype(np.float64)
            at = np.ix_(index := [place[name] for name in some], index)
            n[at] += flat.shape[1]
            x[at] += flat.sum(axis=1)[:, None]
            xx[at] += (flat**2).sum(axis=1)[:, None]
            xy[at] += flat @ flat.T
        # x[a, b], xx[a, b]: sums of a over the pixels where b was measured, too
        n = np.maximum(n, 1)
        covariance = xy / n - x * x.T / n**2
        own = np.maximum(xx / n - (x / n) ** 2, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.nan_to_num(covariance / np.sqrt(own * own.T), posinf=0, neginf=0)
            slope = np.nan_to_num(covariance / own.T, posinf=0, neginf=0)
        np.fill_diagonal(r, 0)
        return cls(names, r, slope, x / n - slope * x.T / n)


def visible_mean(crop: F32, mask: Mask) -> F32:
    """(C, h, w): per channel the mean of its visible pixels; 0, the mean of the data set, where none is visible."""
    seen = _pixels(~mask, crop)
    count = seen.sum(axis=(1, 2))
    mean = np.where(count > 0, (crop * seen).sum(axis=(1, 2)) / np.maximum(count, 1), 0)
    return np.broadcast_to(mean[:, None, None].astype(np.float32), crop.shape)


def nearest_patch(crop: F32, mask: Mask) -> F32:
    """(C, h, w): at every masked patch the mean of the channel's nearest visible one; 0 where none is visible."""
    size = crop.shape[1] // mask.shape[1]
    means = crop.reshape(len(crop), mask.shape[1], size, mask.shape[2], size).mean(axis=(2, 4))
    found = np.zeros(mask.shape, np.float32)
    for channel, hidden in enumerate(mask):
        if not hidden.all():
            rows, cols = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
            found[channel] = means[channel][rows, cols]
    return found.repeat(size, axis=1).repeat(size, axis=2)


def partner(crop: F32, mask: Mask, names: Sequence[str], known: Partners) -> F32:
    """(C, h, w): at every patch the most correlated marker that is visible there, by regression; where none is, the visible mean.

    So it never reads a pixel that the network may not see. With one marker masked its partner is visible everywhere; where all markers are
    masked it is the visible mean.
    """
    place = {name: i for i, name in enumerate(known.names)}
    rows = [place.get(name, -1) for name in names]
    found = visible_mean(crop, mask).copy()
    for channel, row in enumerate(rows):
        if row < 0:
            continue
        others = [c for c, other in enumerate(rows) if other >= 0 and known.r[row, other] != 0]
        others.sort(key=lambda c: -abs(known.r[row, rows[c]]))
        left = _pixels(mask[channel : channel + 1], crop)[0]
        for c in others:
            here = left & _pixels(~mask[c : c + 1], crop)[0]
            found[channel][here] = known.level[row, rows[c]] + known.slope[row, rows[c]] * crop[c][here]
            left &= ~here
            if not left.any():
                break
    return found


def _pixels(patches: Mask, crop: F32) -> Mask:
    """(C, H, W) of patches -> (C, h, w) of pixels."""
    size = crop.shape[1] // patches.shape[1]
    return patches.repeat(size, axis=1).repeat(size, axis=2)
