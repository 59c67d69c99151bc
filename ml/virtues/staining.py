"""Virtual staining: a marker that was not measured, painted from those that were (spec 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.virtues.errors import VirtuesError
from ml.virtues.model import VirTues
from ml.virtues.pretrain_config import VirtuesStainConfig
from ml.virtues.reconstruct import reconstruct_markers
from ml.virtues.tiling import flush_starts

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class StainCheck:
    """How well a measured marker was painted from the others. r: Pearson's over all pixels (NaN where it does not vary). f1: of intensity
    above the marker's mean. mean_error: of the painted minus the measured, in deviations. painted: (h, w)."""

    r: float
    f1: float
    mean_error: float
    painted: F32


def stain(
    model: VirTues,
    image: F32,
    embeddings: F32,
    wanted: F32,
    config: VirtuesStainConfig | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> F32:
    """(h, w) float32 of the wanted marker, in deviations of a data set that has it: painted, never measured.

    image: (C, h, w) preprocessed, without the marker. embeddings: (C, E). wanted: (E,) of the marker. It becomes an all-zero channel that
    is wholly masked; tiles do not overlap, but the last of a row and column lie flush with the edge, and what overlaps is averaged. Where
    an image is smaller than a tile, tiles are as many whole patches as it holds.
    VirtuesError: image_small, marker_present.
    """
    config = config or VirtuesStainConfig()
    if any(np.array_equal(wanted, one) for one in embeddings):
        raise VirtuesError("marker_present", "The marker is measured in this image.", "Look at the measured one.")
    patch = model.config.patch_size
    height, width = image.shape[1:]
    rows, cols = (min(config.tile, side) // patch * patch for side in (height, width))
    if min(rows, cols) < patch:
        said = f"An image of {height} x {width} px is smaller than a patch of {patch} px."
        raise VirtuesError("image_small", said, "Give a larger one.")
    known = np.concatenate([embeddings, wanted[None]]).astype(np.float32)
    total, count = np.zeros((height, width), np.float64), np.zeros((height, width), np.int64)
    corners = [(r, c) for r in flush_starts(height, rows, rows) for c in flush_starts(width, cols, cols)]
    for number, (r, c) in enumerate(corners):
        tile = np.concatenate([image[:, r : r + rows, c : c + cols], np.zeros((1, rows, cols), np.float32)])
        total[r : r + rows, c : c + cols] += reconstruct_markers(model, tile, known, [len(image)])[0]
        count[r : r + rows, c : c + cols] += 1
        if progress is not None:
            progress((number + 1) / len(corners), f"tile {number + 1} of {len(corners)}")
    return (total / count).astype(np.float32)


def check_stain(model: VirTues, image: F32, embeddings: F32, which: int, config: VirtuesStainConfig | None = None) -> StainCheck:
    """Leaves out one measured marker, paints it from the others and compares. image: (C, h, w) preprocessed; which: its channel.

    Channels with the same embedding are left out with it: they would be the marker itself.
    """
    others = [c for c in range(len(image)) if not np.array_equal(embeddings[c], embeddings[which])]
    if not others:
        raise VirtuesError("no_other_marker", "There is no other marker to paint it from.", "Give an image with more channels.")
    painted, truth = stain(model, image[others], embeddings[others], embeddings[which], config), image[which]
    said, is_ = painted > 0, truth > 0
    r = float(np.corrcoef(painted.ravel(), truth.ravel())[0, 1]) if truth.std() > 0 and painted.std() > 0 else float("nan")
    positive = said.sum() + is_.sum()
    f1 = float(2 * (said & is_).sum() / positive) if positive else float("nan")
    return StainCheck(r, f1, float((painted - truth).mean()), painted)
