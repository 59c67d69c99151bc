"""Reconstruction of what was masked, on patients or regions that training did not see, beside what costs nothing (spec 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.virtues.baselines import Partners, nearest_patch, partner, visible_mean
from ml.virtues.data import Source
from ml.virtues.errors import VirtuesError
from ml.virtues.masking import independent, marker, niche
from ml.virtues.model import VirTues
from ml.virtues.pretrain_config import Masking, VirtuesEvaluateConfig
from ml.virtues.reconstruct import reconstruct, reconstruct_markers
from ml.virtues.tiling import greedy_tiles

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
METHODS = ("network", "visible mean", "nearest patch", "partner")
# Columns of the sums from which every figure is made.
N, X, Y, XX, YY, XY, TP, FP, FN = range(9)


@dataclass(frozen=True)
class Crop:
    """One preprocessed crop. values: (C, h, w). names: channels. embeddings: (C, E). unit: patient or region that it belongs to."""

    values: F32
    names: tuple[str, ...]
    embeddings: F32
    unit: str


@dataclass(frozen=True)
class MaskingFigures:
    """One masking. markers: k names. sums: method -> (crops, k, 9). units: of each crop. Figures are made of these.

    r: Pearson's over masked pixels, all crops together (as published). within: the same with every crop's own mean taken out: what is told
    beyond how bright a crop is. f1: of intensity above the marker's mean over the data set. A prediction that does not vary has r = 0; a
    marker that does not vary in the crops has none (NaN).
    """

    masking: Masking
    markers: tuple[str, ...]
    sums: dict[str, F64]
    units: tuple[str, ...]
    bootstrap: int
    seed: int

    def r(self, method: str, weights: F64 | None = None) -> F64:
        """(k,), or (draws, k) for weights (draws, crops)."""
        return _pearson(self._total(self.sums[method], weights))

    def within(self, method: str, weights: F64 | None = None) -> F64:
        """As `r`."""
        s = self.sums[method]
        n = np.maximum(s[..., N], 1)
        centred = s.copy()
        centred[..., XX] -= s[..., X] ** 2 / n
        centred[..., YY] -= s[..., Y] ** 2 / n
        centred[..., XY] -= s[..., X] * s[..., Y] / n
        centred[..., X] = centred[..., Y] = 0
        return _pearson(self._total(centred, weights))

    def f1(self, method: str, weights: F64 | None = None) -> F64:
        """As `r`; NaN where no pixel is positive."""
        total = self._total(self.sums[method], weights)
        with np.errstate(invalid="ignore"):
            return 2 * total[..., TP] / (2 * total[..., TP] + total[..., FP] + total[..., FN])

    def draws(self) -> F64:
        """(bootstrap, crops) weights: units are drawn with replacement, a unit brings all its crops."""
        names = sorted(set(self.units))
        mine = np.array([names.index(u) for u in self.units])
        counts = np.random.default_rng(self.seed).multinomial(len(names), np.full(len(names), 1 / len(names)), self.bootstrap)
        return counts[:, mine].astype(np.float64)

    def summary(self) -> dict[str, Any]:
        """Plain values: per figure and method the mean over markers with its draws, and the figures of every marker."""
        weights, found = self.draws(), {}
        for name, figure in (("r", self.r), ("within", self.within), ("f1", self.f1)):
            found[name] = {
                method: {
                    "mean": float(np.nanmean(figure(method))),
                    "draws": _row_means(figure(method, weights)).round(5).tolist(),
                    "markers": [None if np.isnan(v) else round(float(v), 4) for v in figure(method)],
                }
                for method in METHODS
            }
        return {"masking": self.masking, "markers": list(self.markers), "crops": len(self.units), "units": len(set(self.units)), **found}

    def _total(self, sums: F64, weights: F64 | None) -> F64:
        total: F64 = sums.sum(axis=0) if weights is None else np.tensordot(weights, sums, axes=1)
        return total


def crops_of(sources: Sequence[Source], size: int, min_tissue: float = 0.3) -> list[Crop]:
    """Crops of images that hardly overlap: tiles that cover the tissue on a grid of whole tiles, and flush with the far edges."""
    return [
        Crop(source.crop(row, col, size), source.names, source.embeddings, source.unit)
        for source in sources
        for row, col in greedy_tiles(source.tissue, size, size, min_tissue, allowed=source.allowed).tolist()
    ]


def evaluate(
    model: VirTues,
    held_out: Sequence[Crop],
    fitted: Sequence[Crop],
    config: VirtuesEvaluateConfig | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> dict[Masking, MaskingFigures]:
    """Every masking of the config on crops of one data set that training did not see; channels are never dropped.

    fitted: crops of the training split, from which the correlated markers are learnt. independent: as in training. marker: each marker in
    turn is masked whole; then the channel has no visible pixel, and its mean over the data set (0) stands for the visible mean. niche: the
    same places in all markers; there the correlated marker is masked, too, and what is left of that baseline is the visible mean.
    VirtuesError: no_crops.
    """
    config = config or VirtuesEvaluateConfig()
    if not held_out or not fitted:
        raise VirtuesError("no_crops", "There is no crop to measure on or to learn from.", "Ask for less tissue, or give more images.")
    known = Partners.of([(crop.names, crop.values) for crop in fitted])
    markers = tuple(dict.fromkeys(name for crop in held_out for name in crop.names))
    place = {name: i for i, name in enumerate(markers)}
    found: dict[Masking, MaskingFigures] = {}
    for number, masking in enumerate(config.maskings):
        sums = {method: np.zeros((len(held_out), len(markers), 9)) for method in METHODS}
        for i, crop in enumerate(held_out):
            mask, painted = _painted(model, crop, masking, config, np.random.default_rng([config.seed, number, i]))
            rows = [place[name] for name in crop.names]
            predictions = {"network": painted, **_simple(crop, mask, masking, known)}
            pixels = mask.repeat(model.config.patch_size, axis=1).repeat(model.config.patch_size, axis=2)
            for method, predicted in predictions.items():
                np.add.at(sums[method][i], rows, _sums(predicted, crop.values, pixels))
            if progress is not None:
                progress((number + (i + 1) / len(held_out)) / len(config.maskings), f"{masking} masking, crop {i + 1} of {len(held_out)}")
        found[masking] = MaskingFigures(masking, markers, sums, tuple(c.unit for c in held_out), config.bootstrap, config.seed)
    return found


def _painted(model: VirTues, crop: Crop, masking: Masking, config: VirtuesEvaluateConfig, rng: np.random.Generator) -> tuple[Any, F32]:
    """(mask (C, H, W) of what is measured, reconstruction (C, h, w))."""
    channels, height, width = crop.values.shape
    grid, share = (height // model.config.patch_size, width // model.config.patch_size), (config.mask_low, config.mask_high)
    if masking == "marker":
        return np.ones((channels, *grid), bool), reconstruct_markers(model, crop.values, crop.embeddings, batch=config.batch)
    mask = (independent if masking == "independent" else niche)(rng, channels, grid, share)
    return mask, reconstruct(model, [crop.values], [crop.embeddings], [mask])[0]


def _simple(crop: Crop, mask: Any, masking: Masking, known: Partners) -> dict[str, F32]:
    if masking != "marker":
        return {
            "visible mean": visible_mean(crop.values, mask),
            "nearest patch": nearest_patch(crop.values, mask),
            "partner": partner(crop.values, mask, crop.names, known),
        }
    grid = mask.shape[1:]
    by_partner = [partner(crop.values, marker(len(mask), grid, c), crop.names, known)[c] for c in range(len(mask))]
    nothing = np.zeros_like(crop.values)
    return {"visible mean": nothing, "nearest patch": nothing, "partner": np.stack(by_partner)}


def _sums(predicted: F32, truth: F32, where: NDArray[np.bool_]) -> F64:
    """(C, 9) over the pixels of `where`."""
    x, y, w = (np.asarray(a, np.float64).reshape(len(truth), -1) for a in (predicted, truth, where))
    said, is_ = (x > 0) * w, (y > 0) * w
    columns = [w, x * w, y * w, x * x * w, y * y * w, x * y * w, said * is_, said * (1 - is_), (w - said) * is_]
    return np.stack([c.sum(axis=1) for c in columns], axis=1)


def _pearson(s: F64) -> F64:
    n = np.maximum(s[..., N], 1)
    own, other = s[..., XX] / n - (s[..., X] / n) ** 2, s[..., YY] / n - (s[..., Y] / n) ** 2
    both = s[..., XY] / n - s[..., X] * s[..., Y] / n**2
    flat = own <= 1e-12
    r = np.where(flat, 0.0, both / np.sqrt(np.where(flat, 1, own) * np.where(other > 1e-12, other, np.nan)))
    return np.where(other > 1e-12, r, np.nan)


def _row_means(values: F64) -> F64:
    """Mean over markers of each draw; a marker that does not vary in a draw is left out of it."""
    there = ~np.isnan(values)
    total: F64 = np.where(there, values, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return total
