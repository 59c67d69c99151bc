"""From level pixels to the pixels that a model takes: antialiased bilinear resampling of many tiles at once, and normalisation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]
PILLOW, TORCH = "pillow", "torch"
WHOLE = 1e-3  # of a pixel: a box nearer to whole pixels than this lies on them


def resize_tiles(tiles: Rgb, side: float, out: Rgb, engine: str = PILLOW) -> None:
    """(b, h, w, 3) uint8 into out (b, px, px, 3) uint8: the first `side` pixels (float, at most h and w) both ways, antialiased bilinear.

    Only the given pixels are looked at, as when a tile is cropped first and then resized. engine "torch" resizes all in one call, about
    seven times as fast as Pillow and at most 2 grey levels from it; "pillow" does not import torch.
    """
    px = out.shape[1]
    if side == px:
        out[:] = tiles[:, :px, :px]
    elif engine == TORCH:
        _by_torch(tiles, side, out)
    else:
        for i, tile in enumerate(tiles):
            out[i] = resize(tile, (0.0, 0.0, side, side), (px, px))


def resize(region: Rgb, box: tuple[float, float, float, float], size: tuple[int, int]) -> Rgb:
    """A float box of a region (h, w, 3) at `size` (width, height) by Pillow; a whole-pixel box of the right size is a plain crop.

    A level's first pixel lies on a whole px0, so at the slide's edge a box can stand over by a fraction of a pixel: it is cut there.
    """
    height, width = region.shape[:2]
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
    left, top, right, bottom = (round(edge) for edge in box)
    if (right - left, bottom - top) == size and max(abs(a - b) for a, b in zip(box, (left, top, right, bottom))) < WHOLE:
        return region[top:bottom, left:right]
    return np.asarray(Image.fromarray(region).resize(size, Image.Resampling.BILINEAR, box=box))


def _by_torch(tiles: Rgb, side: float, out: Rgb) -> None:
    import torch

    # The functional interface takes no scale of its own together with an antialiasing filter; the operator behind it does.
    px, planes, target = out.shape[1], torch.from_numpy(tiles).permute(0, 3, 1, 2), torch.from_numpy(out).permute(0, 3, 1, 2)
    torch.ops.aten._upsample_bilinear2d_aa.out(planes, [px, px], False, px / side, px / side, out=target)


def model_ready(tiles: Any, mean: tuple[float, float, float], std: tuple[float, float, float], out: Any = None) -> Any:
    """(b, px, px, 3) uint8 RGB -> (b, 3, px, px) float32 torch tensor, (value / 255 - mean) / std, on the device that the tiles are on.

    tiles: numpy array or torch tensor; move the uint8 tensor to a GPU first, it is a quarter of the bytes. The result lies in memory as
    the tiles do (torch's channels_last): nothing is transposed. out: an earlier result of the same shape whose memory may be used again
    (on a CPU; fresh memory for every batch costs more than the arithmetic).
    """
    import torch

    pixels = torch.from_numpy(tiles) if isinstance(tiles, np.ndarray) else tiles
    b, height, width, _ = pixels.shape
    factor, shift = _factor_and_shift(tuple(mean), tuple(std), width, str(pixels.device))
    rows = pixels.reshape(b, height, width * 3)
    if pixels.device.type != "cpu":
        ready = torch.addcmul(shift, rows.float(), factor)
    else:
        # numpy asks for large memory pages, and the floats of one tile stay in the processor's cache.
        ready = torch.from_numpy(np.empty(rows.shape, np.float32)) if out is None else out.permute(0, 2, 3, 1).view(rows.shape)
        floats = torch.empty(rows.shape[1:])
        for tile, values in zip(rows, ready):
            torch.addcmul(shift, floats.copy_(tile), factor, out=values)
    return ready.view(b, height, width, 3).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _factor_and_shift(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: str) -> tuple[Any, Any]:
    """(value / 255 - mean) / std as one multiplication and one addition, (width * 3,) float32 each; only read."""
    import torch

    with torch.inference_mode(False):  # also usable where gradients are wanted
        means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        factor, shift = 1.0 / (255.0 * stds), -means / stds
        return factor.float().repeat(width).to(device), shift.float().repeat(width).to(device)
