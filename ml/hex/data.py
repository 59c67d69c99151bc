"""Tiles and labels in memory: checks, the unit of the labels, resizing, and augmented batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml.hex.colour import STAINS
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

    images: (n, S, S, 3) uint8 RGB, each tile_um wide. labels: (n, P) float32 in the unit of `scale`.
    patients, slides: (n,) str, one id per tile. markers: P names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    patients: NDArray[np.str_]
    slides: NDArray[np.str_]
    markers: tuple[str, ...]
    scale: LabelScale

    def __len__(self) -> int:
        return len(self.images)


def dataset(
    images: NDArray[np.uint8],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexFitConfig,
) -> HexDataset:
    """Checks and brings tiles and labels into the shape that training takes: resized to the encoder's input, labels scaled.

    labels: (n, P) with the columns of `markers`; the config's markers are picked from them by name. Raises HexDataError.
    """
    images, labels = np.asarray(images), np.asarray(labels, np.float32)
    check_images(images)
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
    pixels = resize(images, config.input_px)
    return HexDataset(pixels, scale.apply(labels), np.asarray(patients, str), np.asarray(slides, str), config.markers, scale)


def check_images(images: NDArray[np.uint8]) -> None:
    """HexDataError unless (n, S, S, 3) uint8 with n >= 1."""
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or images.dtype != np.uint8:
        raise HexDataError("images_shape", f"Tiles are {images.shape} {images.dtype}; (n, S, S, 3) uint8 was expected.", where="images")
    if not len(images):
        raise HexDataError("no_tiles", "There is no tile to work on.", "Check the tissue mask of the slide.", "images")


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


class Augmentation:
    """Random views of a batch: (B, S, S, 3) uint8 -> (B, 3, S, S) float32 in 0..1, channels last in memory.

    Stain, hue and light are jittered per tile in optical density, where stains add: OD' = OD A + b, with A scaling hematoxylin
    and eosin and mixing channels a little, b a change of the white point. So a new site's stain is not news to the model.
    """

    def __init__(self, config: HexFitConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        self.stains = torch.tensor(STAINS)
        self.unmix = torch.linalg.inv(self.stains)
        self.density = -torch.log((torch.arange(256) + 1) / 256)

    def __call__(self, tiles: Tensor) -> Tensor:
        if self.config.flips:
            tiles = self._turn(tiles)
        b, s = tiles.shape[0], tiles.shape[1]
        noise = torch.randn((b, 3, 5), generator=self.generator)
        strength = torch.diag_embed(torch.exp(self.config.stain_jitter * noise[:, :, 0]))
        mix = torch.eye(3) + self.config.hue_jitter * noise[:, :, 1:4]
        turn = self.unmix @ strength @ self.stains @ mix
        light = self.config.light_jitter * noise[:, :, 4].unsqueeze(1)
        density = torch.index_select(self.density, 0, tiles.reshape(-1).int()).reshape(b, s * s, 3)
        density = torch.baddbmm(light, density, turn)
        return density.neg_().exp_().clamp_(0, 1).reshape(b, s, s, 3).permute(0, 3, 1, 2)

    def _turn(self, tiles: Tensor) -> Tensor:
        """One of the eight symmetries of the square per eighth of the batch: cheap, and as random since batches are shuffled."""
        parts = []
        for part in tiles.chunk(8):
            code = int(torch.randint(8, (1,), generator=self.generator))
            part = torch.rot90(part, code % 4, (1, 2))
            parts.append(part.flip(2) if code >= 4 else part)
        return torch.cat(parts)


class Batches:
    """`steps` augmented batches of (tiles (B, 3, S, S) float32 in 0..1, targets (B, P) float32), reshuffled after every pass.

    index: rows of the dataset to draw from. The order and the augmentation depend on seed alone.
    """

    def __init__(
        self, data: HexDataset, targets: NDArray[np.float32], index: NDArray[np.int64], steps: int, config: HexFitConfig, seed: int
    ) -> None:
        self.images, self.targets = torch.from_numpy(data.images), torch.from_numpy(targets)
        self.index, self.steps, self.config, self.seed = torch.from_numpy(index), steps, config, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        augment = Augmentation(self.config, generator)
        size = min(self.config.batch, len(self.index))
        order, at = self.index[torch.randperm(len(self.index), generator=generator)], 0
        for _ in range(self.steps):
            if at + size > len(order):
                order, at = self.index[torch.randperm(len(self.index), generator=generator)], 0
            rows = order[at : at + size]
            at += size
            yield augment(self.images[rows]), self.targets[rows]
