"""Tiles and labels: checks, the unit of the labels, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ml.hex.config import HexFitConfig
from ml.hex.errors import HexDataError


@dataclass(frozen=True)
class LabelScale:
    """The unit of labels and predictions: label / factor, clipped to 0..1 for p99_global.

    factor: (P,) float32. It is a unit of the assay, the same for every patient, so a correlation or R2 does not depend on it.
    """

    kind: Literal["p99_global", "divide_by_256", "none"]
    factor: NDArray[np.float32]

    def apply(self, labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, P) measured -> (n, P) float32 in the unit of the predictions."""
        scaled = np.asarray(labels, np.float32) / self.factor
        return np.clip(scaled, 0, 1) if self.kind == "p99_global" else scaled


def label_scale(labels: NDArray[np.float32], kind: Literal["p99_global", "divide_by_256", "none"]) -> LabelScale:
    """The scale of a dataset. A marker that is zero almost everywhere keeps its maximum (or 1) as its unit, not a zero."""
    markers = labels.shape[1]
    if kind != "p99_global":
        return LabelScale(kind, np.full(markers, 256.0 if kind == "divide_by_256" else 1.0, np.float32))
    factor = np.quantile(labels, 0.99, axis=0).astype(np.float32)
    factor = np.where(factor > 0, factor, labels.max(axis=0))
    return LabelScale(kind, np.where(factor > 0, factor, 1).astype(np.float32))


@dataclass(frozen=True)
class HexDataset:
    """Tiles of many slides.

    images: (n, S, S, 3) uint8 RGB of the encoder's size at most (smaller ones are enlarged batch by batch), each tile_um wide; or (n, d)
    float32 vectors of a frozen encoder. labels: (n, P) float32 in the unit of `scale`. patients, slides: (n,) str, one id per tile.
    markers: P names.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.float32]
    patients: NDArray[np.str_]
    slides: NDArray[np.str_]
    markers: tuple[str, ...]
    scale: LabelScale

    def __len__(self) -> int:
        return len(self.images)


def dataset(
    images: NDArray[np.uint8] | NDArray[np.float32],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexFitConfig,
) -> HexDataset:
    """Checks and brings tiles and labels into the shape that training takes: resized to the encoder's input, labels scaled.

    images: (n, S, S, 3) uint8 tiles, or (n, d) float32 vectors that an encoder made of them. labels: (n, P) with the columns of `markers`;
    the config's markers are picked from them by name. Raises HexDataError.
    """
    if images.ndim == 2:
        check_vectors(images)
    else:
        check_images(images)
        images = shrunk(images, config.input_px)
    labels = np.asarray(labels, np.float32)
    n = len(images)
    if labels.shape != (n, len(markers)):
        raise HexDataError(
            "labels_shape", f"Labels are {labels.shape} where {(n, len(markers))} was expected.", "One row per tile.", "labels"
        )
    if len(patients) != n or len(slides) != n:
        raise HexDataError(
            "ids_shape", f"There are {len(patients)} patient and {len(slides)} slide ids for {n} tiles.", "One per tile.", "patients"
        )
    if not np.isfinite(labels).all():
        row, column = np.argwhere(~np.isfinite(labels))[0]
        raise HexDataError(
            "labels_not_finite", f"The label of {markers[column]} is missing in row {row}.", "Drop such tiles.", f"labels[{row}]"
        )
    absent = [m for m in config.markers if m not in markers]
    if absent:
        raise HexDataError(
            "marker_absent", f"There is no label column for {', '.join(absent)}.", "Choose markers that were measured.", "markers"
        )
    labels = labels[:, [list(markers).index(m) for m in config.markers]]
    scale = label_scale(labels, config.label_scaling)
    scaled = scale.apply(labels)
    check_range(labels, scaled, config)
    return HexDataset(images, scaled, np.asarray(patients, str), np.asarray(slides, str), config.markers, scale)


def check_range(labels: NDArray[np.float32], scaled: NDArray[np.float32], config: HexFitConfig) -> None:
    """HexDataError labels_range: an intensity is negative, or the labels are not shares (0..1) where the recipe takes them for such."""
    bad = labels < 0
    said = "Intensities cannot be negative"
    if not bad.any() and (config.label_scaling == "divide_by_256" or config.fds):
        bad, said = scaled > 1 + 1e-3, f"With the scaling {config.label_scaling} a label lies between 0 and 1"
    if bad.any():
        row, column = np.argwhere(bad)[0]
        sentence = f"{said}, and {config.markers[column]} is {labels[row, column]:g} in row {row} ({int(bad.sum())} such values)."
        raise HexDataError("labels_range", sentence, "Correct the table, or choose the label scaling p99_global.", f"labels[{row}]")


def check_images(images: NDArray[np.uint8]) -> None:
    """HexDataError unless (n, S, S, 3) uint8 with n >= 1."""
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or images.dtype != np.uint8:
        raise HexDataError("images_shape", f"Tiles are {images.shape} {images.dtype}; (n, S, S, 3) uint8 was expected.", where="images")
    if not len(images):
        raise HexDataError("no_tiles", "There is no tile to work on.", "Check the tissue mask of the slide.", "images")


def check_vectors(vectors: NDArray[np.float32]) -> None:
    """HexDataError unless (n, d) with n >= 1 and every value finite."""
    if not len(vectors):
        raise HexDataError("no_tiles", "There is no tile to work on.", "Check the tissue mask of the slide.", "features")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        sentence = f"{int((~finite).sum())} of {len(vectors)} tiles have features that are no numbers, the first in row {row}."
        raise HexDataError("features_not_finite", sentence, "Extract the features of that slide again.", f"features[{row}]")


def shrunk(images: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Tiles of px at most: larger ones made smaller, others as they are (a memory map stays one)."""
    return resize(images, px) if images.shape[1] > px else images


class Rows:
    """Some rows of an array that may lie on disk, for readers that ask for slices: no more than a slice is in memory."""

    def __init__(self, array: NDArray[Any], index: NDArray[np.int64]) -> None:
        self.array, self.index = array, index
        self.ndim, self.shape = array.ndim, (len(index), *array.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return self.array[self.index[part]]


def resize(images: NDArray[np.uint8], px: int, block: int = 512) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 -> (n, px, px, 3) uint8, antialiased bilinear as HEX's own (spec 2.2), in blocks so that memory stays flat."""
    if images.shape[1] == px:
        return np.ascontiguousarray(images)
    out = np.empty((len(images), px, px, 3), np.uint8)
    for start in range(0, len(images), block):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + block])).permute(0, 3, 1, 2)
        small = F.interpolate(part, size=(px, px), mode="bilinear", antialias=True, align_corners=False)
        out[start : start + block] = small.permute(0, 2, 3, 1).numpy()
    return out
