"""A multiplex image as models take it: channels at one stated pitch, averaged over area from the pyramid of the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.zarr_pyramid import SHARD, OpenImage, image_cache
from ml.slides.findings import FindingCode, SlideError
from ml.types import MultiplexImage

MAX_UPSAMPLING = 1.1
SAME_PITCH = 1e-3  # relative; a pixel is then the pixel of the file, and nothing is averaged


def read_image(
    folder: str | Path,
    *,
    um_per_px: float = 1.0,
    channels: Sequence[int] | None = None,
    mask: NDArray[Any] | None = None,
    tissue: NDArray[np.bool_] | None = None,
) -> MultiplexImage:
    """The channels of a pyramid (ml.multiplex.zarr_pyramid) at a pitch of um_per_px, as float32 in the stored unit.

    channels: indices in the order wanted, None for all. mask: (height, width) labels, tissue: (height, width) bool, both in pixels of the
    finest level; they are taken at the centres of the new pixels. A pixel is the mean of the area that it covers; values that are no
    finite numbers are left out, and 0 stands where there are no others. Integers are averaged from the finest level, because the levels
    above it are rounded: three counts in sixteen pixels would be none. An image whose pixels are up to 10% larger than asked is
    resampled to the pitch. Memory: the answer and 1,024 rows of one channel.
    Errors: SlideError PITCH_TOO_FINE, CHANNEL_NOT_THERE, MASK_SIZE_DIFFERS, FILE_MISSING, MULTIPLEX_UNREADABLE.
    """
    opened = image_cache(folder)
    names, height, width = opened.facts["names"], *opened.facts["shape"][1:]
    wanted = list(range(len(names))) if channels is None else list(channels)
    for index in wanted:
        if not 0 <= index < len(names):
            raise SlideError(FindingCode.CHANNEL_NOT_THERE, f"There is no channel {index}.", f"Channels are 0 to {len(names) - 1}.")
    mpp = float(opened.facts["mpp"])
    _fine_enough(mpp, um_per_px)
    for name, one in (("mask", mask), ("tissue", tissue)):
        if one is not None and one.shape != (height, width):
            sentence = f"The {name} has {one.shape[1]} x {one.shape[0]} pixels, the image {width} x {height}."
            raise SlideError(FindingCode.MASK_SIZE_DIFFERS, sentence, "Give one of the finest level's size.")
    level, step = _level_for(opened, mpp, um_per_px)
    rows, cols = (_cells(n, um_per_px / mpp) for n in (height, width))
    values = np.empty((len(wanted), rows, cols), np.float32)
    down, across = (_weights(n, m, step) for n, m in zip(opened.facts["levels"][level], (rows, cols)))
    for place, index in enumerate(wanted):
        values[place] = _averaged(opened, index, level, down, across)
    at_rows, at_cols = _centres(height, rows, um_per_px / mpp), _centres(width, cols, um_per_px / mpp)
    return MultiplexImage(
        values=values,
        markers=tuple(names[i] for i in wanted),
        um_per_px=um_per_px,
        mask=None if mask is None else mask[np.ix_(at_rows, at_cols)].astype(np.int32),
        tissue=None if tissue is None else tissue[np.ix_(at_rows, at_cols)].astype(bool),
    )


def _fine_enough(mpp: float, um_per_px: float) -> None:
    if not um_per_px > 0 or mpp > um_per_px * MAX_UPSAMPLING:
        sentence = f"The image has {mpp:.4g} um per pixel; {um_per_px:.4g} was asked for, finer than it was measured."
        hint = "Ask for a pitch that the image has, or use a model of a coarser one; a picture blown up is no measurement."
        raise SlideError(FindingCode.PITCH_TOO_FINE, sentence, hint)


def _level_for(opened: OpenImage, mpp: float, um_per_px: float) -> tuple[int, float]:
    """(level to read, its pixels per new pixel): the coarsest that is fine enough; of integers the finest."""
    level = 0
    if np.dtype(opened.facts["dtype"]).kind == "f":
        while level + 1 < len(opened.facts["levels"]) and mpp * 2 ** (level + 1) <= um_per_px * (1 + SAME_PITCH):
            level += 1
    step = um_per_px / (mpp * 2**level)
    return level, 1.0 if abs(step - 1) < SAME_PITCH else step


def _cells(size: int, step: float) -> int:
    """New pixels along an axis: the nearest whole number; half a pixel at the far edge may be cut off or be covered in part only."""
    return max(1, size if abs(step - 1) < SAME_PITCH else int(size / step + 0.5))


def _weights(size: int, cells: int, step: float) -> Any:
    """(cells, size) sparse float32: the share of every new pixel that each old one covers; rows are not normalised. None for one to one."""
    if step == 1.0 and cells == size:
        return None
    from scipy import sparse

    start, stop = np.arange(cells) * step, np.minimum((np.arange(cells) + 1) * step, size)
    reach = int(np.ceil(step)) + 1
    old = np.floor(start).astype(np.int64)[:, None] + np.arange(reach)
    share = np.minimum(old + 1, stop[:, None]) - np.maximum(old, start[:, None])
    there = (share > 1e-9) & (old < size)
    rows = np.broadcast_to(np.arange(cells)[:, None], old.shape)
    return sparse.csr_matrix((share[there].astype(np.float32), (rows[there], old[there])), (cells, size))


def _averaged(opened: OpenImage, channel: int, level: int, down: Any, across: Any) -> NDArray[np.float32]:
    """One channel of a level, averaged; read in bands of whole shards."""
    height, width = opened.facts["levels"][level]
    if down is None and across is None:
        return np.nan_to_num(opened.read(channel, level, 0, 0, height, width).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    total = np.zeros((down.shape[0] if down is not None else height, across.shape[0] if across is not None else width), np.float32)
    area = np.zeros_like(total)
    columns = down.tocsc() if down is not None else None
    for top in range(0, height, SHARD):
        band = opened.read(channel, level, top, 0, SHARD, width).astype(np.float32)
        good = np.isfinite(band)
        bottom = top + len(band)
        for pixels, target in ((np.where(good, band, np.float32(0)), total), (good.astype(np.float32), area)):
            narrow = pixels if across is None else (across @ pixels.T).T
            if columns is None:
                target[top:bottom] = narrow
            else:
                target += columns[:, top:bottom] @ narrow
    return np.divide(total, area, out=np.zeros_like(total), where=area > 0)


def _centres(size: int, cells: int, step: float) -> NDArray[np.int64]:
    return np.minimum(((np.arange(cells) + 0.5) * (1.0 if cells == size else step)).astype(np.int64), size - 1)
